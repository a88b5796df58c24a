"""Which axes of a draw, and of a solved equation, stay apart: the batch axes."""

from __future__ import annotations

from typing import Any

from ..core import Value, draw_sample, handled_draw, trees
from ..ops.declare import BLOCKED, Labels, declare
from ..ops.ranges import of_draw


def axes_kept_apart(labels: Labels, x: Value, shape: tuple[int, ...], own: int, after: int) -> Labels:
    """Return the labels of the axes of an output that has the batch axes of ``x``, broadcast, in front of others.

    A broadcast axis is not kept apart: several draws share what stands there.

    Args:
        labels: the labels of the axes of x.
        x: an input.
        shape: the shape of the output.
        own: how many of the last axes of x are no batch axes.
        after: how many of the last axes of the output are none.
    """
    batch = labels[: max(0, len(labels) - own)]
    offset = len(shape) - after - len(batch)
    kept = tuple(label if x.shape[a] == shape[offset + a] else None for a, label in enumerate(batch))
    return (None,) * offset + kept + (None,) * after


def axes_beside_parameters(i: int, labels: Labels, y: Value, x: Value, *parameters: Value, dist: Any) -> Labels:
    """Return the labels for an op on draws x that gives one number for each distribution of the batch."""
    dist = trees.replace_leaves(dist, parameters)
    own = len(dist.event_shape) if i == 0 else dist.parameter_event_ndims()[i - 1]
    return axes_kept_apart(labels, (x, *parameters)[i], y.shape, own, 0)


def _axes_of_draw(i: int, labels: Labels, z: Value, noise: Value, *parameters: Value, dist: Any, **_: Any) -> Labels:
    if i == 0:
        return (None,) * len(z.shape)
    element = trees.replace_leaves(dist, parameters).element
    own = element.parameter_event_ndims()[i - 1]
    return axes_kept_apart(labels, parameters[i - 1], z.shape, own, len(element.event_shape))


declare(draw_sample, smoothness=BLOCKED, axes=_axes_of_draw)
declare(handled_draw, linear=True, axes=lambda i, labels, y, x, *, drawn: labels, range=of_draw)


def structure_of(dist: Any) -> Any:
    """Return the distribution with ``...`` in the place of each parameter, for the attributes of a node."""
    return trees.map_leaves(lambda _: ..., dist)
