"""Distributions of matrices: of covariances and of correlations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import Array, Value, namespace, trees, value_of
from ..domains import LOWER_TRIANGULAR, POSITIVE, Domain, greater_than
from ..ops import concat, cumulative_sum, digamma, exp, expand_dims, lgamma, log, ndtri, sqrt, sum, tril
from ..ops.linalg import cholesky, diagonal, matrix_transpose, solve
from .bounded import Beta
from .branches import above_zero, choose
from .distribution import Distribution, parameter
from .gamma import standard_gamma
from .multivariate import diagonal_matrix

_ROUNDING = 1e-5


def _is_definite(x: Array) -> Array:
    """Return which matrices are finite, symmetric up to rounding, and positive definite, whatever the units of rows."""
    diagonals = np.diagonal(x, axis1=-2, axis2=-1)
    fine = np.isfinite(x).all((-2, -1)) & (diagonals > 0).all(-1)
    units = np.sqrt(np.where(fine[..., None], diagonals, 1.0))
    scaled = np.where(fine[..., None, None], x, 0.0) / (units[..., :, None] * units[..., None, :])
    symmetric = (abs(scaled - np.swapaxes(scaled, -1, -2)) <= _ROUNDING).all((-2, -1))
    return fine & symmetric & (np.linalg.eigvalsh(scaled)[..., 0] > 0)


def _identities(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape) + np.eye(shape[-1])


_POSITIVE_DEFINITE = Domain("a symmetric positive definite matrix", _is_definite, _identities, event_ndim=2)
_CORRELATION_ROOT = Domain(
    "a lower triangular matrix with a positive diagonal and rows of length 1",
    lambda x: LOWER_TRIANGULAR.contains(x) & (abs((x * x).sum(-1) - 1) <= _ROUNDING).all(-1),
    _identities,
    event_ndim=2,
)


def _descending(x: Value, count: int) -> Value:
    """Return ``x, x - 1/2, x - 1, ...`` along a new last axis."""
    x = expand_dims(x, axis=-1)
    return x - 0.5 * namespace(value_of(x)).arange(count).astype(x.dtype)


@dataclass(frozen=True, eq=False)
class Wishart(Distribution):
    """The distribution of ``sum_i x_i x_i^T`` of df vectors x ~ N(0, L L^T): of a sample covariance, times df.

    ``log p(X) = (df - d - 1) / 2 log|X| - |L^-1 chol X|^2 / 2 - df log|sqrt(2) L| - log Gamma_d(df / 2)`` for positive
    definite X. A draw is ``L A A^T L^T`` with A lower triangular, normal numbers below its diagonal and ``A_ii^2 ~
    Chi2(df - i)``, i = 0, ..., d - 1 (Bartlett 1933). Both parameters are given by name. With df close to d - 1 draws
    are nearly singular, and log|X| has few digits.

    Args:
        scale_tril: L, of shape (..., d, d), with a positive diagonal.
        df: the degrees of freedom, above d - 1; they need not be whole. The mean is df L L^T.

    >>> Wishart(df=3.0, scale_tril=np.eye(2)).mean
    array([[3., 0.],
           [0., 3.]])
    """

    scale_tril: Value = parameter(LOWER_TRIANGULAR, kw_only=True)
    df: Value = parameter(lambda dist: greater_than(dist.event_shape[-1] - 1), kw_only=True)
    support = _POSITIVE_DEFINITE
    path = "implicit"
    event_shape = property(lambda self: self.scale_tril.shape[-2:])
    _lower = property(lambda self: tril(self.scale_tril))  # so that no gradient reaches the upper triangle
    _halves = property(lambda self: _descending(0.5 * self.df, self.event_shape[-1]))  # (df - i) / 2
    mean = property(lambda self: self._times_df(self._lower @ matrix_transpose(self._lower)))

    def transform(self, noise: Value) -> Value:
        """The diagonal is raised by a few roundings, so that the matrix stays positive definite."""
        spread = sqrt(2 * standard_gamma(self._halves, diagonal(noise)))
        root = self._lower @ (tril(ndtri(noise), k=-1) + diagonal_matrix(spread))
        rounding = 4 * self.event_shape[-1] * float(np.finfo(noise.dtype).eps)
        return (root @ matrix_transpose(root)) * (1 + diagonal_matrix(rounding + 0.0 * spread))

    def _log_det(self) -> Value:
        """log|2 L L^T|."""
        return 2 * sum(log(math.sqrt(2) * diagonal(self.scale_tril)), axis=-1)

    def log_normaliser(self) -> Value:
        """Return ``df log|sqrt(2) L| + log Gamma_d(df / 2)``."""
        d, gammas = self.event_shape[-1], sum(lgamma(self._halves), axis=-1)
        return 0.5 * self.df * self._log_det() + gammas + d * (d - 1) / 4 * math.log(math.pi)

    def log_density(self, x: Value) -> Value:
        root = cholesky(x)
        e, log_root = solve(self._lower, root), sum(log(diagonal(root)), axis=-1)
        power = (self.df - self.event_shape[-1] - 1) * log_root
        return power - 0.5 * sum(e * e, axis=(-2, -1)) - self.log_normaliser()

    def _times_df(self, x: Value) -> Value:
        return expand_dims(expand_dims(self.df, axis=-1), axis=-1) * x

    @property
    def variance(self) -> Value:
        v = self._lower @ matrix_transpose(self._lower)
        each = expand_dims(diagonal(v), axis=-1)
        return self._times_df(v * v + each * matrix_transpose(each))

    def entropy(self) -> Value:
        d, mean_log_det = self.event_shape[-1], self._log_det() + sum(digamma(self._halves), axis=-1)
        return self.log_normaliser() + 0.5 * self.df * d - 0.5 * (self.df - d - 1) * mean_log_det


@dataclass(frozen=True, eq=False)
class LKJCholesky(Distribution):
    """The distribution of the Cholesky factor L of a d x d correlation matrix with density ``|L L^T|^(eta - 1) / Z``.

    ``log p(L) = sum_i (2 h_i - 2) log L_ii + log Gamma(h_0) - log Gamma(h_i) - i / 2 log pi`` over the rows i = 1, ...,
    d - 1, with h_i = eta + (d - 1 - i) / 2: the density in the elements below the diagonal. A draw makes each of these
    from a uniform of its own, by partial correlations: ``L_ij = z_ij sqrt(prod_(k < j) (1 - z_ik^2))`` with
    ``z_ij = 2 y - 1``, y ~ Beta(h_(j+1), h_(j+1)), and L_ii makes the row 1 long. Lewandowski, Kurowicka and Joe 2009.

    Args:
        dim: d, at least 2.
        concentration: eta, positive; with 1 all correlation matrices are equally likely, with more those close to the
            identity are likelier.

    >>> LKJCholesky(3, 1.0).sample(rng=tg.noise(0)).shape
    (3, 3)
    """

    dim: int = trees.static()
    concentration: Value = parameter(POSITIVE, default=1.0)
    support = _CORRELATION_ROOT
    path = "implicit"
    event_shape = property(lambda self: (self.dim, self.dim))
    event_noise_shape = property(lambda self: (self.dim, self.dim - 1))
    # h_0 to h_(d - 1); L_ii^2 is a Beta(h_i, i / 2) number
    _halves = property(lambda self: _descending(self.concentration + 0.5 * (self.dim - 1), self.dim))
    mean = property(lambda self: diagonal_matrix(self._mean_diagonal()))

    def __post_init__(self) -> None:
        if not isinstance(self.dim, (int, np.integer)) or self.dim < 2:
            raise ValueError(f"LKJCholesky: dim must be a whole number from 2 on, found {self.dim!r}")
        super().__post_init__()

    @classmethod
    def example(cls, rng: np.random.Generator, batch_shape: tuple[int, ...] = ()) -> LKJCholesky:
        return cls(3, np.asarray(POSITIVE.draw(rng, batch_shape)))

    def transform(self, noise: Value) -> Value:
        """By the smaller one of y and 1 - y, so that 1 - z^2 keeps its digits."""
        b, upper = expand_dims(self._halves[..., 1:], axis=-2), noise > 0.5
        y = Beta(b, b).icdf(choose(upper, 1 - noise, noise))
        z = concat([choose(upper, 1 - 2 * y, 2 * y - 1), 0.0 * y[..., :1]], axis=-1)
        log_length = cumulative_sum(tril(0.5 * log(4 * y * (1 - y)), k=-1), axis=-1, include_initial=True)
        return above_zero(exp(log_length)) * (tril(z, k=-1) + diagonal_matrix(1 + 0.0 * z[..., 0]))

    def log_density(self, x: Value) -> Value:
        h = self._halves
        first, rest = h[..., :1], h[..., 1:]
        normaliser = lgamma(rest) - lgamma(first) + math.log(math.pi) * (first - rest)
        return sum((2 * rest - 2) * log(diagonal(x)[..., 1:]) - normaliser, axis=-1)

    def _mean_diagonal(self) -> Value:
        h = self._halves
        step = lgamma(h + 0.5) - lgamma(h)
        return exp(step - step[..., :1])

    @property
    def variance(self) -> Value:
        h, mean = self._halves, self._mean_diagonal()
        below = tril(expand_dims(0.5 / h[..., :1] + 0.0 * h, axis=-1) + 0.0 * diagonal_matrix(h), k=-1)
        return below + diagonal_matrix(h / h[..., :1] - mean * mean)
