"""Trigonometric and hyperbolic functions and their inverses, element by element."""

from __future__ import annotations

import math

import numpy as np

from ..core import Value
from ..domains import NONZERO, Domain, greater_than
from .declare import PIECEWISE, example
from .elementwise import divide_or_zero, hypot, reciprocal, sigmoid, sqrt
from .ranges import BELOW_ONE, leaps_at_right_angles, monotone, within
from .reals import real, unary

INSIDE_ONE = Domain(
    "between -1 and 1, exclusive", lambda x: abs(x) < 1, lambda rng, shape: rng.uniform(-0.9, 0.9, shape)
)
_NOT_A_POLE = Domain(
    "real, no odd multiple of pi / 2", lambda x: np.isfinite(x), lambda rng, shape: rng.uniform(-1.2, 1.2, shape)
)
_RIGHT_ANGLE = math.pi / 2

sin = unary("sin(0.0) = 0.0", "Sine of an angle in radians. Derivative cos x.")(
    lambda g, y, x: g * cos(x), range=within(-1.0, 1.0)
)
cos = unary("cos(0.0) = 1.0", "Cosine of an angle in radians. Derivative -sin x.")(
    lambda g, y, x: -g * sin(x), range=within(-1.0, 1.0)
)
tanh = unary("tanh(0.0) = 0.0", "Hyperbolic tangent. Derivative 1 - tanh(x)^2 = 4 sigmoid(2 x) sigmoid(-2 x).")(
    lambda g, y, x: g * (4 * sigmoid(2 * x) * sigmoid(-2 * x)), range=monotone(-BELOW_ONE, BELOW_ONE)
)
tan = unary("tan(0.0) = 0.0", "Tangent of an angle in radians. Derivative 1 + tan(x)^2.")(
    lambda g, y, x: g * (1 + y * y), domain=_NOT_A_POLE, pole=(0, leaps_at_right_angles)
)
sinh = unary("sinh(0.0) = 0.0", "Hyperbolic sine. Derivative cosh x.")(lambda g, y, x: g * cosh(x), range=monotone())
cosh = unary("cosh(0.0) = 1.0", "Hyperbolic cosine. Derivative sinh x.")(
    lambda g, y, x: g * sinh(x), range=within(1.0, math.inf)
)
asin = unary("asin(0.0) = 0.0", "Inverse sine, for -1 <= x <= 1. Derivative 1 / sqrt(1 - x^2), infinite at -1 and 1.")(
    lambda g, y, x: g / sqrt((1 - x) * (1 + x)), domain=INSIDE_ONE, range=monotone(-_RIGHT_ANGLE, _RIGHT_ANGLE)
)
acos = unary(
    "acos(1.0) = 0.0", "Inverse cosine, for -1 <= x <= 1. Derivative -1 / sqrt(1 - x^2), infinite at -1 and 1."
)(lambda g, y, x: -g / sqrt((1 - x) * (1 + x)), domain=INSIDE_ONE, range=monotone(0.0, math.pi))
atan = unary("atan(0.0) = 0.0", "Inverse tangent. Derivative 1 / (1 + x^2).")(
    lambda g, y, x: g * reciprocal(hypot(1.0, x)) / hypot(1.0, x), range=monotone(-_RIGHT_ANGLE, _RIGHT_ANGLE)
)
asinh = unary("asinh(0.0) = 0.0", "Inverse hyperbolic sine. Derivative 1 / sqrt(1 + x^2).")(
    lambda g, y, x: g / hypot(1.0, x), range=monotone()
)
acosh = unary(
    "acosh(1.0) = 0.0", "Inverse hyperbolic cosine, for x >= 1. Derivative 1 / sqrt(x^2 - 1), infinite at 1."
)(lambda g, y, x: g / (sqrt(x - 1) * sqrt(x + 1)), domain=greater_than(1.0), range=monotone(0.0))
atanh = unary("atanh(0.0) = 0.0", "Inverse hyperbolic tangent, for -1 < x < 1. Derivative 1 / (1 - x^2).")(
    lambda g, y, x: g / ((1 - x) * (1 + x)), domain=INSIDE_ONE, range=monotone()
)


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
