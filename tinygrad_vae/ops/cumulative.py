"""Ops that run along an axis: cumulative sums and products, and the recurrence behind their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Value, namespace, value_of
from .declare import case, example, op
from .ranges import of_one_sign
from .shaping import all_but_axis, concat, zeros_like

_CASES = [case((2, 3), axis=-1), case((3, 2), axis=0, include_initial=True), case((4,))]


def _along(x: Value, axis: int, part: slice) -> Value:
    """Return ``x`` with a slice taken along one axis."""
    return x[(slice(None),) * (axis % len(x.shape)) + (part,)]


def _reversed(x: Value, axis: int) -> Value:
    return _along(x, axis, slice(None, None, -1))


def _delayed(x: Value, axis: int) -> Value:
    """Return ``x`` moved on by one place, with 0 in the first."""
    first = _along(x, axis, slice(0, 1))
    return concat([zeros_like(first), _along(x, axis, slice(0, -1))], axis=axis)


def _backwards(g: Value, factor: Value, axis: int) -> Value:
    """Return the cotangent of the recurrence's terms: the same recurrence, from the end."""
    return _reversed(recurrence(_delayed(_reversed(factor, axis), axis), _reversed(g, axis), axis=axis), axis)


@op(
    lambda g, y, factor, term, *, axis: _backwards(g, factor, axis) * _delayed(y, axis),
    lambda g, y, factor, term, *, axis: _backwards(g, factor, axis),
    linear=((1,),),
    axes=all_but_axis,
    cases=[case((2, 3), (2, 3), axis=-1), case((3, 2), (3, 2), axis=0), case((1,), (1,), axis=0)],
)
@example("recurrence(np.full(3, 0.5), np.ones(3), axis=0) = [1.   1.5  1.75]")
def recurrence(factor: Value, term: Value, /, *, axis: int) -> Value:
    """``y[i] = factor[i] y[i-1] + term[i]`` along ``axis``, from y[-1] = 0. Both inputs have one shape.

    The cotangent of ``term`` is the recurrence from the end, ``c[i] = g[i] + factor[i+1] c[i+1]``; of ``factor``,
    c[i] y[i-1].
    """
    if np.shape(factor) != np.shape(term):
        raise ValueError(f"factor and term must have one shape, found {np.shape(factor)} and {np.shape(term)}")
    xp = namespace(term)
    factors, y = xp.moveaxis(factor, axis, 0), xp.moveaxis(term.copy(), axis, 0)
    for i in range(1, len(y)):
        y[i] += factors[i] * y[i - 1]
    return xp.moveaxis(y, 0, axis)


def _only_axis(x: Value, axis: int | None) -> int:
    """Return the axis to run along: the only one, where none is named."""
    ndim = len(np.shape(value_of(x)))
    if axis is None and ndim != 1:
        raise ValueError(f"name the axis to run along: x has {ndim} axes")
    return 0 if axis is None else axis


def _through_sums(g: Value, y: Value, x: Value, *, axis: int | None, dtype: Any, include_initial: bool) -> Value:
    axis = _only_axis(x, axis)
    g = _along(g, axis, slice(include_initial * 1, None))
    return _reversed(cumulative_sum(_reversed(g, axis), axis=axis), axis)


@op(_through_sums, linear=True, axes=all_but_axis, cases=_CASES, range=of_one_sign)
@example("cumulative_sum(np.ones(3)) = [1. 2. 3.]")
def cumulative_sum(x: Value, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Value:
    """The sums of the first 1, 2, 3, ... elements along ``axis``, which may be left out where there is only one.

    ``include_initial`` puts a 0 in front; ``dtype``, by default the dtype of x, is the one of the sums.
    """
    axis = _only_axis(x, axis)
    y = np.cumsum(x, axis=axis, dtype=dtype)
    return _with_initial(y, 0, axis) if include_initial else y


def _through_products(g: Value, y: Value, x: Value, *, axis: int | None, dtype: Any, include_initial: bool) -> Value:
    """Return the product of the elements before each one, times a recurrence over those after it."""
    axis = _only_axis(x, axis)
    g = _along(g, axis, slice(include_initial * 1, None))
    before = _along(cumulative_prod(x, axis=axis, include_initial=True), axis, slice(0, -1))
    return before * _backwards(g, x, axis)


@op(_through_products, axes=all_but_axis, cases=_CASES)
@example("cumulative_prod(np.array([2.0, 3.0, 4.0])) = [ 2.  6. 24.]")
def cumulative_prod(x: Value, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Value:
    """The products of the first 1, 2, 3, ... elements, with the options of ``cumulative_sum``.

    Derivative: the product of the other elements, for each product that an element is part of; also where some are 0.
    """
    axis = _only_axis(x, axis)
    y = np.cumprod(x, axis=axis, dtype=dtype)
    return _with_initial(y, 1, axis) if include_initial else y


def _with_initial(y: Value, initial: int, axis: int) -> Value:
    xp = namespace(y)
    shape = [1 if a == axis % y.ndim else n for a, n in enumerate(y.shape)]
    return xp.concatenate([xp.full(shape, initial, y.dtype), y], axis=axis)
