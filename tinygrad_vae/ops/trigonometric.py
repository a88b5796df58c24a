"""Trigonometric and hyperbolic functions and their inverses, element by element."""

from __future__ import annotations

import math

import numpy as np

from ..core import Value
from ..domains import NONZERO, Domain, greater_than
from . import ranges
from .declare import PIECEWISE
from .elementwise import divide_or_zero, hypot, reciprocal, sigmoid, sqrt
from .reals import real

INSIDE_ONE = Domain(
    "between -1 and 1, exclusive", lambda x: abs(x) < 1, lambda rng, shape: rng.uniform(-0.9, 0.9, shape)
)
_NOT_A_POLE = Domain(
    "real, no odd multiple of pi / 2", lambda x: np.isfinite(x), lambda rng, shape: rng.uniform(-1.2, 1.2, shape)
)


@real(lambda g, y, x: g * cos(x), range=ranges.within(-1.0, 1.0))
def sin(x: Value, /) -> Value:
    """Sine of an angle in radians. Derivative cos x.

    >>> float(sin(0.0))
    0.0
    """
    return np.sin(x)


@real(lambda g, y, x: -g * sin(x), range=ranges.within(-1.0, 1.0))
def cos(x: Value, /) -> Value:
    """Cosine of an angle in radians. Derivative -sin x.

    >>> float(cos(0.0))
    1.0
    """
    return np.cos(x)


@real(
    lambda g, y, x: g * (4 * sigmoid(2 * x) * sigmoid(-2 * x)),
    range=ranges.monotone(-ranges.BELOW_ONE, ranges.BELOW_ONE),
)
def tanh(x: Value, /) -> Value:
    """Hyperbolic tangent. Derivative 1 - tanh(x)^2 = 4 sigmoid(2 x) sigmoid(-2 x).

    >>> float(tanh(0.0))
    0.0
    """
    return np.tanh(x)


@real(lambda g, y, x: g * (1 + y * y), domain=_NOT_A_POLE, pole=(0, ranges.leaps_at_right_angles))
def tan(x: Value, /) -> Value:
    """Tangent of an angle in radians. Derivative 1 + tan(x)^2.

    >>> float(tan(0.0))
    0.0
    """
    return np.tan(x)


@real(lambda g, y, x: g * cosh(x), range=ranges.monotone())
def sinh(x: Value, /) -> Value:
    """Hyperbolic sine. Derivative cosh x.

    >>> float(sinh(0.0))
    0.0
    """
    return np.sinh(x)


@real(lambda g, y, x: g * sinh(x), range=ranges.within(1.0, math.inf))
def cosh(x: Value, /) -> Value:
    """Hyperbolic cosine. Derivative sinh x.

    >>> float(cosh(0.0))
    1.0
    """
    return np.cosh(x)


@real(lambda g, y, x: g / sqrt((1 - x) * (1 + x)), domain=INSIDE_ONE, range=ranges.monotone(-math.pi / 2, math.pi / 2))
def asin(x: Value, /) -> Value:
    """Inverse sine, for -1 <= x <= 1. Derivative 1 / sqrt(1 - x^2), infinite at -1 and 1.

    >>> float(asin(0.0))
    0.0
    """
    return np.arcsin(x)


@real(lambda g, y, x: -g / sqrt((1 - x) * (1 + x)), domain=INSIDE_ONE, range=ranges.monotone(0.0, math.pi))
def acos(x: Value, /) -> Value:
    """Inverse cosine, for -1 <= x <= 1. Derivative -1 / sqrt(1 - x^2), infinite at -1 and 1.

    >>> float(acos(1.0))
    0.0
    """
    return np.arccos(x)


@real(lambda g, y, x: g * reciprocal(hypot(1.0, x)) / hypot(1.0, x), range=ranges.monotone(-math.pi / 2, math.pi / 2))
def atan(x: Value, /) -> Value:
    """Inverse tangent. Derivative 1 / (1 + x^2).

    >>> float(atan(0.0))
    0.0
    """
    return np.arctan(x)


@real(lambda g, y, x: g / hypot(1.0, x), range=ranges.monotone())
def asinh(x: Value, /) -> Value:
    """Inverse hyperbolic sine. Derivative 1 / sqrt(1 + x^2).

    >>> float(asinh(0.0))
    0.0
    """
    return np.arcsinh(x)


@real(lambda g, y, x: g / (sqrt(x - 1) * sqrt(x + 1)), domain=greater_than(1.0), range=ranges.monotone(0.0))
def acosh(x: Value, /) -> Value:
    """Inverse hyperbolic cosine, for x >= 1. Derivative 1 / sqrt(x^2 - 1), infinite at 1.

    >>> float(acosh(1.0))
    0.0
    """
    return np.arccosh(x)


@real(lambda g, y, x: g / ((1 - x) * (1 + x)), domain=INSIDE_ONE, range=ranges.monotone())
def atanh(x: Value, /) -> Value:
    """Inverse hyperbolic tangent, for -1 < x < 1. Derivative 1 / (1 - x^2).

    >>> float(atanh(0.0))
    0.0
    """
    return np.arctanh(x)


@real(
    lambda g, z, y, x: g * divide_or_zero(divide_or_zero(x, hypot(y, x)), hypot(y, x)),
    lambda g, z, y, x: -g * divide_or_zero(divide_or_zero(y, hypot(y, x)), hypot(y, x)),
    smoothness=PIECEWISE,
    domain=NONZERO,
    range=ranges.within(-math.pi, math.pi),
)
def atan2(y: Value, x: Value, /) -> Value:
    """Angle of the point (x, y), from -pi to pi. Derivatives x / (x^2 + y^2) and -y / (x^2 + y^2), 0 at the origin.

    It leaps from pi to -pi where y changes its sign below x = 0, so that it is no path for a random value.

    >>> float(atan2(0.0, 1.0))
    0.0
    """
    return np.arctan2(y, x)
