"""Ops that pick elements by position, those that put them back, and those that order."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np

from ..core import Array, Tensor, Value, is_array, namespace, value_of
from ..devices import to_host
from ..domains import REAL, whole_numbers
from . import ranges
from .choices import where
from .declare import JUMP, KINK, SMOOTH, Labels, case, example, op
from .shaping import all_but_axis, axis_of, shape_of

_PICKS: Any = {"smoothness": (SMOOTH, JUMP), "domain": (REAL, whole_numbers(0, 1)), "linear": ((0,),)}
Key = tuple[Any, ...]


class _Index:
    def __repr__(self) -> str:
        return "INDEX"


INDEX = _Index()
"""Stands in the key of a recorded ``x[key]`` where the next index array belongs."""


def _filled(key: Key, indices: Sequence[Value], xp: ModuleType = np) -> Key:
    """Return the key with the index arrays where ``INDEX`` stands; an empty list is an array of positions."""
    remaining = iter(indices)
    parts = [next(remaining) if part is INDEX else part for part in key]
    return tuple(xp.zeros(0, int) if _is_empty(part) else part for part in parts)


def _is_empty(part: Any) -> bool:
    return part == [] if isinstance(part, list) else is_array(part) and part.dtype.kind == "f" and part.shape == (0,)


def _coordinate(shape: Sequence[int], axis: int) -> Array:
    """Return where each element of an array stands along one axis."""
    return np.broadcast_to(np.arange(shape[axis]).reshape(-1, *(1,) * (len(shape) - axis - 1)), shape)


def _counted(picked: Array, n: int) -> list[int]:
    """Return the axes along which coordinates that were picked, of an axis of n elements, run from 0 to n - 1."""
    return [c for c, m in enumerate(picked.shape) if m == n and (picked == _coordinate(picked.shape, c)).all()]


def _kept_axes(shape: tuple[int, ...], key: Key) -> dict[int, int]:
    """Return, for each axis of ``x[key]`` that runs along a whole axis of x in order, that axis of x."""
    kept = [(c, a) for a, n in enumerate(shape) for c in _counted(_coordinate(shape, a)[key], n)]
    return dict(reversed(kept))  # the first of several


def _kept_axes_of_index(shape: tuple[int, ...], key: Key, indices: tuple[Value, ...], i: int) -> dict[int, int]:
    """Return, for each axis of ``x[key]`` that runs along a whole axis of index i in order, that axis of the index."""
    number = [k for k, part in enumerate(key) if part is INDEX][i]
    before = [part for part in key[:number] if part is not None]
    axis = len(before) if ... not in before else len(before) - len([part for part in key if part is not None])
    kept = []
    for b, n in enumerate(indices[i].shape):  # take the coordinate along axis b for the index
        chosen = [_coordinate(z.shape, b) if k == i else _blind(z) * 0 for k, z in enumerate(indices)]
        longer = [n if a == axis % len(shape) else m for a, m in enumerate(shape)]
        kept += [(c, b) for c in _counted(_coordinate(longer, axis % len(shape))[_filled(key, chosen)], n)]
    return dict(reversed(kept))


def _blind(index: Value) -> Any:
    """Return an index for ``_kept_axes``: zeros in place of positions that are computed, which may be others."""
    return np.zeros(index.shape, int) if isinstance(index, Tensor) else to_host(index)


def _may_change_length(indices: tuple[Value, ...]) -> bool:
    return any(isinstance(z, Tensor) and z.dtype.kind == "b" for z in indices)


def _axes_of_getitem(i: int, labels: Labels, y: Value, x: Value, *indices: Value, key: Key) -> Labels:
    if _may_change_length(indices):
        return (None,) * len(y.shape)
    if i == 0:
        kept = _kept_axes(x.shape, _filled(key, [_blind(z) for z in indices]))
    else:
        kept = _kept_axes_of_index(x.shape, key, indices, i - 1)
    return tuple(labels[kept[c]] if c in kept else None for c in range(len(y.shape)))


def _axes_of_put(
    i: int, labels: Labels, y: Value, x: Value, *indices: Value, key: Key, shape: tuple[int, ...]
) -> Labels:
    if i > 0 or _may_change_length(indices):
        return (None,) * len(y.shape)
    kept = {a: c for c, a in _kept_axes(shape, _filled(key, [_blind(z) for z in indices])).items()}
    return tuple(labels[kept[a]] if a in kept else None for a in range(len(shape)))


@op(
    lambda i, g, y, x, *indices, key: put(g, *indices, key=key, shape=x.shape),
    **_PICKS,
    axes=_axes_of_getitem,
    cases=[
        case((3, 4), key=(1,)),
        case((3, 4), key=(slice(None), slice(0, 4, 2))),
        case((3, 4), key=(..., None, 0)),
        case((3, 4), (5,), key=(INDEX,)),
        case((3, 4), key=([0, 2, 0], slice(1, None))),
        case((3, 4), key=([],)),
        case((3, 4), (2,), (2,), key=(INDEX, INDEX)),
        case((3, 4), (2, 2), key=(slice(None), INDEX)),
    ],
    range=ranges.moved,
)
@example("getitem(np.array([1.0, 2.0]), key=(1,)) = 2.0")
def getitem(x: Value, /, *indices: Value, key: Key) -> Value:
    """``x[key]``: what indexing a Tensor records, with index arrays as inputs where ``INDEX`` stands in the key.

    The gradient goes back to where the elements came from, and adds up where one was taken several times.
    """
    return x[_filled(key, indices, namespace(x))]


@op(
    lambda i, g, y, x, *indices, key, shape: getitem(g, *indices, key=key),
    **_PICKS,
    axes=_axes_of_put,
    cases=[case((4,), key=(1,), shape=(3, 4)), case((5, 4), (5,), key=(INDEX,), shape=(3, 4))],
    range=ranges.placed,
)
@example("put(np.array(5.0), key=(1,), shape=(3,)) = [0. 5. 0.]")
def put(x: Value, /, *indices: Value, key: Key, shape: tuple[int, ...]) -> Value:
    """Zeros of ``shape`` with x added at ``[key]``: the transpose of ``getitem``."""
    xp = namespace(x)
    out = xp.zeros(shape, x.dtype)
    where_to = tuple(xp.asarray(part) if isinstance(part, list) else part for part in _filled(key, indices))
    if any(hasattr(part, "dtype") for part in where_to):  # an element may be taken several times
        xp.add.at(out, where_to, x)
    else:
        out[where_to] = x
    return out


@example("take(np.array([1.0, 2.0, 3.0]), np.array([2, 0])) = [3. 1.]")
def take(x: Value, indices: Value, /, *, axis: int | None = None) -> Value:
    """The elements of x at ``indices`` along ``axis``, which may be left out where x has only one."""
    if axis is None:
        if len(shape_of(x)) != 1:
            raise ValueError(f"take: name the axis to take from: x has {len(shape_of(x))} axes")
        axis = 0
    return getitem(x, indices, key=(slice(None),) * axis_of("take", x, axis) + (INDEX,))


def _mesh(shape: tuple[int, ...], indices: Array, axis: int) -> Key:
    """Return index arrays for all axes: ``indices`` for one, every position for the others."""
    positions = namespace(indices).ogrid[tuple(slice(n) for n in shape)]
    return tuple(indices if a == axis % len(shape) else p for a, p in enumerate(positions))


def _axes_along(i: int, labels: Labels, y: Value, *inputs: Value, axis: int, shape: Any = None) -> Labels:
    """All axes but ``axis`` stay apart, and the places of indices to take from; a repeated one loses its label."""
    own, mixes = inputs[i].shape, i == 0 or shape is not None
    return tuple(
        None if own[a] != y.shape[a] or (mixes and a == axis % len(labels)) else label for a, label in enumerate(labels)
    )


@op(
    lambda g, y, x, indices, *, axis: put_along_axis(g, indices, axis=axis, shape=x.shape),
    None,
    **_PICKS,
    axes=_axes_along,
    cases=[case((2, 3), (2, 3), axis=1), case((3, 2), (1, 2), axis=0), case((1, 3), (2, 1), axis=-1)],
    range=ranges.moved,
)
@example("take_along_axis(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0], [1]])).tolist() = [[1.0], [4.0]]")
def take_along_axis(x: Value, indices: Value, /, *, axis: int = -1) -> Value:
    """``y[i, j] = x[i, indices[i, j]]``, here for axis 1 of two.

    x and the indices have equally many axes and broadcast, except along ``axis``.
    """
    if np.ndim(x) != np.ndim(indices):
        raise ValueError(f"x has {np.ndim(x)} axes, the indices have {np.ndim(indices)}")
    return x[_mesh(x.shape, indices, axis_of("take_along_axis", x, axis))]


@op(
    lambda g, y, x, indices, *, axis, shape: take_along_axis(g, indices, axis=axis),
    None,
    **_PICKS,
    axes=_axes_along,
    cases=[case((2, 3), (2, 3), axis=1, shape=(2, 3)), case((2, 2), (2, 2), axis=0, shape=(3, 2))],
    range=ranges.placed,
)
@example("put_along_axis(np.array([5.0]), np.array([1]), axis=0, shape=(3,)) = [0. 5. 0.]")
def put_along_axis(x: Value, indices: Value, /, *, axis: int, shape: tuple[int, ...]) -> Value:
    """Zeros of ``shape`` with x added at ``indices`` along ``axis``: the transpose of ``take_along_axis``."""
    xp = namespace(x)
    out = xp.zeros(shape, x.dtype)
    xp.add.at(out, _mesh(shape, indices, axis), x)
    return out


_SORTS = [case((4,)), case((2, 3), axis=0), case((2, 3), descending=True)]


@op(
    lambda g, y, x, *, axis, descending, stable: put_along_axis(
        g, argsort(x, axis=axis, descending=descending, stable=stable), axis=axis, shape=x.shape
    ),
    smoothness=KINK,
    axes=all_but_axis,
    cases=_SORTS,
    range=ranges.hull,
)
@example("sort(np.array([3.0, 1.0])) = [1. 3.]")
def sort(x: Value, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Value:
    """The elements in ascending order along ``axis``. Each gradient goes back to where its element came from."""
    return np.take_along_axis(x, _order(x, axis, descending, stable), axis=axis)


@op(None, smoothness=JUMP, axes=all_but_axis, cases=_SORTS)
@example("argsort(np.array([3.0, 1.0])) = [1 0]")
def argsort(x: Value, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Value:
    """The indices that sort x along ``axis``; of equal elements the first one comes first. A jump: no gradient."""
    return _order(x, axis, descending, stable)


def _order(x: Array, axis: int, descending: bool, stable: bool) -> Array:
    kind: Any = "stable" if stable else None
    if not descending:
        return np.argsort(x, axis=axis, kind=kind)
    backwards = np.argsort(np.flip(x, axis=axis), axis=axis, kind=kind)
    return np.flip(x.shape[axis] - 1 - backwards, axis=axis)


@op(
    None,
    None,
    smoothness=JUMP,
    axes=lambda i, labels, y, x1, x2, *, side: labels if i else (None,) * len(y.shape),
    cases=[case((4,), (3,)), case((4,), (2, 3), side="right")],
)
@example("searchsorted(np.array([1.0, 2.0]), np.array([1.5])) = [1]")
def searchsorted(x1: Value, x2: Value, /, *, side: Literal["left", "right"] = "left") -> Value:
    """For each element of ``x2``, where to insert it into the ascending ``x1``. A jump: no gradient."""
    return np.searchsorted(x1, x2, side=side)


@example("diagonal(np.eye(3), offset=1) = [0. 0.]")
def diagonal(x: Value, /, *, offset: int = 0) -> Value:
    """The elements ``x[..., i, i + offset]``, along a last axis of their own."""
    rows, columns = matrix_shape("diagonal", x)
    i = namespace(value_of(x)).arange(max(-offset, 0), max(min(rows, columns - offset), max(-offset, 0)))
    return x[..., i, i + offset]


@example("triu(np.ones((2, 2))).tolist() = [[1.0, 1.0], [0.0, 1.0]]")
def triu(x: Value, /, *, k: int = 0) -> Value:
    """x with zeros below diagonal k of its last two axes."""
    return where(~_below("triu", x, k - 1), x, 0.0)


@example("tril(np.ones((2, 2))).tolist() = [[1.0, 0.0], [1.0, 1.0]]")
def tril(x: Value, /, *, k: int = 0) -> Value:
    """x with zeros above diagonal k of its last two axes."""
    return where(_below("tril", x, k), x, 0.0)


def _below(name: str, x: Value, k: int) -> Array:
    """Return whether an element lies on diagonal k or below."""
    return namespace(value_of(x)).tri(*matrix_shape(name, x), k, dtype=bool)


def matrix_shape(name: str, x: Value) -> tuple[int, int]:
    """Return the numbers of rows and columns of a batch of matrices, for the function ``name``."""
    shape = shape_of(x)
    if len(shape) < 2:
        raise ValueError(f"{name}: a matrix has two axes, found shape {shape}")
    return shape[-2], shape[-1]


@example("diff(np.array([1.0, 3.0, 6.0])) = [2. 3.]")
def diff(x: Value, /, *, axis: int = -1, n: int = 1) -> Value:
    """Differences of neighbours along ``axis``, n times over."""
    before = (slice(None),) * axis_of("diff", x, axis)
    for _ in range(n):
        x = x[(*before, slice(1, None))] - x[(*before, slice(0, -1))]
    return x
