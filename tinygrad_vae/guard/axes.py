"""Credit: which part of a cost a draw can have influenced, followed axis by axis through the graph.

For a batch, the cost of example i usually depends on the draw of example i alone. Where that can be read off the graph,
a score function needs to weigh each example only with its own log-probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core import Op, Tensor, make_node, topological_order
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


def counts_draws(value: Tensor, z: Tensor, event_ndim: int) -> bool:
    """Return whether the first axis of a value counts draws of z, and element i depends on draw i alone.

    ``event_ndim`` is how many of the last axes of z are within one draw.
    """
    return len(z.shape) > event_ndim and surviving_axes(value, z)[0] == 0


def _passed_on(op: Op[..., Any], i: int, labels: Labels, node: Tensor) -> Labels:
    """Return the labels of the node's axes that come from its input ``i``."""
    x = node.inputs[i]
    if op.elementwise:
        offset = len(node.shape) - len(labels)
        whole = [label if x.shape[a] == node.shape[offset + a] else None for a, label in enumerate(labels)]
        return (None,) * offset + tuple(whole)
    if op.declared.axes is None:
        return (None,) * len(node.shape)
    return op.declared.axes(i, labels, node, *node.inputs, **node.attrs)


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


def weigh_terms(cost: Tensor, draws: Sequence[Tensor], weigh: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
    """Return the cost with each term that depends on draws weighed, and the others as they are.

    The terms are what the cost is added up from, by sums, means, and factors that depend on no draw: they are found
    from the cost down, and end where an op bends them.

    Args:
        cost: a Tensor that depends on the draws.
        draws: nodes of its graph.
        weigh: ``weigh(term, numbers)`` returns a term, with the value that it has, weighed for the draws of these
            numbers that it depends on.
    """
    order = topological_order([cost])
    found: dict[int, int] = {id(z): 1 << k for k, z in enumerate(draws)}  # the draws that a node depends on, as bits
    for node in order:
        for x in node.inputs:
            found[id(node)] = found.get(id(node), 0) | found.get(id(x), 0)
    wanted, terms = {id(cost)}, set()
    for node in reversed(order):
        if id(node) in wanted and found.get(id(node)):
            ways = _ways(node, found)
            if ways:
                wanted.update(id(node.inputs[i]) for i in ways)
            else:
                terms.add(id(node))
    new: dict[int, Tensor] = {}
    for node in order:
        if id(node) in terms:
            new[id(node)] = weigh(node, [k for k in range(len(draws)) if found[id(node)] >> k & 1])
        elif id(node) in wanted and any(id(x) in new for x in node.inputs):
            inputs = tuple(new.get(id(x), x) for x in node.inputs)
            new[id(node)] = make_node(node.value, node.op, inputs, node.attrs, node.name)
    return new.get(id(cost), cost)


def _ways(node: Tensor, found: dict[int, int]) -> list[int]:
    """Return the inputs that depend on draws, where the node is linear in all of them together; else none."""
    ways = [i for i, x in enumerate(node.inputs) if found.get(id(x))]
    if node.op is None or not ways or any(node.inputs[i].dtype.kind != "f" for i in ways):
        return []
    return ways if set(ways) <= set(node.op.declared.linear_with(ways[0], len(node.inputs))) else []
