"""Ops that move elements without computing: shapes, axes, joining, repeating; and arrays shaped like another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import core
from ..core import Array, Tensor, Value, as_array, namespace, value_of
from . import ranges
from .declare import Labels, case, declare, example, op


def all_but_axis(i: int, labels: Labels, y: Value, *inputs: Value, axis: int | None, **_: Any) -> Labels:
    """Every axis stays unmixed but ``axis``, or the only one."""
    return tuple(None if a == (axis or 0) % len(labels) else label for a, label in enumerate(labels))


def _axes_of_reshape(i: int, labels: Labels, y: Value, x: Value, *_: Any, **__: Any) -> Labels:
    """An axis is kept if its length and the number of elements before it are the same; of length 1, only in front."""
    own = {
        (math.prod(x.shape[:a]), n): label for a, (n, label) in enumerate(zip(x.shape, labels, strict=True)) if n > 1
    }
    kept = 0
    while kept < min(len(labels), len(y.shape)) and x.shape[kept] == y.shape[kept]:
        kept += 1
    return labels[:kept] + tuple(own.get((math.prod(y.shape[:c]), y.shape[c])) for c in range(kept, len(y.shape)))


def unmixed_by_broadcast(labels: Labels, shape: tuple[int, ...], result: tuple[int, ...]) -> Labels:
    """Return the labels of the axes of ``shape`` broadcast to ``result``: a repeated axis loses its own."""
    extra = len(result) - len(shape)
    return (None,) * extra + tuple(
        label if n == m else None for label, n, m in zip(labels, shape, result[extra:], strict=True)
    )


@op(
    lambda g, y, x, shape: reshape(g, x.shape),
    linear=True,
    axes=_axes_of_reshape,
    cases=[case((2, 6), shape=(3, 4)), case((4,), shape=(2, -1)), case((2, 1, 3), shape=(2, 3))],
    range=ranges.moved,
)
@example("reshape(np.arange(6.0), (2, 3)).shape = (2, 3)")
def reshape(x: Value, /, shape: tuple[int, ...]) -> Value:
    """The same elements in the same order in another shape; one length may be -1."""
    return np.reshape(x, shape)


@op(
    lambda g, y, x, axes: permute_dims(g, _inverse(axes)),
    linear=True,
    axes=lambda i, labels, y, x, axes: tuple(labels[a] for a in axes),
    cases=[case((2, 3), axes=(1, 0)), case((2, 3, 4), axes=(2, 0, 1)), case((2, 3, 4), axes=(-1, 0, -2))],
    range=ranges.moved,
)
@example("permute_dims(np.ones((2, 3)), (1, 0)).shape = (3, 2)")
def permute_dims(x: Value, /, axes: tuple[int, ...]) -> Value:
    """The axes in another order: axis i of the result is axis ``axes[i]`` of x."""
    return np.transpose(x, axes)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(a) for a in np.argsort([a % len(axes) for a in axes]))


@op(
    lambda g, y, x: matrix_transpose(g),
    linear=True,
    axes=lambda i, labels, y, x: (*labels[:-2], labels[-1], labels[-2]),
    cases=[case((2, 3)), case((2, 3, 4))],
    range=ranges.moved,
)
@example("matrix_transpose(np.ones((5, 2, 3))).shape = (5, 3, 2)")
def matrix_transpose(x: Value, /) -> Value:
    """The last two axes exchanged."""
    return np.swapaxes(x, -1, -2)


def _kept_by_sum_to(i: int, labels: Labels, y: Value, x: Value, shape: tuple[int, ...]) -> Labels:
    extra = len(labels) - len(shape)
    return tuple(label if x.shape[extra + a] == shape[a] else None for a, label in enumerate(labels[extra:]))


broadcast_to = declare(
    core.broadcast_to,
    "x repeated along new axes, and along axes of length 1. Derivative: the sum over the repetitions.",
    "tg.broadcast_to(np.ones(3), (2, 3)).shape = (2, 3)",
    linear=True,
    axes=lambda i, labels, y, x, shape: unmixed_by_broadcast(labels, x.shape, y.shape),
    cases=[case((3,), shape=(2, 3)), case((2, 1), shape=(4, 2, 3)), case((), shape=(2,))],
    range=ranges.moved,
)
sum_to = declare(
    core.sum_to,
    "The sum over everything that ``broadcast_to`` would repeat: its transpose.",
    "tg.sum_to(np.ones((2, 3)), (3,)) = [2. 2. 2.]",
    linear=True,
    axes=_kept_by_sum_to,
    cases=[case((2, 3), shape=(3,)), case((4, 2, 3), shape=(2, 1)), case((2,), shape=())],
    range=ranges.total,
)


def shape_of(x: Value) -> tuple[int, ...]:
    """Return the shape of a Tensor, an array or a number, and raise a TypeError for anything else, such as a list."""
    return tuple(x.shape) if isinstance(x, Tensor) else tuple(as_array(x).shape)


def axis_of(name: str, x: Value, axis: int) -> int:
    """Return an axis of x counted from 0, for the function ``name``, and raise an IndexError if x has no such axis."""
    shape = shape_of(x)
    if not -len(shape) <= axis < len(shape):
        raise IndexError(f"{name}: axis {axis} is out of range for an array of shape {shape}")
    return axis % len(shape)


def _axes(name: str, x: Value, axis: int | Sequence[int] | None) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(len(shape_of(x))))
    return tuple(axis_of(name, x, a) for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))


@example("expand_dims(np.ones(3), axis=0).shape = (1, 3)")
def expand_dims(x: Value, /, *, axis: int) -> Value:
    """x with a new axis of length 1 at ``axis``."""
    shape = shape_of(x)
    if not -len(shape) - 1 <= axis <= len(shape):
        raise IndexError(f"expand_dims: axis {axis} is out of range for an array of shape {shape}")
    place = axis % (len(shape) + 1)
    return reshape(x, (*shape[:place], 1, *shape[place:]))


@example("squeeze(np.ones((1, 3)), 0).shape = (3,)")
def squeeze(x: Value, /, axis: int | Sequence[int]) -> Value:
    """x without the axes at ``axis``, which must have length 1."""
    gone = _axes("squeeze", x, axis)
    for a in gone:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of shape {x.shape} has length {x.shape[a]}, not 1")
    return reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in gone))


def _part(i: int, g: Value, arrays: tuple[Value, ...], axis: int) -> Value:
    start = sum(x.shape[axis] for x in arrays[:i])
    key = [slice(None)] * len(g.shape)
    key[axis] = slice(start, start + arrays[i].shape[axis])
    return g[tuple(key)]


@op(
    lambda i, g, y, *arrays, axis: _part(i, g, arrays, axis),
    linear=True,
    axes=all_but_axis,
    cases=[case((2, 3), (1, 3), axis=0), case((2, 3), (2, 2), (2, 1), axis=-1)],
    range=ranges.hull,
)
@example("concat_arrays(np.ones(2), np.ones(3)).shape = (5,)")
def concat_arrays(*arrays: Value, axis: int = 0) -> Value:
    """Several arrays joined along ``axis``: what ``concat`` records."""
    return np.concatenate(arrays, axis=axis)


@op(
    lambda i, g, y, *arrays, axis: g[(slice(None),) * (axis % len(g.shape)) + (i,)],
    linear=True,
    axes=lambda i, labels, y, *arrays, axis: (*labels[: axis % len(y.shape)], None, *labels[axis % len(y.shape) :]),
    cases=[case((3,), (3,), axis=0), case((2, 3), (2, 3), (2, 3), axis=-1)],
    range=ranges.hull,
)
@example("stack_arrays(np.ones(3), np.ones(3)).shape = (2, 3)")
def stack_arrays(*arrays: Value, axis: int = 0) -> Value:
    """Several arrays of one shape joined along a new axis: what ``stack`` records."""
    return np.stack(arrays, axis=axis)


@example("concat([np.ones(2), np.ones(3)]).shape = (5,)")
def concat(arrays: Sequence[Value], /, *, axis: int | None = 0) -> Value:
    """The arrays joined along ``axis``; flattened before where it is ``None``."""
    if axis is None:
        return concat_arrays(*(reshape(x, (-1,)) for x in arrays), axis=0)
    return concat_arrays(*arrays, axis=axis)


@example("stack([np.ones(3), np.ones(3)]).shape = (2, 3)")
def stack(arrays: Sequence[Value], /, *, axis: int = 0) -> Value:
    """The arrays, all of one shape, joined along a new axis at ``axis``."""
    return stack_arrays(*arrays, axis=axis)


@example("unstack(np.ones((2, 3)))[1].shape = (3,)")
def unstack(x: Value, /, *, axis: int = 0) -> tuple[Value, ...]:
    """The slices of x along ``axis``, as a tuple: the inverse of ``stack``."""
    before = (slice(None),) * axis_of("unstack", x, axis)
    return tuple(x[(*before, i)] for i in range(x.shape[axis]))


@example("moveaxis(np.ones((2, 3, 4)), 0, -1).shape = (3, 4, 2)")
def moveaxis(x: Value, source: int | Sequence[int], destination: int | Sequence[int], /) -> Value:
    """x with the axes at ``source`` moved to ``destination``, the others kept in order."""
    sources, destinations = _axes("moveaxis", x, source), _axes("moveaxis", x, destination)
    if not len(set(sources)) == len(sources) == len(set(destinations)) == len(destinations):
        raise ValueError(f"moveaxis: source {source} and destination {destination} must name equally many axes once")
    order = [a for a in range(len(x.shape)) if a not in sources]
    for to, a in sorted(zip(destinations, sources, strict=True)):
        order.insert(to, a)
    return permute_dims(x, tuple(order))


@example("flip(np.array([1.0, 2.0])) = [2. 1.]")
def flip(x: Value, /, *, axis: int | Sequence[int] | None = None) -> Value:
    """x with its elements in reverse order along ``axis``: one, several, or all."""
    backwards = _axes("flip", x, axis)
    return x[tuple(slice(None, None, -1 if a in backwards else 1) for a in range(len(x.shape)))]


@example("roll(np.array([1.0, 2.0, 3.0]), 1) = [3. 1. 2.]")
def roll(x: Value, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> Value:
    """x with its elements moved on by ``shift`` along ``axis``, the last ones to the front; flat without an axis."""
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, axis=0), shape_of(x))
    axes = _axes("roll", x, axis)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ValueError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for a, n in zip(axes, shifts, strict=True):
        before, length = (slice(None),) * a, x.shape[a]
        if length and n % length:
            cut = length - n % length
            x = concat([x[(*before, slice(cut, None))], x[(*before, slice(0, cut))]], axis=a)
    return x


@example("tile(np.array([1.0, 2.0]), 2) = [1. 2. 1. 2.]")
def tile(x: Value, repetitions: int | Sequence[int], /) -> Value:
    """x laid side by side, ``repetitions[i]`` times along axis i, counted from the last."""
    if isinstance(repetitions, int):
        repetitions = (repetitions,)
    ndim = max(len(shape_of(x)), len(repetitions))
    shape = (1,) * (ndim - len(shape_of(x))) + shape_of(x)
    times = (1,) * (ndim - len(repetitions)) + tuple(repetitions)
    apart = reshape(x, tuple(m for n in shape for m in (1, n)))
    laid = broadcast_to(apart, tuple(m for n, k in zip(shape, times, strict=True) for m in (k, n)))
    return reshape(laid, tuple(n * k for n, k in zip(shape, times, strict=True)))


@example("repeat(np.array([1.0, 2.0]), 2) = [1. 1. 2. 2.]")
def repeat(x: Value, repeats: int | Array, /, *, axis: int | None = None) -> Value:
    """Each element ``repeats`` times along ``axis``, a number or one for each; x is flattened without an axis."""
    if axis is None:
        return repeat(reshape(x, (-1,)), repeats, axis=0)
    a = axis_of("repeat", x, axis)
    xp = namespace(value_of(x))
    return x[(*(slice(None),) * a, xp.repeat(xp.arange(x.shape[a]), repeats))]


@example("[x.shape for x in broadcast_arrays(np.ones(3), np.ones((2, 1)))] = [(2, 3), (2, 3)]")
def broadcast_arrays(*arrays: Value) -> tuple[Value, ...]:
    """The arrays, each broadcast to the shape that they have in common."""
    shape = np.broadcast_shapes(*(np.shape(value_of(x)) for x in arrays))
    return tuple(x if x.shape == shape else broadcast_to(x, shape) for x in arrays)


@example("zeros_like(tg.Tensor(np.ones(2))) = [0. 0.]")
def zeros_like(x: Value, /, *, dtype: Any = None) -> Array:
    """An array of zeros with the shape and dtype of x: no Tensor, also where x is one."""
    return full_like(x, 0, dtype=dtype)


@example("ones_like(tg.Tensor(np.zeros(2))) = [1. 1.]")
def ones_like(x: Value, /, *, dtype: Any = None) -> Array:
    """An array of ones with the shape and dtype of x: no Tensor, also where x is one."""
    return full_like(x, 1, dtype=dtype)


@example("full_like(tg.Tensor(np.zeros(2)), 5) = [5. 5.]")
def full_like(x: Value, /, fill_value: float, *, dtype: Any = None) -> Array:
    """An array of one number with the shape and dtype of x: no Tensor, also where x is one."""
    return namespace(value_of(x)).full_like(value_of(x), fill_value, dtype=dtype)


@example('[x.shape for x in meshgrid(np.ones(2), np.ones(3), indexing="ij")] = [(2, 3), (2, 3)]')
def meshgrid(*arrays: Value, indexing: str = "xy") -> list[Value]:
    """Each of n vectors, spread over a grid of n axes: vector i along axis i for "ij"; "xy" exchanges the first two."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f'meshgrid: indexing must be "xy" or "ij", found {indexing!r}')
    order = list(range(len(arrays)))
    if indexing == "xy":
        order[:2] = order[:2][::-1]
    shapes = [tuple(-1 if a == axis else 1 for a in range(len(arrays))) for axis in order]
    rows = [reshape(x, shape) for x, shape in zip(arrays, shapes, strict=True)]
    return list(broadcast_arrays(*rows))
