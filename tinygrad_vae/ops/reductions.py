"""Ops that reduce axes, and those that normalise along one: sum, mean, var, prod, max, logsumexp, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import Op, Value, namespace, value_of
from ..domains import LOGITS, NONZERO, TRUTH
from . import ranges
from .choices import astype, stop_gradient, where
from .cumulative import cumulative_prod
from .declare import JUMP, KINK, Labels, P, R, case, example, op
from .elementwise import divide_or_zero, exp, maximum
from .indexing import take_along_axis
from .jumps import isinf, isnan, logical_or
from .reals import on_reals
from .shaping import all_but_axis, broadcast_to, expand_dims, moveaxis, permute_dims, reshape

Axis = int | Sequence[int] | None

_CASES = [
    case((2, 3)),
    case((2, 3), axis=0),
    case((2, 3, 2), axis=(0, -1), keepdims=True),
    case((3,), axis=-1, keepdims=True),
    case(()),
]
_SPREAD_CASES = [*_CASES[:-1], case((4,), correction=1.0)]
_IN_DTYPE = [*_CASES, case((2, 3), axis=0, dtype=np.float64)]
_ALONG = [case((2, 3)), case((2, 3), axis=0)]


def reduced(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the axes that a reduction takes away, counted from 0."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, (tuple, list)) else (axis,))) if ndim else ()


def as_axes(axis: Axis) -> Any:
    """Return the argument as NumPy takes it: a list as a tuple."""
    return tuple(axis) if isinstance(axis, list) else axis


def largest(x: Value, axis: Axis) -> Value:
    """Return the largest elements of an array, the reduced axes of length 1; 0 where there are no elements."""
    return (np.max if x.size else np.sum)(x, axis=as_axes(axis), keepdims=True)


def kept(reduction: Value, x: Value, axis: Axis) -> Value:
    """Return the result of a reduction of ``x`` with the reduced axes put back, of length 1."""
    gone = reduced(axis, x.ndim)
    return reshape(reduction, tuple(1 if a in gone else n for a, n in enumerate(x.shape)))


def remaining_axes(i: int, labels: Labels, y: Value, x: Value, *, axis: Axis, keepdims: bool, **_: Any) -> Labels:
    """Every axis that is not reduced stays unmixed."""
    gone = reduced(axis, len(labels))
    return tuple(None if a in gone else label for a, label in enumerate(labels) if keepdims or a not in gone)


def _reduction(*vjps: Callable[..., Any] | None, **words: Any) -> Callable[[Callable[P, R]], Op[P, R]]:
    return op(*vjps, **{"axes": remaining_axes, "cases": _CASES, **words})


@_reduction(
    lambda g, y, x, *, axis, dtype, keepdims: broadcast_to(kept(g, x, axis), x.shape),
    linear=True,
    cases=_IN_DTYPE,
    range=ranges.total,
)
@example("sum(np.ones((2, 3))) = 6.0")
def sum(x: Value, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Value:
    """Sum over ``axis``: one, several, or all. ``dtype`` is the one to add up in. Derivative 1 for each element."""
    return np.sum(x, axis=as_axes(axis), dtype=dtype, keepdims=keepdims)


@_reduction(
    lambda g, y, x, *, axis, keepdims: broadcast_to(kept(g, x, axis) / (x.size // (y.size or 1)), x.shape),
    linear=True,
    range=ranges.averages,
)
@on_reals
@example("mean(np.ones((2, 3))) = 1.0")
def mean(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Mean over ``axis``: one, several, or all. Derivative 1 / n for each of n elements."""
    total, size = np.sum(x, axis=as_axes(axis), keepdims=keepdims), np.size(x)
    if total.size > size:
        raise ValueError("the mean of no elements is not defined")
    return total / (size // (total.size or 1))


def _degrees(shape: tuple[int, ...], axis: Axis, correction: float) -> float:
    count = math.prod(shape[a] for a in reduced(axis, len(shape)))
    if count - correction <= 0:
        raise ValueError(f"the variance of {count} elements with correction={correction:g} is not defined")
    return count - correction


@_reduction(
    lambda g, y, x, *, axis, correction, keepdims: (
        kept(g, x, axis) * (x - mean(x, axis=axis, keepdims=True)) * (2 / _degrees(x.shape, axis, correction))
    ),
    cases=_SPREAD_CASES,
    range=ranges.spreads,
)
@on_reals
@example("var(np.array([1.0, 3.0])) = 1.0")
def var(x: Value, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """``sum((x - mean(x))^2) / (n - correction)`` over ``axis``. Derivative 2 (x - mean(x)) / (n - correction)."""
    _degrees(np.shape(x), axis, correction)
    return np.var(x, axis=as_axes(axis), ddof=correction, keepdims=keepdims)


@_reduction(
    lambda g, y, x, *, axis, correction, keepdims: (
        divide_or_zero(kept(g, x, axis) * (x - mean(x, axis=axis, keepdims=True)), kept(y, x, axis))
        * (1 / _degrees(x.shape, axis, correction))
    ),
    smoothness=KINK,
    cases=_SPREAD_CASES,
    range=ranges.spreads,
)
@on_reals
@example("std(np.array([1.0, 3.0])) = 1.0")
def std(x: Value, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """Square root of ``var``. Derivative (x - mean(x)) / ((n - correction) std), and 0 where all elements are equal.

    The second derivative there is NaN.
    """
    _degrees(np.shape(x), axis, correction)
    return np.std(x, axis=as_axes(axis), ddof=correction, keepdims=keepdims)


def _others(x: Value) -> Value:
    """Return, for each element along the last axis, the product of all others, without dividing."""
    from_left = cumulative_prod(x, axis=-1, include_initial=True)[..., :-1]
    from_right = cumulative_prod(x[..., ::-1], axis=-1, include_initial=True)[..., :-1][..., ::-1]
    return from_left * from_right


def _through_prod(g: Value, y: Value, x: Value, *, axis: Axis, dtype: Any, keepdims: bool) -> Value:
    gone = reduced(axis, x.ndim)
    order = (*(a for a in range(x.ndim) if a not in gone), *gone)
    ordered = permute_dims(x, order)
    flat = reshape(ordered, (*ordered.shape[: x.ndim - len(gone)], math.prod(x.shape[a] for a in gone)))
    others = reshape(_others(flat), ordered.shape)
    return kept(g, x, axis) * permute_dims(others, tuple(order.index(a) for a in range(x.ndim)))


@_reduction(_through_prod, cases=_IN_DTYPE, range=ranges.of_one_sign)
@example("prod(np.array([2.0, 3.0])) = 6.0")
def prod(x: Value, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Value:
    """Product over ``axis``, in ``dtype``. Derivative the product of all other elements, also where some are 0."""
    return np.prod(x, axis=as_axes(axis), dtype=dtype, keepdims=keepdims)


def _shared(g: Value, y: Value, x: Value, axis: Axis) -> Value:
    """Return ``g`` shared evenly among the elements of ``x`` that are equal to ``y``, or NaN as it is."""
    ties = logical_or(x == kept(y, x, axis), isnan(x))
    count = maximum(astype(sum(ties, axis=axis, keepdims=True), g.dtype), 1.0)
    return where(ties, kept(g, x, axis) / count, 0.0)


@_reduction(lambda g, y, x, *, axis, keepdims: _shared(g, y, x, axis), smoothness=KINK, range=ranges.averages)
@example("max(np.array([1.0, 3.0])) = 3.0")
def max(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Largest element over ``axis``. The gradient goes to it, in equal shares where several are largest."""
    return np.max(x, axis=as_axes(axis), keepdims=keepdims)


@_reduction(lambda g, y, x, *, axis, keepdims: _shared(g, y, x, axis), smoothness=KINK, range=ranges.least)
@example("min(np.array([1.0, 3.0])) = 1.0")
def min(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Smallest element over ``axis``. The gradient goes to it, in equal shares where several are smallest."""
    return np.min(x, axis=as_axes(axis), keepdims=keepdims)


@_reduction(None, smoothness=JUMP, cases=[case((2, 3), axis=-1), case((4,))])
@example("argmax(np.array([1.0, 3.0])) = 1")
def argmax(x: Value, /, *, axis: int | None = None, keepdims: bool = False) -> Value:
    """Index of the largest element along ``axis``, the first where several are. A jump: no gradient."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


@_reduction(None, smoothness=JUMP, cases=[case((2, 3), axis=-1), case((4,))])
@example("argmin(np.array([1.0, 3.0])) = 0")
def argmin(x: Value, /, *, axis: int | None = None, keepdims: bool = False) -> Value:
    """Index of the smallest element along ``axis``, the first where several are. A jump: no gradient."""
    return np.argmin(x, axis=axis, keepdims=keepdims)


@_reduction(None, smoothness=JUMP, domain=TRUTH)
@example("any(np.array([True, False])) = True")
def any(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Whether any element is true, over ``axis``. A jump: no gradient."""
    return np.any(x, axis=as_axes(axis), keepdims=keepdims)


@_reduction(None, smoothness=JUMP, domain=TRUTH)
@example("all(np.array([True, False])) = False")
def all(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Whether all elements are true, over ``axis``. A jump: no gradient."""
    return np.all(x, axis=as_axes(axis), keepdims=keepdims)


@_reduction(None, smoothness=JUMP, domain=NONZERO)
@example("count_nonzero(np.array([1.0, 0.0])) = 1")
def count_nonzero(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Number of elements that are not 0, over ``axis``. A jump: no gradient."""
    return np.sum(np.not_equal(x, 0), axis=as_axes(axis), keepdims=keepdims)


def _through_logsumexp(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool) -> Value:
    """Return g times ``exp(x - y)``; beside infinite elements their shares of g, and 0 where all are minus infinity."""
    top = kept(y, x, axis)
    endless = stop_gradient(isinf(top))
    inside = kept(g, x, axis) * exp(where(endless, 0.0, x) - where(endless, 0.0, top))
    shares = _shared(g, stop_gradient(y), stop_gradient(x), axis)
    return where(endless, where(stop_gradient(top > 0), shares, 0.0), inside)


@_reduction(_through_logsumexp, range=ranges.log_total)
@on_reals
@example("round(float(logsumexp(np.array([1000.0, 1000.0]))) - 1000, 6) = 0.693147")
def logsumexp(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """``log(sum(exp(x)))`` over ``axis``, without overflow. Derivative softmax(x), 0 where all are minus infinity."""
    top = largest(x, axis)
    top = np.where(np.isfinite(top), top, np.zeros_like(top))
    with np.errstate(divide="ignore"):  # the logarithm of no probability at all is minus infinity
        y = np.log(np.sum(np.exp(x - top), axis=as_axes(axis), keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis=reduced(axis, np.ndim(x)))


def _through_softmax(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """Return y (g - <g, y>), after subtracting the g of the largest y: its 1 - y would have no digits near y = 1."""
    if y.size:
        g = g - take_along_axis(g, argmax(stop_gradient(y), axis=axis, keepdims=True), axis=axis)
    return y * (g - sum(g * y, axis=axis, keepdims=True))


@op(_through_softmax, domain=LOGITS, axes=all_but_axis, cases=_ALONG, range=ranges.in_unit)
@on_reals
@example("softmax(np.zeros(2)) = [0.5 0.5]")
def softmax(x: Value, /, *, axis: int = -1) -> Value:
    """``exp(x) / sum(exp(x))`` along ``axis``. Derivative of y_i in x_j: y_i ((i = j) - y_j)."""
    shifted = np.exp(x - largest(x, axis))
    return shifted / np.sum(shifted, axis=axis, keepdims=True)


def _through_log_softmax(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """Return g - softmax(x) sum(g); for the largest y, minus the sum of the others, since 1 - softmax has no digits."""
    slope = g - exp(y) * sum(g, axis=axis, keepdims=True)
    if not y.size:
        return slope
    first = moveaxis(stop_gradient(y), axis, -1)
    positions = namespace(value_of(y)).arange(y.shape[axis])
    top = moveaxis(positions == expand_dims(argmax(first, axis=-1), axis=-1), -1, axis)
    others = where(top, 0.0, slope)
    return where(top, -sum(others, axis=axis, keepdims=True), others)


@op(
    _through_log_softmax,
    domain=LOGITS,
    axes=all_but_axis,
    cases=_ALONG,
    range=ranges.within(-math.inf, -ranges.ABOVE_ZERO),
)
@on_reals
@example("np.allclose(log_softmax(np.zeros(2)), -np.log(2)) = True")
def log_softmax(x: Value, /, *, axis: int = -1) -> Value:
    """``x - logsumexp(x)`` along ``axis``. Derivative of y_i in x_j: (i = j) - softmax(x)_j."""
    shifted = x - largest(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)) if x.size else shifted
