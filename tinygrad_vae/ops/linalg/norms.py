"""Norms of vectors and matrices, trace and vector product."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core import Value, namespace, value_of
from .. import ranges
from ..choices import astype
from ..declare import KINK, case, example, op
from ..elementwise import abs, divide_or_zero, pow
from ..indexing import diagonal, take
from ..jumps import sign
from ..reals import on_reals
from ..reductions import Axis, as_axes, count_nonzero, kept, largest, max, min, reduced, remaining_axes, sum
from ..shaping import axis_of
from .decompositions import svdvals
from .square import spread


def _through_norm(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool, ord: float) -> Value:
    relative, g = divide_or_zero(x, kept(y, x, axis)), kept(g, x, axis)
    if ord == 2:
        return g * relative
    return g * (sign(x) * pow(abs(relative), ord - 1) if ord < 2 else relative * pow(abs(relative), ord - 2))


@op(
    _through_norm,
    smoothness=KINK,
    axes=remaining_axes,
    cases=[case((3,)), case((2, 3), axis=-1), case((2, 3), axis=(0, 1), keepdims=True), case((2, 3), axis=0, ord=3)],
    range=ranges.lengths,
)
@on_reals
@example("power_norm(np.array([3.0, 4.0])) = 5.0")
def power_norm(x: Value, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Value:
    """``sum(|x|^ord)^(1/ord)`` over ``axis``, for ord >= 1, without overflow. Derivative sign(x) (|x| / y)^(ord - 1).

    Where the norm is 0, the gradient is 0 and the second derivative NaN.
    """
    if ord < 1:
        raise ValueError(f"ord must be at least 1, found {ord}")
    magnitude, axis = np.abs(x), as_axes(axis)
    top = largest(magnitude, axis)
    scale = np.where((top > 0) & np.isfinite(top), top, np.ones_like(top))
    powers = np.square(magnitude / scale) if ord == 2 else (magnitude / scale) ** ord
    y = np.sum(powers, axis=axis, keepdims=True) ** (1 / ord) * scale
    return y if keepdims else np.squeeze(y, axis=reduced(axis, np.ndim(x)))


@example("vector_norm(np.array([3.0, 4.0]), ord=np.inf) = 4.0")
def vector_norm(x: Value, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Value:
    """Length of vectors: ``sum(|x|^ord)^(1/ord)`` over ``axis``; largest and smallest |x| for ord inf and -inf.

    For ord 0 it is the number of elements that are not 0, without a gradient.
    """
    if ord == 0:
        return astype(count_nonzero(x, axis=axis, keepdims=keepdims), x.dtype)
    simple: dict[float, Any] = {math.inf: max, -math.inf: min, 1: sum}
    if ord in simple:
        return simple[ord](abs(x), axis=axis, keepdims=keepdims)
    return power_norm(x, axis=axis, keepdims=keepdims, ord=ord)


@example("matrix_norm(np.ones((2, 2))) = 2.0")
def matrix_norm(x: Value, /, *, keepdims: bool = False, ord: float | str = "fro") -> Value:
    """Norm of matrices: ``"fro"`` (root of the sum of squares), ``"nuc"`` (sum of the singular values).

    1, inf and 2 are the largest column sum of |x|, row sum of |x| and singular value; -1, -inf and -2 the smallest.
    """
    best = max if ord in (1, 2, math.inf) else min
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord == "nuc":
        y = sum(svdvals(x), axis=-1)
    elif ord in (2, -2):
        y = best(svdvals(x), axis=-1)
    elif ord in (1, -1, math.inf, -math.inf):
        y = best(sum(abs(x), axis=-2 if ord in (1, -1) else -1), axis=-1)
    else:
        raise ValueError(f"matrix_norm: ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, found {ord!r}")
    return spread(y) if keepdims else y


@example("trace(np.eye(3)) = 3.0")
def trace(x: Value, /, *, offset: int = 0) -> Value:
    """Sum of a diagonal of the last two axes."""
    return sum(diagonal(x, offset=offset), axis=-1)


@example("cross(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])) = [0. 0. 1.]")
def cross(x1: Value, x2: Value, /, *, axis: int = -1) -> Value:
    """Vector product of vectors of three along ``axis``."""
    if x1.shape[axis_of("cross", x1, axis)] != 3 or x2.shape[axis_of("cross", x2, axis)] != 3:
        raise ValueError(f"cross: axis {axis} must have length 3, found shapes {x1.shape} and {x2.shape}")
    second, third = namespace(value_of(x1)).asarray([[1, 2, 0], [2, 0, 1]])
    forwards = take(x1, second, axis=axis) * take(x2, third, axis=axis)
    return forwards - take(x1, third, axis=axis) * take(x2, second, axis=axis)
