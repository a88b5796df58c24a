"""Where the values of an op lie, if its inputs lie in known intervals, and whether it can leap at a pole there.

An interval is a pair of numbers or arrays that broadcasts with the values. Both ends belong to it; where a limit is
excluded, the end is the next float, such as ``ABOVE_ZERO`` for positive numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import to_numpy, value_of

Interval = tuple[Any, Any]
RangeOf = Callable[..., Interval]

ABOVE_ZERO = math.nextafter(0.0, 1.0)
BELOW_ONE = math.nextafter(1.0, 0.0)
REALS: Interval = (-math.inf, math.inf)
UNKNOWN: Interval = (-math.inf, math.inf)
"""The values of an op that declares no range; told from ``REALS`` by its identity."""
PROMISED: Interval = (math.nan, math.nan)
"""Away from every pole: every comparison with NaN is false, also after more arithmetic."""
POSITIVES: Interval = (ABOVE_ZERO, math.inf)
NONNEGATIVES: Interval = (0.0, math.inf)
BETWEEN_0_AND_1: Interval = (ABOVE_ZERO, BELOW_ONE)


def within(low: float, high: float) -> RangeOf:
    """Return the rule of an op whose values lie between two numbers, wherever its inputs lie."""
    return lambda y, *inputs: (low, high)


def monotone(low: float = -math.inf, high: float = math.inf) -> RangeOf:
    """Return the rule of an op of one input that only rises or only falls, with values between two numbers."""

    def range_of(y: Any, x: Interval) -> Interval:
        ends = [y.op.forward(np.asarray(end, np.float64), **y.attrs) for end in x]
        if np.any(np.isnan(x[0])):
            return PROMISED
        unknown = np.isnan(ends[0]) | np.isnan(ends[1])  # an end lies outside the domain
        least, most = np.minimum(*ends), np.maximum(*ends)
        return np.where(unknown, low, np.clip(least, low, high)), np.where(unknown, high, np.clip(most, low, high))

    return range_of


def rule(range_of: Callable[..., Interval], together: int | None = None) -> RangeOf:
    """Return the rule; ``together`` marks values that are 0 only where several nonnegative parts are 0 together.

    If more than ``together`` independent random numbers vary these parts, that hardly ever happens, and nothing leaps.
    """
    if together is not None:
        range_of.together = lambda y: (together, y)  # type: ignore[attr-defined]
    return range_of


def hull(y: Any, *inputs: Interval) -> Interval:
    """The elements of the inputs, or averages of them."""
    lows, highs = [np.min(x[0]) for x in inputs if np.size(x[0])], [np.max(x[1]) for x in inputs if np.size(x[1])]
    return (np.min(lows), np.max(highs)) if lows else (0.0, 0.0)


def rising(y: Any, *inputs: Interval) -> Interval:
    """Values of an op that rises in every input."""
    lows, highs = zip(*inputs, strict=True)
    return y.op.forward(*lows), y.op.forward(*highs)


def moved(y: Any, x: Interval, *indices: Interval) -> Interval:
    """The elements of the first input, in another shape or order."""
    if indices or (np.ndim(x[0]) == 0 and np.ndim(x[1]) == 0):
        return hull(y, x)
    low, high = (y.op.forward(np.broadcast_to(end, y.inputs[0].shape), **y.attrs) for end in x)
    return low, high


def _total(y: Any, x: Interval) -> Interval:
    (low, high), count = hull(y, x), y.inputs[0].value.size // max(y.value.size, 1)
    return low * count if count else 0.0, high * count if count else 0.0


def _sums_of_products(y: Any, a: Interval, b: Interval) -> Interval:
    low = product(hull(y, a), hull(y, b))[0]
    return UNKNOWN if low < 0 else (low, math.inf)


def of_one_sign(y: Any, x: Interval) -> Interval:
    """Products of the elements, and sums of some of them: of the sign that all have, if they have one."""
    low = hull(y, x)[0]
    if np.isnan(low):
        return PROMISED
    return POSITIVES if low > 0 else NONNEGATIVES if low == 0 else REALS


def product(a: Interval, b: Interval) -> Interval:
    """Return where a product lies; one of numbers that are not 0 does not become 0 by underflow."""
    ends = [np.where(np.equal(s, 0) | np.equal(t, 0), 0.0, np.multiply(s, t)) for s in a for t in b]
    low, high = functools.reduce(np.minimum, ends), functools.reduce(np.maximum, ends)
    apart = ~(_contains_zero(a) | _contains_zero(b))
    return np.where(apart & (low == 0), ABOVE_ZERO, low), np.where(apart & (high == 0), -ABOVE_ZERO, high)


def magnitudes(y: Any, x: Interval) -> Interval:
    """``|x|``."""
    return np.maximum(np.maximum(x[0], np.negative(x[1])), 0.0), np.maximum(np.abs(x[0]), np.abs(x[1]))


def inverse(y: Any, x: Interval) -> Interval:
    """``1 / x``."""
    low, high = (np.asarray(end, np.float64) for end in x)
    least = np.where(high == 0, -math.inf, np.where(high == math.inf, ABOVE_ZERO, 1 / high))
    most = np.where(low == 0, math.inf, np.where(low == -math.inf, -ABOVE_ZERO, 1 / low))
    crosses = _crosses_zero(x)
    return np.where(crosses, -math.inf, least), np.where(crosses, math.inf, most)


def powers(y: Any, x: Interval, exponent: Interval) -> Interval:
    """``x ** p``: for one known exponent as ``|x|``, ``1 / x`` and rising functions; of positive numbers positive."""
    if np.any(np.isnan(x[0])) or np.any(np.isnan(exponent[0])):
        return PROMISED
    if np.any(np.less(x[0], 0)):
        if not np.array_equal(*exponent) or np.any(np.mod(exponent[0], 1)):
            return NONNEGATIVES if np.array_equal(*exponent) else REALS  # else nan, which is seen
        even = np.equal(np.mod(exponent[0], 2), 0)
        if not np.all(even):
            return REALS
        x = magnitudes(y, x)
    ends = [np.power(np.asarray(s, np.float64), t) for s in x for t in exponent]
    low, high = functools.reduce(np.fmin, ends), functools.reduce(np.fmax, ends)
    return np.where((low == 0) & np.greater(x[0], 0), ABOVE_ZERO, low), high


def placed(y: Any, x: Interval, *indices: Interval) -> Interval:
    """Zeros, and sums of elements."""
    low, high = hull(y, x)
    return 0.0 if low >= 0 else -math.inf, 0.0 if high <= 0 else math.inf


def chosen(y: Any, condition: Interval, a: Interval, b: Interval) -> Interval:
    """One of two; ``where(x < low, low, x)`` is not below low, nor ``where(x > high, high, x)`` above."""
    if condition is PROMISED:
        return PROMISED
    test: Any = next(iter(getattr(y.inputs[0], "inputs", ())), None)
    if getattr(test, "op", None) is not None and test.op.declared.range is ordered:
        sides = test.inputs
        if sides[0] is y.inputs[2] and sides[1] is y.inputs[1]:
            return np.maximum(a[0], b[0]), np.maximum(a[1], b[1])
        if sides[1] is y.inputs[2] and sides[0] is y.inputs[1]:
            return np.minimum(a[0], b[0]), np.minimum(a[1], b[1])
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


of_first = rule(lambda y, x, *others: x)
of_draw = rule(lambda y, x: REALS if np.any(np.isnan(x[0])) else x)  # whatever formulas the transform has
promised = rule(lambda y, *inputs: PROMISED)  # a condition between formulas that agree where they meet
in_unit = within(*BETWEEN_0_AND_1)
ordered = within(0.0, 1.0)  # whether a < b or a <= b
total = rule(_total, together=1)
sums = rule(lambda y, a, b: rising(y, a, b), together=1)
averages = rule(lambda y, x: hull(y, x), together=1)  # the mean or the largest of some elements
least = rule(lambda y, x: hull(y, x))
lengths = rule(within(*NONNEGATIVES), together=1)  # of vectors
spreads = rule(within(*NONNEGATIVES), together=2)  # standard deviations and variances: 0 where all elements are equal
distances = rule(lambda y, a, b: rising(y, magnitudes(y, a), magnitudes(y, b)), together=1)  # sqrt(a^2 + b^2)
log_total = rule(lambda y, x: (hull(y, x)[0], math.inf))
squares = rule(lambda y, x: product(magnitudes(y, x), magnitudes(y, x)))
products = rule(lambda y, a, b: squares(y, a) if y.inputs[0] is y.inputs[1] else product(a, b))
quotients = rule(lambda y, a, b: product(a, inverse(y, b)))
sums_of_products = rule(_sums_of_products, together=1)


def differences(y: Any, a: Interval, b: Interval) -> Interval:
    """``a - b``, which is a spread if it is the largest element of an array, or the mean, less its smallest one."""
    return NONNEGATIVES if _is_spread(y) else (a[0] - b[1], a[1] - b[0])


differences.together = lambda y: (2, y.inputs[0]) if _is_spread(y) else (1, y)  # type: ignore[attr-defined]


def _is_spread(y: Any) -> bool:
    a, b = y.inputs
    rules = [getattr(getattr(getattr(x, "op", None), "declared", None), "range", None) for x in (a, b)]
    return rules == [averages, least] and a.inputs[0] is b.inputs[0] and a.attrs == b.attrs


def _contains_zero(x: Interval) -> Any:
    return np.less_equal(x[0], 0) & np.greater_equal(x[1], 0)


def _crosses_zero(x: Interval) -> Any:
    return np.less(x[0], 0) & np.greater(x[1], 0)


def range_of_support(support: Any) -> Interval:
    """Return the interval of a support. The ends of an open one are the next floats."""
    low, high = (to_numpy(value_of(end)).astype(np.float64) for end in support.bounds)
    if support.event_ndim:
        return np.where(low == 0, ABOVE_ZERO, low).min(), high.max()
    return (
        np.where(support.contains(low), low, np.nextafter(low, math.inf)).min(),
        np.where(support.contains(high), high, np.nextafter(high, -math.inf)).max(),
    )


# ------------------------------------------------------------------------------------------------------------- poles


def leaps_at_zero(y: Any, dependent: bool, a: Interval, b: Interval) -> bool:
    """``a / b``, where b changes its sign and a is not 0, or where both reach 0 together, as in ``x / |x|``."""
    if _is_smooth_at_zero(*y.inputs):
        return False
    nothing = np.equal(a[0], 0) & np.equal(a[1], 0)
    met = _contains_zero(a) & _contains_zero(b) if dependent else False
    return bool(np.any(~nothing & (_crosses_zero(b) | met)))


def _is_smooth_at_zero(a: Any, b: Any) -> bool:
    """Return whether a is a smooth function of b that is 0 where b is, as in ``sin(x) / x``: then nothing leaps."""
    op = getattr(a, "op", None)
    if op is None or not op.elementwise or len(a.inputs) != 1 or a.inputs[0] is not b:
        return False
    smooth = op.declared.smoothness == ("smooth",) and op.declared.pole is None
    return bool(smooth and op.forward(np.zeros(()), **a.attrs) == 0)


def leaps_at_reciprocal(y: Any, dependent: bool, x: Interval) -> bool:
    """``1 / x``, where x changes its sign."""
    return bool(np.any(_crosses_zero(x)))


def leaps_at_negative_power(y: Any, dependent: bool, x: Interval, p: Interval) -> bool:
    """``x ** p`` for a negative odd p, where x changes its sign. (Even powers do not leap, broken ones are nan.)"""
    odd = np.equal(np.mod(p[0], 2), 1) | np.not_equal(*p)
    return bool(np.any(_crosses_zero(x) & np.less(p[0], 0) & odd))


def leaps_at_whole_numbers(y: Any, dependent: bool, *inputs: Interval) -> bool:
    """The gamma function and its derivatives, at 0, -1, -2, ..."""
    low, high = inputs[-1]
    first = np.floor(low) + 1  # the first whole number inside
    return bool(np.any(np.less_equal(first, 0) & np.less(first, high)))


def leaps_at_right_angles(y: Any, dependent: bool, x: Interval) -> bool:
    """``tan``, at the odd multiples of pi / 2."""
    return bool(np.any(np.ceil(np.divide(x[1], math.pi) - 0.5) > np.floor(np.divide(x[0], math.pi) + 0.5)))


def leaps_where_singular(y: Any, dependent: bool, x: Interval, *others: Interval) -> bool:
    """The inverse of a matrix that can become singular.

    It cannot where it is a number of one sign, or positive definite or triangular as it stands, with a diagonal that
    is positive or of which nothing is known.
    """
    value = np.asarray(value_of(y.inputs[0]))
    if value.shape[-1] <= 1 or not value.size:
        return value.size > 0 and leaps_at_reciprocal(y, dependent, x)
    transposed, diagonal = np.swapaxes(value, -1, -2), np.diagonal(value, axis1=-2, axis2=-1)
    if x is not UNKNOWN:
        least = np.diagonal(np.broadcast_to(x[0], value.shape), axis1=-2, axis2=-1)
        most = np.diagonal(np.broadcast_to(x[1], value.shape), axis1=-2, axis2=-1)
        if np.any((least <= 0) & (most >= 0)):
            return True
    if np.array_equal(np.tril(value), value) or np.array_equal(np.triu(value), value):
        return bool(np.any(diagonal == 0))
    symmetric = np.allclose(value, transposed, rtol=1e-6, atol=1e-6 * np.max(np.abs(value)))
    return not (symmetric and bool(np.all(np.linalg.eigvalsh(value) > 0)))
