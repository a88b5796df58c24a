"""The measure-valued derivative: of a distribution as a difference of two, ``dp/dtheta = c (p+ - p-)``.

``d/dtheta E K(z) = c (E K(z+) - E K(z-))`` takes two costs, and no derivative of any. The two draws share their
randomness, which keeps the difference calm. Pflug 1989; Heidergott et al. 2008; Mohamed et al. 2020, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from ..calculus import values
from ..core import NORMAL, UNIFORM, NoiseDistribution, NoiseStream, Sample, Tensor, Value, new_noise, trees
from ..distributions import Exponential, Gamma, LogNormal, Normal, Poisson, Weibull
from ..distributions.distribution import Distribution, parameters
from ..ops import exp, full_like, log, ones_like, sqrt, stop_gradient, where
from .elements import aligned, changed, mixed_shape, positions
from .estimator import Estimator, Rest, with_slopes, zero

Draw = Callable[[NoiseDistribution], Value]  # draws one number for each element of a random node
Pair = tuple[Value, Value, Value]  # the constant c, and draws of p+ and of p-
Pairs = Callable[[Any, Value, Draw], dict[str, Pair]]


def _normal(dist: Normal, z: Value, draw: Draw) -> dict[str, Pair]:
    """In loc, ``c = 1 / (s sqrt(2 pi))`` and ``z+- = mu +- s R``, R Rayleigh. In scale, ``c = 1 / s``,
    ``z+ = mu + s M``, M two-sided Maxwell, and ``z- = mu + s M U``, U uniform, which is normal again.
    """
    mu, s = dist.loc, dist.scale
    rayleigh = sqrt(-2 * log(draw(UNIFORM)))
    maxwell = sqrt(draw(NORMAL) ** 2 + draw(NORMAL) ** 2 + draw(NORMAL) ** 2)
    signed = where(draw(UNIFORM) < 0.5, -maxwell, maxwell)
    return {
        "loc": (1 / (s * math.sqrt(2 * math.pi)), mu + s * rayleigh, mu - s * rayleigh),
        "scale": (1 / s, mu + s * signed, mu + s * signed * draw(UNIFORM)),
    }


def _log_normal(dist: LogNormal, z: Value, draw: Draw) -> dict[str, Pair]:
    """The pairs of the logarithm, which is normal."""
    pairs = _normal(Normal(dist.loc, dist.scale), log(z), draw)
    return {name: (c, exp(plus), exp(minus)) for name, (c, plus, minus) in pairs.items()}


def _exponential(dist: Exponential, z: Value, draw: Draw) -> dict[str, Pair]:
    """``c = 1 / rate``, z+ is the draw, and z- the time to the second event, of which it is the first."""
    return {"rate": (1 / dist.rate, z, z - log(draw(UNIFORM)) / dist.rate)}


def _gamma(dist: Gamma, z: Value, draw: Draw) -> dict[str, Pair]:
    """In rate, ``c = concentration / rate``, z+ is the draw, and z- the time to one event more."""
    return {"rate": (dist.concentration / dist.rate, z, z - log(draw(UNIFORM)) / dist.rate)}


def _weibull(dist: Weibull, z: Value, draw: Draw) -> dict[str, Pair]:
    """In scale s, with k = concentration, ``(z / s)^k`` is exponential: ``c = k / s``, z+ the second event."""
    second = (z / dist.scale) ** dist.concentration - log(draw(UNIFORM))
    return {"scale": (dist.concentration / dist.scale, dist.scale * second ** (1 / dist.concentration), z)}


def _poisson(dist: Poisson, z: Value, draw: Draw) -> dict[str, Pair]:
    """``d/drate E f(k) = E f(k + 1) - E f(k)``, at the same k."""
    return {"rate": (ones_like(z), z + 1, z)}


WEAK_DERIVATIVES: dict[type[Distribution], Pairs] = {
    Normal: _normal,
    LogNormal: _log_normal,
    Exponential: _exponential,
    Gamma: _gamma,
    Weibull: _weibull,
    Poisson: _poisson,
}
"""For a distribution, a function of it, the draw and new noise: a pair for each parameter that has one."""


class MeasureValued(Estimator):
    """``K(z) + zero(theta) c (K(z+) - K(z-))``: the cost, with a difference of costs for its derivative.

    Two copies of the cost for each parameter and each coordinate that the cost mixes. Valid for every cost, continuous
    or not, and for the distributions in ``WEAK_DERIVATIVES``; first derivatives only. Pflug 1989.

    Args:
        rng: a stream from ``tg.noise(seed)`` for the pairs.

    >>> rate = tg.Tensor(3.0, "rate")
    >>> k = tg.Poisson(rate).sample(rng=tg.noise(0), name="k")
    >>> cost = tg.estimate(k**2, {"k": tg.MeasureValued(tg.noise(1))})
    >>> bool(tg.gradients(cost, rate) == (k.value + 1) ** 2 - k.value**2)
    True
    """

    name: ClassVar[str] = "measure-valued"

    def __init__(self, rng: NoiseStream) -> None:
        self.rng = rng

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        dist = z.dist.element
        if type(dist) not in WEAK_DERIVATIVES:
            return f"no weak derivative is declared for {type(dist).__name__}"
        known = WEAK_DERIVATIVES[type(dist)](values(dist), z.value, lambda noise: full_like(z, 0.5))
        unknown = [f.name for f in parameters(dist) if f.name not in known]
        missing = [name for name in unknown if isinstance(getattr(dist, name), Tensor)]
        return f"no weak derivative of {type(dist).__name__} is declared in {', '.join(missing)}" if missing else None

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        dist = z.dist.element

        def slopes() -> Iterator[tuple[Value, Value]]:
            closed = trees.map_leaves(stop_gradient, dist)
            pairs = WEAK_DERIVATIVES[type(dist)](
                closed, stopped, lambda noise: new_noise(self.rng, noise, z.shape, z.dtype, (z.value,))
            )
            for name, (c, plus, minus) in pairs.items():
                if isinstance(parameter := getattr(dist, name), Tensor):
                    path = zero(parameter) * c
                    for mask in positions(mixed_shape(z, cost), z.value):
                        above, below = (rest.number(changed(stopped, mask, other)) for other in (plus, minus))
                        yield self.noted(aligned(path * mask, z, cost), z), above - below

        return lambda k: with_slopes(k, slopes())
