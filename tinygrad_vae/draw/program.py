"""The numbers of a page: every value and gradient of a picture as a graph, and the calls that compute them again.

Recorded gradients are graphs of ops, like the values. So the page needs to know what an op does to numbers
(``web/ops.js``), and no derivative: those are the library's own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from .. import ops
from ..core import (
    Noise,
    Sample,
    Tensor,
    Value,
    as_array,
    gradients,
    handled_draw,
    noise,
    pull_back,
    replay,
    rewrite,
    topological_order,
    trees,
    value_of,
)
from ..devices import to_host
from ..distributions.branches import seamless
from ..distributions.distribution import Distribution, domain_of
from ..domains import POSITIVE, REAL, Domain, interval
from ..ops.declare import OPS
from .flow import OPEN, PARTLY
from .folding import FOLDED, LARGE, head_of
from .labels import gradient_in_short, value_in_short
from .picture import CONSTANT, Picture

DRAWS = 5
"""The number of draws on a page that only looks numbers up; the first is the one that the graph was recorded with."""

MOST_SLIDERS = 8

KNOWN, KNOWN_ON_ARRAYS = (
    frozenset(re.findall(r"^  (\w+)[:,]", (files(__package__) / "web" / script).read_text("utf-8"), re.MULTILINE))
    for script in ("ops.js", "arrays.js")
)
"""The ops that a page can compute: on numbers and element by element, and on arrays only."""

LARGEST_PROGRAM = 40_000
"""The number of numbers that a page holds at most."""

UNCHANGED = {*FOLDED, ops.positive, ops.surrogate, seamless} - {ops.astype}
"""Ops whose value is their first input; those below are, too, where it is a number."""
UNCHANGED_NUMBER = {ops.sum, ops.mean, ops.max, ops.min, ops.prod, ops.reshape, ops.broadcast_to, ops.sum_to}

Slot = tuple[str, int]
"""The place of a number: ``("value", i)`` and ``("gradient", i)`` in box i, ``("part", e)`` along arrow e."""


@dataclass(frozen=True, eq=False)
class Slider:
    """A parameter that is a number, and the range that it is moved in."""

    node: Tensor
    low: float
    high: float


def sliders_of(costs: Sequence[Tensor], pictures: Sequence[Picture], wrt: Any) -> list[Slider]:
    """Return a slider for each parameter; none if a graph is large or holds arrays, or if there are too many."""
    order = topological_order(costs)
    small = all(x.shape == () for x in order) and all(len(picture.boxes) <= LARGE for picture in pictures)
    nodes = [x for x in trees.leaves(wrt) if x.op is None and not isinstance(x, Noise) and x.dtype.kind == "f"]
    if not small or len(nodes) > MOST_SLIDERS:
        return []
    sliders = [slider_of(node, _domains_of(node, order)) for node in nodes]
    return [slider for slider in sliders if slider.low < slider.high]


def slider_of(node: Tensor, domains: Sequence[Domain]) -> Slider:
    """Return a slider whose range lies inside of the domains."""
    value, ends = float(node.value), []
    room = 2 * np.maximum(1.0, abs(value)) * 0.5 ** np.arange(60)
    for side in (-1, 1):  # the end itself may be the edge of a domain; a little further out is not
        tried = (float(x) for x in value + side * room)
        within = (x for x in tried if all(d.contains(np.asarray(x + side * 1e-9)) for d in domains))
        ends.append(next(within, value))
    return Slider(node, *ends)


def _domains_of(node: Tensor, order: Sequence[Tensor]) -> list[Domain]:
    """Return the domains of the distributions and ops that a parameter enters.

    If an estimator has taken care of all draws, the distributions are no longer in the graph; then it keeps its sign.
    """
    domains = [REAL]
    for user in order:
        if isinstance(user, Sample):
            domains += [domain for x, domain in domains_in(user.dist) if x is node]
        elif user.op is not None:
            domains += [user.op.declared.domain_of(i) for i, x in enumerate(user.inputs) if x is node]
    if any(x.op is handled_draw for x in order) and not any(isinstance(x, Sample) for x in order):
        domains.append(POSITIVE if node.value > 0 else interval(-np.inf, 0.0))
    return domains


def domains_in(dist: Distribution) -> list[tuple[Any, Domain]]:
    """Return each parameter of a distribution, and of the distributions that it is made of, with its domain."""
    found: list[tuple[Any, Domain]] = []
    for f in dataclasses.fields(dist):  # type: ignore[arg-type]
        part = getattr(dist, f.name)
        if isinstance(part, Distribution):
            found += domains_in(part)
        elif "domain" in f.metadata and part is not None:
            found.append((part, domain_of(dist, f)))
    return found


# ------------------------------------------------------------------------------------------- numbers as graphs


def held(costs: Sequence[Tensor]) -> dict[int, Tensor]:
    """Return the graphs with nothing random in them: each new node by the id of the old one.

    Noise is a leaf like any other, and a draw the transform of it, closed to gradients.
    """

    def hold(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        if not isinstance(node, Sample):
            return None
        noise, *parameters = inputs
        return ops.stop_gradient(trees.replace_leaves(node.attrs["dist"], parameters).transform(noise))

    def quieten(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        return Tensor(node.value, node.name) if isinstance(node, Noise) else None

    order = topological_order(costs)
    return dict(zip(map(id, order), rewrite(rewrite(order, hold), quieten), strict=True))


def numbers_of(cost: Tensor, picture: Picture, new: Mapping[int, Tensor]) -> dict[Slot, Tensor]:
    """Return the numbers of a picture as nodes of the held graph and of its recorded gradient."""
    boxes = picture.boxes
    found = {("value", i): new[id(head_of(box.nodes))] for i, box in enumerate(boxes) if box.kind != CONSTANT}
    if not picture.gradients:
        return found
    reached = [x for box in boxes if box.arrives for x in box.nodes if x.dtype.kind == "f"]
    recorded = gradients(new[id(cost)], [new[id(x)] for x in reached], record=True)
    cotangents = dict(zip(map(id, reached), recorded, strict=True))
    for i, box in enumerate(boxes):
        if box.arrives and id(head_of(box.nodes)) in cotangents:
            found["gradient", i] = cotangents[id(head_of(box.nodes))]
    for e, arrow in enumerate(picture.arrows):
        if arrow.state in (OPEN, PARTLY):
            part = _part(boxes[arrow.tail].nodes, boxes[arrow.head].nodes, new, cotangents)
            if part is not None:
                found["part", e] = part
    return found


def _part(
    tail: Sequence[Tensor], head: Sequence[Tensor], new: Mapping[int, Tensor], cotangents: Mapping[int, Tensor]
) -> Tensor | None:
    """Return the part of the gradient that goes back from one box to another: a sum of vjps."""
    total: Any = None
    inside = {id(x) for x in tail if id(x) in cotangents and x.op is not ops.stop_gradient}
    for old in head:
        node, g = new[id(old)], cotangents.get(id(old))
        if g is None or node.op is None or node.op is ops.stop_gradient:
            continue
        for i, x in enumerate(old.inputs):
            if id(x) in inside and node.op.vjp_of(i) is not None:
                part = pull_back(node.op, i, g, node, node.inputs, node.attrs)
                total = part if total is None else total + part
    return total


def conditions_of(costs: Sequence[Tensor], new: Mapping[int, Tensor]) -> list[Tensor]:
    """Return numbers that are finite as long as the parameters lie in their domains: the log-density of each draw."""
    draws = [z for z in topological_order(costs) if isinstance(z, Sample)]
    dists = [trees.replace_leaves(z.attrs["dist"], [new.get(id(x), x) for x in z.inputs[1:]]) for z in draws]
    return [dist.log_density(new[id(z)]) for z, dist in zip(draws, dists, strict=True)]


# ------------------------------------------------------------------------------------------- computed by the page


class UnknownError(Exception):
    """What a page cannot compute, in words."""


class Program:
    """Calls of ops: a row is ``[op, row of an input, ..., attributes]``, or ``["=", value]`` for a leaf.

    Equal calls and equal constants share a row. A variable, a leaf that the page sets, has one of its own.
    """

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.size = 0  # of the arrays
        self._numbered: dict[Any, int] = {}  # by the id of a node, or by what stands in the row
        self._nodes: list[Tensor] = []  # keeps their ids from being used again

    def variable(self, leaf: Tensor) -> int:
        """Return the row of a leaf that the page sets."""
        if id(leaf) not in self._numbered:
            self._nodes.append(leaf)
            self._numbered[id(leaf)] = self._constant(leaf, key=id(leaf))
        return self._numbered[id(leaf)]

    def add(self, root: Value) -> int:
        """Return the row with the value of a node or a number.

        ``UnknownError``: the page does not know how to compute it.
        """
        if not isinstance(root, Tensor):
            return self._constant(root)
        for node in topological_order([root]):
            if id(node) not in self._numbered:
                self._nodes.append(node)
                self._numbered[id(node)] = self._row_of(node)
        return self._numbered[id(root)]

    def _row_of(self, node: Tensor) -> int:
        if (op := node.op) is None:
            return self._constant(node)
        inputs = [self._numbered[id(x)] if isinstance(x, Tensor) else self._constant(x) for x in node.inputs]
        number = node.shape == () and all(np.shape(value_of(x)) == () for x in node.inputs)
        if op in UNCHANGED or (number and op in UNCHANGED_NUMBER):
            return inputs[0]
        if op is ops.astype and node.dtype.kind == "f":
            return inputs[0] if node.inputs[0].dtype.kind == "f" else self._row("number", *inputs)
        if OPS.get(op.name) is op and op.name in KNOWN and op.elementwise and not node.attrs:
            return self._row(op.name, *inputs)
        if OPS.get(op.name) is op and op.name in KNOWN_ON_ARRAYS and not number:
            return self._row(op.name, *inputs, _attributes(node))
        raise UnknownError(f"it uses the op {op.name}, which this page does not know")

    def _constant(self, x: Any, key: Any = None) -> int:
        array = to_host(as_array(value_of(x)))
        if not array.shape:
            return self._row("=", _as_json(array.item()), key=key)
        self.size += array.size
        if self.size > LARGEST_PROGRAM:
            raise UnknownError(f"it holds more than {LARGEST_PROGRAM} numbers")
        data = [_as_json(y, array.dtype == np.float32) for y in array.ravel().tolist()]
        return self._row("=", {"shape": list(array.shape), "data": data}, key=key or id(x))

    def _row(self, *row: Any, key: Any = None) -> int:
        key = key or (*map(str, row), type(row[1]))
        if key not in self._numbered:
            self._numbered[key] = len(self.rows)
            self.rows.append(list(row))
        return self._numbered[key]


def _as_json(x: float, short: bool = False) -> float | str:
    """Return a number, with the digits of float32 if it is short; or what JavaScript calls it if JSON cannot say it."""
    if not np.isfinite(x):
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(x), "NaN")
    return float(f"{x:.9g}") if short else x


def _attributes(node: Tensor) -> dict[str, Any]:
    """Return what the page needs to know of an op on arrays: the shape of its result, and with the axes kept."""
    x = node.inputs[0]
    if node.op in (ops.matmul, ops.linear, ops.matrix_transpose) and any(y.ndim != 2 for y in node.inputs[:2]):
        raise UnknownError(f"it uses {node.op.name} on arrays of other than two axes")
    attributes = {"shape": list(node.shape)}
    if node.op in (ops.sum, ops.mean):
        axes = range(x.ndim) if node.attrs["axis"] is None else np.atleast_1d(node.attrs["axis"]) % max(x.ndim, 1)
        attributes["kept"] = [1 if k in axes else n for k, n in enumerate(x.shape)]
    return attributes


def looked_up(
    noises: Sequence[Noise], new: Mapping[int, Tensor], found: Sequence[Mapping[Slot, Tensor]]
) -> list[dict[Slot, list[str]]]:
    """Return the texts of the numbers for a few draws; the first is the draw of the graph."""
    nodes = [node for numbers in found for node in numbers.values()]
    present = {id(x) for x in topological_order(nodes)}
    columns = [nodes]
    for k in range(1, DRAWS if noises else 1):
        stream = noise(0).at("page", k)
        swaps = {new[id(x)]: x.redrawn(stream).value for x in noises if id(new[id(x)]) in present}
        columns.append(replay(nodes, swaps))
    rows = iter(zip(*columns, strict=True))
    return [{slot: [_in_short(slot, x.value) for x in next(rows)] for slot in numbers} for numbers in found]


def _in_short(slot: Slot, value: Any) -> str:
    return value_in_short(value)[-1] if slot[0] == "value" else gradient_in_short(value).removeprefix("of ")
