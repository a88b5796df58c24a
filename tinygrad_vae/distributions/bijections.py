"""Smooth increasing functions with an inverse, for ``Transformed``: exp, sigmoid, tanh, affine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core import Value, value_of
from ..domains import OPEN_UNIT, POSITIVE, REAL, Domain, between
from ..ops import atanh, exp, log, log1p, sigmoid, softplus, tanh
from .branches import above_zero, between_minus_one_and_one, inside_unit
from .distribution import formula, undeclared
from .support import check_inside
from .text import with_numbers


class Bijection:
    """An increasing function y = f(x) of real numbers, element by element, that can be undone.

    A subclass is a ``@dataclass(frozen=True, eq=False)`` of parameters that declares ``image``, the set of the y's, and
    ``forward(x)``, ``inverse(y)`` and ``log_slope(x) = log f'(x)``.
    """

    image: Domain = REAL
    nearest: Callable[[Value], Value] = staticmethod(lambda y: y)
    """Return y, moved into the image where it lies outside."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = Bijection.__repr__  # type: ignore[method-assign]  # else @dataclass would write one

    __repr__ = with_numbers
    forward = undeclared("forward(x)", "Return f(x).")
    inverse = undeclared("inverse(y)", "Return the x with f(x) = y, for y in the image.")
    log_slope = undeclared("log_slope(x)", "Return the logarithm of the derivative f'(x).")


@dataclass(frozen=True, eq=False)
class Exp(Bijection):
    """``exp(x)``, onto the positive numbers.

    >>> float(Exp().inverse(1.0))
    0.0
    """

    image = POSITIVE
    nearest = staticmethod(above_zero)
    forward = formula(lambda self, x: self.nearest(exp(x)))
    inverse = formula(lambda self, y: log(y))
    log_slope = formula(lambda self, x: x)


@dataclass(frozen=True, eq=False)
class Sigmoid(Bijection):
    """``1 / (1 + exp(-x))``, onto (0, 1).

    >>> float(Sigmoid().forward(0.0))
    0.5
    """

    image = OPEN_UNIT
    nearest = staticmethod(inside_unit)
    forward = formula(lambda self, x: self.nearest(sigmoid(x)))
    inverse = formula(lambda self, y: log(y) - log1p(-y))
    log_slope = formula(lambda self, x: -softplus(x) - softplus(-x))


@dataclass(frozen=True, eq=False)
class Tanh(Bijection):
    """``tanh(x)``, onto (-1, 1).

    >>> float(Tanh().forward(0.0))
    0.0
    """

    image = Domain("between -1 and 1, both excluded", lambda y: abs(y) < 1, between(-0.9, 0.9), bounds=(-1, 1))
    nearest = staticmethod(between_minus_one_and_one)
    forward = formula(lambda self, x: self.nearest(tanh(x)))
    inverse = formula(lambda self, y: atanh(y))
    log_slope = formula(lambda self, x: 2 * (math.log(2) - x - softplus(-2 * x)))


@dataclass(frozen=True, eq=False)
class Affine(Bijection):
    """``loc + scale x``.

    Args:
        loc: any number.
        scale: positive.

    >>> float(Affine(1.0, 2.0).forward(3.0))
    7.0
    """

    loc: Value = 0.0
    scale: Value = 1.0
    forward = formula(lambda self, x: self.loc + self.scale * x)
    inverse = formula(lambda self, y: (y - self.loc) / self.scale)
    log_slope = formula(lambda self, x: log(self.scale + 0.0 * x))

    def __post_init__(self) -> None:
        check_inside("Affine: loc", REAL, value_of(self.loc))
        check_inside("Affine: scale", POSITIVE, value_of(self.scale))
