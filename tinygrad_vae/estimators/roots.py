"""Where a comparison flips: its root in one element of a draw, all other random numbers held fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import (
    Array,
    InvalidGradientError,
    Noise,
    Sample,
    Tensor,
    Value,
    gradients,
    namespace,
    rewrite,
    to_numpy,
    topological_order,
    trees,
)
from ..distributions.batch_axes import axes_kept_apart, structure_of
from ..guard.axes import Labels, along, surviving_axes
from ..guard.names import name_of_draw, op_in_words
from ..guard.paths import downstream, path_after
from ..guard.ranges import range_of
from ..ops import identity, subtract, sum, where
from ..ops.declare import STOP, op
from ..ops.ranges import ABOVE_ZERO
from .elements import has_dependent_draws, positions
from .estimator import LARGEST

MOST_STEPS = 200
"""How many steps the search for a root may take; from the twentieth on, every second one halves the bracket."""

FLAT = 1e-200
"""A slope that is known to be no larger than this may be 0 along a part of the line, where there is a kink."""


@dataclass(frozen=True)
class Edge:
    """Some elements of a comparison, and one element of the draw for each of them, in which it flips once."""

    c: Tensor
    part: Array  # which elements of the comparison, over its axes
    mask: Array  # which elements of the draw, over its axes
    above: Tensor  # what is above 0 where the comparison holds, along the axes of the draw
    rate: Tensor  # its derivative in the element of the draw
    rising: Array  # whether that is positive
    straight: bool  # whether that does not depend on the draw
    to_cost: Labels  # the axes of the draw that the axes of the cost carry


def edges(c: Tensor, z: Sample, cost: Tensor) -> Iterator[Edge]:
    """Yield the edges of a comparison. Elements along an axis that the cost keeps apart are taken together.

    ``InvalidGradientError``: the comparison is not known to flip exactly once in one element of the draw.
    """
    of_c, of_z = surviving_axes(cost, c), surviving_axes(cost, z)
    common = {b: a for b, a in zip(of_z, of_c, strict=True) if b is not None and a is not None}
    parts, masks = (
        list(positions([1 if a in kept else n for a, n in enumerate(x.shape)], x.value))
        for x, kept in ((c, set(common.values())), (z, set(common)))
    )
    words = f"{op_in_words(c)}, which {name_of_draw(z)} decides"
    if 2 * len(parts) > LARGEST:
        raise InvalidGradientError(
            f"{words}: the cost mixes {len(parts)} elements of it, each of which takes two copies of the cost, more "
            f"than {LARGEST}; let the cost keep the axis of the examples, and average it after the estimator"
        )
    if has_dependent_draws(z) and 0 not in common:
        raise InvalidGradientError(f"{words}: the draws depend on each other, and the cost joins them")
    difference = subtract(c.inputs[1], c.inputs[0])
    if any(STOP in kinds for _, kinds in downstream(topological_order([difference]), z, ends=())):
        raise InvalidGradientError(f"{words}, depends on it through stop_gradient too, whose slope is not known")
    random = any(isinstance(x, Noise | Sample) and x is not z and x is not z.noise for x in behind(difference))
    shared = random or len(masks) > 1  # other random numbers meet the element that the comparison is solved in
    least = FLAT if path_after(z, difference).kinks else -ABOVE_ZERO  # a smooth function has no flat part
    for part in parts if z.size else ():
        picked = difference if len(parts) == 1 else where(part, difference, 0.0)
        above = along(picked, tuple(common.get(b) for b in range(z.ndim)))
        slopes = gradients(sum(above), z, record=True)
        straight = all(node is not z for node in topological_order([slopes]))
        for mask in reversed(masks):  # the last element of the draw that will do
            rate = only(mask, slopes)
            if not np.any(rate.value):
                continue
            (low, high), touches = range_of(rate)  # for all random numbers, or the root might leap from end to end
            low, high = (np.broadcast_to(end, rate.shape) for end in (low, high))
            never = (to_numpy(rate.value) == 0) & (low <= ABOVE_ZERO) & (high >= -ABOVE_ZERO)
            strict = np.all(never | (low > least) | (high < -least))
            if strict and not (shared and (touches or np.any(never))):
                to_cost = tuple(b if b in common else None for b in of_z)
                yield Edge(c, part, mask, above, rate, high > 0, straight, to_cost)
                break
        else:
            if straight and not random and not np.any(slopes.value):
                continue  # it does not depend on the draw after all
            raise InvalidGradientError(
                f"{words}, is not known to be strictly monotone in one element of the draw, so that it may have "
                "several roots"
            )


def behind(top: Tensor) -> list[Tensor]:
    """Return what a node is computed from, as far as the draws before it, inputs first."""
    seen, stack = {id(top)}, [top]
    while stack:
        node = stack.pop()
        for x in node.inputs if not isinstance(node, Sample) else ():
            if isinstance(x, Tensor) and id(x) not in seen:
                seen.add(id(x))
                stack.append(x)
    return [node for node in topological_order([top]) if id(node) in seen]


def only(mask: Array, x: Value) -> Any:
    """Return the elements of x that the mask picks, with length 1 along the axes that it picks from."""
    mixed = tuple(a for a, n in enumerate(mask.shape) if n > 1)
    return sum(where(mask, x, 0.0), axis=mixed, keepdims=True) if mixed else x


@dataclass(frozen=True, eq=False, repr=False)
class Condition:
    """What is above 0 where a comparison holds, and its slope, as a function of the element of a draw."""

    tops: tuple[Tensor, Tensor]
    order: list[Tensor]  # what depends on the element
    inputs: list[Tensor]  # the element, and what it meets

    def __call__(self, *values: Array) -> tuple[Array, Array]:
        found: dict[int, Any] = {id(x): value for x, value in zip(self.inputs, values, strict=True)}
        for node in self.order:
            values = tuple(found.get(id(x), x) for x in node.inputs)
            found[id(node)] = node.op.forward(*values, **node.attrs)  # type: ignore[union-attr]
        return found[id(self.tops[0])], found[id(self.tops[1])]

    def __repr__(self) -> str:  # for plans, which compare two recordings of one step
        return " ".join(node.op.name for node in self.order if node.op)


def root_of(edge: Edge, z: Sample, here: Value) -> Tensor:
    """Return the root of an edge inside the support of z, and NaN where it has none; a constant to every gradient."""
    attrs = {"dist": structure_of(z.dist.element), "condition": None, "rising": None}
    parameters = trees.leaves(z.dist.element)
    if edge.straight:
        return root_of_condition.record((here - edge.above / where(edge.rate == 0, 1.0, edge.rate), *parameters), attrs)
    at = identity.record((z.value,), {})
    tops = rewrite((edge.above, edge.rate), lambda node, _: where(edge.mask, at, z) if node is z else None)
    order = [node for node, _ in downstream(topological_order(tops), at, ends=())]
    moved = {id(at), *map(id, order)}
    free = {id(x): x for node in order for x in node.inputs if isinstance(x, Tensor) and id(x) not in moved}
    attrs |= {"condition": Condition(tops, order, [at, *free.values()]), "rising": edge.rising}
    return root_of_condition.record((here, *parameters, *free.values()), attrs)


def _axes_of_root(i: int, labels: Labels, y: Value, *inputs: Value, dist: Any, **_: Any) -> Labels:
    if i > len(trees.leaves(dist)):
        return (None,) * len(y.shape)
    return axes_kept_apart(labels, inputs[i], y.shape, dist.parameter_event_ndims()[i - 1] if i else 0, 0)


@op(None, smoothness=STOP, axes=_axes_of_root)
def root_of_condition(*inputs: Value, dist: Any, condition: Condition | None, rising: Array | None) -> Value:
    """The number inside the support of a distribution at which a monotone condition is 0; NaN where there is none.

    The first input is the number if ``condition`` is ``None``, and else where to begin. The parameters of
    the distribution come next, then the inputs of the condition.
    """
    x, *others = inputs
    count, xp = len(trees.leaves(dist)), namespace(x)
    low, high = (xp.asarray(end) for end in trees.replace_leaves(dist, others[:count]).support.bounds)
    if condition is None or rising is None:
        return xp.where((x > low) & (x < high), x, xp.asarray(np.nan, x.dtype))
    return _solved(lambda number: condition(number, *others[count:]), xp.asarray(rising), x, low, high)


def _solved(f: Callable[[Array], tuple[Array, Array]], rising: Array, start: Array, low: Array, high: Array) -> Array:
    """Return the root of a monotone function, by Newton's method inside a bracket; NaN where it keeps its sign."""
    xp, x, precision = namespace(start), start, np.finfo(start.dtype)
    ends = (xp.clip(end, -precision.max / 4, precision.max / 4).astype(x.dtype) for end in (low, high))
    least, most = (xp.broadcast_to(end, x.shape) for end in ends)

    def is_short(at: Array) -> Array:
        return (f(xp.clip(at, low, high))[0] < 0) == rising

    with np.errstate(all="ignore"):
        for k in range(MOST_STEPS):
            value, rate = f(x)
            short = (value < 0) == rising
            least, most = xp.where(short, x, least), xp.where(short, most, x)
            newton, middle = x - value / rate, np.sinh(0.5 * (np.arcsinh(least) + np.arcsinh(most)))
            inside = (newton >= least) & (newton <= most)
            done = inside & (abs(newton - x) <= precision.eps**0.75 * (abs(x) + abs(start)))
            x = xp.where(done | (inside if k < 20 or k % 2 else False), newton, middle)
            if bool((done | (middle <= least) | (middle >= most)).all()):
                break
        near = precision.eps ** (2 / 3) * (abs(x) + abs(start))
        return xp.where(is_short(x - near) & ~is_short(x + near), x, xp.asarray(np.nan, x.dtype))
