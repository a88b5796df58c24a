"""Ops whose value jumps and has no gradient: comparisons, logic, signs, roundings, tests of being finite."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op, Value
from ..domains import NONZERO, REAL, TRUTH, Domain
from .declare import JUMP, elementwise, example
from .ranges import ordered


def _of_one(name: str, ufunc: Any, doc: str, printed: str, domain: Domain = NONZERO) -> Op[[Value], Value]:
    """Declare a function of one array; the example is a call and its value."""

    def forward(x: Value, /) -> Value:
        return ufunc(x)

    forward.__name__, forward.__doc__ = name, f"{doc}. A jump: no gradient."
    return elementwise(None, smoothness=JUMP, domain=domain)(example(printed)(forward))


def _of_two(name: str, ufunc: Any, doc: str, printed: str, **words: Any) -> Op[[Value, Value], Value]:
    """Declare a function of two arrays."""

    def forward(x: Value, y: Value, /) -> Value:
        return ufunc(x, y)

    forward.__name__, forward.__doc__ = name, f"{doc}. A jump: no gradient."
    return elementwise(None, None, smoothness=JUMP, **words)(example(printed)(forward))


less = _of_two("less", np.less, "``x < y``", "less(1.0, 2.0) = True", range=ordered)
less_equal = _of_two("less_equal", np.less_equal, "``x <= y``", "less_equal(2.0, 2.0) = True", range=ordered)
equal = _of_two("equal", np.equal, "``x == y``", "equal(2.0, 2.0) = True")
not_equal = _of_two("not_equal", np.not_equal, "``x != y``", "not_equal(2.0, 2.0) = False")


@example("greater(2.0, 1.0) = True")
def greater(x: Value, y: Value, /) -> Value:
    """``x > y``: ``less(y, x)``."""
    return less(y, x)


@example("greater_equal(1.0, 1.0) = True")
def greater_equal(x: Value, y: Value, /) -> Value:
    """``x >= y``: ``less_equal(y, x)``."""
    return less_equal(y, x)


logical_and = _of_two("logical_and", np.logical_and, "``x and y``", "logical_and(True, False) = False", domain=TRUTH)
logical_or = _of_two("logical_or", np.logical_or, "``x or y``", "logical_or(True, False) = True", domain=TRUTH)
logical_xor = _of_two(
    "logical_xor", np.logical_xor, "``either x or y``, not both", "logical_xor(True, True) = False", domain=TRUTH
)
logical_not = _of_one("logical_not", np.logical_not, "``not x``", "logical_not(True) = False", TRUTH)

sign = _of_one("sign", np.sign, "-1, 0 or 1", "sign(-3.0) = -1.0")
floor = _of_one("floor", np.floor, "The largest whole number not above x", "floor(2.5) = 2.0", REAL)
ceil = _of_one("ceil", np.ceil, "The smallest whole number not below x", "ceil(2.5) = 3.0")
trunc = _of_one("trunc", np.trunc, "The whole number next to x on the side of 0", "trunc(-2.5) = -2.0")
round = _of_one("round", np.round, "The whole number closest to x, the even one of two", "round(2.5) = 2.0")
signbit = _of_one("signbit", np.signbit, "Whether the sign bit is set: below 0, and for -0", "signbit(-0.0) = True")
isfinite = _of_one("isfinite", np.isfinite, "Whether x is neither infinite nor NaN", "isfinite(1.0) = True")
isinf = _of_one("isinf", np.isinf, "Whether x is infinite", "isinf(1.0) = False")
isnan = _of_one("isnan", np.isnan, "Whether x is NaN, not a number", "isnan(1.0) = False")
floor_divide = _of_two(
    "floor_divide", np.floor_divide, "``floor(x / y)``", "floor_divide(7.0, 2.0) = 3.0", domain=NONZERO
)
