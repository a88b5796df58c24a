"""Values from a world that is no graph: a simulator, a game, somebody who says what a choice was worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .core import Array, Tensor, Value, as_array, make_node, value_of
from .ops.declare import JUMP, Labels, case, example, op
from .refusals import refuse_gradient

_NO_DERIVATIVE = (
    "a world outside of the graph has no derivative, so the gradient through its inputs is lost. Give it draws of "
    "sample(...), such as the choices of a policy, and use score_function(cost); or cut on purpose with stop_gradient"
)


def _axes(i: int, labels: Labels, y: Value, *inputs: Value, apart: int, **_: Any) -> Labels:
    own = inputs[i].shape[:apart]
    return tuple(labels[a] if a < len(own) and own[a] == n and n > 1 else None for a, n in enumerate(y.shape))


@op(
    None,
    smoothness=JUMP,
    axes=_axes,
    cases=[case((3, 2), (3,), world=lambda x, y: x.sum(axis=1) > y, part=None, apart=1)],
)
@example("from_outside(2.0, world=lambda x: (x, -x), part=1, apart=0) = -2.0")
def from_outside(*inputs: Value, world: Callable[..., Any], part: int | None, apart: int) -> Value:
    """``world(*inputs)``, or one part of it where it returns several: what ``outside`` records."""
    found = world(*inputs)
    return found if part is None else found[part]


def outside(world: Callable[..., Any] | Array, *inputs: Value, apart: int = 1) -> Any:
    """Return ``world(*inputs)``, as Tensors if an input is one: the graph knows their inputs, and no derivative.

    ``score_function`` and its kin need no more, since they ask how probable the draws were. An estimator that compares
    the cost at several draws calls the world again, so it must be a function of its inputs alone: give it the state.

    Args:
        world: a function of arrays that returns an array, or a tuple of them; or the array that came back, such as a
            reward. The array is known for these inputs alone, and an estimator that asks for others is an error.
        inputs: draws, states, arrays.
        apart: how many leading axes of inputs and values count examples, each of which depends on its own inputs only.
            0 if they mix, so that each is credited with the luck of all.

    Raises:
        TypeError: the world returns something else than arrays of numbers.

    >>> logits = tg.Tensor(np.zeros(4), "logits")
    >>> arm = tg.Bernoulli(logits=logits).sample(rng=tg.noise(0), name="arm")
    >>> cost = tg.outside(lambda arm: np.where(arm > 0, 3.0, 1.0), arm)
    >>> tg.gradients(tg.sum(tg.estimate(cost, {"arm": "triples"})), logits)
    array([0.5, 0.5, 0.5, 0.5])

    >>> reward = np.array([1.0, 0.0, 0.5, 1.0])  # of a game that is over
    >>> tg.gradients(tg.mean(tg.score_function(tg.outside(-reward, arm))), logits).shape
    (4,)
    """
    values = [value_of(x) for x in inputs]
    if not callable(world):
        world = _Known(as_array(world), values)
    found = world(*values)
    several = isinstance(found, (tuple, list))
    if not any(isinstance(x, Tensor) for x in inputs):
        return found
    given = tuple(
        refuse_gradient(x, reason=_NO_DERIVATIVE) if isinstance(x, Tensor) and x.dtype.kind == "f" else x
        for x in inputs
    )
    nodes = [
        make_node(as_array(value), from_outside, given, {"world": world, "part": part, "apart": apart})
        for part, value in (enumerate(found) if several else [(None, found)])
    ]
    return tuple(nodes) if several else nodes[0]


class _Known:
    """A world that has answered once."""

    def __init__(self, answer: Array, inputs: Sequence[Array]) -> None:
        self.answer, self.inputs = answer, inputs

    def __repr__(self) -> str:
        return "an answer that is known for one draw"

    def __call__(self, *inputs: Array) -> Array:
        if not all(np.array_equal(a, b) for a, b in zip(inputs, self.inputs, strict=True)):
            raise ValueError(
                "the value was given as an array, which is known for the draws that it came from, and others were "
                "asked for; use score_function(cost), or give tg.outside the function"
            )
        return self.answer
