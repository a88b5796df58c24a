"""Ops that work element by element and broadcast: arithmetic, powers, exponentials and logarithms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .. import core
from ..core import Value
from ..domains import ABOVE_MINUS_ONE, NONZERO, POSITIVE, REAL
from . import ranges
from .choices import stop_gradient, where
from .declare import JUMP, KINK, PIECEWISE, declare, elementwise, example
from .jumps import equal, floor_divide, isinf, logical_and, logical_xor, sign, signbit
from .reals import in_place, real, unary

add = declare(core.add, "``x + y``. Derivatives 1 and 1.", "add(1.0, 2.0) = 3.0", linear=True, range=ranges.sums)


@elementwise(lambda g, z, x, y: g, lambda g, z, x, y: -g, linear=True, range=ranges.differences)
@example("subtract(1.0, 2.0) = -1.0")
def subtract(x: Value, y: Value, /) -> Value:
    """``x - y``. Derivatives 1 and -1."""
    return np.subtract(x, y)


@elementwise(lambda g, z, x, y: g * y, lambda g, z, x, y: g * x, linear="each", range=ranges.products)
@example("multiply(3.0, 2.0) = 6.0")
def multiply(x: Value, y: Value, /) -> Value:
    """``x * y``. Derivatives y and x."""
    return np.multiply(x, y)


@elementwise(
    lambda g, z, x, y: g / y,
    lambda g, z, x, y: -g * z / y,
    domain=NONZERO,
    linear=((0,),),
    range=ranges.quotients,
    pole=(1, ranges.leaps_at_zero),
)
@example("divide(3.0, 2.0) = 1.5")
def divide(x: Value, y: Value, /) -> Value:
    """``x / y``. Derivatives 1 / y and -x / y^2."""
    return np.divide(x, y)


def _nan_at_zero(y: Value) -> Value:
    """Return y with NaN for 0, so that a convention in place of a derivative has no derivative itself."""
    return where(stop_gradient(equal(y, 0)), math.nan, y)


@real(
    lambda g, z, x, y: g / _nan_at_zero(y),
    lambda g, z, x, y: -g * z / _nan_at_zero(y),
    domain=NONZERO,
    linear=((0,),),
    range=ranges.quotients,
    pole=(1, ranges.leaps_at_zero),
)
@example("divide_or_zero(np.ones(2), np.array([4.0, 0.0])) = [0.25 0.  ]")
def divide_or_zero(x: Value, y: Value, /) -> Value:
    """``x / y``, and 0 where y is 0, as the slope of a kink. Its derivative there is NaN."""
    vanishes = np.equal(y, 0)
    return np.where(vanishes, 0.0, x / np.where(vanishes, 1.0, y))


# inputs between two multiples, where nothing leaps
_DIVIDEND = replace(REAL, draw=lambda rng, shape: rng.uniform(4.2, 4.8, shape))
_DIVISOR = replace(NONZERO, draw=lambda rng, shape: rng.uniform(1.9, 2.0, shape))


@elementwise(
    lambda g, z, x, y: g,
    lambda g, z, x, y: -g * stop_gradient(floor_divide(x, y)),
    smoothness=PIECEWISE,
    domain=(_DIVIDEND, _DIVISOR),
)
@example("remainder(-1.0, 3.0) = 2.0")
def remainder(x: Value, y: Value, /) -> Value:
    """``x - floor(x / y) y``, with the sign of y. Derivatives 1 and -floor(x / y). It leaps at multiples of y."""
    return np.remainder(x, y)


reciprocal = unary("reciprocal(4.0) = 0.25", "``1 / x``. Derivative -1 / x^2.")(
    lambda g, y, x: -g * y * y, domain=NONZERO, range=ranges.inverse, pole=(0, ranges.leaps_at_reciprocal)
)
negative = unary("negative(2.0) = -2.0", "``-x``. Derivative -1.", elementwise)(
    lambda g, y, x: -g, linear=True, range=ranges.monotone()
)
positive = unary("positive(2.0) = 2.0", "``+x``. Derivative 1.", elementwise)(
    lambda g, y, x: g, linear=True, range=ranges.of_first
)
square = unary("square(3.0) = 9.0", "``x * x``. Derivative 2 x.", elementwise)(
    lambda g, y, x: 2 * g * x, range=ranges.squares
)
sqrt = unary("sqrt(9.0) = 3.0", "``x ** (1/2)`` for x >= 0. Derivative 1 / (2 sqrt x), infinite at 0.")(
    lambda g, y, x: 0.5 * g / y, domain=POSITIVE, range=ranges.monotone(0.0)
)
exp = unary("exp(0.0) = 1.0", "``e ** x``. Derivative e^x.")(
    lambda g, y, x: g * y, range=ranges.monotone(ranges.ABOVE_ZERO)
)
expm1 = unary("expm1(1e-20) = 1e-20", "``e ** x - 1``, accurate near 0. Derivative e^x.")(
    lambda g, y, x: g * exp(x), range=ranges.monotone(-ranges.BELOW_ONE)
)
log = unary("log(1.0) = 0.0", "Natural logarithm, for x > 0. Derivative 1 / x.")(
    lambda g, y, x: g / x, domain=POSITIVE, range=ranges.monotone()
)
log2 = unary("log2(8.0) = 3.0", "Logarithm to the base 2, for x > 0. Derivative 1 / (x log 2).")(
    lambda g, y, x: g / (x * math.log(2)), domain=POSITIVE, range=ranges.monotone()
)
log10 = unary("log10(100.0) = 2.0", "Logarithm to the base 10, for x > 0. Derivative 1 / (x log 10).")(
    lambda g, y, x: g / (x * math.log(10)), domain=POSITIVE, range=ranges.monotone()
)
log1p = unary("log1p(1e-20) = 1e-20", "``log(1 + x)``, accurate near 0, for x > -1. Derivative 1 / (1 + x).")(
    lambda g, y, x: g / (1 + x), domain=ABOVE_MINUS_ONE, range=ranges.monotone()
)


def _less_one(exponent: Value) -> Value:
    """Return ``exponent - 1``, and 0 for the exponent 0: the derivative of x^0 is 0 also at x = 0."""
    if isinstance(exponent, (int, float)):
        return exponent - 1 if exponent else 0
    return where(stop_gradient(equal(exponent, 0)), 0.0, exponent - 1)


@elementwise(
    lambda g, z, x, y: g * y * x ** _less_one(y),
    lambda g, z, x, y: g * z * log(where(stop_gradient(equal(x, 0)), 1.0, x)),
    domain=POSITIVE,
    range=ranges.powers,
    pole=(0, ranges.leaps_at_negative_power),
)
@example("pow(3.0, 2.0) = 9.0")
def pow(x: Value, y: Value, /) -> Value:
    """``x ** y``. Derivatives y x^(y-1), and x^y log x (0 at x = 0)."""
    return np.power(x, y)


@elementwise(lambda g, y, x: where(stop_gradient(equal(x, 0)), math.nan, 0.0 * g), smoothness=KINK, domain=NONZERO)
@example("undefined_slope(0.0) = 0.0")
def undefined_slope(x: Value, /) -> Value:
    """Zeros, with derivative NaN at x = 0 and 0 elsewhere. Added to a slope that is only a convention at x = 0."""
    return np.zeros_like(x)


@elementwise(lambda g, y, x: g * (sign(x) + undefined_slope(x)), smoothness=KINK, range=ranges.magnitudes)
@example("abs(-2.0) = 2.0")
def abs(x: Value, /) -> Value:
    """``|x|``. Derivative sign(x), and 0 at the kink, where the second one is NaN."""
    return np.abs(x)


@real(
    lambda g, z, x, y: where(logical_xor(signbit(x), signbit(y)), -g, g), None, smoothness=(KINK, JUMP), domain=NONZERO
)
@example("copysign(2.0, -0.5) = -2.0")
def copysign(x: Value, y: Value, /) -> Value:
    """``|x|`` with the sign of y. Derivative 1 in x where the signs agree, -1 where not; a jump in y."""
    return np.copysign(x, y)


@real(
    lambda g, z, x, y: g * divide_or_zero(x, z),
    lambda g, z, x, y: g * divide_or_zero(y, z),
    smoothness=KINK,
    domain=NONZERO,
    range=ranges.distances,
)
@example("hypot(3.0, 4.0) = 5.0")
def hypot(x: Value, y: Value, /) -> Value:
    """``sqrt(x^2 + y^2)``, without overflow. Derivatives x / hypot and y / hypot, 0 at the origin."""
    return np.hypot(x, y)


def _distance(x: Value, y: Value) -> Value:
    """Return ``x - y``, and 0 where both are the same infinity."""
    same = stop_gradient(logical_and(equal(x, y), isinf(x)))
    return where(same, 0.0, x) - where(same, 0.0, y)


@real(
    lambda g, z, x, y: g * sigmoid(_distance(x, y)),
    lambda g, z, x, y: g * sigmoid(_distance(y, x)),
    range=ranges.rising,
)
@example("logaddexp(-np.inf, 2.0) = 2.0")
def logaddexp(x: Value, y: Value, /) -> Value:
    """``log(exp(x) + exp(y))``, without overflow. Derivatives sigmoid(x - y) and sigmoid(y - x)."""
    return np.logaddexp(x, y)


@real(lambda g, y, x: g * (y * sigmoid(-x)), range=ranges.monotone(*ranges.BETWEEN_0_AND_1))
@example("sigmoid(0.0) = 0.5")
def sigmoid(x: Value, /) -> Value:
    """``1 / (1 + exp(-x))``, accurate in both tails. Derivative sigmoid(x) sigmoid(-x).

    With ``t = exp(-abs(x))``, which never overflows, it is t / (1 + t) below 0, and 1 minus that above.
    """
    tail = np.abs(x)
    own = in_place(tail)
    tail = np.exp(np.negative(tail, own), own)
    below = np.divide(tail, 1 + tail, own)
    return np.abs(np.subtract(np.less(0, x), below, own), own)


@real(lambda g, y, x: g * -expm1(-y), range=ranges.monotone(ranges.ABOVE_ZERO))
@example("softplus(1000.0) = 1000.0")
def softplus(x: Value, /) -> Value:
    """``log(1 + exp(x))``, without overflow. Derivative sigmoid(x), which is 1 - exp(-softplus(x))."""
    tail = np.abs(x)
    own = in_place(tail)
    return np.add(np.log1p(np.exp(np.negative(tail, own), own), own), _positive_part(x), own)


@example("log_sigmoid(-1000.0) = -1000.0")
def log_sigmoid(x: Value, /) -> Value:
    """``log(sigmoid(x))``, without overflow: ``-softplus(-x)``. Derivative sigmoid(-x)."""
    return -softplus(-x)


@elementwise(lambda g, y, x: g * (x > 0), smoothness=KINK, range=ranges.monotone(0.0))
@example("relu(-1.0) = 0.0")
def relu(x: Value, /) -> Value:
    """``max(x, 0)``. Derivative 1 above 0, and 0 elsewhere, at the kink too."""
    return _positive_part(x)


def _positive_part(x: Value) -> Value:
    """Return ``max(x, 0)`` of arrays: of floats by ``clip``, which takes a third of the time of ``maximum``."""
    return np.clip(x, 0.0, np.inf) if getattr(x, "dtype", None) in (np.float32, np.float64) else np.maximum(x, 0)


def _if_x_is_larger(g: Value, z: Value, x: Value, y: Value) -> Value:
    return where(x < y, 0.0, where(x == y, 0.5 * g, g))


def _if_y_is_larger(g: Value, z: Value, x: Value, y: Value) -> Value:
    return where(y < x, 0.0, where(x == y, 0.5 * g, g))


@elementwise(_if_x_is_larger, _if_y_is_larger, smoothness=KINK, range=ranges.rising)
@example("maximum(1.0, 2.0) = 2.0")
def maximum(x: Value, y: Value, /) -> Value:
    """The larger of x and y. The gradient goes to the larger one, half to each where they are equal."""
    return np.maximum(x, y)


@elementwise(_if_y_is_larger, _if_x_is_larger, smoothness=KINK, range=ranges.rising)
@example("minimum(1.0, 2.0) = 1.0")
def minimum(x: Value, y: Value, /) -> Value:
    """The smaller of x and y. The gradient goes to the smaller one, half to each where they are equal."""
    return np.minimum(x, y)


@example("clip(5.0, 0.0, 1.0) = 1.0")
def clip(x: Value, /, min: Value | None = None, max: Value | None = None) -> Value:
    """``minimum(maximum(x, min), max)``: x kept between two bounds, either of which may be ``None``.

    Derivative 1 inside and 0 outside; at a bound, half goes to x and half to the bound.
    """
    if min is not None:
        x = maximum(x, min)
    return x if max is None else minimum(x, max)
