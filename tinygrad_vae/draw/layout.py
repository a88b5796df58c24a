"""A layered layout: where the boxes of a graph stand and how the arrows run between them, without crossing a box.

Sugiyama, Tagawa and Toda 1981: layers by the longest path, order within a layer by barycentres, and positions by least
squares with the distances kept.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import accumulate, pairwise
from math import inf

SIDE_GAP, LAYER_GAP, LANE = 30.0, 58.0, 14.0
"""The room between neighbouring boxes, between layers, and for an arrow that passes through a layer."""


@dataclass(frozen=True)
class Layout:
    """Where everything stands, in a frame of ``width`` by ``height`` whose origin is the upper left corner."""

    sizes: Sequence[tuple[float, float]]  # of each box
    centres: list[tuple[float, float]]
    layers: list[int]
    lanes: list[list[float]]  # of each arrow, the x in each layer that it passes through, straight down
    bands: list[tuple[float, float]]  # the top and the bottom of each layer
    width: float
    height: float


def layered_layout(
    sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]], layer_gap: float = LAYER_GAP
) -> Layout:
    """Return a layout of boxes of these sizes, with every edge pointing down.

    Args:
        sizes: the width and height of each box.
        edges: pairs ``(from, to)`` of numbers of boxes; a pair may occur several times. ``graphlib.CycleError`` is
            raised if they run in a circle.
        layer_gap: the room between layers.

    >>> layered_layout([(10, 10), (10, 10)], [(0, 1)]).layers
    [0, 1]
    """
    layers = _layers(len(sizes), edges)
    widths = [w for w, _ in sizes]
    chains: list[list[int]] = []  # each edge as the boxes and lanes it runs through
    at = list(layers)
    for tail, head in edges:
        between = range(layers[tail] + 1, layers[head])
        chains.append([tail, *range(len(at), len(at) + len(between)), head])
        at += between
        widths += [LANE] * len(between)
    links = [(a, b) for chain in chains for a, b in pairwise(chain)]
    rows = _ordered(at, links)
    xs = _positions(rows, widths, links, len(sizes))
    lanes = [chain[1:-1] for chain in chains]
    _straighten(lanes, rows, xs, widths)
    left = min((x - w / 2 for x, w in zip(xs, widths, strict=True)), default=0.0)
    xs = [x - left for x in xs]
    bands: list[tuple[float, float]] = []
    for row in rows:
        top = bands[-1][1] + layer_gap if bands else 0.0
        bands.append((top, top + max((sizes[i][1] for i in row if i < len(sizes)), default=0.0)))
    return Layout(
        sizes,
        [(xs[i], sum(bands[layer]) / 2) for i, layer in enumerate(layers)],
        layers,
        [[xs[i] for i in lane] for lane in lanes],
        bands,
        max((x + w / 2 for x, w in zip(xs, widths, strict=True)), default=0.0),
        bands[-1][1] if bands else 0.0,
    )


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the layer of each box: as high as its inputs allow, and right above its first use if it has none."""
    above, below = _neighbours(count, edges)
    layers = [0] * count
    for i in TopologicalSorter(dict(enumerate(above))).static_order():
        layers[i] = max((layers[j] + 1 for j in above[i]), default=0)
    for i in range(count):
        if not above[i] and below[i]:
            layers[i] = min(layers[j] for j in below[i]) - 1
    return layers


def _neighbours(count: int, links: Sequence[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    up: list[list[int]] = [[] for _ in range(count)]
    down: list[list[int]] = [[] for _ in range(count)]
    for a, b in links:
        down[a].append(b)
        up[b].append(a)
    return up, down


def _ordered(at: Sequence[int], links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return each layer from left to right, with few crossings: the best of some sweeps by barycentres."""
    rows: list[list[int]] = [[] for _ in range(max(at, default=-1) + 1)]
    for i, layer in enumerate(at):
        rows[layer].append(i)
    up, down = _neighbours(len(at), links)
    best, fewest = [list(row) for row in rows], _crossings(rows, down)
    for sweep in range(16):
        if not fewest:
            break
        place = {i: float(k) for row in rows for k, i in enumerate(row)}
        towards, order = (up, rows) if sweep % 2 == 0 else (down, rows[::-1])
        for row in order:
            barycentre = {i: sum(place[j] for j in towards[i] or [i]) / len(towards[i] or [i]) for i in row}
            row.sort(key=barycentre.__getitem__)
            place.update({i: float(k) for k, i in enumerate(row)})
        found = _crossings(rows, down)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _crossings(rows: Sequence[Sequence[int]], down: Sequence[Sequence[int]]) -> int:
    total = 0
    for row, below in pairwise(rows):
        place = {i: k for k, i in enumerate(below)}
        seen: list[int] = []
        for i in row:
            ends = [place[j] for j in down[i]]
            total += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _positions(
    rows: Sequence[Sequence[int]], widths: Sequence[float], links: Sequence[tuple[int, int]], boxes: int
) -> list[float]:
    """Return the x of each box and lane: near its neighbours in other layers, apart from those beside it."""
    pulls: list[list[tuple[int, float]]] = [[] for _ in widths]
    for a, b in links:
        strength = (1.0, 3.0, 9.0)[(a >= boxes) + (b >= boxes)]
        pulls[a].append((b, strength))
        pulls[b].append((a, strength))
    xs = [0.0] * len(widths)
    lines = []  # each row with its offsets from the left, as close together as may be, and weights
    for row in rows:
        gaps = ((widths[a] + widths[b]) / 2 + SIDE_GAP for a, b in pairwise(row))
        line = list(accumulate(gaps, initial=0.0))
        lines.append((row, line, [sum(s for _, s in pulls[i]) or 1.0 for i in row]))
        for i, place in zip(row, line, strict=True):
            xs[i] = place - line[-1] / 2
    for sweep in range(max(24, min(400, 40_000 // max(len(xs), 1)))):
        for row, line, weights in lines[:: 1 if sweep % 2 == 0 else -1]:
            wanted = [
                (sum(xs[j] * s for j, s in pulls[i]) / w if pulls[i] else xs[i]) - place
                for i, place, w in zip(row, line, weights, strict=True)
            ]
            for i, x, place in zip(row, _rising(wanted, weights), line, strict=True):
                xs[i] = x + place
    return xs


def _straighten(
    lanes: Sequence[Sequence[int]], rows: Sequence[Sequence[int]], xs: list[float], widths: Sequence[float]
) -> None:
    """Put the lanes of one arrow on one x, if the boxes beside them leave the room."""
    left_of = {b: a for row in rows for a, b in pairwise(row)}
    right_of = {a: b for b, a in left_of.items()}
    for run in lanes:
        low, high = -inf, inf
        for i in run:
            if (a := left_of.get(i)) is not None:
                low = max(low, xs[a] + (widths[a] + widths[i]) / 2 + SIDE_GAP / 2)
            if (b := right_of.get(i)) is not None:
                high = min(high, xs[b] - (widths[b] + widths[i]) / 2 - SIDE_GAP / 2)
        if len(run) > 1 and low <= high:
            x = min(max(sum(xs[i] for i in run) / len(run), low), high)
            for i in run:
                xs[i] = x


def _rising(wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the non-decreasing numbers nearest to the wanted ones by weighted least squares (pool adjacent violators).

    >>> _rising([3.0, 1.0, 5.0], [1.0, 1.0, 1.0])
    [2.0, 2.0, 5.0]
    """
    pools: list[tuple[float, float, int]] = []
    for x, w in zip(wanted, weights, strict=True):
        pool = (x, w, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, weight, count = pools.pop()
            total = weight + pool[1]
            pool = ((mean * weight + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]
