"""Special functions that distributions need, from ``scipy.special`` and its CuPy twin."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..core import Array, Value, is_array, namespace, special
from ..domains import ABOVE_MINUS_ONE, COUNT, NONZERO, OPEN_UNIT, POSITIVE, Domain
from .choices import stop_gradient, where
from .declare import JUMP, KINK, SMOOTH, elementwise, example
from .elementwise import divide_or_zero, exp, log, log1p
from .jumps import equal, logical_and, sign
from .quadrature import by_quadrature, nodes_and_weights
from .ranges import ABOVE_ZERO, BELOW_ONE, BETWEEN_0_AND_1, leaps_at_whole_numbers, monotone, within
from .reals import real
from .trigonometric import INSIDE_ONE

_ROOT_PI, _ROOT_2_PI = math.sqrt(math.pi), math.sqrt(2 * math.pi)
_NEGATIVE = Domain("negative", lambda x: x < 0, lambda rng, shape: -np.exp(rng.uniform(-2, 3, shape)))


@real(lambda g, y, x: g * (2 / _ROOT_PI) * exp(-x * x), range=monotone(-BELOW_ONE, BELOW_ONE))
@example("erf(0.0) = 0.0")
def erf(x: Value, /) -> Value:
    """Error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x. Derivative 2 / sqrt(pi) exp(-x^2)."""
    return special(x).erf(x)


@real(lambda g, y, x: -g * (2 / _ROOT_PI) * exp(-x * x), range=monotone(ABOVE_ZERO, math.nextafter(2.0, 0.0)))
@example("erfc(0.0) = 1.0")
def erfc(x: Value, /) -> Value:
    """``1 - erf(x)``, accurate for large x. Derivative -2 / sqrt(pi) exp(-x^2)."""
    return special(x).erfc(x)


@real(lambda g, y, x: -2 * g * erfcx_integral(x, order=1), range=monotone(ABOVE_ZERO))
@example("erfcx(0.0) = 1.0")
def erfcx(x: Value, /) -> Value:
    """``exp(x^2) erfc(x)``, which falls as 1 / x where ``erfc`` underflows. Derivative 2 x erfcx(x) - 2 / sqrt(pi)."""
    return special(x).erfcx(x)


@real(lambda g, y, x, *, order: -2 * (order + 1) * g * erfcx_integral(x, order=order + 1), range=monotone(ABOVE_ZERO))
@example("erfcx_integral(0.0, order=1) = 0.56418...")
def erfcx_integral(x: Value, /, *, order: int = 1) -> Value:
    """``2 / (sqrt(pi) n!)`` times the integral of t^n exp(-t^2 - 2 x t) over t > 0; ``erfcx`` for the order n = 0.

    The derivatives of ``erfcx`` are sums of them in which nothing cancels. For x < 0 they follow from the recurrence
    ``2 n c(n) = c(n - 2) - 2 x c(n - 1)``, whose terms are positive there. Derivative -2 (n + 1) times the next one.
    """
    return by_quadrature(lambda x: _erfcx_integral(x, order), x)


def _erfcx_integral(x: Array, order: int) -> Array:
    xp, (nodes, weights) = namespace(x), nodes_and_weights(x)
    above, below = xp.maximum(x, 0), xp.minimum(x, 0)
    t = nodes / (1 + 2 * above)
    integral = xp.sum(weights * t**order * xp.exp(-t * t - 2 * above * t), axis=-1, keepdims=True)
    last, now = 2 / _ROOT_PI, special(x).erfcx(below)
    for k in range(1, order + 1):
        last, now = now, (last - 2 * below * now) / (2 * k)
    return xp.where(x < 0, now, 2 / _ROOT_PI / math.factorial(order) / (1 + 2 * above) * integral)


@real(lambda g, y, x: g * (_ROOT_PI / 2) * exp(y * y), domain=INSIDE_ONE, range=monotone())
@example("erfinv(0.0) = 0.0")
def erfinv(x: Value, /) -> Value:
    """Inverse of ``erf``, for -1 < x < 1. Derivative sqrt(pi) / 2 exp(erfinv(x)^2)."""
    return special(x).erfinv(x)


@real(lambda g, y, x: g * exp(-0.5 * x * x) * (1 / _ROOT_2_PI), range=monotone(*BETWEEN_0_AND_1))
@example("ndtr(0.0) = 0.5")
def ndtr(x: Value, /) -> Value:
    """Cdf of the standard normal distribution. Derivative its density, exp(-x^2 / 2) / sqrt(2 pi)."""
    return special(x).ndtr(x)


@real(lambda g, y, x: -_ROOT_PI * g * y * y * erfcx_integral(-x / math.sqrt(2), order=1), range=monotone(ABOVE_ZERO))
@example("inverse_mills(0.0) = 0.797884...")
def inverse_mills(x: Value, /) -> Value:
    """``density(x) / ndtr(x)`` of the standard normal distribution, inverse Mills ratio: -x for far negative x.

    Derivative -y (x + y), here from ``erfcx_integral``: x and y nearly cancel for far negative x.
    """
    return math.sqrt(2 / math.pi) / special(x).erfcx(-x / math.sqrt(2))


@real(lambda g, y, x: g * inverse_mills(x), range=monotone(high=-ABOVE_ZERO))
@example("log_ndtr(0.0) = -0.693147...")
def log_ndtr(x: Value, /) -> Value:
    """``log(ndtr(x))``, also where ``ndtr`` underflows. Derivative inverse_mills(x)."""
    return special(x).log_ndtr(x)


@real(lambda g, y, x: g / inverse_mills(y), domain=_NEGATIVE, range=monotone())
@example("ndtri_exp(-5000.0) = -99.944...")
def ndtri_exp(x: Value, /) -> Value:
    """Inverse of ``log_ndtr``, for x < 0: ``ndtri(exp(x))`` without underflow. Derivative 1 / inverse_mills(y)."""
    module = special(x)
    return module.ndtri_exp(x) if hasattr(module, "ndtri_exp") else _ndtri_exp(x)


def _ndtri_exp(x: Array) -> Array:
    """Return ``ndtri_exp`` by Newton's method, where there is no function for it: CuPy has none.

    The logarithm of the cdf is concave, so that from the second step on every one comes closer from the same side.
    """
    xp, module, y = namespace(x), special(x), x.astype(np.float64)
    far = y < -2
    square = xp.where(far, -2 * y, 4.0)  # y = -z^2 / 2 - log(-z) - log(2 pi) / 2 + ..., for z far below 0
    tail = -xp.sqrt(square - xp.log(square) - math.log(2 * math.pi))
    z = xp.where(far, tail, xp.where(y < -0.5, module.ndtri(xp.exp(y)), -module.ndtri(-xp.expm1(y))))
    for _ in range(5):
        step = (module.log_ndtr(z) - y) * module.erfcx(-z / math.sqrt(2)) * math.sqrt(math.pi / 2)
        z = z - xp.where(xp.isfinite(step), step, 0.0)
    return xp.where(y == -np.inf, y, z).astype(x.dtype)


@real(lambda g, y, x: g * _ROOT_2_PI * exp(0.5 * y * y), domain=OPEN_UNIT, range=monotone())
@example("ndtri(0.5) = 0.0")
def ndtri(x: Value, /) -> Value:
    """Inverse cdf of the standard normal distribution, for 0 < x < 1. Derivative sqrt(2 pi) exp(ndtri(x)^2 / 2)."""
    return special(x).ndtri(x)


@real(lambda g, y, x: g / (x * (1 - x)), domain=OPEN_UNIT, range=monotone())
@example("logit(0.5) = 0.0")
def logit(x: Value, /) -> Value:
    """``log(x / (1 - x))``, inverse of ``sigmoid``, for 0 <= x <= 1. Derivative 1 / (x (1 - x))."""
    return special(x).logit(x)


@real(
    lambda g, z, x, y: g * log(where(stop_gradient(logical_and(equal(x, 0), equal(y, 0))), 1.0, y)),
    lambda g, z, x, y: g * x / where(stop_gradient(logical_and(equal(x, 0), equal(y, 0))), math.inf, y),
    domain=(NONZERO, POSITIVE),
    linear=((0,),),
)
@example("xlogy(0.0, 0.0) = 0.0")
def xlogy(x: Value, y: Value, /) -> Value:
    """``x log(y)``, and 0 where x is 0. Derivatives log(y) and x / y; at x = y = 0 both are taken for 0."""
    return special(x, y).xlogy(x, y)


@real(
    lambda g, z, x, y: g * log1p(where(stop_gradient(logical_and(equal(x, 0), equal(y, -1))), 0.0, y)),
    lambda g, z, x, y: g * x / where(stop_gradient(logical_and(equal(x, 0), equal(y, -1))), math.inf, 1 + y),
    domain=(NONZERO, ABOVE_MINUS_ONE),
    linear=((0,),),
)
@example("xlog1py(0.0, -1.0) = 0.0")
def xlog1py(x: Value, y: Value, /) -> Value:
    """``x log(1 + y)``, and 0 where x is 0. Derivatives log(1 + y), x / (1 + y); at x = 0, y = -1 taken for 0."""
    return special(x, y).xlog1py(x, y)


@real(lambda g, y, x: g * digamma(x), domain=POSITIVE, pole=(0, leaps_at_whole_numbers))
@example("gammaln(1.0) = 0.0")
def gammaln(x: Value, /) -> Value:
    """Logarithm of the gamma function, for x > 0. Derivative digamma(x). Also called ``lgamma``."""
    return special(x).gammaln(x)


lgamma = gammaln


@real(lambda g, y, x: g * polygamma(1, x), domain=POSITIVE, pole=(0, leaps_at_whole_numbers))
@example("digamma(1.0) = -0.577215...")
def digamma(x: Value, /) -> Value:
    """Derivative of ``gammaln``, for x > 0. Its own derivative is polygamma(1, x), the trigamma function."""
    return special(x).digamma(x)


_ORDER = replace(COUNT, draw=lambda rng, shape: rng.integers(0, 3, shape))


@elementwise(
    None,
    lambda g, y, n, x: g * polygamma(n + 1, x),
    smoothness=(JUMP, SMOOTH),
    domain=(_ORDER, POSITIVE),
    pole=(1, leaps_at_whole_numbers),
)
@example("polygamma(1, 1.0) = 1.644934...")
def polygamma(n: Value, x: Value, /) -> Value:
    """The n-th derivative of ``digamma``, for n >= 0 and x > 0. Derivative polygamma(n + 1, x)."""
    xp = namespace(n, x)
    x = x.astype(np.float64) if is_array(x) and x.dtype.kind in "iub" else x
    y = special(n, x).polygamma(*(v if isinstance(v, xp.ndarray) else xp.full((), v) for v in (n, x)))
    return y.astype(x.dtype) if is_array(x) and x.dtype.kind == "f" else y


@real(
    lambda g, y, a, b: g * (digamma(a) - digamma(a + b)),
    lambda g, y, a, b: g * (digamma(b) - digamma(a + b)),
    domain=POSITIVE,
)
@example("betaln(1.0, 1.0) = 0.0")
def betaln(a: Value, b: Value, /) -> Value:
    """Logarithm of the beta function, ``gammaln(a) + gammaln(b) - gammaln(a + b)``, for a, b > 0.

    Derivatives digamma(a) - digamma(a + b) and digamma(b) - digamma(a + b).
    """
    return special(a, b).betaln(a, b)


@real(lambda g, y, x: g * (i1e(x) - sign(x) * y), smoothness=KINK, range=within(ABOVE_ZERO, 1.0))
@example("i0e(0.0) = 1.0")
def i0e(x: Value, /) -> Value:
    """``exp(-|x|) I0(x)``, the modified Bessel function of order 0 without its growth.

    Derivative i1e(x) - sign(x) i0e(x), and 0 at the kink.
    """
    return special(x).i0e(x)


@real(
    lambda g, y, x: g * (i0e(x) - sign(x) * y - where(stop_gradient(equal(x, 0)), 0.5, divide_or_zero(y, x))),
    smoothness=KINK,
)
@example("i1e(0.0) = 0.0")
def i1e(x: Value, /) -> Value:
    """``exp(-|x|) I1(x)``, the modified Bessel function of order 1 without its growth.

    Derivative i0e(x) - (sign(x) + 1 / x) i1e(x), and 1/2 at 0, where the second derivative has a kink.
    """
    return special(x).i1e(x)
