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
from .derivatives import CheckError, check_line, check_second_order, check_vjp, is_tested, leaves_of, require

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
    for trial in trials:
        require(isinstance(trial, Case), f"{op.name}: cases lists tg.case((2, 3), axis=0), ...; found {trial!r}")
    rng = np.random.default_rng(seed)
    for trial in trials:
        check_case(op, trial, rng)


def check_case(op: Op[..., Any], trial: Case, rng: np.random.Generator) -> None:
    """Check one case of an op, the shapes of its inputs and its attributes, as ``check_op`` does for all of them."""
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
        where = f"{op.name}, or a vjp of it, raised {type(error).__name__}: " if cause else ""
        raise CheckError(f"{where}{error}\n  in the case {trial.shapes} {trial.attrs or ''}".rstrip()) from cause


def _cast(inputs: Sequence[Array], dtype: Any) -> list[Array]:
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]


def _check_docstring(op: Op[..., Any]) -> None:
    import doctest  # only here: it imports a debugger and a test framework

    require(bool(op.__doc__), f"{op.name} has no docstring; write its formula, its derivative and an example")
    package = importlib.import_module(__name__.partition(".")[0])
    known = {**inspect.unwrap(op.forward).__globals__, op.name: op, "np": np, "tg": package}
    example = doctest.DocTestParser().get_doctest(op.__doc__ or "", known, op.name, None, None)
    require(bool(example.examples), f"{op.name} has no example in its docstring; write one behind >>>")
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False)
    runner.run(example, out=report.append)
    require(not runner.failures, f"{op.name}: the example in its docstring fails\n{''.join(report)}")


def _check_smoothness(op: Op[..., Any]) -> None:
    for i, rule in enumerate(op.vjps):
        kinds = {op.declared.smoothness_in(i)}
        if op.variadic:
            kinds = {*op.declared.smoothness[i:]} or {op.declared.smoothness[-1]}
        declared = f"{op.name} is declared {' and '.join(sorted(kinds))} in {op.input_name(i)}"
        require(
            callable(rule) or not kinds & {*DIFFERENTIABLE},
            f"{declared} and has no vjp for it; declare smoothness='jump' where the value is flat almost everywhere, "
            "'stop' where it is cut on purpose",
        )
        require(
            bool(kinds & {*DIFFERENTIABLE}) or not callable(rule),
            f"{declared} and has a vjp for it, which is never used; declare None there, or smoothness='smooth' or "
            "'kink'",
        )


def _check_domain(op: Op[..., Any], inputs: Sequence[Array], trial: Case) -> None:
    with np.errstate(all="ignore"):
        value = np.asarray(op(*inputs, **trial.attrs))
    sets = ", ".join(f"{op.input_name(i)} {op.declared.domain_of(i)}" for i in range(len(inputs)))
    require(
        value.dtype.kind != "f" or not np.isnan(value).any(),
        f"{op.name}: its value is nan at inputs drawn from its domain ({sets}); declare where it is defined, as "
        "domain=tg.domains.POSITIVE",
    )


def _check_recording(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Compare recorded values and gradients with the ones on arrays, and their dtypes with the dtypes of the inputs."""
    floats, shapes = [x.dtype for x in inputs if x.dtype.kind == "f"], [x.shape for x in inputs]
    raw = np.asarray(op(*inputs, **trial.attrs))
    require(
        not op.elementwise or raw.shape == np.broadcast_shapes(*shapes),
        f"{op.name}: declared elementwise, and gave shape {raw.shape} for {', '.join(map(str, shapes))}; declare it "
        "with @tg.op",
    )
    leaves = leaves_of(inputs) if floats else [Tensor(x) for x in inputs]
    node = op(*leaves, **trial.attrs)
    _require_same(f"{op.name}: the value on Tensors", node.value, raw)
    if floats and raw.dtype.kind == "f":
        right = raw.dtype == trial.attrs.get("dtype", floats[0])
        advice = "look in it for an array or a NumPy number (float(number) keeps the dtype)"
        require(right, f"{op.name}: {floats[0]} inputs gave {raw.dtype}; {advice}")
    require(replay(node, {}) is node, f"{op.name}: a replay with nothing swapped gave another node")
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
        x, name = inputs[i], op.input_name(i)
        _require_same(f"{op.name}: the recorded gradient in {name}", recorded.value, gx)
        require(
            gx.shape == x.shape and gx.dtype == x.dtype,
            f"{op.name}: the gradient in {name} is {gx.dtype} of shape {gx.shape}, the input {x.dtype} of shape "
            f"{x.shape}",
        )
        rule: Any = op.vjps[0 if op.variadic else i]
        formula = rule(*([i] if op.variadic else []), g, node.value, *inputs, **node.attrs)
        require(
            formula.dtype == x.dtype or "dtype" in trial.attrs,
            f"{op.name}: the vjp in {name} gave {formula.dtype} for {x.dtype} inputs; look in it for an array, a "
            "NumPy number (float(number) keeps the dtype) or tg.where of two numbers",
        )


def _require_same(what: str, found: Array, expected: Array) -> None:
    require(
        found.dtype == expected.dtype and found.shape == expected.shape,
        f"{what} is {found.dtype} of shape {found.shape}, on arrays {expected.dtype} of shape {expected.shape}",
    )
    same = found.tobytes() == expected.tobytes()
    require(same, f"{what} differs from the one on arrays: {found.ravel()[:3]} for {expected.ravel()[:3]}")


def _check_axes(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Change one slice of an input along an axis declared unmixed: only that slice of the output may change."""
    if op.declared.axes is None:
        return
    node = op(*(Tensor(x) for x in inputs), **trial.attrs)
    for i, x in enumerate(inputs):
        labels = op.declared.axes(i, tuple(range(x.ndim)), node, *node.inputs, **node.attrs)
        fits = len(labels) == node.ndim
        require(fits, f"{op.name}: axes gave {len(labels)} labels for an output with {node.ndim} axes")
        for axis, label in enumerate(labels):
            if label is None or not x.shape[label] or x.dtype.kind != "f":
                continue
            changed = x.copy()
            changed[(slice(None),) * label + (0,)] *= 0.9
            moved = np.asarray(op(*inputs[:i], changed, *inputs[i + 1 :], **trial.attrs))
            rest = (slice(None),) * axis + (slice(1, None),)
            require(
                x.shape[label] == node.shape[axis] and np.array_equal(moved[rest], node.value[rest]),
                f"{op.name}: axes calls axis {label} of {op.input_name(i)} unmixed, and it is mixed into {axis}",
            )


def _check_numbers(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Put a Python number in the place of each input of an elementwise op, one after the other."""
    if not op.elementwise or len(inputs) < 2:
        return
    inputs = _cast(inputs, np.float32)
    for i, x in enumerate(inputs):
        others = [k for k, other in enumerate(inputs) if k != i and is_tested(op, k, other)]
        if x.dtype.kind != "f" or not x.size or not any(y.dtype.kind == "f" for y in inputs[:i] + inputs[i + 1 :]):
            continue
        number, leaves = float(x.ravel()[0]), leaves_of(inputs)
        nodes = [
            op(*leaves[:i], given, *leaves[i + 1 :], **trial.attrs) for given in (number, np.asarray(number, x.dtype))
        ]
        name = op.input_name(i)
        _require_same(f"{op.name}: the value with a number for {name}", nodes[0].value, nodes[1].value)
        if nodes[0].dtype.kind != "f":
            continue
        found = [gradients(node, [leaves[k] for k in others], cotangent=np.ones_like(node.value)) for node in nodes]
        for k, a, b in zip(others, *found, strict=True):
            same, of = np.isclose(a, b, rtol=1e-5, atol=1e-6), op.input_name(k)
            require(same, f"{op.name}: the gradient in {of} is another one when {name} is a Python number")


def _check_flat(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Move each input that is declared a jump by very little: the value must not change."""
    value = np.asarray(op(*inputs, **trial.attrs))
    for i, x in enumerate(inputs):
        if op.declared.smoothness_in(i) == JUMP and x.dtype.kind == "f":
            moved = np.asarray(op(*inputs[:i], x * (1 + 1e-12), *inputs[i + 1 :], **trial.attrs))
            said = f"{op.name}: declared a jump in {op.input_name(i)}, flat almost everywhere"
            require(np.array_equal(value, moved), f"{said}, but its value moves with it")


def _check_gradient_does_not_jump(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Follow the inputs of a smooth op through its recorded gradient, where no op may jump with them."""
    leaves = leaves_of(inputs)
    kinds = [op.declared.smoothness_in(i) for i in range(len(leaves))]
    smooth = [x for x, kind in zip(leaves, kinds, strict=True) if isinstance(x, Tensor) and kind in DIFFERENTIABLE]
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
            if id(x) in moving and kind != STOP:
                require(
                    kind != JUMP or id(step) not in live,
                    f"{op.name}: declared smooth, and its gradient jumps where {step.op} does; declare a kink, or "
                    "write stop_gradient(condition) if the condition only guards the edge of a formula",
                )
                moving.add(id(step))


def _check_lines(op: Op[..., Any], inputs: list[Array], trial: Case) -> None:
    """Look for jumps on the way to other inputs, and for values that are lost far out."""
    domains = [op.declared.domain_of(i) for i in range(len(inputs))]
    moved = [
        x.size > 0
        and is_tested(op, i, x)
        and op.declared.smoothness_in(i) in (SMOOTH, KINK)
        and not domains[i].discrete
        for i, x in enumerate(inputs)
    ]
    others = draw_inputs(op, trial, np.random.default_rng(5))
    others = [y if m else x for x, y, m in zip(inputs, others, moved, strict=True)]
    inside = [m and np.all(domains[i].contains(FAR * x)) for i, (x, m) in enumerate(zip(inputs, moved, strict=True))]
    far = [FAR * x if ok else x for x, ok in zip(inputs, inside, strict=True)]
    for end in (others, far):
        if any(x is not y for x, y in zip(inputs, end, strict=True)):
            check_line(op, inputs, end, trial.attrs)
