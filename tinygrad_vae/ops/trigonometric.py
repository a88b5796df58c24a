"""Trigonometric and hyperbolic functions and their inverses, element by element."""

from __future__ import annotations

import math

import numpy as np

from ..core import Value
from ..domains import NONZERO, Domain, greater_than
from .declare import PIECEWISE, example
from .elementwise import divide_or_zero, hypot, reciprocal, sigmoid, sqrt
from .ranges import BELOW_ONE, leaps_at_right_angles, monotone, within
from .reals import real

INSIDE_ONE = Domain(
    "between -1 and 1, exclusive", lambda x: abs(x) < 1, lambda rng, shape: rng.uniform(-0.9, 0.9, shape)
)
_NOT_A_POLE = Domain(
    "real, no odd multiple of pi / 2", lambda x: np.isfinite(x), lambda rng, shape: rng.uniform(-1.2, 1.2, shape)
)
_RIGHT_ANGLE = math.pi / 2


@real(lambda g, y, x: g * cos(x), range=within(-1.0, 1.0))
@example("sin(0.0) = 0.0")
def sin(x: Value, /) -> Value:
    """Sine of an angle in radians. Derivative cos x."""
    return np.sin(x)


@real(lambda g, y, x: -g * sin(x), range=within(-1.0, 1.0))
@example("cos(0.0) = 1.0")
def cos(x: Value, /) -> Value:
    """Cosine of an angle in radians. Derivative -sin x."""
    return np.cos(x)


@real(lambda g, y, x: g * (4 * sigmoid(2 * x) * sigmoid(-2 * x)), range=monotone(-BELOW_ONE, BELOW_ONE))
@example("tanh(0.0) = 0.0")
def tanh(x: Value, /) -> Value:
    """Hyperbolic tangent. Derivative 1 - tanh(x)^2 = 4 sigmoid(2 x) sigmoid(-2 x)."""
    return np.tanh(x)


@real(lambda g, y, x: g * (1 + y * y), domain=_NOT_A_POLE, pole=(0, leaps_at_right_angles))
@example("tan(0.0) = 0.0")
def tan(x: Value, /) -> Value:
    """Tangent of an angle in radians. Derivative 1 + tan(x)^2."""
    return np.tan(x)


@real(lambda g, y, x: g * cosh(x), range=monotone())
@example("sinh(0.0) = 0.0")
def sinh(x: Value, /) -> Value:
    """Hyperbolic sine. Derivative cosh x."""
    return np.sinh(x)


@real(lambda g, y, x: g * sinh(x), range=within(1.0, math.inf))
@example("cosh(0.0) = 1.0")
def cosh(x: Value, /) -> Value:
    """Hyperbolic cosine. Derivative sinh x."""
    return np.cosh(x)


@real(lambda g, y, x: g / sqrt((1 - x) * (1 + x)), domain=INSIDE_ONE, range=monotone(-_RIGHT_ANGLE, _RIGHT_ANGLE))
@example("asin(0.0) = 0.0")
def asin(x: Value, /) -> Value:
    """Inverse sine, for -1 <= x <= 1. Derivative 1 / sqrt(1 - x^2), infinite at -1 and 1."""
    return np.arcsin(x)


@real(lambda g, y, x: -g / sqrt((1 - x) * (1 + x)), domain=INSIDE_ONE, range=monotone(0.0, math.pi))
@example("acos(1.0) = 0.0")
def acos(x: Value, /) -> Value:
    """Inverse cosine, for -1 <= x <= 1. Derivative -1 / sqrt(1 - x^2), infinite at -1 and 1."""
    return np.arccos(x)


@real(lambda g, y, x: g * reciprocal(hypot(1.0, x)) / hypot(1.0, x), range=monotone(-_RIGHT_ANGLE, _RIGHT_ANGLE))
@example("atan(0.0) = 0.0")
def atan(x: Value, /) -> Value:
    """Inverse tangent. Derivative 1 / (1 + x^2)."""
    return np.arctan(x)


@real(lambda g, y, x: g / hypot(1.0, x), range=monotone())
@example("asinh(0.0) = 0.0")
def asinh(x: Value, /) -> Value:
    """Inverse hyperbolic sine. Derivative 1 / sqrt(1 + x^2)."""
    return np.arcsinh(x)


@real(lambda g, y, x: g / (sqrt(x - 1) * sqrt(x + 1)), domain=greater_than(1.0), range=monotone(0.0))
@example("acosh(1.0) = 0.0")
def acosh(x: Value, /) -> Value:
    """Inverse hyperbolic cosine, for x >= 1. Derivative 1 / sqrt(x^2 - 1), infinite at 1."""
    return np.arccosh(x)


@real(lambda g, y, x: g / ((1 - x) * (1 + x)), domain=INSIDE_ONE, range=monotone())
@example("atanh(0.0) = 0.0")
def atanh(x: Value, /) -> Value:
    """Inverse hyperbolic tangent, for -1 < x < 1. Derivative 1 / (1 - x^2)."""
    return np.arctanh(x)


@real(
    lambda g, z, y, x: g * divide_or_zero(divide_or_zero(x, hypot(y, x)), hypot(y, x)),
    lambda g, z, y, x: -g * divide_or_zero(divide_or_zero(y, hypot(y, x)), hypot(y, x)),
    smoothness=PIECEWISE,
    domain=NONZERO,
    range=within(-math.pi, math.pi),
)
@example("atan2(0.0, 1.0) = 0.0")
def atan2(y: Value, x: Value, /) -> Value:
    """Angle of the point (x, y), from -pi to pi. Derivatives x / (x^2 + y^2) and -y / (x^2 + y^2), 0 at the origin.

    It leaps from pi to -pi where y changes its sign below x = 0, so it is no path for a random value.
    """
    return np.arctan2(y, x)
