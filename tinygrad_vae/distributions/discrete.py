"""Distributions on finitely many values. A draw jumps as the parameters move, so it has no pathwise derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core import Value, namespace, value_of
from ..domains import BOOLEAN, LOGIT, LOGITS, ONE_HOT, SIMPLEX, UNIT, Domain, whole_numbers
from ..ops import (
    abs,
    argmax,
    astype,
    bernoulli_log_prob,
    divide_or_zero,
    equal,
    exp,
    expand_dims,
    isfinite,
    isnan,
    less,
    log,
    log_softmax,
    logical_and,
    minimum,
    sigmoid,
    softmax,
    softplus,
    stop_gradient,
    sum,
    where,
)
from .branches import choose, probability
from .distribution import Distribution, logits_from, noise_dtype, parameter, success, times_log


@dataclass(frozen=True, eq=False, init=False)
class Bernoulli(Distribution):
    """The distribution of one toss: 1 with probability p = sigmoid(logits), else 0.

    ``log p(x) = x log p + (1 - x) log(1 - p) = -softplus((1 - 2 x) logits)``; a draw is ``u > 1 - p``, u ~ U(0, 1).

    Args:
        logits: log(p / (1 - p)); or
        probs: p, from 0 to 1.

    >>> round(float(Bernoulli(probs=0.25).mean), 6)
    0.25
    """

    logits: Value = parameter(LOGIT)
    support = BOOLEAN
    path = None

    def __init__(self, *, logits: Value | None = None, probs: Value | None = None) -> None:
        object.__setattr__(self, "logits", logits_from("Bernoulli", logits, probs, UNIT))
        self.__post_init__()

    def enumerate_support(self) -> list[Any] | None:
        return [0, 1]

    def transform(self, noise: Value) -> Value:
        return astype(less(sigmoid(-self.logits), noise), noise.dtype)

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        """The other side: ``f(1) - f(0)`` with the slope of p, whichever came."""
        return 1 - z, (1 - 2 * z) * success(self.logits), self.variance

    def log_density(self, x: Value) -> Value:
        if getattr(x, "dtype", np.dtype(float)).kind in "iub":  # in bytes, 1 - 2 x would be 255
            x = astype(x, noise_dtype([value_of(self.logits)]))
        return bernoulli_log_prob(x, self.logits)

    @property
    def mean(self) -> Value:
        return sigmoid(self.logits)

    @property
    def variance(self) -> Value:
        return sigmoid(self.logits) * sigmoid(-self.logits)

    def entropy(self) -> Value:
        size = minimum(abs(self.logits), 800.0)  # from there on p is 0 or 1, and infinity times 0 is avoided
        return softplus(-size) + size * sigmoid(-size)

    def cdf(self, x: Value) -> Value:
        return where(x < 0, 0.0, where(x < 1, sigmoid(-self.logits), choose(isnan(x), x, 1.0)))

    def icdf(self, p: Value) -> Value:
        p = probability(p, self)
        return choose(isnan(p), p, self.transform(p))


class _Choice:
    """The parameter that the two distributions of a choice among K classes have in common."""

    logits: Value
    path: ClassVar[str | None] = None

    def __init__(self, *, logits: Value | None = None, probs: Value | None = None) -> None:
        object.__setattr__(self, "logits", logits_from(type(self).__name__, logits, probs, SIMPLEX))
        self.__post_init__()  # type: ignore[attr-defined]

    def _runner_up(self, chosen: Value, noise: Value) -> tuple[Value, Value, Value]:
        """Return a mask of the class that comes second with this noise, and what belongs to an ``alternative``.

        The first two are a draw without replacement. With a = 1 - p(first) and b = 1 - p(second), the path is
        ``a b / (a + b) (l_second - l_first)``: for two classes the path of a toss. Kool, van Hoof and Welling 2020.
        """
        l = self.logits
        noisy = where(chosen, -math.inf, l - log(-log(noise)))
        classes = namespace(value_of(noise)).arange(l.shape[-1])
        second = stop_gradient(equal(argmax(noisy, axis=-1, keepdims=True), classes))
        a, b = (1 - sum(where(mask, softmax(l), 0.0), axis=-1) for mask in (chosen, second))
        weight = stop_gradient(divide_or_zero(a * b, a + b))
        finite = stop_gradient(isfinite(l))  # a class of probability 0 comes second where there is no other: weight 0
        first, other = (sum(where(logical_and(mask, finite), l, 0.0), axis=-1) for mask in (chosen, second))
        return second, weight * (other - first), weight

    def entropy(self) -> Value:
        log_p = log_softmax(self.logits)
        return -sum(times_log(exp(log_p), log_p), axis=-1)


@dataclass(frozen=True, eq=False, init=False)
class Categorical(_Choice, Distribution):
    """The distribution of a choice among K classes, a whole number from 0 to K - 1.

    ``log p(k) = log_softmax(logits)_k``; a draw is ``argmax(logits + Gumbel noise)``, the noise being
    ``-log(-log u)`` of K uniforms.

    Args:
        logits: logarithms of the probabilities up to a constant, along the last axis; or
        probs: the probabilities, nonnegative with sum 1 along the last axis.

    >>> float(Categorical(logits=np.zeros(4)).log_prob(np.array(2)).round(6))
    -1.386294
    """

    logits: Value = parameter(LOGITS)

    @property
    def support(self) -> Domain:
        return whole_numbers(0, self.logits.shape[-1] - 1)

    def noise_shape(self, shape: tuple[int, ...] = ()) -> tuple[int, ...]:
        return (*shape, *self.logits.shape)

    def enumerate_support(self) -> list[Any] | None:
        return list(range(self.logits.shape[-1]))

    def transform(self, noise: Value) -> Value:
        return argmax(self.logits - log(-log(noise)), axis=-1)

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        classes = namespace(value_of(noise)).arange(self.logits.shape[-1])
        second, path, size = self._runner_up(equal(expand_dims(z, axis=-1), classes), noise)
        return argmax(second, axis=-1), path, size

    def log_density(self, x: Value) -> Value:
        classes = namespace(value_of(self.logits)).arange(self.logits.shape[-1])
        chosen = expand_dims(x, axis=-1) == classes
        return sum(where(chosen, log_softmax(self.logits), 0.0), axis=-1)

    @property
    def _classes(self) -> Value:
        return namespace(value_of(self.logits)).arange(self.logits.shape[-1]).astype(self.logits.dtype)

    @property
    def mean(self) -> Value:
        return sum(softmax(self.logits) * self._classes, axis=-1)

    @property
    def variance(self) -> Value:
        mean = expand_dims(self.mean, axis=-1)
        return sum(softmax(self.logits) * (self._classes - mean) ** 2, axis=-1)


@dataclass(frozen=True, eq=False, init=False)
class OneHotCategorical(_Choice, Distribution):
    """The distribution of a choice among K classes, a vector of K zeros with a 1 at the class chosen.

    ``log p(x) = sum_k x_k log_softmax(logits)_k``; a draw is the one that ``Categorical`` makes of the same noise.

    Args:
        logits: logarithms of the probabilities up to a constant, along the last axis; or
        probs: the probabilities, nonnegative with sum 1 along the last axis.

    >>> float(OneHotCategorical(logits=np.zeros(4)).log_prob(np.array([0.0, 1.0, 0.0, 0.0])).round(6))
    -1.386294
    """

    logits: Value = parameter(LOGITS)
    support = ONE_HOT

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.logits.shape[-1:]

    def enumerate_support(self) -> list[Any] | None:
        return list(np.eye(self.event_shape[0]))

    def transform(self, noise: Value) -> Value:
        chosen = argmax(self.logits - log(-log(noise)), axis=-1, keepdims=True)
        return astype(equal(chosen, namespace(value_of(noise)).arange(self.logits.shape[-1])), noise.dtype)

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        second, path, size = self._runner_up(equal(z, 1), noise)
        return astype(second, noise.dtype), path, size

    def log_density(self, x: Value) -> Value:
        return sum(times_log(x, log_softmax(self.logits)), axis=-1)

    @property
    def mean(self) -> Value:
        return softmax(self.logits)

    @property
    def variance(self) -> Value:
        p = softmax(self.logits)
        return p * (1 - p)
