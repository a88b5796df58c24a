"""Estimators of tosses that compare the cost at two coupled draws: ARM and DisARM.

Both give ``K(b) + zero(logit) * w * (K(b) - K(b~))``: the value of the cost, and a derivative made of a difference of
costs at draws that share their randomness. No derivative of the cost is needed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ...graph import Tensor, value_of
from ...ops import stop_gradient
from ..distributions import Bernoulli
from ..nodes import Sample
from .coordinates import aligned, element_law
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
