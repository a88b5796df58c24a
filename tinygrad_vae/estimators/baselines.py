"""Baselines that are learned on the way: what a score function subtracts from the cost.

A baseline must not depend on the draw that it steadies: take one from earlier steps, or a function of the inputs alone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, Noise, Tensor, Value, as_array, topological_order, trees, value_of
from ..devices import to_host


@dataclass(frozen=True)
class RunningAverage:
    """The mean of the costs so far, in which older ones fade: read it for a baseline, then update it.

    ``m <- decay m + (1 - decay) mean(cost)``, divided by ``1 - decay^steps``, so that the first steps are not pulled
    towards 0. An update returns a new object: none can be read after the draw that it is to steady. The second example
    trains a function of the inputs beside the cost, on its squared distance from it.

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

    >>> x, w, k = np.linspace(-1, 1, 10), tg.Tensor(0.5, "w"), tg.Tensor(np.zeros(2), "k")
    >>> cost = tg.Normal(w * x, 1.0).sample(rng=rng) ** 2
    >>> baseline = k[0] + k[1] * x**2
    >>> loss = tg.mean(tg.score_function(cost, baseline)) + tg.mean((tg.stop_gradient(cost) - baseline) ** 2)
    >>> tg.gradients(loss, [w, k])[1].shape
    (2,)
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


def is_average_with(value: Any, noise: Any) -> bool:
    """Return whether a number is a running average that was updated with a cost made from this noise."""
    return type(value) is float and any(value == mean and noise.origin in origins for mean, origins in _RECENT)
