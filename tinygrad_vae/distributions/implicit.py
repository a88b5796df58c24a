"""Draws that solve ``F(z; theta) = u`` for a cdf without an inverse in closed form, and their implicit derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..core import Array, Tensor, Value, gradients, namespace, trees, value_of
from ..ops import exp, identity, sum_to
from ..ops.declare import JUMP, op
from ..ops.ranges import range_of_support
from .batch_axes import axes_beside_parameters, structure_of
from .branches import probability


class Implicit:
    """A distribution of numbers whose draws solve ``cdf(z) = u``: ``solve_cdf(p)`` finds z on arrays."""

    path: ClassVar[str | None] = "implicit"

    def icdf(self, p: Value) -> Value:
        return inverse_cdf(self, probability(p, self))


def inverse_cdf(dist: Any, p: Value) -> Value:
    """Return the z with ``dist.cdf(z) = p``; its derivatives follow from that equation.

    ``dz/dtheta = -(dF/dtheta) / density(z)`` at fixed z, and ``dz/dp = 1 / density(z)``. Higher derivatives follow,
    since z itself stands on the right. Figurnov, Mohamed and Mnih 2018; Jankowiak and Obermeyer 2018.

    For a distribution of counts it is the smallest count z with ``dist.cdf(z) >= p``, which jumps.
    """
    solve = count_of_cdf if dist.path is None else solution_of_cdf
    return solve(p, *trees.leaves(dist), dist=structure_of(dist))


def _implicit(i: int, g: Value, z: Value, p: Value, *parameters: Value, dist: Any) -> Value:
    slope = g / exp(trees.replace_leaves(dist, parameters).log_density(z))
    if i == 0:
        return sum_to(slope, p.shape)
    record = any(isinstance(x, Tensor) for x in (slope, z, *parameters))
    own = [identity(x) if isinstance(x, Tensor) else x for x in parameters]  # z does not depend on these: it stays
    if not isinstance(own[i - 1], Tensor):
        own[i - 1] = Tensor(own[i - 1])
    cdf = trees.replace_leaves(dist, own).cdf(z)
    return gradients(cdf, own[i - 1], cotangent=-slope, record=record)


def _in_support(z: Value, p: Any, *parameters: Any) -> Any:
    dist = trees.replace_leaves(z.attrs["dist"], [value_of(x) for x in z.inputs[1:]])
    return range_of_support(dist.support)


@op(_implicit, axes=axes_beside_parameters, range=_in_support)
def solution_of_cdf(*p_and_parameters: Value, dist: Any) -> Value:
    """The z with ``F(z; theta) = p``."""
    return trees.replace_leaves(dist, p_and_parameters[1:]).solve_cdf(p_and_parameters[0])


@op(None, smoothness=JUMP, axes=axes_beside_parameters)
def count_of_cdf(*p_and_parameters: Value, dist: Any) -> Value:
    """The smallest count z with ``F(z; theta) >= p``."""
    return trees.replace_leaves(dist, p_and_parameters[1:]).solve_cdf(p_and_parameters[0])


def bisect(cdf: Callable[[Array], Array], p: Array, low: Array, high: Array, steps: int | None = None) -> Array:
    """Return where an increasing function reaches p, by halving until nothing is left, or for so many steps."""
    xp = namespace(p)
    for _ in range(np.finfo(p.dtype).nmant + 12 if steps is None else steps):
        middle = 0.5 * (low + high)
        below = cdf(middle) < p
        low, high = xp.where(below, middle, low), xp.where(below, high, middle)
    return 0.5 * (low + high)


def smallest_count(cdf: Callable[[Array], Array], p: Array, highest: Any) -> Array:
    """Return the smallest count k with ``cdf(k) >= p``; one such is ``highest``. The steps do not depend on p."""
    xp = namespace(p)
    low, high = xp.full(p.shape, -1.0), xp.zeros(p.shape) + highest
    largest = float(high.max()) if high.size else 0.0
    for _ in range(int(np.ceil(np.log2(largest + 2)))):
        middle = xp.floor(0.5 * (low + high))
        reached = cdf(middle) >= p
        low, high = xp.where(reached, low, middle), xp.where(reached, middle, high)
    return high.astype(p.dtype)
