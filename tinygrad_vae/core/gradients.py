"""Backprop: the nodes in order, the chain rule run over them from the output back, and the four ops that it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from . import trees, words
from .arrays import Value, as_array, owned
from .tensor import BLOCKED, Op, Tensor

Tree = TypeVar("Tree")
Marking = Callable[[list[Tensor]], list[Tensor]]


def topological_order(roots: Sequence[Tensor]) -> list[Tensor]:
    """Return every node that the roots depend on, inputs before the nodes made from them.

    A stack takes the place of recursion: a graph may be a million nodes deep.
    """
    order: list[Tensor] = []
    seen: set[int] = set()
    stack: list[Tensor | None] = list(roots)
    while stack:
        node = stack.pop()
        if node is None:  # all inputs of the next node have been placed
            order.append(stack.pop())  # type: ignore[arg-type]
        elif id(node) not in seen:
            seen.add(id(node))
            if not node.inputs:
                order.append(node)
                continue
            stack += (node, None)
            stack += [x for x in node.inputs if isinstance(x, Tensor) and id(x) not in seen]
    return order


class GradientRefusedError(RuntimeError):
    """A gradient was asked for that would have been silently wrong."""


class InvalidGradientError(GradientRefusedError):
    """The gradient would be wrong: the cost jumps after a draw, or the conditions of an estimator do not hold."""


class BlockedGradientError(GradientRefusedError):
    """The gradient would have to pass through a node without a derivative. The message is written when it is read."""

    def __init__(self, node: Tensor, output: Tensor, wrt: Sequence[Tensor]) -> None:
        super().__init__(node, output, wrt)

    def __str__(self) -> str:
        return guard.report(*self.args)

    def __reduce__(self) -> Any:
        return GradientRefusedError, (str(self),)  # a pickle carries the message, not the graph


class Guard:
    """Looks at a gradient before it is taken. This one lets everything pass; ``guard/`` installs a stricter one."""

    def look(self, order: list[Tensor], wrt: Sequence[Tensor], cotangent: Value) -> Marking | None:
        """Raise if the gradient would be wrong. May return a function that marks recorded ones, for a later look."""
        return None

    def report(self, node: Tensor, output: Tensor, wrt: Sequence[Tensor]) -> str:
        """Say why the gradient is blocked."""
        return f"{node!r} has a value and no derivative, and stands between the output and its parameters"


guard = Guard()


def install(new: Guard) -> None:
    """Let a guard look at every gradient from now on."""
    global guard
    guard = new


def gradients(output: Tensor, wrt: Tree, *, cotangent: Value | None = None, record: bool = False) -> Tree:
    """Return the gradient of ``output`` with respect to each Tensor in ``wrt``.

    Reverse mode: the derivative of the output in a node x is ``g(x) = sum over the nodes y made from x of vjp(g(y))``,
    beginning with ``g(output) = 1``; each node comes after all those made from it.

    Args:
        output: a Tensor without axes, or any Tensor together with ``cotangent``.
        wrt: a Tensor or a tree of Tensors (a list, a dict, a model); leaves or nodes in between.
        cotangent: weights for the elements of the output, of its shape.
        record: return Tensors that can be differentiated again, instead of arrays.

    Returns:
        The structure of ``wrt``, each gradient in the shape and dtype of its Tensor; zeros where nothing depends on it.

    Raises:
        BlockedGradientError: a path from ``wrt`` to the output runs through a random draw.
        InvalidGradientError: the gradient would be wrong for another reason.
        TypeError, ValueError: the output is no Tensor or has axes; or ``wrt`` holds anything but Tensors of floats.

    >>> x = Tensor(np.array([1.0, 2.0]))
    >>> gradients(tg.sum(x * x), [x])
    [array([2., 4.])]
    """
    targets = trees.leaves(wrt)
    if cotangent is not None and not isinstance(cotangent, Tensor):
        cotangent = as_array(cotangent)
    words.check_request(output, targets, cotangent, Tensor)
    seed = np.ones_like(output.value) if cotangent is None else astype(cotangent, output.dtype)
    order = topological_order([output])
    mark_recorded = guard.look(order, targets, seed)
    wanted = {id(t) for t in targets}
    reached = set(wanted)
    steps: list[tuple[Tensor, list[int]]] = []  # the nodes made from wrt, each with the inputs on the way to wrt
    for node in order:
        if node.op and (node.value.dtype.kind == "f" or BLOCKED in node.op.vjps):  # integers: constants, unless drawn
            vjps = node.op.vjps if not node.op.variadic else node.op.vjps * len(node.inputs)
            ways = [i for i, x in enumerate(node.inputs) if id(x) in reached and vjps[i] is not None]
            if ways:
                reached.add(id(node))
                steps.append((node, ways))
    if not steps:
        words.check_reached(targets, order)
    cotangents: dict[int, Value] = {id(output): seed}  # of each node: the derivative of the output in it
    for node, ways in reversed(steps):
        key, op = id(node), node.op
        g = cotangents.get(key) if key in wanted else cotangents.pop(key, None)
        if g is None or op is None:
            continue  # the output does not depend on this node
        y: Value = node if record else node.value
        inputs = node.inputs if record else [x.value if isinstance(x, Tensor) else x for x in node.inputs]
        for i in ways:
            if op.vjp_of(i) is BLOCKED:
                raise BlockedGradientError(node, output, targets)  # backprop stops here: there is no vjp to call
            gx, to = pull_back(op, i, g, y, inputs, node.attrs), id(node.inputs[i])
            cotangents[to] = add(cotangents[to], gx) if to in cotangents else gx
    found = [cotangents[id(t)] if id(t) in cotangents else np.zeros_like(t.value) for t in targets]
    if not record:
        return trees.replace_leaves(wrt, owned(found, {id(cotangent)}))
    found = [g if isinstance(g, Tensor) else Tensor(g) for g in found]
    return trees.replace_leaves(wrt, mark_recorded(found) if mark_recorded else found)


def pull_back(op: Op[..., Any], i: int, g: Value, y: Value, inputs: Sequence[Value], attrs: Mapping[str, Any]) -> Value:
    """Return the cotangent of input ``i``, in that input's shape and dtype; ``g`` is the cotangent of the output."""
    vjp: Any = op.vjp_of(i)
    gx = vjp(i, g, y, *inputs, **attrs) if op.variadic else vjp(g, y, *inputs, **attrs)
    x = inputs[i]
    if gx.shape != x.shape:
        if not op.elementwise:
            raise ValueError(
                f"the vjp of {op.name} in {op.input_name(i)} gave shape {gx.shape} for an input of shape {x.shape}; "
                "a cotangent has the shape of its input"
            )
        gx = sum_to(gx, x.shape)  # broadcasting is undone here, and only here
    return gx if gx.dtype == x.dtype else astype(gx, x.dtype)


def _add(x: Value, y: Value, /) -> Value:
    return np.add(x, y)


def _astype(x: Value, /, dtype: Any) -> Value:
    return np.asarray(x).astype(dtype) if isinstance(x, (bool, int, float)) else x.astype(dtype)


def _sum_to(x: Value, /, shape: tuple[int, ...]) -> Value:
    extra = x.ndim - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[extra:], strict=True)):
        raise ValueError(f"an array of shape {x.shape} does not come from broadcasting shape {shape}")
    axes = (*range(extra), *(extra + a for a, n in enumerate(shape) if n == 1 and x.shape[extra + a] != 1))
    return np.reshape(np.sum(x, axis=axes), shape) if axes else x


def _broadcast_to(x: Value, /, shape: tuple[int, ...]) -> Value:
    return np.broadcast_to(x, shape)


add: Op[..., Any] = Op(_add, [lambda g, z, x, y: g, lambda g, z, x, y: g], elementwise=True)
astype: Op[..., Any] = Op(_astype, [lambda g, y, x, dtype: astype(g, x.dtype)])
sum_to: Op[..., Any] = Op(_sum_to, [lambda g, y, x, shape: broadcast_to(g, x.shape)])
broadcast_to: Op[..., Any] = Op(_broadcast_to, [lambda g, y, x, shape: sum_to(g, x.shape)])
