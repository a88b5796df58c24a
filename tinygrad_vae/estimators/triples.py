"""Stochastic triples in reverse mode: a discrete draw, another value that it might have had, and what that weighs.

``dE K(z) = E (K(z') - K(z)) dpath`` takes the cost at one more value z' of a draw z, and no derivative of it. Later
draws keep their noise, so that most of them come out as before, and the difference is calm. A distribution declares z'
and the path: ``Distribution.alternative``. Arya, Schauer, Schäfer and Rackauckas 2022, who go forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..core import UNIFORM, NoiseStream, Sample, Tensor, Value, namespace, new_noise, rewrite
from ..distributions.distribution import Distribution
from ..guard.axes import surviving_axes
from .elements import aligned, batch_ndim, changed, check_independent, mixed_shape, positions
from .estimator import LARGEST, Estimator, Rest, closed_at, slope, with_slopes, zero
from .score_function import weighable

UNIFORM_PART = 1 / 49
"""What every option weighs beside its size, for a mean size of 1: a fiftieth of all choices is uniform."""


class Triples(Estimator):
    """``K(z) + path (K(z') - K(z))`` for each draw by itself: a copy of the cost for each element that it mixes.

    For Bernoulli, Binomial, Geometric, NegativeBinomial, Poisson, Categorical, OneHotCategorical, and whatever declares
    an ``alternative``; valid for every cost, and also where a probability is 0 or 1. First derivatives only.
    Arya, Schauer, Schäfer and Rackauckas 2022.

    >>> p = tg.Tensor(0.3, "p")
    >>> b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    >>> cost = tg.estimate((b - 0.45) ** 2, {"b": "triples"})  # whichever came: f(1) - f(0)
    >>> round(float(tg.gradients(cost, p)), 6)
    0.1
    """

    name: ClassVar[str] = "triples"

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        dist = z.dist.element
        if type(dist).alternative is Distribution.alternative:
            return f"no other value beside a draw of {type(dist).__name__} is declared"
        copies = math.prod(mixed_shape(z, cost))
        if copies > LARGEST and type(self) is Triples:
            return f"the cost mixes {copies} elements, and each takes a copy of it; pruned-triples takes one for all"
        return None

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        other, path, _ = self._triple(z, stopped)
        masks = list(positions(mixed_shape(z, cost), z.value))
        paths = [aligned(path * ops.astype(mask, z.noise.dtype), z, cost) for mask in masks]
        return lambda k: with_slopes(
            k, ((p, rest.number(changed(stopped, m, other)) - k) for p, m in zip(paths, masks, strict=True))
        )

    def _triple(self, z: Sample, stopped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the other value, the path with the value 0, and the size."""
        other, path, size = weighable(z, self.name).element.alternative(stopped, ops.stop_gradient(z.noise))
        return ops.stop_gradient(other), zero(self.noted(path, z)), ops.stop_gradient(size)


class PrunedTriples(Triples):
    """One draw of all is changed, chosen at random: the cost at two outcomes gives the gradient in all parameters.

    ``K(z) + path_i / q_i (K(z with z_i' for z_i) - K(z))``, where draw i is chosen with probability q_i. Each example
    of a batch chooses a draw, and an element of it, of its own, as far as the cost keeps the examples apart. Draws with
    a large size are chosen more often; a fiftieth of all choices is uniform.
    Arya, Schauer, Schäfer and Rackauckas 2022.

    Args:
        rng: a stream from ``tg.noise(seed)`` for the choice.

    >>> logit, rng, place = tg.Tensor(0.3, "logit"), tg.noise(0), 0.0
    >>> for _ in range(100):
    ...     place = place + tg.Bernoulli(logits=logit - 0.1 * place).sample(rng=rng)
    >>> gradient = tg.gradients(tg.PrunedTriples(tg.noise(1))(place**2), logit)
    >>> bool(np.isfinite(gradient))
    True
    """

    name: ClassVar[str] = "pruned-triples"

    def __init__(self, rng: NoiseStream) -> None:
        self.rng = rng

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        path, ((mask, other),) = self._chosen([z], [stopped], cost)
        return lambda k: k + slope(path, rest.number(changed(stopped, mask, other)) - k, k)

    def together(self, samples: Sequence[Sample], cost: Tensor) -> Tensor | None:
        new = closed_at(cost, samples)
        k, stopped = new[id(cost)], [new[id(z)] for z in samples]
        path, changes = self._chosen([x.inputs[0] for x in stopped], stopped, k)
        there = dict(zip(map(id, samples), changes, strict=True))

        def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
            """Change the chosen element; later draws are drawn again with their noise."""
            if node.op is None or id(node) not in there:
                return None
            same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
            return changed(node if same else node.op.record(inputs, node.attrs, node.name), *there[id(node)])

        return k + slope(path, ops.stop_gradient(rewrite(cost, rule)) - k, k)

    def _chosen(
        self, samples: Sequence[Sample], stopped: Sequence[Tensor], cost: Tensor
    ) -> tuple[Value, list[tuple[Value, Tensor]]]:
        """Choose one element of all draws. Return the path of the difference, and where and to what each changes."""
        triples = [self._triple(*pair) for pair in zip(samples, stopped, strict=True)]
        layouts = _layouts(samples, cost)
        sizes = [at.to_options(size) for at, (*_, size) in zip(layouts, triples, strict=True)]
        weights = ops.astype(ops.concat(sizes, axis=-1), np.float64)
        weights = weights + (UNIFORM_PART * ops.mean(weights, axis=-1, keepdims=True) + 1e-30)  # above 0
        upto = ops.cumulative_sum(weights, axis=-1)
        u = new_noise(self.rng, UNIFORM, upto.shape[:-1], np.float64, (upto.value,))
        below = upto[..., :-1] <= ops.expand_dims(u, axis=-1) * upto[..., -1:]
        number = ops.sum(ops.astype(below, np.int64), axis=-1, keepdims=True)
        chosen = number == namespace(upto.value).arange(weights.shape[-1])
        factors = ops.where(chosen, upto[..., -1:] / weights, 0.0)  # 1 / q
        total: Any = 0.0
        changes, end = [], 0
        for z, at, size, (other, path, _) in zip(samples, layouts, sizes, triples, strict=True):
            start, end = end, end + size.shape[-1]
            factor = ops.astype(at.to_elements(factors[..., start:end]), z.noise.dtype)
            total = total + aligned(path * factor, z, cost)
            changes.append((at.to_elements(chosen[..., start:end]), other))
        return total, changes


@dataclass(frozen=True)
class _Layout:
    """The elements of a draw in another order: a row of options for each element of the cost that chooses by itself."""

    shape: tuple[int, ...]  # of the elements
    kept: tuple[int, ...]  # axes along which each has a choice of its own
    along: tuple[int, ...]  # axes that the cost keeps apart too, but not for all draws: changed all at once
    mixed: tuple[int, ...]  # the others: one is chosen

    def to_options(self, x: Value) -> Value:
        """Return a number for each element as one for each option, of shape (kept..., options)."""
        x = ops.permute_dims(ops.broadcast_to(x, self.shape), self.kept + self.along + self.mixed)
        first = len(self.kept)
        x = ops.mean(x, axis=tuple(range(first, first + len(self.along)))) if self.along else x
        return ops.reshape(x, (*x.shape[:first], math.prod(x.shape[first:])))

    def to_elements(self, x: Value) -> Value:
        """Return a number for each option as one for each element."""
        axes = self.kept + self.along + self.mixed
        x = ops.reshape(x, tuple(1 if a in self.along else self.shape[a] for a in axes))
        return ops.broadcast_to(ops.permute_dims(x, tuple(map(int, np.argsort(axes)))), self.shape)


def _layouts(samples: Sequence[Sample], cost: Tensor) -> list[_Layout]:
    """Return where each draw has a choice of its own: along the axes that the cost keeps apart for all of them."""
    rows = []
    for z in samples:
        labels = surviving_axes(cost, z)
        check_independent(z, labels)
        rows.append([label if label is not None and label < batch_ndim(z) else None for label in labels])
    common = [a for a in range(cost.ndim) if all(row[a] is not None for row in rows)]
    layouts = []
    for z, row in zip(samples, rows, strict=True):
        carried = {a: label for a, label in enumerate(row) if label is not None}
        kept = tuple(carried[a] for a in common)
        along = tuple(label for label in carried.values() if label not in kept)
        mixed = tuple(a for a in range(batch_ndim(z)) if a not in kept + along)
        layouts.append(_Layout(z.shape[: batch_ndim(z)], kept, along, mixed))
    return layouts
