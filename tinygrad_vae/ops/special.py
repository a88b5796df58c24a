"""Special functions that distributions need, from ``scipy.special`` and its CuPy twin."""

from __future__ import annotations

import math

from ..arrays import Value, is_array, special
from ..domains import POSITIVE, Domain
from ..graph import JUMP, SMOOTH, elementwise
from .elementwise import exp

_OPEN_UNIT = Domain(
    "between 0 and 1, exclusive", lambda x: (x > 0) & (x < 1), lambda rng, shape: rng.uniform(0.1, 0.9, shape)
)
_INSIDE_ONE = Domain(
    "between -1 and 1, exclusive", lambda x: abs(x) < 1, lambda rng, shape: rng.uniform(-0.9, 0.9, shape)
)


@elementwise(lambda g, y, x: g * (2 / math.sqrt(math.pi)) * exp(-x * x))
def erf(x: Value, /) -> Value:
    """Error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x. Derivative 2 / sqrt(pi) exp(-x^2).

    >>> float(erf(0.0))
    0.0
    """
    return special(x).erf(x)


@elementwise(lambda g, y, x: g * (math.sqrt(math.pi) / 2) * exp(y * y), domain=_INSIDE_ONE)
def erfinv(x: Value, /) -> Value:
    """Inverse of ``erf``, for -1 < x < 1. Derivative sqrt(pi) / 2 exp(erfinv(x)^2).

    >>> float(erfinv(0.0))
    0.0
    """
    return special(x).erfinv(x)


@elementwise(lambda g, y, x: g * exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))
def ndtr(x: Value, /) -> Value:
    """Cdf of the standard normal law. Derivative its density, exp(-x^2 / 2) / sqrt(2 pi).

    >>> float(ndtr(0.0))
    0.5
    """
    return special(x).ndtr(x)


@elementwise(lambda g, y, x: g * math.sqrt(2 * math.pi) * exp(0.5 * y * y), domain=_OPEN_UNIT)
def ndtri(x: Value, /) -> Value:
    """Inverse cdf of the standard normal law, for 0 < x < 1. Derivative sqrt(2 pi) exp(ndtri(x)^2 / 2).

    >>> float(ndtri(0.5))
    0.0
    """
    return special(x).ndtri(x)


@elementwise(lambda g, y, x: g / (x * (1 - x)), domain=_OPEN_UNIT)
def logit(x: Value, /) -> Value:
    """``log(x / (1 - x))``, inverse of ``sigmoid``, for 0 <= x <= 1. Derivative 1 / (x (1 - x)).

    >>> float(logit(0.5))
    0.0
    """
    return special(x).logit(x)


@elementwise(lambda g, y, x: g * digamma(x), domain=POSITIVE)
def lgamma(x: Value, /) -> Value:
    """Logarithm of the gamma function, for x > 0. Derivative digamma(x).

    >>> float(lgamma(1.0))
    0.0
    """
    return special(x).gammaln(x)


@elementwise(lambda g, y, x: g * polygamma(1, x), domain=POSITIVE)
def digamma(x: Value, /) -> Value:
    """Derivative of ``lgamma``, for x > 0. Its own derivative is polygamma(1, x), the trigamma function.

    >>> round(float(digamma(1.0)), 6)
    -0.577216
    """
    return special(x).digamma(x)


_ORDER = Domain("whole numbers from 1", lambda x: x >= 1, lambda rng, shape: rng.integers(1, 3, shape), discrete=True)


@elementwise(None, lambda g, y, n, x: g * polygamma(n + 1, x), smoothness=(JUMP, SMOOTH), domain=(_ORDER, POSITIVE))
def polygamma(n: Value, x: Value, /) -> Value:
    """The n-th derivative of ``digamma``, for n >= 1 and x > 0. Derivative polygamma(n + 1, x).

    >>> round(float(polygamma(1, 1.0)), 6)
    1.644934
    """
    y = special(x).polygamma(n, x)
    return y.astype(x.dtype) if is_array(x) and x.dtype.kind == "f" else y
