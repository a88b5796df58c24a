"""Whether values lie in the support of a distribution, and whether draws were rounded to its edge."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, as_array, describe, namespace
from ..devices import to_host
from ..domains import Domain


def check_inside(what: str, domain: Domain, value: Any) -> None:
    """Raise a ``ValueError`` that shows the first value outside the domain, if there is one."""
    check_all_inside([(what, domain, value)])


def check_all_inside(given: Sequence[tuple[str, Domain, Any]]) -> None:
    """Check several values, each with what it is called and its domain, and ask once: a GPU has to be waited for."""
    found = [(what, domain, *_inside(what, domain, value)) for what, domain, value in given]
    flags = [inside.all() for *_, inside in found]
    if not bool(functools.reduce(operator.and_, flags, np.True_)):
        for flag, row in zip(flags, found, strict=True):
            if not bool(flag):
                _refuse_outside(*row)


def _inside(what: str, domain: Domain, value: Any) -> tuple[Array, Array]:
    """Return the value as an array, and which of its elements lie in the domain."""
    try:
        array = as_array(value)
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    if array.ndim < domain.event_ndim:
        raise ValueError(f"{what} must be {domain}, found {describe(value)}, which has no last axis")
    return array, domain.contains(array)


def _refuse_outside(what: str, domain: Domain, array: Array, inside: Array) -> None:
    """Raise the error that shows the first value outside."""
    position = tuple(int(i) for i in np.argwhere(~inside)[0])
    place = f" at index {position}" if position else ""
    count = f" ({int((~inside).sum())} of {inside.size})" if inside.size > 1 else ""
    where_in = f", in {describe(array)}" if array.ndim else ""
    raise ValueError(f"{what} must be {domain}, found {array[position]}{place}{count}{where_in}")


MOST_ROUNDED = 1e-3
"""Which share of the draws may lie on the edge of the support, where it is the edge of what the dtype can tell."""

FEWEST_ROUNDED = 4
"""How many draws must lie there for that to be no accident."""


def too_close_to_the_edge(dist: Any, x: Array) -> str:
    """Return that many draws of a law were rounded to the edge of its support, in words; empty where they are few.

    Of a vector on the simplex only zeros are: what rounding does to 1 its other elements tell.
    """
    support = dist.support
    if support.discrete:
        return ""
    low, high = map(to_host, support.bounds)
    ends = [(low, 1)] if support.event_ndim else [(low, 1), (high, -1)]
    ends = [(end, inwards) for end, inwards in ends if np.isfinite(end).all()]
    if not ends:
        return ""
    xp, precision = namespace(x), np.finfo(x.dtype)
    found = xp.zeros(x.shape, bool)
    for end, inwards in ends:
        least = np.maximum(abs(end) * precision.eps, precision.tiny)  # that x can be away from it
        found |= inwards * (x - xp.asarray(end)) <= xp.asarray(least)
    count = int(to_host(found.sum()))
    if count < FEWEST_ROUNDED or count <= MOST_ROUNDED * x.size:
        return ""
    return (
        f"{count} of {x.size} draws of {type(dist).__name__} are as close to the edge of its support as {x.dtype} can "
        "tell, and their log-probability is not that of all the numbers that were rounded to them"
    )
