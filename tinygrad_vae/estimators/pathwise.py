"""The reparameterization trick as an estimator, to be chosen for some random nodes beside others for the rest."""

from __future__ import annotations

from typing import ClassVar

from ..core import Sample, Tensor, opened
from .estimator import Estimator, Rest


class Pathwise(Estimator):
    """``K(transform(noise, theta))``: one copy of the cost, with the transform of the draw in the graph.

    Valid where the draw has a path and every live way from it to the cost is continuous; ``gradients`` looks at that.
    Where the transform solves ``F(z; theta) = u``, its derivative is the implicit one, ``-(dF/dtheta) / density``.
    ``tg.reparameterize`` does the same for every random node. Price 1958 and Bonnet 1964 (Gaussian), Ho and Cao 1983
    and Glasserman 1991 (perturbation analysis), Kingma and Welling 2014, Rezende, Mohamed and Wierstra 2014, Titsias
    and Lazaro-Gredilla 2014; implicit: Figurnov, Mohamed and Mnih 2018.

    >>> a = tg.Tensor(np.full(4, 2.0), "a")
    >>> z = tg.Gamma(a, 1.0).sample(rng=tg.noise(0), name="z")
    >>> cost = tg.sum(tg.estimate(z**2, {"z": "pathwise"}))
    >>> bool(cost.value == np.sum(z.value**2)), tg.gradients(cost, a).shape
    (True, (4,))
    """

    name: ClassVar[str] = "pathwise"
    weighs: ClassVar[bool] = False

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        return None if z.dist.path is not None else z.dist.why_no_path

    refusal = objection  # the gradient goes through the noise too: it may be any Tensor

    def instead(self, z: Sample) -> Tensor:
        return opened(z, z.inputs, self.note_of(z))

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        return rest(self.instead(z))
