"""Continuous distributions close to discrete ones: a draw is soft, and has a derivative.

Maddison, Mnih and Teh 2017; Jang, Gu and Poole 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core import Value
from ..domains import OPEN_UNIT, POSITIVE, POSITIVE_SIMPLEX, REAL, SIMPLEX, VECTOR
from ..ops import expand_dims, log, log1p, logsumexp, sigmoid, softmax, sum
from .branches import above_zero, choose, inside_unit
from .distribution import Distribution, formula, parameter
from .location_scale import Logistic
from .odds import Choice, Toss, either


@dataclass(frozen=True, eq=False)
class RelaxedBernoulli(Toss, Distribution):
    """The distribution of ``sigmoid((logits + e) / temperature)`` with logistic noise e: a soft toss.

    At temperature 0 it would be ``Bernoulli(logits)``: a draw is above 1/2 as often as a toss of that one
    is 1. Its mean differs, and has no closed form.

    Args:
        temperature: positive; the smaller, the closer draws lie to 0 and 1.
        logits: log(p / (1 - p)), any number; or
        probs: p, between 0 and 1.

    >>> round(float(1 - RelaxedBernoulli(0.5, probs=0.3).cdf(0.5)), 6)
    0.3
    """

    temperature: Value = parameter(POSITIVE)
    logits: Value = either(REAL)
    probs: Value = either(OPEN_UNIT)
    support = OPEN_UNIT
    _logit = property(lambda self: Logistic(self.as_logits / self.temperature, 1 / self.temperature))
    log_density = formula(lambda self, x: self._logit.log_density(log(x) - log1p(-x)) - log(x) - log1p(-x))
    icdf = formula(lambda self, p: inside_unit(sigmoid(self._logit.icdf(p))))

    def cdf(self, x: Value) -> Value:
        below, above = x <= 0, x >= 1
        x = choose(below, 0.5, choose(above, 0.5, x))
        return choose(below, 0.0, choose(above, 1.0, self._logit.cdf(log(x) - log1p(-x))))


@dataclass(frozen=True, eq=False)
class RelaxedOneHotCategorical(Choice, Distribution):
    """The distribution of ``softmax((logits + e) / temperature)`` with Gumbel noise e: a soft choice.

    ``log p(x) = log (K-1)! + (K-1) log t + sum_k (l_k - (t+1) log x_k) - K log sum_k exp(l_k - t log x_k)`` on the
    simplex. Element k of a draw is the largest with the probability that ``Categorical`` gives to class k.

    Args:
        temperature: t, positive; the smaller, the closer draws lie to the corners.
        logits: l, logarithms of the probabilities up to a constant, along the last axis; or
        probs: the probabilities, positive with sum 1 along the last axis.

    >>> d = RelaxedOneHotCategorical(0.5, probs=np.array([0.2, 0.3, 0.5]))
    >>> bool(np.isclose(d.sample(rng=tg.noise(0)).sum(), 1))
    True
    """

    temperature: Value = parameter(POSITIVE)
    logits: Value = either(VECTOR)
    probs: Value = either(POSITIVE_SIMPLEX)
    support = SIMPLEX
    event_shape = property(lambda self: (self.classes,))
    # The temperature, with an axis for the classes
    _temperature = property(lambda self: expand_dims(self.temperature + 0.0 * self.given[..., 0], axis=-1))

    def transform(self, noise: Value) -> Value:
        return above_zero(softmax((self.as_logits - log(-log(noise))) / self._temperature))

    def log_density(self, x: Value) -> Value:
        classes, tilted = self.classes, self.as_logits - self._temperature * log(x)
        normaliser = math.lgamma(classes) + (classes - 1) * log(self.temperature)
        return normaliser + sum(tilted - log(x), axis=-1) - classes * logsumexp(tilted, axis=-1)
