"""Distributions on finitely many values. But for the value of ``Delta``, a draw jumps as the parameters move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Value, namespace, value_of
from ..domains import BOOLEAN, LOGIT, LOGITS, ONE_HOT, REAL, SIMPLEX, UNIT, Domain, whole_numbers
from ..ops import argmax, astype, bernoulli_log_prob, divide_or_zero, expand_dims, isnan, log, stop_gradient, sum, where
from .branches import choose, probability
from .distribution import Distribution, formula, parameter, times_log
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
    mean = property(lambda self: self.heads + 0.0)
    variance = property(lambda self: self.heads * self.tails)
    enumerate_support = formula(lambda self: [0, 1])
    transform = formula(lambda self, noise: astype(self.tails < noise, noise.dtype))
    entropy = formula(lambda self: -(times_log(self.heads, self.log_heads) + times_log(self.tails, self.log_tails)))
    cdf = formula(lambda self, x: where(x < 0, 0.0, where(x < 1, self.tails, choose(isnan(x), x, 1.0))))

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        """The other side: ``f(1) - f(0)`` with the slope of p, whichever came."""
        return 1 - z, (1 - 2 * z) * self.heads, self.variance

    def log_density(self, x: Value) -> Value:
        return self.log_prob_of(x, 1 - x) if self.logits is None else bernoulli_log_prob(x, self.logits)

    def icdf(self, p: Value) -> Value:
        p = probability(p, self)
        return choose(isnan(p), p, self.transform(p))


class _Chosen(Choice):
    """One choice: the class with the largest of its logit and a Gumbel number, ``-log(-log u)``."""

    event_noise_shape = property(lambda self: (self.classes,))
    enumerate_support: Any = formula(lambda self: list(range(self.classes)))
    transform = formula(lambda self, noise: argmax(self.as_logits - log(-log(noise)), axis=-1))
    entropy = formula(lambda self: -sum(times_log(self.each, self.log_each), axis=-1))

    def runner_up(self, chosen: Value, noise: Value) -> tuple[Value, Value, Value]:
        """Return a mask of the class that comes second with this noise, and what belongs to ``alternative``.

        The first two are a draw without replacement. With a = 1 - p(first) and b = 1 - p(second), the path is
        ``a b / (a + b) (l_second - l_first)``: for two classes the path of a toss. Kool, van Hoof and Welling 2020.
        """
        l = self.as_logits
        noisy = where(chosen, -math.inf, l - log(-log(noise)))
        classes = namespace(value_of(noise)).arange(self.classes)
        second = stop_gradient(argmax(noisy, axis=-1, keepdims=True) == classes)
        a, b = (1 - sum(where(mask, self.each, 0.0), axis=-1) for mask in (chosen, second))
        weight = stop_gradient(divide_or_zero(a * b, a + b))
        finite = stop_gradient(l > -math.inf)  # a class of probability 0 comes second where there is no other: weight 0
        first, other = (sum(where(mask & finite, l, 0.0), axis=-1) for mask in (chosen, second))
        return second, weight * (other - first), weight


@dataclass(frozen=True, eq=False)
class Categorical(_Chosen, Distribution):
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
    support = property(lambda self: whole_numbers(0, self.classes - 1))
    mean = property(lambda self: sum(self.each * self.numbers, axis=-1))

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        second, path, size = self.runner_up(expand_dims(z, axis=-1) == self.numbers, noise)
        return argmax(second, axis=-1), path, size

    def log_density(self, x: Value) -> Value:
        return self.log_prob_of(astype(expand_dims(x, axis=-1) == self.numbers, self.given.dtype))

    @property
    def variance(self) -> Value:
        mean = expand_dims(self.mean, axis=-1)
        return sum(self.each * (self.numbers - mean) ** 2, axis=-1)


@dataclass(frozen=True, eq=False)
class OneHotCategorical(_Chosen, Distribution):
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
    event_shape = property(lambda self: (self.classes,))
    enumerate_support = formula(lambda self: list(np.eye(self.classes)))
    mean = property(lambda self: self.each)
    variance = property(lambda self: self.each * (1 - self.each))
    log_density = formula(lambda self, x: self.log_prob_of(x))

    def transform(self, noise: Value) -> Value:
        chosen = argmax(self.as_logits - log(-log(noise)), axis=-1, keepdims=True)
        return astype(chosen == namespace(value_of(noise)).arange(self.classes), noise.dtype)

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        second, path, size = self.runner_up(z == 1, noise)
        return astype(second, noise.dtype), path, size


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
    mean = property(lambda self: self.value + 0.0)
    variance = property(lambda self: 0.0 * self.value)
    transform = formula(lambda self, noise: self.value + 0.0 * noise)
    log_density = formula(lambda self, x: choose(x == self.value, 0.0 * self.value, -math.inf))
    entropy = formula(lambda self: 0.0 * self.value)

    @property
    def support(self) -> Domain:
        value = value_of(self.value)
        return Domain(
            "equal to the value of Delta",
            lambda x: x == value,
            lambda rng, shape: np.broadcast_to(value, shape),
            discrete=True,
        )

    def cdf(self, x: Value) -> Value:
        return where(x < self.value, 0.0, where(x >= self.value, 1.0, x)) + 0.0 * self.value
