"""Ops that decide where values and gradients go: cuts made on purpose, choices, casts."""

from __future__ import annotations

import numpy as np

from .. import core
from ..core import Value
from ..domains import REAL, TRUTH
from . import ranges
from .declare import JUMP, SMOOTH, STOP, case, declare, elementwise, example, op


@elementwise(lambda g, y, x: g, linear=True, range=ranges.of_first)
@example("identity(2.0) = 2.0")
def identity(x: Value, /) -> Value:
    """``x``. Derivative 1."""
    return x


@elementwise(None, smoothness=STOP, range=ranges.of_first)
@example("stop_gradient(2.0) = 2.0")
def stop_gradient(x: Value, /) -> Value:
    """``x``, taken for a constant by every gradient: how one cuts a path on purpose."""
    return x


@op(
    None,
    lambda g, y, value, path: g,
    smoothness=(STOP, SMOOTH),
    linear=True,
    axes=lambda i, labels, y, value, path: labels,
    cases=[case((2, 3), (2, 3)), case((), ())],
    range=ranges.of_first,
)
@example("surrogate(2.0, 3.0) = 2.0")
def surrogate(value: Value, path: Value, /) -> Value:
    """The value of the first argument, bit for bit, with the derivative of the second.

    Every estimator ends in it: the cost stays what it was, and only its gradient changes. Both have one shape.
    """
    if np.shape(value) != np.shape(path):
        raise ValueError(f"value and path must have one shape, found {np.shape(value)} and {np.shape(path)}")
    return value


@elementwise(
    None,
    lambda g, z, condition, x, y: where(condition, g, 0.0),
    lambda g, z, condition, x, y: where(condition, 0.0, g),
    smoothness=(JUMP, SMOOTH, SMOOTH),
    domain=(TRUTH, REAL, REAL),
    linear=((1, 2),),
    range=ranges.chosen,
)
@example("where(True, 1.0, 2.0) = 1.0")
def where(condition: Value, x: Value, y: Value, /) -> Value:
    """``x`` where the condition holds, ``y`` elsewhere. The gradient goes to the one that was taken.

    The value jumps with the condition, which has no gradient.
    """
    return np.where(condition, x, y)


astype = declare(
    core.astype,
    "``x`` with another dtype. Derivative 1 between floats.",
    "tg.astype(np.ones(2), np.float32).dtype = float32",
    linear=True,
    axes=lambda i, labels, y, x, dtype: labels,
    cases=[case((2, 3), dtype=np.float64)],
    range=ranges.of_first,
)
