"""``check_op(op)`` is the whole test of an op that you declare: derivatives, dtypes, broadcasting, recording."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, Op, Tensor, gradients, replay, topological_order
from ..ops.cases import cases_of, draw_inputs
from ..ops.declare import DIFFERENTIABLE, JUMP, KINK, SMOOTH, STOP, Case
from .derivatives import CheckError, check_line, check_second_order, check_vjp, is_tested, leaves_of

FAR = 1000.0
"""How far out values are looked at: this many times the inputs that were drawn."""


def check_op(op: Op[..., Any], *, seed: int = 0) -> None:
    """Check everything that the declaration of an op promises.

    - It has a docstring with an example, and the example runs.
    - It has a vjp for each input that it depends on continuously, and none for the others, where its value is flat.
      The gradient of a smooth op does not jump, so that second derivatives are right under an expectation too.
    - First and second derivatives agree with differences, in every case and, for an elementwise op, for
      shapes that broadcast. Values change by the integral of the vjp along a line: they do not jump, and a thousand
      times farther out they are no nan, and not infinite beside a finite derivative. (An op with a ``stop`` is
      excepted: its derivative is deliberately not the derivative of its value.)
    - Values and gradients of float32 are float32, also with a number among the arguments.
    - Recorded and not, values and gradients are the same bit for bit; a replay gives the same graph.
    - An axis that ``axes=`` calls unmixed is unmixed.

    Inputs are drawn from the op's domains, away from kinks.

    Args:
        op: an op that ``@op`` or ``@elementwise`` made.
        seed: of the inputs.

    Raises:
        CheckError: says what was promised and what was found.

    >>> check_op(tg.exp)
    """
    if not isinstance(op, Op):
        made = "make one with @tg.elementwise(vjp) or @tg.op(vjp), with the vjps in parentheses"
        raise TypeError(f"check_op takes an op, found {op!r}; {made}")
    _check_docstring(op)
    _check_smoothness(op)
    trials = list(cases_of(op))
    if not trials:
        raise CheckError(
            f"{op.name} lists no cases to test it in; give the shapes of its inputs, then its attributes: "
            "cases=[tg.case((2, 3), axis=0), ...]"
        )
    rng = np.random.default_rng(seed)
    for trial in trials:
        check_case(op, trial, rng)


def check_case(op: Op[..., Any], trial: Case, rng: np.random.Generator) -> None:
    """Check one case of an op, the shapes of its inputs and its attributes, as ``check_op`` does for all of them.

    >>> check_case(tg.sum, tg.case((2, 3), axis=0), np.random.default_rng(0))
    """
    try:
        inputs = draw_inputs(op, trial, rng)
        _check_domain(op, inputs, trial)
        for dtype in (np.float64, np.float32):
            _check_recording(op, _cast(inputs, dtype), trial)
        _check_axes(op, inputs, trial)
        _check_numbers(op, inputs, trial)
        if STOP in op.declared.smoothness:
            return
        _check_flat(op, inputs, trial)
        _check_gradient_does_not_jump(op, inputs, trial)
        if any(is_tested(op, i, x) for i, x in enumerate(inputs)):
            check_vjp(op, *inputs, **trial.attrs)
            check_second_order(op, *inputs, **trial.attrs)
            _check_lines(op, inputs, trial)
    except (CheckError, TypeError, ValueError, IndexError) as error:
        cause = None if isinstance(error, CheckError) else error
        raise CheckError(f"{error}\n  in the case {trial.shapes} {trial.attrs or ''}".rstrip()) from cause


def _cast(inputs: Sequence[Array], dtype: Any) -> list[Array]:
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]


def _check_domain(op: Op[..., Any], inputs: Sequence[Array], trial: Case) -> None:
    with np.errstate(all="ignore"):
        value = np.asarray(op(*inputs, **trial.attrs))
    if value.dtype.kind == "f" and np.isnan(value).any():
        sets = ", ".join(f"{op.input_name(i)} {op.declared.domain_of(i)}" for i in range(len(inputs)))
        raise CheckError(
            f"{op.name}: its value is nan at inputs drawn from its domain ({sets}); declare where it is defined, as "
            "domain=tg.domains.POSITIVE"
        )


def _check_lines(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Look for jumps on the way to other inputs, and for values that are lost far out."""
    moved = [
        x.size > 0
        and is_tested(op, i, x)
        and op.declared.smoothness_in(i) in (SMOOTH, KINK)
        and not op.declared.domain_of(i).discrete
        for i, x in enumerate(inputs)
    ]
    others = draw_inputs(op, trial, np.random.default_rng(5))
    far = [FAR * x if moved[i] else x for i, x in enumerate(inputs)]
    inside = [bool(np.all(op.declared.domain_of(i).contains(x))) for i, x in enumerate(far)]
    for ends, move in ((others, moved), (far, [a and b for a, b in zip(moved, inside, strict=True)])):
        if any(move):
            check_line(op, inputs, [y if m else x for x, y, m in zip(inputs, ends, move, strict=True)], trial.attrs)


def _check_docstring(op: Op[..., Any]) -> None:
    import doctest  # only here: it imports a debugger and a test framework

    if not op.__doc__:
        raise CheckError(f"{op.name} has no docstring; write its formula, its derivative and an example")
    package = importlib.import_module(__name__.partition(".")[0])
    known = {**inspect.unwrap(op.forward).__globals__, op.name: op, "np": np, "tg": package}
    example = doctest.DocTestParser().get_doctest(op.__doc__, known, op.name, None, None)
    if not example.examples:
        raise CheckError(f"{op.name} has no example in its docstring; write one behind >>>")
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False)
    runner.run(example, out=report.append)
    if runner.failures:
        raise CheckError(f"{op.name}: the example in its docstring fails\n{''.join(report)}")


def _check_smoothness(op: Op[..., Any]) -> None:
    for i, rule in enumerate(op.vjps):
        kinds = (
            set(op.declared.smoothness[i:]) or {op.declared.smoothness[-1]}
            if op.variadic
            else {op.declared.smoothness_in(i)}
        )
        declared = f"{op.name} is declared {' and '.join(sorted(kinds))} in {op.input_name(i)}"
        if kinds & {*DIFFERENTIABLE} and not callable(rule):
            raise CheckError(
                f"{declared} and has no vjp for it; declare smoothness='jump' where the value is flat almost "
                "everywhere, 'stop' where it is cut on purpose"
            )
        if not kinds & {*DIFFERENTIABLE} and callable(rule):
            raise CheckError(
                f"{declared} and has a vjp for it, which is never used; declare None there, or smoothness='smooth' or "
                "'kink'"
            )


def _check_recording(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Compare recorded values and gradients with the ones on arrays, and their dtypes with the dtypes of the inputs."""
    floats = [x.dtype for x in inputs if x.dtype.kind == "f"]
    raw = np.asarray(op(*inputs, **trial.attrs))
    shapes = [x.shape for x in inputs]
    if op.elementwise and raw.shape != np.broadcast_shapes(*shapes):
        raise CheckError(
            f"{op.name}: declared elementwise, and gave shape {raw.shape} for {', '.join(map(str, shapes))}; "
            "declare it with @tg.op"
        )
    leaves = leaves_of(inputs)
    if not any(isinstance(x, Tensor) for x in leaves):
        leaves = [Tensor(x) for x in inputs]
    node = op(*leaves, **trial.attrs)
    _require_same(f"{op.name}: the value on Tensors", node.value, raw)
    if floats and raw.dtype.kind == "f" and raw.dtype != trial.attrs.get("dtype", floats[0]):
        raise CheckError(f"{op.name}: {floats[0]} inputs gave {raw.dtype}")
    if replay(node, {}) is not node:
        raise CheckError(f"{op.name}: a replay with nothing swapped gave another node")
    first = next(x for x in leaves if isinstance(x, Tensor))
    again = replay(node, {first: first.value.copy()})
    _require_same(f"{op.name}: the value of a replay", again.value, raw)

    tested = [i for i, x in enumerate(inputs) if is_tested(op, i, x)]
    if raw.dtype.kind != "f" or not tested:
        return
    g = np.random.default_rng(2).normal(size=raw.shape).astype(raw.dtype)
    on_arrays = gradients(node, [leaves[i] for i in tested], cotangent=g)
    on_tensors = gradients(node, [leaves[i] for i in tested], cotangent=Tensor(g), record=True)
    for i, gx, recorded in zip(tested, on_arrays, on_tensors, strict=True):
        _require_same(f"{op.name}: the recorded gradient in {op.input_name(i)}", recorded.value, gx)
        if gx.shape != inputs[i].shape or gx.dtype != inputs[i].dtype:
            raise CheckError(
                f"{op.name}: the gradient in {op.input_name(i)} is {gx.dtype} of shape {gx.shape}, "
                f"the input {inputs[i].dtype} of shape {inputs[i].shape}"
            )
        rule = op.vjps[0 if op.variadic else i]
        arguments = (g, node.value, *inputs)
        formula = rule(i, *arguments, **node.attrs) if op.variadic else rule(*arguments, **node.attrs)  # type: ignore[misc]
        if formula.dtype != inputs[i].dtype and "dtype" not in trial.attrs:
            raise CheckError(
                f"{op.name}: the vjp in {op.input_name(i)} gave {formula.dtype} for {inputs[i].dtype} inputs; "
                "look in it for an array, a NumPy number (float(number) keeps the dtype) or tg.where of two numbers"
            )


def _require_same(what: str, found: Array, expected: Array) -> None:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        raise CheckError(
            f"{what} is {found.dtype} of shape {found.shape}, on arrays {expected.dtype} of shape {expected.shape}"
        )
    if found.tobytes() != expected.tobytes():
        raise CheckError(f"{what} differs from the one on arrays: {found.ravel()[:3]} for {expected.ravel()[:3]}")


def _check_numbers(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Put a Python number in the place of each input of an elementwise op, one after the other."""
    if not op.elementwise or len(inputs) < 2:
        return
    inputs = _cast(inputs, np.float32)
    for i, x in enumerate(inputs):
        if x.dtype.kind != "f" or not x.size:
            continue
        number = float(x.ravel()[0])
        leaves = [Tensor(other) if other.dtype.kind == "f" else other for other in inputs]
        others = [k for k, other in enumerate(inputs) if k != i and is_tested(op, k, other)]
        found = op(*leaves[:i], number, *leaves[i + 1 :], **trial.attrs)
        expected = op(*leaves[:i], np.asarray(number, np.float32), *leaves[i + 1 :], **trial.attrs)
        if not isinstance(found, Tensor):
            continue
        _require_same(f"{op.name}: the value with a number for {op.input_name(i)}", found.value, expected.value)
        if others and found.dtype.kind == "f":
            wrt = [leaves[k] for k in others]
            with_number = gradients(found, wrt, cotangent=np.ones_like(found.value))
            with_array = gradients(expected, wrt, cotangent=np.ones_like(found.value))
            for k, a, b in zip(others, with_number, with_array, strict=True):
                if not np.allclose(a, b, rtol=1e-5, atol=1e-6):
                    raise CheckError(
                        f"{op.name}: the gradient in {op.input_name(k)} is another one "
                        f"when {op.input_name(i)} is a Python number"
                    )


def _check_flat(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Move each input that is declared a jump by very little: the value must not change."""
    value = np.asarray(op(*inputs, **trial.attrs))
    for i, x in enumerate(inputs):
        if op.declared.smoothness_in(i) == JUMP and x.dtype.kind == "f":
            moved = [other * (1 + 1e-12) if k == i else other for k, other in enumerate(inputs)]
            if not np.array_equal(value, np.asarray(op(*moved, **trial.attrs))):
                raise CheckError(
                    f"{op.name}: declared a jump in {op.input_name(i)}, flat almost everywhere, "
                    "but its value moves with it"
                )


def _check_gradient_does_not_jump(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Follow the inputs of a smooth op through its recorded gradient, where no op may jump with them."""
    leaves = leaves_of(inputs)
    smooth = [
        x for i, x in enumerate(leaves) if isinstance(x, Tensor) and op.declared.smoothness_in(i) in DIFFERENTIABLE
    ]
    node = op(*leaves, **trial.attrs)
    if KINK in op.declared.smoothness or not smooth or not isinstance(node, Tensor) or node.dtype.kind != "f":
        return
    found = gradients(node, smooth, cotangent=np.ones_like(node.value), record=True)
    order = topological_order(found)
    live = {id(g) for g in found}  # from where a path that is not cut on purpose leads to the gradient
    for step in reversed(order):
        if id(step) in live and step.op is not None:
            live.update(id(x) for i, x in enumerate(step.inputs) if step.op.declared.smoothness_in(i) != STOP)
    moving = {id(x) for x in smooth}
    for step in order:
        for i, x in enumerate(step.inputs):
            kind = step.op.declared.smoothness_in(i) if step.op else STOP
            if id(x) in moving and kind == JUMP and id(step) in live:
                raise CheckError(
                    f"{op.name}: declared smooth, and its gradient jumps where {step.op} does; declare a kink, "
                    "or write stop_gradient(condition) if the condition only guards the edge of a formula"
                )
            if id(x) in moving and kind != STOP:
                moving.add(id(step))


def _check_axes(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Change one slice of an input along an axis declared unmixed: only that slice of the output may change."""
    if op.declared.axes is None:
        return
    node = op(*(Tensor(x) for x in inputs), **trial.attrs)
    for i, x in enumerate(inputs):
        labels = op.declared.axes(i, tuple(range(x.ndim)), node, *node.inputs, **node.attrs)
        if len(labels) != node.ndim:
            raise CheckError(f"{op.name}: axes gave {len(labels)} labels for an output with {node.ndim} axes")
        for axis, label in enumerate(labels):
            if label is None or not x.shape[label] or x.dtype.kind != "f":
                continue
            changed = x.copy()
            changed[(slice(None),) * label + (0,)] *= 0.9
            moved = np.asarray(op(*inputs[:i], changed, *inputs[i + 1 :], **trial.attrs))
            rest = (slice(None),) * axis + (slice(1, None),)
            if x.shape[label] != node.shape[axis] or not np.array_equal(moved[rest], node.value[rest]):
                raise CheckError(
                    f"{op.name}: axes calls axis {label} of {op.input_name(i)} unmixed, and it is mixed into {axis}"
                )
