"""Distributions on the positive numbers, with a cdf in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import NORMAL, Value
from ..domains import NONNEGATIVE, POSITIVE, REAL
from ..ops import erf, erfinv, exp, expm1, lgamma, log, log1p, ndtri
from .accurate import second_difference_of_lgamma
from .branches import above_zero, choose, clamp, probability
from .distribution import Distribution, formula, parameter
from .location_scale import Normal


@dataclass(frozen=True, eq=False)
class Exponential(Distribution):
    """The exponential distribution of waiting times.

    ``log p(x) = log(rate) - rate x`` for x >= 0; a draw is ``-log(1 - u) / rate``, u ~ U(0, 1).

    Args:
        rate: events per unit of time, positive; the mean is 1 / rate.

    >>> float(Exponential(2.0).mean)
    0.5
    """

    rate: Value = parameter(POSITIVE)
    support = NONNEGATIVE
    mean = property(lambda self: 1 / self.rate)
    variance = property(lambda self: 1 / (self.rate * self.rate))
    log_density = formula(lambda self, x: log(self.rate) - self.rate * x)
    entropy = formula(lambda self: 1 - log(self.rate))
    cdf = formula(lambda self, x: -expm1(-self.rate * clamp(x, 0.0)))
    icdf = formula(lambda self, p: -log1p(-probability(p, self)) / self.rate)


@dataclass(frozen=True, eq=False)
class LogNormal(Distribution):
    """The distribution of ``exp(n)`` with n ~ N(loc, scale^2).

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
    noise_distribution = NORMAL
    _log = property(lambda self: Normal(self.loc, self.scale))
    mean = property(lambda self: exp(self.loc + 0.5 * (self.scale * self.scale)))
    transform = formula(lambda self, noise: exp(self._log.transform(noise)))
    log_density = formula(lambda self, x: self._log.log_density(log(x)) - log(x))
    entropy = formula(lambda self: self._log.entropy() + self.loc)
    icdf = formula(lambda self, p: exp(self.loc + self.scale * ndtri(p)))

    @property
    def variance(self) -> Value:
        square = self.scale * self.scale
        return expm1(square) * exp(2 * self.loc + square)

    def cdf(self, x: Value) -> Value:
        below = x <= 0
        return choose(below, 0.0, self._log.cdf(log(choose(below, 1.0, x))))


@dataclass(frozen=True, eq=False)
class HalfNormal(Distribution):
    """The distribution of ``|n|`` with n ~ N(0, scale^2).

    ``log p(x) = -(x / scale)^2 / 2 - log(scale) + log(2 / pi) / 2`` for x >= 0; a draw is ``scale |e|``, e ~ N(0, 1).

    Args:
        scale: the standard deviation of n, positive; the mean is scale sqrt(2 / pi).

    >>> round(float(HalfNormal(1.0).mean), 6)
    0.797885
    """

    scale: Value = parameter(POSITIVE, default=1.0)
    support = NONNEGATIVE
    noise_distribution = NORMAL
    mean = property(lambda self: math.sqrt(2 / math.pi) * self.scale)
    variance = property(lambda self: (1 - 2 / math.pi) * (self.scale * self.scale))
    transform = formula(lambda self, noise: self.scale * abs(noise))
    entropy = formula(lambda self: 0.5 + 0.5 * math.log(math.pi / 2) + log(self.scale))
    cdf = formula(lambda self, x: erf(clamp(x, 0.0) / (math.sqrt(2) * self.scale)))
    icdf = formula(lambda self, p: math.sqrt(2) * self.scale * erfinv(probability(p, self)))

    def log_density(self, x: Value) -> Value:
        e = x / self.scale
        return -0.5 * (e * e) - log(self.scale) + 0.5 * math.log(2 / math.pi)


@dataclass(frozen=True, eq=False)
class Weibull(Distribution):
    """The Weibull distribution of life times: ``(x / scale)^concentration`` is exponential of rate 1.

    ``log p(x) = log(k / scale) + (k - 1) log(x / scale) - (x / scale)^k`` for x > 0, with k = concentration. Both
    parameters are given by name, since PyTorch has them in the other order.

    Args:
        concentration: positive; below 1 the hazard falls with age, above 1 it rises.
        scale: positive.

    >>> float(Weibull(concentration=1.0, scale=2.0).mean)
    2.0
    """

    concentration: Value = parameter(POSITIVE, kw_only=True)
    scale: Value = parameter(POSITIVE, default=1.0, kw_only=True)
    support = POSITIVE
    mean = property(lambda self: self.scale * exp(lgamma(1 + 1 / self.concentration)))
    cdf = formula(lambda self, x: -expm1(-((clamp(x, 0.0) / self.scale) ** self.concentration)))
    icdf = formula(lambda self, p: above_zero(self.scale * exp(log(-log1p(-p)) / self.concentration)))

    def log_density(self, x: Value) -> Value:
        log_ratio = log(x) - log(self.scale)
        power = self.concentration * log_ratio
        return log(self.concentration) - log(x) + power - exp(power)

    @property
    def variance(self) -> Value:
        mean = self.mean
        return mean * mean * expm1(second_difference_of_lgamma(1.0, 1 / self.concentration))

    def entropy(self) -> Value:
        gap = 1 - 1 / self.concentration
        return float(np.euler_gamma) * gap + log(self.scale / self.concentration) + 1
