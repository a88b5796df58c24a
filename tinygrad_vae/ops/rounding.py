"""Ops whose value jumps: signs, roundings, and the questions whether a number is finite. They have no gradient."""

from __future__ import annotations

import numpy as np

from ..core import Value
from ..domains import NONZERO
from .declare import JUMP, STOP, elementwise


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def sign(x: Value, /) -> Value:
    """-1, 0 or 1. Flat almost everywhere: no gradient.

    >>> float(sign(-3.0))
    -1.0
    """
    return np.sign(x)


@elementwise(None, smoothness=JUMP)
def floor(x: Value, /) -> Value:
    """The largest whole number not above x. Flat almost everywhere: no gradient.

    >>> float(floor(2.5))
    2.0
    """
    return np.floor(x)


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def ceil(x: Value, /) -> Value:
    """The smallest whole number not below x. A jump: no gradient.

    >>> float(ceil(2.5))
    3.0
    """
    return np.ceil(x)


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def trunc(x: Value, /) -> Value:
    """The whole number next to x on the side of 0. A jump: no gradient.

    >>> float(trunc(-2.5))
    -2.0
    """
    return np.trunc(x)


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def round(x: Value, /) -> Value:
    """The whole number closest to x, the even one of two. A jump: no gradient.

    >>> float(round(2.5))
    2.0
    """
    return np.round(x)


@elementwise(None, None, smoothness=JUMP, domain=NONZERO)
def floor_divide(x: Value, y: Value, /) -> Value:
    """``floor(x / y)``. A jump: no gradient.

    >>> float(floor_divide(7.0, 2.0))
    3.0
    """
    return np.floor_divide(x, y)


@elementwise(None, None, smoothness=STOP, domain=NONZERO)
def remainder_value(x: Value, y: Value, /) -> Value:
    """The value of ``remainder``, which takes its derivative from a formula.

    >>> float(remainder_value(7.0, 2.0))
    1.0
    """
    return np.remainder(x, y)


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def signbit(x: Value, /) -> Value:
    """Whether the sign bit is set: true below 0, and for -0. A jump: no gradient.

    >>> bool(signbit(-0.0))
    True
    """
    return np.signbit(x)


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def isfinite(x: Value, /) -> Value:
    """Whether x is a number, neither infinite nor NaN. A jump: no gradient.

    >>> bool(isfinite(1.0))
    True
    """
    return np.isfinite(x)


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def isinf(x: Value, /) -> Value:
    """Whether x is infinite. A jump: no gradient.

    >>> bool(isinf(1.0))
    False
    """
    return np.isinf(x)


@elementwise(None, smoothness=JUMP, domain=NONZERO)
def isnan(x: Value, /) -> Value:
    """Whether x is NaN, not a number. A jump: no gradient.

    >>> bool(isnan(1.0))
    False
    """
    return np.isnan(x)
