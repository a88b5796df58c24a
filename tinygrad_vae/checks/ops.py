"""Checks of what an op promises: derivatives against finite differences, dtypes, broadcasting, recording.

For whoever declares an op: ``check_op(op)`` is its whole test. It knows ops by their declarations, and nothing
of randomness.
"""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import Array, Op, Tensor, gradients, replay, topological_order, value_of
from ..ops import sum as total
from ..ops.cases import cases_of, draw_inputs
from ..ops.declare import DIFFERENTIABLE, JUMP, KINK, STOP, Case

STEP = 2.0**-7
"""The largest step of a difference; the others are a half and a quarter of it. Inputs are drawn farther from kinks."""

TOLERANCE = 1e-7
"""How far a derivative may be from the difference, relative to the sizes of what is compared."""


class CheckError(AssertionError):
    """A function or an op does not do what its declaration promises."""


# -------------------------------------------------------------------------------------- derivatives


def check_vjp(function: Callable[..., Any], *inputs: Array, **attrs: Any) -> None:
    """Compare the gradient of a function with central differences, in float64.

    With random u and v, ``<u, J v>`` from differences of the function is held against ``<J^T u, v>`` from its
    gradient, one input at a time. Differences with the steps h, h/2, h/4 are extrapolated to h = 0, which leaves an
    error of order h^6.

    Args:
        function: an op, or any function of arrays that calls ops, with one array for a result.
        inputs: where to check. Floats are differentiated by, unless the op declares that nothing flows there;
            stay 0.01 away from kinks and from the edge of the domain. Integers and booleans are passed on.
        attrs: passed on.

    Raises:
        CheckError: names the function, the argument, the index, the gradient received and the one expected.

    >>> check_vjp(tg.multiply, np.array([1.0, 2.0]), np.array(3.0))
    """
    _compare(_name(function), function, inputs, attrs, [_argument(function, i) for i in range(len(inputs))])


def check_second_order(function: Callable[..., Any], *inputs: Array, **attrs: Any) -> None:
    """Compare second derivatives of a function with central differences of its recorded gradient.

    The gradient itself is taken for a function, of the inputs and of the cotangent, and given to ``check_vjp``.

    Args:
        function, inputs, attrs: those of ``check_vjp``.

    Raises:
        CheckError: names the function, the argument, the index, the gradient received and the one expected.

    >>> check_second_order(tg.multiply, np.array([1.0, 2.0]), np.array(3.0))
    """
    rng = np.random.default_rng(1)
    values = [_in_float64(x) for x in inputs]
    cotangent = rng.normal(size=np.shape(value_of(function(*_leaves(values), **attrs))))
    tested = _tested(function, values)
    weights = [rng.normal(size=values[i].shape) for i in tested]

    def gradient(u: Tensor, *xs: Any) -> Any:
        found = gradients(function(*xs, **attrs), [xs[i] for i in tested], cotangent=u, record=True)
        terms = [total(weight * g) for weight, g in zip(weights, found, strict=True)]
        return functools.reduce(operator.add, terms)

    names = ["the cotangent", *(_argument(function, i) for i in range(len(inputs)))]
    tested_after = [0, *(i + 1 for i in tested)]
    _compare(f"{_name(function)}, second order", gradient, [cotangent, *values], {}, names, tested_after)


def _compare(
    name: str,
    function: Callable[..., Any],
    inputs: Sequence[Array],
    attrs: dict[str, Any],
    names: Sequence[str],
    tested: Sequence[int] | None = None,
) -> None:
    values = [_in_float64(x) for x in inputs]
    tested = _tested(function, values) if tested is None else tested
    leaves = _leaves(values)
    output = function(*leaves, **attrs)
    if not isinstance(output, Tensor):
        raise CheckError(f"{name}: called with Tensors it returned an object of type {type(output).__name__}")
    rng = np.random.default_rng(0)
    u = rng.normal(size=output.shape)
    for i in tested:
        received = gradients(output, leaves[i], cotangent=u)
        direction = rng.uniform(-1, 1, values[i].shape)
        expected = _difference(function, values, attrs, i, direction, u)
        size = 1 + np.sum(np.abs(received * direction)) + abs(expected)
        if not abs(np.sum(received * direction) - expected) <= TOLERANCE * size:
            raise CheckError(_report(name, names[i], function, values, attrs, i, u, received))


def _difference(
    function: Callable[..., Any], values: list[Any], attrs: dict[str, Any], i: int, direction: Array, u: Array
) -> float:
    """Return the derivative of ``<u, function>`` at input ``i`` along ``direction``, from extrapolated differences."""

    def weighted(t: float) -> float:
        moved = [x + t * direction if k == i else x for k, x in enumerate(values)]
        return float(np.sum(u * value_of(function(*_leaves(moved), **attrs))))

    wide, middle, narrow = ((weighted(h) - weighted(-h)) / (2 * h) for h in (STEP, STEP / 2, STEP / 4))
    return (64 * narrow - 20 * middle + wide) / 45


def _report(
    name: str,
    argument: str,
    function: Callable[..., Any],
    values: list[Any],
    attrs: dict[str, Any],
    i: int,
    u: Array,
    received: Array,
) -> str:
    """Say where the gradient is wrong: at the element where it is farthest from the difference."""
    expected = np.zeros_like(received)
    for index in np.ndindex(received.shape):
        direction = np.zeros_like(received)
        direction[index] = 1.0
        expected[index] = _difference(function, values, attrs, i, direction, u)
    wrong = np.where(np.isfinite(received), np.abs(received - expected), np.inf)
    worst = np.unravel_index(int(np.argmax(wrong)), received.shape)
    index = tuple(int(k) for k in worst)
    return (
        f"{name}: wrong gradient in {argument} at index {index}\n"
        f"  received {received[index]:.10g}\n"
        f"  expected {expected[index]:.10g}, from central differences"
    )


def _leaves(values: Sequence[Any]) -> list[Any]:
    return [Tensor(x) if x.dtype.kind == "f" else x for x in values]


def _in_float64(x: Any) -> Array:
    x = np.asarray(value_of(x))
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _tested(function: Callable[..., Any], values: Sequence[Array]) -> list[int]:
    """Return which inputs to differentiate by."""
    found = [i for i, x in enumerate(values) if _is_tested(function, i, x)]
    if not found:
        raise ValueError(f"{_name(function)}: there is nothing to check, no input holds floats and has a derivative")
    return found


def _is_tested(function: Callable[..., Any], i: int, x: Array) -> bool:
    flows = not isinstance(function, Op) or function.smoothness_in(i) in DIFFERENTIABLE
    return x.dtype.kind == "f" and flows


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "the function")


def _argument(function: Callable[..., Any], i: int) -> str:
    if isinstance(function, Op):
        return function.input_name(i)
    try:
        names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_POSITIONAL]
    except (TypeError, ValueError):
        names = []
    return names[i] if i < len(names) else f"argument {i}"


# --------------------------------------------------------------------------------------------- ops


def check_op(op: Op[..., Any], *, seed: int = 0) -> None:
    """Check everything that the declaration of an op promises.

    - It has a docstring with an example, and the example runs.
    - It has a vjp for each input that it depends on continuously, and none for the others, where its value is flat.
      The gradient of a smooth op does not jump, so that second derivatives are right under an expectation too.
    - First and second derivatives agree with differences, in every case and, for an elementwise op, for
      shapes that broadcast. (Not for one with a ``stop``: its derivative is not meant to be that of its value.)
    - Values and gradients of float32 are float32, also with a number among the arguments.
    - Recorded and not, values and gradients are the same bit for bit; a replay gives the same graph.
    - An axis that ``axes=`` calls unmixed is.

    Inputs are drawn from the op's domains, away from kinks.

    Args:
        op: what ``@op`` or ``@elementwise`` made.
        seed: of the inputs.

    Raises:
        CheckError: says what was promised and what was found.

    >>> check_op(tg.exp)
    """
    if not isinstance(op, Op):
        raise TypeError(f"check_op takes an op, as @tg.op or @tg.elementwise make it, found {op!r}")
    _check_docstring(op)
    _check_smoothness(op)
    trials = list(cases_of(op))
    if not trials:
        raise CheckError(
            f"{op.name} has nothing to be tried with; declare the shapes of its inputs, and attributes behind them: "
            "cases=[tg.case((2, 3), axis=0), ...]"
        )
    rng = np.random.default_rng(seed)
    for trial in trials:
        check_case(op, trial, rng)


def check_case(op: Op[..., Any], trial: Case, rng: np.random.Generator) -> None:
    """Check one case of an op, as ``check_op`` does for all of them.

    Args:
        op: the op.
        trial: the shapes of its inputs, and its attributes.
        rng: where the inputs are drawn from.

    Raises:
        CheckError: says what was promised and what was found.

    >>> check_case(tg.sum, tg.case((2, 3), axis=0), np.random.default_rng(0))
    """
    where = op.name
    try:
        inputs = draw_inputs(op, trial, rng)
        for dtype in (np.float64, np.float32):
            _check_recording(op, where, _cast(inputs, dtype), trial)
        _check_axes(op, where, inputs, trial)
        _check_numbers(op, where, inputs, trial)
        if STOP in op.smoothness:
            return
        _check_flat(op, where, inputs, trial)
        _check_no_jump(op, where, inputs, trial)
        if any(_is_tested(op, i, x) for i, x in enumerate(inputs)):
            check_vjp(op, *inputs, **trial.attrs)
            check_second_order(op, *inputs, **trial.attrs)
    except (CheckError, TypeError, ValueError, IndexError) as error:
        cause = None if isinstance(error, CheckError) else error
        raise CheckError(f"{error}\n  in the case {trial.shapes} {trial.attrs or ''}".rstrip()) from cause


def _cast(inputs: Sequence[Array], dtype: Any) -> list[Array]:
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]


def _check_docstring(op: Op[..., Any]) -> None:
    if not op.__doc__:
        raise CheckError(f"{op.name} has no docstring; write its formula, its derivative and an example")
    package = importlib.import_module(__package__ or "tinygrad_vae")
    known = {**op.forward.__globals__, op.name: op, "np": np, "tg": package}
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
        kinds = set(op.smoothness[i:]) or {op.smoothness[-1]} if op.variadic else {op.smoothness_in(i)}
        differentiable = bool(kinds & {*DIFFERENTIABLE})
        if differentiable and rule is None:
            raise CheckError(
                f"{op.name} is declared {' and '.join(sorted(kinds))} in {op.input_name(i)} and has no vjp for it; "
                "declare smoothness='jump' where the value is flat almost everywhere, 'stop' where it is cut on purpose"
            )
        if not differentiable and rule is not None:
            raise CheckError(
                f"{op.name} is declared {' and '.join(sorted(kinds))} in {op.input_name(i)} and has a vjp for it, "
                "which is never used; declare None there, or smoothness='smooth' or 'kink'"
            )


def _check_recording(op: Op[..., Any], where: str, inputs: list[Array], trial: Case) -> None:
    """Hold recorded values and gradients against those on arrays, and their dtypes against those of the inputs."""
    floats = [x.dtype for x in inputs if x.dtype.kind == "f"]
    raw = np.asarray(op(*inputs, **trial.attrs))
    leaves = _leaves(inputs)
    if not any(isinstance(x, Tensor) for x in leaves):
        leaves = [Tensor(x) for x in inputs]
    node = op(*leaves, **trial.attrs)
    _require_same(f"{where}: the value on Tensors", node.value, raw)
    if floats and raw.dtype.kind == "f" and raw.dtype != trial.attrs.get("dtype", floats[0]):
        raise CheckError(f"{where}: {floats[0]} inputs gave {raw.dtype}")
    if replay(node, {}) is not node:
        raise CheckError(f"{where}: a replay with nothing swapped gave another node")
    first = next(x for x in leaves if isinstance(x, Tensor))
    again = replay(node, {first: first.value.copy()})
    _require_same(f"{where}: the value of a replay", again.value, raw)

    tested = [i for i, x in enumerate(inputs) if _is_tested(op, i, x)]
    if raw.dtype.kind != "f" or not tested:
        return
    g = np.random.default_rng(2).normal(size=raw.shape).astype(raw.dtype)
    on_arrays = gradients(node, [leaves[i] for i in tested], cotangent=g)
    on_tensors = gradients(node, [leaves[i] for i in tested], cotangent=Tensor(g), record=True)
    for i, gx, recorded in zip(tested, on_arrays, on_tensors, strict=True):
        _require_same(f"{where}: the recorded gradient in {op.input_name(i)}", recorded.value, gx)
        if gx.shape != inputs[i].shape or gx.dtype != inputs[i].dtype:
            raise CheckError(
                f"{where}: the gradient in {op.input_name(i)} is {gx.dtype} of shape {gx.shape}, "
                f"the input {inputs[i].dtype} of shape {inputs[i].shape}"
            )
        rule = op.vjps[0 if op.variadic else i]
        arguments = (g, node.value, *inputs)
        formula = rule(i, *arguments, **node.attrs) if op.variadic else rule(*arguments, **node.attrs)  # type: ignore[misc]
        if formula.dtype != inputs[i].dtype and "dtype" not in trial.attrs:
            raise CheckError(
                f"{where}: the vjp in {op.input_name(i)} gave {formula.dtype} for {inputs[i].dtype} inputs; "
                "look for an array of another dtype in its formula (numbers of Python keep the dtype)"
            )


def _require_same(what: str, found: Array, expected: Array) -> None:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        raise CheckError(
            f"{what} is {found.dtype} of shape {found.shape}, on arrays {expected.dtype} of shape {expected.shape}"
        )
    if found.tobytes() != expected.tobytes():
        raise CheckError(f"{what} differs from the one on arrays: {found.ravel()[:3]} for {expected.ravel()[:3]}")


def _check_numbers(op: Op[..., Any], where: str, inputs: list[Array], trial: Case) -> None:
    """Put a Python number in the place of each input of an elementwise op, one after the other."""
    if not op.elementwise or len(inputs) < 2:
        return
    inputs = _cast(inputs, np.float32)
    for i, x in enumerate(inputs):
        if x.dtype.kind != "f" or not x.size:
            continue
        number = float(x.ravel()[0])
        leaves = [Tensor(other) if other.dtype.kind == "f" else other for other in inputs]
        others = [k for k, other in enumerate(inputs) if k != i and _is_tested(op, k, other)]
        found = op(*leaves[:i], number, *leaves[i + 1 :], **trial.attrs)
        expected = op(*leaves[:i], np.asarray(number, np.float32), *leaves[i + 1 :], **trial.attrs)
        if not isinstance(found, Tensor):
            continue
        _require_same(f"{where}: the value with a number for {op.input_name(i)}", found.value, expected.value)
        if others and found.dtype.kind == "f":
            wrt = [leaves[k] for k in others]
            with_number = gradients(found, wrt, cotangent=np.ones_like(found.value))
            with_array = gradients(expected, wrt, cotangent=np.ones_like(found.value))
            for k, a, b in zip(others, with_number, with_array, strict=True):
                if not np.allclose(a, b, rtol=1e-5, atol=1e-6):
                    raise CheckError(
                        f"{where}: the gradient in {op.input_name(k)} is another one "
                        f"when {op.input_name(i)} is a Python number"
                    )


def _check_flat(op: Op[..., Any], where: str, inputs: list[Array], trial: Case) -> None:
    """Move each input that is declared a jump by very little: the value must stay what it is."""
    value = np.asarray(op(*inputs, **trial.attrs))
    for i, x in enumerate(inputs):
        if op.smoothness_in(i) == JUMP and x.dtype.kind == "f":
            moved = [other * (1 + 1e-12) if k == i else other for k, other in enumerate(inputs)]
            if not np.array_equal(value, np.asarray(op(*moved, **trial.attrs))):
                raise CheckError(
                    f"{where}: declared a jump in {op.input_name(i)}, flat almost everywhere, "
                    "but its value moves with it"
                )


def _check_no_jump(op: Op[..., Any], where: str, inputs: list[Array], trial: Case) -> None:
    """Follow the inputs of a smooth op through its recorded gradient: no jump may lie on their way."""
    leaves = _leaves(inputs)
    smooth = [x for i, x in enumerate(leaves) if isinstance(x, Tensor) and op.smoothness_in(i) in DIFFERENTIABLE]
    node = op(*leaves, **trial.attrs)
    if KINK in op.smoothness or not smooth or not isinstance(node, Tensor) or node.dtype.kind != "f":
        return
    found = gradients(node, smooth, cotangent=np.ones_like(node.value), record=True)
    order = topological_order(found)
    live = {id(g) for g in found}  # from where a path that is not cut on purpose leads to the gradient
    for step in reversed(order):
        if id(step) in live and step.op is not None:
            live.update(id(x) for i, x in enumerate(step.inputs) if step.op.smoothness_in(i) != STOP)
    moving = {id(x) for x in smooth}
    for step in order:
        for i, x in enumerate(step.inputs):
            kind = step.op.smoothness_in(i) if step.op else STOP
            if id(x) in moving and kind == JUMP and id(step) in live:
                raise CheckError(
                    f"{where}: declared smooth, and its gradient jumps where {step.op} does; declare a kink, "
                    "or write stop_gradient(condition) if the condition only guards the edge of a formula"
                )
            if id(x) in moving and kind != STOP:
                moving.add(id(step))


def _check_axes(op: Op[..., Any], where: str, inputs: list[Array], trial: Case) -> None:
    """Change one slice of an input along an axis called unmixed: only that slice of the output may change."""
    if op.axes is None:
        return
    node = op(*(Tensor(x) for x in inputs), **trial.attrs)
    for i, x in enumerate(inputs):
        labels = op.axes(i, tuple(range(x.ndim)), node, *node.inputs, **node.attrs)
        if len(labels) != node.ndim:
            raise CheckError(f"{where}: axes gave {len(labels)} labels for an output with {node.ndim} axes")
        for axis, label in enumerate(labels):
            if label is None or not x.shape[label] or x.dtype.kind != "f":
                continue
            changed = x.copy()
            changed[(slice(None),) * label + (0,)] *= 0.9
            moved = np.asarray(op(*inputs[:i], changed, *inputs[i + 1 :], **trial.attrs))
            rest = (slice(None),) * axis + (slice(1, None),)
            if x.shape[label] != node.shape[axis] or not np.array_equal(moved[rest], node.value[rest]):
                raise CheckError(
                    f"{where}: axes calls axis {label} of {op.input_name(i)} unmixed, and it is mixed into axis {axis}"
                )


__all__ = ["CheckError", "check_case", "check_op", "check_second_order", "check_vjp"]
