"""What a drawing shows: the boxes and arrows of a graph, and how far the gradient gets along each arrow.

It knows the graph and the nodes of randomness, and nothing of pixels or file formats.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core import (
    Drawn,
    Noise,
    Sample,
    Tensor,
    as_array,
    describe,
    gradients,
    is_array,
    rewrite,
    taken_care_of,
    to_host,
    topological_order,
    trees,
)
from ..guard.names import name_of_draw
from ..guard.paths import dependence
from ..guard.report import explain
from ..guard.verdict import BiasedGradientWarning
from ..ops import (
    add,
    astype,
    identity,
    linear,
    matmul,
    matrix_transpose,
    mean,
    negative,
    permute_dims,
    stop_gradient,
    subtract,
)
from ..ops import sum as sum_op
from ..ops.declare import BLOCKED, JUMP, STOP
from ..refusals import first_order, refuse_gradient

OPEN, CUT, PARTLY, CLOSED = "open", "cut", "partly", "closed"
"""How the gradient gets along an arrow: all of it, none of it, a part of it; or none is asked for."""

RANDOM_JUMP = "random jump"
"""How the value of an op depends on a random input where it jumps: the derivative is 0 and says nothing."""

REFUSED = "refused: it would be wrong"

IN_WORDS = {OPEN: "open", CUT: "cut: no gradient", PARTLY: "partly cut", CLOSED: "no gradient"}

LEAF, CONSTANT, OPERATION, RANDOM, NOISE, GROUP = "leaf", "constant", "operation", "random", "noise", "group"
"""The kinds of boxes, each with a shape of its own."""

LARGE = 40
"""A graph of more boxes than this is summarised: linear layers and single-use expressions become one box each."""

LARGEST = 300
"""A graph of more boxes than this, once summarised, is refused: nobody could read it."""

LONGEST_LABEL, LONGEST_DETAIL = 60, 400
"""How many characters of a label or a heading, and of a tooltip, are shown."""

LONGEST_FORMULA = 3
"""A box of no more ops than this shows their formula; one of more shows the last of them, and how many they are."""

FOLDED = (taken_care_of, identity, refuse_gradient, first_order, astype, stop_gradient)
"""The ops that only keep books. They are drawn with their input."""

SYMBOLS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "pow": "^"}  # noqa: RUF001


@dataclass(eq=False)
class Box:
    """One shape of the drawing, which stands for a node and for those that are folded into it.

    ``state`` is the fate of the gradient where it was asked for, and empty for any other box; ``words`` says it, with
    ``{}`` in the place of the number, and ``gradient`` with the number. ``drawn``: it stands for a draw that an
    estimator has taken care of. ``arrives``: the gradient gets to it on its way back.
    """

    kind: str
    label: str
    value: list[str]
    detail: str
    state: str = ""
    gradient: str = ""
    words: str = ""
    drawn: bool = False
    arrives: bool = False
    nodes: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Arrow:
    """From the box numbered ``tail`` to the box numbered ``head``, which is computed from it.

    ``mark`` is ``"cut"`` where the gradient ends at a random node, ``"stop"`` where it was ended on purpose.
    """

    tail: int
    head: int
    state: str
    mark: str = ""


@dataclass(frozen=True)
class Picture:
    """Boxes, inputs before what is computed from them, and the arrows between them.

    ``gradients``: those that were asked for are numbers, and right as far as they arrive.
    """

    boxes: list[Box]
    arrows: list[Arrow]
    gradients: bool = False


def picture_of(cost: Tensor, wrt: Any = None, *, open_layers: bool = False) -> Picture:
    """Return the boxes and arrows of the graph of ``cost``.

    Args:
        cost: the Tensor to draw.
        wrt: the parameters whose gradient is asked for: a Tensor or a tree of them. ``None`` colours the ways to
            every leaf of floats, and shows no gradients.
        open_layers: whether to show what a linear layer is made of, in place of one box.

    Raises:
        TypeError: the cost, or a leaf of ``wrt``, is no Tensor.
        ValueError: the graph is too large to be read.
    """
    if not isinstance(cost, Tensor):
        raise TypeError(
            f"draw shows the graph of a Tensor, found {describe(cost)}, which records nothing; "
            "wrap the parameters with tg.wrap(...) before computing the cost"
        )
    order = topological_order([cost])
    targets = _targets(order, wrt)
    flow = Flow(order, targets)
    groups = {id(node): [node] for node in order}
    for node in order:
        kept = _folded_into(node)
        if kept is not None:
            _join(groups, kept, node)
    if not open_layers:
        _fold_linear_layers(order, groups)
    if _count(groups) > LARGE:
        _fold_expressions(order, groups)
    if _count(groups) > LARGEST:
        raise ValueError(
            f"draw: the graph has {len(order)} nodes, {_count(groups)} boxes once summarised, and no more "
            f"than {LARGEST} can be read; draw a node in the middle of it, or a run with fewer steps"
        )
    words = {} if wrt is None else _fates(cost, targets, flow)
    shown = _with_numbers(cost, targets, words)
    picture = _assemble(cost, order, groups, flow, words, shown)
    refused = any(word == REFUSED for word in words.values())
    return replace(picture, gradients=wrt is not None and cost.shape == () and not refused)


def _targets(order: Sequence[Tensor], wrt: Any) -> list[Tensor]:
    if wrt is None:
        return [x for x in order if x.op is None and not isinstance(x, Noise) and x.dtype.kind == "f"]
    targets = trees.leaves(wrt)
    for t in targets:
        if not isinstance(t, Tensor):
            raise TypeError(f"draw: wrt holds {describe(t)}; pass the Tensors that the cost was computed from")
    return targets


# ------------------------------------------------------------------------------------- where gradients flow


class Flow:
    """Which nodes a gradient is asked through, and what stands between each of them and the cost.

    ``asked``: a target lies at or above the node. ``open``: an unbroken way leads from it to the cost.
    ``broken``: a way leads there that a random node blocks, or that jumps with a random value. ``biased``: an open way
    leads there through a draw whose estimator says that it is biased.
    """

    def __init__(self, order: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        self.targets = {id(t) for t in targets}
        self.asked, self.fed = set(self.targets), set(self.targets)  # fed: over an unbroken way from a target
        self.random: set[int] = set()
        self.open, self.broken = {id(order[-1])}, set[int]()
        self.biased: set[int] = set()
        for node in order:
            for kind, x in self._inputs(node):
                if x in self.random:
                    self.random.add(id(node))
                if x in self.asked and kind not in (STOP, JUMP):
                    self.asked.add(id(node))
                if x in self.fed and kind not in (STOP, JUMP, BLOCKED, RANDOM_JUMP):
                    self.fed.add(id(node))
            if isinstance(node, Noise):
                self.random.add(id(node))
        for node in reversed(order):
            if node.op is taken_care_of and node.attrs["drawn"].biased and id(node) in self.open:
                self.biased.add(id(node))
            for kind, x in self._inputs(node):
                if kind not in (STOP, JUMP, BLOCKED, RANDOM_JUMP) and id(node) in self.biased:
                    self.biased.add(x)
                if kind not in (STOP, JUMP) and id(node) in self.open:
                    (self.broken if kind in (BLOCKED, RANDOM_JUMP) else self.open).add(x)
                if kind not in (STOP, JUMP) and id(node) in self.broken:
                    self.broken.add(x)

    def _inputs(self, node: Tensor) -> list[tuple[str, int]]:
        """Return how the node depends on each of its inputs, and the input's key."""
        return [(self._kind(node, i), id(x)) for i, x in enumerate(node.inputs)]

    def _kind(self, node: Tensor, i: int) -> str:
        kind = dependence(node, i)
        return RANDOM_JUMP if kind == JUMP and id(node.inputs[i]) in self.random else kind

    def to_the_cost(self, node: Any) -> str:
        """Return the state of all ways from the node to the cost."""
        ways = id(node) in self.open, id(node) in self.broken
        return {(True, True): PARTLY, (True, False): OPEN, (False, True): CUT, (False, False): CLOSED}[ways]

    def along(self, node: Tensor, i: int) -> tuple[str, str]:
        """Return the state and the mark of the arrow from input ``i`` of the node."""
        x, kind, state = node.inputs[i], self._kind(node, i), self.to_the_cost(node)
        if isinstance(x, Tensor) and x.op is stop_gradient:
            return CLOSED, "stop"
        if id(x) not in self.asked or state == CLOSED or kind in (STOP, JUMP):
            return CLOSED, ""
        if kind == BLOCKED or (kind == RANDOM_JUMP and id(x) in self.fed):
            return CUT, "cut"
        return (CLOSED, "") if kind == RANDOM_JUMP else (state, "")


def _fates(cost: Tensor, targets: Sequence[Tensor], flow: Flow) -> dict[int, str]:
    """Return what to write under each target, with ``{}`` for its gradient: the whole, a part, or that it is cut."""
    words = IN_WORDS
    if cost.shape == ():
        words = IN_WORDS | {OPEN: "gradient {}", PARTLY: "partly cut; only {} arrives"}
    fates = {id(t): words[flow.to_the_cost(t)] for t in targets}
    reached = [t for t in targets if "{}" in fates[id(t)]]
    if reached and explain(cost, targets).problems:
        return fates | {id(t): REFUSED for t in reached}
    biased = [t for t in reached if id(t) in flow.biased and fates[id(t)].startswith("gradient")]
    return fates | {id(t): f"biased {fates[id(t)]}" for t in biased}


def _with_numbers(cost: Tensor, targets: Sequence[Tensor], fates: dict[int, str]) -> dict[int, str]:
    """Return the fates with the gradients in them.

    Along the open ways alone the gradient is that of the graph in which every draw is a constant.
    """
    reached = [t for t in targets if "{}" in fates.get(id(t), "")]
    if not reached:
        return fates
    fixed, *ends = rewrite([cost, *reached], lambda node, _: Tensor(node.value) if isinstance(node, Sample) else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasedGradientWarning)  # it is written in the box instead
        found = gradients(fixed, ends)
    return fates | {id(t): fates[id(t)].format(gradient_in_short(g)) for t, g in zip(reached, found, strict=True)}


def gradient_in_short(g: Any) -> str:
    """Return a number as it is, and of an array its norm."""
    g = to_host(g)
    return f"{g.item():.4g}" if g.ndim == 0 else f"of norm {np.linalg.norm(g):.3g}"


# ------------------------------------------------------------------------------------------------- folding


def _count(groups: dict[int, list[Tensor]]) -> int:
    return len({id(group) for group in groups.values()})


def _join(groups: dict[int, list[Tensor]], node: Tensor, other: Tensor) -> None:
    """Put the boxes of two nodes into one."""
    group, more = groups[id(node)], groups[id(other)]
    if group is not more:
        group += more
        groups.update({id(x): group for x in more})


def _folded_into(node: Tensor) -> Tensor | None:
    """Return the input that an op of bookkeeping, or the sum with a zero, is drawn with."""
    tensors = [x for x in node.inputs if isinstance(x, Tensor)]
    is_zero = node.op is add and any(isinstance(x, (int, float)) and x == 0 for x in node.inputs)
    return tensors[0] if tensors and (node.op in FOLDED or is_zero) else None


def _consumers(order: Sequence[Tensor]) -> dict[int, list[Tensor]]:
    consumers: dict[int, list[Tensor]] = {id(node): [] for node in order}
    for node in order:
        for x in node.inputs:
            if isinstance(x, Tensor):
                consumers[id(x)].append(node)
    return consumers


def _fold_linear_layers(order: Sequence[Tensor], groups: dict[int, list[Tensor]]) -> None:
    """Make one box of ``x @ weight + bias``, and of the activation after it, where the two names share their prefix."""
    consumers = _consumers(order)
    for node in order:
        for parts in _layer_parts(node, consumers):
            for x in parts:
                _join(groups, node, x)
            if len(consumers[id(node)]) == 1 and _is_activation(consumers[id(node)][0]):
                _join(groups, consumers[id(node)][0], node)


def _layer_parts(node: Tensor, consumers: dict[int, list[Tensor]]) -> Iterator[list[Tensor]]:
    """Yield what belongs to a linear layer that the node is the result of, and to nothing else."""
    if node.op is linear:
        candidates: list[tuple[Any, Any, list[Tensor]]] = [(node.inputs[1], node.inputs[2], [])]
    elif node.op is add and all(isinstance(x, Tensor) for x in node.inputs):
        pairs = ((a, b) for a, b in (node.inputs, node.inputs[::-1]) if a.op is matmul and len(consumers[id(a)]) == 1)
        candidates = [(factor, bias, [product]) for product, bias in pairs for factor in product.inputs]
    else:
        return
    for factor, bias, product in candidates:
        weight = factor
        while isinstance(weight, Tensor) and weight.op in (matrix_transpose, permute_dims):
            weight = weight.inputs[0]
        if isinstance(weight, Tensor) and isinstance(bias, Tensor) and _share_a_prefix(weight, bias):
            own = [x for x in dict.fromkeys((factor, weight, bias)) if len(consumers[id(x)]) == 1]
            yield [*product, *own]


def _is_activation(node: Tensor) -> bool:
    return node.op is not None and node.op.elementwise and len(node.inputs) == 1 and not node.name


def _share_a_prefix(weight: Tensor, bias: Tensor) -> bool:
    prefix = (bias.name or "").rpartition(".")[0]
    return weight.op is None and bias.op is None and prefix != "" and (weight.name or "").rpartition(".")[0] == prefix


def _fold_expressions(order: Sequence[Tensor], groups: dict[int, list[Tensor]]) -> None:
    """Draw an operation inside the one that uses it, where no other does; the terms of the cost stay apart."""
    consumers = _consumers(order)
    apart = _terms(order[-1])
    plain = {id(x) for group in groups.values() if _is_plain(group) for x in group}
    noted = {id(x) for group in groups.values() if any(x.op is taken_care_of for x in group) for x in group}
    for node in reversed(order):
        group = groups[id(node)]
        if id(node) not in plain or id(node) in noted or id(node) in apart or head_of(group) is not node:
            continue
        users = {id(groups[id(u)]): u for x in group for u in consumers[id(x)] if groups[id(u)] is not group}
        if len(users) == 1:
            (user,) = users.values()
            if id(user) in plain:
                _join(groups, user, node)


def _is_plain(group: list[Tensor]) -> bool:
    """Return whether a box holds unnamed operations only, none of them random and none a matrix product."""
    return all(
        x.op not in (None, linear, matmul) and not isinstance(x, Sample) and (not x.name or x.op is taken_care_of)
        for x in group
    )


def head_of(group: list[Tensor]) -> Tensor:
    """Return the node that a box shows: the last that does more than keep books."""
    return next((x for x in reversed(group) if _folded_into(x) is None), group[-1])


def _terms(cost: Tensor) -> set[int]:
    """Return the terms that the cost is the sum of."""
    node = cost
    while node.op in (mean, sum_op, negative) and isinstance(node.inputs[0], Tensor):
        node = node.inputs[0]
    terms, rest = set(), [node]
    while rest:
        node = rest.pop()
        if node.op in (add, subtract):
            rest += [x for x in node.inputs if isinstance(x, Tensor)]
        elif node is not cost:
            terms.add(id(node))
    return terms


# ------------------------------------------------------------------------------------------- boxes and arrows


def _assemble(
    cost: Tensor,
    order: Sequence[Tensor],
    groups: dict[int, list[Tensor]],
    flow: Flow,
    words: dict[int, str],
    shown: dict[int, str],
) -> Picture:
    position = {id(node): i for i, node in enumerate(order)}
    unique: dict[int, list[Tensor]] = {}
    for node in order:
        unique.setdefault(id(groups[id(node)]), []).append(node)
    by_head = sorted(unique, key=lambda key: position[id(head_of(unique[key]))])
    boxes: list[Box] = []
    number: dict[int, int] = {}
    arrows: dict[Arrow, None] = {}
    for key in by_head:
        group = unique[key]
        incoming: list[tuple[int, str, str]] = []
        members = {id(x) for x in group}
        for node in group:
            for i, x in enumerate(node.inputs):
                if id(x) in members:
                    continue
                if isinstance(x, Tensor):
                    incoming.append((number[id(groups[id(x)])], *flow.along(node, i)))
                elif is_array(x) and np.ndim(x) > 0:
                    if id(x) not in number:
                        number[id(x)] = len(boxes)
                        boxes.append(Box(CONSTANT, "array", value_in_short(x), describe(x), nodes=[x]))
                    incoming.append((number[id(x)], CLOSED, ""))
        number[key] = len(boxes)
        boxes.append(_box(group, flow, words, shown, is_cost=groups[id(cost)] is groups[id(group[0])]))
        arrows.update(dict.fromkeys(Arrow(tail, number[key], state, mark) for tail, state, mark in incoming))
    return Picture(boxes, list(arrows))


def _box(group: list[Tensor], flow: Flow, words: dict[int, str], shown: dict[int, str], is_cost: bool) -> Box:
    """Return the box of some nodes."""
    head = head_of(group)
    made = [x for x in group if _folded_into(x) is None]
    notes = [x.attrs["drawn"] for x in group if x.op is taken_care_of]
    asked = [x for x in group if id(x) in flow.targets]
    kind = _kind(head, made)
    label, value = one_line(_label(kind, head, made, notes)), value_in_short(head.value)
    if is_cost and kind != LEAF:
        label = f"cost: {label}"
    if isinstance(head, Noise):
        value.insert(0, head.law.name)
    if kind == OPERATION and (len(made) > LONGEST_FORMULA or (len(made) > 1 and notes)):
        value.insert(0, f"{len(made)} ops")
    if kind == GROUP:
        value.insert(0, _layer_in_short(made))
    states = {flow.to_the_cost(x) for x in asked}
    state = next((s for s in (CUT, PARTLY, OPEN, CLOSED) if s in states), "")
    one = id(asked[0]) if len(asked) == 1 else 0
    return Box(
        kind,
        label,
        value,
        _detail(head, made, notes),
        state,
        gradient=shown.get(one, "") if one else IN_WORDS.get(state, ""),
        words=words.get(one, "") if one else IN_WORDS.get(state, ""),
        drawn=any(not note.weighs for note in notes),
        arrives=any(id(x) in flow.asked and id(x) in flow.open for x in group),
        nodes=group,
    )


def _kind(head: Tensor, made: list[Tensor]) -> str:
    if head.op is None:
        return NOISE if isinstance(head, Noise) else LEAF
    if isinstance(head, Sample):
        return RANDOM
    return GROUP if any(x.op is None for x in made) else OPERATION


def _label(kind: str, head: Tensor, made: list[Tensor], notes: list[Drawn]) -> str:
    """Return what to call a box: a name that the user gave, or the op."""
    if isinstance(head, Sample):
        return f"{name_of_draw(head.name, head.line)} ~ {_family(head.dist)}"
    if kind == GROUP:
        return next(x.name or "" for x in made if x.op is None).rpartition(".")[0]
    if kind != OPERATION:
        return "noise" if kind == NOISE else head.name or "leaf"
    if notes:
        name = name_of_draw(notes[-1].name, notes[-1].line)
        return f"log p({name})" if notes[-1].estimator == "score-function" else f"{name} ({notes[-1].estimator})"
    return head.name or label_of_ops(head, made)


def label_of_ops(head: Tensor, made: Sequence[Tensor]) -> str:
    """Return one op in a sign with its numbers, a few as a formula, and of many the last."""
    return _bare(_formula(head, made)) if 1 < len(made) <= LONGEST_FORMULA else _symbol(head)


def _layer_in_short(made: list[Tensor]) -> str:
    """Return the sizes of a linear layer, and its activation: ``64 → 16, relu``."""
    product = next(x for x in made if x.op in (linear, matmul))
    sizes = f"{product.inputs[0].shape[-1]} → {product.shape[-1]}"
    return ", ".join([sizes, *(x.op.name for x in made if x.op and _is_activation(x))])


def _detail(head: Tensor, made: list[Tensor], notes: list[Drawn]) -> str:
    """Return what a tooltip says of a box."""
    if isinstance(head, Sample):
        return one_line(f"{head.dist!s}, drawn at {head.line}", LONGEST_DETAIL)
    if isinstance(head, Noise):
        return one_line(f"{head.name or 'noise'}, {head.law.name}", LONGEST_DETAIL)
    if head.op is None:
        return one_line(f"{head.name or 'leaf'}: {describe(head.value)}", LONGEST_DETAIL)
    counted = Counter(x.op.name for x in made if x.op)
    ops = [f"{name} {n} times" if n > 1 else name for name, n in counted.items()]
    return one_line("; ".join([*(repr(note) for note in notes), ", ".join(ops)]), LONGEST_DETAIL)


def one_line(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return a text that any of the formats can hold: without control characters, and not too long.

    >>> one_line("a\\nb", 40), one_line("encoder.layers.0.weight", 10)
    ('a b', 'encoder.l…')
    """
    if not isinstance(text, str):
        raise TypeError(f"draw: a title is text, found {describe(text)}")
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"


def _family(dist: Any) -> str:
    """Return the name of a law, and for one that wraps another that of the innermost."""
    while hasattr(dist, "base"):
        dist = dist.base
    return type(dist).__name__


def _symbol(node: Tensor) -> str:
    """Return an op in a word or a sign, with the numbers among its inputs: ``× 0.5``."""
    assert node.op is not None
    name = SYMBOLS.get(node.op.name, node.op.name)
    numbers = {
        i: f"{as_array(x).item():.4g}"
        for i, x in enumerate(node.inputs)
        if not isinstance(x, Tensor) and not np.ndim(x)
    }
    if not numbers:
        return name
    if node.op.name in SYMBOLS:
        return f"{numbers[0]} {name}" if 0 in numbers else f"{name} {numbers[1]}"
    return f"{name}({', '.join(numbers.get(i, '·') for i in range(len(node.inputs)))})"


def _formula(node: Any, made: Sequence[Tensor]) -> str:
    """Return what some ops compute, with a dot for what comes from elsewhere: ``exp(0.5 × ·)``."""
    while isinstance(node, Tensor) and _folded_into(node) is not None:
        node = _folded_into(node)
    if not any(node is x for x in made):
        return "·" if isinstance(node, Tensor) or np.ndim(node) else f"{as_array(node).item():.4g}"
    parts = [_formula(x, made) for x in node.inputs]
    name = node.op.name
    if name == "negative":
        return f"−{parts[0]}"  # noqa: RUF001
    if name in SYMBOLS:
        return f"({parts[0]} {SYMBOLS[name]} {parts[1]})"
    return f"{name}({', '.join(map(_bare, parts))})"


def _bare(formula: str) -> str:
    """Return a formula without parentheses around the whole of it."""
    return formula[1:-1] if formula.startswith("(") else formula


def value_in_short(value: Any) -> list[str]:
    """Return a number as it is, an array as its shape and mean, or the one number that it is full of.

    >>> value_in_short(np.ones((2, 3))), value_in_short(np.arange(3.0))
    (['(2, 3)', 'all 1'], ['(3,)', 'mean 1'])
    """
    array = to_host(value)
    if array.ndim == 0:
        return [str(array.item()) if array.dtype.kind in "b" else f"{array.item():.4g}"]
    if not array.size:
        return [str(array.shape)]
    if array.size > 1 and (array == array.flat[0]).all():
        return [str(array.shape), f"all {array.flat[0]:.3g}"]
    with np.errstate(all="ignore"):
        return [str(array.shape), f"mean {np.mean(array):.3g}"]
