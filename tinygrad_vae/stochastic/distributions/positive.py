"""Laws on the positive numbers."""

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import Value
from ...domains import NONNEGATIVE, POSITIVE, REAL
from ...graph import value_of
from ...ops import exp, expm1, log, log1p, maximum, ndtri, where
from ..distribution import Distribution, parameter
from ..nodes import NORMAL
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
