"""Determinants, and their derivatives at singular matrices too."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from ...core import Value, namespace
from ..choices import stop_gradient, where
from ..declare import JUMP, example
from ..indexing import diagonal
from ..matrix import matmul
from ..reductions import prod
from ..shaping import matrix_transpose
from .decompositions import left_singular_vectors, right_singular_vectors, svdvals
from .square import column, eye, inv, on_matrices, row, spread


@on_matrices(lambda g, y, x: spread(g) * cofactors(x))
@example("det(np.diag(np.array([2.0, 3.0]))) = 6.0")
def det(x: Value, /) -> Value:
    """Determinant. Derivative: the cofactors, det(x) x^-T where x has an inverse."""
    return np.linalg.det(x)


def _through_cofactors(g: Value, y: Value, x: Value) -> Value:
    """Return the second derivative of det: with ``x = U S Vh`` and ``e = U^T g V``, det(U Vh) times U r Vh.

    With p[i, j] the product of all singular values but i and j, ``r[i, j] = -e[j, i] p[i, j]`` beside the diagonal,
    and ``r[i, i] = sum over j of e[j, j] p[i, j]`` without j = i.
    """
    u, s, vh = left_singular_vectors(x), svdvals(x), right_singular_vectors(x)
    e = matmul(matmul(matrix_transpose(u), g), matrix_transpose(vh))
    same = eye(x, x.shape[-1], bool)
    products = prod(where(same[:, None] | same[None], 1.0, row(row(s))), axis=-1)
    beside = where(same, 0.0, products)
    r = where(same, matmul(beside, column(diagonal(e))), -matrix_transpose(e) * beside)
    return spread(stop_gradient(sign_det(matmul(u, vh)))) * matmul(matmul(u, r), vh)


@on_matrices(_through_cofactors)
@example("cofactors(np.array([[1.0, 2.0], [2.0, 4.0]])).round(9).tolist() = [[4.0, -2.0], [-2.0, 1.0]]")
def cofactors(x: Value, /) -> Value:
    """The derivative of ``det``, also of a singular matrix: from the singular values, without a division."""
    u, s, vh = np.linalg.svd(x)
    others = np.prod(np.where(namespace(x).eye(x.shape[-1], dtype=bool), 1, s[..., None, :]), axis=-1)
    return np.linalg.slogdet(u @ vh)[0][..., None, None] * ((u * others[..., None, :]) @ vh)


@on_matrices(lambda g, y, x: spread(g) * matrix_transpose(inv(x)))
@example("log_abs_det(np.eye(2)) = 0.0")
def log_abs_det(x: Value, /) -> Value:
    """``log |det x|``, without overflow, minus infinity for a singular matrix. Derivative x^-T."""
    return np.linalg.slogdet(x)[1]


@on_matrices(None, smoothness=JUMP)
@example("sign_det(-np.eye(3)) = -1.0")
def sign_det(x: Value, /) -> Value:
    """Sign of the determinant, -1, 0 or 1. A jump: no gradient."""
    return np.linalg.slogdet(x)[0]


SlogdetResult = namedtuple("SlogdetResult", ["sign", "logabsdet"])


@example("slogdet(np.eye(2)).sign = 1.0")
def slogdet(x: Value, /) -> SlogdetResult:
    """``det x = sign * exp(logabsdet)``: see ``log_abs_det``."""
    return SlogdetResult(sign_det(x), log_abs_det(x))
