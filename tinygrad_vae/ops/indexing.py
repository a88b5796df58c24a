"""Ops that pick elements by position, the one that puts them back, and those that order.

They know the engine, and the ops that move elements.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..core import INDEX, Array, Value, namespace, value_of
from ..domains import REAL, whole_numbers
from .declare import JUMP, KINK, SMOOTH, case, op
from .gates import where
from .shaping import axis_of, shape_of

_POSITION = whole_numbers(0, 1)
Key = tuple[Any, ...]


def _filled(key: Key, indices: tuple[Value, ...]) -> Key:
    """Return the key with the index arrays in the places that ``INDEX`` marks."""
    remaining = iter(indices)
    return tuple(next(remaining) if part is INDEX else part for part in key)


def _axes_left_whole(
    i: int, labels: tuple[int | None, ...], y: Value, x: Value, *indices: Value, key: Key
) -> tuple[int | None, ...]:
    """An axis stays unmixed where the key takes the whole of it, before anything but slices and new axes.

    Several indices with an array among them may come out in front of all slices, so that no axis is sure to stay.
    """
    numbers = sum(not isinstance(part, slice) and part is not None and part is not ... for part in key)
    if i > 0:
        return _axes_of_an_index(labels, y, indices, i - 1, key)
    if indices and numbers > 1:
        return (None,) * len(y.shape)
    if all(part is None or part is ... or isinstance(part, slice) or type(part) is int for part in key):
        # the dots stand for whole axes
        dots = next((k for k, part in enumerate(key) if part is ...), len(key))
        rest = len(labels) - numbers - sum(isinstance(part, slice) for part in key)
        key = (*key[:dots], *(slice(None),) * rest, *key[dots + 1 :])
    out: list[int | None] = []
    axis = 0
    for part in key:
        if part is None:
            out.append(None)
        elif isinstance(part, slice):
            out.append(labels[axis] if part == slice(None) else None)
            axis += 1
        elif type(part) is int:
            axis += 1
        else:
            break
    else:
        return (*out, *labels[axis:])
    return (*out, *(None,) * (len(y.shape) - len(out)))


def _axes_of_an_index(
    labels: tuple[int | None, ...], y: Value, indices: tuple[Value, ...], i: int, key: Key
) -> tuple[int | None, ...]:
    """The axes of an array of positions stand where the key has it, if there are only slices before and after."""
    before = next(k for k, part in enumerate(key) if part is INDEX)
    rest = (*key[:before], *key[before + len(indices) :])
    if not all(isinstance(part, slice) for part in rest) or any(x.dtype.kind not in "iu" for x in indices):
        return (None,) * len(y.shape)
    common = np.broadcast_shapes(*(x.shape for x in indices))
    own = (None,) * (len(common) - len(labels)) + labels
    shape = (1,) * (len(common) - len(labels)) + indices[i].shape
    whole = tuple(label if n == m else None for label, n, m in zip(own, shape, common, strict=True))
    placed = (None,) * before + whole
    return placed + (None,) * (len(y.shape) - len(placed))


@op(
    lambda i, g, y, x, *indices, key: put(g, *indices, key=key, shape=x.shape),
    smoothness=(SMOOTH, JUMP),
    domain=(REAL, _POSITION),
    axes=_axes_left_whole,
    cases=[
        case((3, 4), key=(1,)),
        case((3, 4), key=(slice(None), slice(0, 4, 2))),
        case((3, 4), key=(..., None, 0)),
        case((3, 4), (5,), key=(INDEX,)),
        case((3, 4), key=([0, 2, 0], slice(1, None))),
        case((3, 4), (2,), (2,), key=(INDEX, INDEX)),
        case((3, 4), (2, 2), key=(slice(None), INDEX)),
    ],
)
def getitem(x: Value, /, *indices: Value, key: Key) -> Value:
    """``x[key]``: what indexing a Tensor records, with index arrays as inputs in the places that ``INDEX`` marks.

    The gradient goes back to where the elements came from, and adds up where one was taken several times. An
    index has no gradient: the value jumps with it.

    >>> float(getitem(np.array([1.0, 2.0]), key=(1,)))
    2.0
    """
    return x[_filled(key, indices)]


@op(
    lambda i, g, y, x, *indices, key, shape: g[_filled(key, indices)],
    smoothness=(SMOOTH, JUMP),
    domain=(REAL, _POSITION),
    cases=[case((4,), key=(1,), shape=(3, 4)), case((5, 4), (5,), key=(INDEX,), shape=(3, 4))],
)
def put(x: Value, /, *indices: Value, key: Key, shape: tuple[int, ...]) -> Value:
    """Zeros of ``shape`` with x added at ``[key]``: the transpose of ``getitem``.

    >>> put(np.array(5.0), key=(1,), shape=(3,))
    array([0., 5., 0.])
    """
    xp = namespace(x)
    out = xp.zeros(shape, x.dtype)
    place = tuple(xp.asarray(part) if isinstance(part, list) else part for part in _filled(key, indices))
    if any(hasattr(part, "dtype") for part in place):  # an element may be taken several times
        xp.add.at(out, place, x)
    else:
        out[place] = x
    return out


def take(x: Value, indices: Value, /, *, axis: int) -> Value:
    """The elements of x at ``indices`` along ``axis``.

    >>> take(np.array([1.0, 2.0, 3.0]), np.array([2, 0]), axis=0)
    array([3., 1.])
    """
    return getitem(x, indices, key=(slice(None),) * axis_of("take", x, axis) + (INDEX,))


def _mesh(x: Value, indices: Value, axis: int) -> list[Value]:
    """Return index arrays for all axes: ``indices`` for one, every position for the others."""
    positions = namespace(value_of(x)).ogrid[tuple(slice(n) for n in x.shape)] if len(x.shape) else ()
    return [indices if a == axis % len(x.shape) else p for a, p in enumerate(positions)]


def take_along_axis(x: Value, indices: Value, /, *, axis: int = -1) -> Value:
    """``y[i, j] = x[i, indices[i, j]]``, here for axis 1 of two: along ``axis``, other elements for each place.

    x and the indices have equally many axes and broadcast, except along ``axis``.

    >>> take_along_axis(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0], [1]]), axis=1)
    array([[1.],
           [4.]])
    """
    if len(shape_of(x)) != len(shape_of(indices)):
        raise ValueError(f"take_along_axis: x has {len(shape_of(x))} axes, the indices have {len(shape_of(indices))}")
    return getitem(x, *_mesh(x, indices, axis_of("take_along_axis", x, axis)), key=(INDEX,) * len(x.shape))


def _all_but_axis(i: int, labels: tuple[int | None, ...], y: Value, x: Value, *, axis: int, **_: bool) -> Any:
    return tuple(None if a == axis % len(labels) else label for a, label in enumerate(labels))


@op(
    lambda g, y, x, *, axis, descending, stable: put(
        g,
        *_mesh(x, argsort(x, axis=axis, descending=descending, stable=stable), axis),
        key=(INDEX,) * len(x.shape),
        shape=x.shape,
    ),
    smoothness=KINK,
    axes=_all_but_axis,
    cases=[case((4,)), case((2, 3), axis=0), case((2, 3), descending=True)],
)
def sort(x: Value, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Value:
    """The elements in ascending order along ``axis``. Each gradient goes back to where its element came from.

    Of equal elements the first one is taken for the smaller.

    >>> sort(np.array([3.0, 1.0]))
    array([1., 3.])
    """
    return np.take_along_axis(x, _order(x, axis, descending, stable), axis=axis)


@op(
    None,
    smoothness=JUMP,
    axes=_all_but_axis,
    cases=[case((4,)), case((2, 3), axis=0), case((2, 3), descending=True)],
)
def argsort(x: Value, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Value:
    """The indices that sort x along ``axis``; of equal elements the first one comes first. A jump: no gradient.

    >>> argsort(np.array([3.0, 1.0]))
    array([1, 0])
    """
    return _order(x, axis, descending, stable)


def _order(x: Array, axis: int, descending: bool, stable: bool) -> Array:
    kind: Any = "stable" if stable else None
    if not descending:
        return np.argsort(x, axis=axis, kind=kind)
    backwards = np.argsort(np.flip(x, axis=axis), axis=axis, kind=kind)
    return np.flip(x.shape[axis] - 1 - backwards, axis=axis)


@op(None, None, smoothness=JUMP, cases=[case((4,), (3,)), case((4,), (2, 3), side="right")])
def searchsorted(x1: Value, x2: Value, /, *, side: Literal["left", "right"] = "left") -> Value:
    """For each element of ``x2``, where to insert it into the ascending ``x1``. A jump: no gradient.

    >>> searchsorted(np.array([1.0, 2.0]), np.array([1.5]))
    array([1])
    """
    return np.searchsorted(x1, x2, side=side)


def diagonal(x: Value, /, *, offset: int = 0) -> Value:
    """The elements ``x[..., i, i + offset]``, along a last axis of their own.

    >>> diagonal(np.eye(3), offset=1)
    array([0., 0.])
    """
    rows, columns = matrix_shape("diagonal", x)
    i = namespace(value_of(x)).arange(max(-offset, 0), max(min(rows, columns - offset), max(-offset, 0)))
    return x[..., i, i + offset]


def triu(x: Value, /, *, k: int = 0) -> Value:
    """x with 0 in place of what lies below diagonal k of its last two axes.

    >>> triu(np.ones((2, 2)))
    array([[1., 1.],
           [0., 1.]])
    """
    return where(~_below("triu", x, k - 1), x, 0.0)


def tril(x: Value, /, *, k: int = 0) -> Value:
    """x with 0 in place of what lies above diagonal k of its last two axes.

    >>> tril(np.ones((2, 2)))
    array([[1., 0.],
           [1., 1.]])
    """
    return where(_below("tril", x, k), x, 0.0)


def _below(name: str, x: Value, k: int) -> Array:
    """Return whether an element lies on diagonal k or below."""
    return namespace(value_of(x)).tri(*matrix_shape(name, x), k, dtype=bool)


def matrix_shape(name: str, x: Value) -> tuple[int, int]:
    """Return the numbers of rows and columns of a batch of matrices, for the function ``name``.

    Raises:
        ValueError: x has fewer than two axes.
    """
    shape = shape_of(x)
    if len(shape) < 2:
        raise ValueError(f"{name}: a matrix has two axes, found shape {shape}")
    return shape[-2], shape[-1]


def diff(x: Value, /, *, axis: int = -1, n: int = 1) -> Value:
    """Differences of neighbours along ``axis``, n times over.

    >>> diff(np.array([1.0, 3.0, 6.0]))
    array([2., 3.])
    """
    before = (slice(None),) * axis_of("diff", x, axis)
    for _ in range(n):
        x = x[(*before, slice(1, None))] - x[(*before, slice(0, -1))]
    return x
