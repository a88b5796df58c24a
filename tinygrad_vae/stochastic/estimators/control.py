"""Score functions with a relaxed draw for a control variate: REBAR and RELAX.

A relaxed draw s(z) of the same noise follows the discrete one closely, and has a path. Its score function gradient is
subtracted, and its pathwise gradient added: the same expectation, and less variance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...arrays import NoiseStream, Value, namespace
from ...graph import Tensor
from ...ops import exp, logit, sigmoid, stop_gradient, sum
from ..distributions import Bernoulli
from ..nodes import UNIFORM, Sample
from .coordinates import aligned, element_law
from .estimate import Estimator, Rest, zero


class RELAX(Estimator):
    """For Bernoulli draws ``b = 1[l + logit(u) > 0]``, with a control variate c of the relaxed draw.

    ``(K(b) - c(s~)) dlog p(b) + dc(s) - dc(s~)``, where s = l + logit(u) is the relaxed draw, and s~ one more from the
    law of s given b. Any c leaves the gradient unbiased; its own parameters are trained to lower the variance.
    Grathwohl et al. 2018.

    Args:
        control: a function of the relaxed draw, with a result of the shape of the cost.
        rng: a stream from ``tg.noise(seed)`` for the conditional draw.
    """

    name: ClassVar[str] = "relax"

    def __init__(self, control: Callable[[Value], Value], rng: NoiseStream) -> None:
        self.control, self.rng = control, rng

    @classmethod
    def example(cls, rng: NoiseStream) -> RELAX:
        return cls(lambda relaxed: sum(sigmoid(relaxed), axis=-1) if len(relaxed.shape) > 1 else sigmoid(relaxed), rng)

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        law = element_law(z)
        return None if isinstance(law, Bernoulli) else f"it is for Bernoulli draws, found {type(law).__name__}"

    def controlled(self, relaxed: Value, rest: Rest) -> Value:
        """Return c at a relaxed draw."""
        return self.control(relaxed)

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        logits: Any = element_law(z).logits  # type: ignore[attr-defined]
        v = namespace(z.value).asarray(UNIFORM.draw(self.rng, z.shape, z.dtype))
        stopped = stop_gradient(z)
        tails, b = sigmoid(-logits), z.value  # b is 1 where u > tails
        conditional = b * (tails + v * (1 - tails)) + (1 - b) * (v * tails)  # a uniform given b
        relaxed, again = logits + logit(z.noise), logits + logit(conditional)
        log_prob = aligned(element_law(z).log_density(stopped), z, cost)
        weight = exp(zero(self.noted(log_prob, z)))
        c, c_again = self.controlled(relaxed, rest), self.controlled(again, rest)
        return weight * rest(stopped) + (1 - weight) * c_again + zero(c) - zero(c_again)


class REBAR(RELAX):
    """RELAX whose control variate is the cost itself at the relaxed draw, ``c = eta K(sigmoid(s / temperature))``.

    Tucker et al. 2017.

    Args:
        rng: a stream from ``tg.noise(seed)`` for the conditional draw.
        temperature: of the relaxed draw, above 0.
        eta: how much of the control variate to use; a Tensor where it is to be trained.
    """

    name: ClassVar[str] = "rebar"

    def __init__(self, rng: NoiseStream, *, temperature: float = 0.5, eta: Value = 1.0) -> None:
        if not temperature > 0:
            raise ValueError(f"REBAR: the temperature must be positive, found {temperature}")
        self.rng, self.temperature, self.eta = rng, temperature, eta

    @classmethod
    def example(cls, rng: NoiseStream) -> REBAR:
        return cls(rng)

    def controlled(self, relaxed: Value, rest: Rest) -> Value:
        return self.eta * rest(sigmoid(relaxed / self.temperature))
