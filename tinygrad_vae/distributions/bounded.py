"""Laws on an interval. They know their formulas, and that their draws may invert a cdf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from ..core import Array, Value, namespace, value_of
from ..domains import OPEN_UNIT, POSITIVE, REAL, UNIT
from ..ops import (
    betainc,
    betaincinv,
    betaln,
    clip,
    digamma,
    exp,
    expm1,
    lgamma,
    log,
    log1p,
    tanh,
    where,
    xlog1py,
    xlogy,
)
from .distribution import Distribution, logits_from, parameter
from .edges import inside_unit
from .implicit import inverse_cdf


@dataclass(frozen=True, eq=False)
class Beta(Distribution):
    """The Beta law on (0, 1).

    ``log p(x) = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b)``; a draw is the inverse cdf of a uniform, and its
    derivative is the implicit one.

    Args:
        a: how the density behaves at 0, positive; the mean is a / (a + b).
        b: how it behaves at 1, positive.

    >>> float(Beta(3.0, 1.0).mean)
    0.75
    """

    a: Value = parameter(POSITIVE)
    b: Value = parameter(POSITIVE)
    support = OPEN_UNIT
    path = "implicit"

    def log_density(self, x: Value) -> Value:
        return xlogy(self.a - 1, x) + xlog1py(self.b - 1, -x) - betaln(self.a, self.b)

    @property
    def mean(self) -> Value:
        return self.a / (self.a + self.b)

    @property
    def variance(self) -> Value:
        total = self.a + self.b
        return (self.a / total) * (self.b / total) / (total + 1)

    def entropy(self) -> Value:
        a, b = self.a, self.b
        spread = (a - 1) * digamma(a) + (b - 1) * digamma(b) - (a + b - 2) * digamma(a + b)
        return betaln(a, b) - spread

    def cdf(self, x: Value) -> Value:
        return betainc(self.a, self.b, clip(x, 0.0, 1.0))

    def icdf(self, p: Value) -> Value:
        return inverse_cdf(self, p)

    def solve_cdf(self, p: Array) -> Array:
        return inside_unit(betaincinv(self.a, self.b, p))


@dataclass(frozen=True, eq=False)
class Kumaraswamy(Distribution):
    """The Kumaraswamy law on (0, 1): like the Beta law, with a cdf in closed form, ``1 - (1 - x^a)^b``.

    ``log p(x) = log(a b) + (a - 1) log x + (b - 1) log(1 - x^a)``.

    Args:
        a: how the density behaves at 0, positive.
        b: how it behaves at 1, positive.

    >>> round(float(Kumaraswamy(1.0, 1.0).cdf(0.25)), 6)
    0.25
    """

    a: Value = parameter(POSITIVE)
    b: Value = parameter(POSITIVE)
    support = OPEN_UNIT

    def log_density(self, x: Value) -> Value:
        power = self.a * log(x)
        return log(self.a) + log(self.b) + power - log(x) + (self.b - 1) * log(-expm1(power))

    def _moment(self, n: int) -> Value:
        """Return ``E x^n = b B(1 + n / a, b)``."""
        c = 1 + n / self.a
        return exp(log(self.b) + lgamma(c) + lgamma(self.b) - lgamma(c + self.b))

    @property
    def mean(self) -> Value:
        return self._moment(1)

    @property
    def variance(self) -> Value:
        mean = self._moment(1)
        return self._moment(2) - mean * mean

    def entropy(self) -> Value:
        harmonic = digamma(self.b + 1) + float(np.euler_gamma)
        return (1 - 1 / self.b) + (1 - 1 / self.a) * harmonic - log(self.a) - log(self.b)

    def cdf(self, x: Value) -> Value:
        above = value_of(x) >= 1
        return where(above, 1.0, -expm1(self.b * log(-expm1(self.a * log(inside_unit(x))))))

    def icdf(self, p: Value) -> Value:
        return inside_unit(exp(log(-expm1(log1p(-p) / self.b)) / self.a))


_TERMS = np.arange(1, 13)
_LOG_SINHC = 4.0**_TERMS * scipy.special.bernoulli(24)[2::2] / (2 * _TERMS * scipy.special.factorial(2 * _TERMS))
"""The coefficients of ``log(sinh(h) / h)`` in powers of h^2, from h^2 on."""


def _polynomial(coefficients: Sequence[float], t: Value) -> Value:
    """Return ``sum_n coefficients[n] t^n``."""
    total: Value = 0.0 * t
    for c in reversed(coefficients):
        total = total * t + float(c)
    return total


def _log_sinhc(h: Value, order: int = 0) -> Value:
    """Return ``log(sinh(h) / h)`` or its derivative of order 1 or 2, accurate near 0 as well."""
    small = np.abs(value_of(h)) < 0.5
    near, far = where(small, h, 0.0), where(small, 1.0, h)
    size = where(value_of(far) > 0, far, -far)
    if order == 0:
        series = near * near * _polynomial(_LOG_SINHC, near * near)
        return where(small, series, size + log1p(-exp(-2 * size)) - log(2 * size))
    if order == 1:
        return where(small, near * _polynomial(2 * _TERMS * _LOG_SINHC, near * near), 1 / tanh(far) - 1 / far)
    slopes = 2 * _TERMS * (2 * _TERMS - 1) * _LOG_SINHC
    half = exp(-size) / (1 - exp(-2 * size))  # 1 / (2 sinh)
    return where(small, _polynomial(slopes, near * near), 1 / (far * far) - 4 * half * half)


def _log_partition(l: Value) -> Value:
    """Return ``A(l) = log((exp(l) - 1) / l)``."""
    return 0.5 * l + _log_sinhc(0.5 * l)


@dataclass(frozen=True, eq=False, init=False)
class ContinuousBernoulli(Distribution):
    """The law on [0, 1] with a density proportional to ``p^x (1 - p)^(1 - x)``: a likelihood for grey values.

    ``log p(x) = logits x - A(logits)`` with ``A(l) = log((exp(l) - 1) / l)``, which is 0 at l = 0, where the law is
    uniform. The mean is A'(logits) and not p. Loaiza-Ganem and Cunningham 2019.

    Args:
        logits: log(p / (1 - p)), any number; or
        probs: p, between 0 and 1.

    >>> float(ContinuousBernoulli(probs=0.5).mean)
    0.5
    """

    logits: Value = parameter(REAL)
    support = UNIT
    path = "implicit"

    def __init__(self, *, logits: Value | None = None, probs: Value | None = None) -> None:
        object.__setattr__(self, "logits", logits_from("ContinuousBernoulli", logits, probs, OPEN_UNIT))
        self.__post_init__()

    def log_normaliser(self) -> Value:
        """Return A(logits)."""
        return _log_partition(self.logits)

    def log_density(self, x: Value) -> Value:
        return self.logits * x - self.log_normaliser()

    @property
    def mean(self) -> Value:
        return 0.5 + 0.5 * _log_sinhc(0.5 * self.logits, 1)

    @property
    def variance(self) -> Value:
        return 0.25 * _log_sinhc(0.5 * self.logits, 2)

    def entropy(self) -> Value:
        return self.log_normaliser() - self.logits * self.mean

    def cdf(self, x: Value) -> Value:
        x = clip(x, 0.0, 1.0)
        return x * exp(_log_partition(self.logits * x) - self.log_normaliser())

    def icdf(self, p: Value) -> Value:
        return inverse_cdf(self, p)

    def solve_cdf(self, p: Array) -> Array:
        xp = namespace(p)
        mirrored = self.logits > 0
        q, fall = xp.where(mirrored, 1 - p, p), -xp.abs(self.logits)
        x = xp.where(fall == 0, q, xp.log1p(q * xp.expm1(fall)) / xp.where(fall == 0, -1.0, fall))
        return xp.where(mirrored, 1 - x, x)
