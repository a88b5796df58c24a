"""KL(p || q) in closed form: one formula for each pair of families that has one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import Tensor, Value, describe, namespace, trees, value_of
from ..ops import betaln, clip, erf, exp, expand_dims, i0e, lgamma, log, matmul, normal_kl, sin, square, sum, xlogy
from ..refusals import refuse_gradient
from .accurate import deviance, digamma_gap, stirling_remainder
from .bounded import Beta, ContinuousBernoulli, Kumaraswamy, Uniform
from .branches import choose
from .circular import VonMises
from .counts import Binomial, Geometric, NegativeBinomial, Poisson, log_or_minus_inf
from .discrete import Bernoulli, Categorical, OneHotCategorical
from .distribution import Distribution, times_log
from .gamma import Chi2, Dirichlet, Gamma, InverseGamma
from .heavy_tails import Cauchy, Pareto
from .location_scale import LOG_SQRT_2_PI, Gumbel, Laplace, Logistic, Normal
from .multivariate import LowRankNormal, MultivariateNormal
from .positive import Exponential, HalfNormal, LogNormal, Weibull
from .transformed import Independent, Transformed
from .truncated import TruncatedNormal

_EULER = float(np.euler_gamma)

Family = type[Distribution]
Formula = Callable[[Any, Any], Value]


def kl_divergence(p: Distribution, q: Distribution) -> Value:
    """Return ``KL(p || q) = E_p [log p(x) - log q(x)]`` in nats, from a closed form.

    It is infinite where p draws values that q excludes.

    Args:
        p, q: two distributions with batch shapes that broadcast.

    Returns:
        One number for each distribution of the batch.

    Raises:
        NotImplementedError: there is no closed form; the message offers ``monte_carlo_kl``.

    >>> float(kl_divergence(tg.Normal(1.0, 1.0), tg.Normal(0.0, 1.0)))
    0.5
    """
    check_same_event(p, q)
    formula = CLOSED_FORMS.get((type(p), type(q)))
    if formula is None:
        raise _no_closed_form(p, q)
    divergence = formula(p, q)
    if p.event_shape:  # formulas for vectors come back here for their elements
        return divergence
    (p_low, p_high), (q_low, q_high) = _ends(p), _ends(q)
    nested = (p_low >= q_low) & (p_high <= q_high)
    if not isinstance(nested, Tensor) and np.all(nested):
        return divergence
    return choose(nested, divergence, math.inf)


def _ends(dist: Distribution) -> tuple[Value, Value]:
    """Return the ends of the support, as Tensors where parameters move them."""
    match dist:
        case Uniform() | TruncatedNormal():
            return dist.low, dist.high
        case Pareto():
            return dist.scale, math.inf
        case Binomial() | Transformed():  # their formulas need equal totals, or compare the bases
            return -math.inf, math.inf
    return dist.support.bounds


def _no_closed_form(p: Distribution, q: Distribution, unless: str = "") -> NotImplementedError:
    return NotImplementedError(
        f"KL({type(p).__name__} || {type(q).__name__}) has no closed form here{unless}; "
        "monte_carlo_kl(p, q, rng=..., samples=...) estimates it from draws of p"
    )


def check_same_event(p: Distribution, q: Distribution) -> None:
    """Raise where p or q is no distribution, or their draws have different shapes."""
    for dist in (p, q):
        if not isinstance(dist, Distribution):
            raise TypeError(f"KL(p || q) takes two distributions, found {describe(dist)}")
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL({type(p).__name__} || {type(q).__name__}): one draw of p has shape {p.event_shape}, one of q "
            f"{q.event_shape}; make batch axes event axes with Independent(dist, n)"
        )


# the formulas of more than a line, and pieces of formulas ----------------------------------------


def _cross_entropy_of_normal(p: Any, q: Any) -> Value:
    """Return ``-E_p log N(x; loc_q, scale_q^2)``, which depends on p by its mean and variance only."""
    distance = p.mean - q.loc
    return LOG_SQRT_2_PI + log(q.scale) + 0.5 * (p.variance + distance * distance) / (q.scale * q.scale)


def _beside_digamma(a: Value, b: Value) -> Value:
    """Return ``lgamma(b) - lgamma(a) + (a - b) digamma(a)`` without ``b log(b / a) + a - b``, its large part."""
    return stirling_remainder(b) - stirling_remainder(a) + (b - a) * digamma_gap(a) + log(a / b)


def _dirichlet_part(a: Value, b: Value, a_total: Value, b_total: Value) -> Value:
    mean = b_total * (a / a_total)
    return _beside_digamma(a, b) + deviance(b, mean, log(mean))


def _as_gamma(dist: Any) -> Gamma:
    """Return a relative of Gamma as a Gamma distribution; for InverseGamma, the distribution of 1 / x."""
    match dist:
        case Exponential():
            return Gamma(1.0 + 0.0 * dist.rate, dist.rate)
        case Chi2():
            return Gamma(0.5 * dist.df, 0.5 + 0.0 * dist.df)
        case InverseGamma():
            return Gamma(dist.concentration, dist.scale)
    return dist


def _gamma_family(p: Distribution, q: Distribution) -> Value:
    p, q = _as_gamma(p), _as_gamma(q)
    a, b, mean = p.concentration, q.concentration, p.concentration * (q.rate / p.rate)
    return _beside_digamma(a, b) + deviance(b, mean, log(mean))


def _laplace(p: Laplace, q: Laplace) -> Value:
    distance = abs(p.loc - q.loc)
    return log(q.scale / p.scale) + (p.scale * exp(-distance / p.scale) + distance) / q.scale - 1


def _gumbel(p: Gumbel, q: Gumbel) -> Value:
    ratio, distance = p.scale / q.scale, (p.loc - q.loc) / q.scale
    tail = exp(lgamma(1 + ratio) - distance)
    return -log(ratio) + _EULER * (ratio - 1) + distance + tail - 1


def _weibull(p: Weibull, q: Weibull) -> Value:
    k, mean_log = q.concentration, log(p.scale) - _EULER / p.concentration
    power = exp(k * log(p.scale / q.scale) + lgamma(1 + k / p.concentration))
    return power - log(k) + k * log(q.scale) - (k - 1) * mean_log - p.entropy()


def _pareto(p: Pareto, q: Pareto) -> Value:
    ratio = q.concentration / p.concentration
    return ratio - 1 - log(ratio) + q.concentration * log(p.scale / q.scale)


def _beta(p: Beta, q: Beta) -> Value:
    n, m = p.a + p.b, q.a + q.b
    return _dirichlet_part(p.a, q.a, n, m) + _dirichlet_part(p.b, q.b, n, m) - _beside_digamma(n, m)


def _von_mises(p: VonMises, q: VonMises) -> Value:
    k, half = q.off_zero, sin(0.5 * (p.loc - q.loc))
    along = 1 - p.circular_variance
    cross = log(2 * math.pi * i0e(k)) + k * (p.circular_variance + 2 * along * half * half)
    return cross - p.entropy()


def _bernoulli(p: Any, q: Any) -> Value:
    heads = times_log(p.heads, -q.log_heads) - times_log(p.heads, -p.log_heads)
    tails = times_log(p.tails, -q.log_tails) - times_log(p.tails, -p.log_tails)
    return heads + tails


def _geometric(p: Any, q: Any) -> Value:
    return times_log(p.failures, p.log_tails) + p.log_heads - times_log(p.failures, q.log_tails) - q.log_heads


def _is_same(a: Value, b: Value) -> bool:
    """Return whether two parameters are equal numbers or one Tensor; two Tensors could move without each other."""
    return a is b if isinstance(a, Tensor) or isinstance(b, Tensor) else bool(np.array_equal(a, b))


def _same(name: str, p: Any, q: Any) -> Value:
    """Return the number of trials or of successes in both. Two parameters get no gradient: each could move alone.

    Raises:
        NotImplementedError: the numbers differ. In a graph that runs again, numbers that differ give nan.
    """
    a, b = getattr(p, name), getattr(q, name)
    if not np.all(np.equal(value_of(a), value_of(b))):
        raise _no_closed_form(p, q, f" unless {name} is equal in both")
    if _is_same(a, b):
        return a
    reason = (
        f"kl_divergence: {name} is equal in both distributions now; where it differs there is no closed form, so the "
        "derivative in one of them is not known; use monte_carlo_kl, or give both one Tensor for it"
    )
    a, b = (refuse_gradient(x, reason=reason) if isinstance(x, Tensor) else x for x in (a, b))
    return choose(a == b, 0.5 * (a + b), math.nan)


def _categorical(p: Any, q: Any) -> Value:
    if p.classes != q.classes:
        raise ValueError(f"KL of choices among {p.classes} and among {q.classes} classes")
    return sum(times_log(p.each, p.log_each) - times_log(p.each, q.log_each), axis=-1)


def _dirichlet(p: Dirichlet, q: Dirichlet) -> Value:
    a, b = p.concentration, q.concentration
    n, m = sum(a, axis=-1, keepdims=True), sum(b, axis=-1, keepdims=True)
    return sum(_dirichlet_part(a, b, n, m), axis=-1) - _beside_digamma(n, m)[..., 0]


def _independent(p: Independent, q: Independent) -> Value:
    if p.n != q.n:
        raise ValueError(f"KL of Independent distributions needs the same number of event axes, found {p.n} and {q.n}")
    base = kl_divergence(p.base, q.base)
    return sum(base, axis=tuple(range(-p.n, 0))) if p.n else base


def _gaussian_vectors(p: Any, q: Any) -> Value:
    if isinstance(p, Independent):
        scale = _independent_normals(p, p, q).scale + 0.0 * p.base.mean
        root = expand_dims(scale, axis=-1) * namespace(value_of(scale)).eye(scale.shape[-1], dtype=scale.dtype)
    else:
        root = p.root()
    whiten, log_scale = q.whitening()
    spread, distance = matmul(whiten, root), matmul(whiten, expand_dims(p.mean - q.mean, axis=-1))
    squares = sum(spread * spread, axis=(-2, -1)) + sum(distance * distance, axis=(-2, -1))
    return 0.5 * squares + log_scale + LOG_SQRT_2_PI * p.event_shape[0] - p.entropy()


def _gaussian_vector_against_numbers(p: Any, q: Independent) -> Value:
    return sum(_cross_entropy_of_normal(p, _independent_normals(q, p, q)), axis=-1) - p.entropy()


def _independent_normals(dist: Independent, p: Distribution, q: Distribution) -> Normal:
    if not isinstance(dist.base, Normal):
        raise _no_closed_form(p, q, " unless the independent elements are normal")
    return dist.base


def _uniform_against_beta(p: Uniform, q: Beta) -> Value:
    low, high, width = clip(p.low, 0.0, 1.0), clip(p.high, 0.0, 1.0), p.high - p.low
    mean_log = (xlogy(high, high) - xlogy(low, low)) / width - 1
    mean_log_rest = (xlogy(1 - low, 1 - low) - xlogy(1 - high, 1 - high)) / width - 1
    return betaln(q.a, q.b) - (q.a - 1) * mean_log - (q.b - 1) * mean_log_rest - log(width)


def _normal_against_laplace(p: Normal, q: Laplace) -> Value:
    d = (p.loc - q.loc) / p.scale
    distance = p.scale * (math.sqrt(2 / math.pi) * exp(-0.5 * d * d) + d * erf(d / math.sqrt(2)))
    return distance / q.scale + log(2 * q.scale) - p.entropy()


def _log_normal_against_gamma(p: LogNormal, q: Gamma) -> Value:
    a = q.concentration
    return q.rate * p.mean - a * log(q.rate) - (a - 1) * p.loc + lgamma(a) - p.entropy()


def _transformed(p: Transformed, q: Transformed) -> Value:
    """The same function of both changes nothing."""
    same = [type(f) for f in p.steps] == [type(f) for f in q.steps]
    if not same or not all(map(_is_same, trees.leaves(p.steps), trees.leaves(q.steps))):
        raise _no_closed_form(p, q, " unless both are made with the same bijections, of the same Tensors or numbers")
    return kl_divergence(p.base, q.base)


_OF_ONE_FAMILY: dict[Family, Formula] = {
    Normal: lambda p, q: normal_kl(p.loc, p.scale, q.loc, q.scale),
    LogNormal: lambda p, q: normal_kl(p.loc, p.scale, q.loc, q.scale),
    HalfNormal: lambda p, q: normal_kl(0.0, p.scale, 0.0, q.scale),
    Uniform: lambda p, q: log((q.high - q.low) / (p.high - p.low)),
    TruncatedNormal: lambda p, q: _cross_entropy_of_normal(p, q) + q.log_mass() - p.entropy(),
    Laplace: _laplace,
    Gumbel: _gumbel,
    Cauchy: lambda p, q: log((square(p.scale + q.scale) + square(p.loc - q.loc)) / (4 * p.scale * q.scale)),
    Weibull: _weibull,
    Pareto: _pareto,
    Beta: _beta,
    ContinuousBernoulli: lambda p, q: (p.as_logits - q.as_logits) * p.mean + q.log_normaliser() - p.log_normaliser(),
    VonMises: _von_mises,
    InverseGamma: _gamma_family,
    Bernoulli: _bernoulli,
    Binomial: lambda p, q: _same("total", p, q) * _bernoulli(p, q),
    Geometric: _geometric,
    NegativeBinomial: lambda p, q: _same("successes", p, q) * _geometric(p, q),
    Poisson: lambda p, q: deviance(p.rate, q.rate, log_or_minus_inf(q.rate)),
    Categorical: _categorical,
    OneHotCategorical: _categorical,
    Dirichlet: _dirichlet,
    Independent: _independent,
    Transformed: _transformed,
}
_GAMMAS = Gamma, Exponential, Chi2
_GAUSSIANS = LowRankNormal, MultivariateNormal
_WITH_MOMENTS = Beta, Exponential, Gamma, Gumbel, HalfNormal, Laplace, Logistic, TruncatedNormal, Uniform
_POSITIVE = HalfNormal, LogNormal, TruncatedNormal, Uniform, Weibull
_BOUNDED = Beta, ContinuousBernoulli, Kumaraswamy, TruncatedNormal


def _pairs(p: Sequence[Family], q: Sequence[Family], formula: Formula) -> dict[tuple[Family, Family], Formula]:
    return dict.fromkeys(itertools.product(p, q), formula)


CLOSED_FORMS: dict[tuple[Family, Family], Formula] = {
    **{(family, family): formula for family, formula in _OF_ONE_FAMILY.items()},
    **_pairs(_GAMMAS, _GAMMAS, _gamma_family),
    **_pairs((*_GAUSSIANS, Independent), _GAUSSIANS, _gaussian_vectors),
    **_pairs(_GAUSSIANS, (Independent,), _gaussian_vector_against_numbers),
    **_pairs(_WITH_MOMENTS, (Normal,), lambda p, q: _cross_entropy_of_normal(p, q) - p.entropy()),
    **_pairs(_POSITIVE, (Exponential,), lambda p, q: q.rate * p.mean - log(q.rate) - p.entropy()),
    **_pairs(_BOUNDED, (Uniform,), lambda p, q: log(q.high - q.low) - p.entropy()),
    (Uniform, Beta): _uniform_against_beta,
    (Normal, Laplace): _normal_against_laplace,
    (LogNormal, Gamma): _log_normal_against_gamma,
}
"""The pairs of families with a closed form. The tests compare each with the Monte Carlo estimate."""
