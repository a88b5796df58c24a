"""Values that a distribution cannot draw: the op that finds them, and a log-density that includes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import Array, Value, namespace, trees, value_of
from ..ops import any as any_of
from ..ops import astype, expand_dims, isnan, stop_gradient, where
from ..ops.declare import JUMP, op
from .batch_axes import axes_beside_parameters, structure_of


def reachable(dist: Any, x: Array) -> Array:
    """Return which distributions of the batch may draw x."""
    inside = dist.support.contains(x)
    elements = len(dist.event_shape) - dist.support.event_ndim
    return inside.all(tuple(range(-elements, 0))) if elements else inside


@op(None, smoothness=JUMP, axes=axes_beside_parameters)
def may_draw(x: Value, /, *parameters: Value, dist: Any) -> Value:
    """Whether the distribution may draw x. It jumps at the ends of the support, so that the guard sees the jump."""
    return reachable(trees.replace_leaves(dist, parameters), x)


def is_inside(dist: Any, x: Value) -> Value:
    """Return ``may_draw`` with only those parameters that move the support; the others have no effect on it."""
    moving, support = dist.moving(), dist.support
    ends = [leaf if path in moving else stop_gradient(leaf) for path, leaf in trees.paths(dist)]
    unbounded = support.event_ndim < 2 and not support.discrete and all(np.isinf(end).all() for end in support.bounds)
    return may_draw(stop_gradient(x) if unbounded else x, *ends, dist=structure_of(dist))


def log_density_or(outside: float, dist: Any, x: Value) -> Value:
    """Return the log-density of x where the distribution may draw it, and ``outside`` elsewhere. A nan stays a nan.

    Outside the support the formula gets a typical draw in place of x, so that its gradient there is no nan.
    """
    xp, dtype = namespace(*map(value_of, trees.leaves(dist))), dist.dtype
    x = x if hasattr(x, "dtype") else xp.asarray(x, dtype)
    inside = is_inside(dist, x)
    middle = 0.5 * dist.noise_distribution.mirror(xp.zeros(dist.noise_shape(), dtype))
    typical = stop_gradient(astype(dist.transform(middle), x.dtype))
    shown, lost = inside, isnan(stop_gradient(x))
    for _ in dist.event_shape:
        shown, lost = expand_dims(shown, axis=-1), any_of(lost, axis=-1)
    found = where(inside, dist.log_density(where(shown, x, typical)), outside)
    return where(lost, math.nan, found)
