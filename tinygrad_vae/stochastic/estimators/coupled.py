"""Estimators of tosses that compare the cost at two coupled draws: ARM and DisARM.

Both give ``K(b) + zero(logit) * w * (K(b) - K(b~))``: the value of the cost, and a derivative made of a difference of
costs at draws that share their randomness. No derivative of the cost is needed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ...graph import Tensor
from ...ops import abs, astype, less, not_equal, sigmoid, stop_gradient
from ..distributions import Bernoulli
from ..nodes import Sample
from .coordinates import aligned, element_law
from .estimate import Estimator, Rest, sloped, zero


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
        u, b, l = stop_gradient(z.noise), stop_gradient(z), stop_gradient(logits)
        mirror = astype(less(u, sigmoid(l)), z.dtype)
        k = rest(b)
        path = zero(logits) * self.weights(u, b, mirror, l)
        return k + sloped(self.noted(aligned(path, z, cost), z), k - rest(mirror))


class DisARM(ARM):
    """ARM with its uniform averaged out, given the two draws: never noisier.

    ``w = 1/2 (-1)^mirror 1[b != mirror] sigma(|l|)``. Dong, Mnih and Tucker 2020; Yin et al. 2020.
    """

    name: ClassVar[str] = "disarm"

    def weights(self, u: Any, b: Any, mirror: Any, logits: Any) -> Any:
        return (0.5 - mirror) * astype(not_equal(b, mirror), mirror.dtype) * sigmoid(abs(logits))
