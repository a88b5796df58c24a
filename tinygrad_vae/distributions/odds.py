"""Two ways to give a probability: as it is, or as logits. Both are kept as they were given.

The logit of 0 is minus infinity, and a derivative that goes through it is 0 times infinity. A formula in p itself keeps
its derivative there: -1 / (1 - p) for log(1 - p).
"""

from __future__ import annotations

from typing import Any

from ..core import Value, namespace, value_of
from ..domains import Domain
from ..ops import exp, log, log_softmax, logit, sigmoid, softmax, softplus, sum, xlog1py, xlogy
from .branches import log_or_minus_inf
from .distribution import parameter, times_log


def either(domain: Domain) -> Any:
    """Declare one of two parameters. Each is given by name; it is None if the other one is given."""
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
    """A distribution made of tosses: p, 1 - p, their logarithms, and (1 - p) / p, the mean failures before a 1."""

    as_logits = property(lambda self: logit(self.probs) if self.logits is None else self.logits)
    heads = property(lambda self: self.probs if self.logits is None else sigmoid(self.logits))
    tails = property(lambda self: 1 - self.probs if self.logits is None else sigmoid(-self.logits))
    failures = property(lambda self: (1 - self.probs) / self.probs if self.logits is None else exp(-self.logits))
    log_heads = property(lambda self: log_or_minus_inf(self.probs) if self.logits is None else -softplus(-self.logits))
    log_tails = property(
        lambda self: log_or_minus_inf(1 - self.probs) if self.logits is None else -softplus(self.logits)
    )

    def log_prob_of(self, heads: Value, tails: Value) -> Value:
        """Return ``heads log p + tails log(1 - p)``, with the derivatives that it has at p = 0 and 1."""
        if self.logits is None:
            return xlogy(heads, self.probs) + xlog1py(tails, -self.probs)
        return times_log(heads, self.log_heads) + times_log(tails, self.log_tails)


class Choice(LogitsOrProbs):
    """A choice among K classes, from unnormalised logits or from probabilities along the last axis."""

    given = property(lambda self: self.probs if self.logits is None else self.logits)
    classes = property(lambda self: int(self.given.shape[-1]))
    as_logits = property(lambda self: log_or_minus_inf(self.probs) if self.logits is None else self.logits)
    log_each = property(lambda self: log_softmax(self.as_logits))
    # 0 to K - 1
    numbers = property(lambda self: namespace(value_of(self.given)).arange(self.classes).astype(self.given.dtype))

    @property
    def each(self) -> Value:
        """The probabilities."""
        return softmax(self.logits) if self.probs is None else self.probs / sum(self.probs, axis=-1, keepdims=True)

    def log_prob_of(self, chosen: Value) -> Value:
        """Return ``log p_k``, for a vector with a 1 at class k and zeros elsewhere."""
        if self.probs is None:
            return sum(times_log(chosen, self.log_each), axis=-1)
        return sum(xlogy(chosen, self.probs), axis=-1) - log(sum(self.probs, axis=-1))
