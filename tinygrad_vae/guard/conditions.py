"""The conditions under which a gradient through randomness is right, checked on a followed graph."""

from __future__ import annotations

from typing import Any

from ..core import Noise, Sample, Tensor, handled_draw
from ..ops import surrogate
from ..ops.declare import BLOCKED, JUMP, STOP
from .names import name_and_line, op_in_words
from .paths import Paths

OTHER_NOISE = (
    "in the place of its noise stands another Tensor, which may depend on a parameter or on other noise, and this "
    "estimator takes it for independent of all else; use reparameterize(cost), or put noise or an array there"
)

FIRST_ONLY = (
    "an estimator that compares the cost at two draws gives first derivatives only. For second ones use "
    "score_function(cost), reparameterize(cost) or enumeration"
)

_JUMPS = {
    "jump": (
        "{} jumps with a random value. Its derivative is 0 almost everywhere; the derivative of the expectation is "
        "not. Draw with sample(...) and use path_and_boundary(cost), which takes care of comparisons, or "
        "score_function(cost). Or cut on purpose with stop_gradient. If the cost itself does not jump, write it with "
        "relu, maximum, minimum or abs. Their slopes jump, and second derivatives need score_function"
    ),
    "piecewise": (
        "{} leaps between the places where it is differentiable. With a random value, the leap adds to the derivative "
        "of the expectation, and a path does not see it. Draw with sample(...) and use score_function(cost), or cut "
        "on purpose with stop_gradient"
    ),
    "pole": (
        "{} has a pole that a random value may cross, as 1 / z has at z = 0, and leaps there. The leap adds to the "
        "derivative of the expectation, and a path does not see it. Draw with sample(...) and use "
        "score_function(cost), or keep the random value on one side, as exp(z), softplus(z) and 1 + z**2 do"
    ),
    "meeting": (
        "{} jumps where a random value meets what depends on the parameters. That place adds to the derivative of the "
        "expectation, and neither a path nor a score function sees it. Draw with sample(...) and use "
        "path_and_boundary(cost). Or let the parameters enter the distribution of the draw: draw the difference of "
        "both, compare it with 0, and use score_function(cost). Or cut on purpose with stop_gradient"
    ),
}

_BENT = (
    "{} uses a cost that an estimator has weighed, or a recorded gradient of one, whose gradient is right only where "
    "it is a term of the final cost. Apply the estimator last; sums, means and factors that do not depend on the draw "
    "may follow"
)


def problems_of(paths: Paths, order: list[Tensor]) -> list[tuple[str, int]]:
    """Return what makes the gradient wrong, in words, each with the parameters that it concerns."""
    found = paths.refusals + [(_JUMPS[kind].format(op_in_words(node)), bits) for node, kind, bits in paths.jumps]
    if any(note.attrs["drawn"].weighs for note in paths.notes):
        found += _bent_costs(paths)
        found += _swapped_noise(paths, order)
    return found


def _bent_costs(paths: Paths) -> list[tuple[str, int]]:
    """Find where a weighed cost is used as something else than a term of the final cost.

    The weight stands for everything that follows the draw, so only ops that are linear in the cost may come after it,
    and none whose other inputs depend on the same noise: a random factor, a random choice.
    """
    sources, nothing = paths.sources, (0, 0)
    weights: dict[int, tuple[int, int]] = {}  # the noises and the parameters of the log-probabilities in a node
    costs: dict[int, tuple[int, int]] = {}  # the same, from where they weigh a cost
    expected: dict[int, int] = {}  # the noises that an exact expectation in a node has replaced
    problems: dict[str, int] = {}
    for node in paths.live:
        if node.op is None:
            continue
        drawn = node.attrs["drawn"] if node.op is handled_draw else None
        gone, weight, cost = paths.origins.get(drawn.origin, 0) if drawn else 0, nothing, nothing
        if drawn and drawn.weighs:
            weight = sources.get(id(node), 0), paths.opened.get(id(node), 0)
        for i, x in enumerate(node.inputs):
            gone |= expected.get(id(x), 0)
            weighs, weighed = weights.get(id(x), nothing), costs.get(id(x), nothing)
            if not (weighs[0] or weighed[0]) or node.op.declared.smoothness_in(i) in (STOP, JUMP, BLOCKED):
                continue
            weight = _union(weight, weighs)
            noises, parameters = weighed
            together = node.op.declared.linear_with(i, len(node.inputs)) if noises else ()
            others = [id(y) for j, y in enumerate(node.inputs) if noises and j not in together]
            if together and not any(noises & (sources.get(y, 0) | expected.get(y, 0)) for y in others):
                cost = _union(cost, weighed)
            elif noises and parameters:
                text = _BENT.format(node.op.name)
                problems[text] = problems.get(text, 0) | parameters
        if node.op is surrogate:
            cost = _union(cost, weight)
        for found, pair in ((weights, weight), (costs, cost)):
            if pair[0]:
                found[id(node)] = pair
        if gone:
            expected[id(node)] = gone
    return list(problems.items())


def _union(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] | b[0], a[1] | b[1]


def _swapped_noise(paths: Paths, order: list[Tensor]) -> list[tuple[str, int]]:
    """Find the draws whose noise was replaced after an estimator had weighed a cost for them."""
    reached: dict[Any, int] = {}
    for z in order:
        if isinstance(z, Sample) and not isinstance(z.noise, Noise):
            reached[z.name, z.line] = reached.get((z.name, z.line), 0) | paths.of(z.noise)
    problems = []
    for note in paths.notes if reached else []:
        drawn = note.attrs["drawn"]
        swapped = reached.get((drawn.name, drawn.line)) if drawn.weighs else None
        bits = 0 if swapped is None else swapped | paths.opened.get(id(note), 0)
        if bits:
            problems.append((f"{drawn.estimator} for {name_and_line(drawn)}: {OTHER_NOISE}", bits))
    return problems
