"""Biased estimators, which say so: straight-through and Gumbel-softmax.

Both let the gradient pass where there is no path. That is cheap and often trains, and it is the gradient of something
else than the expectation.
"""

from __future__ import annotations

from typing import ClassVar

from ...graph import Tensor
from ...ops import logit, sigmoid, surrogate
from ..distributions import Bernoulli
from ..nodes import Sample
from .estimate import Estimator, Rest


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
        if z.dtype.kind != "f":
            return f"a draw of {type(z.dist).__name__} is a whole number, which has no derivative; draw one-hot vectors"
        return None

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        return rest(self.noted(surrogate(z, z.dist.mean + 0 * z.value), z))


class GumbelSoftmax(Estimator):
    """A relaxed draw of the same noise: ``softmax((logits + Gumbel noise) / temperature)`` in the place of a choice.

    The cost is taken at the relaxed draw, so its value changes. Low temperatures have little bias and much variance.
    Maddison, Mnih and Teh 2017; Jang, Gu and Poole 2017.

    Args:
        temperature: above 0.

    >>> p = tg.Tensor(0.3, "p")
    >>> b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    >>> relaxed = tg.estimate(b * 1.0, {"b": tg.GumbelSoftmax(0.5)})
    >>> bool(0 < relaxed.value < 1)
    True
    """

    name: ClassVar[str] = "gumbel-softmax"
    weighs: ClassVar[bool] = False
    biased: ClassVar[str] = "the cost is taken at a relaxed draw"
    keeps_value: ClassVar[bool] = False

    def __init__(self, temperature: float = 0.5) -> None:
        if not temperature > 0:
            raise ValueError(f"GumbelSoftmax: the temperature must be positive, found {temperature}")
        self.temperature = temperature

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        if not isinstance(z.dist, Bernoulli):
            return f"there is a relaxed draw of Bernoulli and OneHotCategorical, not of {type(z.dist).__name__}"
        return None

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        relaxed = sigmoid((z.dist.logits + logit(z.noise)) / self.temperature)  # type: ignore[attr-defined]
        return rest(self.noted(relaxed, z))
