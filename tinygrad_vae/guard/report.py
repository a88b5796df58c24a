"""What was found, in words: the report of ``explain`` and of every refused gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..core import Drawn, Noise, Sample, Tensor, describe, noise, topological_order, trees
from ..distributions.support import lost_to_rounding
from .axes import joined, less_noisy
from .conditions import OTHER_NOISE, problems_of
from .names import name_of_draw, wrapped
from .paths import Paths, follow, path_after

ESTIMATORS: dict[str, Any] = {}
"""Every estimator, by name. ``estimators`` enters them; the tests, ``explain`` and the command run over them."""


@dataclass(frozen=True)
class Option:
    """A rewrite or an estimator for one random node: whether it is valid there, and why or why not."""

    call: str
    valid: bool
    reason: str
    biased: str = ""


@dataclass(frozen=True)
class RandomNode:
    """What ``explain`` says of one random node."""

    name: str
    dist: str
    line: str
    estimator: str | None = None
    note: str = ""
    biased: str = ""
    cut: list[str] = field(default_factory=list)
    partly_cut: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the node's part of the report."""
        out = [f"  {self.name} ~ {self.dist}".ljust(46) + f" {self.line}"]
        if self.estimator:
            note = f" ({self.note})" if self.note else ""
            out.append(f"    taken care of by the {self.estimator} estimator{note}")
            return out + ([f"    BIASED: {self.biased}"] if self.biased else [])
        out += [f"    cut          {wrapped(self.cut)}", f"    partly cut   {wrapped(self.partly_cut)}"]
        if self.partly_cut:
            out.append("                 (other paths reach them: without this one they would train, and wrongly)")
        out.append(f"    open         {wrapped(self.open)}")
        explained = [o for k, o in enumerate(self.options) if k < 2 or o.call.endswith("(cost)")]
        others = [o for o in self.options if o.valid and o not in explained]
        for head, valid in (("valid here", True), ("not valid", False)):
            for option in explained:
                if option.valid is valid:
                    out.append(f"  {head:<14} {option.call:<23} {option.reason}")
                    head = ""
        for head, biased in (("also valid", False), ("with a bias", True)):
            names = [o.call for o in others if bool(o.biased) is biased]
            out += [f"  {head:<14} {wrapped(names)}"] if names else []
        return out


@dataclass(frozen=True)
class Explanation:
    """The report of ``explain``: every random node, and whether the gradient as it stands is right.

    ``str()`` of it is the text to read.
    """

    parameters: list[str]
    open: list[str]
    nodes: list[RandomNode]
    problems: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)

    @property
    def blocked(self) -> list[RandomNode]:
        """The random nodes that no estimator has taken care of and that hide a parameter."""
        return [node for node in self.nodes if not node.estimator and (node.cut or node.partly_cut)]

    @property
    def unbiased(self) -> bool:
        """Whether the gradient of this graph is an unbiased estimate of the gradient of the expectation."""
        return not self.blocked and not self.problems and not any(node.biased for node in self.nodes)

    def __str__(self) -> str:
        if blocked := self.blocked:
            hidden = {name for node in blocked for name in (*node.cut, *node.partly_cut)}
            stand = f"{len(blocked)} random nodes stand" if len(blocked) > 1 else "1 random node stands"
            head = f"{stand} between the cost and {len(hidden)} of {len(self.parameters)} parameters"
        elif self.problems:
            head = "the gradient of this graph would be wrong"
        elif not self.unbiased:
            head = "BIASED: an estimator of a random node does not give the gradient of the expectation"
        elif self.nodes:
            head = "UNBIASED: every random node between the cost and a parameter is taken care of"
        else:
            head = "UNBIASED: the cost depends on no random node"
        lines = [head, *(line for node in self.nodes for line in node.lines())]
        lines += [f"  INVALID      {problem}" for problem in self.problems]
        return "\n".join(lines + ([f"  not reached  {wrapped(self.unreached)}"] if self.unreached else []))


def explain(cost: Tensor, wrt: Any) -> Explanation:
    """Say of every random node what it hides, which rewrites are valid there, and what was chosen.

    The other estimators that are valid at a blocked node stand there by their names, for ``tg.estimate``; why the rest
    is not valid is in ``.nodes[i].options``.

    Args:
        cost: the Tensor whose gradient one wants.
        wrt: the parameters: a Tensor or a tree of them.

    Returns:
        A report; print it.

    Raises:
        TypeError: the cost or a parameter is no Tensor.

    >>> mu = tg.Tensor(0.5, "mu")
    >>> z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    >>> print(tg.explain(z * z, [mu]))
    1 random node stands between the cost and 1 of 1 parameters
      z ~ Normal(mu, 1.0) ...
        cut          mu
        partly cut   -
        open         -
      valid here     reparameterize(cost)    the 1 op from z to the cost is continuous
                     score_function(cost)    the support of Normal does not move with mu
      also valid     measure-valued quadrature second-draw
    """
    parameters = trees.leaves(wrt)
    for x in (cost, *parameters):
        if not isinstance(x, Tensor):
            raise TypeError(
                f"explain(cost, wrt) takes a Tensor and the Tensors it was computed from, found {describe(x)}"
            )
    return report(topological_order([cost]), parameters, every_estimator=True)


def report(order: list[Tensor], wrt: Any, every_estimator: bool = False) -> Explanation:
    """Put into words what a walk over the graph finds."""
    paths = follow(order, wrt)
    opened, blocked = (found.get(id(order[-1]), 0) for found in (paths.opened, paths.blocked))
    kinds = {key: kind for key, kind in sorted(ESTIMATORS.items()) if every_estimator or kind.where_path_jumps}
    others = [(key, kind.example(noise(0))) for key, kind in kinds.items() if key not in ("pathwise", "score-function")]
    nodes = [_random_node(z, paths, opened, others) for z in paths.samples]
    once: dict[Any, Drawn] = {}  # one note for all copies of a draw
    for drawn in (note.attrs["drawn"] for note in paths.notes):
        once.setdefault((drawn.origin or object(), drawn.name, drawn.line, drawn.estimator, drawn.note), drawn)
    nodes += [
        RandomNode(name_of_draw(drawn), drawn.dist, str(drawn.line), drawn.estimator, drawn.note, drawn.biased)
        for drawn in once.values()
    ]
    problems = [
        f"{text}\n{'':15}(parameters: {wrapped(paths.names(bits))})" for text, bits in problems_of(paths, order)
    ]
    names, present = paths.names(-1), {id(node) for node in order}
    unreached = [name for t, name in zip(wrt, names, strict=True) if id(t) not in present]
    return Explanation(names, paths.names(opened & ~blocked), nodes, problems, unreached)


def _random_node(z: Sample, paths: Paths, opened: int, others: list[tuple[str, Any]]) -> RandomNode:
    hidden, cost, name = paths.of_distribution(z), paths.live[-1], name_of_draw(z)
    cut, partly, open_ = (paths.names(bits) for bits in (hidden & ~opened, hidden & opened, opened & ~hidden))
    options, jumps = [_pathwise_option(z, name, cost), _score_option(z, paths)], path_after(z, cost).jumps
    score = options[1]
    for key, estimator in others:
        objection = estimator.refusal(z, cost)
        if objection is None and estimator.needs_score and not score.valid:
            objection = score.reason
        call, reason = key, objection or ""
        if estimator.where_path_jumps and jumps and z.dist.path is not None:
            call, reason = estimator.where_path_jumps, objection or f"the path, and the boundary at {', '.join(jumps)}"
        elif estimator.where_path_jumps and objection is None:
            objection = reason = "the cost does not jump with it: reparameterize(cost) gives the same gradient"
        options.append(Option(call, objection is None, reason, estimator.biased))
    return RandomNode(name, str(z.dist), str(z.line), cut=cut, partly_cut=partly, open=open_, options=options)


def jump_objection(z: Sample, cost: Tensor) -> str | None:
    """Say which ops make the cost jump with z, or return ``None``."""
    jumps = path_after(z, cost).jumps
    verb = "jump" if len(jumps) > 1 else "jumps"
    return f"{', '.join(jumps)} between {name_of_draw(z)} and the cost {verb}" if jumps else None


def _pathwise_option(z: Sample, name: str, cost: Tensor) -> Option:
    objection = z.dist.why_no_path if z.dist.path is None else jump_objection(z, cost)
    count = path_after(z, cost).count
    if objection:
        reason = objection
    elif count == 0:
        reason = f"no op stands between {name} and the cost or the next draw"
    else:
        ops, are = (f"all {count} ops", "are") if count > 1 else ("the 1 op", "is")
        reason = f"{ops} from {name} to the cost {are} continuous"
    if not objection and z.dist.path == "implicit":
        reason += "; implicit, by the derivatives of the cdf"
    return Option("reparameterize(cost)", not objection, reason)


def _score_option(z: Sample, paths: Paths) -> Option:
    """Say whether a parameter that one wants the gradient in moves the support, or draws were rounded to its edge."""
    cost, family = paths.live[-1], z.dist.family
    reached = {
        path: leaf.name or path.rpartition(".")[2]
        for path, leaf in trees.paths(z.dist)
        if isinstance(leaf, Tensor) and paths.of(leaf)
    }
    objection = "" if isinstance(z.noise, Noise) else OTHER_NOISE
    if not objection and (moving := [name for path, name in reached.items() if path in z.dist.moving()]):
        objection = f"the support of {family} moves with {', '.join(moving)}"
    reason = objection or lost_to_rounding(z.dist, z.value)
    if reason:
        return Option("score_function(cost)", False, reason)
    reason = f"the support of {family} does not move with {', '.join(reached.values()) or 'anything'}"
    if other := less_noisy(cost).get(id(z)):
        reason += f"; less noisy: {other}"
    elif price := joined(cost).get(id(z)):
        reason += f"; {price}"
    return Option("score_function(cost)", True, reason)
