"""Ops that change no value and say of a gradient through them that it would be wrong, or right only once."""

from __future__ import annotations

from .core import Value
from .ops.declare import SMOOTH, STOP, example, op
from .ops.ranges import of_first


@op(lambda g, y, x, *, reason: g, linear=True, axes=lambda i, labels, y, x, *, reason: labels, range=of_first)
@example('refuse_gradient(2.0, reason="its derivative is not known") = 2.0')
def refuse_gradient(x: Value, /, *, reason: str) -> Value:
    """``x``. A gradient through it is refused with the reason."""
    return x


@op(
    lambda g, y, value, a, b, *, reason: g,
    None,
    None,
    smoothness=(SMOOTH, STOP, STOP),
    axes=lambda i, labels, y, *inputs, reason: labels if inputs[i].shape == y.shape else (None,) * len(y.shape),
    range=of_first,
)
@example('first_order(2.0, 1.0, 1.0, reason="the derivative of log q was dropped") = 2.0')
def first_order(value: Value, a: Value, b: Value, /, *, reason: str) -> Value:
    """``value``, whose first derivative is right and whose second one, along both a and b, lacks a part.

    An estimator drops terms whose expectation is zero, or replaces a derivative by a difference of costs. That is right
    once. Where a recorded gradient is differentiated again along both a and b, it is refused.
    """
    return value
