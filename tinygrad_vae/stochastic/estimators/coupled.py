"""Estimators that compare the cost at two coupled draws: ARM, DisARM and the measure-valued derivative.

Each gives ``K(z) + zero(theta) * w * (K(z') - K(z''))``: the value of the cost, and a derivative made of a difference
of costs at draws that share their randomness. No derivative of the cost is needed.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ...arrays import NoiseStream, Value, namespace
from ...graph import Tensor, value_of
from ...ops import stop_gradient
from ..distributions import Bernoulli, Exponential, Normal
from ..nodes import UNIFORM, Sample
from .coordinates import aligned, coordinates, element_law, replaced
from .estimate import Estimator, Rest, zero


class ARM(Estimator):
    """For Bernoulli draws of logit l: ``(u - 1/2) (K(1[u > sigma(-l)]) - K(1[u < sigma(l)]))`` estimates dE K / dl.

    The same uniform u makes the draw and its mirror image; two copies of the cost however many draws there are.
    Yin and Zhou 2019.
    """

    name: ClassVar[str] = "arm"

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        law = element_law(z)
        return None if isinstance(law, Bernoulli) else f"it is for Bernoulli draws, found {type(law).__name__}"

    def weights(self, u: Any, b: Any, mirror: Any, logits: Any) -> Any:
        """Return w in ``zero(logits) * w * (K(b) - K(mirror))``."""
        return u - 0.5

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        logits: Any = element_law(z).logits  # type: ignore[attr-defined]
        u, l = z.noise.value, value_of(logits)
        mirror = (u < 1 / (1 + np.exp(-l))).astype(z.dtype)
        k, other = rest(stop_gradient(z)), rest(mirror)
        path = zero(logits) * self.weights(u, z.value, mirror, l)
        return k + self.noted(aligned(path, z, cost), z) * stop_gradient(k - other)


class DisARM(ARM):
    """ARM with its uniform averaged out, given the two draws: never noisier.

    ``w = 1/2 (-1)^mirror 1[b != mirror] sigma(|l|)``. Dong, Mnih and Tucker 2020; Yin et al. 2020.
    """

    name: ClassVar[str] = "disarm"

    def weights(self, u: Any, b: Any, mirror: Any, logits: Any) -> Any:
        return 0.5 * (1 - 2 * mirror) * (b != mirror) / (1 + np.exp(-np.abs(logits)))


class MeasureValued(Estimator):
    """The derivative of a law as a difference of two laws: ``dp/dtheta = c (p+ - p-)``.

    For N(mu, s^2): in mu, c = 1 / (s sqrt(2 pi)), ``z+- = mu +- s R``, R of the Rayleigh law; in s, c = 1 / s,
    ``z+ = mu + s M``, M of the double-sided Maxwell law, and ``z- = mu + s M U``, U uniform, which is normal again. For
    an exponential law of rate r: c = 1 / r, z+ a draw and z- the sum of two, which share the first. Two copies of the
    cost for each parameter and each coordinate that the cost mixes.
    Pflug 1989; Heidergott et al. 2008; Mohamed et al. 2020, section 6.

    Args:
        rng: a stream from ``tg.noise(seed)`` for the pairs.
    """

    name: ClassVar[str] = "measure-valued"

    def __init__(self, rng: NoiseStream) -> None:
        self.rng = rng

    @classmethod
    def example(cls, rng: NoiseStream) -> MeasureValued:
        return cls(rng)

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        law = element_law(z)
        if isinstance(law, (Normal, Exponential)):
            return None
        return f"no weak derivative is declared for {type(law).__name__}"

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        total: Any = rest(stop_gradient(z))
        for parameter, c, plus, minus in self._pairs(z):
            if not isinstance(parameter, Tensor):
                continue
            path = zero(parameter) * c
            for mask in coordinates(z, cost):
                difference = stop_gradient(rest(replaced(z, mask, plus)) - rest(replaced(z, mask, minus)))
                total = total + self.noted(aligned(path * mask, z, cost), z) * difference
        return total

    def _pairs(self, z: Sample) -> list[tuple[Value, Any, Any, Any]]:
        """Return, for each parameter, the constant and the two draws."""
        law: Any = element_law(z)
        xp = namespace(z.value)

        def uniform() -> Any:
            return xp.asarray(UNIFORM.draw(self.rng, z.shape, z.dtype))

        if isinstance(law, Exponential):
            rate = value_of(law.rate)
            first, second = -np.log(uniform()) / rate, -np.log(uniform()) / rate
            return [(law.rate, 1 / rate, first, first + second)]
        loc, scale = value_of(law.loc), value_of(law.scale)
        rayleigh = np.sqrt(-2 * np.log(uniform()))
        normals = [xp.asarray(self.rng.normal(z.shape, z.dtype)) for _ in range(3)]
        maxwell = np.sqrt(normals[0] ** 2 + normals[1] ** 2 + normals[2] ** 2) * np.where(uniform() < 0.5, -1, 1)
        maxwell = maxwell.astype(z.dtype)
        return [
            (law.loc, 1 / (scale * math.sqrt(2 * math.pi)), loc + scale * rayleigh, loc - scale * rayleigh),
            (law.scale, 1 / scale, loc + scale * maxwell, loc + scale * maxwell * uniform()),
        ]
