"""Two ways to give a probability: as it is, or as logits. Both are kept as they were given.

The logit of 0 is minus infinity, and a derivative that goes through it is 0 times infinity. A formula in p itself has
the derivative -1 / (1 - p) of log(1 - p) also there.
"""

from __future__ import annotations

import math
from typing import Any

from ..core import Value, namespace, value_of
from ..domains import Domain
from ..ops import (
    argmax,
    divide_or_zero,
    equal,
    exp,
    isfinite,
    log,
    log_softmax,
    logical_and,
    logit,
    sigmoid,
    softmax,
    softplus,
    stop_gradient,
    sum,
    where,
    xlog1py,
    xlogy,
)
from .branches import log_or_minus_infinity
from .distribution import parameter, times_log


def either(domain: Domain) -> Any:
    """Declare one of two parameters: it is given by name, and None where the other one is."""
    return parameter(domain, default=None, kw_only=True)


class LogitsOrProbs:
    """A distribution with a parameter ``logits`` or, in its place, ``probs``. The other one is None."""

    logits: Value
    probs: Value

    def __post_init__(self) -> None:
        if (self.logits is None) == (self.probs is None):
            found = "neither" if self.logits is None else "both"
            raise TypeError(f"{type(self).__name__} takes either logits= or probs=, found {found}")
        super().__post_init__()  # type: ignore[misc]  # of Distribution


class Toss(LogitsOrProbs):
    """A distribution made of tosses: p, 1 - p and their logarithms, from logits or from p."""

    @property
    def as_logits(self) -> Value:
        """log(p / (1 - p))."""
        return logit(self.probs) if self.logits is None else self.logits

    @property
    def heads(self) -> Value:
        """The probability p of a 1."""
        return self.probs if self.logits is None else sigmoid(self.logits)

    @property
    def tails(self) -> Value:
        """1 - p."""
        return 1 - self.probs if self.logits is None else sigmoid(-self.logits)

    @property
    def failures(self) -> Value:
        """The mean number of zeros before a 1, (1 - p) / p."""
        return (1 - self.probs) / self.probs if self.logits is None else exp(-self.logits)

    @property
    def log_heads(self) -> Value:
        """log p."""
        return log_or_minus_infinity(self.probs) if self.logits is None else -softplus(-self.logits)

    @property
    def log_tails(self) -> Value:
        """log(1 - p)."""
        return log_or_minus_infinity(1 - self.probs) if self.logits is None else -softplus(self.logits)

    def log_prob_of(self, heads: Value, tails: Value) -> Value:
        """Return ``heads log p + tails log(1 - p)``, with the derivatives that it has at p = 0 and 1."""
        if self.logits is None:
            return xlogy(heads, self.probs) + xlog1py(tails, -self.probs)
        return times_log(heads, self.log_heads) + times_log(tails, self.log_tails)


class Choice(LogitsOrProbs):
    """A choice among K classes: their probabilities along the last axis, from logits or as they were given."""

    @property
    def given(self) -> Value:
        """The logits or the probabilities."""
        return self.probs if self.logits is None else self.logits

    @property
    def classes(self) -> int:
        """K."""
        return int(self.given.shape[-1])

    @property
    def as_logits(self) -> Value:
        """Logarithms of the probabilities, up to a constant."""
        return log_or_minus_infinity(self.probs) if self.logits is None else self.logits

    @property
    def each(self) -> Value:
        """The probabilities."""
        return softmax(self.logits) if self.probs is None else self.probs / sum(self.probs, axis=-1, keepdims=True)

    @property
    def log_each(self) -> Value:
        """The logarithms of the probabilities."""
        return log_softmax(self.as_logits)

    def log_prob_of(self, chosen: Value) -> Value:
        """Return ``log p_k``, for a vector with a 1 at class k and zeros elsewhere."""
        if self.probs is None:
            return sum(times_log(chosen, self.log_each), axis=-1)
        return sum(xlogy(chosen, self.probs), axis=-1) - log(sum(self.probs, axis=-1))

    def runner_up(self, chosen: Value, noise: Value) -> tuple[Value, Value, Value]:
        """Return a mask of the class that comes second with this noise, and what belongs to ``alternative``.

        The first two are a draw without replacement. With a = 1 - p(first) and b = 1 - p(second), the path is
        ``a b / (a + b) (l_second - l_first)``: for two classes the path of a toss. Kool, van Hoof and Welling 2020.
        """
        l = self.as_logits
        noisy = where(chosen, -math.inf, l - log(-log(noise)))
        classes = namespace(value_of(noise)).arange(self.classes)
        second = stop_gradient(equal(argmax(noisy, axis=-1, keepdims=True), classes))
        a, b = (1 - sum(where(mask, self.each, 0.0), axis=-1) for mask in (chosen, second))
        weight = stop_gradient(divide_or_zero(a * b, a + b))
        finite = stop_gradient(isfinite(l))  # a class of probability 0 comes second where there is no other: weight 0
        first, other = (sum(where(logical_and(mask, finite), l, 0.0), axis=-1) for mask in (chosen, second))
        return second, weight * (other - first), weight
