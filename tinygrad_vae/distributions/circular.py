"""A distribution of angles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core import Array, Value, namespace, value_of
from ..domains import NONNEGATIVE, Domain
from ..ops import asin, exp, expand_dims, i0e, i1e, log, sin, sqrt, stop_gradient, sum
from .accurate import gauss_legendre, polynomial
from .branches import choose, clamp
from .distribution import Distribution, parameter
from .implicit import Implicit, bisect

_ANGLE = Domain("an angle in radians", np.isfinite, lambda rng, shape: rng.uniform(-3, 3, shape))


def _height(concentration: Value, t: Value) -> Value:
    """Return the density at an angle t from its mode, divided by that at the mode, ``1 / (2 pi I0(k) exp(-k))``."""
    half = sin(0.5 * t)
    return exp(-2 * concentration * (half * half))


@dataclass(frozen=True, eq=False)
class VonMises(Implicit, Distribution):
    """The von Mises distribution on the circle, close to a Gaussian of variance 1 / concentration where that is large.

    ``log p(x) = k cos(x - loc) - log(2 pi I0(k))`` with k = concentration, the same for angles that are 2 pi apart. A
    draw lies within pi of loc. So loc moves the range of the draws, and there is no score function for it; the
    path, which is implicit, is right for every cost. ``mean`` and ``variance`` treat the draw as a number,
    ``circular_variance`` is 1 - E cos(x - loc).

    Args:
        loc: the mean direction, any angle.
        concentration: k, from 0, where all angles are equally likely.

    >>> round(float(VonMises(0.0, 2.0).circular_variance), 6)
    0.302225
    """

    loc: Value = parameter(_ANGLE, default=0.0, moves_support=True)
    concentration: Value = parameter(NONNEGATIVE, default=1.0)
    support = _ANGLE
    mean = property(lambda self: self.loc + 0.0 * self.concentration)
    variance = property(lambda self: 2 * self._integral(0.0, lambda t: t * t) + 0.0 * self.loc)

    @property
    def off_zero(self) -> Value:
        """The concentration, moved a hair above 0, so that derivatives at 0 are taken from the right."""
        dtype = np.result_type(getattr(self.concentration, "dtype", np.float64), np.float32)
        return self.concentration + float(np.finfo(dtype).tiny)

    def log_density(self, x: Value) -> Value:
        k = self.off_zero
        half = sin(0.5 * (x - self.loc))
        return -2 * k * (half * half) - log(2 * math.pi * i0e(k))

    @property
    def circular_variance(self) -> Value:
        """1 - E cos(x - loc), from 0 for a point to 1 for the whole circle."""
        k = self.off_zero
        large = k > 300
        near, t = choose(large, 1.0, k), 1 / choose(large, k, 300.0)
        series = t * polynomial((1 / 2, 1 / 8, 1 / 8, 25 / 128, 13 / 32, 1073 / 1024), t)
        return choose(large, series, 1 - i1e(near) / i0e(near)) + 0.0 * self.loc

    def entropy(self) -> Value:
        k = self.off_zero
        return log(2 * math.pi * i0e(k)) + k * self.circular_variance

    def _reach(self) -> Value:
        """Return the angle beyond which less than exp(-40) of the probability lies, at most pi."""
        return stop_gradient(2 * asin(sqrt(20 / clamp(self.off_zero, 20.0))))

    def _integral(self, start: Value, weight: Callable[[Value], Value]) -> Value:
        """Return the integral of weight times the density of x - loc, from ``start`` on, by Gauss-Legendre."""
        k, reach = self.off_zero, self._reach() + 0.0 * start
        points, weights = gauss_legendre(namespace(value_of(reach)), reach.dtype, 32)
        start = choose(start > reach, reach, start) + 0.0 * reach
        half = 0.5 * (reach - start)
        t = expand_dims(start, axis=-1) + expand_dims(half, axis=-1) * (1 + points)
        heights = weights * (weight(t) * _height(expand_dims(k + 0.0 * half, axis=-1), t))
        return half * sum(heights, axis=-1) / (2 * math.pi * i0e(k))

    def _beyond(self, t: Value) -> Value:
        """Return the probability that x - loc is above t, for t from 0 to pi."""
        return self._integral(t, lambda t: 1.0)

    def cdf(self, x: Value) -> Value:
        """Return the probability of a draw, which lies within pi of loc, up to x."""
        y = clamp(x - self.loc, -math.pi, math.pi)
        below = y < 0
        beyond = self._beyond(choose(below, -y, y))
        return choose(below, beyond, 1 - beyond)

    def solve_cdf(self, p: Array) -> Array:
        """Bisect twelve times, to a fraction of the width, and go on with three steps of Newton."""
        xp = namespace(p)
        below = p < 0.5
        tail = xp.where(below, p, 1 - p)
        reach = self._reach() + xp.zeros_like(tail)
        t = bisect(lambda t: -self._beyond(t), -tail, xp.zeros_like(reach), reach, steps=12)
        for _ in range(3):
            density = _height(self.concentration, t) / (2 * math.pi * i0e(self.concentration))
            t = xp.clip(t + (self._beyond(t) - tail) / density, 0, reach)
        return (self.loc + xp.where(below, -t, t)).astype(p.dtype)
