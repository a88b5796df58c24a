"""Baselines: what a score function subtracts from the cost to lower the variance of its gradient.

A baseline must not depend on the draw that it steadies: take one from earlier steps, or a function of the inputs alone,
trained on its squared distance from the cost, ``mean((stop_gradient(cost) - baseline)**2)``.
"""

from __future__ import annotations

import functools
import math
import operator
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, Noise, Sample, Tensor, Value, as_array, is_array, to_numpy, topological_order, trees, value_of
from ..devices import to_host
from ..guard.names import name_and_line


@dataclass(frozen=True)
class RunningAverage:
    """The mean of the costs so far, in which older ones fade: read it for a baseline, then update it.

    ``m <- decay m + (1 - decay) mean(cost)``, divided by ``1 - decay^steps``, so that the first steps are not pulled
    towards 0. An update returns a new object: none can be read after the draw that it is to steady.

    Args:
        decay: how much of the mean is kept from step to step: a mean over about ``1 / (1 - decay)`` steps.
        total: m.
        steps: how many costs it has seen.

    >>> average, mu, rng = RunningAverage(), tg.Tensor(2.0, "mu"), tg.noise(0)
    >>> for step in range(100):
    ...     cost = tg.Normal(mu, 1.0).sample((10,), rng=rng) ** 2
    ...     gradient = tg.gradients(tg.mean(tg.score_function(cost, average.value)), mu)
    ...     average = average.updated(cost)
    >>> bool(abs(average.value - 5) < 2)
    True
    """

    decay: float = trees.static(default=0.9)
    total: Array | float = 0.0
    steps: int = trees.static(default=0)

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"RunningAverage: decay must be from 0 to 1, 1 excluded, found {self.decay}")

    @property
    def value(self) -> float:
        """The mean, a number; 0 before the first step."""
        return float(self.total) / (1 - self.decay**self.steps) if self.steps else 0.0

    def updated(self, cost: Value) -> RunningAverage:
        """Return the average after one more cost, whose elements are averaged; ``ValueError`` if not finite."""
        mean = float(np.mean(to_host(as_array(value_of(cost)))))
        if not math.isfinite(mean):
            raise ValueError(f"RunningAverage: the mean of the cost is {mean}")
        new = RunningAverage(self.decay, self.decay * self.total + (1 - self.decay) * mean, self.steps + 1)
        order = topological_order([cost]) if isinstance(cost, Tensor) else []
        _RECENT.append((new.value, {x.origin for x in order if isinstance(x, Noise)}))
        return new


_RECENT: deque[tuple[float, set[Any]]] = deque(maxlen=16)
"""The latest averages, with the origins of the noise that the last cost in them depends on."""


def check_baseline(cost: Tensor, baseline: Value | None, samples: Sequence[Sample]) -> None:
    """Raise where the baseline has another shape, or is known to depend on one of the draws that it is to steady."""
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
    if type(baseline) is float:
        sources = sources.union(*(origins for mean, origins in _RECENT if mean == baseline))
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
    """Return the draws, as bits, after which an array of the baseline is, views or sums up the value of a node.

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
