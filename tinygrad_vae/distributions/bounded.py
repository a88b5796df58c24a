"""Distributions on an interval."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..core import Array, Value, namespace, special
from ..domains import OPEN_UNIT, POSITIVE, REAL, UNIT, greater_than, interval
from ..ops import betainc, betaln, clip, digamma, exp, expm1, log, log1p, tanh
from .accurate import digamma_gap, in_float64, log_binomial, polynomial, second_difference_of_lgamma, stirling_remainder
from .branches import choose, inside_unit, probability
from .distribution import Distribution, formula, parameter
from .implicit import Implicit
from .odds import Toss, either


@dataclass(frozen=True, eq=False)
class Uniform(Distribution):
    """The uniform distribution on [low, high].

    ``log p(x) = -log(high - low)`` inside; a draw is ``low + (high - low) u``, u ~ U(0, 1). Both parameters move
    the support, so the score function would lose the boundary terms: use the pathwise estimator.

    Args:
        low: the lower end, any number.
        high: the upper end, greater than low.

    >>> float(Uniform(1.0, 3.0).mean)
    2.0
    """

    low: Value = parameter(REAL, default=0.0, moves_support=True)
    high: Value = parameter(lambda dist: greater_than(dist.low), default=1.0, moves_support=True)
    support = property(lambda self: interval(self.low, self.high))
    mean = property(lambda self: 0.5 * (self.low + self.high))
    variance = property(lambda self: (self.high - self.low) ** 2 / 12)
    log_density = formula(lambda self, x: -log(self.high - self.low) + 0.0 * x)
    entropy = formula(lambda self: log(self.high - self.low))
    cdf = formula(lambda self, x: clip((x - self.low) / (self.high - self.low), 0.0, 1.0))
    icdf = formula(lambda self, p: self.low + (self.high - self.low) * probability(p, self))


@dataclass(frozen=True, eq=False)
class Beta(Implicit, Distribution):
    """The Beta distribution on (0, 1).

    ``log p(x) = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b)``; a draw is the inverse cdf of a uniform, and its
    derivative is the implicit one.

    Args:
        a: how the density behaves at 0, positive; the mean is a / (a + b).
        b: how it behaves at 1, positive.

    >>> float(Beta(3.0, 1.0).mean)
    0.75
    """

    a: Value = parameter(POSITIVE)
    b: Value = parameter(POSITIVE)
    support = OPEN_UNIT
    mean = property(lambda self: self.a / (self.a + self.b))
    cdf = formula(lambda self, x: in_float64(betainc, self.a, self.b, clip(x, 0.0, 1.0)))

    def log_density(self, x: Value) -> Value:
        a, b, log_x, log_rest = self.a, self.b, log(x), log1p(-x)
        power = log_binomial(a, b, x, log_x, 1 - x, log_rest)
        return power + (log(a) - log_x) + (log(b) - log_rest) - log(a + b)

    @property
    def variance(self) -> Value:
        total = self.a + self.b
        return (self.a / total) * (self.b / total) / (total + 1)

    def entropy(self) -> Value:
        a, b, n = self.a, self.b, self.a + self.b
        parts = [stirling_remainder(x) + (x - 1) * digamma_gap(x) for x in (a, b)]
        return parts[0] + parts[1] - stirling_remainder(n) - (n - 2) * digamma_gap(n) - log(n)

    def solve_cdf(self, p: Array) -> Array:
        return inside_unit(special(p).betaincinv(self.a, self.b, p.astype(np.float64)).astype(p.dtype))


@dataclass(frozen=True, eq=False)
class Kumaraswamy(Distribution):
    """The Kumaraswamy distribution on (0, 1): like Beta, with a cdf in closed form, ``1 - (1 - x^a)^b``.

    ``log p(x) = log(a b) + (a - 1) log x + (b - 1) log(1 - x^a)``.

    Args:
        a: how the density behaves at 0, positive.
        b: how it behaves at 1, positive.

    >>> round(float(Kumaraswamy(1.0, 1.0).cdf(0.25)), 6)
    0.25
    """

    a: Value = parameter(POSITIVE)
    b: Value = parameter(POSITIVE)
    support = OPEN_UNIT
    mean = property(lambda self: exp(log(self.b) + betaln(1 + 1 / self.a, self.b)))  # ``b B(1 + 1 / a, b)``
    icdf = formula(lambda self, p: inside_unit(exp(log(-expm1(log1p(-p) / self.b)) / self.a)))

    def log_density(self, x: Value) -> Value:
        power = self.a * log(x)
        return log(self.a) + log(self.b) + power - log(x) + (self.b - 1) * log(-expm1(power))

    @property
    def variance(self) -> Value:
        mean, t = self.mean, 1 / self.a
        gap = second_difference_of_lgamma(1.0, t) - second_difference_of_lgamma(1 + self.b, t)
        return mean * mean * expm1(gap)

    def entropy(self) -> Value:
        harmonic = digamma(self.b + 1) + float(np.euler_gamma)
        return (1 - 1 / self.b) + (1 - 1 / self.a) * harmonic - log(self.a) - log(self.b)

    def cdf(self, x: Value) -> Value:
        below, above = x <= 0, x >= 1
        inside = choose(below, 0.5, choose(above, 0.5, x))
        return choose(below, 0.0, choose(above, 1.0, -expm1(self.b * log(-expm1(self.a * log(inside))))))


_TERMS = np.arange(1, 13)


@functools.cache
def _log_sinhc_series() -> Array:
    """Return the coefficients of ``log(sinh(h) / h)`` in powers of h^2, from h^2 on."""
    return 4.0**_TERMS * special().bernoulli(24)[2::2] / (2 * _TERMS * special().factorial(2 * _TERMS))


def _log_sinhc(h: Value, order: int = 0) -> Value:
    """Return ``log(sinh(h) / h)`` or its derivative of order 1 or 2, accurate near 0 as well."""
    c, small = _log_sinhc_series(), abs(h) < 0.5
    near, far = choose(small, h, 0.0), choose(small, 1.0, h)
    size = choose(far > 0, far, -far)
    if order == 0:
        series = near * near * polynomial(c, near * near)
        return choose(small, series, size + log1p(-exp(-2 * size)) - log(2 * size))
    if order == 1:
        return choose(small, near * polynomial(2 * _TERMS * c, near * near), 1 / tanh(far) - 1 / far)
    slopes = 2 * _TERMS * (2 * _TERMS - 1) * c
    half = exp(-size) / (1 - exp(-2 * size))  # 1 / (2 sinh)
    return choose(small, polynomial(slopes, near * near), 1 / (far * far) - 4 * half * half)


def _log_partition(l: Value) -> Value:
    """Return ``A(l) = log((exp(l) - 1) / l)``."""
    return 0.5 * l + _log_sinhc(0.5 * l)


@dataclass(frozen=True, eq=False)
class ContinuousBernoulli(Toss, Implicit, Distribution):
    """The distribution on [0, 1] with a density proportional to ``p^x (1 - p)^(1 - x)``: a likelihood for grey values.

    ``log p(x) = logits x - A(logits)`` with ``A(l) = log((exp(l) - 1) / l)``, which is 0 at l = 0, where the density
    is uniform. The mean is A'(logits) and not p. Loaiza-Ganem and Cunningham 2019.

    Args:
        logits: log(p / (1 - p)), any number; or
        probs: p, between 0 and 1.

    >>> float(ContinuousBernoulli(probs=0.5).mean)
    0.5
    """

    logits: Value = either(REAL)
    probs: Value = either(OPEN_UNIT)
    support = UNIT
    mean = property(lambda self: 0.5 + 0.5 * _log_sinhc(0.5 * self.as_logits, 1))
    variance = property(lambda self: 0.25 * _log_sinhc(0.5 * self.as_logits, 2))
    log_density = formula(lambda self, x: self.as_logits * x - self.log_normaliser())
    entropy = formula(lambda self: self.log_normaliser() - self.as_logits * self.mean)

    def log_normaliser(self) -> Value:
        """Return A(logits)."""
        return _log_partition(self.as_logits)

    def cdf(self, x: Value) -> Value:
        x = clip(x, 0.0, 1.0)
        return x * exp(_log_partition(self.as_logits * x) - self.log_normaliser())

    def solve_cdf(self, p: Array) -> Array:
        xp = namespace(p)
        mirrored = self.as_logits > 0
        q, fall = xp.where(mirrored, 1 - p, p), -xp.abs(self.as_logits)
        x = xp.where(fall == 0, q, xp.log1p(q * xp.expm1(fall)) / xp.where(fall == 0, -1.0, fall))
        return xp.where(mirrored, 1 - x, x)
