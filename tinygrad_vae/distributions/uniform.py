"""The uniform distribution, whose parameters move its support."""

from __future__ import annotations

from dataclasses import dataclass

from ..core import Value
from ..domains import REAL, Domain, greater_than, interval
from ..ops import clip, log
from .branches import probability
from .distribution import Distribution, parameter


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

    @property
    def support(self) -> Domain:
        return interval(self.low, self.high)

    def log_density(self, x: Value) -> Value:
        return -log(self.high - self.low) + 0.0 * x

    @property
    def mean(self) -> Value:
        return 0.5 * (self.low + self.high)

    @property
    def variance(self) -> Value:
        return (self.high - self.low) ** 2 / 12

    def entropy(self) -> Value:
        return log(self.high - self.low)

    def cdf(self, x: Value) -> Value:
        return clip((x - self.low) / (self.high - self.low), 0.0, 1.0)

    def icdf(self, p: Value) -> Value:
        return self.low + (self.high - self.low) * probability(p, self)
