"""The distribution of a number that is not random at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import Value, value_of
from ..domains import REAL, Domain
from ..ops import astype, greater_equal, isnan
from .branches import choose
from .distribution import Distribution, noise_dtype, parameter


@dataclass(frozen=True, eq=False)
class Delta(Distribution):
    """The distribution of a constant: all probability lies at ``value``.

    ``log p(x) = 0`` at x = value: a probability, not a density. A draw is the value, and its derivative in the value
    is 1. The value moves the support, so there is no score function for it.

    Args:
        value: the only value of a draw, any number.

    >>> float(Delta(3.0).sample(rng=tg.noise(0)))
    3.0
    """

    value: Value = parameter(REAL, moves_support=True)

    @property
    def support(self) -> Domain:
        value = value_of(self.value)
        return Domain(
            "equal to the value of Delta",
            lambda x: x == value,
            lambda rng, shape: np.broadcast_to(value, shape),
            discrete=True,
        )

    def transform(self, noise: Value) -> Value:
        return self.value + 0.0 * noise

    def log_density(self, x: Value) -> Value:
        return choose(x == self.value, 0.0 * self.value, -math.inf)

    @property
    def mean(self) -> Value:
        return self.value + 0.0

    @property
    def variance(self) -> Value:
        return 0.0 * self.value

    def entropy(self) -> Value:
        return 0.0 * self.value

    def cdf(self, x: Value) -> Value:
        dtype = noise_dtype([value_of(x), value_of(self.value)])
        return choose(isnan(x), math.nan, astype(greater_equal(x, self.value), dtype))
