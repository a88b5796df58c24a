"""Ops whose value jumps and has no gradient: comparisons, logic, signs, roundings, tests of being finite."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op, Value
from ..domains import NONZERO, REAL, TRUTH, Domain
from .declare import JUMP, STOP, elementwise
from .ranges import ordered


def _of_one(name: str, ufunc: Any, doc: str, example: str, domain: Domain = NONZERO) -> Op[[Value], Value]:
    """Declare a function of one array; the example is an expression and its value."""

    def forward(x: Value, /) -> Value:
        return ufunc(x)

    forward.__name__, forward.__doc__ = name, _docstring(doc, example)
    return elementwise(None, smoothness=JUMP, domain=domain)(forward)


def _of_two(
    name: str, ufunc: Any, doc: str, example: str, domain: Domain = REAL, **words: Any
) -> Op[[Value, Value], Value]:
    """Declare a function of two arrays."""

    def forward(x: Value, y: Value, /) -> Value:
        return ufunc(x, y)

    forward.__name__, forward.__doc__ = name, _docstring(doc, example)
    return elementwise(None, None, smoothness=JUMP, domain=domain, **words)(forward)


def _docstring(doc: str, example: str) -> str:
    call, value = example.split(" is ")
    return f"{doc}. A jump: no gradient.\n\n>>> {call}\n{value}\n"


less = _of_two("less", np.less, "``x < y``, true or false", "bool(less(1.0, 2.0)) is True", range=ordered)
less_equal = _of_two(
    "less_equal", np.less_equal, "``x <= y``, true or false", "bool(less_equal(2.0, 2.0)) is True", range=ordered
)
equal = _of_two("equal", np.equal, "``x == y``, true or false", "bool(equal(2.0, 2.0)) is True")
not_equal = _of_two("not_equal", np.not_equal, "``x != y``, true or false", "bool(not_equal(2.0, 2.0)) is False")


def greater(x: Value, y: Value, /) -> Value:
    """``x > y``, true or false: ``less(y, x)``.

    >>> bool(greater(2.0, 1.0))
    True
    """
    return less(y, x)


def greater_equal(x: Value, y: Value, /) -> Value:
    """``x >= y``, true or false: ``less_equal(y, x)``.

    >>> bool(greater_equal(1.0, 1.0))
    True
    """
    return less_equal(y, x)


logical_and = _of_two(
    "logical_and", np.logical_and, "``x and y``, element by element", "bool(logical_and(True, False)) is False", TRUTH
)
logical_or = _of_two(
    "logical_or", np.logical_or, "``x or y``, element by element", "bool(logical_or(True, False)) is True", TRUTH
)
logical_xor = _of_two(
    "logical_xor", np.logical_xor, "``either x or y``, not both", "bool(logical_xor(True, True)) is False", TRUTH
)
logical_not = _of_one(
    "logical_not", np.logical_not, "``not x``, element by element", "bool(logical_not(True)) is False", TRUTH
)

sign = _of_one("sign", np.sign, "-1, 0 or 1", "float(sign(-3.0)) is -1.0")
floor = _of_one("floor", np.floor, "The largest whole number not above x", "float(floor(2.5)) is 2.0", REAL)
ceil = _of_one("ceil", np.ceil, "The smallest whole number not below x", "float(ceil(2.5)) is 3.0")
trunc = _of_one("trunc", np.trunc, "The whole number next to x on the side of 0", "float(trunc(-2.5)) is -2.0")
round = _of_one("round", np.round, "The whole number closest to x, the even one of two", "float(round(2.5)) is 2.0")
signbit = _of_one(
    "signbit", np.signbit, "Whether the sign bit is set: true below 0, and for -0", "bool(signbit(-0.0)) is True"
)
isfinite = _of_one(
    "isfinite", np.isfinite, "Whether x is a number, neither infinite nor NaN", "bool(isfinite(1.0)) is True"
)
isinf = _of_one("isinf", np.isinf, "Whether x is infinite", "bool(isinf(1.0)) is False")
isnan = _of_one("isnan", np.isnan, "Whether x is NaN, not a number", "bool(isnan(1.0)) is False")
floor_divide = _of_two(
    "floor_divide", np.floor_divide, "``floor(x / y)``", "float(floor_divide(7.0, 2.0)) is 3.0", NONZERO
)


@elementwise(None, None, smoothness=STOP, domain=NONZERO)
def remainder_value(x: Value, y: Value, /) -> Value:
    """The value of ``remainder``, which takes its derivative from a formula.

    >>> float(remainder_value(7.0, 2.0))
    1.0
    """
    return np.remainder(x, y)
