"""One walk over a graph: which parameters reach each node over open paths and which through random nodes."""

from __future__ import annotations

import functools
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
    """Yield the numbers in a set of them that is written as the bits of one."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def live_of(order: list[Tensor]) -> list[Tensor]:
    """Return the nodes of an order from which a path that is not cut on purpose leads to its last node."""
    live = {id(order[-1])}
    for node in reversed(order):
        if node.op is not None and id(node) in live:
            declared = node.op.declared
            if STOP in declared.smoothness:
                live.update(id(x) for i, x in enumerate(node.inputs) if declared.smoothness_in(i) != STOP)
            else:
                live.update(map(id, node.inputs))
    return [node for node in order if id(node) in live]


def live_nodes(output: Tensor) -> list[Tensor]:
    """Return the nodes from which a path that is not cut on purpose leads to the output, inputs first."""
    return live_of(topological_order([output]))


def live_samples(output: Tensor) -> list[Sample]:
    """Return the blocked random nodes on live paths to the output, the earliest first."""
    order = topological_order([output])
    if not any(isinstance(node, Sample) for node in order):
        return []
    return [node for node in live_of(order) if isinstance(node, Sample)]


def depends_on(output: Tensor, node: Tensor) -> bool:
    """Return whether the *value* of the output depends on a node or, for noise, on anything made from it.

    A cut path counts too.
    """
    origin = node.origin if isinstance(node, Noise) else None
    return any(
        other is node or (origin is not None and isinstance(other, Noise) and other.origin == origin)
        for other in topological_order([output])
    )


def dependence(node: Tensor, i: int) -> str:
    """Return how smoothly the node depends on its input ``i``; whole numbers can only jump."""
    kind: str = node.op.declared.smoothness_in(i)  # type: ignore[union-attr]
    return JUMP if node.value.dtype.kind != "f" and kind not in (STOP, BLOCKED) else kind


@dataclass
class Paths:
    """What one walk over a graph found. A set of parameters is a whole number with one bit for each."""

    wrt: Sequence[Tensor]
    live: list[Tensor]
    opened: dict[int, int] = field(default_factory=dict)
    """The parameters that reach a node over a path that a gradient follows, by the node's id."""
    blocked: dict[int, int] = field(default_factory=dict)
    """Those that reach it through a random node."""
    sources: dict[int, int] = field(default_factory=dict)
    """The independent noises that a node depends on, one bit for each."""
    origins: dict[Any, int] = field(default_factory=dict)
    """The bit of each noise, by its origin."""
    samples: list[Sample] = field(default_factory=list)
    """Live random nodes that no estimator has taken care of."""
    notes: list[Tensor] = field(default_factory=list)
    """Live nodes that stand for a random node which an estimator has taken care of."""
    jumps: list[tuple[Tensor, str, int]] = field(default_factory=list)
    """Nodes that jump with a random value (``jump``, ``piecewise``, ``pole``) or where it meets parameters
    (``meeting``)."""
    refusals: list[tuple[str, int]] = field(default_factory=list)
    """Reasons of ``refuse_gradient`` nodes on open paths."""
    hidden: int = 0
    """The parameters that stand behind live random nodes."""
    behind_jump: int = 0
    """Those behind a random node that a live node jumps with: no cotangent would arrive at the random node."""

    def of(self, x: Any) -> int:
        """Return the parameters that reach x in any way."""
        return self.opened.get(id(x), 0) | self.blocked.get(id(x), 0)

    def of_distribution(self, z: Sample) -> int:
        """Return the parameters that the distribution of ``z`` depends on."""
        bits = 0
        for x in z.inputs:
            bits |= self.of(x)
        return bits

    def names(self, bits: int) -> list[str]:
        """Return the names of a set of parameters."""
        return [t.name or f"wrt[{k}]" for k, t in enumerate(self.wrt) if bits >> k & 1]


def follow(order: list[Tensor], wrt: Sequence[Tensor]) -> Paths:
    """Follow all parameters at once through a graph, whose output is the last node of the order."""
    paths = Paths(wrt, live_of(order))
    alive = {id(node) for node in paths.live}
    opened, blocked, sources = paths.opened, paths.blocked, paths.sources
    origins = paths.origins
    poles: dict[Tensor, int] = {}
    for k, t in enumerate(wrt):
        opened[id(t)] = opened.get(id(t), 0) | 1 << k
    for node in order:
        key, op = id(node), node.op
        if op is None:
            if isinstance(node, Noise):
                sources[key] = origins.setdefault(node.origin, 1 << len(origins))
            continue
        through_open, through_blocked, noises = opened.get(key, 0), 0, 0
        jumps, leaps, met, noise_jumps = 0, 0, 0, False
        for i, x in enumerate(node.inputs):
            a, b, random = opened.get(id(x), 0), blocked.get(id(x), 0), sources.get(id(x), 0)
            noises |= random
            if not (a or b or random):
                continue
            kind = dependence(node, i)
            jumping = kind in (JUMP, PIECEWISE)
            noise_jumps = noise_jumps or (jumping and bool(random))
            if kind == BLOCKED:
                through_blocked |= a | b
            elif kind != STOP:
                through_blocked |= b
                if kind == JUMP and b and key in alive:
                    paths.behind_jump |= b
                through_open |= a if kind != JUMP else 0
                if jumping and random and a:
                    jumps, leaps = (jumps | a, leaps) if kind == JUMP else (jumps, leaps | a)
                elif jumping:
                    met |= a
        if isinstance(node, Sample) or (op is handled_draw and is_random(node.attrs["drawn"])):
            noises = noises or origins.setdefault(node, 1 << len(origins))
        for found, bits in ((opened, through_open), (blocked, through_blocked), (sources, noises)):
            if bits:
                found[key] = bits
        if key in alive:
            if isinstance(node, Sample):
                paths.samples.append(node)
                paths.hidden |= through_blocked
            elif op is handled_draw:
                paths.notes.append(node)
            elif op is refuse_gradient and through_open:
                paths.refusals.append((node.attrs["reason"], through_open))
            if op.declared.pole is not None and noises:
                x = node.inputs[op.declared.pole[0]]
                if opened.get(id(x), 0) and sources.get(id(x), 0):
                    poles[node] = opened[id(x)]
            for kind, bits in (("jump", jumps), ("piecewise", leaps), ("meeting", met if noise_jumps else 0)):
                if bits:
                    paths.jumps.append((node, kind, bits))
    paths.jumps += [(node, "pole", poles[node]) for node in leaping(poles)]
    return paths


@dataclass(frozen=True)
class PathAfter:
    """What lies between a random node and the cost or the next draw: how many ops, and which of them jump or bend."""

    count: int = 0
    jumps: tuple[str, ...] = ()
    kinks: tuple[str, ...] = ()


def path_after(z: Sample, output: Tensor) -> PathAfter:
    """Return what the live paths from z to the output meet before another draw."""
    return _paths_after(output).get(id(z), PathAfter())


@remembered
def _paths_after(output: Tensor) -> dict[int, PathAfter]:
    """Return ``path_after`` for every random node, by its id: one walk, with one bit for each of them."""
    samples: list[int] = []
    below: dict[int, int] = {}
    counts: Counter[int] = Counter()
    jumps: list[tuple[int, str]] = []
    kinks: list[tuple[int, str]] = []
    poles: dict[Tensor, int] = {}
    for node in live_nodes(output):
        passed, jumping, bent = 0, 0, 0
        for i, x in enumerate(node.inputs):
            bits = below.get(id(x), 0)
            kind = dependence(node, i) if bits else STOP
            passed |= bits if kind not in (STOP, JUMP, BLOCKED) else 0
            jumping |= bits if kind in (JUMP, PIECEWISE) else 0
            bent |= bits if kind == KINK else 0
        pole = node.op.declared.pole if node.op and below else None
        if pole is not None and (bits := below.get(id(node.inputs[pole[0]]), 0) & ~jumping):
            poles[node] = bits
        if passed:
            counts[passed] += 1
        for found, bits in ((jumps, jumping), (kinks, bent)):
            if bits:
                found.append((bits, op_in_words(node)))
        if isinstance(node, Sample):
            passed |= 1 << len(samples)
            samples.append(id(node))
        if passed:
            below[id(node)] = passed
    jumps += [(poles[node], op_in_words(node)) for node in leaping(poles)]
    count = [0] * len(samples)
    for bits, n in counts.items():
        for k in members(bits):
            count[k] += n
    words: list[list[dict[str, None]]] = [[{} for _ in samples], [{} for _ in samples]]
    for of_kind, found in zip(words, (jumps, kinks), strict=True):
        for bits, op in found:
            for k in members(bits):
                of_kind[k][op] = None
    return {key: PathAfter(count[k], tuple(words[0][k]), tuple(words[1][k])) for k, key in enumerate(samples)}
