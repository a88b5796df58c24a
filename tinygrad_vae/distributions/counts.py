"""Laws on the whole numbers from 0 on. A draw jumps as the parameters move, so it has no pathwise derivative.

They know their formulas, and nothing of how a gradient gets past them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, Value, as_array, namespace, value_of
from ..domains import COUNT, LOGIT, POSITIVE, UNIT, Domain
from ..ops import (
    betainc,
    betaln,
    exp,
    expm1,
    floor,
    gammainc,
    lgamma,
    log,
    maximum,
    minimum,
    sigmoid,
    softplus,
    sum,
    where,
    xlogy,
)
from .distribution import Distribution, logits_from, parameter, times_log
from .implicit import inverse_cdf, smallest_count

_ABOVE_MINUS_INFINITY = Domain(
    "above minus infinity", lambda x: x > -np.inf, lambda rng, shape: rng.uniform(-2, 3, shape)
)
_POSITIVE_PROBABILITY = Domain(
    "above 0, up to 1", lambda x: (x > 0) & (x <= 1), lambda rng, shape: rng.uniform(0.1, 0.9, shape)
)
_NEVER = 40.0
"""What a search or a sum leaves out has a probability below exp(-40), less than the smallest noise."""


def _entropy_by_sum(law: Distribution, highest: Array) -> Value:
    """Return ``-sum_k p(k) log p(k)`` up to ``highest``."""
    xp = namespace(highest)
    counts = xp.arange(int(highest.max()) + 1 if highest.size else 1, dtype=highest.dtype)
    log_p = law.log_density(counts.reshape((-1,) + (1,) * len(law.batch_shape)))
    return -sum(times_log(exp(log_p), log_p), axis=0)


@dataclass(frozen=True, eq=False, init=False)
class Geometric(Distribution):
    """The law of the number of failures before the first success, with p = sigmoid(logits) for each trial.

    ``log p(k) = k log(1 - p) + log p`` for k = 0, 1, ...; a draw is ``floor(log u / log(1 - p))``, u ~ U(0, 1).

    Args:
        logits: log(p / (1 - p)), above minus infinity; or
        probs: p, above 0 and up to 1.

    >>> round(float(Geometric(probs=0.25).mean), 6)
    3.0
    """

    logits: Value = parameter(_ABOVE_MINUS_INFINITY)
    support = COUNT
    path = None

    def __init__(self, *, logits: Value | None = None, probs: Value | None = None) -> None:
        object.__setattr__(self, "logits", logits_from("Geometric", logits, probs, _POSITIVE_PROBABILITY))
        self.__post_init__()

    def transform(self, noise: Value) -> Value:
        return floor(-log(noise) / softplus(self.logits))

    def log_density(self, x: Value) -> Value:
        return -times_log(x, softplus(self.logits)) - softplus(-self.logits)

    @property
    def mean(self) -> Value:
        return exp(-self.logits)

    @property
    def variance(self) -> Value:
        odds = exp(-self.logits)
        return odds * (1 + odds)

    def entropy(self) -> Value:
        logits = minimum(self.logits, 800.0)  # from there on p is 1, and 0 times infinity is avoided
        return exp(-logits) * softplus(logits) + softplus(-logits)

    def cdf(self, x: Value) -> Value:
        return -expm1(-times_log(maximum(floor(x) + 1, 0.0), softplus(self.logits)))


@dataclass(frozen=True, eq=False)
class Poisson(Distribution):
    """The Poisson law of the number of events in a unit of time.

    ``log p(k) = k log(rate) - rate - log k!`` for k = 0, 1, ...; a draw is the smallest k with ``F(k) >= u``.

    Args:
        rate: mean and variance, positive.

    >>> float(Poisson(2.0).sample(rng=tg.noise(0)))
    2.0
    """

    rate: Value = parameter(POSITIVE)
    support = COUNT
    path = None

    def _highest(self) -> Array:
        """Return a count that a draw never exceeds, by Bernstein's inequality."""
        rate = value_of(self.rate)
        return np.ceil(rate + _NEVER / 3 + np.sqrt(_NEVER**2 / 9 + 2 * _NEVER * rate))

    def icdf(self, p: Value) -> Value:
        return inverse_cdf(self, p)

    def solve_cdf(self, p: Array) -> Array:
        return smallest_count(self.cdf, p, self._highest())

    def log_density(self, x: Value) -> Value:
        return xlogy(x, self.rate) - self.rate - lgamma(x + 1)

    @property
    def mean(self) -> Value:
        return self.rate + 0.0

    @property
    def variance(self) -> Value:
        return self.rate + 0.0

    def entropy(self) -> Value:
        return _entropy_by_sum(self, self._highest())

    def cdf(self, x: Value) -> Value:
        k = floor(x)
        return where(value_of(k) < 0, 0.0, 1 - gammainc(maximum(k, 0.0) + 1, self.rate))


@dataclass(frozen=True, eq=False, init=False)
class Binomial(Distribution):
    """The law of the number of successes among ``total`` trials, with p = sigmoid(logits) for each.

    ``log p(k) = log(n! / (k! (n - k)!)) + k log p + (n - k) log(1 - p)``; a draw is the smallest k with ``F(k) >= u``.

    Args:
        total: n, the number of trials, a whole number from 0 on.
        logits: log(p / (1 - p)); or
        probs: p, from 0 to 1.

    >>> float(Binomial(10, probs=0.25).mean)
    2.5
    """

    total: Value = parameter(COUNT, moves_support=True)
    logits: Value = parameter(LOGIT)
    path = None

    def __init__(self, total: Value, *, logits: Value | None = None, probs: Value | None = None) -> None:
        object.__setattr__(self, "total", total)
        object.__setattr__(self, "logits", logits_from("Binomial", logits, probs, UNIT))
        self.__post_init__()

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

    def icdf(self, p: Value) -> Value:
        return inverse_cdf(self, p)

    def solve_cdf(self, p: Array) -> Array:
        return smallest_count(self.cdf, p, self.total)

    def log_density(self, x: Value) -> Value:
        others = self.total - x
        ways = lgamma(self.total + 1) - lgamma(x + 1) - lgamma(others + 1)
        return ways - times_log(x, softplus(-self.logits)) - times_log(others, softplus(self.logits))

    @property
    def mean(self) -> Value:
        return self.total * sigmoid(self.logits)

    @property
    def variance(self) -> Value:
        return self.total * (sigmoid(self.logits) * sigmoid(-self.logits))

    def entropy(self) -> Value:
        return _entropy_by_sum(self, as_array(value_of(self.total)))

    def cdf(self, x: Value) -> Value:
        k = floor(x)
        inside = (value_of(k) >= 0) & (value_of(k) < value_of(self.total))
        a, b = where(inside, self.total - k, 1.0), where(inside, k + 1, 1.0)
        return where(value_of(k) < 0, 0.0, where(inside, betainc(a, b, sigmoid(-self.logits)), 1.0))


@dataclass(frozen=True, eq=False, init=False)
class NegativeBinomial(Distribution):
    """The law of the number of failures before the ``total``-th success, with p = sigmoid(logits) for each trial.

    ``log p(k) = log(Gamma(k + r) / (k! Gamma(r))) + r log p + k log(1 - p)`` for k = 0, 1, ..., with r = total, which
    need not be whole; a draw is the smallest k with ``F(k) >= u``. It is a Poisson law whose rate follows
    ``Gamma(r, p / (1 - p))``. With total = 1 it is ``Geometric``.

    Args:
        total: r, positive.
        logits: log(p / (1 - p)), above minus infinity; or
        probs: p, above 0 and up to 1.

    >>> round(float(NegativeBinomial(2.0, probs=0.25).mean), 6)
    6.0
    """

    total: Value = parameter(POSITIVE)
    logits: Value = parameter(_ABOVE_MINUS_INFINITY)
    support = COUNT
    path = None

    def __init__(self, total: Value, *, logits: Value | None = None, probs: Value | None = None) -> None:
        object.__setattr__(self, "total", total)
        object.__setattr__(self, "logits", logits_from("NegativeBinomial", logits, probs, _POSITIVE_PROBABILITY))
        self.__post_init__()

    def _highest(self) -> Array:
        """Return a count that a draw never exceeds: ``P(k or more) <= (1 + sqrt q)^r q^(k/2)`` with q = 1 - p."""
        logits, total = value_of(self.logits), value_of(self.total)
        decay = softplus(logits)  # -log q
        return np.ceil(2 * (_NEVER + total * np.log1p(np.exp(-0.5 * decay))) / decay)

    def icdf(self, p: Value) -> Value:
        return inverse_cdf(self, p)

    def solve_cdf(self, p: Array) -> Array:
        return smallest_count(self.cdf, p, self._highest())

    def log_density(self, x: Value) -> Value:
        ways = -betaln(self.total, x + 1) - log(x + self.total)
        return ways - self.total * softplus(-self.logits) - times_log(x, softplus(self.logits))

    @property
    def mean(self) -> Value:
        return self.total * exp(-self.logits)

    @property
    def variance(self) -> Value:
        odds = exp(-self.logits)
        return self.total * odds * (1 + odds)

    def entropy(self) -> Value:
        return _entropy_by_sum(self, self._highest())

    def cdf(self, x: Value) -> Value:
        k = floor(x)
        return where(value_of(k) < 0, 0.0, betainc(self.total, maximum(k, 0.0) + 1, sigmoid(self.logits)))
