"""Independent distributions taken together as one distribution of a vector."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..core import Value, trees
from ..ops import sum
from .distribution import Distribution, formula
from .location_scale import Normal


@dataclass(frozen=True, eq=False)
class Independent(Distribution):
    """A distribution whose last ``n`` batch axes belong to one draw: log-probabilities and entropies add up over them.

    ``log p(x) = sum over the last n axes of log p_base(x)``.

    Args:
        base: the distribution of each element.
        n: how many of its last batch axes become event axes.

    >>> Independent(Normal(np.zeros(3), 1.0), 1).log_prob(np.zeros(3)).shape
    ()
    """

    base: Distribution
    n: int = trees.static(default=1)
    support = property(lambda self: self.base.support)
    path = property(lambda self: self.base.path)
    noise_distribution = property(lambda self: self.base.noise_distribution)
    mean = property(lambda self: self.base.mean)
    variance = property(lambda self: self.base.variance)
    family = property(lambda self: self.base.family)
    element = property(lambda self: self.base.element)
    why_no_path = property(lambda self: self.base.why_no_path)
    transform = formula(lambda self, noise: self.base.transform(noise))
    log_density = formula(lambda self, x: self._joined(self.base.log_density(x)))
    entropy = formula(lambda self: self._joined(self.base.entropy()))

    def __post_init__(self) -> None:
        if not isinstance(self.base, Distribution):
            raise TypeError(
                f"Independent(base, n) takes a distribution, found an object of type {type(self.base).__name__}"
            )
        if not 0 <= self.n <= len(self.base.batch_shape):
            raise ValueError(
                f"Independent(base, n={self.n}): the base has batch shape {self.base.batch_shape}, which has fewer axes"
            )

    @classmethod
    def example(cls, rng: np.random.Generator, batch_shape: tuple[int, ...] = ()) -> Independent:
        """Return two independent normal numbers, for tests."""
        return cls(Normal.example(rng, (*batch_shape, 2)), 1)

    @functools.cached_property
    def batch_shape(self) -> tuple[int, ...]:
        shape = self.base.batch_shape
        return shape[: len(shape) - self.n]

    @property
    def event_shape(self) -> tuple[int, ...]:
        shape = self.base.batch_shape
        return (*shape[len(shape) - self.n :], *self.base.event_shape)

    def noise_shape(self, shape: tuple[int, ...] = ()) -> tuple[int, ...]:
        return self.base.noise_shape(shape)

    def _joined(self, x: Value) -> Value:
        return sum(x, axis=tuple(range(-self.n, 0))) if self.n else x

    def moving(self) -> list[str]:
        return [f"base.{name}" for name in self.base.moving()]

    def parameter_event_ndims(self) -> list[int]:
        """Return the count of the base and ``n`` more: the axes that make up one draw."""
        return [self.n + own for own in self.base.parameter_event_ndims()]
