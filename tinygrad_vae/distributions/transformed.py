"""Distributions of functions of a random number, by the change of variables."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, Value, describe, trees, value_of
from ..domains import Domain
from ..ops import logical_or, sum
from .bijections import Bijection, Exp
from .branches import choose
from .distribution import Distribution
from .location_scale import Normal


@dataclass(frozen=True, eq=False)
class Transformed(Distribution):
    """The distribution of ``f(x)`` with x ~ ``base`` and an increasing function f, made of one or more bijections.

    ``log p(y) = log p_base(x) - log f'(x)`` at ``x = f^-1(y)``; the probabilities of a discrete base stay. A
    draw is f of a draw of the base, with its path.

    A bijection that comes where the numbers have an end, as they do after ``Exp``, ``Sigmoid`` or ``Tanh``, moves the
    support: its parameters have a path and no score function. They are refused even where the end
    would stay or the density vanishes there, as it does for a shifted log-normal number.

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
    path = property(lambda self: self.base.path)
    why_no_path = property(lambda self: self.base.why_no_path)
    noise_distribution = property(lambda self: self.base.noise_distribution)
    event_shape = property(lambda self: self.base.event_shape)

    def __post_init__(self) -> None:
        if not isinstance(self.base, Distribution):
            raise TypeError(f"Transformed(base, bijections): base must be a distribution, found {describe(self.base)}")
        for f in self.steps:
            if not isinstance(f, Bijection):
                raise TypeError(
                    f"Transformed(base, bijections) takes bijections such as tg.bijections.Exp(), found {describe(f)}"
                )
        _ = self.batch_shape  # raises where the parameters do not broadcast

    @classmethod
    def example(cls, rng: np.random.Generator, batch_shape: tuple[int, ...] = ()) -> Transformed:
        """Return the exponential of a normal number, for tests."""
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

        def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
            x = base.draw(rng, shape)
            for f in self.steps:
                x = value_of(f.forward(x))
            return x

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

    def noise_shape(self, shape: tuple[int, ...] = ()) -> tuple[int, ...]:
        noise = self.base.noise_shape()
        return (*shape, *self.batch_shape, *noise[len(self.base.batch_shape) :])

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

    def transform(self, noise: Value) -> Value:
        x = self.base.transform(noise)
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
            below, above = logical_or(below, x <= low), logical_or(above, x >= high)
            x = f.inverse(f.nearest(x))
        return choose(below, 0.0, choose(above, 1.0, self.base.cdf(x)))

    def icdf(self, p: Value) -> Value:
        x = self.base.icdf(p)
        for f in self.steps:
            x = f.forward(x)
        return x
