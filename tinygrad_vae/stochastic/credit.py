"""Credit: which part of a cost a draw can have influenced, followed axis by axis through the graph.

For a batch, the cost of example i usually depends on the draw of example i alone. Where that can be read off
the graph, a score function needs to weigh each example only with its own log-probability.
"""

from __future__ import annotations

from typing import Any

from ..graph import Op, Tensor, topological_order
from ..ops import permute_dims, reshape, sum

Labels = tuple[int | None, ...]


def surviving_axes(cost: Tensor, z: Tensor) -> Labels:
    """Return, for each axis of the cost, the axis of ``z`` that it carries unmixed, or ``None``.

    Axis a of the cost carries axis b of z where ``cost[.., i, ..]`` (at a) depends on ``z[.., i, ..]`` (at b) only.

    >>> from tinygrad_vae.ops import sum, mean
    >>> z = Tensor(__import__("numpy").ones((5, 2)))
    >>> surviving_axes(sum(z * z, axis=1), z), surviving_axes(sum(z - mean(z, axis=0), axis=1), z)
    ((0,), (None,))
    """
    if not cost.shape:
        return ()
    labels: dict[int, Labels] = {id(z): tuple(range(len(z.shape)))}
    for node in topological_order([cost]):
        if node is z or node.op is None:
            continue
        found = [_passed_on(node.op, i, labels[id(x)], node) for i, x in enumerate(node.inputs) if id(x) in labels]
        if found:
            labels[id(node)] = tuple(
                column[0] if len(set(column)) == 1 else None for column in zip(*found, strict=True)
            )
    return labels.get(id(cost), (None,) * len(cost.shape))


def _passed_on(op: Op[..., Any], i: int, labels: Labels, node: Tensor) -> Labels:
    """Return the labels of the node's axes that come from its input ``i``."""
    x = node.inputs[i]
    if op.elementwise:
        offset = len(node.shape) - len(labels)
        whole = [label if x.shape[a] == node.shape[offset + a] else None for a, label in enumerate(labels)]
        return (None,) * offset + tuple(whole)
    if op.axes is None:
        return (None,) * len(node.shape)
    return op.axes(i, labels, node, *node.inputs, **node.attrs)


def mixing_op(cost: Tensor, z: Tensor) -> str | None:
    """Return the name of the first op on the way from z that mixes its first axis, for a message."""
    labels: dict[int, Labels] = {id(z): tuple(range(len(z.shape)))}
    for node in topological_order([cost]):
        if node is z or node.op is None:
            continue
        inputs = [labels[id(x)] for x in node.inputs if id(x) in labels]
        if inputs:
            labels[id(node)] = surviving_axes(node, z)
            if any(0 in row for row in inputs) and 0 not in labels[id(node)]:
                return node.op.name
    return None


def aligned_log_prob(log_prob: Any, labels: Labels) -> tuple[Any, list[int]]:
    """Return a log-probability summed over the axes that the cost does not carry, lying along those that it does.

    Args:
        log_prob: of shape batch, the leading axes of the draw.
        labels: ``surviving_axes(cost, z)``.

    Returns:
        The log-probability, of a shape that broadcasts with the cost, and the axes that were summed away.
    """
    ndim = len(log_prob.shape)
    kept = [label if label is not None and label < ndim else None for label in labels]
    carried = [label for label in kept if label is not None]
    gone = [a for a in range(ndim) if a not in carried]
    summed = sum(log_prob, axis=tuple(gone)) if gone else log_prob
    remaining = [a for a in range(ndim) if a in carried]
    ordered = permute_dims(summed, tuple(remaining.index(label) for label in carried)) if carried else summed
    lengths = iter(ordered.shape)
    return reshape(ordered, tuple(1 if label is None else next(lengths) for label in kept)), gone
