"""Distributions made of another one: of several draws taken together, or of a function of a draw."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, Value, describe, trees, value_of
from ..domains import Domain
from ..ops import sum
from .bijections import Bijection, Exp
from .branches import choose
from .distribution import Distribution, formula
from .location_scale import Normal


class _OfBase:
    """What a distribution has from the one that it is made of."""

    base: Distribution
    path = property(lambda self: self.base.path)
    why_no_path = property(lambda self: self.base.why_no_path)
    noise_distribution = property(lambda self: self.base.noise_distribution)
    event_noise_shape = property(lambda self: self.base.event_noise_shape)

    def __post_init__(self) -> None:
        if not isinstance(self.base, Distribution):
            raise TypeError(f"{type(self).__name__}: base must be a distribution, found {describe(self.base)}")


@dataclass(frozen=True, eq=False)
class Independent(_OfBase, Distribution):
    """A distribution whose last ``n`` batch axes belong to one draw: log-probabilities and entropies add up over them.

    ``log p(x) = sum over the last n axes of log p_base(x)``.

    Args:
        base: the distribution of each element.
        n: how many of its last batch axes become event axes.

    >>> Independent(Normal(np.zeros(3), 1.0), 1).log_prob(np.zeros(3)).shape
    ()
    """

    base: Distribution
    n: int = trees.static(default=1)
    support = property(lambda self: self.base.support)
    mean = property(lambda self: self.base.mean)
    variance = property(lambda self: self.base.variance)
    family = property(lambda self: self.base.family)
    element = property(lambda self: self.base.element)
    _joined = property(lambda self: self.base.batch_shape[len(self.base.batch_shape) - self.n :])
    event_shape = property(lambda self: (*self._joined, *self.base.event_shape))
    event_noise_shape = property(lambda self: (*self._joined, *self.base.event_noise_shape))
    transform = formula(lambda self, noise: self.base.transform(noise))
    log_density = formula(lambda self, x: self._sum(self.base.log_density(x)))
    entropy = formula(lambda self: self._sum(self.base.entropy()))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.n <= len(self.base.batch_shape):
            raise ValueError(
                f"Independent(base, n={self.n}): the base has batch shape {self.base.batch_shape}, which has fewer axes"
            )

    @classmethod
    def example(cls, rng: np.random.Generator, batch_shape: tuple[int, ...] = ()) -> Independent:
        return cls(Normal.example(rng, (*batch_shape, 2)), 1)

    @functools.cached_property
    def batch_shape(self) -> tuple[int, ...]:
        shape = self.base.batch_shape
        return shape[: len(shape) - self.n]

    def _sum(self, x: Value) -> Value:
        return sum(x, axis=tuple(range(-self.n, 0))) if self.n else x

    def moving(self) -> list[str]:
        return [f"base.{name}" for name in self.base.moving()]

    def parameter_event_ndims(self) -> list[int]:
        """Return the count of the base and ``n`` more: the axes that make up one draw."""
        return [self.n + own for own in self.base.parameter_event_ndims()]


@dataclass(frozen=True, eq=False)
class Transformed(_OfBase, Distribution):
    """The distribution of ``f(x)`` with x ~ ``base`` and an increasing function f, made of one or more bijections.

    ``log p(y) = log p_base(x) - log f'(x)`` at ``x = f^-1(y)``; the probabilities of a discrete base stay. A
    draw is f of a draw of the base, with its path.

    A bijection applied to numbers with an end, as after ``Exp``, ``Sigmoid`` or ``Tanh``, moves the support: its
    parameters have a path and no score function, even where the density vanishes at that end.

    Args:
        base: the distribution of x.
        bijections: a bijection, or a tuple of them, the first to be applied first.

    >>> d = Transformed(tg.Normal(0.0, 1.0), tg.bijections.Exp())
    >>> bool(np.isclose(d.log_prob(2.0), tg.LogNormal(0.0, 1.0).log_prob(2.0)))
    True
    """

    base: Distribution
    bijections: Any
    steps = property(lambda self: self.bijections if isinstance(self.bijections, tuple) else (self.bijections,))
    event_shape = property(lambda self: self.base.event_shape)
    transform = formula(lambda self, noise: self._forward(self.base.transform(noise)))
    icdf = formula(lambda self, p: self._forward(self.base.icdf(p)))

    def __post_init__(self) -> None:
        super().__post_init__()
        for f in self.steps:
            if not isinstance(f, Bijection):
                raise TypeError(
                    f"Transformed(base, bijections) takes bijections such as tg.bijections.Exp(), found {describe(f)}"
                )
        _ = self.batch_shape  # raises where the parameters do not broadcast

    @classmethod
    def example(cls, rng: np.random.Generator, batch_shape: tuple[int, ...] = ()) -> Transformed:
        return cls(Normal.example(rng, batch_shape), Exp())

    @property
    def support(self) -> Domain:
        base = self.base.support

        def contains(y: Array) -> Array:
            inside: Any = True
            for f in reversed(self.steps):
                reached = f.image.contains(y)
                inside = inside & reached
                y = value_of(f.inverse(f.nearest(np.where(reached, y, f.image.draw(np.random.default_rng(0), ())))))
            found = base.contains(y)
            return found & (inside.all(-1) if base.event_ndim else inside)

        draw = lambda rng, shape: value_of(self._forward(base.draw(rng, shape)))  # noqa: E731
        names = " and ".join(type(f).__name__ for f in self.steps)
        name, bounds = f"what {names} makes of {base}", self._bounds()[-1]
        return Domain(name, contains, draw, base.event_ndim, base.discrete, bounds)

    def _bounds(self) -> list[tuple[Any, Any]]:
        """Return the bounds of the numbers before each step, and those of the draws."""
        low, high = self.base.support.bounds
        found = [(low, high)]
        for f in trees.map_leaves(value_of, self.steps):
            low, high = f.forward(low), f.forward(high)
            found.append((low, high))
        return found

    @functools.cached_property
    def batch_shape(self) -> tuple[int, ...]:
        shapes = [np.shape(value_of(x)) for f in self.steps for x in trees.leaves(f)]
        whole = np.broadcast_shapes(self.base.batch_shape + self.event_shape, *shapes)
        return whole[: len(whole) - len(self.event_shape)]

    def moving(self) -> list[str]:
        """Return what moves the support: the parameters of a bijection do, unless it may be given any number."""
        own, base = [], self.base.moving()
        ends = self.base.support.discrete or bool(base)
        for k, (f, bounds) in enumerate(zip(self.steps, self._bounds(), strict=False)):
            ends = ends or not all(np.isinf(bound).all() for bound in bounds)
            prefix = f"bijections.{k}" if isinstance(self.bijections, tuple) else "bijections"
            own += [path for path, _ in trees.paths(f, prefix)] if ends else []
        return [f"base.{name}" for name in base] + own

    def parameter_event_ndims(self) -> list[int]:
        own = [min(len(self.event_shape), np.ndim(value_of(x))) for x in trees.leaves(self.bijections)]
        return self.base.parameter_event_ndims() + own

    def _forward(self, x: Value) -> Value:
        for f in self.steps:
            x = f.forward(x)
        return x

    def log_density(self, x: Value) -> Value:
        total: Value = 0.0
        for f in reversed(self.steps):
            x = f.inverse(x)
            total = total + f.log_slope(x)
        if self.base.support.discrete:
            return self.base.log_density(x)
        if self.event_shape:
            total = sum(total, axis=tuple(range(-len(self.event_shape), 0)))
        return self.base.log_density(x) - total

    def cdf(self, x: Value) -> Value:
        below: Value = x < -math.inf
        above: Value = x > math.inf
        for f in reversed(self.steps):
            low, high = f.image.bounds
            below, above = below | (x <= low), above | (x >= high)
            x = f.inverse(f.nearest(x))
        return choose(below, 0.0, choose(above, 1.0, self.base.cdf(x)))
