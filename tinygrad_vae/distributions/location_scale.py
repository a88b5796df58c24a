"""Location-scale laws on the real line: ``x = loc + scale * e`` with noise e of the standard law.

They know their formulas alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import NORMAL, Value
from ..domains import POSITIVE, REAL
from ..ops import abs, exp, log, logit, maximum, minimum, ndtr, ndtri, normal_log_prob, sigmoid, softplus
from .distribution import Distribution, parameter

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Normal(Distribution):
    """The Gaussian law N(loc, scale^2).

    ``log p(x) = -((x - loc) / scale)^2 / 2 - log(scale) - log(2 pi) / 2``; a draw is ``loc + scale e``, e ~ N(0, 1).

    Args:
        loc: the mean, any number.
        scale: the standard deviation (not the variance), positive.

    >>> round(float(Normal(0.0, 1.0).log_prob(0.0)), 6)
    -0.918939
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = REAL
    noise_law = NORMAL

    def transform(self, noise: Value) -> Value:
        return self.loc + self.scale * noise

    def log_density(self, x: Value) -> Value:
        return normal_log_prob(x, self.loc, self.scale)

    @property
    def mean(self) -> Value:
        return self.loc + 0.0 * self.scale

    @property
    def variance(self) -> Value:
        return 0.0 * self.loc + self.scale * self.scale

    def entropy(self) -> Value:
        return 0.5 + _LOG_SQRT_2_PI + log(self.scale) + 0.0 * self.loc

    def cdf(self, x: Value) -> Value:
        return ndtr((x - self.loc) / self.scale)

    def icdf(self, p: Value) -> Value:
        return self.loc + self.scale * ndtri(p)


@dataclass(frozen=True, eq=False)
class Laplace(Distribution):
    """The Laplace law, with two exponential tails.

    ``log p(x) = -|x - loc| / scale - log(2 scale)``; a draw is the inverse cdf of a uniform.

    Args:
        loc: mean and median, any number.
        scale: the mean distance from it, positive; the variance is 2 scale^2.

    >>> float(Laplace(0.0, 0.5).log_prob(0.0))
    -0.0
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = REAL

    def log_density(self, x: Value) -> Value:
        return -abs(x - self.loc) / self.scale - log(2 * self.scale)

    @property
    def mean(self) -> Value:
        return self.loc + 0.0 * self.scale

    @property
    def variance(self) -> Value:
        return 0.0 * self.loc + 2 * self.scale * self.scale

    def entropy(self) -> Value:
        return 1 + log(2 * self.scale) + 0.0 * self.loc

    def cdf(self, x: Value) -> Value:
        d = (x - self.loc) / self.scale
        return 0.5 * exp(minimum(d, 0.0)) + (0.5 - 0.5 * exp(-maximum(d, 0.0)))

    def icdf(self, p: Value) -> Value:
        return self.loc + self.scale * (log(minimum(2 * p, 1.0)) - log(minimum(2 * (1 - p), 1.0)))


@dataclass(frozen=True, eq=False)
class Logistic(Distribution):
    """The logistic law, whose cdf is ``sigmoid((x - loc) / scale)``.

    ``log p(x) = -d - 2 log(1 + exp(-d)) - log(scale)`` with d = (x - loc) / scale.

    Args:
        loc: mean and median, any number.
        scale: positive; the variance is (pi scale)^2 / 3.

    >>> float(Logistic(0.0, 1.0).cdf(0.0))
    0.5
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = REAL

    def log_density(self, x: Value) -> Value:
        d = (x - self.loc) / self.scale
        return -softplus(d) - softplus(-d) - log(self.scale)

    @property
    def mean(self) -> Value:
        return self.loc + 0.0 * self.scale

    @property
    def variance(self) -> Value:
        return 0.0 * self.loc + (math.pi**2 / 3) * (self.scale * self.scale)

    def entropy(self) -> Value:
        return 2 + log(self.scale) + 0.0 * self.loc

    def cdf(self, x: Value) -> Value:
        return sigmoid((x - self.loc) / self.scale)

    def icdf(self, p: Value) -> Value:
        return self.loc + self.scale * logit(p)


@dataclass(frozen=True, eq=False)
class Gumbel(Distribution):
    """The Gumbel law of largest values, whose cdf is ``exp(-exp(-d))`` with d = (x - loc) / scale.

    ``log p(x) = -d - exp(-d) - log(scale)``.

    Args:
        loc: the mode, any number; the mean is loc + scale * 0.5772...
        scale: positive; the variance is (pi scale)^2 / 6.

    >>> float(Gumbel(0.0, 1.0).log_prob(0.0))
    -1.0
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = REAL

    def log_density(self, x: Value) -> Value:
        d = (x - self.loc) / self.scale
        return -d - exp(-d) - log(self.scale)

    @property
    def mean(self) -> Value:
        return self.loc + float(np.euler_gamma) * self.scale

    @property
    def variance(self) -> Value:
        return 0.0 * self.loc + (math.pi**2 / 6) * (self.scale * self.scale)

    def entropy(self) -> Value:
        return 1 + float(np.euler_gamma) + log(self.scale) + 0.0 * self.loc

    def cdf(self, x: Value) -> Value:
        d = (x - self.loc) / self.scale
        return exp(-exp(minimum(-d, 80.0)))  # 0 from there on, in float64 too

    def icdf(self, p: Value) -> Value:
        return self.loc - self.scale * log(-log(p))
