"""Changing one coordinate of a draw at a time, for estimators that compare the cost at several values of it.

It knows laws and axes, and no estimator. Along an axis of z that the cost carries, element i of the cost depends on
element i of z alone, so that all of them can be changed at once. Along the others each coordinate needs copies of the
cost of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core import Array, InvalidGradientError, Noise, Sample, Tensor, Value, host, namespace
from ..distributions.distribution import Distribution
from ..guard.axes import aligned_log_prob, surviving_axes
from ..guard.names import name_of_draw
from ..ops import stop_gradient, where

Labels = tuple[int | None, ...]


def element_law(z: Sample) -> Distribution:
    """Return the law of one element of z: that inside ``Independent``, which only adds log-probabilities up."""
    return z.dist.element


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
    labels = surviving_axes(cost, z)
    check_uncoupled(z, labels)
    return aligned_log_prob(x, labels)[0]


def is_coupled(z: Sample) -> bool:
    """Return whether the draws along the first axis of z are not independent of each other."""
    return isinstance(z.noise, Noise) and (z.noise.coupled or _is_paired(z.noise))


def _is_paired(noise: Noise) -> bool:
    """Return whether half the rows of the noise are mirror images or copies of others, as in antithetic pairs."""
    if not noise.counting or len(noise.shape) < 1 or noise.shape[0] < 2 or not noise.size:
        return False
    rows = host(noise.value).reshape(noise.shape[0], -1)
    mirrored = host(noise.law.mirror(noise.value)).reshape(rows.shape)
    first = np.isin(mirrored[:, 0], rows[:, 0])
    if 2 * np.unique(rows[:, 0]).size <= len(rows) or 2 * np.count_nonzero(first) >= len(rows):
        seen, images = set(map(bytes, rows)), set(map(bytes, mirrored))
        return 2 * len(seen) <= len(rows) or 2 * len(seen & images) >= len(seen)
    return False


def check_uncoupled(z: Sample, labels: Labels) -> None:
    """Raise where draws that are not independent of each other would be weighed together."""
    if is_coupled(z) and 0 not in labels:
        raise InvalidGradientError(
            f"the draws of {name_of_draw(z.name, z.line)} ({z.line}) are not independent of each other (a Sobol "
            "sequence, antithetic pairs), and the cost joins them: each would be weighed with the log-probability of "
            "the others too. Let the cost keep the axis that counts them, and average it after the estimator; or use "
            "reparameterize(cost)"
        )
