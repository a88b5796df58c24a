"""Ops that do in a few passes over memory what a chain of others would do in many: the parts of an optimizer's step."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..arrays import Value
from ..domains import POSITIVE, REAL
from ..graph import case, op
from .elementwise import sqrt
from .reductions import sum as total

Labels = tuple[int | None, ...]


@functools.cache
def _coarse(dtype: Any) -> float:
    """Return a power of two around which numbers are spaced by the smallest normal one or by twice that."""
    info = np.finfo(dtype)
    return float(2 * info.tiny / info.eps)


@op(
    lambda g, y, average, x, *, decay: decay * g,
    lambda g, y, average, x, *, decay: (1 - decay) * g,
    axes=lambda i, labels, y, average, x, *, decay: labels,
    cases=[case((2, 3), (2, 3), decay=0.9), case((), (), decay=0.0)],
)
def moving_average(average: Value, x: Value, /, *, decay: float) -> Value:
    """``decay average + (1 - decay) x``, for two arrays of one shape and 0 <= decay < 1. Derivatives decay, 1 - decay.

    The result is rounded to a multiple of the smallest normal number. Without that, the average of what has become 0
    shrinks until it is denormal, and stays there, since rounding never lets it reach 0; from then on every operation
    with it takes several times as long.

    >>> moving_average(np.ones(1), np.zeros(1), decay=0.75)
    array([0.75])
    """
    if average.shape != x.shape:
        raise ValueError(f"average and x must have one shape, found {average.shape} and {x.shape}")
    y = average * (decay / (1 - decay))
    y += x
    y *= 1 - decay
    y += _coarse(y.dtype)
    y -= _coarse(y.dtype)
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
    axes=_only_numbers_mix,
    cases=[case((2, 3), (2, 3), (2, 3), (), ()), case((), (), (), (), ())],
)
def adaptive_step(p: Value, mean: Value, square: Value, scale: Value, shift: Value, /) -> Value:
    """``p - mean / (scale sqrt(square) + shift)``: p, mean and square of one shape, scale and shift numbers.

    With ``d = scale sqrt(square) + shift``, the derivatives are 1, -1 / d, mean scale / (2 sqrt(square) d^2) and,
    summed over all elements, mean sqrt(square) / d^2 and mean / d^2.

    >>> adaptive_step(np.ones(1), np.full(1, 3.0), np.full(1, 4.0), 2.0, 2.0)
    array([0.5])
    """
    if not p.shape == mean.shape == square.shape:
        raise ValueError(f"p, mean and square must have one shape, found {p.shape}, {mean.shape} and {square.shape}")
    divisor = np.sqrt(square)[...]  # an array, also without axes
    divisor *= scale
    divisor += shift
    return p - np.divide(mean, divisor, out=divisor)
