"""Where the values of the nodes of a graph lie, whatever the noise is, and which ops can leap at a pole there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core import UNIFORM, Drawn, Noise, Sample, Tensor, handled_draw, to_numpy, topological_order, value_of
from ..ops.ranges import ABOVE_ZERO, BETWEEN_0_AND_1, PROMISED, REALS, UNKNOWN, Interval, range_of_support

Ranges = dict[int, Interval]
Noises = dict[int, frozenset[Tensor]]


def is_random(drawn: Drawn) -> bool:
    """Return whether a node in the place of a draw is random, even if a Tensor was put in the place of its noise."""
    return drawn.weighs or drawn.estimator == "pathwise"


def leaping(nodes: Iterable[Tensor]) -> list[Tensor]:
    """Return the nodes, of some made by ops with a pole, whose random values may cross it."""
    with np.errstate(all="ignore"):
        anywhere = {id(x): REALS for node in nodes for x in node.inputs if isinstance(x, Tensor)}
        nodes = [node for node in nodes if _leaps(node, anywhere, True)]  # x**2 and x / 2 leap nowhere
        if not nodes:
            return []
        ranges, noises = _walk(topological_order(nodes))
        return [node for node in nodes if _leaps(node, ranges, _shares_noise(node, noises))]


def _leaps(node: Tensor, ranges: Ranges, dependent: bool) -> bool:
    leaps = node.op.declared.pole[1]  # type: ignore[union-attr]
    return bool(leaps(node, dependent, *[_range_of(x, ranges) for x in node.inputs]))


def _shares_noise(node: Tensor, noises: Noises) -> bool:
    """Return whether the input with the pole shares noise with another one."""
    i, _ = node.op.declared.pole  # type: ignore[union-attr]
    own = noises.get(id(node.inputs[i]), frozenset())
    return any(own & noises.get(id(x), frozenset()) for j, x in enumerate(node.inputs) if j != i)


def range_of(node: Tensor) -> tuple[Interval, bool]:
    """Return where the values of a node lie, whatever the noise is, and whether a part of it touches 0, as x^2 does."""
    with np.errstate(all="ignore"):
        order = topological_order([node])
        ranges, _ = _walk(order)
        crossing = {key for key, (low, high) in ranges.items() if np.any(np.less(low, 0) & np.greater(high, 0))}
        ending = {key for key, ends in ranges.items() if any(np.any(np.equal(end, 0)) for end in ends)}
        touches = any(id(part) in ending and any(id(x) in crossing for x in part.inputs) for part in order)
        return _range_of(node, ranges), touches


def _walk(order: list[Tensor]) -> tuple[Ranges, Noises]:
    """Return the interval of each random node, and the noises that it depends on."""
    ranges: Ranges = {}
    noises: Noises = {}
    for node in order:
        found: frozenset[Tensor] = frozenset().union(*(noises.get(id(x), ()) for x in node.inputs))
        if isinstance(node, Noise):
            found, ranges[id(node)] = frozenset((node,)), BETWEEN_0_AND_1 if node.dist is UNIFORM else REALS
        elif not found and node.op is handled_draw and is_random(node.attrs["drawn"]):
            found, ranges[id(node)] = frozenset((node,)), REALS
        if found:
            noises[id(node)] = found
            if id(node) not in ranges:
                ranges[id(node)] = _range_of_node(node, ranges, noises)
    return ranges, noises


def _range_of(x: Any, ranges: Ranges) -> Interval:
    if id(x) in ranges:
        return ranges[id(x)]
    value = to_numpy(value_of(x)).astype(np.float64)
    return value, value


def _range_of_node(node: Tensor, ranges: Ranges, noises: Noises) -> Interval:
    if isinstance(node, Sample):
        return range_of_support(node.dist.support)
    rule = node.op.declared.range  # type: ignore[union-attr]
    if rule is None:
        return (0.0, 1.0) if node.dtype.kind == "b" else UNKNOWN
    intervals = [_range_of(x, ranges) for x in node.inputs]
    found = low, high = rule(node, *intervals)
    if found is UNKNOWN or found is PROMISED:
        return found
    if any(x is UNKNOWN for x in intervals) and np.all(low == -math.inf) and np.all(high == math.inf):
        return UNKNOWN
    if np.any(low == 0) and hasattr(rule, "together"):
        count, reduced = rule.together(node)
        if _varied_by_more_than(count, reduced, noises):
            low = np.where(low == 0, ABOVE_ZERO, low)
    return low, high


def _varied_by_more_than(together: float, node: Tensor, noises: Noises) -> bool:
    """Return whether more than ``together`` independent random numbers vary each element, as far as the shapes tell.

    Leading axes of the noise that the node has too count examples, each with noise of its own.
    """
    if sum(max(1, x.size // max(1, node.size)) for x in node.inputs if id(x) in noises) <= together:
        return False
    count = 0
    for noise in noises[id(node)]:
        shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(noise.shape, node.shape, strict=False))
        count += math.prod(noise.shape[len(list(shared)) :])
    return count > together
