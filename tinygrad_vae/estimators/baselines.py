"""Whether a baseline depends on the draw whose score it multiplies, as far as its graph and its numbers tell."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array, Noise, Sample, Tensor, Value, is_array, to_numpy, topological_order, value_of
from ..guard.names import name_and_line


def check_baseline(cost: Tensor, baseline: Value | None, samples: Sequence[Sample]) -> None:
    """Raise if the baseline has another shape, or is known to depend on one of the draws whose scores it multiplies."""
    if baseline is None:
        return
    shape = np.shape(value_of(baseline))
    try:
        fits = np.broadcast_shapes(shape, cost.shape) == cost.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"score_function: the baseline has shape {shape}, which does not broadcast to the cost's, {cost.shape}"
        )
    order = topological_order([baseline]) if isinstance(baseline, Tensor) else []
    sources = {x.origin if isinstance(x, Noise) else id(x) for x in order}
    held = _values_held(order, cost, baseline, samples)
    for k, z in enumerate(samples):
        if held >> k & 1 or (z.noise.origin if isinstance(z.noise, Noise) else id(z.noise)) in sources:
            raise ValueError(
                f"score_function: the baseline depends on {name_and_line(z)}, the draw whose "
                "gradient it is to steady. That biases the gradient: the mean over a batch of K draws shrinks it by "
                "the factor 1 - 1/K. Use a number from earlier steps, read before it is updated, a function of the "
                'inputs alone, or the mean of the other draws: estimate(cost, default="leave-one-out")'
            )


def _values_held(order: list[Tensor], cost: Tensor, baseline: Value, samples: Sequence[Sample]) -> int:
    """Return, as bits, the draws that the baseline knows: its array is, views or sums up a value computed from them.

    Nothing else can be seen: an array that was computed from the value of a node is an array like any other.
    """
    leaves = [x for node in order for x in (node, *node.inputs) if getattr(x, "op", None) is None] or [baseline]
    arrays = [value_of(x) for x in leaves]
    held = {id(_memory(x)) for x in arrays if is_array(x)}
    numbers = [np.ravel(to_numpy(x)) for x in arrays if isinstance(x, float) or (is_array(x) and x.dtype.kind == "f")]
    numbers = [x for x in numbers if x.size and not np.all(_is_round(x))]
    after, found = {id(z): 1 << k for k, z in enumerate(samples)}, 0
    for node in topological_order([cost]) if held or numbers else ():
        bits = functools.reduce(operator.or_, (after.get(id(x), 0) for x in (node, *node.inputs)))
        after[id(node)] = bits
        if bits and (id(_memory(node.value)) in held or _summed_up(node.value, numbers, 3)):
            found |= bits
    if _summed_up(cost.value, numbers, 1):
        found |= sum(1 << k for k, z in enumerate(samples) if not z.dist.support.discrete)
    return found


def _is_round(x: Array) -> Array:
    """Return where x is a multiple of 1/64: two such numbers may be equal by chance."""
    return x * 64 == np.round(x * 64)


def _summed_up(value: Array, numbers: list[Array], least: int) -> bool:
    """Return whether an array is the mean, sum, median or an extreme of a value, over all or one of its axes.

    Where a value has few digits, or fewer outcomes than ``least``, that may be so by chance, and nothing is said.
    """
    if not numbers or value.dtype.kind != "f" or not least <= value.size <= 4096:
        return False
    value = to_numpy(value)
    if np.unique(value).size < value.size or np.any(_is_round(value)):
        return False
    for axis in (None, *range(value.ndim)):
        for sum_up in (np.mean, np.sum, np.median, np.max, np.min):
            result = np.ravel(sum_up(value, axis=axis))
            close = 8 * np.finfo(value.dtype).eps * np.abs(result)
            if any(x.size == result.size and np.all(np.abs(x - result) <= close) for x in numbers):
                return True
    return False


def _memory(x: Array) -> Any:
    """Return the array that holds the memory of x."""
    while getattr(x, "base", None) is not None and is_array(x.base):
        x = x.base
    return x
