"""Laws with tails that fall like a power: moments of high order do not exist.

They know their formulas, and that their draws may invert a cdf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import Array, Value, namespace, value_of
from ..domains import POSITIVE, REAL, Domain, at_least
from ..ops import (
    atan2,
    betainc,
    betaincinv,
    betaln,
    cos,
    digamma,
    expm1,
    hypot,
    log,
    log1p,
    maximum,
    minimum,
    sin,
    sqrt,
    where,
)
from .distribution import Distribution, parameter
from .edges import exp_below_infinity
from .implicit import inverse_cdf


def _half_log_one_plus_square(d: Value) -> Value:
    """Return ``log(1 + d^2) / 2``, accurate near 0 and without overflow."""
    small = abs(value_of(d)) < 1
    near = where(small, d, 0.0)
    return where(small, 0.5 * log1p(near * near), log(hypot(1.0, where(small, 1.0, d))))


@dataclass(frozen=True, eq=False)
class Cauchy(Distribution):
    """The Cauchy law, the ratio of two independent centred Gaussians.

    ``log p(x) = -log(1 + d^2) - log(pi scale)`` with d = (x - loc) / scale; the inverse cdf is
    ``loc - scale / tan(pi p)``. It has neither mean nor variance: both are nan.

    Args:
        loc: the median, any number.
        scale: half the distance between the quartiles, positive.

    >>> round(float(Cauchy(0.0, 1.0).cdf(1.0)), 6)
    0.75
    """

    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = REAL

    def log_density(self, x: Value) -> Value:
        d = (x - self.loc) / self.scale
        return -2 * _half_log_one_plus_square(d) - log(math.pi * self.scale)

    @property
    def mean(self) -> Value:
        return math.nan + 0.0 * (self.loc + self.scale)

    @property
    def variance(self) -> Value:
        return math.nan + 0.0 * (self.loc + self.scale)

    def entropy(self) -> Value:
        return log(4 * math.pi * self.scale) + 0.0 * self.loc

    def cdf(self, x: Value) -> Value:
        return atan2(1.0, (self.loc - x) / self.scale) / math.pi

    def icdf(self, p: Value) -> Value:
        return self.loc - self.scale * (cos(math.pi * p) / sin(math.pi * minimum(p, 1 - p)))


@dataclass(frozen=True, eq=False)
class Pareto(Distribution):
    """The Pareto law, whose tail is ``P(X > x) = (scale / x)^concentration``.

    ``log p(x) = log(concentration / x) + concentration log(scale / x)`` for x >= scale. The scale moves the support,
    so the score function would lose what happens at its edge: use the pathwise estimator for it.

    Args:
        concentration: positive; the mean is infinite up to 1, the variance up to 2.
        scale: the smallest value, positive.

    >>> float(Pareto(3.0, 2.0).mean)
    3.0
    """

    concentration: Value = parameter(POSITIVE)
    scale: Value = parameter(POSITIVE, default=1.0, moves_support=True)

    @property
    def support(self) -> Domain:
        return at_least(value_of(self.scale))

    def log_density(self, x: Value) -> Value:
        return log(self.concentration) - log(x) - self.concentration * (log(x) - log(self.scale))

    @property
    def mean(self) -> Value:
        exists = value_of(self.concentration) > 1
        a = where(exists, self.concentration, 2.0)
        return where(exists, self.scale * (a / (a - 1)), math.inf)

    @property
    def variance(self) -> Value:
        exists = value_of(self.concentration) > 2
        a = where(exists, self.concentration, 3.0)
        ratio = self.scale / (a - 1)
        return where(exists, ratio * ratio * (a / (a - 2)), math.inf)

    def entropy(self) -> Value:
        return log(self.scale / self.concentration) + 1 / self.concentration + 1

    def cdf(self, x: Value) -> Value:
        return -expm1(-self.concentration * log(maximum(x / self.scale, 1.0)))

    def icdf(self, p: Value) -> Value:
        return maximum(self.scale, exp_below_infinity(log(self.scale) - log1p(-p) / self.concentration))


@dataclass(frozen=True, eq=False)
class StudentT(Distribution):
    """Student's law: ``loc + scale n / sqrt(c / df)`` with n standard normal and c of the law ``Chi2(df)``.

    ``log p(x) = -(df + 1) / 2 log(1 + d^2 / df) - log(scale sqrt(df) B(1/2, df / 2))`` with d = (x - loc) / scale. A
    draw is the inverse cdf of a uniform; its derivative in df is implicit.

    Args:
        df: the degrees of freedom, positive; the mean is nan up to 1, the variance infinite up to 2.
        loc: the median, any number.
        scale: positive; not the standard deviation.

    >>> float(StudentT(4.0, 1.0, 2.0).variance)
    8.0
    """

    df: Value = parameter(POSITIVE)
    loc: Value = parameter(REAL, default=0.0)
    scale: Value = parameter(POSITIVE, default=1.0)
    support = REAL
    path = "implicit"

    def _log_normaliser(self) -> Value:
        return log(self.scale) + 0.5 * log(self.df) + betaln(0.5, 0.5 * self.df)

    def log_density(self, x: Value) -> Value:
        d = (x - self.loc) / self.scale
        return -(self.df + 1) * _half_log_one_plus_square(d / sqrt(self.df)) - self._log_normaliser()

    @property
    def mean(self) -> Value:
        return where(value_of(self.df) > 1, self.loc, math.nan) + 0.0 * (self.df + self.scale)

    @property
    def variance(self) -> Value:
        finite = value_of(self.df) > 2
        df = where(finite, self.df, 3.0)
        spread = where(finite, self.scale * self.scale * (df / (df - 2)), math.inf)
        return where(value_of(self.df) > 1, spread, math.nan) + 0.0 * self.loc

    def entropy(self) -> Value:
        half = 0.5 * (self.df + 1)
        return half * (digamma(half) - digamma(0.5 * self.df)) + self._log_normaliser() + 0.0 * self.loc

    def cdf(self, x: Value) -> Value:
        r = (x - self.loc) / (self.scale * sqrt(self.df))
        r = where(value_of(r) == 0, r + 1e-15, r)  # at the centre the formula is 0 times infinity
        central, below = abs(value_of(r)) < 1, value_of(r) < 0
        square = where(central, r, 1.0) ** 2
        centre = 0.5 * betainc(0.5, 0.5 * self.df, square / (1 + square))
        tail = 0.5 * betainc(0.5 * self.df, 0.5, hypot(1.0, where(central, 1.0, r)) ** -2)
        return where(central, where(below, 0.5 - centre, 0.5 + centre), where(below, tail, 1 - tail))

    def icdf(self, p: Value) -> Value:
        return self.loc + self.scale * inverse_cdf(StudentT(self.df), p)

    def solve_cdf(self, p: Array) -> Array:
        """Return the quantile of the law with loc 0 and scale 1, from that of a Beta law for ``t^2 / (df + t^2)``.

        It ends where the density would underflow, at 10^77, or 10^9 in float32.
        """
        xp, half = namespace(p), 0.5 * self.df
        wide = p.astype(np.float64)
        tail = 2 * xp.minimum(wide, 1 - wide)
        y = betaincinv(half, 0.5, xp.minimum(tail, 0.5))
        w = betaincinv(0.5, half, 1 - xp.maximum(tail, 0.5))
        ratio = xp.where(tail < 0.5, (1 - y) / xp.maximum(y, float(np.finfo(p.dtype).tiny) ** 0.5), w / (1 - w))
        t = xp.sqrt(2 * half * ratio)
        return xp.where(p < 0.5, -t, t).astype(p.dtype)
