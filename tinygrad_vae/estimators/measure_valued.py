"""The measure-valued derivative: that of a law as a difference of two laws, ``dp/dtheta = c (p+ - p-)``.

It knows the laws that it splits, and the mechanism of all estimators. ``d/dtheta E K(z) = c (E K(z+) - E K(z-))`` takes
two costs, and no derivative of any. The two draws share their randomness, which is what keeps the difference calm.
Pflug 1989; Heidergott et al. 2008; Mohamed et al. 2020, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from ..calculus import values
from ..core import NORMAL, UNIFORM, NoiseLaw, NoiseStream, Sample, Tensor, Value, new_noise, trees
from ..distributions import Exponential, Gamma, LogNormal, Normal, Poisson, Weibull
from ..distributions.distribution import Distribution, parameters
from ..ops import exp, full_like, log, ones_like, sqrt, stop_gradient, where
from .elements import aligned, coordinates, element_law, replaced
from .estimator import Estimator, Rest, slope, zero

Draw = Callable[[NoiseLaw], Value]
"""Draws one number for each element of a random node."""

Pair = tuple[Value, Value, Value]
"""The constant c, and draws of p+ and of p-."""

WEAK_DERIVATIVES: dict[type[Distribution], Callable[[Any, Value, Draw], dict[str, Pair]]] = {}
"""For a law, a function of it, of the draw and of new noise that gives a pair for each parameter that has one."""


def weak_derivative(law: type[Distribution]) -> Callable[..., Any]:
    """Declare the weak derivatives of a law, as a function that returns ``{parameter: (c, plus, minus)}``."""

    def declare(pairs: Callable[[Any, Value, Draw], dict[str, Pair]]) -> Callable[..., Any]:
        WEAK_DERIVATIVES[law] = pairs
        return pairs

    return declare


@weak_derivative(Normal)
def _normal(law: Normal, z: Value, draw: Draw) -> dict[str, Pair]:
    """In loc, ``c = 1 / (s sqrt(2 pi))`` and ``z+- = mu +- s R``, R of the Rayleigh law. In scale, ``c = 1 / s``,
    ``z+ = mu + s M``, M of the two-sided Maxwell law, and ``z- = mu + s M U``, U uniform, which is normal again.
    """
    rayleigh = sqrt(-2 * log(draw(UNIFORM)))
    maxwell = sqrt(draw(NORMAL) ** 2 + draw(NORMAL) ** 2 + draw(NORMAL) ** 2)
    signed = where(draw(UNIFORM) < 0.5, -maxwell, maxwell)
    return {
        "loc": (
            1 / (law.scale * math.sqrt(2 * math.pi)),
            law.loc + law.scale * rayleigh,
            law.loc - law.scale * rayleigh,
        ),
        "scale": (1 / law.scale, law.loc + law.scale * signed, law.loc + law.scale * signed * draw(UNIFORM)),
    }


@weak_derivative(LogNormal)
def _log_normal(law: LogNormal, z: Value, draw: Draw) -> dict[str, Pair]:
    """Those of the logarithm, which is normal."""
    pairs = _normal(Normal(law.loc, law.scale), log(z), draw)
    return {name: (c, exp(plus), exp(minus)) for name, (c, plus, minus) in pairs.items()}


@weak_derivative(Exponential)
def _exponential(law: Exponential, z: Value, draw: Draw) -> dict[str, Pair]:
    """``c = 1 / rate``, z+ is the draw, and z- the time to the second event, of which it is the first."""
    return {"rate": (1 / law.rate, z, z - log(draw(UNIFORM)) / law.rate)}


@weak_derivative(Gamma)
def _gamma(law: Gamma, z: Value, draw: Draw) -> dict[str, Pair]:
    """In rate, ``c = concentration / rate``, z+ is the draw, and z- the time to one event more."""
    return {"rate": (law.concentration / law.rate, z, z - log(draw(UNIFORM)) / law.rate)}


@weak_derivative(Weibull)
def _weibull(law: Weibull, z: Value, draw: Draw) -> dict[str, Pair]:
    """In scale s, with k = concentration, ``(z / s)^k`` is exponential: ``c = k / s``, z- is the draw, and z+ that of
    the time to the second event.
    """
    second = (z / law.scale) ** law.concentration - log(draw(UNIFORM))
    return {"scale": (law.concentration / law.scale, law.scale * second ** (1 / law.concentration), z)}


@weak_derivative(Poisson)
def _poisson(law: Poisson, z: Value, draw: Draw) -> dict[str, Pair]:
    """``d/drate E f(k) = E f(k + 1) - E f(k)``, at the same k."""
    return {"rate": (ones_like(z), z + 1, z)}


class MeasureValued(Estimator):
    """``K(z) + zero(theta) c (K(z+) - K(z-))``: the cost, with the derivative of its law for a derivative.

    Two copies of the cost for each parameter and each coordinate that the cost mixes. Valid for every cost, continuous
    or not, and for the laws in ``WEAK_DERIVATIVES``; first derivatives only. Pflug 1989; Heidergott et al. 2008.

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

    @classmethod
    def example(cls, rng: NoiseStream) -> MeasureValued:
        return cls(rng)

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        law = element_law(z)
        if type(law) not in WEAK_DERIVATIVES:
            return f"no weak derivative is declared for {type(law).__name__}"
        known = WEAK_DERIVATIVES[type(law)](values(law), z.value, lambda noise: full_like(z, 0.5))
        missing = [f.name for f in parameters(law) if isinstance(getattr(law, f.name), Tensor) and f.name not in known]
        return f"no weak derivative of {type(law).__name__} is declared in {', '.join(missing)}" if missing else None

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        law, stopped = element_law(z), stop_gradient(z)
        k = rest(stopped)
        total: Any = k
        pairs = WEAK_DERIVATIVES[type(law)](
            trees.map_leaves(stop_gradient, law),
            stopped,
            lambda noise: new_noise(self.rng, noise, z.shape, z.dtype, (z.value,)),
        )
        for name, (c, plus, minus) in pairs.items():
            parameter = getattr(law, name)
            if not isinstance(parameter, Tensor):
                continue
            path = zero(parameter) * c
            for mask in coordinates(z, cost):
                difference = rest.number(replaced(z, mask, plus)) - rest.number(replaced(z, mask, minus))
                total = total + slope(self.noted(aligned(path * mask, z, cost), z), difference, k)
        return total
