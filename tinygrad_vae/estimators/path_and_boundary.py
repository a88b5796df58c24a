"""The pathwise estimator together with what a path does not see: the jumps of a cost where a draw decides a comparison.

Given all other random numbers, a comparison flips where one draw z crosses a root z*. As the parameters move, so does
the probability F(z*) of a draw below it, and the cost jumps there by J:

    d/dtheta E K = E [path] - E [sum over the roots of J dF(z*(theta); theta) / dtheta].

Smoothed perturbation analysis: Gong and Ho 1987, Fu and Hu 1997. For densities with linear conditions: Lee, Yu and
Yang 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..core import InvalidGradientError, Sample, Tensor, namespace, opened, rewrite, to_numpy, topological_order
from ..guard.axes import along, weigh_terms
from ..guard.names import name_of_draw, op_in_words
from ..guard.paths import downstream, live_of, live_samples, path_after
from ..guard.report import jump_objection
from ..ops import astype, less, logical_and, sign, stop_gradient, subtract, where
from ..ops.declare import JUMP
from ..ops.ranges import ordered
from .estimator import Estimator, Rest, check_tensor, continued, slope, taken_care, zero
from .roots import Edge, behind, edges, only, root_of


class PathAndBoundary(Estimator):
    """``K(transform(noise, theta)) - sum over the roots of J zero(F(z*; theta))``: the path, and what it does not see.

    Valid for costs that jump only in comparisons and signs, like ``where(x > c, f, g)``, where c may depend on
    parameters and on other draws, and for distributions with a path and a cdf. Each comparison must be monotone in one
    of the draws that decide it; the latest of these is used. Two copies of the cost for each comparison, and for each
    of its elements that the cost mixes. First derivatives only. Gong and Ho 1987; Lee, Yu and Yang 2018.

    >>> mu = tg.Tensor(np.zeros(4), "mu")
    >>> x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
    >>> cost = tg.estimate(tg.where(x > 0, 1.0, 0.0), {"x": "path-and-boundary"})
    >>> tg.gradients(tg.sum(cost), mu).round(5)  # the density at 0, for every draw
    array([0.39894, 0.39894, 0.39894, 0.39894])
    """

    name: ClassVar[str] = "path-and-boundary"
    where_path_jumps: ClassVar[str] = "path_and_boundary(cost)"

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        if z.dist.path is None:
            return z.dist.why_no_path
        if not path_after(z, cost).jumps:
            return None
        cost = _in_comparisons(cost, z)
        steps = _steps(cost, z)
        if jumps := jump_objection(z, _closed(cost, steps)):
            return f"{jumps}, and only comparisons can be taken care of"
        found = (_solved_in(c, [y for y in _deciders(c) if y.dist.path is not None], cost) for c in steps)
        return next((reason for _, reason in found if reason), None)

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        cost, mine = _in_comparisons(cost, z), []
        for c in _steps(cost, z):
            chosen = [y for y in _deciders(c) if y is z or isinstance(rest.later.get(id(y.noise)), PathAndBoundary)]
            y, reason = _solved_in(c, chosen, cost)
            if reason:
                raise InvalidGradientError(f"{self.name}: {reason}")
            mine += [c] if y is z else []
        new = weigh_terms(cost, [z], lambda term, _: self._with_boundaries(term, z, mine)) if mine else cost
        return continued(_closed(new, mine, {id(z): self._opened(z, z.inputs)}), rest.later)

    def instead(self, z: Sample, inputs: tuple[Any, ...], cost: Tensor) -> Tensor | None:
        return None if path_after(z, cost).jumps else self._opened(z, inputs)

    def _opened(self, z: Sample, inputs: tuple[Any, ...]) -> Tensor:
        return opened(z, inputs, replace(self.note_of(z), weighs=False))  # the boundary weighs the cost, not the path

    def _with_boundaries(self, term: Tensor, z: Sample, mine: list[Tensor]) -> Tensor:
        steps, total = _steps(term, z), term
        for c in steps:
            for edge in edges(c, z, term) if _is_among(c, mine) else ():
                moved, jump = _boundary(edge, z, term, steps)
                total = total + slope(self.noted(moved, z), jump, term)
        return total


def path_and_boundary(cost: Tensor) -> Tensor:
    """Let the gradient go through every draw, as ``reparameterize`` does, and add what is lost where the cost jumps.

    The value stays bit for bit. Draws without a path (discrete ones) stay blocked; choose for them in one call,
    ``estimate(cost, {"b": "score-function"}, default="path-and-boundary")``. See ``PathAndBoundary``.

    Raises:
        TypeError: the cost is no Tensor.
        InvalidGradientError: the cost jumps somewhere else than in a comparison, or a comparison cannot be solved.

    >>> c = tg.Tensor(0.7, "c")
    >>> x = tg.Normal(tg.Tensor(0.3), 0.8).sample(rng=tg.noise(0))
    >>> cost = tg.where(x > c, x, 0.0)
    >>> float(tg.gradients(tg.path_and_boundary(cost), c).round(5))  # -0.7 times the density at 0.7
    -0.30806
    """
    check_tensor(cost)
    samples, estimator = live_samples(cost), PathAndBoundary()
    return taken_care(cost, {id(z.noise): estimator for z in samples if z.dist.path is not None}, samples)


def _steps(cost: Tensor, z: Tensor) -> list[Tensor]:
    """Return the live comparisons that z itself decides, and not a later draw that depends on it."""
    met = downstream(live_of(topological_order([cost])), z)
    return [node for node, kinds in met if JUMP in kinds and node.op and node.op.declared.range is ordered]


def _in_comparisons(cost: Tensor, z: Tensor) -> Tensor:
    """Return the cost with every sign that depends on z as the difference of comparisons ``(0 < x) - (x < 0)``."""
    below = {id(z)}

    def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        if not any(id(x) in below for x in node.inputs):
            return None
        below.add(id(node))
        if node.op is not sign:
            return None
        (x,) = inputs
        return astype(less(0.0, x), node.dtype) - astype(less(x, 0.0), node.dtype)

    return rewrite(cost, rule)


def _is_among(node: Tensor, nodes: list[Tensor]) -> bool:
    return any(node is other for other in nodes)


def _closed(cost: Tensor, steps: list[Tensor], others: dict[int, Tensor] | None = None) -> Tensor:
    """Return the cost with its comparisons cut on purpose, and other nodes in the places of some."""
    cut = {id(c) for c in steps}

    def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        if id(node) in cut:
            return stop_gradient(node.op.record(inputs, node.attrs))  # type: ignore[union-attr]
        return (others or {}).get(id(node))

    return rewrite(cost, rule)


def _deciders(c: Tensor) -> list[Sample]:
    """Return the draws that a comparison is computed from, the latest first."""
    return [node for node in reversed(behind(c)) if isinstance(node, Sample)]


def _solved_in(c: Tensor, draws: Sequence[Sample], cost: Tensor) -> tuple[Sample | None, str]:
    """Return the first of the draws that the comparison can be solved in; or None, and why not in the first."""
    reasons = []
    for y in draws:
        reason = _why_not(c, y, cost)
        if reason is None:
            return y, ""
        reasons.append(reason)
    return None, reasons[0]


def _why_not(c: Tensor, z: Sample, cost: Tensor) -> str | None:
    """Return why the comparison cannot be solved in z, or ``None``."""
    name, words = name_of_draw(z), op_in_words(c)
    for y in _deciders(c):
        if y is not z and _is_among(z, topological_order([y])):
            other = name_of_draw(y)
            return (
                f"{words} is decided by {other} too, a draw that depends on {name}: choose path-and-boundary for "
                f"{other}, or the score function for {name}"
            )
    if not _is_among(c, _steps(cost, z)):
        return f"no open path leads from {name} to {words}"
    try:
        z.dist.element.cdf(z.value)
    except NotImplementedError:
        return f"{z.dist.family} declares no cdf, and {words} is decided by {name}"
    if jumps := jump_objection(z, subtract(*c.inputs)):
        return f"{jumps}, in {words}"
    try:
        terms: list[Tensor] = []
        weigh_terms(cost, [z], lambda term, _: terms.append(term) or term)  # type: ignore[func-returns-value]
        for term in terms:
            if _is_among(c, _steps(term, z)):
                list(edges(c, z, term))
    except InvalidGradientError as error:
        return str(error)
    return None


def _boundary(edge: Edge, z: Sample, cost: Tensor, steps: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return ``-zero(F(z*; theta))`` of an edge, along the axes of the cost, and how far the cost jumps there."""
    mask, now = edge.mask, stop_gradient(z)
    here = only(mask, now)
    found = root_of(edge, z, here)
    there = where(found == found, found, here)  # NaN where there is no root
    rate = rewrite(edge.rate, lambda node, _: where(mask, there, now) if node is z else None)
    exists = stop_gradient(logical_and(found == found, edge.rate != 0) if edge.straight else found == found)
    rate, there = stop_gradient(where(exists, rate, 1.0)), stop_gradient(where(exists, there, here))
    if not np.all(rate.value):
        raise InvalidGradientError(f"path-and-boundary: {op_in_words(edge.c)} is flat where it flips")
    above = rewrite(edge.above, lambda node, _: where(mask, there, z) if node is z else None)
    moving = there - zero(where(exists, above, 0.0)) / rate
    below = zero(z.dist.element.cdf(where(mask, moving, now)))
    moved = along(where(mask, where(exists, -sign(rate) * below, 0.0), 0.0), edge.to_cost)
    seen = along(where(mask, where(exists, 1.0, 0.0), 0.0), edge.to_cost) > 0
    step = (abs(there) + abs(here)) * (256 * np.finfo(z.dtype).eps)
    points = [where(mask, x, now) for x in (there, there - step, there + step)]
    with np.errstate(all="ignore"):
        true, false = (_forced(edge, truth, z, cost, steps, points) for truth in (True, False))
        jump = stop_gradient(where(seen, true - false, 0.0))
    if not np.all(np.isfinite(to_numpy(jump.value))):
        raise InvalidGradientError(
            f"path-and-boundary: the cost is not finite where {op_in_words(edge.c)} flips, so that its jump has no size"
        )
    return moved, jump


def _forced(edge: Edge, truth: bool, z: Sample, cost: Tensor, steps: list[Tensor], points: list[Tensor]) -> Tensor:
    """Return the cost at a root, with the elements of the comparison that flip there set to true or false.

    Others that flip at the same place are taken to have done so already if they come first, and else not yet: the
    jumps then add up to the whole one.
    """
    at, before, after = points
    new: dict[int, Tensor] = {}

    def standing(node: Tensor, there: Tensor) -> Tensor:
        return rewrite(node, lambda n, _: there if n is z else new.get(id(n)))

    passed = False
    for c in steps:
        passed = passed or c is edge.c
        state = standing(c, after if passed else before)
        if c is edge.c:
            xp, part = namespace(edge.part), edge.part
            earlier = (xp.arange(part.size) < xp.argmax(part)).reshape(part.shape)
            state = where(part, truth, where(earlier, standing(c, before), state))
        new[id(c)] = state
    return standing(cost, at)
