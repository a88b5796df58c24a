"""The Gamma distribution and its relatives. A draw inverts the cdf, and its derivative in the shape is implicit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Array, Value, special
from ..domains import POSITIVE, POSITIVE_VECTOR, SIMPLEX
from ..ops import exp, gammainc, gammaincc, lgamma, log, log_softmax, square, sum
from .accurate import deviance, digamma_gap, in_float64, stirling_remainder
from .branches import above_zero, choose, clamp, infinite_up_to, probability
from .distribution import Distribution, formula, parameter
from .implicit import inverse_cdf


def _log_gamma_density(a: Value, y: Value, x: Value) -> Value:
    """Return ``a log y - y - lgamma(a) - log x``: the log-density at x, or at 1 / x, where y is the scaled x."""
    return log(a) - stirling_remainder(a) - deviance(a, y, log(y)) - log(x)


@dataclass(frozen=True, eq=False)
class Gamma(Distribution):
    """The Gamma distribution of the waiting time for several events.

    ``log p(x) = a log(rate) + (a - 1) log x - rate x - log Gamma(a)`` for x > 0, with a = concentration.

    Args:
        concentration: a, the number of events, positive; it need not be whole.
        rate: events per unit of time, positive; the mean is a / rate.

    >>> float(Gamma(3.0, 2.0).mean)
    1.5
    """

    concentration: Value = parameter(POSITIVE)
    rate: Value = parameter(POSITIVE, default=1.0)
    support = POSITIVE
    path = "implicit"
    mean = property(lambda self: self.concentration / self.rate)
    variance = property(lambda self: self.concentration / (self.rate * self.rate))
    log_density = formula(lambda self, x: _log_gamma_density(self.concentration, self.rate * x, x))
    cdf = formula(lambda self, x: in_float64(gammainc, self.concentration, self.rate * clamp(x, 0.0)))
    icdf = formula(lambda self, p: above_zero(standard_gamma(self.concentration, probability(p, self)) / self.rate))

    def entropy(self) -> Value:
        a = self.concentration
        return stirling_remainder(a) + (a - 1) * digamma_gap(a) - log(self.rate)

    def solve_cdf(self, p: Array) -> Array:
        """Return the quantile for rate 1."""
        return above_zero(special(p).gammaincinv(self.concentration, p.astype(np.float64)).astype(p.dtype))


def standard_gamma(a: Value, p: Value) -> Value:
    """Return the quantile of ``Gamma(a, 1)``."""
    return inverse_cdf(Gamma(a), p)


@dataclass(frozen=True, eq=False)
class Chi2(Distribution):
    """The distribution of the sum of ``df`` squares of standard normal numbers: ``Gamma(df / 2, 1 / 2)``.

    Args:
        df: the degrees of freedom, positive; they need not be whole.

    >>> float(Chi2(3.0).mean)
    3.0
    """

    df: Value = parameter(POSITIVE)
    support = POSITIVE
    path = "implicit"
    _gamma = property(lambda self: Gamma(0.5 * self.df, 0.5 + 0.0 * self.df))
    mean = property(lambda self: self.df + 0.0)
    variance = property(lambda self: 2 * self.df)
    log_density = formula(lambda self, x: self._gamma.log_density(x))
    entropy = formula(lambda self: self._gamma.entropy())
    cdf = formula(lambda self, x: self._gamma.cdf(x))
    icdf = formula(lambda self, p: self._gamma.icdf(p))


@dataclass(frozen=True, eq=False)
class InverseGamma(Distribution):
    """The distribution of ``scale / g`` with g ~ Gamma(concentration, 1): of a variance, given Gaussian data.

    ``log p(x) = a log(scale / x) - scale / x - log x - log Gamma(a)`` for x > 0, with a = concentration.

    Args:
        concentration: a, positive; the mean is infinite up to 1, the variance up to 2.
        scale: positive.

    >>> float(InverseGamma(3.0, 4.0).mean)
    2.0
    """

    concentration: Value = parameter(POSITIVE)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = POSITIVE
    path = "implicit"
    mean = property(lambda self: infinite_up_to(1, self.concentration, lambda a: self.scale / (a - 1)))
    log_density = formula(lambda self, x: _log_gamma_density(self.concentration, self.scale / x, x))
    icdf = formula(lambda self, p: self.scale * inverse_cdf(InverseGamma(self.concentration), probability(p, self)))

    @property
    def variance(self) -> Value:
        return infinite_up_to(2, self.concentration, lambda a: square(self.scale / (a - 1)) / (a - 2))

    def entropy(self) -> Value:
        a = self.concentration
        return stirling_remainder(a) + (a + 1) * digamma_gap(a) - 2 * log(a) + log(self.scale)

    def cdf(self, x: Value) -> Value:
        below = x <= 0
        tail = in_float64(gammaincc, self.concentration, self.scale / choose(below, 1.0, x))
        return choose(below, 0.0, tail)

    def solve_cdf(self, p: Array) -> Array:
        """Return the quantile for scale 1, short of where the density underflows."""
        g = special(p).gammainccinv(self.concentration, p.astype(np.float64))
        return (1 / clamp(g, float(np.finfo(p.dtype).tiny) ** 0.75)).astype(p.dtype)


@dataclass(frozen=True, eq=False)
class Dirichlet(Distribution):
    """The Dirichlet distribution of probabilities: of K Gamma numbers, divided by their sum.

    ``log p(x) = sum_k (a_k - 1) log x_k + log Gamma(sum_k a_k) - sum_k log Gamma(a_k)`` on the simplex. The numbers are
    divided in logarithms, so that small concentrations give sparse draws and not zeros.

    Args:
        concentration: a, positive, of shape (..., K); the mean is a / sum_k a_k.

    >>> Dirichlet(np.array([1.0, 2.0, 1.0])).mean
    array([0.25, 0.5 , 0.25])
    """

    concentration: Value = parameter(POSITIVE_VECTOR)
    support = SIMPLEX
    path = "implicit"
    event_shape = property(lambda self: self.concentration.shape[-1:])
    _total = property(lambda self: sum(self.concentration, axis=-1, keepdims=True))
    mean = property(lambda self: self.concentration / self._total)
    variance = property(lambda self: self.mean * (1 - self.mean) / (self._total + 1))

    def transform(self, noise: Value) -> Value:
        a = self.concentration
        g = standard_gamma(a, noise)
        tiny = g < 1e-20  # where F(g) = g^a / Gamma(a + 1) to the last bit
        log_g = choose(tiny, (log(noise) + lgamma(a + 1)) / a, log(choose(tiny, 1.0, g)))
        return above_zero(exp(log_softmax(log_g)))

    def log_density(self, x: Value) -> Value:
        a = self.concentration
        return sum((a - 1) * log(x), axis=-1) - (sum(lgamma(a), axis=-1) - lgamma(sum(a, axis=-1)))

    def entropy(self) -> Value:
        a, classes = self.concentration, self.event_shape[0]
        n = sum(a, axis=-1)
        parts = sum(stirling_remainder(a) + (a - 1) * digamma_gap(a), axis=-1)
        return parts - stirling_remainder(n) - (n - classes) * digamma_gap(n) - (classes - 1) * log(n)
