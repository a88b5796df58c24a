"""Ops that pick elements by position, and the one that puts them back."""

from __future__ import annotations

from typing import Any

from ..arrays import Value, namespace
from ..domains import REAL, whole_numbers
from ..graph import INDEX, JUMP, SMOOTH, case, op

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
    if i > 0 or (indices and numbers > 1):
        return (None,) * len(y.shape)
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
    where = _filled(key, indices)
    if indices:
        xp.add.at(out, where, x)
    else:
        out[where] = x
    return out


def take(x: Value, indices: Value, /, *, axis: int) -> Value:
    """The elements of x at ``indices`` along ``axis``.

    >>> take(np.array([1.0, 2.0, 3.0]), np.array([2, 0]), axis=0)
    array([3., 1.])
    """
    before = axis % len(x.shape)
    return getitem(x, indices, key=(slice(None),) * before + (INDEX,))
