"""Distributions with tails that fall like a power: moments of high order do not exist."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import Array, Value, namespace, special
from ..domains import NONNEGATIVE, POSITIVE, REAL, at_least
from ..ops import atan, betainc, betaln, cos, expm1, hypot, log, log1p, minimum, ndtr, sin, sqrt, square, tan
from .accurate import digamma_gap, in_float64, log_binomial
from .bounded import Beta
from .branches import choose, clamp, exp_below_infinity, infinite_up_to, probability
from .distribution import Distribution, formula, parameter
from .implicit import Implicit, inverse_cdf
from .location_scale import LocationScale

_NEARLY_NORMAL = 1e8
"""Degrees of freedom from which on Student's distribution is a Gaussian one, with a correction of first order."""


def _half_log_one_plus_square(d: Value) -> Value:
    """Return ``log(1 + d^2) / 2``, accurate near 0 and without overflow."""
    small = abs(d) < 1
    near = choose(small, d, 0.0)
    return choose(small, 0.5 * log1p(near * near), log(hypot(1.0, choose(small, 1.0, d))))


@dataclass(frozen=True, eq=False)
class Cauchy(LocationScale, Distribution):
    """The Cauchy distribution, the ratio of two independent centred Gaussians.

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
    standard_moments = math.nan, math.nan, math.log(4 * math.pi)

    def log_density(self, x: Value) -> Value:
        return -2 * _half_log_one_plus_square(self.standardised(x)) - log(math.pi * self.scale)

    def cdf(self, x: Value) -> Value:
        d = self.standardised(x)
        far = d < -1  # there 1/2 + atan(d) / pi would lose digits
        return choose(far, -atan(1 / choose(far, d, -1.0)), math.pi / 2 + atan(d)) / math.pi

    def icdf(self, p: Value) -> Value:
        p = probability(p, self)
        return self.loc - self.scale * (cos(math.pi * p) / sin(math.pi * minimum(p, 1 - p)))


@dataclass(frozen=True, eq=False)
class HalfCauchy(Distribution):
    """The distribution of ``|c|`` with c ~ Cauchy(0, scale): a prior for standard deviations.

    ``log p(x) = -log(1 + (x / scale)^2) - log(pi scale / 2)`` for x >= 0. Mean and variance are infinite.

    Args:
        scale: the median, positive.

    >>> round(float(HalfCauchy(2.0).icdf(0.5)), 6)
    2.0
    """

    scale: Value = parameter(POSITIVE, default=1.0)
    support = NONNEGATIVE
    mean = property(lambda self: math.inf + 0.0 * self.scale)
    variance = property(lambda self: math.inf + 0.0 * self.scale)
    entropy = formula(lambda self: log(2 * math.pi * self.scale))
    cdf = formula(lambda self, x: (2 / math.pi) * atan(clamp(x, 0.0) / self.scale))
    icdf = formula(lambda self, p: self.scale * tan(0.5 * math.pi * probability(p, self)))

    def log_density(self, x: Value) -> Value:
        return -2 * _half_log_one_plus_square(x / self.scale) - log(0.5 * math.pi * self.scale)


@dataclass(frozen=True, eq=False)
class Pareto(Distribution):
    """The Pareto distribution, whose tail is ``P(X > x) = (scale / x)^concentration``.

    ``log p(x) = log(concentration / x) + concentration log(scale / x)`` for x >= scale. The scale moves the support,
    so the score function would lose what happens at its edge: use the pathwise estimator for it. Both parameters are
    given by name, since PyTorch has them in the other order.

    Args:
        concentration: positive; the mean is infinite up to 1, the variance up to 2.
        scale: the smallest value, positive.

    >>> float(Pareto(concentration=3.0, scale=2.0).mean)
    3.0
    """

    concentration: Value = parameter(POSITIVE, kw_only=True)
    scale: Value = parameter(POSITIVE, default=1.0, moves_support=True, kw_only=True)
    mean = property(lambda self: infinite_up_to(1, self.concentration, lambda a: self.scale * (a / (a - 1))))
    support = property(lambda self: at_least(self.scale))
    entropy = formula(lambda self: log(self.scale / self.concentration) + 1 / self.concentration + 1)
    cdf = formula(lambda self, x: -expm1(-self.concentration * log(clamp(x / self.scale, 1.0))))

    def log_density(self, x: Value) -> Value:
        return log(self.concentration) - log(x) - self.concentration * (log(x) - log(self.scale))

    @property
    def variance(self) -> Value:
        return infinite_up_to(2, self.concentration, lambda a: square(self.scale / (a - 1)) * (a / (a - 2)))

    def icdf(self, p: Value) -> Value:
        x = exp_below_infinity(log(self.scale) - log1p(-probability(p, self)) / self.concentration)
        return choose(x < self.scale, self.scale, x)


@dataclass(frozen=True, eq=False)
class StudentT(LocationScale, Distribution):
    """Student's distribution: ``loc + scale n / sqrt(c / df)`` with n standard normal and c ~ Chi2(df).

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
    path = "implicit"
    mean = property(lambda self: choose(self.df > 1, self.loc, math.nan) + 0.0 * (self.df + self.scale))
    cdf = formula(lambda self, x: in_float64(_student_cdf, self.df, self.standardised(x)))
    icdf = formula(lambda self, p: self.loc + self.scale * inverse_cdf(StudentT(self.df), probability(p, self)))

    def _log_normaliser(self) -> Value:
        return log(self.scale) + 0.5 * log(self.df) + betaln(0.5, 0.5 * self.df)

    def log_density(self, x: Value) -> Value:
        d = self.standardised(x) / sqrt(self.df)
        return -(self.df + 1) * _half_log_one_plus_square(d) - self._log_normaliser()

    @property
    def variance(self) -> Value:
        spread = infinite_up_to(2, self.df, lambda df: self.scale * self.scale * (df / (df - 2)))
        return choose(self.df > 1, spread, math.nan) + 0.0 * self.loc

    def entropy(self) -> Value:
        half = 0.5 * self.df
        mean_log = log1p(1 / self.df) + digamma_gap(half) - digamma_gap(half + 0.5)
        return (half + 0.5) * mean_log + self._log_normaliser() + 0.0 * self.loc

    def solve_cdf(self, p: Array) -> Array:
        """Return the quantile for loc 0 and scale 1, from the quantile of ``t^2 / (df + t^2)``, which is a Beta number.

        It ends where the density would underflow, at 10^77, or 10^9 in float32.
        """
        xp, module = namespace(p), special(p)
        df, wide = xp.asarray(self.df, np.float64), p.astype(np.float64)
        half, large = 0.5 * xp.minimum(df, _NEARLY_NORMAL), xp.maximum(df, _NEARLY_NORMAL)
        tail = 2 * xp.minimum(wide, 1 - wide)
        y, w = module.betaincinv(half, 0.5, tail), module.betaincinv(0.5, half, 1 - tail)
        outside = (1 - y) / xp.maximum(y, float(np.finfo(p.dtype).tiny) ** 0.5)
        ratio = xp.where((tail < 0.5) | (w > 0.5), outside, w / (1 - xp.minimum(w, 0.5)))
        t = xp.sqrt(2 * half * ratio)
        z = module.ndtri(0.5 * tail) / (1 - 0.25 / large)  # the inverse of the approximation in the cdf
        t = xp.where(df > _NEARLY_NORMAL, xp.sqrt(large * xp.expm1(z * z / large)), t)
        return xp.where(p < 0.5, -t, t).astype(p.dtype)


def _student_cdf(df: Value, d: Value) -> Value:
    """Return the cdf of Student's distribution at d, each tail by itself."""
    normal, central, below = df > _NEARLY_NORMAL, abs(d) < 1, d < 0
    d = d + choose(d == 0, 1e-15, 0.0)  # at the centre the derivative of the formula is 0 times infinity
    n = choose(normal, _NEARLY_NORMAL, df)
    r = d / sqrt(n)
    square = choose(central, r, 1.0) ** 2
    centre = 0.5 * betainc(0.5, 0.5 * n, square / (1 + square))
    tail = 0.5 * betainc(0.5 * n, 0.5, hypot(1.0, choose(central, 1.0, r)) ** -2)
    exact = choose(central, choose(below, 0.5 - centre, 0.5 + centre), choose(below, tail, 1 - tail))
    size = sqrt(df) * sqrt(log1p((d / sqrt(df)) ** 2)) * (1 - 0.25 / df)  # Wallace 1959, exact to first order in 1 / df
    return choose(normal, ndtr(choose(below, -size, size)), exact)


@dataclass(frozen=True, eq=False)
class FisherSnedecor(Implicit, Distribution):
    """The F distribution, of the ratio of two sample variances: ``(c1 / df1) / (c2 / df2)`` with c ~ Chi2(df).

    ``log p(x) = log r / 2 df1 - log(1 + r) (df1 + df2) / 2 - log x - log B(df1 / 2, df2 / 2)`` for x > 0, where
    ``r = x df1 / df2``. Then ``r / (1 + r)`` is a ``Beta(df1 / 2, df2 / 2)`` number, whose inverse cdf draws it.

    Args:
        df1: the degrees of freedom above, positive; they need not be whole.
        df2: the degrees of freedom below, positive; the mean is infinite up to 2, the variance up to 4.

    >>> float(FisherSnedecor(3.0, 4.0).mean)
    2.0
    """

    df1: Value = parameter(POSITIVE)
    df2: Value = parameter(POSITIVE)
    support = POSITIVE
    mean = property(lambda self: infinite_up_to(2, self.df2, lambda n: n / (n - 2)) + 0.0 * self.df1)

    def log_density(self, x: Value) -> Value:
        a, b, r = 0.5 * self.df1, 0.5 * self.df2, x * (self.df1 / self.df2)
        log_rest = -log1p(r)
        power = log_binomial(a, b, r / (1 + r), log(r) + log_rest, 1 / (1 + r), log_rest)
        return power + log(a) + log(b) - log(a + b) - log(x)

    @property
    def variance(self) -> Value:
        of = lambda n: 2 * square(n / (n - 2)) * (self.df1 + n - 2) / (self.df1 * (n - 4))  # noqa: E731
        return infinite_up_to(4, self.df2, of)

    def entropy(self) -> Value:
        a, b = 0.5 * self.df1, 0.5 * self.df2
        gap = digamma_gap(b) - digamma_gap(a + b)  # of E log(1 + r) from log(1 + a / b)
        return Beta(a, b).entropy() + 2 * (log(a + b) + gap) - log(a) - log(b)

    def cdf(self, x: Value) -> Value:
        a, b, r = 0.5 * self.df1, 0.5 * self.df2, clamp(x, 0.0) * (self.df1 / self.df2)
        upper = r > 1
        low, high = choose(upper, 1.0, r), choose(upper, r, 1.0)
        tail = in_float64(betainc, b, a, 1 / (1 + high))
        return choose(upper, 1 - tail, in_float64(betainc, a, b, low / (1 + low)))

    def solve_cdf(self, p: Array) -> Array:
        """Return ``r df2 / df1`` from the smaller of the Beta numbers ``r / (1 + r)`` and ``1 / (1 + r)``."""
        xp, module, tiny = namespace(p), special(p), float(np.finfo(p.dtype).tiny)
        a, b, wide = 0.5 * xp.asarray(self.df1), 0.5 * xp.asarray(self.df2), p.astype(np.float64)
        y, w = module.betaincinv(a, b, wide), module.betaincinv(b, a, 1 - wide)
        y, w = xp.maximum(y, tiny), xp.maximum(w, tiny**0.4)  # short of where the density underflows
        r = xp.where(y < 0.5, y / (1 - xp.minimum(y, 0.5)), (1 - w) / w)
        return (r * (b / a)).astype(p.dtype)
