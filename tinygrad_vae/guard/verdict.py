"""The guard that looks at every gradient before it is taken, and refuses those that would be silently wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..core import (
    BlockedGradientError,
    Guard,
    InvalidGradientError,
    Sample,
    Tensor,
    Value,
    handled_draw,
    install,
    namespace,
    topological_order,
    value_of,
)
from ..ops import stop_gradient, sum, surrogate
from ..refusals import first_order, refuse_gradient
from .conditions import problems_of
from .names import name_and_line
from .paths import Paths, follow
from .report import report

Marking = Callable[[list[Tensor]], list[Tensor]]


class BiasedGradientWarning(UserWarning):
    """The estimator of a gradient says that it is biased: its mean is not the gradient of the expectation."""


class RandomnessGuard(Guard):
    """Refuses gradients that are not unbiased, and warns where an estimator says that it is biased."""

    def look(self, order: list[Tensor], wrt: Sequence[Tensor], cotangent: Value) -> Marking | None:
        """Raise where the gradient would not be an unbiased estimate.

        Raises:
            BlockedGradientError: a jump stands between a random node and the output. (Without a jump, backprop itself
                arrives at the random node and stops there.)
            InvalidGradientError: a path jumps with a random value, a score function meets a moving support, or its
                cost was used as something else than a cost.

        Warns:
            BiasedGradientWarning: once for each draw, where an estimator says that it is biased.
        """
        if not any(map(_may_be_wrong, order)):
            return None
        if isinstance(cotangent, Tensor):  # a factor that may itself be random
            order = topological_order([order[-1] * stop_gradient(cotangent)])
        paths = follow(order, wrt)
        if paths.behind_jump:
            raise BlockedGradientError(paths.samples[0], order[-1], wrt)
        if not any(map(paths.of_distribution, paths.samples)) and problems_of(paths, order):
            raise InvalidGradientError(str(report(order, wrt)))
        for note in paths.notes:
            drawn = note.attrs["drawn"]
            if drawn.biased and paths.opened.get(id(note), 0):
                text = f"the gradient through {name_and_line(drawn)} is biased: {drawn.biased} [{drawn.estimator}]"
                warnings.warn(BiasedGradientWarning(text), stacklevel=3)
        return _marking(paths)

    def report(self, node: Tensor, output: Tensor, wrt: Sequence[Tensor]) -> str:
        """Say which parameters each random node hides from the output, and which rewrites are valid there."""
        if not isinstance(node, Sample):
            return f"{node.op.name if node.op else node} has no derivative, and stands between the output and wrt"
        return str(report(topological_order([output]), wrt))


def _may_be_wrong(node: Tensor) -> bool:
    """Return whether a node asks for a closer look at the graph: it may jump, or notes something of a gradient."""
    op = node.op
    if op is None or op is handled_draw:
        return op is handled_draw and bool(node.attrs["drawn"].weighs or node.attrs["drawn"].biased)
    declared, pole = op.declared, op.declared.pole
    crosses = pole is not None and isinstance(node.inputs[pole[0]], Tensor)
    return crosses or declared.jumps or node.value.dtype.kind != "f" or op is refuse_gradient or op is first_order


def _marking(paths: Paths) -> Marking | None:
    """Return a function that notes in recorded gradients what would be wrong if they were used for more.

    The gradient of a weighed cost is weighed too. Where a part of a derivative is missing (``first_order``), the next
    derivative along the missing part is refused.
    """
    firsts = [node for node in paths.live if node.op is first_order]
    if not firsts and not any(note.attrs["drawn"].weighs for note in paths.notes):
        return None
    missing: list[tuple[Any, Any, str]] = []  # a derivative first in one of the two and then in the other
    for node in firsts:
        _, a, b = node.inputs
        missing += [(*pair, node.attrs["reason"]) for pair in ([(a, b)] if a is b else [(a, b), (b, a)])]

    def mark(gradients: list[Tensor]) -> list[Tensor]:
        marked = []
        for k, g in enumerate(gradients):
            path: Any = g
            for first, second, reason in missing:
                if paths.opened.get(id(first), 0) >> k & 1:
                    zeros = namespace(value_of(second)).zeros_like(value_of(second))
                    path = path * refuse_gradient(1 + sum(surrogate(zeros, second)), reason=reason)
            marked.append(surrogate(g, path))
        return marked

    return mark


install(RandomnessGuard())
