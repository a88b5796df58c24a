"""Ops that work element by element and broadcast: arithmetic, powers, exponentials and logarithms."""

from __future__ import annotations

import math

import numpy as np

from .. import core
from ..core import Value
from ..domains import ABOVE_MINUS_ONE, NONZERO, POSITIVE
from . import ranges
from .choices import stop_gradient, surrogate, where
from .declare import JUMP, KINK, declare, elementwise
from .jumps import equal, floor_divide, isinf, logical_and, logical_xor, remainder_value, sign, signbit
from .reals import real

add = declare(
    core.add,
    doc="""``x + y``. Derivatives 1 and 1.

    >>> float(tg.add(1.0, 2.0))
    3.0
    """,
    linear=True,
    range=ranges.sums,
)


@elementwise(
    lambda g, z, x, y: g,
    lambda g, z, x, y: -g,
    linear=True,
    range=ranges.differences,
)
def subtract(x: Value, y: Value, /) -> Value:
    """``x - y``. Derivatives 1 and -1.

    >>> float(subtract(1.0, 2.0))
    -1.0
    """
    return np.subtract(x, y)


@elementwise(lambda g, z, x, y: g * y, lambda g, z, x, y: g * x, linear="each", range=ranges.products)
def multiply(x: Value, y: Value, /) -> Value:
    """``x * y``. Derivatives y and x.

    >>> float(multiply(3.0, 2.0))
    6.0
    """
    return np.multiply(x, y)


@elementwise(
    lambda g, z, x, y: g / y,
    lambda g, z, x, y: -g * z / y,
    domain=(NONZERO, NONZERO),
    linear=((0,),),
    range=ranges.quotients,
    pole=(1, ranges.leaps_at_zero),
)
def divide(x: Value, y: Value, /) -> Value:
    """``x / y``. Derivatives 1 / y and -x / y^2.

    >>> float(divide(3.0, 2.0))
    1.5
    """
    return np.divide(x, y)


def _nan_at_zero(y: Value) -> Value:
    """Return y with NaN for 0: what a convention in place of a derivative is divided by in its own derivative."""
    return where(stop_gradient(equal(y, 0)), math.nan, y)


@real(
    lambda g, z, x, y: g / _nan_at_zero(y),
    lambda g, z, x, y: -g * z / _nan_at_zero(y),
    domain=(NONZERO, NONZERO),
    linear=((0,),),
    range=ranges.quotients,
    pole=(1, ranges.leaps_at_zero),
)
def divide_or_zero(x: Value, y: Value, /) -> Value:
    """``x / y``, and 0 where y is 0: the convention for slopes where there is none. Its derivative there is NaN.

    >>> divide_or_zero(np.ones(2), np.array([4.0, 0.0]))
    array([0.25, 0.  ])
    """
    vanishes = np.equal(y, 0)
    return np.where(vanishes, 0.0, x / np.where(vanishes, 1.0, y))


@real(lambda g, y, x: -g * y * y, domain=NONZERO, range=ranges.inverse, pole=(0, ranges.leaps_at_reciprocal))
def reciprocal(x: Value, /) -> Value:
    """``1 / x``. Derivative -1 / x^2.

    >>> float(reciprocal(4.0))
    0.25
    """
    return np.reciprocal(x)


def remainder(x: Value, y: Value, /) -> Value:
    """``x - floor(x / y) y``, with the sign of y. Derivatives 1 and -floor(x / y).

    The value jumps where x is a multiple of y, and the graph says so: it holds a ``floor_divide``.

    >>> float(remainder(-1.0, 3.0))
    2.0
    """
    return surrogate(remainder_value(x, y), x - floor_divide(x, y) * y)


def _less_one(exponent: Value) -> Value:
    """Return ``exponent - 1``, and 0 for the exponent 0: the derivative of x^0 is 0 also at x = 0."""
    if isinstance(exponent, (int, float)):
        return exponent - 1 if exponent else 0
    return where(stop_gradient(equal(exponent, 0)), 0.0, exponent - 1)


@elementwise(
    lambda g, z, x, y: g * y * x ** _less_one(y),
    lambda g, z, x, y: g * z * log(where(stop_gradient(equal(x, 0)), 1.0, x)),
    domain=(POSITIVE, POSITIVE),
    range=ranges.powers,
    pole=(0, ranges.leaps_at_negative_power),
)
def pow(x: Value, y: Value, /) -> Value:
    """``x ** y``. Derivatives y x^(y-1), and x^y log x (0 at x = 0).

    >>> float(pow(3.0, 2.0))
    9.0
    """
    return np.power(x, y)


@elementwise(lambda g, y, x: -g, linear=True, range=ranges.monotone())
def negative(x: Value, /) -> Value:
    """``-x``. Derivative -1.

    >>> float(negative(2.0))
    -2.0
    """
    return np.negative(x)


@elementwise(lambda g, y, x: g, linear=True, range=ranges.of_first)
def positive(x: Value, /) -> Value:
    """``+x``. Derivative 1.

    >>> float(positive(2.0))
    2.0
    """
    return np.positive(x)


@elementwise(lambda g, y, x: where(stop_gradient(equal(x, 0)), math.nan, 0.0 * g), smoothness=KINK, domain=NONZERO)
def undefined_slope(x: Value, /) -> Value:
    """Zeros, with the derivative NaN where x is 0 and 0 elsewhere: added to a slope that is a convention there.

    >>> float(undefined_slope(0.0))
    0.0
    """
    return np.zeros_like(x)


@elementwise(lambda g, y, x: g * (sign(x) + undefined_slope(x)), smoothness=KINK, range=ranges.magnitudes)
def abs(x: Value, /) -> Value:
    """``|x|``. Derivative sign(x), and 0 at the kink, where the second one is NaN.

    >>> float(abs(-2.0))
    2.0
    """
    return np.abs(x)


@real(
    lambda g, z, x, y: where(logical_xor(signbit(x), signbit(y)), -g, g),
    None,
    smoothness=(KINK, JUMP),
    domain=(NONZERO, NONZERO),
)
def copysign(x: Value, y: Value, /) -> Value:
    """``|x|`` with the sign of y. Derivative 1 in x where the signs agree, -1 where not; a jump in y.

    >>> float(copysign(2.0, -0.5))
    -2.0
    """
    return np.copysign(x, y)


@real(
    lambda g, z, x, y: g * divide_or_zero(x, z),
    lambda g, z, x, y: g * divide_or_zero(y, z),
    smoothness=KINK,
    domain=NONZERO,
    range=ranges.distances,
)
def hypot(x: Value, y: Value, /) -> Value:
    """``sqrt(x^2 + y^2)``, without overflow. Derivatives x / hypot and y / hypot, 0 at the origin.

    >>> float(hypot(3.0, 4.0))
    5.0
    """
    return np.hypot(x, y)


@elementwise(lambda g, y, x: 2 * g * x, range=ranges.squares)
def square(x: Value, /) -> Value:
    """``x * x``. Derivative 2 x.

    >>> float(square(3.0))
    9.0
    """
    return np.square(x)


@real(lambda g, y, x: 0.5 * g / y, domain=POSITIVE, range=ranges.monotone(0.0))
def sqrt(x: Value, /) -> Value:
    """``x ** (1/2)`` for x >= 0. Derivative 1 / (2 sqrt x), infinite at 0.

    >>> float(sqrt(9.0))
    3.0
    """
    return np.sqrt(x)


@real(lambda g, y, x: g * y, range=ranges.monotone(ranges.ABOVE_ZERO))
def exp(x: Value, /) -> Value:
    """``e ** x``. Derivative e^x.

    >>> float(exp(0.0))
    1.0
    """
    return np.exp(x)


@real(lambda g, y, x: g * exp(x), range=ranges.monotone(-ranges.BELOW_ONE))
def expm1(x: Value, /) -> Value:
    """``e ** x - 1``, accurate near 0. Derivative e^x.

    >>> float(expm1(1e-20))
    1e-20
    """
    return np.expm1(x)


@real(lambda g, y, x: g / x, domain=POSITIVE, range=ranges.monotone())
def log(x: Value, /) -> Value:
    """Natural logarithm, for x > 0. Derivative 1 / x.

    >>> float(log(1.0))
    0.0
    """
    return np.log(x)


@real(lambda g, y, x: g / (x * math.log(2)), domain=POSITIVE, range=ranges.monotone())
def log2(x: Value, /) -> Value:
    """Logarithm to the base 2, for x > 0. Derivative 1 / (x log 2).

    >>> float(log2(8.0))
    3.0
    """
    return np.log2(x)


@real(lambda g, y, x: g / (x * math.log(10)), domain=POSITIVE, range=ranges.monotone())
def log10(x: Value, /) -> Value:
    """Logarithm to the base 10, for x > 0. Derivative 1 / (x log 10).

    >>> float(log10(100.0))
    2.0
    """
    return np.log10(x)


def _distance(x: Value, y: Value) -> Value:
    """Return ``x - y``, and 0 where both are the same infinity."""
    same = stop_gradient(logical_and(equal(x, y), isinf(x)))
    return where(same, 0.0, x) - where(same, 0.0, y)


@real(
    lambda g, z, x, y: g * sigmoid(_distance(x, y)),
    lambda g, z, x, y: g * sigmoid(_distance(y, x)),
    range=ranges.log_sums,
)
def logaddexp(x: Value, y: Value, /) -> Value:
    """``log(exp(x) + exp(y))``, without overflow. Derivatives sigmoid(x - y) and sigmoid(y - x).

    >>> float(logaddexp(-np.inf, 2.0))
    2.0
    """
    return np.logaddexp(x, y)


@real(lambda g, y, x: g / (1 + x), domain=ABOVE_MINUS_ONE, range=ranges.monotone())
def log1p(x: Value, /) -> Value:
    """``log(1 + x)``, accurate near 0, for x > -1. Derivative 1 / (1 + x).

    >>> float(log1p(1e-20))
    1e-20
    """
    return np.log1p(x)


@real(lambda g, y, x: g * (y * sigmoid(-x)), range=ranges.monotone(*ranges.BETWEEN_0_AND_1))
def sigmoid(x: Value, /) -> Value:
    """``1 / (1 + exp(-x))``, accurate in both tails. Derivative sigmoid(x) sigmoid(-x).

    With ``t = exp(-abs(x))``, which never overflows, it is t / (1 + t) below 0, and what that leaves of 1 above.

    >>> float(sigmoid(0.0))
    0.5
    """
    tail = np.exp(-np.abs(x))
    return np.abs(np.less(0, x) - tail / (1 + tail))


@real(lambda g, y, x: g * -expm1(-y), range=ranges.monotone(ranges.ABOVE_ZERO))
def softplus(x: Value, /) -> Value:
    """``log(1 + exp(x))``, without overflow. Derivative sigmoid(x), which is 1 - exp(-softplus(x)).

    >>> float(softplus(1000.0))
    1000.0
    """
    return np.log1p(np.exp(-np.abs(x))) + _positive_part(x)


def log_sigmoid(x: Value, /) -> Value:
    """``log(sigmoid(x))``, without overflow: ``-softplus(-x)``. Derivative sigmoid(-x).

    >>> float(log_sigmoid(-1000.0))
    -1000.0
    """
    return -softplus(-x)


@elementwise(lambda g, y, x: g * (x > 0), smoothness=KINK, range=ranges.monotone(0.0))
def relu(x: Value, /) -> Value:
    """``max(x, 0)``. Derivative 1 above 0, and 0 elsewhere, at the kink too.

    >>> float(relu(-1.0))
    0.0
    """
    return _positive_part(x)


def _positive_part(x: Value) -> Value:
    """Return ``max(x, 0)`` of arrays: of floats by ``clip``, which takes a third of the time of ``maximum``."""
    return np.clip(x, 0.0, np.inf) if getattr(x, "dtype", None) in (np.float32, np.float64) else np.maximum(x, 0)


@elementwise(
    lambda g, z, x, y: where(x < y, 0.0, where(x == y, 0.5 * g, g)),
    lambda g, z, x, y: where(y < x, 0.0, where(x == y, 0.5 * g, g)),
    smoothness=KINK,
    range=ranges.largest,
)
def maximum(x: Value, y: Value, /) -> Value:
    """The larger of x and y. The gradient goes to the larger one, half to each where they are equal.

    >>> float(maximum(1.0, 2.0))
    2.0
    """
    return np.maximum(x, y)


@elementwise(
    lambda g, z, x, y: where(y < x, 0.0, where(x == y, 0.5 * g, g)),
    lambda g, z, x, y: where(x < y, 0.0, where(x == y, 0.5 * g, g)),
    smoothness=KINK,
    range=ranges.smallest,
)
def minimum(x: Value, y: Value, /) -> Value:
    """The smaller of x and y. The gradient goes to the smaller one, half to each where they are equal.

    >>> float(minimum(1.0, 2.0))
    1.0
    """
    return np.minimum(x, y)


def clip(x: Value, /, min: Value | None = None, max: Value | None = None) -> Value:
    """``minimum(maximum(x, min), max)``: x kept between two bounds, either of which may be ``None``.

    Derivative 1 inside and 0 outside; at a bound, half goes to x and half to the bound.

    >>> float(clip(5.0, 0.0, 1.0))
    1.0
    """
    if min is not None:
        x = maximum(x, min)
    return x if max is None else minimum(x, max)
