"""How far the gradient gets along each arrow of a graph, and what to write under each parameter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from ..core import Sample, Tensor, gradients, handled_draw, rewrite, topological_order
from ..guard.conditions import problems_of
from ..guard.paths import dependence, follow
from ..guard.verdict import BiasedGradientWarning
from ..ops import stop_gradient
from ..ops.declare import BLOCKED, JUMP, STOP
from .folding import Folding
from .labels import gradient_in_short

OPEN, CUT, PARTLY, CLOSED = "open", "cut", "partly", "closed"
"""How the gradient gets along an arrow: all of it, none of it, a part of it; or none is asked for."""

COLOURS = {OPEN: "#1f7a54", CUT: "#d1242f", PARTLY: "#d9730d", CLOSED: "#9aa3ad"}

REFUSED = "refused: it would be wrong"

IN_WORDS = {OPEN: "open", CUT: "cut: no gradient", PARTLY: "partly cut", CLOSED: "no gradient"}


class Flow:
    """The ways from nodes to the cost, as the guard finds them when it takes each of these nodes for a parameter.

    ``targets``: the nodes whose gradient is asked for, by id. A set of nodes is a whole number with one bit for each.
    """

    def __init__(self, order: Sequence[Tensor], targets: Sequence[Tensor], folding: Folding) -> None:
        self.targets = {id(t) for t in targets}
        nodes = [node for node in order if id(node) in self.targets or _may_matter(node, folding)]
        paths = self._paths = follow(list(order), nodes)
        self._bits = {id(node): 1 << k for k, node in enumerate(nodes)}
        self._mask = sum(self._bits.get(t, 0) for t in self.targets)
        self._open, self._broken = (found.get(id(order[-1]), 0) for found in (paths.opened, paths.blocked))
        self._asked, self._biased = self._mask, 0
        jumps = [(self._bits[id(node)], above) for node, kind, above in paths.jumps if kind == JUMP]
        for bit, above in jumps:  # a gradient is asked for up to a random jump, and ends there
            self._asked |= bit if above & self._asked else 0
        for bit, above in reversed(jumps):
            self._broken |= above if bit & (self._open | self._broken) else 0
        for note in paths.notes:
            if note.attrs["drawn"].biased and self._bits[id(note)] & self._open:
                self._biased |= paths.opened[id(note)]

    def asked(self, x: Any) -> bool:
        """Return whether a target lies at or above a node."""
        return bool(self._paths.of(x) & self._asked)

    def is_open(self, x: Any) -> bool:
        """Return whether a gradient gets from the cost to a node."""
        return bool(self._bits.get(id(x), 0) & self._open)

    def is_biased(self, x: Tensor) -> bool:
        """Return whether a gradient gets there through a draw whose estimator says that it is biased."""
        return bool(self._bits.get(id(x), 0) & self._biased)

    def to_the_cost(self, x: Any) -> str:
        """Return the state of all ways from a node to the cost."""
        bit = self._bits.get(id(x), 0)
        if bit & self._broken:
            return PARTLY if bit & self._open else CUT
        return OPEN if bit & self._open else CLOSED

    def along(self, node: Tensor, i: int) -> tuple[str, str]:
        """Return the state and the mark of the arrow from input ``i`` of the node."""
        x, kind, state = node.inputs[i], dependence(node, i), self.to_the_cost(node)
        if isinstance(x, Tensor) and x.op is stop_gradient:
            return CLOSED, "stop"
        if not self.asked(x) or state == CLOSED or kind == STOP:
            return CLOSED, ""
        random = id(x) in self._paths.sources and self._paths.opened.get(id(x), 0) & self._mask
        if kind == BLOCKED or (kind == JUMP and random):
            return CUT, "cut"
        return (CLOSED, "") if kind == JUMP else (state, "")


def _may_matter(node: Tensor, folding: Folding) -> bool:
    """Return whether a node needs a bit: inside a box, only ops that jump or stand for a draw do."""
    if node.op is None or node.op is handled_draw or node.op.declared.jumps or node.dtype.kind != "f":
        return True
    box = folding.of(node)
    return any(isinstance(x, Tensor) and folding.of(x) is not box for x in node.inputs)


def fates_of(cost: Tensor, targets: Sequence[Tensor], flow: Flow) -> dict[int, str]:
    """Return the words under each target, with ``{}`` in place of its gradient."""
    words = IN_WORDS
    if cost.shape == ():
        words = IN_WORDS | {OPEN: "gradient {}", PARTLY: "partly cut; only {} arrives"}
    fates = {id(t): words[flow.to_the_cost(t)] for t in targets}
    reached, order = [t for t in targets if "{}" in fates[id(t)]], topological_order([cost])
    if reached and problems_of(follow(order, targets), order):
        return fates | {id(t): REFUSED for t in reached}
    biased = [t for t in reached if flow.is_biased(t) and fates[id(t)].startswith("gradient")]
    return fates | {id(t): f"biased {fates[id(t)]}" for t in biased}


def numbers_at(cost: Tensor, targets: Sequence[Tensor], fates: dict[int, str]) -> dict[int, str]:
    """Return the gradients that the words have room for, in the graph in which every draw is a constant."""
    reached = [t for t in targets if "{}" in fates.get(id(t), "")]
    if not reached:
        return {}
    fixed, *ends = rewrite([cost, *reached], lambda node, _: Tensor(node.value) if isinstance(node, Sample) else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasedGradientWarning)  # it is written in the box instead
        found = gradients(fixed, ends)
    return {id(t): gradient_in_short(g) for t, g in zip(reached, found, strict=True)}
