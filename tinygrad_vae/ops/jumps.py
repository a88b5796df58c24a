"""Ops whose value jumps and has no gradient: comparisons, logic, signs, roundings, tests of being finite."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op, Value
from ..domains import NONZERO, REAL, TRUTH, Domain
from .declare import JUMP, elementwise, example
from .ranges import ordered
from .reals import unary


def _of_one(printed: str, doc: str, domain: Domain = NONZERO) -> Op[[Value], Value]:
    """Declare a function of one array, which NumPy has under the name in the example."""
    return unary(printed, f"{doc}. A jump: no gradient.", elementwise)(None, smoothness=JUMP, domain=domain)


def _of_two(printed: str, doc: str, **words: Any) -> Op[[Value, Value], Value]:
    """Declare a function of two arrays in the same way."""
    name = printed.partition("(")[0]
    function = getattr(np, name)

    def forward(x: Value, y: Value, /) -> Value:
        return function(x, y)

    forward.__name__, forward.__doc__ = name, f"{doc}. A jump: no gradient."
    return elementwise(None, None, smoothness=JUMP, **words)(example(printed)(forward))


less = _of_two("less(1.0, 2.0) = True", "``x < y``", range=ordered)
less_equal = _of_two("less_equal(2.0, 2.0) = True", "``x <= y``", range=ordered)
equal = _of_two("equal(2.0, 2.0) = True", "``x == y``")
not_equal = _of_two("not_equal(2.0, 2.0) = False", "``x != y``")


@example("greater(2.0, 1.0) = True")
def greater(x: Value, y: Value, /) -> Value:
    """``x > y``: ``less(y, x)``."""
    return less(y, x)


@example("greater_equal(1.0, 1.0) = True")
def greater_equal(x: Value, y: Value, /) -> Value:
    """``x >= y``: ``less_equal(y, x)``."""
    return less_equal(y, x)


logical_and = _of_two("logical_and(True, False) = False", "``x and y``", domain=TRUTH)
logical_or = _of_two("logical_or(True, False) = True", "``x or y``", domain=TRUTH)
logical_xor = _of_two("logical_xor(True, True) = False", "``either x or y``, not both", domain=TRUTH)
logical_not = _of_one("logical_not(True) = False", "``not x``", TRUTH)

sign = _of_one("sign(-3.0) = -1.0", "-1, 0 or 1")
floor = _of_one("floor(2.5) = 2.0", "The largest whole number not above x", REAL)
ceil = _of_one("ceil(2.5) = 3.0", "The smallest whole number not below x")
trunc = _of_one("trunc(-2.5) = -2.0", "The whole number next to x on the side of 0")
round = _of_one("round(2.5) = 2.0", "The whole number closest to x, the even one of two")
signbit = _of_one("signbit(-0.0) = True", "Whether the sign bit is set: below 0, and for -0")
isfinite = _of_one("isfinite(1.0) = True", "Whether x is neither infinite nor NaN")
isinf = _of_one("isinf(1.0) = False", "Whether x is infinite")
isnan = _of_one("isnan(1.0) = False", "Whether x is NaN, not a number")
floor_divide = _of_two("floor_divide(7.0, 2.0) = 3.0", "``floor(x / y)``", domain=NONZERO)
