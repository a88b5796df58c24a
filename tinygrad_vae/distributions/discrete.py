"""Distributions on finitely many values. A draw jumps as the parameters move, so it has no pathwise derivative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Value, namespace, value_of
from ..domains import BOOLEAN, LOGIT, LOGITS, ONE_HOT, SIMPLEX, UNIT, Domain, whole_numbers
from ..ops import argmax, astype, bernoulli_log_prob, equal, expand_dims, isnan, less, log, sum, where
from .branches import choose, probability
from .distribution import Distribution, times_log
from .odds import Choice, Toss, either


@dataclass(frozen=True, eq=False)
class Bernoulli(Toss, Distribution):
    """The distribution of one toss: 1 with probability p = sigmoid(logits), else 0.

    ``log p(x) = x log p + (1 - x) log(1 - p) = -softplus((1 - 2 x) logits)``; a draw is ``u > 1 - p``, u ~ U(0, 1).

    Args:
        logits: log(p / (1 - p)); or
        probs: p, from 0 to 1.

    >>> round(float(Bernoulli(probs=0.25).mean), 6)
    0.25
    """

    logits: Value = either(LOGIT)
    probs: Value = either(UNIT)
    support = BOOLEAN
    path = None

    def enumerate_support(self) -> list[Any] | None:
        return [0, 1]

    def transform(self, noise: Value) -> Value:
        return astype(less(self.tails, noise), noise.dtype)

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        """The other side: ``f(1) - f(0)`` with the slope of p, whichever came."""
        return 1 - z, (1 - 2 * z) * self.heads, self.variance

    def log_density(self, x: Value) -> Value:
        if getattr(x, "dtype", np.dtype(float)).kind in "iub":  # in bytes, 1 - 2 x would be 255
            x = astype(x, self.dtype)
        return self.log_prob_of(x, 1 - x) if self.logits is None else bernoulli_log_prob(x, self.logits)

    @property
    def mean(self) -> Value:
        return self.heads + 0.0

    @property
    def variance(self) -> Value:
        return self.heads * self.tails

    def entropy(self) -> Value:
        return -(times_log(self.heads, self.log_heads) + times_log(self.tails, self.log_tails))

    def cdf(self, x: Value) -> Value:
        return where(x < 0, 0.0, where(x < 1, self.tails, choose(isnan(x), x, 1.0)))

    def icdf(self, p: Value) -> Value:
        p = probability(p, self)
        return choose(isnan(p), p, self.transform(p))


@dataclass(frozen=True, eq=False)
class Categorical(Choice, Distribution):
    """The distribution of a choice among K classes, a whole number from 0 to K - 1.

    ``log p(k) = log_softmax(logits)_k``; a draw is ``argmax(logits + Gumbel noise)``, the noise being
    ``-log(-log u)`` of K uniforms.

    Args:
        logits: logarithms of the probabilities up to a constant, along the last axis; or
        probs: the probabilities, nonnegative with sum 1 along the last axis.

    >>> float(Categorical(logits=np.zeros(4)).log_prob(np.array(2)).round(6))
    -1.386294
    """

    logits: Value = either(LOGITS)
    probs: Value = either(SIMPLEX)
    path = None

    @property
    def support(self) -> Domain:
        return whole_numbers(0, self.classes - 1)

    def noise_shape(self, shape: tuple[int, ...] = ()) -> tuple[int, ...]:
        return (*shape, *self.batch_shape, self.classes)

    def enumerate_support(self) -> list[Any] | None:
        return list(range(self.classes))

    def transform(self, noise: Value) -> Value:
        return argmax(self.as_logits - log(-log(noise)), axis=-1)

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        second, path, size = self.runner_up(equal(expand_dims(z, axis=-1), self._numbers), noise)
        return argmax(second, axis=-1), path, size

    def log_density(self, x: Value) -> Value:
        return self.log_prob_of(astype(expand_dims(x, axis=-1) == self._numbers, self.given.dtype))

    @property
    def _numbers(self) -> Value:
        """0 to K - 1."""
        return namespace(value_of(self.given)).arange(self.classes).astype(self.given.dtype)

    def entropy(self) -> Value:
        return -sum(times_log(self.each, self.log_each), axis=-1)

    @property
    def mean(self) -> Value:
        return sum(self.each * self._numbers, axis=-1)

    @property
    def variance(self) -> Value:
        mean = expand_dims(self.mean, axis=-1)
        return sum(self.each * (self._numbers - mean) ** 2, axis=-1)


@dataclass(frozen=True, eq=False)
class OneHotCategorical(Choice, Distribution):
    """The distribution of a choice among K classes, a vector of K zeros with a 1 at the class chosen.

    ``log p(x) = sum_k x_k log_softmax(logits)_k``; a draw is the one that ``Categorical`` makes of the same noise.

    Args:
        logits: logarithms of the probabilities up to a constant, along the last axis; or
        probs: the probabilities, nonnegative with sum 1 along the last axis.

    >>> float(OneHotCategorical(logits=np.zeros(4)).log_prob(np.array([0.0, 1.0, 0.0, 0.0])).round(6))
    -1.386294
    """

    logits: Value = either(LOGITS)
    probs: Value = either(SIMPLEX)
    path = None
    support = ONE_HOT

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.classes,)

    def enumerate_support(self) -> list[Any] | None:
        return list(np.eye(self.classes))

    def transform(self, noise: Value) -> Value:
        chosen = argmax(self.as_logits - log(-log(noise)), axis=-1, keepdims=True)
        return astype(equal(chosen, namespace(value_of(noise)).arange(self.classes)), noise.dtype)

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        second, path, size = self.runner_up(equal(z, 1), noise)
        return astype(second, noise.dtype), path, size

    def log_density(self, x: Value) -> Value:
        return self.log_prob_of(x)

    def entropy(self) -> Value:
        return -sum(times_log(self.each, self.log_each), axis=-1)

    @property
    def mean(self) -> Value:
        return self.each

    @property
    def variance(self) -> Value:
        return self.each * (1 - self.each)
