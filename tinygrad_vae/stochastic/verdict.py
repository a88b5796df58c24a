"""The verdict on a gradient through randomness, read off the graph before any number is computed.

``gradients`` asks ``refuse_wrong_gradients`` whenever the cost depends on noise; ``explain`` says the same in
words for a graph that one wants to understand. Nothing here computes a value.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import trees
from ..graph import BLOCKED, JUMP, STOP, Tensor, op, topological_order
from .distribution import law_in_words
from .nodes import Drawn, Noise, Sample, taken_care_of


class GradientRefusedError(RuntimeError):
    """A gradient was asked for that would have been silently wrong."""


class BlockedGradientError(GradientRefusedError):
    """A random node that no estimator has taken care of stands between the cost and a parameter."""


class InvalidGradientError(GradientRefusedError):
    """An estimator was used where its conditions do not hold."""


@op(lambda g, y, x, *, reason: g, axes=lambda i, labels, y, x, *, reason: labels)
def refuse_gradient(x: Any, /, *, reason: str) -> Any:
    """``x``, through which no gradient may be taken: ``gradients`` raises with the reason."""
    return x


def live_nodes(output: Tensor) -> list[Tensor]:
    """Return the nodes from which a path that is not cut on purpose leads to the output, inputs first."""
    order = topological_order([output])
    live = {id(output)}
    for node in reversed(order):
        if id(node) in live and node.op is not None:
            live.update(id(x) for i, x in enumerate(node.inputs) if node.op.smoothness_in(i) != STOP)
    return [node for node in order if id(node) in live]


def live_samples(output: Tensor) -> list[Sample]:
    """Return the blocked random nodes on live paths to the output, the earliest first."""
    return [node for node in live_nodes(output) if isinstance(node, Sample)]


def depends_on(output: Tensor, node: Tensor) -> bool:
    """Return whether the *value* of the output depends on the node, a cut path counted too."""
    return any(other is node for other in topological_order([output]))


@dataclass(frozen=True)
class Option:
    """A rewrite for one random node: whether it is valid there, and why or why not."""

    call: str
    valid: bool
    reason: str


@dataclass(frozen=True)
class RandomNode:
    """What ``explain`` says of one random node."""

    name: str
    law: str
    place: str
    estimator: str | None
    note: str
    cut: list[str]
    partly_cut: list[str]
    options: list[Option]

    def lines(self) -> list[str]:
        """Return the node's part of the report."""
        out = [f"  {self.name} ~ {self.law}".ljust(46) + f" {self.place}"]
        if self.estimator:
            return [*out, f"    taken care of   {self.estimator}" + (f" ({self.note})" if self.note else "")]
        out.append(f"    cut             {_wrapped(self.cut)}")
        out.append(f"    partly cut      {_wrapped(self.partly_cut)}")
        if self.partly_cut:
            out.append("                    (other paths reach them and would train them alone, without this draw)")
        for i, option in enumerate(sorted(self.options, key=lambda o: not o.valid)):
            head = "valid here" if option.valid else "not valid"
            out.append(f"    {head if i == 0 or not option.valid else '':<15} {option.call:<23} {option.reason}")
        return out


@dataclass(frozen=True)
class Explanation:
    """The report of ``explain``: every random node, and whether the gradient as it stands is right.

    ``str()`` of it is the text to read. ``unbiased`` says whether ``gradients`` gives an unbiased estimate.
    """

    parameters: list[str]
    open: list[str]
    nodes: list[RandomNode]
    problems: list[str] = field(default_factory=list)

    @property
    def blocked(self) -> list[RandomNode]:
        """The random nodes that no estimator has taken care of and that hide a parameter."""
        return [node for node in self.nodes if not node.estimator and (node.cut or node.partly_cut)]

    @property
    def unbiased(self) -> bool:
        """Whether the gradient of this graph is an unbiased estimate of the gradient of the expectation."""
        return not self.blocked and not self.problems

    def __str__(self) -> str:
        hidden = {name for node in self.blocked for name in (*node.cut, *node.partly_cut)}
        if self.blocked:
            count = len(self.blocked)
            head = (
                f"{count} random node{'s stand' if count > 1 else ' stands'} between the cost and "
                f"{len(hidden)} of {len(self.parameters)} parameters"
            )
        elif self.problems:
            head = "the gradient of this graph would be wrong"
        elif self.nodes:
            head = "UNBIASED: every random node on the way is taken care of"
        else:
            head = "UNBIASED: no random node on the way"
        lines = [head]
        for node in self.nodes:
            lines += node.lines()
        lines += [f"  INVALID           {problem}" for problem in self.problems]
        if self.nodes:
            lines.append(f"  open to all paths {_wrapped(self.open)}")
        return "\n".join(lines)


def explain(cost: Tensor, wrt: Any) -> Explanation:
    """Say of every random node what it hides, which rewrites are valid there, and what was chosen.

    Args:
        cost: the Tensor whose gradient one wants.
        wrt: the parameters: a Tensor or a tree of them.

    Returns:
        A report; print it.

    >>> import tinygrad_vae as tg
    >>> mu = tg.Tensor(0.5, "mu")
    >>> z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    >>> print(tg.explain(z * z, [mu]))  # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
    1 random node stands between the cost and 1 of 1 parameters
      z ~ Normal(mu, 1.0) ...
        cut             mu
        partly cut      -
        valid here      reparameterize(cost)    the 1 op from z to the cost is continuous
                        score_function(cost)    the support of Normal does not move with its parameters
      open to all paths -
    """
    return _examine(cost, trees.leaves(wrt))


def refuse_wrong_gradients(output: Tensor, wrt: Sequence[Tensor]) -> None:
    """Raise where ``gradients(output, wrt)`` would not be an unbiased estimate.

    Raises:
        BlockedGradientError: a random node stands in the way.
        InvalidGradientError: a path jumps with a random value, or a score function meets a moving support.
    """
    report = _examine(output, wrt)
    if report.blocked:
        raise BlockedGradientError(str(report))
    if report.problems:
        raise InvalidGradientError(str(report))


def _examine(output: Tensor, wrt: Sequence[Tensor]) -> Explanation:
    """Follow, for each parameter at once, which nodes it reaches over open paths, and which over blocked ones.

    A set of parameters is a whole number with one bit for each.
    """
    order = topological_order([output])
    live = {id(node) for node in live_nodes(output)}
    names = [t.name or f"wrt[{k}]" for k, t in enumerate(wrt)]
    opened: dict[int, int] = {}
    blocked: dict[int, int] = {}
    random: set[int] = set()
    samples: list[Sample] = []
    notes: list[Tensor] = []
    problems: list[str] = []
    for k, t in enumerate(wrt):
        opened[id(t)] = opened.get(id(t), 0) | 1 << k
    for node in order:
        key = id(node)
        if isinstance(node, Noise) or any(id(x) in random for x in node.inputs):
            random.add(key)
        through_open, through_blocked, jumps = opened.get(key, 0), 0, 0
        for i, x in enumerate(node.inputs):
            kind = node.op.smoothness_in(i) if node.op else STOP
            a, b = opened.get(id(x), 0), blocked.get(id(x), 0)
            if kind == BLOCKED:
                through_blocked |= a | b
            elif kind == JUMP:
                through_blocked |= b
                jumps |= a if id(x) in random else 0
            elif kind != STOP:
                through_open |= a
                through_blocked |= b
        opened[key], blocked[key] = through_open, through_blocked
        if key not in live:
            continue
        if jumps:
            problems.append(_jump(node, _chosen(names, jumps)))
        if node.op is refuse_gradient and through_open:
            problems.append(f"{node.attrs['reason']} ({' '.join(_chosen(names, through_open))})")
        if isinstance(node, Sample):
            samples.append(node)
        elif node.op is taken_care_of:
            notes.append(node)
    everywhere_open = opened[id(output)] & ~blocked[id(output)]
    nodes = [_blocked_node(z, output, names, opened, blocked, live) for z in samples]
    nodes += [_noted_node(node.attrs["drawn"], node.inputs[0]) for node in notes]
    return Explanation(names, _chosen(names, everywhere_open), nodes, problems)


def _jump(node: Tensor, lost: list[str]) -> str:
    name = node.op.name if node.op else "a leaf"
    return (
        f"{name} jumps with a random value that depends on {' '.join(lost)}: its derivative is 0 almost everywhere, "
        "that of the expectation is not. Draw with sample(...) and use score_function(cost), or cut on purpose with stop_gradient"
    )


def _chosen(names: list[str], bits: int) -> list[str]:
    return [name for k, name in enumerate(names) if bits >> k & 1]


def _blocked_node(
    z: Sample, output: Tensor, names: list[str], opened: dict[int, int], blocked: dict[int, int], live: set[int]
) -> RandomNode:
    hidden = 0
    for x in z.inputs:
        hidden |= opened.get(id(x), 0) | blocked.get(id(x), 0)
    cut, partly = hidden & ~opened[id(output)], hidden & opened[id(output)]
    options = [_pathwise_option(z, output, live), _score_option(z)]
    return RandomNode(
        _name(z.name, z.place),
        law_in_words(z.dist),
        str(z.place),
        None,
        "",
        _chosen(names, cut),
        _chosen(names, partly),
        options,
    )


def _noted_node(drawn: Drawn, x: Any) -> RandomNode:
    return RandomNode(
        _name(drawn.name, drawn.place), drawn.law, str(drawn.place), drawn.estimator, drawn.note, [], [], []
    )


def _pathwise_option(z: Sample, output: Tensor, live: set[int]) -> Option:
    call = "reparameterize(cost)"
    if z.dist.path is None:
        return Option(call, False, z.dist.why_no_path)
    below = {id(z)}
    jumps = []
    for node in topological_order([output]):
        if id(node) not in live or node.op is None or isinstance(node, Sample):
            continue
        kinds = [node.op.smoothness_in(i) for i, x in enumerate(node.inputs) if id(x) in below]
        if JUMP in kinds:
            jumps.append(node.op.name)
        if any(kind != STOP for kind in kinds):
            below.add(id(node))
    count = len(below) - 1
    if jumps:
        return Option(
            call, False, f"{', '.join(sorted(set(jumps)))} between {_name(z.name, z.place)} and the cost jumps"
        )
    name = _name(z.name, z.place)
    ops = f"all {count} ops" if count != 1 else "the 1 op"
    return Option(call, True, f"{ops} from {name} to the cost {'are' if count != 1 else 'is'} continuous")


def _score_option(z: Sample) -> Option:
    moving = z.dist.moving()
    family = type(z.dist).__name__
    if moving:
        return Option("score_function(cost)", False, f"the support of {family} moves with {', '.join(moving)}")
    return Option("score_function(cost)", True, f"the support of {family} does not move with its parameters")


def _name(name: str | None, place: Any) -> str:
    """Return the name that was given to a draw, or that of the variable on the line where it was drawn."""
    if name:
        return name
    found = re.match(r"\s*(\w+)\s*(?::[^=]+)?=[^=]", linecache.getline(place.file, place.line))
    return found.group(1) if found else "a draw"


def _wrapped(names: list[str]) -> str:
    if not names:
        return "-"
    if len(names) <= 8:
        return " ".join(names)
    return " ".join(names[:7]) + f" ... and {len(names) - 7} more"
