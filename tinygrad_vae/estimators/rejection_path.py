"""The path through a rejection sampler, corrected for the noise that it accepts: for Gamma draws.

A Gamma draw is ``h(e; a)``, where e is nearly normal: most of the dependence on a is in h, which has a path, and the
little that is left in the distribution of e is taken care of by its score function.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..core import Sample, Tensor, as_array, to_numpy, value_of
from ..distributions import Gamma
from ..guard.report import jump_objection
from ..ops import exp, lgamma, log, sqrt, stop_gradient, surrogate
from .elements import aligned
from .estimator import Estimator, Rest, zero


class RejectionPath(Estimator):
    """``magic(log r(e; a)) K(h(e; a))``, with ``h(e; a) = (a - 1/3) (1 + e / sqrt(9 a - 3))^3`` of Marsaglia and Tsang.

    e is the number that gives the draw, whose density is ``r(e; a) = p(h(e; a); a) dh/de``. For Gamma draws of a
    concentration a from 1 on, which is where the sampler works too, and costs that are continuous.
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
