"""Mixtures of distributions of one family, with the choice of the component summed away."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ..core import NORMAL, Array, NoiseDistribution, Tensor, Value, describe, namespace, trees, value_of
from ..domains import LOGITS, Domain
from ..ops import (
    astype,
    cumulative_sum,
    expand_dims,
    log_softmax,
    logsumexp,
    ndtr,
    reshape,
    softmax,
    squeeze,
    sum,
    take_along_axis,
    where,
)
from .distribution import Distribution, formula, parameter
from .implicit import Implicit, bisect
from .location_scale import Normal
from .outside import is_inside, reachable


@dataclass(frozen=True, eq=False)
class MixtureSameFamily(Implicit, Distribution):
    """A mixture of K distributions: the k-th with probability softmax(logits)_k.

    ``log p(x) = log sum_k softmax(logits)_k p_k(x)``. For numbers with a cdf, a draw solves
    ``sum_k softmax(logits)_k F_k(x) = u``, and its derivative, in the logits too, is the implicit one. It is large for
    draws between two components, and where these lie so far apart that no draw ever falls in between, its mean over
    draws misses that part: use the score function there. For vectors, counts, and components whose supports move, the
    component is chosen first, and the draw jumps with that choice.

    Where the supports of the components differ, the density jumps at their ends: ``gradients`` refuses a path through
    a random x, and the derivative in such an end with a random x.

    Args:
        logits: logarithms of the weights up to a constant, along the last axis, of length K.
        components: a distribution whose last batch axis has length K.

    >>> d = MixtureSameFamily(np.zeros(2), tg.Normal(np.array([-2.0, 2.0]), np.ones(2)))
    >>> float(d.mean), float(d.variance)
    (0.0, 5.0)
    """

    logits: Value = parameter(LOGITS)
    components: Distribution  # type: ignore[misc]  # mypy takes what parameter() returns for a default
    _axis = property(lambda self: -1 - len(self.event_shape))
    event_shape = property(lambda self: self.components.event_shape)
    why_no_path = property(lambda self: "which component a draw comes from jumps as the weights move")
    _weights = property(lambda self: self._over_events(softmax(self.logits)))
    mean = property(lambda self: sum(self._weights * self.components.mean, axis=self._axis))
    transform = formula(lambda self, noise: self.icdf(noise) if self.path else self._chosen(noise))
    cdf = formula(lambda self, x: sum(softmax(self.logits) * self.components.cdf(expand_dims(x, axis=-1)), axis=-1))

    def __post_init__(self) -> None:
        if not isinstance(self.components, Distribution):
            raise TypeError(f"MixtureSameFamily: components must be a distribution, found {describe(self.components)}")
        super().__post_init__()
        classes, batch = value_of(self.logits).shape[-1], self.components.batch_shape
        if batch[-1:] != (classes,):
            raise ValueError(
                f"MixtureSameFamily: logits for {classes} components need components whose last batch axis has that "
                f"length, found batch shape {batch}"
            )

    @classmethod
    def example(cls, rng: np.random.Generator, batch_shape: tuple[int, ...] = ()) -> MixtureSameFamily:
        return cls(LOGITS.draw(rng, (*batch_shape, 3)), Normal.example(rng, (*batch_shape, 3)))

    # the K components stand along one axis: the last of their batch axes, in front of the event axes

    def _over_events(self, x: Value) -> Value:
        """Return numbers of the components with an axis of length 1 for each event axis."""
        for _ in self.event_shape:
            x = expand_dims(x, axis=-1)
        return x

    @functools.cached_property
    def batch_shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(value_of(self.logits).shape[:-1], self.components.batch_shape[:-1])

    @property
    def path(self) -> str | None:  # type: ignore[override]
        """Implicit for numbers with an inverse cdf; ``None`` where there may be gaps in between, at which it jumps."""
        family, smooth = type(self.components), self.components.path is not None and not self.components.moving()
        inverts = family.cdf is not Distribution.cdf and family.icdf is not Distribution.icdf
        return "implicit" if inverts and smooth and not self.event_shape else None

    @property
    def support(self) -> Domain:
        """Whatever one of the components may draw."""
        support = self.components.support
        if not self.components.moving():
            return support
        return Domain(
            f"in the support of a component ({support})",
            lambda x: reachable(self.components, np.expand_dims(x, self._axis)).any(-1),
            lambda rng, shape: np.take(support.draw(rng, (*shape, self.logits.shape[-1])), 0, self._axis),
            len(self.event_shape),
            support.discrete,
        )

    def _apart(self) -> bool:
        """Return whether a parameter makes the supports of the components differ; else each may draw what all may."""
        moving, components = self.components.moving(), self.components
        for (path, leaf), own in zip(trees.paths(components), components.parameter_event_ndims(), strict=True):
            value = value_of(leaf)
            if path in moving and np.ndim(value) > own and value.shape[-1 - own] > 1:
                first = namespace(value).take(value, namespace(value).asarray([0]), axis=-1 - own)
                if isinstance(leaf, Tensor) or not bool((value == first).all()):
                    return True
        return False

    def moving(self) -> list[str]:
        return [f"components.{name}" for name in self.components.moving()]

    def parameter_event_ndims(self) -> list[int]:
        return [1, *(n + 1 for n in self.components.parameter_event_ndims())]

    @property
    def noise_distribution(self) -> NoiseDistribution:  # type: ignore[override]
        return super().noise_distribution if self.path else self.components.noise_distribution

    @property
    def event_noise_shape(self) -> tuple[int, ...]:
        """One number where the cdf is inverted; else one more than a component takes."""
        return () if self.path else (1 + math.prod(self.components.event_noise_shape),)

    def _chosen(self, noise: Value) -> Value:
        """Return the draw of the component that the first number of the noise chooses, from the others."""
        u = ndtr(noise[..., :1]) if self.noise_distribution is NORMAL else noise[..., :1]
        below = cumulative_sum(softmax(self.logits), axis=-1)[..., :-1] < u
        chosen = sum(astype(below, np.int64), axis=-1)
        rest = reshape(noise[..., 1:], (*noise.shape[:-1], 1, *self.components.event_noise_shape))
        index = self._over_events(expand_dims(chosen, axis=-1))
        return squeeze(take_along_axis(self.components.transform(rest), index, axis=self._axis), axis=self._axis)

    def log_density(self, x: Value) -> Value:
        x = expand_dims(x, axis=self._axis)
        terms = self.components.log_density(x)
        if self._apart():
            terms = where(is_inside(self.components, x), terms, -math.inf)
        return logsumexp(log_softmax(self.logits) + terms, axis=-1)

    @property
    def variance(self) -> Value:
        away = self.components.mean - expand_dims(self.mean, axis=self._axis)
        return sum(self._weights * (self.components.variance + away * away), axis=self._axis)

    def solve_cdf(self, p: Array) -> Array:
        quantiles = self.components.icdf(namespace(p).expand_dims(p, -1))  # it lies between two of these
        return bisect(self.cdf, p, quantiles.min(-1), quantiles.max(-1))
