"""Ops that do as one node what five to fifteen others would do: log-probabilities of a VAE, parts of an optimizer."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..core import Value
from ..domains import POSITIVE, REAL
from .declare import Labels, case, example, op
from .elementwise import sigmoid, softplus, sqrt
from .reals import in_place, on_reals, real
from .reductions import sum as total

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


@real(
    lambda g, y, x, logits: g * (2 * logits * sigmoid((1 - 2 * x) * logits)),
    lambda g, y, x, logits: g * (-(1 - 2 * x) * sigmoid((1 - 2 * x) * logits)),
)
@example("bernoulli_log_prob(np.array([0.0, 0.0]), np.array([0.0, 1000.0])).round(6) = [-6.93147e-01 -1.00000e+03]")
def bernoulli_log_prob(x: Value, logits: Value, /) -> Value:
    """``x log p + (1 - x) log(1 - p)`` with p = sigmoid(logits), for x of 0 and 1: ``-softplus((1 - 2 x) logits)``.

    Derivative x - p in logits, as ``(2 x - 1) sigmoid((1 - 2 x) logits)``: no two nearly equal numbers are subtracted.
    """
    sign = 2.0 * x  # a float: a list times 2 is twice as long
    return np.negative(softplus(np.subtract(1, sign, in_place(sign)) * logits))


@real(
    lambda g, y, x, loc, scale: g * ((loc - x) / scale / scale),
    lambda g, y, x, loc, scale: g * ((x - loc) / scale / scale),
    lambda g, y, x, loc, scale: g * ((((x - loc) / scale) ** 2 - 1) / scale),
    domain=(REAL, REAL, POSITIVE),
)
@example("normal_log_prob(0.0, 0.0, 1.0) = -0.918938...")
def normal_log_prob(x: Value, loc: Value, scale: Value, /) -> Value:
    """``-((x - loc) / scale)^2 / 2 - log(scale) - log(2 pi) / 2``: the log-density of N(loc, scale^2).

    With e = (x - loc) / scale, the derivatives are -e / scale, e / scale and (e^2 - 1) / scale.
    """
    e = (x - loc) / scale
    return -0.5 * (e * e) - np.log(scale) - _LOG_SQRT_2_PI


@real(
    lambda g, y, loc, scale, loc2, scale2: g * ((loc - loc2) / scale2 / scale2),
    lambda g, y, loc, scale, loc2, scale2: g * (scale / scale2 / scale2 - 1 / scale),
    lambda g, y, loc, scale, loc2, scale2: g * ((loc2 - loc) / scale2 / scale2),
    lambda g, y, loc, scale, loc2, scale2: g * ((1 - (scale / scale2) ** 2 - ((loc - loc2) / scale2) ** 2) / scale2),
    domain=(REAL, POSITIVE, REAL, POSITIVE),
)
@example("normal_kl(1.0, 1.0, 0.0, 1.0) = 0.5")
def normal_kl(loc: Value, scale: Value, loc2: Value, scale2: Value, /) -> Value:
    """``KL(N(loc, scale^2) || N(loc2, scale2^2))``, in nats.

    With r = scale / scale2 and d = (loc - loc2) / scale2 it is ``(r^2 + d^2 - 1) / 2 - log r``; the derivatives are
    d / scale2, (r - 1 / r) / scale2, -d / scale2 and (1 - r^2 - d^2) / scale2.
    """
    ratio, distance = scale / scale2, (loc - loc2) / scale2
    return 0.5 * (ratio * ratio + distance * distance - 1) - np.log(ratio)


@functools.cache
def coarse(dtype: Any) -> float:
    """Return a power of two around which numbers are spaced by 2^24 or 2^25 smallest normal ones."""
    info = np.finfo(dtype)
    return float(2 * info.tiny / info.eps * 2.0**24)


@op(
    lambda g, y, average, x, *, decay: decay * g,
    lambda g, y, average, x, *, decay: (1 - decay) * g,
    linear=True,
    axes=lambda i, labels, y, average, x, *, decay: labels,
    cases=[case((2, 3), (2, 3), decay=0.9), case((), (), decay=0.0)],
)
@on_reals
@example("moving_average(np.ones(1), np.zeros(1), decay=0.75) = [0.75]")
def moving_average(average: Value, x: Value, /, *, decay: float) -> Value:
    """``decay average + (1 - decay) x``, for two arrays of one shape and 0 <= decay < 1. Derivatives decay, 1 - decay.

    The result is rounded to a multiple of 2^24 times the smallest normal number: 2e-31 in float32. Otherwise, once x
    has become 0, the average would shrink to a denormal number and stay there, and every operation with it would take
    several times as long. An optimizer may divide it by 10^7 before the quotient is denormal.
    """
    if average.shape != x.shape:
        raise ValueError(f"average and x must have one shape, found {average.shape} and {x.shape}")
    y = average * (decay / (1 - decay))
    y += x
    y *= 1 - decay
    y += coarse(y.dtype)
    y -= coarse(y.dtype)
    return y


def _divisor(square: Value, scale: Value, shift: Value) -> Value:
    return scale * sqrt(square) + shift


def _only_numbers_mix(i: int, labels: Labels, y: Value, *_: Value) -> Labels:
    return labels if i < 3 else (None,) * len(y.shape)


@op(
    lambda g, y, p, mean, square, scale, shift: g,
    lambda g, y, p, mean, square, scale, shift: -g / _divisor(square, scale, shift),
    lambda g, y, p, mean, square, scale, shift: (
        0.5 * g * mean * scale / (sqrt(square) * _divisor(square, scale, shift) ** 2)
    ),
    lambda g, y, p, mean, square, scale, shift: total(g * mean * sqrt(square) / _divisor(square, scale, shift) ** 2),
    lambda g, y, p, mean, square, scale, shift: total(g * mean / _divisor(square, scale, shift) ** 2),
    domain=(REAL, REAL, POSITIVE, POSITIVE, POSITIVE),
    linear=((0, 1),),
    axes=_only_numbers_mix,
    cases=[case((2, 3), (2, 3), (2, 3), (), ()), case((), (), (), (), ())],
)
@on_reals
@example("adaptive_step(np.ones(1), np.full(1, 3.0), np.full(1, 4.0), 2.0, 2.0) = [0.5]")
def adaptive_step(p: Value, mean: Value, square: Value, scale: Value, shift: Value, /) -> Value:
    """``p - mean / (scale sqrt(square) + shift)``: p, mean and square of one shape, scale and shift numbers.

    With ``d = scale sqrt(square) + shift``, the derivatives are 1, -1 / d, mean scale / (2 sqrt(square) d^2) and,
    summed over all elements, mean sqrt(square) / d^2 and mean / d^2.
    """
    if not p.shape == mean.shape == square.shape:
        raise ValueError(f"p, mean and square must have one shape, found {p.shape}, {mean.shape} and {square.shape}")
    divisor = np.sqrt(square)[...]  # an array, also without axes
    divisor *= scale
    divisor += shift
    return p - np.divide(mean, divisor, out=divisor)
