"""Exact expectations: the sum over a finite support, and quadrature over the noise.

``E K(z) = sum over v of p(v) K(v)`` has no variance at all. For continuous noise, ``E K(g(noise)) = sum over i of w_i
K(g(noise_i))`` up to the error of the rule. Both put an expectation in the place of a draw, so the value changes too.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import numpy as np

from ..calculus import values
from ..core import NORMAL, Array, Sample, Tensor, namespace, topological_order
from ..guard.paths import downstream, path_after
from ..guard.report import jump_objection
from ..ops import exp, ndtri
from ..ops.declare import KINK
from .elements import aligned, batch_ndim, mixed_shape
from .estimator import LARGEST, Estimator, Rest
from .score_function import weighable


class Enumeration(Estimator):
    """The exact expectation over a finite support, ``sum over v of p(v; theta) K(v)``.

    One copy of the cost for each value; where the cost mixes n draws, for each combination of their values. Valid for
    every cost, at every order. Titsias and Lazaro-Gredilla 2015.

    >>> p = tg.Tensor(0.3, "p")
    >>> b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    >>> cost = tg.estimate((b - 0.45) ** 2, {"b": "enumeration"})
    >>> [round(float(x), 6) for x in (cost.value, tg.gradients(cost, p))]
    [0.2325, 0.1]
    """

    name: ClassVar[str] = "enumeration"
    weighs: ClassVar[bool] = False
    keeps_value: ClassVar[bool] = False

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        dist = z.dist.element
        if dist.enumerate_support() is None:
            return str(dist.why_not_enumerated)
        if self.copies(z, cost) > LARGEST:
            count, draws = len(dist.enumerate_support()), math.prod(mixed_shape(z, cost))
            return f"the cost mixes {draws} draws of {count} values: {count}^{draws} copies of it, more than {LARGEST}"
        return None

    def copies(self, z: Sample, cost: Tensor) -> int:
        return int(len(z.dist.element.enumerate_support()) ** math.prod(mixed_shape(z, cost)))

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        dist, shape = weighable(z, self.name).element, mixed_shape(z, cost)
        total: Any = 0.0
        for combination in itertools.product(dist.enumerate_support(), repeat=math.prod(shape)):
            values = np.asarray(combination, z.dtype).reshape(shape + dist.event_shape)
            v = namespace(z.value).asarray(np.broadcast_to(values, z.shape))
            total = total + exp(aligned(dist.log_density(v), z, cost)) * rest(v)
        return self.noted(total, z)


def _kinks_in_transform(z: Sample) -> list[str]:
    """Return the names of the ops that make the draw itself bend with its noise."""
    noise = Tensor(z.noise.value)
    steps = downstream(topological_order([values(z.dist).transform(noise)]), noise)
    return [node.op.name for node, kinds in steps if KINK in kinds and node.op]


class Quadrature(Estimator):
    """The expectation by a rule of points and weights over the noise: exact up to rounding for smooth costs.

    Gauss-Hermite for normal noise (Golub and Welsch 1969). For uniform noise the double exponential rule, whose points
    crowd at 0 and 1, where most inverse cdfs grow without bound (Takahasi and Mori 1974). The cost must depend on each
    draw by itself, and smoothly: where it jumps or has a kink the rule is off, and is refused. An oracle for audits.

    Args:
        points: how many points; a polynomial cost of degree up to ``2 points - 1`` in normal noise is integrated
            exactly. For uniform noise take 16 at least, and 32 where the transform itself bends, as for HalfNormal;
            with 64 most second moments are exact to 1e-9.

    >>> mu = tg.Tensor(0.5, "mu")
    >>> z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    >>> cost = tg.estimate(z**4, {"z": tg.Quadrature(8)})
    >>> round(float(cost.value), 6), round(float(tg.gradients(cost, mu)), 6)
    (4.5625, 6.5)
    """

    name: ClassVar[str] = "quadrature"
    weighs: ClassVar[bool] = False
    keeps_value: ClassVar[bool] = False
    caveat: ClassVar[str] = "the error of the rule is not measured; it is small where the cost is smooth"

    def __init__(self, points: int = 64) -> None:
        if points < 1:
            raise ValueError(f"Quadrature: points must be at least 1, found {points}")
        self.points = points

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        if z.dist.path is None:
            return str(z.dist.why_no_path)
        if z.noise.shape != z.shape:
            return f"{type(z.dist).__name__} takes {z.noise.shape} numbers of noise for draws of shape {z.shape}"
        if batch_ndim(z) != z.ndim or math.prod(mixed_shape(z, cost)) > 1:
            return "the cost mixes several draws, and the rule runs over one"
        if jump := jump_objection(z, cost):
            return jump
        if kinks := path_after(z, cost).kinks:
            return f"{kinks[0]} has a kink, and the rule is exact for smooth costs only"
        if self.points < 32 and (own := _kinks_in_transform(z)):
            return f"{own[0]} in the transform of {z.dist.family} has a kink, so that it takes 32 points at least"
        return None

    def copies(self, z: Sample, cost: Tensor) -> int:
        return self.points

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        if _kinks_in_transform(z):  # those of this library lie in the middle of the noise: a rule for each half
            half, weights = _double_exponential(self.points // 2, z.noise.dtype)
            points, weights = np.concatenate([half / 2, 1 - half / 2]), np.tile(weights, 2) / 2
            points = ndtri(points) if z.noise.dist is NORMAL else points
        elif z.noise.dist is NORMAL:
            points, weights = np.polynomial.hermite_e.hermegauss(self.points)
            weights = weights / np.sqrt(2 * np.pi)
        else:
            points, weights = _double_exponential(self.points, z.noise.dtype)
        total: Any = 0.0
        for point, weight in zip(points, weights, strict=True):
            noise = namespace(z.value).full(z.noise.shape, point, z.noise.dtype)
            total = total + float(weight) * rest(z.dist.transform(noise))
        return self.noted(total, z)


def _double_exponential(count: int, dtype: Any) -> tuple[Array, Array]:
    """Return points in (0, 1), as far out as the dtype can tell, and weights: ``u = 1 / (1 + exp(-pi sinh t))``."""
    end = np.arcsinh(np.log(1 / np.finfo(dtype).eps) / np.pi)
    t = end * (2 * np.arange(count) + 1 - count) / count
    u = 1 / (1 + np.exp(-np.pi * np.sinh(t)))
    weights = np.cosh(t) * u * (1 - u)  # du / dt
    return u, weights / weights.sum()
