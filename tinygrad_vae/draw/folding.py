"""Which nodes of a graph share a box: bookkeeping, linear layers and, in a large graph, single-use expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..core import Sample, Tensor, handled_draw
from ..refusals import first_order, refuse_gradient

LARGE = 40
"""A graph of more boxes than this is summarised: single-use expressions become one box each."""

LARGEST = 300
"""A graph of more boxes than this, once summarised, is refused: nobody could read it."""

FOLDED = (handled_draw, ops.identity, refuse_gradient, first_order, ops.astype, ops.stop_gradient)
"""Ops that only keep books. They are drawn with their input."""


class Folding:
    """The nodes of each box; ``of(node)`` are those that share its box."""

    def __init__(self, order: Sequence[Tensor], open_layers: bool) -> None:
        self.order = order
        self._groups = {id(node): [node] for node in order}
        self._users: dict[int, list[Tensor]] = {id(node): [] for node in order}
        for node in order:
            for x in node.inputs:
                if isinstance(x, Tensor):
                    self._users[id(x)].append(node)
        for node in order:
            kept = kept_input(node)
            if kept is not None:
                self._join(kept, node)
        if not open_layers:
            self._fold_linear_layers()
        if len(self.boxes()) > LARGE:
            self._fold_expressions()
        if len(self.boxes()) > LARGEST:
            raise ValueError(
                f"draw: the graph has {len(order)} nodes, {len(self.boxes())} boxes once summarised, and no more "
                f"than {LARGEST} can be read; draw a node in the middle of it, or a run with fewer steps"
            )

    def of(self, node: Tensor) -> list[Tensor]:
        return self._groups[id(node)]

    def boxes(self) -> list[list[Tensor]]:
        """Return the nodes of each box, in the order of the graph; the boxes by the place of their heads."""
        boxes: dict[int, list[Tensor]] = {}
        for node in self.order:
            boxes.setdefault(id(self.of(node)), []).append(node)
        position = {id(node): i for i, node in enumerate(self.order)}
        return sorted(boxes.values(), key=lambda box: position[id(head_of(box))])

    def _join(self, node: Tensor, other: Tensor) -> None:
        group, more = self.of(node), self.of(other)
        if group is not more:
            group += more
            self._groups.update({id(x): group for x in more})

    def _fold_linear_layers(self) -> None:
        """Make one box of ``x @ weight + bias`` and its activation, where weight and bias share a name's prefix."""
        for node in self.order:
            for factor, bias, product in self._products(node):
                weight = factor
                while isinstance(weight, Tensor) and weight.op in (ops.matrix_transpose, ops.permute_dims):
                    weight = weight.inputs[0]
                leaves = [x for x in (weight, bias) if isinstance(x, Tensor) and x.op is None]
                prefixes = {(x.name or "").rpartition(".")[0] for x in leaves}
                if len(leaves) < 2 or len(prefixes) > 1 or "" in prefixes:
                    continue
                for x in [*product, *(x for x in dict.fromkeys((factor, weight, bias)) if self._used_once(x))]:
                    self._join(node, x)
                users = self._users[id(node)]
                if len(users) == 1 and is_activation(users[0]):
                    self._join(users[0], node)

    def _products(self, node: Tensor) -> list[tuple[Any, Any, list[Tensor]]]:
        """Return the factors and the terms that may be a layer's weight and bias, and the product as a node, if any."""
        if node.op is ops.linear:
            return [(node.inputs[1], node.inputs[2], [])]
        if node.op is not ops.add or not all(isinstance(x, Tensor) for x in node.inputs):
            return []
        pairs = [(a, b) for a, b in (node.inputs, node.inputs[::-1]) if a.op is ops.matmul and self._used_once(a)]
        return [(factor, bias, [product]) for product, bias in pairs for factor in product.inputs]

    def _used_once(self, node: Tensor) -> bool:
        return len(self._users[id(node)]) == 1

    def _fold_expressions(self) -> None:
        """Draw an operation inside the only one that uses it; the terms of the cost stay apart."""
        apart = _terms(self.order[-1])
        plain = {id(node) for node in self.order if _is_plain(self.of(node))}
        noted = {id(node) for node in self.order if any(x.op is handled_draw for x in self.of(node))}
        for node in reversed(self.order):
            box = self.of(node)
            if id(node) not in plain or id(node) in noted or id(node) in apart or head_of(box) is not node:
                continue
            users = {id(self.of(u)): u for x in box for u in self._users[id(x)] if self.of(u) is not box}
            if len(users) == 1:
                (user,) = users.values()
                if id(user) in plain:
                    self._join(user, node)


def kept_input(node: Tensor) -> Tensor | None:
    """Return the input that an op of bookkeeping, or the sum with a zero, is drawn with."""
    tensors = [x for x in node.inputs if isinstance(x, Tensor)]
    is_zero = node.op is ops.add and any(isinstance(x, (int, float)) and x == 0 for x in node.inputs)
    return tensors[0] if tensors and (node.op in FOLDED or is_zero) else None


def head_of(box: Sequence[Tensor]) -> Tensor:
    """Return the node that a box shows: the last one that does more than keep books."""
    return next((x for x in reversed(box) if kept_input(x) is None), box[-1])


def is_activation(node: Tensor) -> bool:
    """Return whether a node is an unnamed elementwise function of one input."""
    return node.op is not None and node.op.elementwise and len(node.inputs) == 1 and not node.name


def _is_plain(box: list[Tensor]) -> bool:
    """Return whether a box holds unnamed operations only, none of them random and none a matrix product."""
    return all(
        x.op not in (None, ops.linear, ops.matmul)
        and not isinstance(x, Sample)
        and (not x.name or x.op is handled_draw)
        for x in box
    )


def _terms(cost: Tensor) -> set[int]:
    """Return the terms that the cost is the sum of, by id."""
    node = cost
    while node.op in (ops.mean, ops.sum, ops.negative) and isinstance(node.inputs[0], Tensor):
        node = node.inputs[0]
    terms, rest = set(), [node]
    while rest:
        node = rest.pop()
        if node.op in (ops.add, ops.subtract):
            rest += [x for x in node.inputs if isinstance(x, Tensor)]
        elif node is not cost:
            terms.add(id(node))
    return terms
