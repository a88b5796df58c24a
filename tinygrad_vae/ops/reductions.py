"""Ops that reduce axes, and those that normalise along one: sum, mean, var, prod, max, logsumexp, softmax.

They know the engine, and the ops that work element by element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Value, size
from ..domains import LOGITS, NONZERO, TRUTH
from .cumulative import cumulative_prod
from .declare import JUMP, KINK, case, op
from .elementwise import divide_or_zero, exp
from .gates import astype, stop_gradient, where
from .rounding import isfinite
from .shaping import broadcast_to, flatten_from, permute_dims, reshape

Axis = int | tuple[int, ...] | None

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
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,))) if ndim else ()


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
    axes=remaining_axes,
    cases=[*_CASES, case((2, 3), axis=0, dtype=np.float64)],
)
def sum(x: Value, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Value:
    """Sum over ``axis``: one, several, or all of them. Derivative 1 for each element.

    ``dtype`` is that of the sum and of its accumulation; by default that of x.

    >>> float(sum(np.ones((2, 3))))
    6.0
    """
    return np.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)


@op(
    lambda g, y, x, *, axis, keepdims: broadcast_to(
        _keep(g, x, axis) / size(tuple(x.shape[a] for a in reduced(axis, x.ndim))), x.shape
    ),
    axes=remaining_axes,
    cases=_CASES,
)
def mean(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Mean over ``axis``: one, several, or all of them. Derivative 1 / n for each of n elements.

    >>> float(mean(np.ones((2, 3))))
    1.0
    """
    if not size(np.shape(x)):
        raise ValueError("the mean of no elements is not defined")
    count = size(tuple(np.shape(x)[a] for a in reduced(axis, np.ndim(x))))
    return np.sum(x, axis=axis, keepdims=keepdims) / count


def _degrees(x: Value, axis: Axis, correction: float) -> float:
    return size(tuple(x.shape[a] for a in reduced(axis, x.ndim))) - correction


@op(
    lambda g, y, x, *, axis, correction, keepdims: (
        _keep(g, x, axis) * (x - mean(x, axis=axis, keepdims=True)) * (2 / _degrees(x, axis, correction))
    ),
    axes=remaining_axes,
    cases=[*_SPREAD_CASES, case((4,), correction=1.0)],
)
def var(x: Value, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """``sum((x - mean(x))^2) / (n - correction)`` over ``axis``. Derivative 2 (x - mean(x)) / (n - correction).

    >>> float(var(np.array([1.0, 3.0])))
    1.0
    """
    _check_degrees(x, axis, correction)
    return np.var(x, axis=axis, ddof=correction, keepdims=keepdims)


@op(
    lambda g, y, x, *, axis, correction, keepdims: (
        divide_or_zero(_keep(g, x, axis) * (x - mean(x, axis=axis, keepdims=True)), _keep(y, x, axis))
        * (1 / _degrees(x, axis, correction))
    ),
    axes=remaining_axes,
    cases=[*_SPREAD_CASES, case((4,), correction=1.0)],
)
def std(x: Value, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """Square root of ``var``. Derivative (x - mean(x)) / ((n - correction) std), and 0 where all elements are equal.

    >>> float(std(np.array([1.0, 3.0])))
    1.0
    """
    _check_degrees(x, axis, correction)
    return np.std(x, axis=axis, ddof=correction, keepdims=keepdims)


def _check_degrees(x: Value, axis: Axis, correction: float) -> None:
    count = size(tuple(np.shape(x)[a] for a in reduced(axis, np.ndim(x))))
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


@op(_through_prod, axes=remaining_axes, cases=[*_CASES, case((2, 3), axis=0, dtype=np.float64)])
def prod(x: Value, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Value:
    """Product over ``axis``. Derivative the product of all other elements, right also where some are 0.

    ``dtype`` is that of the product and of its accumulation; by default that of x.

    >>> float(prod(np.array([2.0, 3.0])))
    6.0
    """
    return np.prod(x, axis=axis, dtype=dtype, keepdims=keepdims)


def _shared(g: Value, y: Value, x: Value, axis: Axis) -> Value:
    """Return ``g`` shared evenly among the elements of ``x`` that are equal to ``y``."""
    ties = x == _keep(y, x, axis)
    count = astype(sum(ties, axis=axis, keepdims=True), g.dtype)
    return where(ties, _keep(g, x, axis) / count, 0.0)


@op(
    lambda g, y, x, *, axis, keepdims: _shared(g, y, x, axis),
    smoothness=KINK,
    axes=remaining_axes,
    cases=_CASES,
)
def max(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Largest element over ``axis``. The gradient goes to it, in equal shares where several are largest.

    >>> float(max(np.array([1.0, 3.0])))
    3.0
    """
    return np.max(x, axis=axis, keepdims=keepdims)


@op(
    lambda g, y, x, *, axis, keepdims: _shared(g, y, x, axis),
    smoothness=KINK,
    axes=remaining_axes,
    cases=_CASES,
)
def min(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Smallest element over ``axis``. The gradient goes to it, in equal shares where several are smallest.

    >>> float(min(np.array([1.0, 3.0])))
    1.0
    """
    return np.min(x, axis=axis, keepdims=keepdims)


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
    return np.any(x, axis=axis, keepdims=keepdims)


@op(None, smoothness=JUMP, domain=TRUTH, axes=remaining_axes, cases=_CASES)
def all(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Whether all elements are true, over ``axis``. A jump: no gradient.

    >>> bool(all(np.array([True, False])))
    False
    """
    return np.all(x, axis=axis, keepdims=keepdims)


@op(None, smoothness=JUMP, domain=NONZERO, axes=remaining_axes, cases=_CASES)
def count_nonzero(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Number of elements that are not 0, over ``axis``. A jump: no gradient.

    >>> int(count_nonzero(np.array([1.0, 0.0])))
    1
    """
    return np.sum(np.not_equal(x, 0), axis=axis, keepdims=keepdims)


def _finite_or_zero(y: Value) -> Value:
    return where(stop_gradient(isfinite(y)), y, 0.0)


@op(
    lambda g, y, x, *, axis, keepdims: _keep(g, x, axis) * exp(x - _finite_or_zero(_keep(y, x, axis))),
    axes=remaining_axes,
    cases=_CASES,
)
def logsumexp(x: Value, /, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """``log(sum(exp(x)))`` over ``axis``, without overflow. Derivative softmax(x), and 0 where all are minus infinity.

    >>> round(float(logsumexp(np.array([1000.0, 1000.0]))) - 1000, 6)
    0.693147
    """
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, np.zeros_like(top))
    with np.errstate(divide="ignore"):  # the logarithm of no probability at all is minus infinity
        y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis=reduced(axis, np.ndim(x)))


@op(
    lambda g, y, x, *, axis: y * (g - sum(g * y, axis=axis, keepdims=True)),
    domain=LOGITS,
    axes=_all_but_axis,
    cases=[case((2, 3)), case((2, 3), axis=0)],
)
def softmax(x: Value, /, *, axis: int = -1) -> Value:
    """``exp(x) / sum(exp(x))`` along ``axis``. Derivative of y_i in x_j: y_i ((i = j) - y_j).

    >>> softmax(np.zeros(2))
    array([0.5, 0.5])
    """
    shifted = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return shifted / np.sum(shifted, axis=axis, keepdims=True)


@op(
    lambda g, y, x, *, axis: g - exp(y) * sum(g, axis=axis, keepdims=True),
    domain=LOGITS,
    axes=_all_but_axis,
    cases=[case((2, 3)), case((2, 3), axis=0)],
)
def log_softmax(x: Value, /, *, axis: int = -1) -> Value:
    """``x - logsumexp(x)`` along ``axis``. Derivative of y_i in x_j: (i = j) - softmax(x)_j.

    >>> bool(np.allclose(log_softmax(np.zeros(2)), -np.log(2)))
    True
    """
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
