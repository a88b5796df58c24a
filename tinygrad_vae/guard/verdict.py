"""The verdict on a gradient through randomness, read off the graph before any number is computed.

It knows what ops, laws and estimators declare. ``gradients`` asks ``refuse_wrong_gradients`` whenever the cost depends
on noise; ``explain`` says the same in words for a graph that one wants to understand. Nothing here computes a value.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core import (
    Drawn,
    Guarded,
    Noise,
    Sample,
    Tensor,
    describe,
    name_of_draw,
    namespace,
    noise,
    taken_care_of,
    topological_order,
    trees,
    value_of,
)
from ..distributions.distribution import family_of, law_in_words, too_close_to_the_edge
from ..ops import sum, surrogate
from ..ops.declare import BLOCKED, JUMP, PIECEWISE, SMOOTH, STOP, op
from .axes import BILINEAR, LINEAR


class GradientRefusedError(RuntimeError):
    """A gradient was asked for that would have been silently wrong."""


class BlockedGradientError(GradientRefusedError):
    """A random node that no estimator has taken care of stands between the cost and a parameter."""


class InvalidGradientError(GradientRefusedError):
    """An estimator was used where its conditions do not hold."""


class BiasedGradientWarning(UserWarning):
    """A gradient was asked for that is not that of the expectation, by an estimator that says so."""


@op(lambda g, y, x, *, reason: g, axes=lambda i, labels, y, x, *, reason: labels)
def refuse_gradient(x: Any, /, *, reason: str) -> Any:
    """``x``, through which no gradient may be taken: ``gradients`` raises with the reason."""
    return x


refuse_gradient.node = Guarded


@op(
    lambda g, y, value, x, beside, *, reason: g,
    None,
    None,
    smoothness=(SMOOTH, STOP, STOP),
    axes=lambda i, labels, y, *inputs, reason: labels if inputs[i].shape == y.shape else (None,) * len(y.shape),
)
def left_out(value: Any, x: Any, beside: Any, /, *, reason: str) -> Any:
    """``value``, which is x without its gradient, or made of it, where only a first derivative may lack that.

    A second derivative, one of both in what x depends on and the other in what ``beside`` does, is refused with the
    reason.
    """
    return value


left_out.node = Guarded

FIRST_ONLY = (
    "an estimator that compares the cost at two draws gives first derivatives only. For second ones use "
    "score_function(cost), reparameterize(cost) or enumeration"
)

OTHER_NOISE = (
    "in the place of its noise stands another Tensor, which may depend on a parameter or on other noise, and this "
    "estimator takes it for independent of all else; use reparameterize(cost), or put noise or an array there"
)

_SUMMING = LINEAR | {"put", "refuse_gradient", "surrogate", "taken_care_of"}


def live_nodes(output: Tensor) -> list[Tensor]:
    """Return the nodes from which a path that is not cut on purpose leads to the output, inputs first."""
    return _live_of(topological_order([output]))


def _live_of(order: list[Tensor]) -> list[Tensor]:
    live = {id(order[-1])}
    for node in reversed(order):
        if node.op is None or id(node) not in live:
            continue
        if STOP in node.op.smoothness:
            live.update(id(x) for i, x in enumerate(node.inputs) if node.op.smoothness_in(i) != STOP)
        else:
            live.update(map(id, node.inputs))
    return [node for node in order if id(node) in live]


def live_samples(output: Tensor) -> list[Sample]:
    """Return the blocked random nodes on live paths to the output, the earliest first."""
    order = topological_order([output])
    if not any(isinstance(node, Sample) for node in order):
        return []
    return [node for node in _live_of(order) if isinstance(node, Sample)]


def depends_on(output: Tensor, node: Tensor) -> bool:
    """Return whether the *value* of the output depends on a node or, for noise, on what was made from it.

    A cut path counts too.
    """
    origin = node.origin if isinstance(node, Noise) else None
    return any(
        other is node or (origin is not None and isinstance(other, Noise) and other.origin == origin)
        for other in topological_order([output])
    )


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
    law: str
    place: str
    estimator: str | None
    note: str
    biased: str
    cut: list[str]
    partly_cut: list[str]
    open: list[str]
    options: list[Option]

    def lines(self) -> list[str]:
        """Return the node's part of the report."""
        out = [f"  {self.name} ~ {self.law}".ljust(46) + f" {self.place}"]
        if self.estimator:
            return [
                *out,
                f"    taken care of by the {self.estimator} estimator" + (f" ({self.note})" if self.note else ""),
                *([f"    BIASED: {self.biased}"] if self.biased else []),
            ]
        out.append(f"    cut          {_wrapped(self.cut)}")
        out.append(f"    partly cut   {_wrapped(self.partly_cut)}")
        if self.partly_cut:
            out.append("                 (other paths reach them: without this one they would train, and wrongly)")
        out.append(f"    open         {_wrapped(self.open)}")
        head = ""
        for option in sorted(self.options[:2], key=lambda o: not o.valid):
            repeated, head = head, "valid here" if option.valid else "not valid"
            out.append(f"  {'' if head == repeated else head:<14} {option.call:<23} {option.reason}")
        others = [option for option in self.options[2:] if option.valid]
        for head, names in (
            ("also valid", [option.call for option in others if not option.biased]),
            ("with a bias", [option.call for option in others if option.biased]),
        ):
            if names:
                out.append(f"  {head:<14} {_wrapped(names)}")
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
        return not self.blocked and not self.problems and not any(node.biased for node in self.nodes)

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
        elif any(node.biased for node in self.nodes):
            head = "BIASED: a random node is taken care of by an estimator that is not that of the expectation"
        elif self.nodes:
            head = "UNBIASED: every random node between the cost and a parameter is taken care of"
        else:
            head = "UNBIASED: the cost depends on no random node"
        lines = [head]
        for node in self.nodes:
            lines += node.lines()
        lines += [f"  INVALID      {problem}" for problem in self.problems]
        return "\n".join(lines)


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
    return _report(_follow(topological_order([cost]), parameters), every_estimator=True)


def refuse_wrong_gradients(order: list[Tensor], wrt: Sequence[Tensor]) -> Callable[[list[Tensor]], list[Tensor]] | None:
    """Raise where ``gradients(output, wrt)`` would not be an unbiased estimate.

    Raises:
        BlockedGradientError: a random node stands in the way.
        InvalidGradientError: a path jumps with a random value, a score function meets a moving support, or its cost
            was used as something else than a cost.

    Warns:
        BiasedGradientWarning: once for each draw, where an estimator says that it is biased.

    Returns:
        What recorded gradients go through, where an estimator weighs the cost or a part of a derivative was left out: a
        mark that they, too, are weighed, so that the derivative of their square, or of another function of them, would
        be wrong, and that so would theirs be where that part counts.
    """
    paths = _follow(order, wrt)
    if paths.hidden:
        raise BlockedGradientError(str(_report(paths)))
    if paths.problems:
        raise InvalidGradientError(str(_report(paths)))
    for note in paths.notes:
        drawn = note.attrs["drawn"]
        if drawn.biased and paths.opened.get(id(note), 0):
            where = f"{name_of_draw(drawn.name, drawn.place)} ({drawn.place})"
            text = f"the gradient through {where} is biased: {drawn.biased} [{drawn.estimator}]"
            warnings.warn(BiasedGradientWarning(text), stacklevel=4)
    weighed = any(note.attrs["drawn"].weighs for note in paths.notes)
    return paths.marked if weighed or any(node.op is left_out for node in paths.live) else None


@dataclass
class _Paths:
    """What one walk over a graph found. A set of parameters is a whole number with one bit for each."""

    wrt: Sequence[Tensor]
    live: list[Tensor]
    opened: dict[int, int]
    """The parameters that reach a node over a path that a gradient follows."""
    blocked: dict[int, int]
    """Those that reach it through a random node."""
    samples: list[Sample] = field(default_factory=list)
    notes: list[Tensor] = field(default_factory=list)
    problems: list[tuple[str, int]] = field(default_factory=list)
    hidden: int = 0

    def reaching(self, z: Sample) -> int:
        """Return the parameters that the law of ``z`` depends on."""
        bits = 0
        for x in z.inputs:
            bits |= self.opened.get(id(x), 0) | self.blocked.get(id(x), 0)
        return bits

    def marked(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return recorded gradients of a weighed cost as weighed ones.

        Where a difference of costs stands for a derivative, that of the difference itself has been left out, because
        it is multiplied by 0. It counts in the next derivative, by what the path depends on: that one is refused. So is
        that of what was ``left_out``.
        """
        missing = []  # a derivative first in one of the two and then in the other would be wrong
        for node in self.live:
            if node.op is not None and node.op.name == "sloped":
                missing.append((node.inputs[1], node.inputs[0], FIRST_ONLY))
            elif node.op is left_out:
                _, x, beside = node.inputs
                both = [(x, beside), (beside, x)] if x is not beside else [(x, x)]
                missing += [(*pair, node.attrs["reason"]) for pair in both]
        out = []
        for k, g in enumerate(gradients):
            path: Any = g
            for first, second, reason in missing:
                if self.opened.get(id(first), 0) >> k & 1:
                    path = path * refuse_gradient(1 + _nothing_of(second), reason=reason)
            out.append(surrogate(g, path))
        return out

    def names(self, bits: int) -> list[str]:
        return [t.name or f"wrt[{k}]" for k, t in enumerate(self.wrt) if bits >> k & 1]


def _nothing_of(x: Any) -> Any:
    """Return 0, which depends on x."""
    return sum(surrogate(namespace(value_of(x)).zeros_like(value_of(x)), x))


def _follow(order: list[Tensor], wrt: Sequence[Tensor]) -> _Paths:
    """Follow, for all parameters at once, which live nodes they reach over open paths and through random nodes.

    This runs before every gradient of a random graph, so it finds out only whether something is wrong; the words
    are left to ``_report``.
    """
    live = _live_of(order)
    alive = {id(node) for node in live}
    opened: dict[int, int] = {}
    blocked: dict[int, int] = {}
    sources: dict[int, int] = {}  # the independent noises that a node depends on, a bit for each
    origins: dict[Any, int] = {}
    paths = _Paths(wrt, live, opened, blocked)
    for k, t in enumerate(wrt):
        opened[id(t)] = opened.get(id(t), 0) | 1 << k
    for node in order:
        key, op = id(node), node.op
        if op is None:
            if isinstance(node, Noise):
                sources[key] = origins.setdefault(node.origin, 1 << len(origins))
            continue
        through_open, through_blocked, noises = opened.get(key, 0), 0, 0
        jumps, leaps, met = 0, 0, 0
        for i, x in enumerate(node.inputs):
            a, b, random = opened.get(id(x), 0), blocked.get(id(x), 0), sources.get(id(x), 0)
            noises |= random
            if not a and not b:
                continue
            kind = dependence(node, i)
            if kind == BLOCKED:
                through_blocked |= a | b
            elif kind == JUMP:
                through_blocked |= b
                jumps |= a if random else 0
            elif kind != STOP:
                through_open |= a
                through_blocked |= b
                leaps |= a if random and kind == PIECEWISE else 0
            met |= a if not random and kind in (JUMP, PIECEWISE) else 0
        if met and not _meets_noise(node, sources):
            met = 0
        if isinstance(node, Sample) or (op is taken_care_of and node.attrs["drawn"].weighs):
            noises = noises or origins.setdefault(node, 1 << len(origins))
        if through_open:
            opened[key] = through_open
        if through_blocked:
            blocked[key] = through_blocked
        if noises:
            sources[key] = noises
        if key not in alive:
            continue
        if isinstance(node, Sample):
            paths.samples.append(node)
            paths.hidden |= through_blocked
        elif op is taken_care_of:
            paths.notes.append(node)
        elif op is refuse_gradient and through_open:
            paths.problems.append((node.attrs["reason"], through_open))
        if jumps:
            paths.problems.append((_jump(op.name), jumps))
        if leaps:
            paths.problems.append((_leap(op.name), leaps))
        if met:
            paths.problems.append((_meeting(op.name), met))
    if any(note.attrs["drawn"].weighs for note in paths.notes):
        paths.problems += _bent_costs(paths, sources)
        paths.problems += _other_noise(paths, order)
    return paths


def _other_noise(paths: _Paths, order: list[Tensor]) -> list[tuple[str, int]]:
    """Find the draws that an estimator has weighed a cost for, and whose noise something else was put in place of."""
    reached: dict[Any, int] = {}
    for z in order:
        if isinstance(z, Sample) and not isinstance(z.noise, Noise):
            bits = paths.opened.get(id(z.noise), 0) | paths.blocked.get(id(z.noise), 0)
            reached[z.name, z.place] = reached.get((z.name, z.place), 0) | bits
    problems = []
    for note in paths.notes if reached else []:
        drawn = note.attrs["drawn"]
        if drawn.weighs and (drawn.name, drawn.place) in reached:
            bits = reached[drawn.name, drawn.place] | paths.opened.get(id(note), 0)
            name = name_of_draw(drawn.name, drawn.place)
            problems += [(f"{drawn.estimator} for {name} ({drawn.place}): {OTHER_NOISE}", bits)] if bits else []
    return problems


def dependence(node: Tensor, i: int) -> str:
    """Return how smoothly the node depends on its input ``i``; whole numbers can only jump."""
    kind = node.op.smoothness_in(i)  # type: ignore[union-attr]
    return JUMP if node.value.dtype.kind != "f" and kind not in (STOP, BLOCKED) else kind


def _meets_noise(node: Tensor, sources: dict[int, int]) -> bool:
    """Return whether the node jumps or leaps with one of its inputs that is random."""
    return any(sources.get(id(x), 0) and dependence(node, i) in (JUMP, PIECEWISE) for i, x in enumerate(node.inputs))


def _bent_costs(paths: _Paths, sources: dict[int, int]) -> list[tuple[str, int]]:
    """Find where a cost that ``score_function`` has weighed is used as something else than a term of the final cost.

    The weight stands for all that follows the draw, so that only sums, and factors that do not depend on the same
    noise, may come after it.
    """
    weights: dict[int, tuple[int, int]] = {}  # the noises and the parameters of the log-probabilities in a node
    costs: dict[int, tuple[int, int]] = {}  # the same, from where they weigh a cost
    problems: dict[str, int] = {}
    for node in paths.live:
        if node.op is None:
            continue
        weight, cost = (0, 0), (0, 0)
        if node.op is taken_care_of and node.attrs["drawn"].weighs:
            weight = sources.get(id(node), 0), paths.opened.get(id(node), 0)
        for i, x in enumerate(node.inputs):
            if node.op.smoothness_in(i) in (STOP, JUMP, BLOCKED):
                continue
            weight = _union(weight, weights.get(id(x), (0, 0)))
            if id(x) not in costs:
                continue
            noises, parameters = costs[id(x)]
            others = 0
            for j, other in enumerate(node.inputs):
                others |= sources.get(id(other), 0) if j != i else 0
            factor = node.op.name in BILINEAR or (node.op.name == "divide" and i == 0)
            if node.op.name in _SUMMING or (factor and not noises & others):
                cost = _union(cost, costs[id(x)])
            elif parameters:
                problems[_bent(node.op.name)] = problems.get(_bent(node.op.name), 0) | parameters
        if node.op is surrogate:
            cost = _union(cost, weight)
        if weight[0]:
            weights[id(node)] = weight
        if cost[0]:
            costs[id(node)] = cost
    return list(problems.items())


def _union(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] | b[0], a[1] | b[1]


def _bent(op_name: str) -> str:
    return (
        f"{op_name} uses a cost that an estimator has weighed, or a recorded gradient of one, whose gradient is right "
        "only where it is a term of the final cost. Apply the estimator last; sums, means and factors that do not "
        "depend on the draw may follow"
    )


def _jump(op_name: str) -> str:
    return (
        f"{op_name} jumps with a random value: its derivative is 0 almost everywhere, that of the expectation is not. "
        "Draw with sample(...) and use score_function(cost), or cut on purpose with stop_gradient. Where the cost "
        "itself does not jump, write it with relu, maximum, minimum or abs; it is their slope that jumps, so that "
        "second derivatives need score_function all the same"
    )


def _meeting(op_name: str) -> str:
    return (
        f"{op_name} jumps where a random value meets what depends on the parameters: the derivative of the expectation "
        "has a part that comes from there, which neither a path nor a score function sees. Let the parameters enter "
        "the law of the draw instead, as in the draw of the difference of both, compared with 0, and use "
        "score_function(cost); or cut on purpose with stop_gradient"
    )


def _leap(op_name: str) -> str:
    return (
        f"{op_name} leaps between the places where it is differentiable: with a random value, the derivative of the "
        "expectation has a part that comes from the leap, and that a path does not see. Draw with sample(...) and use "
        "score_function(cost), or cut on purpose with stop_gradient"
    )


def _report(paths: _Paths, every_estimator: bool = False) -> Explanation:
    """Put into words what the walk found."""
    output = id(paths.live[-1])
    opened, blocked = paths.opened.get(output, 0), paths.blocked.get(output, 0)
    nodes = []
    for z in paths.samples:
        hidden = paths.reaching(z)
        cut, partly, open_ = (paths.names(bits) for bits in (hidden & ~opened, hidden & opened, opened & ~hidden))
        name = name_of_draw(z.name, z.place)
        options = [_pathwise_option(z, name, paths), _score_option(z, paths)]
        if every_estimator:
            options += _other_options(z, paths.live[-1], options[1])
        nodes.append(RandomNode(name, law_in_words(z.dist), str(z.place), None, "", "", cut, partly, open_, options))
    for drawn in _once(note.attrs["drawn"] for note in paths.notes):
        name = name_of_draw(drawn.name, drawn.place)
        nodes.append(
            RandomNode(name, drawn.law, str(drawn.place), drawn.estimator, drawn.note, drawn.biased, [], [], [], [])
        )
    problems = [f"{text}\n{'':15}(parameters: {_wrapped(paths.names(bits))})" for text, bits in paths.problems]
    everyone = paths.names((1 << len(paths.wrt)) - 1)
    return Explanation(everyone, paths.names(opened & ~blocked), nodes, problems)


def _once(notes: Iterable[Drawn]) -> list[Drawn]:
    """Return the notes, one of those on copies of one draw."""
    keys: dict[Any, Drawn] = {}
    for drawn in notes:
        key = (drawn.origin or object(), drawn.name, drawn.place, drawn.estimator, drawn.note)
        keys.setdefault(key, drawn)
    return list(keys.values())


def path_after(z: Sample, live: list[Tensor]) -> tuple[int, list[str]]:
    """Return how many live ops depend on z without another draw in between, and the names of those that jump."""
    below = {id(z)}
    jumps: list[str] = []
    for node in live:
        kinds = [dependence(node, i) for i, x in enumerate(node.inputs) if id(x) in below]
        if (JUMP in kinds or PIECEWISE in kinds) and node.op is not None and node.op.name not in jumps:
            jumps.append(node.op.name)
        if any(kind not in (STOP, JUMP, BLOCKED) for kind in kinds):
            below.add(id(node))
    return len(below) - 1, jumps


def jump_objection(z: Sample, jumps: list[str]) -> str:
    """Say which ops make the cost jump with z."""
    verb = "jump" if len(jumps) > 1 else "jumps"
    return f"{', '.join(jumps)} between {name_of_draw(z.name, z.place)} and the cost {verb}"


def _pathwise_option(z: Sample, name: str, paths: _Paths) -> Option:
    call = "reparameterize(cost)"
    if z.dist.path is None:
        return Option(call, False, z.dist.why_no_path)
    count, jumps = path_after(z, paths.live)
    if jumps:
        return Option(call, False, jump_objection(z, jumps))
    through = "; implicit, by the derivatives of the cdf" if z.dist.path == "implicit" else ""
    if count == 0:
        return Option(call, True, f"no op stands between {name} and the cost or the next draw{through}")
    ops = f"all {count} ops" if count > 1 else "the 1 op"
    return Option(call, True, f"{ops} from {name} to the cost {'are' if count > 1 else 'is'} continuous{through}")


def _score_option(z: Sample, paths: _Paths) -> Option:
    """Say whether a parameter that one wants the gradient in moves the support, or draws were rounded to its edge."""
    call, family = "score_function(cost)", family_of(z.dist)
    if not isinstance(z.noise, Noise):
        return Option(call, False, OTHER_NOISE)
    reached = {
        path: leaf.name or path.rpartition(".")[2]
        for path, leaf in trees.paths(z.dist)
        if isinstance(leaf, Tensor) and (paths.opened.get(id(leaf), 0) | paths.blocked.get(id(leaf), 0))
    }
    moving = [name for path, name in reached.items() if path in z.dist.moving()]
    if moving:
        return Option(call, False, f"the support of {family} moves with {', '.join(moving)}")
    if too_close := too_close_to_the_edge(z.dist, z.value):
        return Option(call, False, too_close)
    return Option(call, True, f"the support of {family} does not move with {', '.join(reached.values()) or 'anything'}")


def _other_options(z: Sample, cost: Tensor, score: Option) -> list[Option]:
    """Return what every estimator besides pathwise and the score function says of a random node."""
    from ..estimators import ESTIMATORS, Pathwise, ScoreFunction  # here, for they import this file

    options = []
    for name, kind in sorted(ESTIMATORS.items()):
        if kind not in (Pathwise, ScoreFunction):
            objection = kind.example(noise(0)).refusal(z, cost)
            if objection is None and issubclass(kind, ScoreFunction) and not score.valid:
                objection = score.reason
            options.append(Option(name, objection is None, objection or "", kind.biased))
    return options


def _wrapped(names: list[str]) -> str:
    """Return the names on one line, as many as it holds."""
    if not names:
        return "-"
    kept = 1
    while kept < len(names) and len(" ".join(names[: kept + 1])) <= 90:
        kept += 1
    rest = len(names) - kept
    return " ".join(names[:kept]) + (f" ... and {rest} more" if rest else "")
