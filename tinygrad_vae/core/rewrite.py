"""From graph to graph: rewrite, replay, and the reparameterization trick, which is a rewrite with a short rule."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from . import trees
from .arrays import Array, Value, describe
from .gradients import topological_order
from .sample import Sample, SourceLine
from .tensor import Op, Tensor, make_node, value_of

Tree = TypeVar("Tree")


def rewrite(roots: Tree, rule: Callable[[Tensor, tuple[Any, ...]], Tensor | None]) -> Tree:
    """Return the graph of ``roots`` with some nodes replaced; the original graph is left alone.

    From the leaves up, ``rule(node, inputs)`` is called with each node and its rewritten inputs. It returns the new
    node, or ``None`` to keep the old one. A kept node whose inputs are unchanged is shared with the original. If
    they are other nodes with the very same values, its value is kept, bit for bit; if not, it is computed again.

    >>> x = Tensor(2.0)
    >>> swap = rewrite(tg.sin(x) + 1, lambda node, inputs: tg.cos(*inputs) if node.op is tg.sin else None)
    >>> round(float(swap.value), 4)
    0.5839
    """
    tops = trees.leaves(roots)
    for top in tops:
        if not isinstance(top, Tensor):
            raise TypeError(f"rewrite takes Tensors, found {describe(top)}, which records nothing")
    new: dict[int, Tensor] = {}
    for node in topological_order(tops):
        inputs = tuple([new.get(id(x), x) for x in node.inputs])
        made = rule(node, inputs)
        new[id(node)] = _with_inputs(node, inputs) if made is None else made
    return trees.replace_leaves(roots, [new[id(top)] for top in tops])


def _with_inputs(node: Tensor, inputs: tuple[Any, ...]) -> Tensor:
    pairs = list(zip(inputs, node.inputs, strict=True))
    if node.op is None or all(a is b for a, b in pairs):
        return node
    if all(value_of(a) is value_of(b) for a, b in pairs):
        return make_node(node.value, node.op, inputs, node.attrs, node.name, type(node))
    return node.op.record(inputs, node.attrs, node.name)


def replay(roots: Tree, swaps: Mapping[Tensor, Tensor | Array]) -> Tree:
    """Return the graph computed again with some nodes swapped for other nodes, or some leaves for arrays.

    The same noise with other parameters gives common random numbers; other noise gives a new draw.
    An array becomes a leaf of the same name. A node that is not part of the graph is a ValueError.

    >>> x = Tensor(2.0)
    >>> float(replay(x * x, {x: 5.0}).value)
    25.0
    """
    present = {id(node) for node in topological_order(trees.leaves(roots))}
    new: dict[int, Tensor] = {}
    for old, other in swaps.items():
        if id(old) not in present:
            raise ValueError(f"replay: {old!r} is not part of the graph; swap a node that the roots were computed from")
        if other is old.value:  # it may have been edited in place: a copy has what depends on it computed again
            other = other.copy()
        new[id(old)] = other if isinstance(other, Tensor) else old.with_value(other)
    return rewrite(roots, lambda node, inputs: new.get(id(node)))


def reparameterize(cost: Tensor) -> Tensor:
    """Put the transform of every draw into the graph: ``z = loc + scale * noise`` in the place of a number.

    The noise does not depend on the parameters, so ``d/dtheta E f(g(noise, theta)) = E d/dtheta f(g(noise, theta))``:
    what is random is now a leaf, and from the parameters to the cost there are only ops with a derivative. It is the
    same draw, and every value stays what it was, bit for bit. Draws whose transform has no derivative (discrete ones)
    stay blocked: ``score_function`` of the result takes care of them.

    >>> mu = tg.Tensor(2.0, "mu")
    >>> x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    >>> gradient, = tg.gradients(tg.reparameterize(x * x), [mu])
    >>> bool(gradient == 2 * x.value)
    True
    """

    def open_draw(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        return opened(node, inputs) if isinstance(node, Sample) and node.dist.path is not None else None

    return rewrite(cost, open_draw)


def opened(z: Sample, inputs: tuple[Any, ...], drawn: Drawn | None = None) -> Tensor:
    """Return the draw with its transform in the graph. This is the trick: sampling made the same call on arrays."""
    noise, *parameters = inputs  # Tensors, so that dist.transform(noise) records its steps
    dist = trees.replace_leaves(z.attrs["dist"], parameters)
    drawn = drawn or Drawn(z.name, str(dist), z.line, "pathwise")
    return make_node(z.value, handled_draw, (dist.transform(noise),), {"drawn": drawn}, z.name)


@dataclass(frozen=True)
class Drawn:
    """What is remembered of a random node once an estimator has taken care of it."""

    name: str | None
    dist: str
    line: SourceLine
    estimator: str
    note: str = ""
    weighs: bool = False  # the estimator weighed the whole cost, which may only be summed from there on
    biased: str = ""  # why the gradient is wrong on average, if it is
    origin: Hashable = None  # shared by everything that was made of one draw

    def __repr__(self) -> str:
        return f"{self.estimator} for {self.name or 'a draw'} at {self.line}"


def _handled_draw(x: Value, /, *, drawn: Drawn) -> Value:
    """Return ``x``, an opened draw or its log-probability, and remember which draw and estimator. Derivative 1."""
    return x


handled_draw = Op(_handled_draw, [lambda g, y, x, *, drawn: g])
