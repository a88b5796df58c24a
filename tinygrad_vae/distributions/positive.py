"""Laws on the positive numbers. They know their formulas, and the normal law that some of them are functions of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import NORMAL, Value, value_of
from ..domains import NONNEGATIVE, POSITIVE, REAL
from ..ops import abs, erf, erfinv, exp, expm1, lgamma, log, log1p, maximum, ndtri, where
from .distribution import Distribution, parameter
from .edges import above_zero
from .location_scale import Normal


@dataclass(frozen=True, eq=False)
class Exponential(Distribution):
    """The exponential law of waiting times.

    ``log p(x) = log(rate) - rate x`` for x >= 0; a draw is ``-log(1 - u) / rate``, u ~ U(0, 1).

    Args:
        rate: events per unit of time, positive; the mean is 1 / rate.

    >>> float(Exponential(2.0).mean)
    0.5
    """

    rate: Value = parameter(POSITIVE)
    support = NONNEGATIVE

    def log_density(self, x: Value) -> Value:
        return log(self.rate) - self.rate * x

    @property
    def mean(self) -> Value:
        return 1 / self.rate

    @property
    def variance(self) -> Value:
        return 1 / (self.rate * self.rate)

    def entropy(self) -> Value:
        return 1 - log(self.rate)

    def cdf(self, x: Value) -> Value:
        return -expm1(-self.rate * maximum(x, 0.0))

    def icdf(self, p: Value) -> Value:
        return -log1p(-p) / self.rate


@dataclass(frozen=True, eq=False)
class LogNormal(Distribution):
    """The law of ``exp(n)`` with n ~ N(loc, scale^2).

    ``log p(x) = log N(log x; loc, scale^2) - log x`` for x > 0.

    Args:
        loc: the mean of log x, any number.
        scale: the standard deviation of log x, positive.

    >>> float(LogNormal(0.0, 1.0).icdf(0.5))
    1.0
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = POSITIVE
    noise_law = NORMAL

    @property
    def _log(self) -> Normal:
        return Normal(self.loc, self.scale)

    def transform(self, noise: Value) -> Value:
        return exp(self._log.transform(noise))

    def log_density(self, x: Value) -> Value:
        return self._log.log_density(log(x)) - log(x)

    @property
    def mean(self) -> Value:
        return exp(self.loc + 0.5 * (self.scale * self.scale))

    @property
    def variance(self) -> Value:
        square = self.scale * self.scale
        return expm1(square) * exp(2 * self.loc + square)

    def entropy(self) -> Value:
        return self._log.entropy() + self.loc

    def cdf(self, x: Value) -> Value:
        above = value_of(x) > 0
        return where(above, self._log.cdf(log(where(above, x, 1.0))), 0.0)

    def icdf(self, p: Value) -> Value:
        return exp(self.loc + self.scale * ndtri(p))


@dataclass(frozen=True, eq=False)
class HalfNormal(Distribution):
    """The law of ``|n|`` with n ~ N(0, scale^2).

    ``log p(x) = -(x / scale)^2 / 2 - log(scale) + log(2 / pi) / 2`` for x >= 0; a draw is ``scale |e|``, e ~ N(0, 1).

    Args:
        scale: the standard deviation of n, positive; the mean is scale sqrt(2 / pi).

    >>> round(float(HalfNormal(1.0).mean), 6)
    0.797885
    """

    scale: Value = parameter(POSITIVE, default=1.0)
    support = NONNEGATIVE
    noise_law = NORMAL

    def transform(self, noise: Value) -> Value:
        return self.scale * abs(noise)

    def log_density(self, x: Value) -> Value:
        e = x / self.scale
        return -0.5 * (e * e) - log(self.scale) + 0.5 * math.log(2 / math.pi)

    @property
    def mean(self) -> Value:
        return math.sqrt(2 / math.pi) * self.scale

    @property
    def variance(self) -> Value:
        return (1 - 2 / math.pi) * (self.scale * self.scale)

    def entropy(self) -> Value:
        return 0.5 + 0.5 * math.log(math.pi / 2) + log(self.scale)

    def cdf(self, x: Value) -> Value:
        return erf(maximum(x, 0.0) / (math.sqrt(2) * self.scale))

    def icdf(self, p: Value) -> Value:
        return math.sqrt(2) * self.scale * erfinv(p)


@dataclass(frozen=True, eq=False)
class Weibull(Distribution):
    """The Weibull law of life times: ``(x / scale)^concentration`` is exponential of rate 1.

    ``log p(x) = log(k / scale) + (k - 1) log(x / scale) - (x / scale)^k`` for x > 0, with k = concentration.

    Args:
        concentration: positive; below 1 the hazard falls with age, above 1 it rises.
        scale: positive.

    >>> float(Weibull(1.0, 2.0).mean)
    2.0
    """

    concentration: Value = parameter(POSITIVE)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = POSITIVE

    def log_density(self, x: Value) -> Value:
        log_ratio = log(x) - log(self.scale)
        power = self.concentration * log_ratio
        return log(self.concentration) - log(x) + power - exp(power)

    @property
    def mean(self) -> Value:
        return self.scale * exp(lgamma(1 + 1 / self.concentration))

    @property
    def variance(self) -> Value:
        first, second = lgamma(1 + 1 / self.concentration), lgamma(1 + 2 / self.concentration)
        return self.scale * self.scale * (exp(2 * first) * expm1(second - 2 * first))

    def entropy(self) -> Value:
        gap = 1 - 1 / self.concentration
        return float(np.euler_gamma) * gap + log(self.scale / self.concentration) + 1

    def cdf(self, x: Value) -> Value:
        return -expm1(-((maximum(x, 0.0) / self.scale) ** self.concentration))

    def icdf(self, p: Value) -> Value:
        return above_zero(self.scale * exp(log(-log1p(-p)) / self.concentration))
