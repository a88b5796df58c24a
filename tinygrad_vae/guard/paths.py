"""One walk over a graph: which parameters reach each node over open paths and which through random nodes."""

from __future__ import annotations

import functools
import operator
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..core import Noise, Sample, Tensor, handled_draw, topological_order
from ..ops.declare import BLOCKED, JUMP, KINK, PIECEWISE, STOP
from ..refusals import refuse_gradient
from .names import op_in_words
from .ranges import is_random, leaping

R = TypeVar("R")


def remembered(walk: Callable[[Tensor], R]) -> Callable[[Tensor], R]:
    """Walk over the graph of a Tensor once: a decorator that keeps the result for as long as the Tensor lives.

    A graph is never edited. The result must hold no node, only ids, or the graph would keep itself alive.
    """
    known: dict[int, tuple[weakref.ref[Tensor], R]] = {}

    @functools.wraps(walk)
    def once(output: Tensor) -> R:
        key = id(output)
        if key not in known:
            known[key] = weakref.ref(output, lambda _: known.pop(key, None)), walk(output)
        return known[key][1]

    return once


def members(bits: int) -> Iterator[int]:
    """Yield the members of a set of whole numbers, which is stored as the bits of one number."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def live_of(order: list[Tensor]) -> list[Tensor]:
    """Return the nodes of an order from which a path that is not cut on purpose leads to its last node."""
    live = {id(order[-1])}
    for node in reversed(order):
        if node.op is not None and id(node) in live:
            cut = STOP in node.op.declared.smoothness
            live.update(id(x) for i, x in enumerate(node.inputs) if not (cut and dependence(node, i) == STOP))
    return [node for node in order if id(node) in live]


def live_samples(output: Tensor) -> list[Sample]:
    """Return the blocked random nodes on live paths to the output, the earliest first."""
    return [node for node in live_of(topological_order([output])) if isinstance(node, Sample)]


def dependence(node: Tensor, i: int) -> str:
    """Return how smoothly the node depends on its input ``i``; whole numbers can only jump."""
    kind: str = node.op.declared.smoothness_in(i)  # type: ignore[union-attr]
    return JUMP if node.value.dtype.kind != "f" and kind not in (STOP, BLOCKED) else kind


def downstream(
    order: Sequence[Tensor], source: Tensor, ends: Sequence[str] = (STOP, JUMP, BLOCKED)
) -> Iterator[tuple[Tensor, set[str]]]:
    """Yield each node that meets the source or what depends on it, and how smoothly; dependence stops at ``ends``."""
    below = {id(source)}
    for node in order:
        kinds = {dependence(node, i) for i, x in enumerate(node.inputs) if id(x) in below}
        if kinds:
            yield node, kinds
        if kinds.difference(ends):
            below.add(id(node))


@dataclass
class Paths:
    """What one walk over a graph found. A set of parameters is a whole number with one bit for each."""

    wrt: Sequence[Tensor]
    live: list[Tensor]
    opened: dict[int, int] = field(default_factory=dict)  # which parameters reach a node, by its id, over an open path
    blocked: dict[int, int] = field(default_factory=dict)  # and which reach it through a random node
    sources: dict[int, int] = field(default_factory=dict)  # the independent noises in a node, one bit for each
    origins: dict[Any, int] = field(default_factory=dict)  # the bit of each noise, by its origin
    samples: list[Sample] = field(default_factory=list)  # live, and no estimator has taken care of them
    notes: list[Tensor] = field(default_factory=list)  # live, for random nodes that one has taken care of
    jumps: list[tuple[Tensor, str, int]] = field(default_factory=list)  # with a random value, or where it meets wrt
    kinks: list[tuple[Tensor, int]] = field(default_factory=list)  # where a parameter meets a slope that jumps
    refusals: list[tuple[str, int]] = field(default_factory=list)  # the reasons of ``refuse_gradient`` on open paths
    behind_jump: int = 0  # behind a random node that a live node jumps with: no cotangent would arrive there

    def of(self, x: Any) -> int:
        """Return the parameters that reach x in any way."""
        return self.opened.get(id(x), 0) | self.blocked.get(id(x), 0)

    def of_distribution(self, z: Sample) -> int:
        """Return the parameters that the distribution of ``z`` depends on: those that z hides."""
        return functools.reduce(operator.or_, map(self.of, z.inputs))

    def names(self, bits: int) -> list[str]:
        """Return the names of a set of parameters."""
        return [t.name or f"wrt[{k}]" for k, t in enumerate(self.wrt) if bits >> k & 1]


def follow(order: list[Tensor], wrt: Sequence[Tensor]) -> Paths:
    """Follow all parameters at once through a graph, whose output is the last node of the order."""
    paths = Paths(wrt, live_of(order))
    alive = {id(node) for node in paths.live}
    opened, blocked, sources, origins = paths.opened, paths.blocked, paths.sources, paths.origins
    poles: dict[Tensor, int] = {}
    for k, t in enumerate(wrt):
        opened[id(t)] = opened.get(id(t), 0) | 1 << k
    for node in order:
        key, op = id(node), node.op
        if op is None:
            if isinstance(node, Noise):
                sources[key] = origins.setdefault(node.origin, 1 << len(origins))
            continue
        through_open, through_blocked, bent, noises, noise_jumps = opened.get(key, 0), 0, 0, 0, False
        jumps: dict[str, int] = {}
        for i, x in enumerate(node.inputs):
            a, b, random = opened.get(id(x), 0), blocked.get(id(x), 0), sources.get(id(x), 0)
            if not (a or b or random):
                continue
            noises |= random
            kind = dependence(node, i)
            if kind == STOP:
                continue
            through_blocked |= b
            if kind == BLOCKED:
                through_blocked |= a
            elif kind == JUMP:
                paths.behind_jump |= b if key in alive else 0
            else:
                through_open |= a
                bent |= a if kind == KINK else 0
            if kind in (JUMP, PIECEWISE):
                noise_jumps = noise_jumps or bool(random)
                kind = kind if random else "meeting"
                jumps[kind] = jumps.get(kind, 0) | a
        if isinstance(node, Sample) or (op is handled_draw and is_random(node.attrs["drawn"])):
            noises = noises or origins.setdefault(node, 1 << len(origins))
        for found, bits in ((opened, through_open), (blocked, through_blocked), (sources, noises)):
            if bits:
                found[key] = bits
        if key not in alive:
            continue
        if isinstance(node, Sample):
            paths.samples.append(node)
        elif op is handled_draw:
            paths.notes.append(node)
        elif op is refuse_gradient and through_open:
            paths.refusals.append((node.attrs["reason"], through_open))
        if op.declared.pole is not None:
            x = node.inputs[op.declared.pole[0]]
            if opened.get(id(x), 0) and sources.get(id(x), 0):
                poles[node] = opened[id(x)]
        if bent:
            paths.kinks.append((node, bent))
        for kind in (JUMP, PIECEWISE, "meeting") if jumps else ():
            if jumps.get(kind) and (noise_jumps or kind != "meeting"):
                paths.jumps.append((node, kind, jumps[kind]))
    paths.jumps += [(node, "pole", poles[node]) for node in leaping(poles)]
    return paths


@dataclass
class PathAfter:
    """What lies between a random node and the cost or the next draw: how many ops, and which of them jump or bend."""

    count: int = 0
    jumps: list[str] = field(default_factory=list)
    kinks: list[str] = field(default_factory=list)


def path_after(z: Sample, output: Tensor) -> PathAfter:
    """Return what the live paths from z to the output meet before another draw."""
    return _paths_after(output).get(id(z)) or PathAfter()


@remembered
def _paths_after(output: Tensor) -> dict[int, PathAfter]:
    """Return ``path_after`` for every random node, by its id: one walk in which they stand for parameters."""
    order = topological_order([output])
    samples = [node for node in live_of(order) if isinstance(node, Sample)]
    paths = follow(order, samples)
    found = [PathAfter() for _ in samples]
    sizes = Counter(paths.opened.get(id(node), 0) for node in paths.live if not isinstance(node, Sample))
    for bits, n in sizes.items():
        for k in members(bits):
            found[k].count += n
    jumps = [(node, bits) for node, _, bits in paths.jumps]
    for word, ops in (("jumps", jumps), ("kinks", paths.kinks)):
        for node, bits in ops:
            for k in members(bits):
                names: list[str] = getattr(found[k], word)
                if (name := op_in_words(node)) not in names:
                    names.append(name)
    return dict(zip(map(id, samples), found, strict=True))
