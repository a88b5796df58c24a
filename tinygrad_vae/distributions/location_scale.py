"""Distributions of ``loc + scale * e`` with standard noise e: Gaussian, Laplace, logistic, Gumbel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..core import NORMAL, Value
from ..domains import POSITIVE, REAL
from ..ops import exp, log, logit, maximum, minimum, ndtr, ndtri, normal_log_prob, sigmoid, softplus
from .distribution import Distribution, formula, parameter

LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)
_EULER = float(np.euler_gamma)


class LocationScale:
    """The distribution of ``loc + scale e``: its moments are the moments of e, shifted and scaled."""

    loc: Value
    scale: Value
    support = REAL
    standard_moments: ClassVar[tuple[float, float, float]]
    """The mean, the variance and the entropy of e."""

    mean = property(lambda self: self.loc + self.standard_moments[0] * self.scale)
    variance = property(lambda self: 0.0 * self.loc + self.standard_moments[1] * (self.scale * self.scale))
    entropy = formula(lambda self: self.standard_moments[2] + log(self.scale) + 0.0 * self.loc)

    def standardised(self, x: Value) -> Value:
        """Return ``(x - loc) / scale``."""
        return (x - self.loc) / self.scale


@dataclass(frozen=True, eq=False)
class Normal(LocationScale, Distribution):
    """The Gaussian distribution N(loc, scale^2).

    ``log p(x) = -((x - loc) / scale)^2 / 2 - log(scale) - log(2 pi) / 2``; a draw is ``loc + scale e``, e ~ N(0, 1).

    Args:
        loc: the mean, any number.
        scale: the standard deviation (not the variance), positive.

    >>> round(float(Normal(0.0, 1.0).log_prob(0.0)), 6)
    -0.918939
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    noise_distribution = NORMAL
    standard_moments = 0.0, 1.0, 0.5 + LOG_SQRT_2_PI
    transform = formula(lambda self, noise: self.loc + self.scale * noise)
    log_density = formula(lambda self, x: normal_log_prob(x, self.loc, self.scale))
    cdf = formula(lambda self, x: ndtr(self.standardised(x)))
    icdf = formula(lambda self, p: self.loc + self.scale * ndtri(p))


@dataclass(frozen=True, eq=False)
class Laplace(LocationScale, Distribution):
    """The Laplace distribution, with two exponential tails.

    ``log p(x) = -|x - loc| / scale - log(2 scale)``; a draw is the inverse cdf of a uniform.

    Args:
        loc: mean and median, any number.
        scale: the mean distance from it, positive; the variance is 2 scale^2.

    >>> float(Laplace(0.0, 0.5).log_prob(0.0))
    -0.0
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    standard_moments = 0.0, 2.0, 1 + math.log(2)
    log_density = formula(lambda self, x: -abs(x - self.loc) / self.scale - log(2 * self.scale))
    icdf = formula(lambda self, p: self.loc + self.scale * (log(minimum(2 * p, 1.0)) - log(minimum(2 * (1 - p), 1.0))))

    def cdf(self, x: Value) -> Value:
        d = self.standardised(x)
        return 0.5 * exp(minimum(d, 0.0)) + (0.5 - 0.5 * exp(-maximum(d, 0.0)))


@dataclass(frozen=True, eq=False)
class Logistic(LocationScale, Distribution):
    """The logistic distribution, whose cdf is ``sigmoid((x - loc) / scale)``.

    ``log p(x) = -d - 2 log(1 + exp(-d)) - log(scale)`` with d = (x - loc) / scale.

    Args:
        loc: mean and median, any number.
        scale: positive; the variance is (pi scale)^2 / 3.

    >>> float(Logistic(0.0, 1.0).cdf(0.0))
    0.5
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    standard_moments = 0.0, math.pi**2 / 3, 2.0
    cdf = formula(lambda self, x: sigmoid(self.standardised(x)))
    icdf = formula(lambda self, p: self.loc + self.scale * logit(p))

    def log_density(self, x: Value) -> Value:
        d = self.standardised(x)
        return -softplus(d) - softplus(-d) - log(self.scale)


@dataclass(frozen=True, eq=False)
class Gumbel(LocationScale, Distribution):
    """The Gumbel distribution of largest values, whose cdf is ``exp(-exp(-d))`` with d = (x - loc) / scale.

    ``log p(x) = -d - exp(-d) - log(scale)``.

    Args:
        loc: the mode, any number; the mean is loc + scale * 0.5772...
        scale: positive; the variance is (pi scale)^2 / 6.

    >>> float(Gumbel(0.0, 1.0).log_prob(0.0))
    -1.0
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    standard_moments = _EULER, math.pi**2 / 6, 1 + _EULER
    cdf = formula(lambda self, x: exp(-exp(minimum(-self.standardised(x), 80.0))))
    icdf = formula(lambda self, p: self.loc - self.scale * log(-log(p)))

    def log_density(self, x: Value) -> Value:
        d = self.standardised(x)
        return -d - exp(-d) - log(self.scale)
