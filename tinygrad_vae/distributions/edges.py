"""The ends of an open support: a draw that rounding put on one is moved to the nearest number inside.

It knows numbers of the machine, and no law. Without this, a draw could lie where its own density is zero or infinite.
"""

from __future__ import annotations

import math

import numpy as np

from ..core import Value, value_of
from ..ops import clip, exp, maximum, minimum


def above_zero(x: Value) -> Value:
    """Return ``x``, and the smallest normal number of its dtype where x is below that.

    >>> bool(above_zero(np.float32(0.0)) == np.finfo(np.float32).tiny)
    True
    """
    return maximum(x, float(_precision(x).tiny))


def exp_below_infinity(x: Value) -> Value:
    """Return ``exp(x)``, and a number close to the largest of its dtype where that would be infinite.

    >>> bool(np.isfinite(exp_below_infinity(1000.0)))
    True
    """
    return exp(minimum(x, math.log(_precision(x).max) - 1))


def inside_unit(x: Value) -> Value:
    """Return ``x``, kept away from 0 and from 1 by the least that its dtype can tell.

    >>> bool(inside_unit(1.0) < 1.0)
    True
    """
    return clip(x, float(_precision(x).tiny), 1 - float(_precision(x).epsneg))


def _precision(x: Value) -> np.finfo:
    return np.finfo(getattr(value_of(x), "dtype", np.float64))
