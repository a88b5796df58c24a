"""The Gaussian distribution cut off at two bounds, accurate far out in a tail and for narrow intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Value, namespace, value_of
from ..domains import LOGIT, POSITIVE, REAL, Domain
from ..ops import exp, expand_dims, isfinite, log, log_ndtr, ndtri_exp, sqrt, sum
from .accurate import gauss_legendre
from .branches import choose, clamp, probability
from .distribution import Distribution, parameter
from .location_scale import LOG_SQRT_2_PI


def _above(low: Any) -> Domain:
    return Domain("greater than low", lambda x: x > low, lambda rng, shape: low + np.exp(rng.uniform(-1, 1, shape)))


@dataclass(frozen=True, eq=False)
class TruncatedNormal(Distribution):
    """The Gaussian distribution N(loc, scale^2), given that the number lies between ``low`` and ``high``.

    ``log p(x) = log N(x; loc, scale^2) - log Z`` with Z the Gaussian probability of the interval; a draw is the inverse
    cdf of a uniform. The bounds move the support, so the score function would lose what happens there: use the
    pathwise estimator for them.

    Args:
        loc: the mean before the cut, any number.
        scale: the standard deviation before the cut, positive.
        low: the lower bound, any number or minus infinity.
        high: the upper bound, greater than low; it may be infinity.

    >>> round(float(TruncatedNormal(0.0, 1.0, 30.0, np.inf).mean), 6)
    30.03326
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    low: Value = parameter(LOGIT, default=-1.0, moves_support=True)
    high: Value = parameter(lambda dist: _above(value_of(dist.low)), default=1.0, moves_support=True)
    mean = property(lambda self: self._mode(self.high)[0] + self.scale * self._integrals(self.high)[1])
    variance = property(lambda self: self.scale * self.scale * self._integrals(self.high)[2])

    @property
    def support(self) -> Domain:
        low, high = value_of(self.low), value_of(self.high)
        return Domain(
            "between low and high",
            lambda x: (x >= low) & (x <= high) & np.isfinite(x),
            lambda rng, shape: self.icdf(rng.uniform(0.1, 0.9, shape)),
            bounds=(low, high),
        )

    def _standardised(self, bound: Value) -> Value:
        """Return a bound in standard deviations from loc; infinite ones stay so and get no gradient."""
        finite = isfinite(bound)
        return choose(finite, (choose(finite, bound, 0.0) - self.loc) / self.scale, bound)

    def _mode(self, high: Value) -> tuple[Value, Value]:
        """Return the mode between ``low`` and ``high``, and in standard deviations from loc."""
        a, b = self._standardised(self.low), self._standardised(high)
        at = choose(a > 0, self.low, choose(b < 0, high, self.loc))
        return at + 0.0 * self.scale, choose(a > 0, a, choose(b < 0, b, 0.0))

    def _integrals(self, high: Value) -> tuple[Value, Value, Value, Value]:
        """Return log Z relative to the mode, mean and variance of u, and the mean of u (u / 2 + mode).

        With u the distance from the mode in standard deviations, the density is ``exp(-u (u / 2 + mode)) / Z``. The
        integrals are sums over 64 points between ``low`` and ``high``, or up to where it has fallen to exp(-40).
        """
        a, b, mode = self._standardised(self.low), self._standardised(high), self._mode(high)[1]
        both = isfinite(self.low) & isfinite(high)
        width = choose(both, (choose(both, high, 0.0) - choose(both, self.low, 0.0)) / self.scale, math.inf)
        reach = 80 / (sqrt(mode * mode + 80) + choose(mode > 0, mode, -mode))
        below, above = choose(a > 0, 0.0, choose(b < 0, -width, a)), choose(b < 0, 0.0, choose(a > 0, width, b))
        below, above = choose(below < -reach, -reach, below), choose(above > reach, reach, above)
        points, weights = gauss_legendre(namespace(value_of(reach)), reach.dtype, 64)
        half, mode = expand_dims(0.5 * (above - below), axis=-1), expand_dims(mode, axis=-1)
        u = expand_dims(below, axis=-1) + half * (1 + points)
        fall = u * (0.5 * u + mode)
        density = weights * exp(-fall)
        total = sum(density, axis=-1, keepdims=True)
        density = density / total
        mean = sum(density * u, axis=-1, keepdims=True)
        variance, fall = sum(density * (u - mean) ** 2, axis=-1), sum(density * fall, axis=-1)
        return log(half * total)[..., 0], mean[..., 0], variance, fall

    def log_mass(self, high: Value | None = None) -> Value:
        """Return log Z, the logarithm of the Gaussian probability of the interval, or of its part up to ``high``."""
        high = self.high if high is None else high
        mode = self._mode(high)[1]
        return self._integrals(high)[0] - 0.5 * mode * mode - LOG_SQRT_2_PI

    def log_density(self, x: Value) -> Value:
        at, mode = self._mode(self.high)
        u = (x - at) / self.scale
        return -u * (0.5 * u + mode) - log(self.scale) - self._integrals(self.high)[0]

    def entropy(self) -> Value:
        log_z, _, _, fall = self._integrals(self.high)
        return log(self.scale) + log_z + fall

    def cdf(self, x: Value) -> Value:
        below, above = x <= self.low, x >= self.high
        part = self.log_mass(choose(below | above, self.high, x))
        return choose(below, 0.0, choose(above, 1.0, exp(part - self.log_mass())))

    def icdf(self, p: Value) -> Value:
        """Return the quantile, from the side on which less of the interval lies beyond 0."""
        low, high = self._standardised(self.low), self._standardised(self.high)
        mirrored, p = low > -high, probability(p, self)
        a, b, q = choose(mirrored, -high, low), choose(mirrored, -low, high), choose(mirrored, 1 - p, p)
        finite, whole = isfinite(a), log_ndtr(b)
        ratio = exp(choose(finite, log_ndtr(choose(finite, a, -1.0)) - whole, -math.inf))  # Phi(a) / Phi(b)
        e = ndtri_exp(whole + log(q + (1 - q) * ratio))
        return clamp(self.loc + self.scale * choose(mirrored, -e, e), self.low, self.high)
