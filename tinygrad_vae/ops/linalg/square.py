"""Square matrices: inverse, solution of linear equations, powers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ...core import Op, Value, namespace, value_of
from ...domains import MATRIX
from ..declare import Labels, P, R, case, example, op
from ..indexing import matrix_shape
from ..matrix import matmul
from ..ranges import leaps_where_singular
from ..reals import on_reals
from ..shaping import broadcast_to, expand_dims, matrix_transpose, reshape, sum_to, unmixed_by_broadcast


def _draw_matrix(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Return matrices with singular values from 1 to 2, well apart."""
    *batch, rows, columns = shape
    left, right = (np.linalg.qr(rng.normal(size=(*batch, n, n)))[0] for n in (rows, columns))
    k = min(rows, columns)
    return (left[..., :k] * np.linspace(2, 1, k)) @ right[..., :k, :]


def _draw_definite(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    x = _draw_matrix(rng, shape)
    return x @ np.swapaxes(x, -1, -2)


FULL_RANK = replace(MATRIX, name="a matrix of full rank", draw=_draw_matrix)
POSITIVE_DEFINITE = replace(MATRIX, name="a positive definite matrix", draw=_draw_definite)
SQUARE_CASES = [case((3, 3)), case((2, 2, 2))]
CASES = [case((3, 3)), case((2, 4, 2)), case((2, 3))]


def batch_axes(i: int, labels: Labels, y: Value, x: Value, **_: Any) -> Labels:
    """Matrices of a batch stay apart; their own axes are mixed."""
    return labels[:-2] + (None,) * (len(y.shape) - len(labels) + 2)


row = functools.partial(expand_dims, axis=-2)  # x as rows: with a new axis before the last
column = functools.partial(expand_dims, axis=-1)  # x as columns


def spread(g: Value) -> Value:
    """Return g with two axes of length 1 behind it, to weigh matrices with."""
    return reshape(g, (*g.shape, 1, 1))


def eye(x: Value, n: int, dtype: Any = None) -> Any:
    """Return the identity with n rows, where x is, and with its dtype."""
    return namespace(value_of(x)).eye(n, dtype=dtype or x.dtype)


def on_matrices(*vjps: Callable[..., Any] | None, **words: Any) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Declare an op on real matrices, square ones of full rank if not said otherwise; those of a batch stay apart."""
    words = {"domain": FULL_RANK, "axes": batch_axes, "cases": SQUARE_CASES, **words}
    return lambda forward: op(*vjps, **words)(on_reals(forward))


@on_matrices(
    lambda g, y, x: -matmul(matmul(matrix_transpose(y), g), matrix_transpose(y)), pole=(0, leaps_where_singular)
)
@example("inv(np.array([[2.0]])) = [[0.5]]")
def inv(x: Value, /) -> Value:
    """Inverse of a square matrix. Cotangent -y^T g y^T. A singular matrix is an error."""
    return np.linalg.inv(x)


def _in_matrix(g: Value, y: Value, x1: Value, x2: Value) -> Value:
    c = solve(matrix_transpose(x1), g)
    return sum_to(-column(c) * row(y) if len(x2.shape) == 1 else -matmul(c, matrix_transpose(y)), x1.shape)


def _batches_of_solve(i: int, labels: Labels, y: Value, x1: Value, x2: Value) -> Labels:
    event = 1 if len(x2.shape) == 1 else 2
    own = (x1.shape[:-2], x2.shape[:-event])[i]
    columns = (labels[-1] if i == 1 and event == 2 else None,) if event == 2 else ()
    return (*unmixed_by_broadcast(labels[: len(own)], own, y.shape[:-event]), None, *columns)


@on_matrices(
    _in_matrix,
    lambda g, y, x1, x2: sum_to(solve(matrix_transpose(x1), g), x2.shape),
    linear=((1,),),
    axes=_batches_of_solve,
    cases=[case((3, 3), (3, 2)), case((2, 2, 2), (2, 3)), case((2, 2), (4, 2, 3))],
    pole=(0, leaps_where_singular),
)
@example("solve(np.array([[2.0]]), np.array([4.0])) = [2.]")
def solve(x1: Value, x2: Value, /) -> Value:
    """The y with ``x1 @ y = x2``, for one vector x2, or matrices. A singular x1 is an error.

    The cotangent of x2 is ``c = solve(x1^T, g)``, the one of x1 is ``-c y^T``.
    """
    if np.ndim(x2) == 1 and np.ndim(x1) > 2:
        return np.linalg.solve(x1, x2[:, None])[..., 0]
    return np.linalg.solve(x1, x2)


@example("matrix_power(np.array([[2.0]]), 3) = [[8.]]")
def matrix_power(x: Value, n: int, /) -> Value:
    """``x @ x @ ... @ x``, n times; for negative n, of the inverse. For n = 0, the identity: a constant."""
    rows, columns = matrix_shape("matrix_power", x)
    if rows != columns:
        raise ValueError(f"matrix_power: the matrix must be square, found shape {x.shape}")
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"matrix_power: the exponent must be a whole number, found {n!r}") from None
    if n < 0:
        return matrix_power(inv(x), -n)
    if n == 0:
        return broadcast_to(eye(x, rows), x.shape)
    if n == 1:
        return x
    half = matrix_power(x, n // 2)
    return matmul(matmul(half, half), x) if n % 2 else matmul(half, half)
