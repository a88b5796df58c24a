"""The elements of a draw: how the cost mixes them, and how to change one at a time.

Along an axis of z that the cost carries, element i of the cost depends on element i of z alone, so that all of them can
be changed at once. Along the other axes each element needs copies of the cost of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..core import Array, InvalidGradientError, Noise, Sample, Tensor, Value, namespace, to_numpy
from ..guard.axes import Labels, along, surviving_axes
from ..guard.names import name_and_line
from ..ops import reshape, where

JOINED = "the draws are not independent, so that the others are no baseline"


def batch_ndim(z: Sample) -> int:
    """Return the number of axes of z that count its elements, before the axes of one element."""
    return z.ndim - len(z.dist.element.event_shape)


def mixed_shape(z: Sample, cost: Tensor) -> tuple[int, ...]:
    """Return the lengths of the axes of z along which the cost mixes its draws, 1 for the other axes."""
    carried = surviving_axes(cost, z)
    return tuple(1 if a in carried else n for a, n in enumerate(z.shape[: batch_ndim(z)]))


def positions(lengths: Sequence[int], near: Array) -> Iterator[Array]:
    """Yield, for each position along some axes, a mask that is true there, on the device of the array ``near``."""
    for position in itertools.product(*map(range, lengths)):
        mask = np.zeros(lengths, bool)
        mask[position] = True
        yield namespace(near).asarray(mask)


def changed(z: Value, mask: Value, other: Value) -> Any:
    """Return z with the other value where the mask over its elements holds."""
    return where(reshape(mask, (*mask.shape, *(1,) * (len(z.shape) - len(mask.shape)))), other, z)


def aligned(x: Value, z: Sample, cost: Tensor) -> Value:
    """Return ``x``, a number for each element of z, summed over the axes that the cost mixes, along the others."""
    labels = surviving_axes(cost, z)
    check_independent(z, labels)
    return along(x, labels)


def has_dependent_draws(z: Sample) -> bool:
    """Return whether the draws along the first axis of z are not independent of each other."""
    return isinstance(z.noise, Noise) and (z.noise.dependent_draws or _is_paired(z.noise))


def _is_paired(noise: Noise) -> bool:
    """Return whether half the rows of the noise are mirror images or copies of others, as in antithetic pairs."""
    if not noise.draw_axes or noise.ndim < 1 or noise.shape[0] < 2 or not noise.size:
        return False
    rows, mirrored = (to_numpy(x).reshape(noise.shape[0], -1) for x in (noise.value, noise.dist.mirror(noise.value)))
    if 2 * np.unique(rows[:, 0]).size > len(rows) > 2 * np.count_nonzero(np.isin(mirrored[:, 0], rows[:, 0])):
        return False  # most first numbers are single: there is no need to look at the others
    seen, images = set(map(bytes, rows)), set(map(bytes, mirrored))
    return 2 * len(seen) <= len(rows) or 2 * len(seen & images) >= len(seen)


def check_independent(z: Sample, labels: Labels) -> None:
    """Raise where draws that depend on each other would be weighed together."""
    if has_dependent_draws(z) and 0 not in labels:
        raise InvalidGradientError(
            f"the draws of {name_and_line(z)} are not independent of each other (a Sobol "
            "sequence, antithetic pairs), and the cost joins them: each would be weighed with the log-probability of "
            "the others too. Let the cost keep the axis that counts them, and average it after the estimator; or use "
            "reparameterize(cost)"
        )
