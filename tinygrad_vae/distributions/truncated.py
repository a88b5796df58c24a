"""The Gaussian law cut off at two bounds, in logarithms, so that it holds far out in a tail too.

It knows its formulas alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Value, value_of
from ..domains import LOGIT, POSITIVE, REAL, Domain
from ..ops import clip, exp, expm1, log, log1p, log_ndtr, ndtri_exp, where
from .distribution import Distribution, parameter

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


def _log_one_minus_exp(x: Value) -> Value:
    """Return ``log(1 - exp(x))`` for x < 0, accurate at both ends."""
    near = value_of(x) > -math.log(2)
    return where(near, log(-expm1(where(near, x, -1.0))), log1p(-exp(where(near, -1.0, x))))


def _above(low: Any) -> Domain:
    return Domain("greater than low", lambda x: x > low, lambda rng, shape: low + np.exp(rng.uniform(-1, 1, shape)))


@dataclass(frozen=True, eq=False)
class TruncatedNormal(Distribution):
    """The Gaussian law N(loc, scale^2), given that the number lies between ``low`` and ``high``.

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

    @property
    def support(self) -> Domain:
        low, high = value_of(self.low), value_of(self.high)
        return Domain(
            "between low and high",
            lambda x: (x >= low) & (x <= high) & np.isfinite(x),
            lambda rng, shape: self.icdf(rng.uniform(0.1, 0.9, shape)),
            bounds=(low, high),
        )

    def _bounds(self) -> tuple[Value, Value, Value]:
        """Return the bounds in standard deviations from loc, mirrored so that less lies below, and whether they are."""

        def standardised(bound: Value) -> Value:
            finite = np.isfinite(value_of(bound))
            return where(finite, (where(finite, bound, 0.0) - self.loc) / self.scale, bound)

        a, b = standardised(self.low), standardised(self.high)
        mirrored = value_of(a) > -value_of(b)
        return where(mirrored, -b, a), where(mirrored, -a, b), mirrored

    def _log_masses(self) -> tuple[Value, Value, Value]:
        """Return ``log Phi(b)``, ``Phi(a) / Phi(b)`` and log Z, for the mirrored bounds."""
        a, b, _ = self._bounds()
        finite = np.isfinite(value_of(a))
        whole = log_ndtr(b)
        gap = where(finite, log_ndtr(where(finite, a, -1.0)) - whole, -math.inf)
        below = where(finite, exp(where(finite, gap, -1.0)), 0.0)
        rest = where(finite, _log_one_minus_exp(where(finite, gap, -1.0)), 0.0)
        return whole, below, whole + rest

    def _edges(self) -> tuple[Value, Value, Value, Value]:
        """Return the densities at the mirrored bounds, and their products with the bounds, which vanish at infinity."""
        a, b, _ = self._bounds()
        log_z = self.log_mass()

        def at(bound: Value) -> tuple[Value, Value]:
            finite = np.isfinite(value_of(bound))
            inside = where(finite, bound, 0.0)
            density = exp(where(finite, -0.5 * inside * inside - _LOG_SQRT_2_PI - log_z, -math.inf))
            return density, inside * density

        return *at(a), *at(b)

    def log_mass(self) -> Value:
        """Return log Z, the logarithm of the Gaussian probability of the interval."""
        return self._log_masses()[2]

    def log_density(self, x: Value) -> Value:
        e = (x - self.loc) / self.scale
        return -0.5 * (e * e) - log(self.scale) - _LOG_SQRT_2_PI - self.log_mass()

    @property
    def mean(self) -> Value:
        at_a, _, at_b, _ = self._edges()
        return self.loc + self.scale * where(self._bounds()[2], at_b - at_a, at_a - at_b)

    @property
    def variance(self) -> Value:
        at_a, a_at_a, at_b, b_at_b = self._edges()
        mean = at_a - at_b
        return self.scale * self.scale * (1 + a_at_a - b_at_b - mean * mean)

    def entropy(self) -> Value:
        _, a_at_a, _, b_at_b = self._edges()
        return 0.5 + _LOG_SQRT_2_PI + log(self.scale) + self.log_mass() + 0.5 * (a_at_a - b_at_b)

    def cdf(self, x: Value) -> Value:
        mirrored = self._bounds()[2]
        whole, below, log_z = self._log_masses()
        e = (clip(x, self.low, self.high) - self.loc) / self.scale
        mass = exp(log_ndtr(where(mirrored, -e, e)) - log_z) - below * exp(whole - log_z)
        return where(mirrored, 1 - mass, mass)

    def icdf(self, p: Value) -> Value:
        mirrored = self._bounds()[2]
        whole, below, _ = self._log_masses()
        q = where(mirrored, 1 - p, p)
        e = ndtri_exp(whole + log(q + (1 - q) * below))
        return clip(self.loc + self.scale * where(mirrored, -e, e), self.low, self.high)
