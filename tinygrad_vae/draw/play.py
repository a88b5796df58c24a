"""The numbers of a page: every value and gradient of a graph, at each position of its sliders and for a few draws.

The library itself computes them, by running the graph again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import (
    Array,
    Noise,
    Sample,
    Tensor,
    gradients,
    namespace,
    noise,
    pull_back,
    rewrite,
    taken_care_of,
    topological_order,
    trees,
    value_of,
)
from ..distributions.distribution import Distribution, domain_of
from ..distributions.support import check_inside
from ..domains import POSITIVE, REAL, Domain, interval
from ..ops import stop_gradient
from .flow import OPEN, PARTLY
from .folding import LARGE, head_of
from .labels import gradient_in_short, value_in_short
from .picture import CONSTANT, Picture

PLACES = {1: 31, 2: 13, 3: 7, 4: 5}
"""The number of positions of a slider, by the number of sliders: all combinations are computed. It is odd, so that the
parameter's own value stands in the middle."""

DRAWS = 5
"""The number of draws on a page; the first is the one that the graph was recorded with."""

OUTSIDE = "–"  # noqa: RUF001
"""The text that is shown where a parameter has left its domain."""

Slot = tuple[str, int]
"""The place of a number: ``("value", i)`` and ``("gradient", i)`` in box i, ``("part", e)`` along arrow e."""

Texts = Any
"""An array of texts, with an axis for each slider and a last one for the draws."""


@dataclass(frozen=True)
class Slider:
    """A parameter that is a number, and the values that it is tried at."""

    node: Tensor
    values: list[Array]


def sliders_of(costs: Sequence[Tensor], pictures: Sequence[Picture], wrt: Any) -> list[Slider]:
    """Return a slider for each parameter; none if a graph is large or holds arrays, or if there are too many."""
    order = topological_order(costs)
    small = all(x.shape == () for x in order) and all(len(picture.boxes) <= LARGE for picture in pictures)
    nodes = [x for x in trees.leaves(wrt) if x.op is None and not isinstance(x, Noise) and x.dtype.kind == "f"]
    if not small or len(nodes) not in PLACES:
        return []
    half = PLACES[len(nodes)] // 2
    around = np.arange(-half, half + 1) / (half + 1)
    sliders = []
    for node in nodes:
        value, domains = float(node.value), _domains_of(node, order)
        for halved in range(60):
            values = (value + 2 * max(1.0, abs(value)) * 0.5**halved * around).astype(node.dtype)
            if all(np.all(domain.contains(values)) for domain in domains):
                sliders.append(Slider(node, [np.asarray(x) for x in values]))
                break
    return sliders


def _domains_of(node: Tensor, order: Sequence[Tensor]) -> list[Domain]:
    """Return the domains of the distributions and ops that a parameter enters.

    If an estimator has taken care of all draws, the distributions are no longer in the graph; then it keeps its sign.
    """
    domains = [REAL]
    for user in order:
        if isinstance(user, Sample):
            domains += [domain for x, domain in _domains(user.dist) if x is node]
        elif user.op is not None:
            domains += [user.op.declared.domain_of(i) for i, x in enumerate(user.inputs) if x is node]
    if any(x.op is taken_care_of for x in order) and not any(isinstance(x, Sample) for x in order):
        domains.append(POSITIVE if node.value > 0 else interval(-np.inf, 0.0))
    return domains


def _domains(law: Distribution) -> list[tuple[Any, Domain]]:
    """Return each parameter of a distribution, and of the distributions that it is made of, with its domain."""
    found: list[tuple[Any, Domain]] = []
    for f in dataclasses.fields(law):  # type: ignore[arg-type]
        part = getattr(law, f.name)
        if isinstance(part, Distribution):
            found += _domains(part)
        elif "domain" in f.metadata and part is not None:
            found.append((part, domain_of(law, f)))
    return found


def draws_of(costs: Sequence[Tensor]) -> list[dict[int, Array]]:
    """Return for each draw the numbers of each noise in the graphs, by its id; the first are its own."""
    noises = [x for x in topological_order(costs) if isinstance(x, Noise)]
    draws = [{id(x): x.value for x in noises}]
    for k in range(1, DRAWS if noises else 1):
        stream = noise(0).at("page", k)
        draws.append({id(x): namespace(x.value).asarray(x.redrawn(stream).value) for x in noises})
    return draws


def numbers_of(
    costs: Sequence[Tensor], pictures: Sequence[Picture], sliders: Sequence[Slider], draws: Sequence[dict[int, Array]]
) -> list[dict[Slot, Texts]]:
    """Return the numbers of each picture, at every position of the sliders and for every draw."""
    shape = (*(len(slider.values) for slider in sliders), len(draws))
    shown: list[dict[Slot, Texts]] = [{} for _ in pictures]
    for place in np.ndindex(*shape):
        leaves = {id(s.node): s.values[k] for s, k in zip(sliders, place[:-1], strict=True)} | draws[place[-1]]
        with np.errstate(all="ignore"), contextlib.suppress(ValueError, IndexError):
            found = [_at(cost, picture, leaves) for cost, picture in zip(costs, pictures, strict=True)]
            for texts, here in zip(shown, found, strict=True):
                for slot, text in here.items():
                    if slot not in texts:
                        texts[slot] = np.full(shape, OUTSIDE, object)
                    texts[slot][place] = text
    return shown


def _at(cost: Tensor, picture: Picture, leaves: Mapping[int, Array]) -> dict[Slot, str]:
    """Return the numbers of a picture whose leaves have these values: run the graph, then backprop.

    Each draw becomes a constant, as it is to a gradient. ``ValueError``: a parameter has left its domain.
    """

    def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        if id(node) in leaves:
            return Tensor(leaves[id(node)])
        if not isinstance(node, Sample):
            return None
        values = [value_of(x) for x in inputs]
        for value, domain in _domains(trees.replace_leaves(node.attrs["dist"], values[1:])):
            check_inside("a parameter", domain, value)
        return Tensor(node.op.forward(*values, **node.attrs))  # type: ignore[union-attr]

    order = topological_order([cost])
    new = dict(zip(map(id, order), rewrite(order, rule), strict=True))
    texts = {
        ("value", i): value_in_short(new[id(head_of(box.nodes))].value)[-1]
        for i, box in enumerate(picture.boxes)
        if box.kind != CONSTANT
    }
    if not picture.gradients:
        return texts
    reached = [x for box in picture.boxes if box.arrives for x in box.nodes if x.dtype.kind == "f"]
    cotangents = dict(zip(map(id, reached), gradients(new[id(cost)], [new[id(x)] for x in reached]), strict=True))
    for i, box in enumerate(picture.boxes):
        g = cotangents.get(id(head_of(box.nodes))) if box.arrives else None
        if g is not None:
            texts["gradient", i] = gradient_in_short(g).removeprefix("of ")
    for e, arrow in enumerate(picture.arrows):
        if arrow.state in (OPEN, PARTLY):
            tail, head = picture.boxes[arrow.tail].nodes, picture.boxes[arrow.head].nodes
            part = _part(tail, [x for x in head if id(x) in cotangents], new, cotangents)
            if part is not None:
                texts["part", e] = gradient_in_short(part).removeprefix("of ")
    return texts


def _part(
    tail: Sequence[Tensor], head: Sequence[Tensor], new: Mapping[int, Tensor], cotangents: Mapping[int, Array]
) -> Array | None:
    """Return the part of the gradient that goes back from one box to another: a sum of vjps."""
    total: Any = None
    inside = {id(x) for x in tail}
    for old in head:
        node = new[id(old)]
        if node.op is None:  # a draw, which is a constant here
            continue
        for i, x in enumerate(old.inputs):
            if id(x) in inside and id(x) in cotangents and node.op.vjp_of(i) is not None and x.op is not stop_gradient:
                values = [value_of(y) for y in node.inputs]
                part = pull_back(node.op, i, cotangents[id(old)], node.value, values, node.attrs)
                total = part if total is None else total + part
    return total
