"""Distributions of vectors made of Gaussian numbers, whose elements depend on each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import NORMAL, Value, namespace, value_of
from ..domains import LOWER_TRIANGULAR, MATRIX, POSITIVE_SIMPLEX, POSITIVE_VECTOR, VECTOR
from ..ops import concat, cumulative_sum, exp, expand_dims, flip, log, matrix_transpose, softplus, squeeze, sum, tril
from ..ops.linalg import cholesky, diagonal, solve
from .branches import above_zero
from .distribution import Distribution, formula, parameter
from .location_scale import Normal

_LOG_2_PI = math.log(2 * math.pi)


def _times(matrix: Value, vector: Value) -> Value:
    """Return the product of a matrix and a vector, with their batch axes broadcast."""
    return squeeze(matrix @ expand_dims(vector, axis=-1), axis=-1)


def _identity_like(x: Value) -> Value:
    """Return the identity matrix of the size of the last axis of x, in its dtype."""
    return namespace(value_of(x)).eye(x.shape[-1], dtype=x.dtype)


def diagonal_matrix(x: Value) -> Value:
    """Return matrices with the last axis of x for their diagonals."""
    return expand_dims(x, axis=-1) * _identity_like(x)


def _check_length(dist: Distribution, **axes: int) -> None:
    """Raise where the parameters are not made for vectors of one length."""
    if len(set(axes.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in axes.items())
        raise ValueError(f"{type(dist).__name__}: the parameters are for vectors of different lengths: {found}")


class _Gaussian:
    """A Gaussian vector: a subclass declares its covariance, a root of it, and the pieces of the density."""

    loc: Value
    whitening: Any  # of a draw: a matrix that makes it standard, and minus the logarithm of the matrix's determinant
    _log_scale: Any  # half the logarithm of the determinant of the covariance
    _square: Any  # (x - loc)^T covariance^-1 (x - loc)
    support = VECTOR
    noise_distribution = NORMAL
    event_shape = property(lambda self: self.loc.shape[-1:])
    mean = property(lambda self: self.loc + 0.0 * self.variance)

    def log_density(self, x: Value) -> Value:
        return -0.5 * self._square(x) - self._log_scale() - 0.5 * _LOG_2_PI * self.event_shape[0]

    def entropy(self) -> Value:
        return self._log_scale() + 0.5 * (1 + _LOG_2_PI) * self.event_shape[0] + 0.0 * sum(self.loc, axis=-1)


@dataclass(frozen=True, eq=False)
class MultivariateNormal(_Gaussian, Distribution):
    """The Gaussian distribution of a vector, with covariance ``L L^T`` for a lower triangular L.

    ``log p(x) = -|L^-1 (x - loc)|^2 / 2 - sum_i log L_ii - (d / 2) log(2 pi)``; a draw is ``loc + L e``, e ~ N(0, I).
    For a diagonal covariance ``Independent(Normal(loc, scale), 1)`` is the same and faster.

    Args:
        loc: the mean, of shape (..., d).
        scale_tril: L, of shape (..., d, d), with a positive diagonal.

    >>> d = MultivariateNormal(np.zeros(2), np.array([[1.0, 0.0], [2.0, 1.0]]))
    >>> d.covariance
    array([[1., 2.],
           [2., 5.]])
    """

    loc: Value = parameter(VECTOR)
    scale_tril: Value = parameter(LOWER_TRIANGULAR)
    _lower = property(lambda self: tril(self.scale_tril))  # so that no gradient reaches the upper triangle
    variance = property(lambda self: sum(self._lower * self._lower, axis=-1) + 0.0 * self.loc)
    covariance = property(lambda self: self._lower @ matrix_transpose(self._lower))
    transform = formula(lambda self, noise: self.loc + _times(self._lower, noise))

    def __post_init__(self) -> None:
        super().__post_init__()
        rows, columns = self.scale_tril.shape[-2:]
        _check_length(self, loc=self.loc.shape[-1], rows=rows, columns=columns)

    def _log_scale(self) -> Value:
        return sum(log(diagonal(self._lower)), axis=-1)

    def root(self) -> Value:
        """Return a matrix R with ``R R^T`` for the covariance."""
        return self._lower

    def whitening(self) -> tuple[Value, Value]:
        return solve(self._lower, _identity_like(self._lower)), self._log_scale()

    def _square(self, x: Value) -> Value:
        e = _times(self.whitening()[0], x - self.loc)
        return sum(e * e, axis=-1)


@dataclass(frozen=True, eq=False)
class LowRankNormal(_Gaussian, Distribution):
    """The Gaussian distribution of a long vector, with covariance ``W W^T + diag(s^2)``, W of few columns.

    A draw is ``loc + W e + s e'`` with e, e' ~ N(0, I). The density needs the inverse and the determinant of an
    r x r matrix only, by the identities of Woodbury and of Sylvester. It is the distribution of factor analysis.

    Args:
        loc: the mean, of shape (..., d).
        factor: W, of shape (..., d, r).
        scale: s, the standard deviations of the independent parts, positive, of shape (..., d).

    >>> d = LowRankNormal(np.zeros(3), np.ones((3, 1)), np.ones(3))
    >>> d.variance
    array([2., 2., 2.])
    """

    loc: Value = parameter(VECTOR)
    factor: Value = parameter(MATRIX)
    scale: Value = parameter(POSITIVE_VECTOR)
    event_noise_shape = property(lambda self: (self.factor.shape[-1] + self.loc.shape[-1],))
    variance = property(lambda self: sum(self.factor * self.factor, axis=-1) + self.scale * self.scale + 0.0 * self.loc)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_length(self, loc=self.loc.shape[-1], factor=self.factor.shape[-2], scale=self.scale.shape[-1])

    def transform(self, noise: Value) -> Value:
        rank = self.factor.shape[-1]
        return self.loc + _times(self.factor, noise[..., :rank]) + self.scale * noise[..., rank:]

    def root(self) -> Value:
        """Return a matrix R with ``R R^T`` for the covariance, of d + r columns."""
        own = diagonal_matrix(self.scale)
        return concat([self.factor + 0.0 * own[..., :1], own + 0.0 * self.factor[..., :1]], axis=-1)

    def whitening(self) -> tuple[Value, Value]:
        return MultivariateNormal(self.loc, cholesky(self.covariance)).whitening()

    def _whitened_factor(self) -> Value:
        return self.factor / expand_dims(self.scale, axis=-1)

    def _inner_scale(self) -> Value:
        """Return the Cholesky factor of ``I + W^T diag(s^-2) W``."""
        w = self._whitened_factor()
        inner = matrix_transpose(w) @ w
        return cholesky(inner + _identity_like(inner))

    def _log_scale(self) -> Value:
        return sum(log(self.scale), axis=-1) + sum(log(diagonal(self._inner_scale())), axis=-1)

    def _square(self, x: Value) -> Value:
        inner = self._inner_scale()
        e = (x - self.loc) / self.scale
        shared = _times(solve(inner, _identity_like(inner)) @ matrix_transpose(self._whitened_factor()), e)
        return sum(e * e, axis=-1) - sum(shared * shared, axis=-1)

    @property
    def covariance(self) -> Value:
        return self.factor @ matrix_transpose(self.factor) + diagonal_matrix(self.scale * self.scale)


@dataclass(frozen=True, eq=False)
class LogisticNormal(Distribution):
    """The distribution of K probabilities made of K - 1 normal numbers x by breaking a stick, as in PyTorch.

    Piece k gets the part ``sigmoid(x_k - log(K - k))`` of the rest of the stick, k = 1, ..., K - 1; the last piece is
    the rest. With ``x_k = log(y_k / (y_(k+1) + ... + y_K)) + log(K - k)`` the log-density in the first K - 1 pieces is
    ``log p(y) = sum_k log N(x_k; loc_k, scale_k^2) - sum_k log y_k``. There are no moments in closed form. (Aitchison's
    distribution of this name takes the softmax of x and 0.)

    Args:
        loc: the mean of x, of shape (..., K - 1); where it is 0, the pieces tend to be equally long.
        scale: its standard deviation, positive, of shape (..., K - 1).

    >>> LogisticNormal(np.zeros(2), np.full(2, 1e-9)).sample(rng=tg.noise(0)).round(6)
    array([0.333333, 0.333333, 0.333333])
    """

    loc: Value = parameter(VECTOR)
    scale: Value = parameter(POSITIVE_VECTOR)
    support = POSITIVE_SIMPLEX
    noise_distribution = NORMAL
    event_shape = property(lambda self: (self.loc.shape[-1] + 1,))
    event_noise_shape = property(lambda self: (self.loc.shape[-1],))

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_length(self, loc=self.loc.shape[-1], scale=self.scale.shape[-1])

    def _shift(self) -> Value:
        """log(K - k)."""
        pieces = np.arange(self.loc.shape[-1], 0, -1)
        return namespace(value_of(self.loc)).asarray(np.log(pieces), self.loc.dtype)

    def transform(self, noise: Value) -> Value:
        t = self.loc + self.scale * noise - self._shift()
        log_rest = cumulative_sum(-softplus(t), axis=-1, include_initial=True)
        return above_zero(exp(log_rest + concat([-softplus(-t), 0.0 * t[..., :1]], axis=-1)))

    def log_density(self, x: Value) -> Value:
        rest = flip(cumulative_sum(flip(x, axis=-1), axis=-1), axis=-1)[..., 1:]
        numbers = Normal(self.loc, self.scale).log_density(log(x[..., :-1]) - log(rest) + self._shift())
        return sum(numbers, axis=-1) - sum(log(x), axis=-1)
