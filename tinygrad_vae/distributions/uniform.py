"""The uniform distribution, whose parameters move its support."""

from __future__ import annotations

from dataclasses import dataclass

from ..core import Value
from ..domains import REAL, greater_than, interval
from ..ops import clip, log
from .branches import probability
from .distribution import Distribution, formula, parameter


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
