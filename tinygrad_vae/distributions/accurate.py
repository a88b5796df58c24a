"""Pieces of formulas that keep their digits: at large parameters, in the tails, and in float32."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..core import Array, Value, special
from ..ops import astype, digamma, gammaln, log, log1p, polygamma, xlogy
from .branches import choose
from .distribution import noise_dtype

_LARGE = 15.0
"""From here on the asymptotic series below are exact to the last bit of float64."""

_N = np.arange(1, 9)


@functools.cache
def _bernoulli_numbers() -> Array:
    """Return ``B_2, B_4, ..., B_16``."""
    return special().bernoulli(16)[2::2]


def in_float64(function: Callable[..., Value], *x: Value) -> Value:
    """Return ``function(*x)`` computed in float64, in the dtype of the arrays: incomplete functions need the digits."""
    dtype = noise_dtype(x)
    if dtype == np.float64:
        return function(*x)
    return astype(function(*(astype(each, np.float64) for each in x)), dtype)


def polynomial(coefficients: Sequence[float], t: Value) -> Value:
    """Return ``sum_n coefficients[n] t^n``."""
    total: Value = 0.0 * t
    for c in reversed(coefficients):
        total = total * t + float(c)
    return total


def stirling_remainder(x: Value) -> Value:
    """Return ``log Gamma(x + 1) - x log x + x`` for x >= 0, about ``log(2 pi x) / 2``.

    This part of a factorial remains when the large terms of a log-probability have cancelled (Loader 2000).

    >>> round(float(stirling_remainder(1e15)), 6)
    18.188327
    """
    large = x > _LARGE
    near, far = choose(large, 1.0, x), choose(large, x, _LARGE)
    t = 1 / far
    series = t * polynomial(_bernoulli_numbers() / (2 * _N * (2 * _N - 1)), t * t)
    return choose(large, 0.5 * log(2 * math.pi * far) + series, gammaln(near + 1) - xlogy(near, near) + near)


def digamma_gap(x: Value) -> Value:
    """Return ``log x - digamma(x)`` for x > 0, about ``1 / (2 x)``."""
    large = x > _LARGE
    near, far = choose(large, 1.0, x), choose(large, x, _LARGE)
    t = 1 / far
    series = 0.5 * t + t * t * polynomial(_bernoulli_numbers() / (2 * _N), t * t)
    return choose(large, series, log(near) - digamma(near))


def deviance(x: Value, mean: Value, log_mean: Value) -> Value:
    """Return ``x log(x / mean) + mean - x``, accurate where x is close to the mean. It is the mean at x = 0."""
    close = (x > 0.25 * mean) & (0.01 * x < mean)
    near, mid = choose(close, x, 1.0), choose(close, mean, 1.0)
    d = (near - mid) / mid
    far, nothing = choose(close, 1.0, x), (x == 0) & (log_mean == -math.inf)  # 0 log(0 / 0) is 0
    log_ratio = log(choose(far <= 0, 1.0, far)) - choose(nothing, 0.0, log_mean)
    return choose(close, mid * ((1 + d) * log1p(d) - d), far * log_ratio + mean - x)


def log_binomial(k: Value, l: Value, p: Value, log_p: Value, q: Value, log_q: Value) -> Value:
    """Return ``log((k + l)! / (k! l!) p^k q^l)`` for real k, l >= 0 and p + q = 1."""
    n = k + l
    log_n = log(choose(n > 0, n, 1.0))
    ways = stirling_remainder(n) - stirling_remainder(k) - stirling_remainder(l)
    return ways - deviance(k, n * p, log_n + log_p) - deviance(l, n * q, log_n + log_q)


def second_difference_of_lgamma(x: Value, t: Value) -> Value:
    """Return ``lgamma(x + 2 t) - 2 lgamma(x + t) + lgamma(x)`` for x >= 1, t > 0, accurate for small t."""
    x = x + 0.0 * t
    small = t < 0.02 * x
    near, far = choose(small, t, 0.0), choose(small, 1.0, t)
    series: Value = 0.0 * x
    for n in range(9, 1, -1):
        derivative = polygamma(n - 1, x)
        series = near * series + (2.0**n - 2) / math.factorial(n) * derivative
    return choose(small, near * near * series, gammaln(x + 2 * far) - 2 * gammaln(x + far) + gammaln(x))


@functools.cache
def gauss_legendre(xp: ModuleType, dtype: Any, count: int) -> tuple[Array, Array]:
    """Return the points and the weights of the rule on [-1, 1], copied to a GPU once."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return xp.asarray(points, dtype), xp.asarray(weights, dtype)
