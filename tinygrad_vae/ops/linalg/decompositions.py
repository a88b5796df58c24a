"""Decompositions of matrices: Cholesky, eigenvalues, QR, singular values, and the pseudoinverse.

A result with several parts is a named tuple of what separate ops record.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np

from ...core import Value, is_array
from ..choices import stop_gradient, where
from ..declare import JUMP, PIECEWISE, case, example
from ..elementwise import abs
from ..indexing import matrix_shape, tril, triu
from ..matrix import matmul
from ..reductions import max
from ..shaping import matrix_transpose, shape_of
from .square import CASES, POSITIVE_DEFINITE, SQUARE_CASES, column, eye, on_matrices, row, solve


def _symmetric(x: Value) -> Value:
    rows, columns = matrix_shape("a symmetric matrix", x)
    if rows != columns:
        raise ValueError(f"a symmetric matrix is square, found shape {shape_of(x)}")
    return 0.5 * (x + matrix_transpose(x))


def _in_cholesky(g: Value, y: Value, x: Value, *, upper: bool) -> Value:
    if upper:
        g, y = matrix_transpose(g), matrix_transpose(y)
    product = tril(matmul(matrix_transpose(y), g))
    lower = product - 0.5 * product * eye(y, y.shape[-1])
    right = solve(matrix_transpose(y), matrix_transpose(solve(matrix_transpose(y), _symmetric(lower))))
    return _symmetric(right)


@on_matrices(_in_cholesky, domain=POSITIVE_DEFINITE, cases=[*SQUARE_CASES, case((3, 3), upper=True)])
@example("cholesky(np.array([[4.0]])) = [[2.]]")
def cholesky(x: Value, /, *, upper: bool = False) -> Value:
    """The lower triangular L with ``L @ L.T = x``, for a symmetric positive definite x; L^T where ``upper``.

    It is the factor of (x + x^T) / 2, so that its cotangent is symmetric: L^-T P L^-1, where P is the lower triangle of
    L^T g with half its diagonal. A matrix that is not positive definite is an error.
    """
    lower = np.linalg.cholesky(_symmetric(x))
    return np.swapaxes(lower, -1, -2) if upper else lower


@on_matrices(lambda g, y, x: _from_eigenbasis(eigenvectors(x), row(g) * eye(x, x.shape[-1])), domain=POSITIVE_DEFINITE)
@example("eigvalsh(np.diag(np.array([3.0, 2.0]))) = [2. 3.]")
def eigvalsh(x: Value, /) -> Value:
    """Eigenvalues of a symmetric matrix, ascending: those of (x + x^T) / 2. Cotangent V diag(g) V^T.

    Among equal eigenvalues the cotangent depends on the choice of V, unless they are treated alike.
    """
    return np.linalg.eigvalsh(_symmetric(x))


def _from_eigenbasis(v: Value, middle: Value) -> Value:
    return matmul(matmul(v, middle), matrix_transpose(v))


def _inverse_gaps(w: Value) -> Value:
    """Return 1 / (w[j] - w[i]), 0 on the diagonal, and NaN where two values are equal or nearly so.

    The derivative divides rounding errors by the gap: NaN says that fewer than 6 digits (float64) would be right.
    """
    gaps = row(w) - column(w)
    if not w.shape[-1]:
        return gaps
    nearly_equal = np.finfo(w.dtype).eps ** 0.6 * column(max(abs(w), axis=-1, keepdims=True))
    close = stop_gradient(abs(gaps) <= nearly_equal)
    return 1 / where(eye(w, w.shape[-1], bool), math.inf, where(close, math.nan, gaps))


@on_matrices(
    lambda g, y, x: _symmetric(_from_eigenbasis(y, matmul(matrix_transpose(y), g) * _inverse_gaps(eigvalsh(x)))),
    smoothness=PIECEWISE,
    domain=POSITIVE_DEFINITE,
)
@example("abs(eigenvectors(np.diag(np.array([2.0, 3.0])))).tolist() = [[1.0, 0.0], [0.0, 1.0]]")
def eigenvectors(x: Value, /) -> Value:
    """Eigenvectors of a symmetric matrix, of length 1, in the columns: those of (x + x^T) / 2, ordered as ``eigvalsh``.

    Cotangent V ((V^T g) / (w[j] - w[i])) V^T, symmetric, and NaN where two eigenvalues are nearly equal: there is no
    derivative then, or none that is known from the eigenvectors alone. A cost that depends on the signs of the
    eigenvectors means nothing; since those leap, the graph offers no path for a random matrix.
    """
    return np.linalg.eigh(_symmetric(x))[1]


EighResult = namedtuple("EighResult", ["eigenvalues", "eigenvectors"])


@example("eigh(np.diag(np.array([3.0, 2.0]))).eigenvalues = [2. 3.]")
def eigh(x: Value, /) -> EighResult:
    """Eigenvalues and eigenvectors of a symmetric matrix: see ``eigvalsh`` and ``eigenvectors``."""
    return EighResult(eigvalsh(x), eigenvectors(x))


def _through_q(g: Value, y: Value, x: Value) -> Value:
    """Return (g + Q S) R^-T, where S is the symmetric matrix with the lower triangle of -g^T Q."""
    r = triu(matmul(matrix_transpose(y), x))
    product = -matmul(matrix_transpose(g), y)
    symmetric = tril(product) + matrix_transpose(tril(product, k=-1))
    return matrix_transpose(solve(r, matrix_transpose(g + matmul(y, symmetric))))


@on_matrices(_through_q, smoothness=PIECEWISE, cases=CASES[:2])
@example("abs(orthonormal(np.diag(np.array([2.0, 3.0])))).tolist() = [[1.0, 0.0], [0.0, 1.0]]")
def orthonormal(x: Value, /) -> Value:
    """The Q of the QR decomposition of a matrix with no more columns than rows, of full rank: orthonormal columns."""
    return np.linalg.qr(x)[0]


QRResult = namedtuple("QRResult", ["Q", "R"])


@example("qr(np.ones((3, 2))).Q.shape = (3, 2)")
def qr(x: Value, /) -> QRResult:
    """``x = Q @ R`` with orthonormal columns in Q and an upper triangular R, of the smaller of the two lengths.

    For derivatives the first columns of x, as many as it has rows at most, must be linearly independent.
    """
    rows, columns = matrix_shape("qr", x)
    q = orthonormal(x if columns <= rows else x[..., :rows])
    return QRResult(q, triu(matmul(matrix_transpose(q), x)))


def _through_left(g: Value, u: Value, s: Value, v: Value) -> Value:
    """Return the cotangent of x from that of its left singular vectors, in the columns of u, the right ones in v."""
    turned = matmul(matrix_transpose(u), g)
    inner = turned * _inverse_gaps(s) / (row(s) + column(s))
    outside = (g - matmul(u, turned)) / row(s)
    return matmul(matmul(u, inner + matrix_transpose(inner)) * row(s) + outside, matrix_transpose(v))


@on_matrices(
    lambda g, y, x: _through_left(g, y, svdvals(x), matrix_transpose(right_singular_vectors(x))),
    smoothness=PIECEWISE,
    cases=CASES,
)
@example("abs(left_singular_vectors(np.diag(np.array([3.0, 2.0])))).tolist() = [[1.0, 0.0], [0.0, 1.0]]")
def left_singular_vectors(x: Value, /) -> Value:
    """The U of ``svd``: orthonormal columns, as many as the smaller length of x.

    The derivative is NaN where two singular values are nearly equal, as for ``eigenvectors``; x must have full rank.
    """
    return np.linalg.svd(x, full_matrices=False)[0]


@on_matrices(
    lambda g, y, x: matrix_transpose(
        _through_left(matrix_transpose(g), matrix_transpose(y), svdvals(x), left_singular_vectors(x))
    ),
    smoothness=PIECEWISE,
    cases=CASES,
)
@example("abs(right_singular_vectors(np.diag(np.array([3.0, 2.0])))).tolist() = [[1.0, 0.0], [0.0, 1.0]]")
def right_singular_vectors(x: Value, /) -> Value:
    """The Vh of ``svd``: orthonormal rows, as many as the smaller length of x. Derivative as for the left ones."""
    return np.linalg.svd(x, full_matrices=False)[2]


@on_matrices(lambda g, y, x: matmul(left_singular_vectors(x) * row(g), right_singular_vectors(x)), cases=CASES)
@example("svdvals(np.diag(np.array([2.0, 3.0]))) = [3. 2.]")
def svdvals(x: Value, /) -> Value:
    """Singular values, descending. Cotangent U diag(g) Vh; among equal ones it depends on the choice of U and Vh."""
    return np.linalg.svd(x, compute_uv=False)


SVDResult = namedtuple("SVDResult", ["U", "S", "Vh"])


@example("svd(np.ones((3, 2))).U.shape = (3, 2)")
def svd(x: Value, /, *, full_matrices: bool = False) -> SVDResult:
    """``x = U @ diag(S) @ Vh``: see ``left_singular_vectors``, ``svdvals`` and ``right_singular_vectors``.

    Only the reduced form, with as many columns in U as singular values: the others have no derivative.
    """
    rows, columns = matrix_shape("svd", x)
    if full_matrices and rows != columns:
        raise ValueError(f"svd: full_matrices=True of shape {x.shape} has columns without a derivative; leave it out")
    return SVDResult(left_singular_vectors(x), svdvals(x), right_singular_vectors(x))


def _through_pinv(g: Value, y: Value, x: Value, *, rtol: float | None) -> Value:
    yt, gt = matrix_transpose(y), matrix_transpose(g)
    left = gt - matmul(x, matmul(y, gt))
    right = gt - matmul(matmul(gt, y), x)
    through = -matmul(matmul(yt, g), yt)
    return through + matmul(matmul(left, y), yt) + matmul(matmul(yt, y), right)


@on_matrices(_through_pinv, cases=CASES)
@example("pinv(np.array([[2.0], [0.0]])) = [[0.5 0. ]]")
def pinv(x: Value, /, *, rtol: float | None = None) -> Value:
    """Moore-Penrose inverse. The derivative is that at constant rank; where the rank changes there is none.

    Singular values up to ``rtol`` times the largest count as 0, by default the longer side times the precision.
    """
    rtol = float(np.finfo(x.dtype).eps) * float(np.max(x.shape[-2:])) if rtol is None else rtol
    return np.linalg.pinv(x, rcond=rtol)


@on_matrices(None, smoothness=JUMP, cases=CASES[:2])
@example("matrix_rank(np.ones((2, 2))) = 1")
def matrix_rank(x: Value, /, *, rtol: Any = None) -> Value:
    """Number of singular values above ``rtol`` times the largest; one rtol, or one for each matrix. A jump."""
    s = np.linalg.svd(x, compute_uv=False)
    if rtol is None:
        rtol = float(np.finfo(x.dtype).eps) * float(np.max(x.shape[-2:]))
    largest = np.max(s, axis=-1, keepdims=True)
    return np.sum(s > (rtol[..., None] if is_array(rtol) and rtol.ndim else rtol) * largest, axis=-1)
