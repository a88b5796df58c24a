"""Ops that reduce axes, and those that normalise along one: sum, mean, var, prod, max, logsumexp, softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Value, namespace, value_of
from ..domains import LOGITS, NONZERO, TRUTH
from . import ranges
from .choices import astype, stop_gradient, where
from .cumulative import cumulative_prod
from .declare import JUMP, KINK, case, op
from .elementwise import divide_or_zero, exp, maximum
from .indexing import take_along_axis
from .jumps import isinf, isnan, logical_or
from .reals import on_reals
from .shaping import broadcast_to, expand_dims, flatten_from, moveaxis, permute_dims, reshape

Axis = int | Sequence[int] | None

_CASES = [
    case((2, 3)),
    case((2, 3), axis=0),
    case((2, 3, 2), axis=(0, -1), keepdims=True),
    case((3,), axis=-1, keepdims=True),
    case(()),
]
_SPREAD_CASES = [c for c in _CASES if c.shapes != ((),)]


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


def _keep(reduction: Value, x: Value, axis: Axis) -> Value:
    """Return the result of a reduction of ``x`` with the reduced axes put back, of length 1."""
    gone = reduced(axis, x.ndim)
    return reshape(reduction, tuple(1 if a in gone else n for a, n in enumerate(x.shape)))


def remaining_axes(
    i: int, labels: tuple[int | None, ...], y: Value, x: Value, *, axis: Axis, keepdims: bool, **_: Any
) -> tuple[int | None, ...]:
    """Every axis that is not reduced stays unmixed."""
    gone = reduced(axis, len(labels))
    return tuple(None if a in gone else label for a, label in enumerate(labels) if keepdims or a not in gone)


def _all_but_axis(i: int, labels: tuple[int | None, ...], y: Value, x: Value, *, axis: int) -> tuple[int | None, ...]:
    return tuple(None if a == axis % len(labels) else label for a, label in enumerate(labels))


@op(
    lambda g, y, x, *, axis, dtype, keepdims: broadcast_to(_keep(g, x, axis), x.shape),
    linear=True,
    axes=remaining_axes,
    cases=[*_CASES, case((2, 3), axis=0, dtype=np.float64)],
    range=ranges.total,
)
def sum(x: Value, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Value:
    """Sum over ``axis``: one, several, or all of them. Derivative 1 for each element.

    ``dtype`` is that of the sum and of its accumulation; by default that of x.

    >>> float(sum(np.ones((2, 3))))
    6.0
    """
    return np.sum(x, axis=as_axes(axis), dtype=dtype, keepdims=keepdims)


@op(
    lambda g, y, x, *, axis, keepdims: broadcast_to(
        _keep(g, x, axis) / math.prod(tuple(x.shape[a] for a in reduced(axis, x.ndim))), x.shape
    ),
    linear=True,
    axes=remaining_axes,
    cases=_CASES,
    range=ranges.averages,
)
@on_reals
def mean(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Mean over ``axis``: one, several, or all of them. Derivative 1 / n for each of n elements.

    >>> float(mean(np.ones((2, 3))))
    1.0
    """
    count = math.prod(tuple(np.shape(x)[a] for a in reduced(axis, np.ndim(x))))
    if not count:
        raise ValueError("the mean of no elements is not defined")
    return np.sum(x, axis=as_axes(axis), keepdims=keepdims) / count


def _degrees(x: Value, axis: Axis, correction: float) -> float:
    return math.prod(tuple(x.shape[a] for a in reduced(axis, x.ndim))) - correction


@op(
    lambda g, y, x, *, axis, correction, keepdims: (
        _keep(g, x, axis) * (x - mean(x, axis=axis, keepdims=True)) * (2 / _degrees(x, axis, correction))
    ),
    axes=remaining_axes,
    cases=[*_SPREAD_CASES, case((4,), correction=1.0)],
    range=ranges.spreads,
)
@on_reals
def var(x: Value, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """``sum((x - mean(x))^2) / (n - correction)`` over ``axis``. Derivative 2 (x - mean(x)) / (n - correction).

    >>> float(var(np.array([1.0, 3.0])))
    1.0
    """
    _check_degrees(x, axis, correction)
    return np.var(x, axis=as_axes(axis), ddof=correction, keepdims=keepdims)


@op(
    lambda g, y, x, *, axis, correction, keepdims: (
        divide_or_zero(_keep(g, x, axis) * (x - mean(x, axis=axis, keepdims=True)), _keep(y, x, axis))
        * (1 / _degrees(x, axis, correction))
    ),
    smoothness=KINK,
    axes=remaining_axes,
    cases=[*_SPREAD_CASES, case((4,), correction=1.0)],
    range=ranges.spreads,
)
@on_reals
def std(x: Value, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """Square root of ``var``. Derivative (x - mean(x)) / ((n - correction) std), and 0 where all elements are equal.

    The second derivative there is NaN.

    >>> float(std(np.array([1.0, 3.0])))
    1.0
    """
    _check_degrees(x, axis, correction)
    return np.std(x, axis=as_axes(axis), ddof=correction, keepdims=keepdims)


def _check_degrees(x: Value, axis: Axis, correction: float) -> None:
    count = math.prod(tuple(np.shape(x)[a] for a in reduced(axis, np.ndim(x))))
    if count - correction <= 0:
        raise ValueError(f"the variance of {count} elements with correction={correction:g} is not defined")


def _others(x: Value) -> Value:
    """Return, for each element along the last axis, the product of all others, without dividing."""
    from_left = cumulative_prod(x, axis=-1, include_initial=True)[..., :-1]
    from_right = cumulative_prod(x[..., ::-1], axis=-1, include_initial=True)[..., :-1][..., ::-1]
    return from_left * from_right


def _through_prod(g: Value, y: Value, x: Value, *, axis: Axis, dtype: Any, keepdims: bool) -> Value:
    gone = reduced(axis, x.ndim)
    order = (*(a for a in range(x.ndim) if a not in gone), *gone)
    ordered = permute_dims(x, order)
    others = reshape(_others(flatten_from(ordered, x.ndim - len(gone))), ordered.shape)
    return _keep(g, x, axis) * permute_dims(others, tuple(order.index(a) for a in range(x.ndim)))


@op(
    _through_prod,
    axes=remaining_axes,
    cases=[*_CASES, case((2, 3), axis=0, dtype=np.float64)],
    range=ranges.all_products,
)
def prod(x: Value, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Value:
    """Product over ``axis``. Derivative the product of all other elements, right also where some are 0.

    ``dtype`` is that of the product and of its accumulation; by default that of x.

    >>> float(prod(np.array([2.0, 3.0])))
    6.0
    """
    return np.prod(x, axis=as_axes(axis), dtype=dtype, keepdims=keepdims)


def _shared(g: Value, y: Value, x: Value, axis: Axis) -> Value:
    """Return ``g`` shared evenly among the elements of ``x`` that are equal to ``y``, or NaN as it is."""
    ties = logical_or(x == _keep(y, x, axis), isnan(x))
    count = maximum(astype(sum(ties, axis=axis, keepdims=True), g.dtype), 1.0)
    return where(ties, _keep(g, x, axis) / count, 0.0)


@op(
    lambda g, y, x, *, axis, keepdims: _shared(g, y, x, axis),
    smoothness=KINK,
    axes=remaining_axes,
    cases=_CASES,
    range=ranges.greatest,
)
def max(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Largest element over ``axis``. The gradient goes to it, in equal shares where several are largest.

    >>> float(max(np.array([1.0, 3.0])))
    3.0
    """
    return np.max(x, axis=as_axes(axis), keepdims=keepdims)


@op(
    lambda g, y, x, *, axis, keepdims: _shared(g, y, x, axis),
    smoothness=KINK,
    axes=remaining_axes,
    cases=_CASES,
    range=ranges.least,
)
def min(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Smallest element over ``axis``. The gradient goes to it, in equal shares where several are smallest.

    >>> float(min(np.array([1.0, 3.0])))
    1.0
    """
    return np.min(x, axis=as_axes(axis), keepdims=keepdims)


@op(None, smoothness=JUMP, axes=remaining_axes, cases=[case((2, 3), axis=-1), case((4,))])
def argmax(x: Value, /, *, axis: int | None = None, keepdims: bool = False) -> Value:
    """Index of the largest element along ``axis``, the first where several are. A jump: no gradient.

    >>> int(argmax(np.array([1.0, 3.0])))
    1
    """
    return np.argmax(x, axis=axis, keepdims=keepdims)


@op(None, smoothness=JUMP, axes=remaining_axes, cases=[case((2, 3), axis=-1), case((4,))])
def argmin(x: Value, /, *, axis: int | None = None, keepdims: bool = False) -> Value:
    """Index of the smallest element along ``axis``, the first where several are. A jump: no gradient.

    >>> int(argmin(np.array([1.0, 3.0])))
    0
    """
    return np.argmin(x, axis=axis, keepdims=keepdims)


@op(None, smoothness=JUMP, domain=TRUTH, axes=remaining_axes, cases=_CASES)
def any(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Whether any element is true, over ``axis``. A jump: no gradient.

    >>> bool(any(np.array([True, False])))
    True
    """
    return np.any(x, axis=as_axes(axis), keepdims=keepdims)


@op(None, smoothness=JUMP, domain=TRUTH, axes=remaining_axes, cases=_CASES)
def all(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Whether all elements are true, over ``axis``. A jump: no gradient.

    >>> bool(all(np.array([True, False])))
    False
    """
    return np.all(x, axis=as_axes(axis), keepdims=keepdims)


@op(None, smoothness=JUMP, domain=NONZERO, axes=remaining_axes, cases=_CASES)
def count_nonzero(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Number of elements that are not 0, over ``axis``. A jump: no gradient.

    >>> int(count_nonzero(np.array([1.0, 0.0])))
    1
    """
    return np.sum(np.not_equal(x, 0), axis=as_axes(axis), keepdims=keepdims)


def _through_logsumexp(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool) -> Value:
    """Return g times ``exp(x - y)``; beside infinite elements their shares of g, and 0 where all are minus infinity."""
    top = _keep(y, x, axis)
    endless = stop_gradient(isinf(top))
    inside = _keep(g, x, axis) * exp(where(endless, 0.0, x) - where(endless, 0.0, top))
    shares = _shared(g, stop_gradient(y), stop_gradient(x), axis)
    return where(endless, where(stop_gradient(top > 0), shares, 0.0), inside)


@op(_through_logsumexp, axes=remaining_axes, cases=_CASES, range=ranges.log_total)
@on_reals
def logsumexp(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """``log(sum(exp(x)))`` over ``axis``, without overflow. Derivative softmax(x), and 0 where all are minus infinity.

    >>> round(float(logsumexp(np.array([1000.0, 1000.0]))) - 1000, 6)
    0.693147
    """
    top = largest(x, axis)
    top = np.where(np.isfinite(top), top, np.zeros_like(top))
    with np.errstate(divide="ignore"):  # the logarithm of no probability at all is minus infinity
        y = np.log(np.sum(np.exp(x - top), axis=as_axes(axis), keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis=reduced(axis, np.ndim(x)))


def _through_softmax(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """Return y (g - <g, y>), with g counted from that of the largest y: ``1 - y`` of a y near 1 has no digits."""
    if y.size:
        g = g - take_along_axis(g, argmax(stop_gradient(y), axis=axis, keepdims=True), axis=axis)
    return y * (g - sum(g * y, axis=axis, keepdims=True))


@op(
    _through_softmax,
    domain=LOGITS,
    axes=_all_but_axis,
    cases=[case((2, 3)), case((2, 3), axis=0)],
    range=ranges.within(*ranges.BETWEEN_0_AND_1),
)
@on_reals
def softmax(x: Value, /, *, axis: int = -1) -> Value:
    """``exp(x) / sum(exp(x))`` along ``axis``. Derivative of y_i in x_j: y_i ((i = j) - y_j).

    >>> softmax(np.zeros(2))
    array([0.5, 0.5])
    """
    shifted = np.exp(x - largest(x, axis))
    return shifted / np.sum(shifted, axis=axis, keepdims=True)


def _through_log_softmax(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """Return g - softmax(x) sum(g). For the largest y it is minus the sum of the others: 1 - softmax has no digits."""
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
    axes=_all_but_axis,
    cases=[case((2, 3)), case((2, 3), axis=0)],
    range=ranges.within(-math.inf, -ranges.ABOVE_ZERO),
)
@on_reals
def log_softmax(x: Value, /, *, axis: int = -1) -> Value:
    """``x - logsumexp(x)`` along ``axis``. Derivative of y_i in x_j: (i = j) - softmax(x)_j.

    >>> bool(np.allclose(log_softmax(np.zeros(2)), -np.log(2)))
    True
    """
    shifted = x - largest(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)) if x.size else shifted
