"""The incomplete gamma and beta functions and their inverses: cdfs and quantiles, differentiable in every argument.

The derivatives in the shape parameters have no closed form. Each is the integral of a derivative of the density, taken
by quadrature over the tail in which nothing cancels; it is written in ops, so that it can be differentiated again.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from ..core import Value, special
from ..domains import OPEN_UNIT, POSITIVE
from . import ranges
from .choices import stop_gradient, where
from .declare import example
from .elementwise import divide_or_zero, exp, expm1, log, log1p, maximum, minimum, sqrt
from .jumps import isinf, isnan
from .quadrature import by_quadrature, nodes_and_weights
from .reals import real
from .reductions import sum
from .special import betaln, digamma, gammaln, xlog1py, xlogy

_SHAPE = replace(POSITIVE, draw=lambda rng, shape: rng.uniform(0.5, 4, shape))


def gamma_density(a: Value, x: Value) -> Value:
    """Density of the Gamma(a, 1) distribution, ``x^(a-1) e^-x / Gamma(a)``, for x >= 0, infinity included."""
    far = stop_gradient(isinf(x))
    finite = where(far, 1.0, x)
    return where(far, 0.0, exp(xlogy(a - 1, finite) - finite - gammaln(a)))


def _gamma_slope(a: Value, x: Value) -> Value:
    """Integrate the derivative of the density in a over the tail below or above x, where it keeps its sign.

    The relative precision is 1e-10 for a from 0.001 to 10^4, in the tails too.
    """
    inside = stop_gradient((x > 0) & ~isinf(x))
    t = where(inside, x, 1.0)
    shape, place = stop_gradient(a), stop_gradient(t)  # the nodes depend on these, and the integral does not
    below = (log(place) < digamma(shape)) | (place < 1)
    lower_scale = where(place < 1, 1 / shape, 1 / (maximum(shape - place, 0.0) + sqrt(place)))
    large = where(below, 1.0, t)  # unused above for a small x, where it must not overflow
    far = stop_gradient(large)
    upper_scale = 1 / (maximum(far - shape + 1, 0.0) / far + 1 / sqrt(far))
    nodes, weights = nodes_and_weights(x)
    s = nodes * where(below, lower_scale, upper_scale)
    log_step = where(below, -s, log1p(s / large))  # to x e^-s below, to x + s above
    exponent = where(below, -a * s - t * expm1(-s), (a - 1) * log_step - s)
    values = exp(exponent) * (log(t) + log_step - digamma(a))
    integral = sum(weights * values, axis=-1, keepdims=True) * where(below, lower_scale, -upper_scale)
    front = exp(where(below, a, a - 1) * log(t) - t - gammaln(a))
    return where(inside, front * integral, where(stop_gradient(isnan(x)), x, 0.0))


@real(
    lambda g, y, a, x: g * by_quadrature(_gamma_slope, a, x),
    lambda g, y, a, x: g * gamma_density(a, x),
    domain=(_SHAPE, POSITIVE),
    range=ranges.in_unit,
)
@example("gammainc(1.0, 1.0) = 0.632120...")
def gammainc(a: Value, x: Value, /) -> Value:
    """Cdf of the Gamma(a, 1) distribution, for a > 0 and x >= 0. Derivative in x x^(a-1) e^-x / Gamma(a)."""
    return special(a, x).gammainc(a, x)


@real(
    lambda g, y, a, x: -g * by_quadrature(_gamma_slope, a, x),
    lambda g, y, a, x: -g * gamma_density(a, x),
    domain=(_SHAPE, POSITIVE),
    range=ranges.in_unit,
)
@example("round(float(gammaincc(1.0, 50.0)) * 1e22, 6) = 1.92875")
def gammaincc(a: Value, x: Value, /) -> Value:
    """Upper tail of the Gamma(a, 1) distribution, ``1 - gammainc(a, x)`` with all its digits."""
    return special(a, x).gammaincc(a, x)


@real(
    lambda g, y, a, p: -g * divide_or_zero(by_quadrature(_gamma_slope, a, y), gamma_density(a, y)),
    lambda g, y, a, p: g * divide_or_zero(1.0, gamma_density(a, y)),
    domain=(_SHAPE, OPEN_UNIT),
    range=ranges.within(*ranges.POSITIVES),
)
@example("gammaincinv(1.0, 0.5) = 0.693147...")
def gammaincinv(a: Value, p: Value, /) -> Value:
    """Quantile of the Gamma(a, 1) distribution: the y with ``gammainc(a, y) = p``, for a > 0 and 0 <= p <= 1.

    Derivatives 1 / density(y) in p and -(d gammainc / da)(y) / density(y) in a; 0 where the density underflows.
    """
    return special(a, p).gammaincinv(a, p)


def beta_density(a: Value, b: Value, x: Value) -> Value:
    """Density of the Beta(a, b) distribution, ``x^(a-1) (1-x)^(b-1) / B(a, b)``, for 0 <= x <= 1."""
    return exp(xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b))


def _beta_slope(in_a: bool, a: Value, b: Value, x: Value) -> Value:
    """Integrate the derivative of the density in a or b over the tail below or above x, where it keeps its sign.

    The relative precision is 1e-8 for shapes from 0.01 to 10^4.
    """
    inside = stop_gradient((x > 0) & (x < 1))
    low = where(inside, x, 0.5)
    shape_a, shape_b, place = stop_gradient(a), stop_gradient(b), stop_gradient(low)
    both = shape_a + shape_b
    if in_a:
        below = (log(place) < digamma(shape_a) - digamma(both)) | ((both + 2) * place < 1)
    else:
        below = ~((log1p(-place) < digamma(shape_b) - digamma(both)) | ((both + 2) * (1 - place) < 1))
    near, far = where(below, low, 1 - low), where(below, 1 - low, low)
    p, q = where(below, a, b), where(below, b, a)

    left, right, end, rest = (stop_gradient(v) for v in (p, q, near, far))
    steep = maximum(left - (right - 1) * end / rest, 0.0) + sqrt(maximum(right - 1, 0.0) * end) / rest
    scale = 1 / where((left < 1) | (right <= 1), left, steep)
    nodes, weights = nodes_and_weights(x)
    s = nodes * scale
    t = near * exp(-s)  # from x towards the end of the tail
    log_near = where(end < 0.5, log(near), log1p(-minimum(far, 0.5)))
    log_t = log_near - s
    log_rest = where(stop_gradient(t) < 0.5, log1p(-minimum(t, 0.5)), log(far - near * expm1(-s)))
    own, logarithm = (a, where(below, log_t, log_rest)) if in_a else (b, where(below, log_rest, log_t))
    factor = digamma(a + b) - digamma(own) + logarithm
    values = exp(p * log_t + (q - 1) * log_rest - betaln(a, b)) * factor
    integral = sum(weights * values, axis=-1, keepdims=True) * scale
    return where(inside, where(below, integral, -integral), where(stop_gradient(isnan(x)), x, 0.0))


_in_a, _in_b = (functools.partial(by_quadrature, functools.partial(_beta_slope, in_a)) for in_a in (True, False))


@real(
    lambda g, y, a, b, x: g * _in_a(a, b, x),
    lambda g, y, a, b, x: g * _in_b(a, b, x),
    lambda g, y, a, b, x: g * beta_density(a, b, x),
    domain=(_SHAPE, _SHAPE, OPEN_UNIT),
    range=ranges.in_unit,
)
@example("betainc(1.0, 1.0, 0.25) = 0.25")
def betainc(a: Value, b: Value, x: Value, /) -> Value:
    """Cdf of the Beta(a, b) distribution, for a, b > 0 and 0 <= x <= 1. Derivative in x its density."""
    return special(a, b, x).betainc(a, b, x)


@real(
    lambda g, y, a, b, p: -g * divide_or_zero(_in_a(a, b, y), beta_density(a, b, y)),
    lambda g, y, a, b, p: -g * divide_or_zero(_in_b(a, b, y), beta_density(a, b, y)),
    lambda g, y, a, b, p: g * divide_or_zero(1.0, beta_density(a, b, y)),
    domain=(_SHAPE, _SHAPE, OPEN_UNIT),
    range=ranges.in_unit,
)
@example("betaincinv(1.0, 1.0, 0.25) = 0.25")
def betaincinv(a: Value, b: Value, p: Value, /) -> Value:
    """Quantile of the Beta(a, b) distribution: the y with ``betainc(a, b, y) = p``, for a, b > 0 and 0 <= p <= 1.

    Derivatives 1 / density(y) in p, -(d betainc / da)(y) / density(y) in a, so in b; 0 where the density underflows.
    """
    return special(a, b, p).betaincinv(a, b, p)
