"""Derivatives held against differences of values: close by, and along a line."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..core import Array, Op, Tensor, gradients, value_of
from ..ops import sum as total
from ..ops.declare import DIFFERENTIABLE

STEP = 2.0**-7  # the largest step of a difference; the others are a half and a quarter of it
TOLERANCE = 1e-7  # how far a derivative may be from the difference, relative to the sizes of both
PIECES = 16  # of a line along which a change of value is compared with the integral of the gradient


class CheckError(AssertionError):
    """A function or an op does not do what its declaration promises."""


def require(holds: Any, message: str) -> None:
    """Raise a ``CheckError`` unless something holds, in every element."""
    if not np.all(holds):
        raise CheckError(message)


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
    names = [_argument(function, i) for i in range(len(inputs))]
    _compare(_name(function), function, inputs, attrs, names)


def check_second_order(function: Callable[..., Any], *inputs: Array, **attrs: Any) -> None:
    """Compare second derivatives of a function with central differences of its recorded gradient.

    The gradient, as a function of the inputs and of the cotangent, is given to ``check_vjp``, with its arguments.

    Raises:
        CheckError: names the function, the argument, the index, the gradient received and the one expected.

    >>> check_second_order(tg.multiply, np.array([1.0, 2.0]), np.array(3.0))
    """
    rng = np.random.default_rng(1)
    values = [_in_float64(x) for x in inputs]
    cotangent = rng.normal(size=np.shape(value_of(function(*leaves_of(values), **attrs))))
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
    leaves = leaves_of(values)
    output = function(*leaves, **attrs)
    made = type(output).__name__
    require(isinstance(output, Tensor), f"{name}: called with Tensors it returned an object of type {made}")
    rng = np.random.default_rng(0)
    u = rng.normal(size=output.shape)

    def difference(i: int, direction: Array) -> float:
        """Return the derivative of ``<u, function>`` in input ``i`` along a direction, extrapolated to step 0."""

        def weighted(t: float) -> float:
            moved = [x + t * direction if k == i else x for k, x in enumerate(values)]
            return float(np.sum(u * value_of(function(*leaves_of(moved), **attrs))))

        wide, middle, narrow = ((weighted(h) - weighted(-h)) / (2 * h) for h in (STEP, STEP / 2, STEP / 4))
        return (64 * narrow - 20 * middle + wide) / 45

    for i in tested:
        received = gradients(output, leaves[i], cotangent=u)
        direction = rng.uniform(-1, 1, values[i].shape)
        expected = difference(i, direction)
        size = 1 + np.sum(np.abs(received * direction)) + abs(expected)
        if abs(np.sum(received * direction) - expected) <= TOLERANCE * size:
            continue
        each = np.zeros_like(received)
        for index in np.ndindex(received.shape):
            one = np.zeros_like(received)
            one[index] = 1.0
            each[index] = difference(i, one)
        wrong = np.where(np.isfinite(received), np.abs(received - each), np.inf)
        index = tuple(int(k) for k in np.unravel_index(int(np.argmax(wrong)), received.shape))
        raise CheckError(
            f"{name}: wrong gradient in {names[i]} at index {index}\n"
            f"  received {received[index]:.10g}\n"
            f"  expected {each[index]:.10g}, from central differences"
        )


def check_line(op: Op[..., Any], start: Sequence[Array], end: Sequence[Array], attrs: dict[str, Any]) -> None:
    """Compare the change of an op's value along a line of inputs with the integral of its gradient.

    They differ where the value jumps, which a difference close by does not see. Poles, where value and gradient grow
    together, are passed over.

    Raises:
        CheckError: the value jumps; or it becomes nan, or infinite beside a finite gradient.
    """
    tested = [i for i, x in enumerate(start) if x is not end[i]]
    u = np.random.default_rng(3).normal(size=np.shape(op(*start, **attrs)))

    def inputs_at(t: float) -> list[Array]:
        return [x + t * (end[i] - x) if i in tested else x for i, x in enumerate(start)]

    def at(t: float) -> tuple[float, float]:
        """Return ``<u, value>``, nan if an element is, and its derivative in t."""
        xs = leaves_of(inputs_at(t))
        y = op(*xs, **attrs)
        found = gradients(y, [xs[i] for i in tested], cotangent=u)
        slope = np.sum([np.sum(g * (end[i] - start[i])) for g, i in zip(found, tested, strict=True)])
        value = np.sum(u * y.value)
        return float(np.inf if np.isnan(value) and not np.isnan(y.value).any() else value), float(slope)

    def spot(low: float, high: float) -> str:
        """Return the inputs of the element that changes most between two places of the line."""
        before, after = (np.asarray(op(*inputs_at(t), **attrs)) for t in (low, high))
        k = np.unravel_index(int(np.argmax(np.where(np.isfinite(after), abs(after - before), np.inf))), after.shape)
        if not op.elementwise:
            return f"in element {tuple(map(int, k))} of {attrs or 'its result'}"
        xs = [np.broadcast_to(x, after.shape)[k] for x in inputs_at(high)]
        return "at " + ", ".join(f"{op.input_name(i)} = {x:.4g}" for i, x in enumerate(xs))

    def excess(a: int, b: int) -> float:
        """Return by how much the change over two pieces differs from Simpson's rule for the integral."""
        (v, s), (_, middle), (w, r) = points[a], points[(a + b) // 2], points[b]
        return abs(w - v - (s + 4 * middle + r) / (3 * PIECES))

    with np.errstate(all="ignore"):
        ts = np.linspace(0, 1, PIECES + 1)
        points = [at(t) for t in ts]
        for k, ((v, s), (w, r)) in enumerate(pairwise(points)):
            if np.isfinite(v) and (np.isnan(w) or (np.isinf(w) and np.isfinite(s) and abs(r) < 1e100)):
                at_once = f"{op.name}: its value is {w:.3g} {spot(ts[k], ts[k + 1])}, inside its domain"
                raise CheckError(f"{at_once}; use a formula that holds there")
        if not np.all(np.isfinite(points)):
            return
        k = max(range(0, PIECES, 2), key=lambda k: excess(k, k + 2))
        scale = 1 + max(abs(v) for v, _ in points)
        if excess(k, k + 2) < 1e-4 * scale:
            return
        (low, left), (high, right) = (ts[k], points[k]), (ts[k + 2], points[k + 2])
        for _ in range(30):  # close in on the place where they differ most
            middle = (low + high) / 2
            found = at(middle)
            if not np.all(np.isfinite(found)):
                return
            lower = abs(found[0] - left[0] - (middle - low) * (found[1] + left[1]) / 2)
            upper = abs(right[0] - found[0] - (high - middle) * (right[1] + found[1]) / 2)
            low, left, high, right = (low, left, middle, found) if lower > upper else (middle, found, high, right)
    if abs(right[0] - left[0]) > 10 * (high - low) * max(abs(left[1]), abs(right[1])) + 1e-6 * scale:
        raise CheckError(
            f"{op.name}: declared {op.declared.smoothness_in(tested[0])}, and its value jumps {spot(low, high)}; its "
            "vjp says nothing of that; declare smoothness='jump' if it is flat between its jumps, else 'piecewise'"
        )


def leaves_of(values: Sequence[Any]) -> list[Any]:
    """Return the values with a Tensor around each array of floats."""
    return [Tensor(x) if x.dtype.kind == "f" else x for x in values]


def is_tested(function: Callable[..., Any], i: int, x: Array) -> bool:
    """Return whether input ``i`` holds floats to differentiate by."""
    return x.dtype.kind == "f" and (
        not isinstance(function, Op) or function.declared.smoothness_in(i) in DIFFERENTIABLE
    )


def _tested(function: Callable[..., Any], values: Sequence[Array]) -> list[int]:
    found = [i for i, x in enumerate(values) if is_tested(function, i, x)]
    if not found:
        raise ValueError(f"{_name(function)}: there is nothing to check, no input holds floats and has a derivative")
    return found


def _in_float64(x: Any) -> Array:
    x = np.asarray(value_of(x))
    return x.astype(np.float64) if x.dtype.kind == "f" else x


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
