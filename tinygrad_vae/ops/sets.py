"""Where elements are, and which are distinct: ops whose results are positions, and what is picked by them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from ..core import Value
from .declare import JUMP, case, example, op
from .indexing import take
from .shaping import reshape


@op(None, smoothness=JUMP, cases=[case((2, 3)), case((4,))])
@example("nonzero_positions(np.array([0.0, 5.0, 7.0])) = [[1 2]]")
def nonzero_positions(x: Value, /) -> Value:
    """Where x is not 0, one row of indices for each axis: what ``nonzero`` records. A jump: no gradient."""
    return np.stack(np.nonzero(x))


@example("nonzero(np.array([0.0, 5.0, 7.0])) = (array([1, 2]),)")
def nonzero(x: Value, /) -> tuple[Value, ...]:
    """Where x is not 0: for each axis an array of indices, which jump with x."""
    return tuple(nonzero_positions(x))


_PARTS = {"indices": 1, "inverse_indices": 2, "counts": 3}


@op(None, smoothness=JUMP, cases=[case((2, 3), part=part) for part in _PARTS])
@example('unique_part(np.array([5.0, 2.0, 5.0]), part="indices") = [1 0]')
def unique_part(x: Value, /, *, part: str) -> Value:
    """One part of ``unique_all``, but for the values, by sorting. A jump: no gradient."""
    options: Any = {"return_index": True, "return_inverse": True, "return_counts": True, "equal_nan": False}
    found = np.unique(x, **options)[_PARTS[part]]
    return np.reshape(found, x.shape) if part == "inverse_indices" else found


@example("unique_values(np.array([5.0, 2.0, 5.0])) = [2. 5.]")
def unique_values(x: Value, /) -> Value:
    """The distinct elements of x in ascending order. The gradient goes to the first of equal elements.

    Each NaN is distinct from every other, as the array API standard says.
    """
    return take(reshape(x, (-1,)), unique_part(x, part="indices"))


Unique = namedtuple("Unique", ["values", "indices", "inverse_indices", "counts"])


@example("unique_all(np.array([5.0, 2.0, 5.0])).counts = [1 2]")
def unique_all(x: Value, /) -> Unique:
    """The distinct elements of x, where each stands first, which of them each element is, and how often each occurs."""
    return Unique(unique_values(x), *(unique_part(x, part=part) for part in _PARTS))


UniqueCounts = namedtuple("UniqueCounts", ["values", "counts"])


@example("unique_counts(np.array([5.0, 2.0, 5.0])).counts = [1 2]")
def unique_counts(x: Value, /) -> UniqueCounts:
    """The distinct elements of x in ascending order, and how often each occurs."""
    return UniqueCounts(unique_values(x), unique_part(x, part="counts"))


UniqueInverse = namedtuple("UniqueInverse", ["values", "inverse_indices"])


@example("unique_inverse(np.array([5.0, 2.0, 5.0])).inverse_indices = [1 0 1]")
def unique_inverse(x: Value, /) -> UniqueInverse:
    """The distinct elements of x in ascending order, and which of them each element of x is."""
    return UniqueInverse(unique_values(x), unique_part(x, part="inverse_indices"))
