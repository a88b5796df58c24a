"""Trigonometric and hyperbolic functions and their inverses, element by element."""

from __future__ import annotations

import numpy as np

from ..core import Value
from ..domains import NONZERO, Domain, greater_than
from .declare import PIECEWISE, elementwise
from .elementwise import divide_or_zero, hypot, reciprocal, sigmoid, sqrt
from .reals import on_reals

INSIDE_ONE = Domain(
    "between -1 and 1, exclusive", lambda x: abs(x) < 1, lambda rng, shape: rng.uniform(-0.9, 0.9, shape)
)
_NOT_A_POLE = Domain(
    "real, no odd multiple of pi / 2", lambda x: np.isfinite(x), lambda rng, shape: rng.uniform(-1.2, 1.2, shape)
)


@elementwise(lambda g, y, x: g * cos(x))
@on_reals
def sin(x: Value, /) -> Value:
    """Sine of an angle in radians. Derivative cos x.

    >>> float(sin(0.0))
    0.0
    """
    return np.sin(x)


@elementwise(lambda g, y, x: -g * sin(x))
@on_reals
def cos(x: Value, /) -> Value:
    """Cosine of an angle in radians. Derivative -sin x.

    >>> float(cos(0.0))
    1.0
    """
    return np.cos(x)


@elementwise(lambda g, y, x: g * (4 * sigmoid(2 * x) * sigmoid(-2 * x)))
@on_reals
def tanh(x: Value, /) -> Value:
    """Hyperbolic tangent. Derivative 1 - tanh(x)^2 = 4 sigmoid(2 x) sigmoid(-2 x).

    >>> float(tanh(0.0))
    0.0
    """
    return np.tanh(x)


@elementwise(lambda g, y, x: g * (1 + y * y), domain=_NOT_A_POLE)
@on_reals
def tan(x: Value, /) -> Value:
    """Tangent of an angle in radians. Derivative 1 + tan(x)^2.

    >>> float(tan(0.0))
    0.0
    """
    return np.tan(x)


@elementwise(lambda g, y, x: g * cosh(x))
@on_reals
def sinh(x: Value, /) -> Value:
    """Hyperbolic sine. Derivative cosh x.

    >>> float(sinh(0.0))
    0.0
    """
    return np.sinh(x)


@elementwise(lambda g, y, x: g * sinh(x))
@on_reals
def cosh(x: Value, /) -> Value:
    """Hyperbolic cosine. Derivative sinh x.

    >>> float(cosh(0.0))
    1.0
    """
    return np.cosh(x)


@elementwise(lambda g, y, x: g / sqrt((1 - x) * (1 + x)), domain=INSIDE_ONE)
@on_reals
def asin(x: Value, /) -> Value:
    """Inverse sine, for -1 <= x <= 1. Derivative 1 / sqrt(1 - x^2), infinite at -1 and 1.

    >>> float(asin(0.0))
    0.0
    """
    return np.arcsin(x)


@elementwise(lambda g, y, x: -g / sqrt((1 - x) * (1 + x)), domain=INSIDE_ONE)
@on_reals
def acos(x: Value, /) -> Value:
    """Inverse cosine, for -1 <= x <= 1. Derivative -1 / sqrt(1 - x^2), infinite at -1 and 1.

    >>> float(acos(1.0))
    0.0
    """
    return np.arccos(x)


@elementwise(lambda g, y, x: g * reciprocal(hypot(1.0, x)) / hypot(1.0, x))
@on_reals
def atan(x: Value, /) -> Value:
    """Inverse tangent. Derivative 1 / (1 + x^2).

    >>> float(atan(0.0))
    0.0
    """
    return np.arctan(x)


@elementwise(lambda g, y, x: g / hypot(1.0, x))
@on_reals
def asinh(x: Value, /) -> Value:
    """Inverse hyperbolic sine. Derivative 1 / sqrt(1 + x^2).

    >>> float(asinh(0.0))
    0.0
    """
    return np.arcsinh(x)


@elementwise(lambda g, y, x: g / (sqrt(x - 1) * sqrt(x + 1)), domain=greater_than(1.0))
@on_reals
def acosh(x: Value, /) -> Value:
    """Inverse hyperbolic cosine, for x >= 1. Derivative 1 / sqrt(x^2 - 1), infinite at 1.

    >>> float(acosh(1.0))
    0.0
    """
    return np.arccosh(x)


@elementwise(lambda g, y, x: g / ((1 - x) * (1 + x)), domain=INSIDE_ONE)
@on_reals
def atanh(x: Value, /) -> Value:
    """Inverse hyperbolic tangent, for -1 < x < 1. Derivative 1 / (1 - x^2).

    >>> float(atanh(0.0))
    0.0
    """
    return np.arctanh(x)


@elementwise(
    lambda g, z, y, x: g * divide_or_zero(divide_or_zero(x, hypot(y, x)), hypot(y, x)),
    lambda g, z, y, x: -g * divide_or_zero(divide_or_zero(y, hypot(y, x)), hypot(y, x)),
    smoothness=PIECEWISE,
    domain=NONZERO,
)
@on_reals
def atan2(y: Value, x: Value, /) -> Value:
    """Angle of the point (x, y), from -pi to pi. Derivatives x / (x^2 + y^2) and -y / (x^2 + y^2), 0 at the origin.

    It leaps from pi to -pi where y changes its sign below x = 0, so that it is no path for a random value.

    >>> float(atan2(0.0, 1.0))
    0.0
    """
    return np.arctan2(y, x)
