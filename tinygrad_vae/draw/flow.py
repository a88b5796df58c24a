"""How far the gradient gets along each arrow of a graph, and what to write under each parameter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from ..core import Noise, Sample, Tensor, gradients, rewrite, taken_care_of
from ..guard.paths import dependence
from ..guard.report import explain
from ..guard.verdict import BiasedGradientWarning
from ..ops import stop_gradient
from ..ops.declare import BLOCKED, JUMP, STOP
from .labels import gradient_in_short

OPEN, CUT, PARTLY, CLOSED = "open", "cut", "partly", "closed"
"""How the gradient gets along an arrow: all of it, none of it, a part of it; or none is asked for."""

RANDOM_JUMP = "random jump"
"""An op jumps with a random input: its derivative is 0 and says nothing of the expectation."""

REFUSED = "refused: it would be wrong"

IN_WORDS = {OPEN: "open", CUT: "cut: no gradient", PARTLY: "partly cut", CLOSED: "no gradient"}


class Flow:
    """The ways from each node to the cost, and whether the gradient is wanted there.

    ``asked``: a target lies at or above the node. ``open``: an unbroken way leads from it to the cost. ``broken``: so
    does a way that a random node blocks, or that jumps with a random value. ``biased``: an open way leads through a
    draw whose estimator says that it is biased.
    """

    def __init__(self, order: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        self.targets = {id(t) for t in targets}
        self.asked, self.fed = set(self.targets), set(self.targets)  # fed: over an unbroken way from a target
        self.random: set[int] = set()
        self.open, self.broken = {id(order[-1])}, set[int]()
        self.biased: set[int] = set()
        for node in order:
            for kind, x in self._inputs(node):
                if x in self.random:
                    self.random.add(id(node))
                if x in self.asked and kind not in (STOP, JUMP):
                    self.asked.add(id(node))
                if x in self.fed and kind not in (STOP, JUMP, BLOCKED, RANDOM_JUMP):
                    self.fed.add(id(node))
            if isinstance(node, Noise):
                self.random.add(id(node))
        for node in reversed(order):
            if node.op is taken_care_of and node.attrs["drawn"].biased and id(node) in self.open:
                self.biased.add(id(node))
            for kind, x in self._inputs(node):
                if kind not in (STOP, JUMP, BLOCKED, RANDOM_JUMP) and id(node) in self.biased:
                    self.biased.add(x)
                if kind not in (STOP, JUMP) and id(node) in self.open:
                    (self.broken if kind in (BLOCKED, RANDOM_JUMP) else self.open).add(x)
                if kind not in (STOP, JUMP) and id(node) in self.broken:
                    self.broken.add(x)

    def _inputs(self, node: Tensor) -> list[tuple[str, int]]:
        """Return how the node depends on each of its inputs, and the input's key."""
        return [(self._kind(node, i), id(x)) for i, x in enumerate(node.inputs)]

    def _kind(self, node: Tensor, i: int) -> str:
        kind = dependence(node, i)
        return RANDOM_JUMP if kind == JUMP and id(node.inputs[i]) in self.random else kind

    def to_the_cost(self, node: Any) -> str:
        """Return the state of all ways from the node to the cost."""
        ways = id(node) in self.open, id(node) in self.broken
        return {(True, True): PARTLY, (True, False): OPEN, (False, True): CUT, (False, False): CLOSED}[ways]

    def along(self, node: Tensor, i: int) -> tuple[str, str]:
        """Return the state and the mark of the arrow from input ``i`` of the node."""
        x, kind, state = node.inputs[i], self._kind(node, i), self.to_the_cost(node)
        if isinstance(x, Tensor) and x.op is stop_gradient:
            return CLOSED, "stop"
        if id(x) not in self.asked or state == CLOSED or kind in (STOP, JUMP):
            return CLOSED, ""
        if kind == BLOCKED or (kind == RANDOM_JUMP and id(x) in self.fed):
            return CUT, "cut"
        return (CLOSED, "") if kind == RANDOM_JUMP else (state, "")


def fates_of(cost: Tensor, targets: Sequence[Tensor], flow: Flow) -> dict[int, str]:
    """Return the words under each target, with ``{}`` in place of its gradient."""
    words = IN_WORDS
    if cost.shape == ():
        words = IN_WORDS | {OPEN: "gradient {}", PARTLY: "partly cut; only {} arrives"}
    fates = {id(t): words[flow.to_the_cost(t)] for t in targets}
    reached = [t for t in targets if "{}" in fates[id(t)]]
    if reached and explain(cost, targets).problems:
        return fates | {id(t): REFUSED for t in reached}
    biased = [t for t in reached if id(t) in flow.biased and fates[id(t)].startswith("gradient")]
    return fates | {id(t): f"biased {fates[id(t)]}" for t in biased}


def with_numbers(cost: Tensor, targets: Sequence[Tensor], fates: dict[int, str]) -> dict[int, str]:
    """Return the words with the gradients in them: those of the graph in which every draw is a constant."""
    reached = [t for t in targets if "{}" in fates.get(id(t), "")]
    if not reached:
        return fates
    fixed, *ends = rewrite([cost, *reached], lambda node, _: Tensor(node.value) if isinstance(node, Sample) else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasedGradientWarning)  # it is written in the box instead
        found = gradients(fixed, ends)
    return fates | {id(t): fates[id(t)].format(gradient_in_short(g)) for t, g in zip(reached, found, strict=True)}
