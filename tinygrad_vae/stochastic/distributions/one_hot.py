"""A choice among classes, written as a vector."""

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import Value, namespace
from ...domains import LOGITS, ONE_HOT, SIMPLEX
from ...graph import value_of
from ...ops import argmax, astype, equal, exp, log, log_softmax, softmax, sum
from ..distribution import Distribution, logits_from, parameter, times_log


@dataclass(frozen=True, eq=False, init=False)
class OneHotCategorical(Distribution):
    """The law of a choice among K classes, a vector of K zeros with a 1 at the class chosen.

    ``log p(x) = sum_k x_k log_softmax(logits)_k``; a draw is the one that ``Categorical`` makes of the same noise.

    Args:
        logits: logarithms of the probabilities up to a constant, along the last axis; or
        probs: the probabilities, nonnegative with sum 1 along the last axis.

    >>> float(OneHotCategorical(logits=np.zeros(4)).log_prob(np.array([0.0, 1.0, 0.0, 0.0])).round(6))
    -1.386294
    """

    logits: Value = parameter(LOGITS)
    support = ONE_HOT
    path = None

    def __init__(self, *, logits: Value | None = None, probs: Value | None = None) -> None:
        object.__setattr__(self, "logits", logits_from("OneHotCategorical", logits, probs, SIMPLEX))
        self.__post_init__()

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.logits.shape[-1:]

    def transform(self, noise: Value) -> Value:
        chosen = argmax(self.logits - log(-log(noise)), axis=-1, keepdims=True)
        return astype(equal(chosen, namespace(value_of(noise)).arange(self.logits.shape[-1])), noise.dtype)

    def log_density(self, x: Value) -> Value:
        return sum(times_log(x, log_softmax(self.logits)), axis=-1)

    @property
    def mean(self) -> Value:
        return softmax(self.logits)

    @property
    def variance(self) -> Value:
        p = softmax(self.logits)
        return p * (1 - p)

    def entropy(self) -> Value:
        log_p = log_softmax(self.logits)
        return -sum(times_log(exp(log_p), log_p), axis=-1)
