"""Where elements are, and which are distinct: ops whose results are positions, and what is picked by them.

They know the engine, and the ops that pick elements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import Value
from .declare import JUMP, case, op
from .indexing import take
from .reductions import argmax, sum
from .shaping import expand_dims, reshape


@op(None, smoothness=JUMP, cases=[case((2, 3)), case((4,))])
def nonzero_positions(x: Value, /) -> Value:
    """Where x is not 0, one row of indices for each axis: what ``nonzero`` records. A jump: no gradient.

    >>> nonzero_positions(np.array([0.0, 5.0, 7.0]))
    array([[1, 2]])
    """
    return np.stack(np.nonzero(x))


def nonzero(x: Value, /) -> tuple[Value, ...]:
    """Where x is not 0: for each axis an array of indices, which jump with x.

    >>> nonzero(np.array([0.0, 5.0, 7.0]))
    (array([1, 2]),)
    """
    return tuple(nonzero_positions(x))


@op(None, smoothness=JUMP, cases=[case((2, 3)), case((4,))])
def first_positions(x: Value, /) -> Value:
    """Where each distinct element of x, flattened, stands first; in the order of the elements. A jump: no gradient.

    >>> first_positions(np.array([5.0, 2.0, 5.0]))
    array([1, 0])
    """
    return np.unique(x, return_index=True)[1]


def unique_values(x: Value, /) -> Value:
    """The distinct elements of x in ascending order. The gradient goes to the first of equal elements.

    >>> unique_values(np.array([5.0, 2.0, 5.0]))
    array([2., 5.])
    """
    return take(reshape(x, (-1,)), first_positions(x), axis=0)


class Unique(NamedTuple):
    """What ``unique_all`` returns."""

    values: Value
    indices: Value
    inverse_indices: Value
    counts: Value


def unique_all(x: Value, /) -> Unique:
    """The distinct elements of x, where each stands first, which of them each element is, and how often each occurs.

    >>> unique_all(np.array([5.0, 2.0, 5.0])).counts
    array([1, 2])
    """
    values = unique_values(x)
    same = expand_dims(x, axis=-1) == values
    counts = sum(same, axis=tuple(range(len(x.shape))))
    return Unique(values, first_positions(x), argmax(same, axis=-1), counts)


class UniqueCounts(NamedTuple):
    """What ``unique_counts`` returns."""

    values: Value
    counts: Value


def unique_counts(x: Value, /) -> UniqueCounts:
    """The distinct elements of x in ascending order, and how often each occurs.

    >>> unique_counts(np.array([5.0, 2.0, 5.0])).counts
    array([1, 2])
    """
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


class UniqueInverse(NamedTuple):
    """What ``unique_inverse`` returns."""

    values: Value
    inverse_indices: Value


def unique_inverse(x: Value, /) -> UniqueInverse:
    """The distinct elements of x in ascending order, and which of them each element of x is.

    >>> unique_inverse(np.array([5.0, 2.0, 5.0])).inverse_indices
    array([1, 0, 1])
    """
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)
