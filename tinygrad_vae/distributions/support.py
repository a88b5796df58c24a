"""Whether values lie in the support of a distribution, and whether draws were rounded to its edge."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, as_array, describe, namespace, trees, value_of
from ..devices import to_host
from ..domains import Domain


def check_inside(what: str, domain: Domain, value: Any, advice: str = "") -> None:
    """Raise a ``ValueError`` that shows the first value outside the domain, if there is one."""
    check_all_inside([(what, domain, value)], advice)


def check_all_inside(given: Sequence[tuple[str, Domain, Any]], advice: str = "") -> None:
    """Check several values, each with what it is called and its domain, and ask once: a GPU has to be waited for."""
    arrays = [check_numbers(*each) for each in given]
    flags = [domain.holds(array) for (_, domain, _), array in zip(given, arrays, strict=True)]
    if bool(functools.reduce(operator.and_, flags, np.True_)):
        return
    for (what, domain, _), array in zip(given, arrays, strict=True):
        inside = domain.contains(array)
        if not bool(inside.all()):
            position = tuple(int(i) for i in np.argwhere(~inside)[0])
            place = f" at index {position}" if position else ""
            count = f" ({int((~inside).sum())} of {inside.size})" if inside.size > 1 else ""
            where_in = f", in {describe(array)}" if array.ndim else ""
            raise ValueError(f"{what} must be {domain}, found {array[position]}{place}{count}{where_in}{advice}")


def check_numbers(what: str, domain: Domain, value: Any) -> Array:
    """Return the value as an array, with at least as many axes as an element of the domain has."""
    try:
        array = as_array(value)
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    if array.ndim < domain.event_ndim:
        raise ValueError(f"{what} must be {domain}, found {describe(value)}, which has no last axis")
    return array


MOST_ROUNDED = 1e-3  # the share of draws that may be rounded so far that they stand for many numbers
FEWEST_ROUNDED = 4  # fewer draws than this are rounded by accident
COARSEST = 0.25  # how many standard deviations may lie between neighbouring numbers of the dtype


def lost_to_rounding(dist: Any, x: Array) -> str:
    """Say how rounding changed the distribution of many draws, or return an empty string.

    A rounded draw stands for many numbers and has the density of one: at an edge of the support, at the largest
    number that a heavy tail can reach, or everywhere, where loc is much larger than scale.
    """
    if dist.support.discrete or not x.size:
        return ""
    precision = np.finfo(x.dtype)
    for rounded, why in (
        (_at_an_edge(dist.support, x, precision), f"are as close to the edge of its support as {x.dtype} can tell"),
        (_on_a_grid(dist, x, precision), f"lie on a coarse grid: {x.dtype} has no numbers between them"),
        (_at_one_end(dist, x), f"are one number, the most extreme that a draw in {x.dtype} reaches"),
    ):
        count = int(to_host(rounded.sum()))
        if count >= FEWEST_ROUNDED and count > MOST_ROUNDED * x.size:
            return (
                f"{count} of {x.size} draws of {type(dist).__name__} {why}, and each has the log-probability of one "
                "number, not of all that were rounded to it"
            )
    return ""


def _at_an_edge(support: Domain, x: Array, precision: np.finfo) -> Array:
    # of vectors on the simplex only zeros count: where an element is rounded to 1, the others still tell how far
    xp = namespace(x)
    low, high = map(to_host, support.bounds)
    found = xp.zeros(x.shape, bool)
    for end, inwards in [(low, 1)] if support.event_ndim else [(low, 1), (high, -1)]:
        if np.isfinite(end).all():
            least = np.maximum(abs(end) * precision.eps, precision.tiny)  # that x can be away from it
            found |= inwards * (x - xp.asarray(end)) <= xp.asarray(least)
    return found


def _at_one_end(dist: Any, x: Array) -> Array:
    # draws that are all different have no such end, nor has an element that is the same in every draw
    draws = tuple(range(x.ndim - len(dist.event_shape)))
    low, high = x.min(draws), x.max(draws)
    lowest, highest = x == low, x == high
    several = (lowest & (lowest.sum(draws) > 1)) | (highest & (highest.sum(draws) > 1))
    return several & (high > low)


def _on_a_grid(dist: Any, x: Array, precision: np.finfo) -> Array:
    try:
        variance = trees.map_leaves(value_of, dist).variance
    except NotImplementedError:
        variance = np.inf
    xp = namespace(x)
    fixed = dist.support.event_ndim == 2 and variance == 0  # the first element of a factor of correlations
    return (precision.eps * xp.abs(x) > COARSEST * xp.sqrt(xp.asarray(variance))) & ~xp.asarray(fixed)
