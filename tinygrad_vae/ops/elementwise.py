"""Ops that work element by element and broadcast: arithmetic and the elementary functions.

Each is one declaration: the function on arrays, its derivatives as formulas in the same functions, where its
inputs may lie, and how smooth it is.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Value, special
from ..domains import ABOVE_MINUS_ONE, NONZERO, POSITIVE
from ..graph import JUMP, KINK, elementwise
from .gates import where


@elementwise(lambda g, z, x, y: g, lambda g, z, x, y: g)
def add(x: Value, y: Value, /) -> Value:
    """``x + y``. Derivatives 1 and 1.

    >>> float(add(1.0, 2.0))
    3.0
    """
    return np.add(x, y)


@elementwise(lambda g, z, x, y: g, lambda g, z, x, y: -g)
def subtract(x: Value, y: Value, /) -> Value:
    """``x - y``. Derivatives 1 and -1.

    >>> float(subtract(1.0, 2.0))
    -1.0
    """
    return np.subtract(x, y)


@elementwise(lambda g, z, x, y: g * y, lambda g, z, x, y: g * x)
def multiply(x: Value, y: Value, /) -> Value:
    """``x * y``. Derivatives y and x.

    >>> float(multiply(3.0, 2.0))
    6.0
    """
    return np.multiply(x, y)


@elementwise(lambda g, z, x, y: g / y, lambda g, z, x, y: -g * z / y, domain=(NONZERO, NONZERO))
def divide(x: Value, y: Value, /) -> Value:
    """``x / y``. Derivatives 1 / y and -x / y^2.

    >>> float(divide(3.0, 2.0))
    1.5
    """
    return np.divide(x, y)


def _less_one(exponent: Value) -> Value:
    """Return ``exponent - 1``, and 0 for the exponent 0: the derivative of x^0 is 0 also at x = 0."""
    if isinstance(exponent, (int, float)):
        return exponent - 1 if exponent else 0
    return where(exponent == 0, 0.0, exponent - 1)


@elementwise(
    lambda g, z, x, y: g * y * x ** _less_one(y),
    lambda g, z, x, y: g * z * log(where(x == 0, 1.0, x)),
    domain=(POSITIVE, POSITIVE),
)
def pow(x: Value, y: Value, /) -> Value:
    """``x ** y``. Derivatives y x^(y-1), and x^y log x (0 at x = 0).

    >>> float(pow(3.0, 2.0))
    9.0
    """
    return np.power(x, y)


@elementwise(lambda g, y, x: -g)
def negative(x: Value, /) -> Value:
    """``-x``. Derivative -1.

    >>> float(negative(2.0))
    -2.0
    """
    return np.negative(x)


@elementwise(lambda g, y, x: g * sign(x), smoothness=KINK)
def abs(x: Value, /) -> Value:
    """``|x|``. Derivative sign(x), and 0 at the kink.

    >>> float(abs(-2.0))
    2.0
    """
    return np.abs(x)


@elementwise(lambda g, y, x: 2 * g * x)
def square(x: Value, /) -> Value:
    """``x * x``. Derivative 2 x.

    >>> float(square(3.0))
    9.0
    """
    return np.square(x)


@elementwise(lambda g, y, x: 0.5 * g / y, domain=POSITIVE)
def sqrt(x: Value, /) -> Value:
    """``x ** (1/2)`` for x >= 0. Derivative 1 / (2 sqrt x), infinite at 0.

    >>> float(sqrt(9.0))
    3.0
    """
    return np.sqrt(x)


@elementwise(lambda g, y, x: g * y)
def exp(x: Value, /) -> Value:
    """``e ** x``. Derivative e^x.

    >>> float(exp(0.0))
    1.0
    """
    return np.exp(x)


@elementwise(lambda g, y, x: g * (y + 1))
def expm1(x: Value, /) -> Value:
    """``e ** x - 1``, accurate near 0. Derivative e^x.

    >>> float(expm1(1e-20))
    1e-20
    """
    return np.expm1(x)


@elementwise(lambda g, y, x: g / x, domain=POSITIVE)
def log(x: Value, /) -> Value:
    """Natural logarithm, for x > 0. Derivative 1 / x.

    >>> float(log(1.0))
    0.0
    """
    return np.log(x)


@elementwise(lambda g, y, x: g / (1 + x), domain=ABOVE_MINUS_ONE)
def log1p(x: Value, /) -> Value:
    """``log(1 + x)``, accurate near 0, for x > -1. Derivative 1 / (1 + x).

    >>> float(log1p(1e-20))
    1e-20
    """
    return np.log1p(x)


@elementwise(lambda g, y, x: g * cos(x))
def sin(x: Value, /) -> Value:
    """Sine of an angle in radians. Derivative cos x.

    >>> float(sin(0.0))
    0.0
    """
    return np.sin(x)


@elementwise(lambda g, y, x: -g * sin(x))
def cos(x: Value, /) -> Value:
    """Cosine of an angle in radians. Derivative -sin x.

    >>> float(cos(0.0))
    1.0
    """
    return np.cos(x)


@elementwise(lambda g, y, x: g * (1 - y * y))
def tanh(x: Value, /) -> Value:
    """Hyperbolic tangent. Derivative 1 - tanh(x)^2.

    >>> float(tanh(0.0))
    0.0
    """
    return np.tanh(x)


@elementwise(lambda g, y, x: g * (y * (1 - y)))
def sigmoid(x: Value, /) -> Value:
    """``1 / (1 + exp(-x))``. Derivative sigmoid(x) (1 - sigmoid(x)).

    >>> float(sigmoid(0.0))
    0.5
    """
    return special(x).expit(x)


@elementwise(lambda g, y, x: g * sigmoid(x))
def softplus(x: Value, /) -> Value:
    """``log(1 + exp(x))``, without overflow. Derivative sigmoid(x).

    >>> float(softplus(1000.0))
    1000.0
    """
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


@elementwise(lambda g, y, x: g * (x > 0), smoothness=KINK)
def relu(x: Value, /) -> Value:
    """``max(x, 0)``. Derivative 1 above 0, and 0 elsewhere, at the kink too.

    >>> float(relu(-1.0))
    0.0
    """
    return np.maximum(x, 0)


@elementwise(
    lambda g, z, x, y: where(x > y, g, where(x == y, 0.5 * g, 0.0)),
    lambda g, z, x, y: where(y > x, g, where(x == y, 0.5 * g, 0.0)),
    smoothness=KINK,
)
def maximum(x: Value, y: Value, /) -> Value:
    """The larger of x and y. The gradient goes to the larger one, half to each where they are equal.

    >>> float(maximum(1.0, 2.0))
    2.0
    """
    return np.maximum(x, y)


@elementwise(
    lambda g, z, x, y: where(x < y, g, where(x == y, 0.5 * g, 0.0)),
    lambda g, z, x, y: where(y < x, g, where(x == y, 0.5 * g, 0.0)),
    smoothness=KINK,
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


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def sign(x: Value, /) -> Value:
    """-1, 0 or 1. Flat almost everywhere: no gradient.

    >>> float(sign(-3.0))
    -1.0
    """
    return np.sign(x)


@elementwise(None, smoothness=JUMP)
def floor(x: Value, /) -> Value:
    """The largest whole number not above x. Flat almost everywhere: no gradient.

    >>> float(floor(2.5))
    2.0
    """
    return np.floor(x)
