"""The reparameterization trick as an estimator, and the path through a rejection sampler."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..core import Sample, Tensor, as_array, opened, to_numpy, value_of
from ..distributions import Gamma
from ..guard.report import jump_objection
from ..ops import exp, lgamma, log, sqrt, stop_gradient, surrogate
from .elements import aligned
from .estimator import Estimator, Rest, zero


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

    def instead(self, z: Sample, inputs: tuple[Any, ...], cost: Tensor) -> Tensor:
        return opened(z, inputs, self.note_of(z))

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        return rest(self.instead(z, z.inputs, cost))


class RejectionPath(Estimator):
    """``magic(log r(e; a)) K(h(e; a))``, with ``h(e; a) = (a - 1/3) (1 + e / sqrt(9 a - 3))^3`` of Marsaglia and Tsang.

    A path through a rejection sampler: e is the number that gives the draw, and its density is ``r(e; a) = p(h(e; a);
    a) dh/de``. e is nearly normal, so most of the dependence on a is in h, which has a path; the score function of e
    adds the rest. For Gamma draws of a concentration a of at least 1, where the sampler works, and continuous costs.
    Naesseth, Ruiz, Linderman and Blei 2017.

    >>> a = tg.Tensor(2.0, "a")
    >>> z = tg.Gamma(a, 1.0).sample((1000,), rng=tg.noise(0), name="z")
    >>> bool(abs(tg.gradients(tg.mean(tg.RejectionPath()(z)), a) - 1) < 0.1)
    True
    """

    name: ClassVar[str] = "rejection-path"

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        dist = z.dist.element
        if not isinstance(dist, Gamma):
            return f"there is a rejection sampler of Gamma here, and none of {type(dist).__name__}"
        lowest = float(np.min(to_numpy(as_array(value_of(dist.concentration))), initial=np.inf))
        if lowest < 1:
            return f"the sampler is for concentrations from 1 on, found {lowest:g}"
        return jump_objection(z, cost)

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        dist: Any = z.dist.element
        a, rate = dist.concentration, dist.rate
        stopped, d = stop_gradient(z), stop_gradient(a) - 1 / 3
        e = ((stopped * stop_gradient(rate) / d) ** (1 / 3) - 1) * (3 * sqrt(d))
        d = a - 1 / 3
        y = d * (1 + e / (3 * sqrt(d))) ** 3
        log_density = (a - 1) * log(y) - y - lgamma(a) + log(y) * (2 / 3) - log(d) / 6
        weight = exp(zero(self.noted(aligned(log_density + 0 * stopped, z, cost), z)))
        return weight * rest(surrogate(z, y / rate + 0 * stopped))
