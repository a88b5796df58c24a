"""Credit: which part of a cost a draw can have influenced, followed axis by axis through the graph.

For a batch, the cost of example i usually depends on the draw of example i alone. Where that can be read off the graph,
a score function needs to weigh each example only with its own log-probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core import Op, Sample, Tensor, make_node, topological_order
from ..ops import mean, permute_dims, reshape, sum
from .paths import live_samples, members, remembered

Labels = tuple[int | None, ...]


def surviving_axes(cost: Tensor, z: Tensor) -> Labels:
    """Return, for each axis of the cost, the axis of ``z`` that it carries unmixed, or ``None``.

    Axis a of the cost carries axis b of z where ``cost[.., i, ..]`` (at a) depends on ``z[.., i, ..]`` (at b) only.

    >>> from tinygrad_vae.ops import sum, mean
    >>> z = Tensor(__import__("numpy").ones((5, 2)))
    >>> surviving_axes(sum(z * z, axis=1), z), surviving_axes(sum(z - mean(z, axis=0), axis=1), z)
    ((0,), (None,))
    """
    return carried_axes(cost).get(id(z), (None,) * cost.ndim) if cost.ndim else ()


@remembered
def carried_axes(cost: Tensor) -> dict[int, Labels]:
    """Return ``surviving_axes`` for every node that the cost depends on, by its id: one walk, from the cost down."""
    mixed: Labels = (None,) * cost.ndim
    carried: dict[int, Labels] = {id(cost): tuple(range(cost.ndim))}
    for node in reversed(topological_order([cost])):
        labels = carried[id(node)]
        for i, x in enumerate(node.inputs):
            if not isinstance(x, Tensor):
                continue
            found = mixed
            if node.op is not None and labels != mixed:
                through = _passed_on(node.op, i, tuple(range(x.ndim)), node)
                found = tuple(None if a is None else through[a] for a in labels)
            known = carried.get(id(x), found)
            carried[id(x)] = tuple(a if a == b else None for a, b in zip(found, known, strict=True))
    return carried


def counts_draws(value: Tensor, z: Tensor, event_ndim: int) -> bool:
    """Return whether the first axis of a value counts draws of z, and element i depends on draw i alone."""
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


def price_of_mixing(cost: Tensor, z: Tensor) -> str:
    """Say which op mixes the examples along the first axis of z, and how noisy a joint log-probability is then."""
    carried: dict[int, Labels] = {id(z): tuple(range(z.ndim))}
    mixing = "an op"
    for node in topological_order([cost]):
        ways = [(i, carried[id(x)]) for i, x in enumerate(node.inputs) if id(x) in carried]
        if node is z or node.op is None or not ways:
            continue
        rows = [_passed_on(node.op, i, labels, node) for i, labels in ways]
        carried[id(node)] = tuple(row[0] if len(set(row)) == 1 else None for row in zip(*rows, strict=True))
        if any(0 in labels for _, labels in ways) and 0 not in carried[id(node)]:
            mixing = node.op.name
            break
    n = z.shape[0]
    return f"{mixing} mixes the {n} examples, and the gradient is up to {n} times as noisy"


@remembered
def joined(cost: Tensor) -> dict[int, str]:
    """Return ``price_of_mixing`` for each draw, by id, that has an axis of examples which the cost mixes.

    The examples are the elements of the cost or, where it is one number, of its terms.
    """
    found: dict[int, str] = {}
    samples = live_samples(cost)
    order, _, is_sum = _terms(cost, samples)
    for term in [cost] if cost.ndim else [node for node in order if is_sum.get(id(node)) is False and node.ndim]:
        axes = carried_axes(term)
        for z in samples:
            if has_examples(term, z) and all(label is None for label in axes.get(id(z), (0,))):
                found[id(z)] = price_of_mixing(term, z)
    return found


def has_examples(cost: Tensor, z: Sample) -> bool:
    """Return whether the first axes of a draw and of the cost may count the same examples."""
    return cost.ndim > 0 and z.ndim > len(z.dist.event_shape) and 1 < z.shape[0] == cost.shape[0]


def along(x: Any, labels: Labels) -> Any:
    """Return x summed over its axes that are no labels, and lying along the others: it broadcasts with the cost.

    ``labels`` are ``surviving_axes(cost, z)``; x has a number for each element of z, as a log-probability does.
    """
    ndim = len(x.shape)
    kept = [label if label is not None and label < ndim else None for label in labels]
    carried = [label for label in kept if label is not None]
    gone = tuple(a for a in range(ndim) if a not in carried)
    shape = tuple(1 if label is None else x.shape[label] for label in kept)
    summed = sum(x, axis=gone) if gone else x
    ordered = permute_dims(summed, tuple(sorted(carried).index(label) for label in carried)) if carried else summed
    return ordered if ordered.shape == shape else reshape(ordered, shape)


def weigh_terms(cost: Tensor, draws: Sequence[Tensor], weigh: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
    """Return the cost with each of its terms that depends on draws weighed.

    The terms are the summands of its outermost linear ops: sums, means, factors that depend on no draw.
    ``weigh(term, numbers)`` returns a term of the same value, weighed for the draws of these numbers.
    """
    order, found, is_sum = _terms(cost, draws)
    new: dict[int, Tensor] = {}
    for node in order:
        if is_sum.get(id(node)) is False:
            new[id(node)] = weigh(node, list(members(found[id(node)])))
        elif id(node) in is_sum and any(id(x) in new for x in node.inputs):
            inputs = tuple(new.get(id(x), x) for x in node.inputs)
            new[id(node)] = make_node(node.value, node.op, inputs, node.attrs, node.name)
    return new.get(id(cost), cost)


def _terms(cost: Tensor, draws: Sequence[Tensor]) -> tuple[list[Tensor], dict[int, int], dict[int, bool]]:
    """Return all nodes in order; the draws that each depends on, as bits; and for sums and terms, which is a sum."""
    order = topological_order([cost])
    found: dict[int, int] = {id(z): 1 << k for k, z in enumerate(draws)}
    for node in order:
        for x in node.inputs:
            found[id(node)] = found.get(id(node), 0) | found.get(id(x), 0)
    wanted: set[int] = {id(cost)}
    is_sum: dict[int, bool] = {}
    for node in reversed(order):
        if id(node) in wanted and found.get(id(node)):
            ways = [i for i, x in enumerate(node.inputs) if found.get(id(x))]
            linear = node.op.declared.linear_with(ways[0], len(node.inputs)) if node.op and ways else ()
            floats = all(node.inputs[i].dtype.kind == "f" for i in ways)
            is_sum[id(node)] = bool(ways) and floats and set(ways) <= set(linear)
            wanted.update(id(node.inputs[i]) for i in ways if is_sum[id(node)])
    return order, found, is_sum


@remembered
def less_noisy(cost: Tensor) -> dict[int, str]:
    """Return, where the cost is one number, how to weigh its terms apart: for each draw, by id, that not all share."""
    samples = live_samples(cost) if not cost.ndim else []
    order, found, is_sum = _terms(cost, samples)
    terms = [node for node in order if is_sum.get(id(node)) is False]
    axes = carried_axes(terms[-1]) if terms else {}
    joins = [node.op.name for node in order if is_sum.get(id(node)) and node.op in (sum, mean)]
    one_join = len(terms) == len(joins) == 1
    call = f"tg.{joins[0]}(score_function(each))" if one_join else 'score_function(cost, credit="downstream")'
    return {
        id(z): call
        for k, z in enumerate(samples)
        if any(not found[id(term)] >> k & 1 for term in terms)
        or any(label is not None and label < z.ndim - len(z.dist.event_shape) for label in axes.get(id(z), ()))
    }
