"""Linear algebra on the last two axes of batches of matrices: ``tg.linalg``, by the names of the array API standard.

They know the engine and the other ops. Results with several parts (``eigh``, ``qr``, ``svd``, ``slogdet``) are named
tuples of what separate ops record.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..core import Value, namespace, value_of
from ..domains import Domain
from .declare import JUMP, KINK, PIECEWISE, case, op
from .elementwise import abs, divide_or_zero, pow
from .gates import astype
from .indexing import diagonal, matrix_shape, take, tril, triu
from .matrix import matmul, outer, tensordot, vecdot
from .reductions import Axis, count_nonzero, max, min, reduced, remaining_axes, sum
from .rounding import sign
from .shaping import (
    axis_of,
    broadcast_to,
    expand_dims,
    matrix_transpose,
    reshape,
    shape_of,
    sum_to,
    unmixed_by_broadcast,
)

Labels = tuple[int | None, ...]


def _draw_matrix(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Return matrices with singular values from 1 to 2, well apart."""
    *batch, rows, columns = shape
    left, _ = np.linalg.qr(rng.normal(size=(*batch, rows, rows)))
    right, _ = np.linalg.qr(rng.normal(size=(*batch, columns, columns)))
    k = rows if rows < columns else columns
    return (left[..., :k] * np.linspace(2, 1, k)) @ right[..., :k, :]


def _draw_definite(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    x = _draw_matrix(rng, shape)
    return x @ np.swapaxes(x, -1, -2)


def _is_matrix(x: Any) -> Any:
    return np.isfinite(x).all((-2, -1))


FULL_RANK = Domain("a matrix of full rank", _is_matrix, _draw_matrix, event_ndim=2)
POSITIVE_DEFINITE = Domain("a positive definite matrix", _is_matrix, _draw_definite, event_ndim=2)


def _batch(i: int, labels: Labels, y: Value, x: Value, **_: Any) -> Labels:
    """Matrices of a batch stay apart; their own axes are mixed."""
    return labels[:-2] + (None,) * (len(y.shape) - len(labels) + 2)


def _symmetric(x: Value) -> Value:
    rows, columns = matrix_shape("a symmetric matrix", x)
    if rows != columns:
        raise ValueError(f"a symmetric matrix is square, found shape {shape_of(x)}")
    return 0.5 * (x + matrix_transpose(x))


def _row(x: Value) -> Value:
    return expand_dims(x, axis=-2)


def _column(x: Value) -> Value:
    return expand_dims(x, axis=-1)


def _spread(g: Value) -> Value:
    """Return g with two axes of length 1 behind it, to weigh matrices with."""
    return reshape(g, (*g.shape, 1, 1))


def _eye(x: Value, n: int) -> Any:
    return namespace(value_of(x)).eye(n, dtype=x.dtype)


# ---------------------------------------------------------------------------------- square matrices


@op(
    lambda g, y, x: -matmul(matmul(matrix_transpose(y), g), matrix_transpose(y)),
    domain=FULL_RANK,
    axes=_batch,
    cases=[case((3, 3)), case((2, 2, 2))],
)
def inv(x: Value, /) -> Value:
    """Inverse of a square matrix. Cotangent -y^T g y^T. A singular matrix is an error.

    >>> inv(np.array([[2.0]]))
    array([[0.5]])
    """
    return np.linalg.inv(x)


def _weighed(g: Value, right: Value, solution: Value) -> Value:
    """Return the cotangent of the matrix: minus ``g`` times the solution, as an outer product for a vector."""
    if len(right.shape) == 1:
        return -_column(g) * _row(solution)
    return -matmul(g, matrix_transpose(solution))


def _batches_of_solve(i: int, labels: Labels, y: Value, x1: Value, x2: Value) -> Labels:
    event = 1 if len(x2.shape) == 1 else 2
    own = (x1.shape[:-2], x2.shape[:-event])[i]
    columns = (labels[-1] if i == 1 and event == 2 else None,) if event == 2 else ()
    return (*unmixed_by_broadcast(labels[: len(own)], own, y.shape[:-event]), None, *columns)


@op(
    lambda g, y, x1, x2: sum_to(_weighed(solve(matrix_transpose(x1), g), x2, y), x1.shape),
    lambda g, y, x1, x2: sum_to(solve(matrix_transpose(x1), g), x2.shape),
    domain=(FULL_RANK, FULL_RANK),
    axes=_batches_of_solve,
    cases=[case((3, 3), (3, 2)), case((2, 2, 2), (2, 3)), case((2, 2), (4, 2, 3))],
)
def solve(x1: Value, x2: Value, /) -> Value:
    """The y with ``x1 @ y = x2``; x2 is a vector where it has one axis, else matrices. A singular x1 is an error.

    Cotangents: of x2 ``c = solve(x1^T, g)``, of x1 ``-c y^T``.

    >>> solve(np.array([[2.0]]), np.array([4.0]))
    array([2.])
    """
    if np.ndim(x2) == 1 and np.ndim(x1) > 2:
        return np.linalg.solve(x1, x2[:, None])[..., 0]
    return np.linalg.solve(x1, x2)


@op(
    lambda g, y, x: _spread(g * y) * matrix_transpose(inv(x)),
    domain=FULL_RANK,
    axes=_batch,
    cases=[case((3, 3)), case((2, 2, 2))],
)
def det(x: Value, /) -> Value:
    """Determinant. Derivative det(x) x^-T; taking it at a singular matrix is an error.

    >>> round(float(det(np.diag(np.array([2.0, 3.0])))), 9)
    6.0
    """
    return np.linalg.det(x)


@op(
    lambda g, y, x: _spread(g) * matrix_transpose(inv(x)),
    domain=FULL_RANK,
    axes=_batch,
    cases=[case((3, 3)), case((2, 2, 2))],
)
def log_abs_det(x: Value, /) -> Value:
    """``log |det x|``, without overflow, minus infinity for a singular matrix. Derivative x^-T.

    >>> float(log_abs_det(np.eye(2)))
    0.0
    """
    return np.linalg.slogdet(x)[1]


@op(None, smoothness=JUMP, domain=FULL_RANK, axes=_batch, cases=[case((3, 3)), case((2, 2, 2))])
def sign_det(x: Value, /) -> Value:
    """Sign of the determinant, -1, 0 or 1. A jump: no gradient.

    >>> float(sign_det(-np.eye(3)))
    -1.0
    """
    return np.linalg.slogdet(x)[0]


class SlogdetResult(NamedTuple):
    """``det x = sign * exp(logabsdet)``."""

    sign: Value
    logabsdet: Value


def slogdet(x: Value, /) -> SlogdetResult:
    """Sign and logarithm of the determinant: see ``log_abs_det``.

    >>> float(slogdet(np.eye(2)).sign)
    1.0
    """
    return SlogdetResult(sign_det(x), log_abs_det(x))


def _through_cholesky(g: Value, y: Value, x: Value) -> Value:
    """Return L^-T P L^-1, symmetric, where P is the lower triangle of L^T g with half its diagonal."""
    product = tril(matmul(matrix_transpose(y), g))
    lower = product - 0.5 * product * _eye(y, y.shape[-1])
    right = solve(matrix_transpose(y), matrix_transpose(solve(matrix_transpose(y), _symmetric(lower))))
    return _symmetric(right)


@op(_through_cholesky, domain=POSITIVE_DEFINITE, axes=_batch, cases=[case((3, 3)), case((2, 2, 2))])
def cholesky_factor(x: Value, /) -> Value:
    """The lower triangular L with ``L @ L.T = x``: what ``cholesky`` records.

    With P the lower triangle of L^T g, half its diagonal taken, the cotangent is L^-T P L^-1, made symmetric.

    >>> cholesky_factor(np.array([[4.0]]))
    array([[2.]])
    """
    return np.linalg.cholesky(_symmetric(x))


def cholesky(x: Value, /, *, upper: bool = False) -> Value:
    """The lower triangular L with ``L @ L.T = x``, for a symmetric positive definite x; L^T where ``upper``.

    It is the factor of (x + x^T) / 2, so that its cotangent is symmetric. Another matrix is an error.

    >>> cholesky(np.array([[4.0]]))
    array([[2.]])
    """
    lower = cholesky_factor(x)
    return matrix_transpose(lower) if upper else lower


def matrix_power(x: Value, n: int, /) -> Value:
    """``x @ x @ ... @ x``, n times; for negative n, of the inverse. For n = 0, the identity: a constant.

    >>> matrix_power(np.diag(np.array([2.0, 3.0])), 2)
    array([[4., 0.],
           [0., 9.]])
    """
    rows, columns = matrix_shape("matrix_power", x)
    if rows != columns:
        raise ValueError(f"matrix_power: the matrix must be square, found shape {shape_of(x)}")
    if n < 0:
        return matrix_power(inv(x), -n)
    if n == 0:
        return broadcast_to(_eye(x, x.shape[-1]), x.shape)
    if n == 1:
        return x
    half = matrix_power(x, n // 2)
    return matmul(matmul(half, half), x) if n % 2 else matmul(half, half)


# --------------------------------------------------------------------------------- decompositions


@op(
    lambda g, y, x: _from_eigenbasis(eigenvectors(x), _row(g) * _eye(x, x.shape[-1])),
    domain=POSITIVE_DEFINITE,
    axes=_batch,
    cases=[case((3, 3)), case((2, 2, 2))],
)
def eigvalsh(x: Value, /) -> Value:
    """Eigenvalues of a symmetric matrix, ascending: those of (x + x^T) / 2. Cotangent V diag(g) V^T.

    Among equal eigenvalues the cotangent depends on the choice of V, unless they are treated alike.

    >>> eigvalsh(np.diag(np.array([3.0, 2.0])))
    array([2., 3.])
    """
    return np.linalg.eigvalsh(_symmetric(x))


def _from_eigenbasis(v: Value, middle: Value) -> Value:
    return matmul(matmul(v, middle), matrix_transpose(v))


def _inverse_gaps(w: Value) -> Value:
    """Return 1 / (w[j] - w[i]), and 0 where the two are equal."""
    gaps = _row(w) - _column(w)
    return divide_or_zero(1.0, gaps)


@op(
    lambda g, y, x: _symmetric(_from_eigenbasis(y, matmul(matrix_transpose(y), g) * _inverse_gaps(eigvalsh(x)))),
    smoothness=PIECEWISE,
    domain=POSITIVE_DEFINITE,
    axes=_batch,
    cases=[case((3, 3)), case((2, 2, 2))],
)
def eigenvectors(x: Value, /) -> Value:
    """Eigenvectors of a symmetric matrix, of length 1, in the columns: those of (x + x^T) / 2, ordered as ``eigvalsh``.

    Cotangent V ((V^T g) / (w[j] - w[i])) V^T, symmetric; the term of two equal eigenvalues, where there is no
    derivative, is 0. A cost that depends on the signs of the eigenvectors means nothing; since those leap, the graph
    offers no path for a random matrix.

    >>> abs(eigenvectors(np.diag(np.array([2.0, 3.0]))))
    array([[1., 0.],
           [0., 1.]])
    """
    return np.linalg.eigh(_symmetric(x))[1]


class EighResult(NamedTuple):
    """``x = eigenvectors @ diag(eigenvalues) @ eigenvectors^T``."""

    eigenvalues: Value
    eigenvectors: Value


def eigh(x: Value, /) -> EighResult:
    """Eigenvalues and eigenvectors of a symmetric matrix: see ``eigvalsh`` and ``eigenvectors``.

    >>> eigh(np.diag(np.array([3.0, 2.0]))).eigenvalues
    array([2., 3.])
    """
    return EighResult(eigvalsh(x), eigenvectors(x))


def _through_q(g: Value, y: Value, x: Value) -> Value:
    """Return (g + Q S) R^-T, where S is the symmetric matrix with the lower triangle of -g^T Q."""
    r = triu(matmul(matrix_transpose(y), x))
    product = -matmul(matrix_transpose(g), y)
    symmetric = tril(product) + matrix_transpose(tril(product, k=-1))
    return matrix_transpose(solve(r, matrix_transpose(g + matmul(y, symmetric))))


@op(_through_q, smoothness=PIECEWISE, domain=FULL_RANK, axes=_batch, cases=[case((3, 3)), case((2, 4, 2))])
def orthonormal(x: Value, /) -> Value:
    """The Q of the QR decomposition of a matrix with no more columns than rows, of full rank: orthonormal columns.

    >>> abs(orthonormal(np.diag(np.array([2.0, 3.0]))))
    array([[1., 0.],
           [0., 1.]])
    """
    return np.linalg.qr(x)[0]


class QRResult(NamedTuple):
    """``x = Q @ R``."""

    Q: Value
    R: Value


def qr(x: Value, /) -> QRResult:
    """``x = Q @ R`` with orthonormal columns in Q and an upper triangular R, of the smaller of the two lengths.

    For derivatives the first columns of x, as many as it has rows at most, must be linearly independent.

    >>> qr(np.ones((3, 2))).Q.shape
    (3, 2)
    """
    rows, columns = matrix_shape("qr", x)
    q = orthonormal(x if columns <= rows else x[..., :rows])
    return QRResult(q, triu(matmul(matrix_transpose(q), x)))


def _through_left(g: Value, u: Value, s: Value, v: Value) -> Value:
    """Return the cotangent of x from that of its left singular vectors, in the columns of u, the right ones in v."""
    turned = matmul(matrix_transpose(u), g)
    inner = turned * _inverse_gaps(s * s)
    outside = (g - matmul(u, turned)) / _row(s)
    return matmul(matmul(u, inner + matrix_transpose(inner)) * _row(s) + outside, matrix_transpose(v))


@op(
    lambda g, y, x: _through_left(g, y, svdvals(x), matrix_transpose(right_singular_vectors(x))),
    smoothness=PIECEWISE,
    domain=FULL_RANK,
    axes=_batch,
    cases=[case((3, 3)), case((2, 4, 2)), case((2, 3))],
)
def left_singular_vectors(x: Value, /) -> Value:
    """The U of ``svd``: orthonormal columns, as many as the smaller length of x.

    In the derivative the term of two equal singular values, where there is none, is 0; x must have full rank.

    >>> abs(left_singular_vectors(np.diag(np.array([3.0, 2.0]))))
    array([[1., 0.],
           [0., 1.]])
    """
    return np.linalg.svd(x, full_matrices=False)[0]


@op(
    lambda g, y, x: matrix_transpose(
        _through_left(matrix_transpose(g), matrix_transpose(y), svdvals(x), left_singular_vectors(x))
    ),
    smoothness=PIECEWISE,
    domain=FULL_RANK,
    axes=_batch,
    cases=[case((3, 3)), case((2, 4, 2)), case((2, 3))],
)
def right_singular_vectors(x: Value, /) -> Value:
    """The Vh of ``svd``: orthonormal rows, as many as the smaller length of x. Derivative as for the left ones.

    >>> abs(right_singular_vectors(np.diag(np.array([3.0, 2.0]))))
    array([[1., 0.],
           [0., 1.]])
    """
    return np.linalg.svd(x, full_matrices=False)[2]


@op(
    lambda g, y, x: matmul(left_singular_vectors(x) * _row(g), right_singular_vectors(x)),
    domain=FULL_RANK,
    axes=_batch,
    cases=[case((3, 3)), case((2, 4, 2)), case((2, 3))],
)
def svdvals(x: Value, /) -> Value:
    """Singular values, descending. Cotangent U diag(g) Vh; among equal ones it depends on the choice of U and Vh.

    >>> svdvals(np.diag(np.array([2.0, 3.0])))
    array([3., 2.])
    """
    return np.linalg.svd(x, compute_uv=False)


class SVDResult(NamedTuple):
    """``x = U @ diag(S) @ Vh``."""

    U: Value
    S: Value
    Vh: Value


def svd(x: Value, /, *, full_matrices: bool = False) -> SVDResult:
    """``x = U @ diag(S) @ Vh``: see ``left_singular_vectors``, ``svdvals`` and ``right_singular_vectors``.

    Only the reduced form, with as many columns in U as singular values: the others have no derivative.

    >>> svd(np.ones((3, 2))).U.shape
    (3, 2)
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


@op(_through_pinv, domain=FULL_RANK, axes=_batch, cases=[case((3, 3)), case((2, 4, 2)), case((2, 3))])
def pinv(x: Value, /, *, rtol: float | None = None) -> Value:
    """Moore-Penrose inverse. The derivative is that at constant rank; where the rank changes there is none.

    Singular values up to ``rtol`` times the largest count as 0, by default the longer side times the precision.

    >>> pinv(np.array([[2.0], [0.0]]))
    array([[0.5, 0. ]])
    """
    rtol = np.finfo(x.dtype).eps * float(np.max(x.shape[-2:])) if rtol is None else rtol
    return np.linalg.pinv(x, rcond=rtol)


@op(None, smoothness=JUMP, domain=FULL_RANK, axes=_batch, cases=[case((3, 3)), case((2, 4, 2))])
def matrix_rank(x: Value, /, *, rtol: float | None = None) -> Value:
    """Number of singular values above ``rtol`` times the largest. A jump: no gradient.

    >>> int(matrix_rank(np.ones((2, 2))))
    1
    """
    s = np.linalg.svd(x, compute_uv=False)
    rtol = np.finfo(x.dtype).eps * float(np.max(x.shape[-2:])) if rtol is None else rtol
    return np.sum(s > rtol * np.max(s, axis=-1, keepdims=True), axis=-1)


# ------------------------------------------------------------------------------- norms and vectors


def _through_norm(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool, ord: float) -> Value:
    gone = reduced(axis, x.ndim)
    kept = tuple(1 if a in gone else n for a, n in enumerate(x.shape))
    relative = divide_or_zero(x, reshape(y, kept))
    if ord == 2:
        return reshape(g, kept) * relative
    slope = sign(x) * pow(abs(relative), ord - 1) if ord < 2 else relative * pow(abs(relative), ord - 2)
    return reshape(g, kept) * slope


@op(
    _through_norm,
    smoothness=KINK,
    axes=remaining_axes,
    cases=[case((3,)), case((2, 3), axis=-1), case((2, 3), axis=(0, 1), keepdims=True), case((2, 3), axis=0, ord=3)],
)
def power_norm(x: Value, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Value:
    """``sum(|x|^ord)^(1/ord)`` over ``axis``, for ord >= 1, without overflow. Derivative sign(x) (|x| / y)^(ord - 1).

    Where the norm is 0, the gradient is 0.

    >>> float(power_norm(np.array([3.0, 4.0])))
    5.0
    """
    if ord < 1:
        raise ValueError(f"ord must be at least 1, found {ord}")
    magnitude = np.abs(x)
    largest = (np.max if magnitude.size else np.sum)(magnitude, axis=axis, keepdims=True)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, np.ones_like(largest))
    powers = np.square(magnitude / scale) if ord == 2 else (magnitude / scale) ** ord
    y = np.sum(powers, axis=axis, keepdims=True) ** (1 / ord) * scale
    return y if keepdims else np.squeeze(y, axis=reduced(axis, np.ndim(x)))


def vector_norm(x: Value, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Value:
    """Length of vectors: ``sum(|x|^ord)^(1/ord)`` over ``axis``; largest and smallest |x| for ord inf and -inf.

    For ord 0 it is the number of elements that are not 0, without a gradient.

    >>> float(vector_norm(np.array([3.0, 4.0]), ord=np.inf))
    4.0
    """
    if ord == math.inf:
        return max(abs(x), axis=axis, keepdims=keepdims)
    if ord == -math.inf:
        return min(abs(x), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(abs(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        return astype(count_nonzero(x, axis=axis, keepdims=keepdims), x.dtype)
    return power_norm(x, axis=axis, keepdims=keepdims, ord=ord)


def matrix_norm(x: Value, /, *, keepdims: bool = False, ord: float | str = "fro") -> Value:
    """Norm of matrices: ``"fro"`` (root of the sum of squares), ``"nuc"`` (sum of the singular values).

    1 and -1 are the largest and smallest column sum of |x|, inf and -inf those of the rows, 2 and -2 the largest and
    smallest singular value.

    >>> float(matrix_norm(np.ones((2, 2))))
    2.0
    """
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord == "nuc":
        y = sum(svdvals(x), axis=-1)
    elif ord in (2, -2):
        y = (max if ord == 2 else min)(svdvals(x), axis=-1)
    elif ord in (1, -1):
        y = (max if ord == 1 else min)(sum(abs(x), axis=-2), axis=-1)
    elif ord in (math.inf, -math.inf):
        y = (max if ord == math.inf else min)(sum(abs(x), axis=-1), axis=-1)
    else:
        raise ValueError(f"matrix_norm: ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, found {ord!r}")
    return _spread(y) if keepdims else y


def trace(x: Value, /, *, offset: int = 0) -> Value:
    """Sum of a diagonal of the last two axes.

    >>> float(trace(np.eye(3)))
    3.0
    """
    return sum(diagonal(x, offset=offset), axis=-1)


def cross(x1: Value, x2: Value, /, *, axis: int = -1) -> Value:
    """Vector product of vectors of three along ``axis``.

    >>> cross(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    array([0., 0., 1.])
    """
    if x1.shape[axis_of("cross", x1, axis)] != 3 or x2.shape[axis_of("cross", x2, axis)] != 3:
        raise ValueError(f"cross: axis {axis} must have length 3, found shapes {x1.shape} and {x2.shape}")
    second, third = namespace(value_of(x1)).asarray([[1, 2, 0], [2, 0, 1]])
    forwards = take(x1, second, axis=axis) * take(x2, third, axis=axis)
    return forwards - take(x1, third, axis=axis) * take(x2, second, axis=axis)


__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]
