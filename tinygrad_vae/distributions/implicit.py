"""Draws that solve ``F(z; theta) = u`` for a cdf without an inverse in closed form, and their implicit derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import Array, Tensor, Value, gradients, namespace, trees, value_of
from ..ops import exp, identity, sum_to
from ..ops.declare import JUMP, op
from ..ops.ranges import range_of_support
from .batch_axes import axes_kept_apart, structure_of

if TYPE_CHECKING:
    from .distribution import Distribution

Labels = tuple[int | None, ...]


def inverse_cdf(dist: Distribution, p: Value) -> Value:
    """Return the z with ``dist.cdf(z) = p``; its derivatives follow from that equation.

    ``dz/dtheta = -(dF/dtheta) / density(z)`` at fixed z, and ``dz/dp = 1 / density(z)``. Higher derivatives follow,
    since z itself stands on the right. Figurnov, Mohamed and Mnih 2018; Jankowiak and Obermeyer 2018.

    For a distribution of counts it is the smallest count z with ``dist.cdf(z) >= p``, which jumps.

    Args:
        dist: a distribution of numbers, with ``cdf``, ``log_density``, and ``solve_cdf(p)``, which finds z on arrays.
        p: probabilities, between 0 and 1.
    """
    solve = count_of_cdf if dist.path is None else solution_of_cdf
    return solve(p, *trees.leaves(dist), dist=structure_of(dist))


def _implicit(i: int, g: Value, z: Value, p: Value, *parameters: Value, dist: Distribution) -> Value:
    slope = g / exp(trees.replace_leaves(dist, parameters).log_density(z))
    if i == 0:
        return sum_to(slope, p.shape)
    record = any(isinstance(x, Tensor) for x in (slope, z, *parameters))
    own = [identity(x) if isinstance(x, Tensor) else x for x in parameters]  # z does not depend on these: it stays
    if not isinstance(own[i - 1], Tensor):
        own[i - 1] = Tensor(own[i - 1])
    cdf = trees.replace_leaves(dist, own).cdf(z)
    return gradients(cdf, own[i - 1], cotangent=-slope, record=record)


def _batch_axes(i: int, labels: Labels, z: Value, p: Value, *parameters: Value, dist: Distribution) -> Labels:
    """The equations are solved element by element: an axis stays apart where it was not broadcast."""
    own = 0 if i == 0 else trees.replace_leaves(dist, parameters).parameter_event_ndims()[i - 1]
    return axes_kept_apart(labels, (p, *parameters)[i], z.shape, own, 0)


def _in_support(z: Value, p: Any, *parameters: Any) -> Any:
    dist = trees.replace_leaves(z.attrs["dist"], [value_of(x) for x in z.inputs[1:]])
    return range_of_support(dist.support)


@op(_implicit, axes=_batch_axes, range=_in_support)
def solution_of_cdf(*probability_and_parameters: Value, dist: Distribution) -> Value:
    """The z with ``F(z; theta) = p``: what ``inverse_cdf`` records."""
    p, *parameters = probability_and_parameters
    return trees.replace_leaves(dist, parameters).solve_cdf(p)  # type: ignore[attr-defined]


@op(None, smoothness=JUMP, axes=_batch_axes)
def count_of_cdf(*probability_and_parameters: Value, dist: Distribution) -> Value:
    """The smallest count z with ``F(z; theta) >= p``: ``inverse_cdf`` records it for a distribution of counts."""
    p, *parameters = probability_and_parameters
    return trees.replace_leaves(dist, parameters).solve_cdf(p)  # type: ignore[attr-defined]


def bisect(cdf: Callable[[Array], Array], p: Array, low: Array, high: Array, steps: int | None = None) -> Array:
    """Return where an increasing function reaches p between two bounds.

    The number of steps is fixed: each halves the distance, by default until nothing is left of it in this dtype.
    """
    xp = namespace(p)
    for _ in range(np.finfo(p.dtype).nmant + 12 if steps is None else steps):
        middle = 0.5 * (low + high)
        below = cdf(middle) < p
        low, high = xp.where(below, middle, low), xp.where(below, high, middle)
    return 0.5 * (low + high)


def smallest_count(cdf: Callable[[Array], Array], p: Array, highest: Any) -> Array:
    """Return the smallest whole number k from 0 on with ``cdf(k) >= p``, by bisection: ``highest`` is one such.

    The number of steps depends on ``highest`` alone, and not on p.
    """
    xp = namespace(p)
    low, high = xp.full(p.shape, -1.0), xp.zeros(p.shape) + highest
    largest = float(high.max()) if high.size else 0.0
    for _ in range(int(np.ceil(np.log2(largest + 2)))):
        middle = xp.floor(0.5 * (low + high))
        reached = cdf(middle) >= p
        low, high = xp.where(reached, low, middle), xp.where(reached, middle, high)
    return high.astype(p.dtype)
