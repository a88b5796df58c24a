"""Branches of formulas, and the ends of open supports.

Every condition is recorded as an op. A graph that runs again at another point therefore chooses again. A formula that
read its mask off the values would keep the branch of the point where the graph was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import Noise, Value, as_array
from ..ops import exp, log, stop_gradient, where
from ..ops.declare import STOP, elementwise
from ..ops.ranges import promised


def choose(condition: Value, x: Value, y: Value) -> Value:
    """Return ``x`` where the condition holds and ``y`` elsewhere, for formulas that agree where they meet.

    ``seamless`` says that nothing jumps there, so that a random condition does not block a pathwise gradient.
    """
    return where(seamless(condition), x, y)


@elementwise(None, smoothness=STOP, range=promised)
def seamless(condition: Value, /) -> Value:
    """``condition``, between formulas that agree where they meet: nothing jumps or leaps there.

    >>> seamless(True)
    True
    """
    return condition


def log_or_minus_inf(x: Value) -> Value:
    """Return log x, and minus infinity at 0, where the gradient is 0."""
    zero = x == 0
    return choose(zero, -math.inf, log(choose(zero, 1.0, x)))


def infinite_up_to(bound: float, n: Value, moment: Callable[[Value], Value]) -> Value:
    """Return ``moment(n)`` where n is above the bound, and infinity elsewhere."""
    exists = n > bound
    return choose(exists, moment(choose(exists, n, bound + 1.0)), math.inf)


def clamp(x: Value, low: Value, high: Value = math.inf) -> Value:
    """Return ``x`` kept between two bounds, with derivative 0 beyond them. A nan stays a nan.

    Unlike ``clip`` it declares no kink, so that second derivatives pass: no draw lies on a bound but by rounding.
    """
    x = where(stop_gradient(x < low), low, x)
    return x if isinstance(high, float) and high == math.inf else where(stop_gradient(x > high), high, x)


def above_zero(x: Value) -> Value:
    """Return ``x``, raised to the smallest normal number of its dtype."""
    return clamp(x, float(_precision(x).tiny))


def exp_below_infinity(x: Value) -> Value:
    """Return ``exp(x)``, or a number close to the largest of its dtype where that would be infinite."""
    largest = math.log(_precision(x).max) - 1
    return exp(choose(x > largest, largest, x))


def inside_unit(x: Value) -> Value:
    """Return ``x`` clamped to the open interval (0, 1): at least one float away from each end."""
    return clamp(x, float(_precision(x).tiny), 1 - float(_precision(x).epsneg))


def between_minus_one_and_one(x: Value) -> Value:
    """Return ``x`` clamped to the open interval (-1, 1)."""
    end = 1 - float(_precision(x).epsneg)
    return clamp(x, -end, end)


def probability(p: Value, dist: Any) -> Value:
    """Return ``p`` with nan for numbers below 0 or above 1; a number gets the dtype of the distribution."""
    if isinstance(p, Noise):
        return p
    if not hasattr(p, "dtype"):
        p = as_array(p).astype(dist.dtype)
    return choose((p < 0) | (p > 1), math.nan, p)


def _precision(x: Value) -> np.finfo:
    return np.finfo(getattr(x, "dtype", np.float64))
