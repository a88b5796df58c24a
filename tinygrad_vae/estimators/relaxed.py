"""Relaxed draws, and the biased estimators made of them: straight-through and Gumbel-softmax.

Both let the gradient pass where there is no path. That is cheap and often trains, but it is the gradient of something
else than the expectation, and they say so.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..core import Array, Sample, Tensor, Value
from ..distributions import Bernoulli, OneHotCategorical
from ..distributions.distribution import Distribution
from ..ops import log, logaddexp, logit, sigmoid, softmax, softplus, sum, surrogate, where
from .estimator import Estimator, Rest


def no_relaxed_draw(dist: Distribution) -> str | None:
    """Return that a draw is no argmax of logits and noise, which a softmax can follow, or ``None`` where it is."""
    if isinstance(dist, (Bernoulli, OneHotCategorical)):
        return None
    return f"there is a relaxed draw of Bernoulli and OneHotCategorical, not of {type(dist).__name__}"


def noisy_logits(dist: Any, noise: Value) -> Value:
    """Return the logits and noise whose sign, or argmax, is the draw: ``l + logit(u)``, or ``log p - log(-log u)``."""
    if isinstance(dist, Bernoulli):
        return dist.as_logits + logit(noise)
    return dist.log_each - log(-log(noise))


def noisy_logits_given(dist: Any, b: Array, v: Array) -> Value:
    """Return noisy logits from their distribution given the draw b, as a function of the uniforms v.

    Of a toss, u given b is uniform above or below 1 - p: its logit is the difference of ``log u`` and ``log(1 - u)``,
    each without the other, since 1 - u is lost where u rounds to 1. Of a choice, the largest is a Gumbel number g, and
    the others are Gumbel numbers of their classes below it, ``-log(exp(-g) - log(v_i) / p_i)``. Tucker et al. 2017,
    appendix C.
    """
    if isinstance(dist, Bernoulli):
        logits = dist.as_logits
        heads, tails = sigmoid(logits), sigmoid(-logits)
        given_1 = log(tails + v * heads) - log(1 - v) + softplus(-logits)
        given_0 = log(v) - softplus(logits) - log(1 - v * tails)
        return logits + where(b == 1, given_1, given_0)
    largest = log(-log(sum(b * v, axis=-1, keepdims=True)))
    others = logaddexp(log(-log(v)) - dist.log_each, largest)
    return -where(b == 1, largest, others)


def relaxed(dist: Distribution, noisy: Value, temperature: float) -> Value:
    """Return the relaxed draw, between 0 and 1, of noisy logits."""
    return sigmoid(noisy / temperature) if isinstance(dist, Bernoulli) else softmax(noisy / temperature)


def check_temperature(what: str, temperature: float) -> None:
    """Raise where a temperature is not above 0."""
    if not temperature > 0:
        raise ValueError(f"{what}: the temperature must be positive, found {temperature}")


class StraightThrough(Estimator):
    """The draw forwards, its mean backwards: ``K(stop(z) + zero(mean(theta)))``.

    It expects ``K'(z) dmean/dtheta``: for (b - t)^2 and b ~ Bernoulli(p) that is 2 p - 2 t, where the truth is 1 - 2 t.
    Bengio, Leonard and Courville 2013.

    >>> p = tg.Tensor(0.3, "p")
    >>> b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    >>> cost = tg.estimate((b - 0.45) ** 2, {"b": "straight-through"})
    >>> bool(cost.value == (b.value - 0.45) ** 2)
    True
    """

    name: ClassVar[str] = "straight-through"
    weighs: ClassVar[bool] = False
    biased: ClassVar[str] = "the derivative of the cost at the draw stands for a difference of costs"

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        if z.dist.path is not None:
            return f"a draw of {type(z.dist).__name__} has a path of its own; the pathwise estimator is unbiased"
        if z.dtype.kind != "f":
            return f"a draw of {type(z.dist).__name__} is a whole number, which has no derivative; draw one-hot vectors"
        return None

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        return rest(self.noted(surrogate(z, z.dist.mean + 0 * z.value), z))


class GumbelSoftmax(Estimator):
    """A relaxed draw of the same noise: ``softmax((logits + Gumbel noise) / temperature)`` in the place of a choice.

    The cost is taken at the relaxed draw, so its value changes. Low temperatures have little bias and much variance.
    For Bernoulli and OneHotCategorical. Maddison, Mnih and Teh 2017; Jang, Gu and Poole 2017.

    >>> p = tg.Tensor(0.3, "p")
    >>> b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    >>> relaxed = tg.estimate(b * 1.0, {"b": tg.GumbelSoftmax(temperature=0.5)})
    >>> bool(0 < relaxed.value < 1)
    True
    """

    name: ClassVar[str] = "gumbel-softmax"
    weighs: ClassVar[bool] = False
    biased: ClassVar[str] = "the cost is taken at a relaxed draw"
    keeps_value: ClassVar[bool] = False

    def __init__(self, temperature: float = 0.5) -> None:
        check_temperature("GumbelSoftmax", temperature)
        self.temperature = temperature

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        return no_relaxed_draw(z.dist.element)

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        dist = z.dist.element
        return rest(self.noted(relaxed(dist, noisy_logits(dist, z.noise), self.temperature), z))
