"""Distributions on the non-negative integers. A draw jumps as the parameters move: it has no pathwise derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core import Array, Value, namespace, trees, value_of
from ..domains import COUNT, LOGIT, LOGITS, NONNEGATIVE, POSITIVE, SIMPLEX, UNIT, Domain, between
from ..ops import (
    astype,
    betainc,
    cumulative_sum,
    divide_or_zero,
    exp,
    expand_dims,
    expm1,
    flip,
    floor,
    gammaincc,
    log,
    maximum,
    minimum,
    sqrt,
    stack,
    stop_gradient,
    sum,
    where,
)
from .accurate import deviance, in_float64, log_binomial, stirling_remainder
from .branches import choose, clamp, log_or_minus_inf
from .distribution import Distribution, formula, parameter, times_log
from .implicit import Implicit, smallest_count
from .odds import Choice, Toss, either

_ABOVE_MINUS_INFINITY = Domain("above minus infinity", lambda x: x > -np.inf, between(-2, 3))
_POSITIVE_PROBABILITY = Domain("above 0, up to 1", lambda x: (x > 0) & (x <= 1), UNIT.draw)
_NEVER = 40.0  # counts of a probability below exp(-40), less than the smallest noise, are never drawn
_STEPS = np.arange(1600.0)
_GROWTH = np.exp((_STEPS - 444) / 12)


def entropy_of_counts(dist: Any) -> Value:
    """Return ``-sum_k p(k) log p(k)`` as a sum over 1600 nodes, wherever the probability lies.

    Where the mean is many deviations away from 0, the nodes are equally spaced around it. Elsewhere they are the counts
    themselves up to 400, and then grow further apart smoothly. A sum over a smooth function with equal spacing in a
    smooth variable is exact but for terms that are exponentially small.
    """
    leaves = trees.leaves(dist)
    dtype = np.result_type(*(getattr(leaf, "dtype", np.float64) for leaf in leaves))
    dist = trees.map_leaves(lambda leaf: astype(leaf, np.float64), dist)
    mean, deviation = stop_gradient(dist.mean), stop_gradient(sqrt(dist.variance))
    xp = namespace(*map(value_of, trees.leaves(dist)))
    t, growth = (xp.asarray(x).reshape((-1,) + (1,) * len(dist.batch_shape)) for x in (_STEPS, _GROWTH))
    first = floor(mean - 8.5 * deviation)
    stride = clamp(22.5 * deviation / (len(_STEPS) - 1), 1.0)
    away = first > 0
    nodes, weights = choose(away, first + stride * t, t + growth), choose(away, stride, 1 + growth / 12)
    outside = nodes > dist.highest_count
    log_p = dist.log_density(choose(outside, 0.0, nodes))
    return astype(-sum(choose(outside, 0.0, weights * times_log(exp(log_p), log_p)), axis=0), dtype)


class Counts(Implicit):
    """A distribution on the whole numbers: a draw is the smallest count k with ``cdf(k) >= u``.

    It is at most ``search_up_to()``, and never above ``highest_count``, from where on the probability is 0.
    """

    support: ClassVar[Any] = COUNT
    path: ClassVar[str | None] = None
    highest_count: Any = math.inf
    cdf: Any
    search_up_to: Any
    entropy = formula(lambda self: entropy_of_counts(self))

    def solve_cdf(self, p: Array) -> Array:
        xp = namespace(p)
        return xp.where(xp.isnan(p), p, smallest_count(self.cdf, p, self.search_up_to()))


class _Failures(Toss, Counts):
    """The number of failures before so many successes."""

    successes: Any = 1.0

    def search_up_to(self) -> Any:
        decay = -self.log_tails  # P(k or more) <= (1 + sqrt q)^r q^(k/2) with q = 1 - p
        return np.ceil(2 * (_NEVER + self.successes * np.log1p(np.exp(-0.5 * decay))) / decay)


@dataclass(frozen=True, eq=False)
class Geometric(_Failures, Distribution):
    """The distribution of the number of failures before the first success, with p = sigmoid(logits) for each trial.

    ``log p(k) = k log(1 - p) + log p`` for k = 0, 1, ...; a draw is ``floor(log u / log(1 - p))``, u ~ U(0, 1).

    Args:
        logits: log(p / (1 - p)), above minus infinity; or
        probs: p, above 0 and up to 1.

    >>> round(float(Geometric(probs=0.25).mean), 6)
    3.0
    """

    logits: Value = either(_ABOVE_MINUS_INFINITY)
    probs: Value = either(_POSITIVE_PROBABILITY)
    mean = property(lambda self: self.failures)
    variance = property(lambda self: self.failures * (1 + self.failures))
    transform = formula(lambda self, noise: floor(log(noise) / self.log_tails))
    log_density = formula(lambda self, x: self.log_prob_of(1.0 + 0.0 * x, x))
    entropy = formula(lambda self: -(times_log(self.failures, self.log_tails) + self.log_heads))
    cdf = formula(lambda self, x: -expm1(times_log(clamp(floor(x) + 1, 0.0), self.log_tails)))

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        """One failure more: ``-(z + 1) / p`` times the slope of p."""
        return z + 1, -(z + 1) * self.log_heads, (z + 1) * self.tails


@dataclass(frozen=True, eq=False)
class Poisson(Counts, Distribution):
    """The Poisson distribution of the number of events in a unit of time.

    ``log p(k) = k log(rate) - rate - log k!`` for k = 0, 1, ...; a draw is the smallest k with ``F(k) >= u``.

    Args:
        rate: mean and variance, from 0, where every draw is 0.

    >>> float(Poisson(2.0).sample(rng=tg.noise(0)))
    2.0
    """

    rate: Value = parameter(NONNEGATIVE)
    mean = property(lambda self: self.rate + 0.0)
    variance = property(lambda self: self.rate + 0.0)

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        """One event more: ``dE f(z) / drate = E f(z + 1) - E f(z)``."""
        return z + 1, self.rate, self.rate

    def search_up_to(self) -> Any:
        bound = _NEVER / 3 + np.sqrt(_NEVER**2 / 9 + 2 * _NEVER * self.rate)  # by Bernstein's inequality
        return np.ceil(self.rate + bound)

    def log_density(self, x: Value) -> Value:
        return -deviance(x, self.rate, log_or_minus_inf(self.rate)) - stirling_remainder(x)

    def cdf(self, x: Value) -> Value:
        k = floor(x)
        return choose(k < 0, 0.0, in_float64(gammaincc, clamp(k, 0.0) + 1, self.rate))


@dataclass(frozen=True, eq=False)
class Binomial(Toss, Counts, Distribution):
    """The distribution of the number of successes among ``total`` trials, with p = sigmoid(logits) for each.

    ``log p(k) = log(n! / (k! (n - k)!)) + k log p + (n - k) log(1 - p)``; a draw is the smallest k with ``F(k) >= u``.

    Args:
        total: n, the number of trials, a non-negative integer.
        logits: log(p / (1 - p)); or
        probs: p, from 0 to 1.

    >>> float(Binomial(10, probs=0.25).mean)
    2.5
    """

    total: Value = parameter(COUNT, moves_support=True)
    logits: Value = either(LOGIT)
    probs: Value = either(UNIT)
    highest_count = property(lambda self: stop_gradient(self.total))
    mean = property(lambda self: self.total * self.heads)
    variance = property(lambda self: self.total * (self.heads * self.tails))

    @property
    def support(self) -> Domain:
        total = value_of(self.total)
        return Domain(
            "a whole number from 0 to total",
            lambda x: COUNT.contains(x) & (x <= total),
            lambda rng, shape: np.floor(rng.random(shape) * (total + 1)),
            discrete=True,
            bounds=(0, total),
        )

    def enumerate_support(self) -> list[Any] | None:
        totals = np.unique(value_of(self.total))
        return list(range(int(totals[0]) + 1)) if len(totals) == 1 else None

    @property
    def why_not_enumerated(self) -> str:
        totals = value_of(self.total)
        return (
            f"the values of a Binomial draw are 0 to total, and the totals differ ({totals.min():g} to "
            f"{totals.max():g}): for a sum over one support all must be equal. Draw the counts of each total by "
            "themselves, and enumerate each of these draws"
        )

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        """One trial turned from the likelier outcome, which has probability r and came m times: ``-m / r`` in r."""
        p = self.heads
        up = stop_gradient(p < 0.5)
        m, r = where(up, self.total - z, z), where(up, 1 - p, p)
        return where(up, minimum(z + 1, self.total), maximum(z - 1, 0.0)), -m * log(r), m * (1 - r)

    def search_up_to(self) -> Any:
        return self.total

    def log_density(self, x: Value) -> Value:
        return log_binomial(x, self.total - x, self.heads, self.log_heads, self.tails, self.log_tails)

    def entropy(self) -> Value:
        logits = self.as_logits  # of the rarer outcome, whose count has the same entropy
        return entropy_of_counts(Binomial(self.total, logits=choose(logits > 0, -logits, logits)))

    def cdf(self, x: Value) -> Value:
        k = floor(x)
        below, above = k < 0, k >= self.total
        outside = below | above
        a, b = choose(outside, 1.0, self.total - k), choose(outside, 1.0, k + 1)
        inside = in_float64(betainc, a, b, self.tails)
        return choose(below, 0.0, choose(above, 1.0, inside))


@dataclass(frozen=True, eq=False)
class NegativeBinomial(_Failures, Distribution):
    """The distribution of the number of failures before r successes, with p = sigmoid(logits) for each trial.

    ``log p(k) = log(Gamma(k + r) / (k! Gamma(r))) + r log p + k log(1 - p)`` for k = 0, 1, ..., with r = successes,
    which need not be whole; a draw is the smallest k with ``F(k) >= u``. It is a Poisson distribution whose rate is a
    ``Gamma(r, p / (1 - p))`` number. With one success it is ``Geometric``.

    SciPy's ``nbinom(r, p)`` is the same. PyTorch and TensorFlow Probability count the successes before r failures:
    their ``NegativeBinomial(r, probs=p)`` is ``NegativeBinomial(successes=r, probs=1 - p)`` here, and their logits are
    the negative of these. So r is given by name: a program copied from there does not run with another meaning.

    Args:
        successes: r, positive.
        logits: log(p / (1 - p)), above minus infinity; or
        probs: p, above 0 and up to 1.

    >>> round(float(NegativeBinomial(successes=2.0, probs=0.25).mean), 6)
    6.0
    """

    successes: Value = parameter(POSITIVE, kw_only=True)
    logits: Value = either(_ABOVE_MINUS_INFINITY)
    probs: Value = either(_POSITIVE_PROBABILITY)
    mean = property(lambda self: self.successes * self.failures)
    variance = property(lambda self: self.successes * self.failures * (1 + self.failures))

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value]:
        """One failure more. The path has the slope ``-dF(z) / p(z)``, F the cdf: ``-(z + r) / p`` in p."""
        p, count, r = self.heads, z + stop_gradient(self.successes), self.successes
        in_r = betainc(r, z + 1, stop_gradient(p)) / stop_gradient(exp(self.log_density(z)))
        return z + 1, -count * self.log_heads - in_r, count * self.tails

    def log_density(self, x: Value) -> Value:
        ways = log_binomial(x, self.successes, self.tails, self.log_tails, self.heads, self.log_heads)
        return ways + log(self.successes) - log(x + self.successes)

    def cdf(self, x: Value) -> Value:
        k = floor(x)
        return choose(k < 0, 0.0, in_float64(betainc, self.successes, clamp(k, 0.0) + 1, self.heads))


@dataclass(frozen=True, eq=False)
class Multinomial(Choice, Distribution):
    """The distribution of how often each of K classes is chosen in ``total`` trials: a vector of K counts.

    ``log p(x) = log(n! / prod_k x_k!) + sum_k x_k log p_k``. A draw takes K - 1 uniforms, one for each class in turn:
    given the counts before it, the count of class k is ``Binomial(n - x_1 - ... - x_(k-1), p_k / (p_k + ... + p_K))``,
    and the last class gets the rest.

    Args:
        total: n, the number of trials, a non-negative integer.
        logits: logarithms of the probabilities up to a constant, along the last axis; or
        probs: the probabilities, nonnegative with sum 1 along the last axis.

    >>> Multinomial(8, probs=np.array([0.5, 0.25, 0.25])).mean
    array([4., 2., 2.])
    """

    total: Value = parameter(COUNT, moves_support=True)
    logits: Value = either(LOGITS)
    probs: Value = either(SIMPLEX)
    path = None
    event_shape = property(lambda self: (self.classes,))
    event_noise_shape = property(lambda self: (self.classes - 1,))
    mean = property(lambda self: expand_dims(self.total, axis=-1) * self.each)
    variance = property(lambda self: self.mean * (1 - self.each))

    @property
    def support(self) -> Domain:
        total = value_of(self.total)
        return Domain(
            "a vector of whole numbers from 0 on with sum total",
            lambda x: COUNT.contains(x).all(-1) & (x.sum(-1) == total),
            lambda rng, shape: rng.multinomial(np.int64(total), np.full(shape[-1], 1 / shape[-1]), shape[:-1]),
            event_ndim=1,
            discrete=True,
            bounds=(0, total),
        )

    @property
    def why_not_enumerated(self) -> str:
        return "the vectors of counts are not listed: draw each trial by itself, with Categorical, and enumerate these"

    def transform(self, noise: Value) -> Value:
        rest = flip(cumulative_sum(flip(self.each, axis=-1), axis=-1), axis=-1)
        share, left, counts = divide_or_zero(self.each, rest), self.total + 0.0 * sum(noise, axis=-1), []
        for k in range(self.classes - 1):
            counts.append(Binomial(left, probs=share[..., k]).icdf(noise[..., k]))
            left = left - counts[-1]
        return stack([*counts, left], axis=-1)

    def log_density(self, x: Value) -> Value:
        n = expand_dims(self.total, axis=-1)
        mean, log_mean = n * self.each, log(choose(n > 0, n, 1.0)) + self.log_each
        return stirling_remainder(self.total) - sum(stirling_remainder(x) + deviance(x, mean, log_mean), axis=-1)
