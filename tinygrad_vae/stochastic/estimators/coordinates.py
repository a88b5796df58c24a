"""Changing one coordinate of a draw at a time, for estimators that compare the cost at several values of it.

Along an axis of z that the cost carries, element i of the cost depends on element i of z alone, so that all of them
can be changed at once. Along the others each coordinate needs copies of the cost of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...arrays import Array, Value, namespace
from ...graph import Tensor
from ...ops import stop_gradient, where
from ..credit import aligned_log_prob, surviving_axes
from ..distribution import Distribution
from ..distributions import Independent
from ..nodes import Sample

Labels = tuple[int | None, ...]


def element_law(z: Sample) -> Distribution:
    """Return the law of one element of z: that inside ``Independent``, which only adds log-probabilities up."""
    dist = z.dist
    while isinstance(dist, Independent):
        dist = dist.base
    return dist


def batch_ndim(z: Sample) -> int:
    """Return the number of axes of z that count its elements, before those of one of them."""
    return z.ndim - len(element_law(z).event_shape)


def mixed_shape(z: Sample, cost: Tensor) -> tuple[int, ...]:
    """Return the lengths of the axes of z along which the cost mixes its draws, 1 for the other axes."""
    carried = {label for label in surviving_axes(cost, z) if label is not None}
    return tuple(1 if a in carried else n for a, n in enumerate(z.shape[: batch_ndim(z)]))


def coordinates(z: Sample, cost: Tensor) -> Iterator[Array]:
    """Yield, for each coordinate that needs copies of its own, a mask over the draws: true where it stands.

    One mask of all draws where the cost carries every axis.
    """
    shape = z.shape[: batch_ndim(z)]
    mixed = mixed_shape(z, cost)
    xp = namespace(z.value)
    for position in itertools.product(*(range(n) for n in mixed)):
        mask = np.ones(shape, bool)
        for axis, (index, n) in enumerate(zip(position, mixed, strict=True)):
            if n > 1:
                mask &= np.arange(n).reshape((-1,) + (1,) * (len(shape) - axis - 1)) == index
        yield xp.asarray(mask)


def replaced(z: Sample, mask: Array, value: Value) -> Any:
    """Return z with ``value`` where the mask over its draws holds, for the axes of one draw too."""
    wide = mask.reshape(mask.shape + (1,) * len(element_law(z).event_shape))
    return where(wide, value, stop_gradient(z)) if not bool(mask.all()) else value + 0 * stop_gradient(z)


def aligned(x: Value, z: Sample, cost: Tensor) -> Value:
    """Return ``x``, a number for each element of z, summed over the axes that the cost mixes, along the others."""
    return aligned_log_prob(x, surviving_axes(cost, z))[0]
