"""The boxes and arrows of a picture, without pixels or file formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core import Drawn, Noise, Sample, Tensor, describe, handled_draw, is_array, topological_order, trees
from ..guard.names import name_of_draw
from ..ops import linear, matmul
from .flow import CLOSED, CUT, IN_WORDS, OPEN, PARTLY, REFUSED, Flow, fates_of, numbers_at
from .folding import Folding, head_of, is_activation, kept_input
from .labels import LONGEST_DETAIL, LONGEST_FORMULA, innermost, label_of_ops, one_line, value_in_short

LEAF, CONSTANT, OPERATION, RANDOM, NOISE, GROUP = "leaf", "constant", "operation", "random", "noise", "group"
"""The kinds of boxes, each with a shape of its own."""


@dataclass(eq=False)
class Box:
    """One shape of the picture, which stands for a node and for the nodes that are folded into it."""

    kind: str
    label: str
    value: list[str]
    detail: str
    state: str = ""  # how far the gradient gets, if the box holds a target
    words: str = ""  # the same in words, with {} in the place of the number
    number: str = ""
    drawn: bool = False  # the box stands for a draw that an estimator has taken care of
    arrives: bool = False  # the gradient gets here on its way back
    nodes: list[Any] = field(default_factory=list)

    @property
    def gradient(self) -> str:
        """The words with the number."""
        return self.words.replace("{}", self.number)


@dataclass(frozen=True)
class Arrow:
    """From the box numbered ``tail`` to the box numbered ``head``, which is computed from it."""

    tail: int
    head: int
    state: str
    mark: str = ""  # "cut" where the gradient ends at a random node, "stop" where it was ended on purpose


@dataclass(frozen=True)
class Picture:
    """Boxes, inputs before what is computed from them, and the arrows between them."""

    boxes: list[Box]
    arrows: list[Arrow]
    gradients: bool = False  # those that were asked for are numbers, and right as far as they arrive


def picture_of(cost: Tensor, wrt: Any = None, *, open_layers: bool = False) -> Picture:
    """Return the boxes and arrows of the graph of ``cost``; the arguments and errors are those of ``draw``."""
    if not isinstance(cost, Tensor):
        raise TypeError(
            f"draw shows the graph of a Tensor, found {describe(cost)}, which records nothing; "
            "wrap the parameters with tg.wrap(...) before computing the cost"
        )
    order = topological_order([cost])
    targets = _targets(order, wrt)
    folding = Folding(order, open_layers)
    flow = Flow(order, targets, folding)
    words = {} if wrt is None else fates_of(cost, targets, flow)
    numbers = numbers_at(cost, targets, words)
    boxes: list[Box] = []
    number: dict[int, int] = {}  # the box of each node and each array
    arrows: dict[Arrow, None] = {}
    for nodes in folding.boxes():
        incoming: list[tuple[int, str, str]] = []
        members = {id(x) for x in nodes}
        for node in nodes:
            for i, x in enumerate(node.inputs):
                if id(x) in members:
                    continue
                if isinstance(x, Tensor):
                    incoming.append((number[id(x)], *flow.along(node, i)))
                elif is_array(x) and np.ndim(x) > 0:
                    if id(x) not in number:
                        number[id(x)] = len(boxes)
                        boxes.append(Box(CONSTANT, "array", value_in_short(x), describe(x), nodes=[x]))
                    incoming.append((number[id(x)], CLOSED, ""))
        number |= dict.fromkeys(members, len(boxes))
        arrows.update(dict.fromkeys(Arrow(tail, len(boxes), state, mark) for tail, state, mark in incoming))
        boxes.append(_box(nodes, flow, words, numbers, is_cost=id(cost) in members))
    refused = any(word == REFUSED for word in words.values())
    return Picture(boxes, list(arrows), wrt is not None and cost.shape == () and not refused)


def _targets(order: Sequence[Tensor], wrt: Any) -> list[Tensor]:
    if wrt is None:
        return [x for x in order if x.op is None and not isinstance(x, Noise) and x.dtype.kind == "f"]
    targets = trees.leaves(wrt)
    for t in targets:
        if not isinstance(t, Tensor):
            raise TypeError(f"draw: wrt holds {describe(t)}; pass the Tensors that the cost was computed from")
    return targets


def _box(group: list[Tensor], flow: Flow, words: dict[int, str], numbers: dict[int, str], is_cost: bool) -> Box:
    """Return the box of some nodes."""
    head = head_of(group)
    made = [x for x in group if kept_input(x) is None]
    notes = [x.attrs["drawn"] for x in group if x.op is handled_draw]
    kind, label, value = OPERATION, head.name or "leaf", value_in_short(head.value)
    if isinstance(head, Noise):
        kind, label = NOISE, "noise"
        value.insert(0, head.dist.name)
    elif head.op is None:
        kind = LEAF
    elif isinstance(head, Sample):
        kind = RANDOM
        label = f"{name_of_draw(head)} ~ {type(innermost(head.dist)).__name__}"
    elif (layer := next((x for x in made if x.op is None), None)) is not None:
        kind, label = GROUP, (layer.name or "").rpartition(".")[0]
        product = next(x for x in made if x.op in (linear, matmul))
        sizes = f"{product.inputs[0].shape[-1]} → {product.shape[-1]}"
        value.insert(0, ", ".join([sizes, *(x.op.name for x in made if x.op and is_activation(x))]))
    else:
        label = _label_of_draw(notes[-1]) if notes else head.name or label_of_ops(head, made)
        if len(made) > LONGEST_FORMULA or (len(made) > 1 and notes):
            value.insert(0, f"{len(made)} ops")
    asked = [x for x in group if id(x) in flow.targets]
    states = {flow.to_the_cost(x) for x in asked}
    state = next((s for s in (CUT, PARTLY, OPEN, CLOSED) if s in states), "")
    return Box(
        kind,
        f"cost: {one_line(label)}" if is_cost and kind != LEAF else one_line(label),
        value,
        one_line(_detail(head, made, notes), LONGEST_DETAIL),
        state,
        words.get(id(asked[0]), "") if len(asked) == 1 else IN_WORDS.get(state, ""),
        numbers.get(id(asked[0]), "") if len(asked) == 1 else "",
        drawn=any(not note.weighs for note in notes),
        arrives=any(flow.asked(x) and flow.is_open(x) for x in group),
        nodes=group,
    )


def _label_of_draw(note: Drawn) -> str:
    name = name_of_draw(note)
    return f"log p({name})" if note.estimator == "score-function" else f"{name} ({note.estimator})"


def _detail(head: Tensor, made: list[Tensor], notes: list[Drawn]) -> str:
    """Return the tooltip of a box."""
    if isinstance(head, Sample):
        return f"{head.dist!s}, drawn at {head.line}"
    if isinstance(head, Noise):
        return f"{head.name or 'noise'}, {head.dist.name}"
    if head.op is None:
        return f"{head.name or 'leaf'}: {describe(head.value)}"
    counted = Counter(x.op.name for x in made if x.op)
    ops = [f"{name} {n} times" if n > 1 else name for name, n in counted.items()]
    return "; ".join([*map(repr, notes), ", ".join(ops)])
