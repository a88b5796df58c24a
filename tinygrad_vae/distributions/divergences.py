"""Kullback-Leibler divergences: a table of closed forms, and the Monte Carlo estimate for all other pairs.

It knows the laws, and nothing of estimators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core import Array, NoiseStream, Tensor, Value, as_array, describe, namespace, to_host, value_of
from ..ops import (
    abs,
    betaln,
    clip,
    digamma,
    erf,
    exp,
    expand_dims,
    i0e,
    lgamma,
    log,
    log_softmax,
    matmul,
    mean,
    normal_kl,
    sigmoid,
    sin,
    softplus,
    sum,
    where,
    xlogy,
)
from ..refusals import refuse_gradient
from . import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Cauchy,
    Chi2,
    ContinuousBernoulli,
    Dirichlet,
    Exponential,
    Gamma,
    Geometric,
    Gumbel,
    HalfNormal,
    Independent,
    InverseGamma,
    Kumaraswamy,
    Laplace,
    Logistic,
    LogNormal,
    LowRankNormal,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Pareto,
    Poisson,
    Transformed,
    TruncatedNormal,
    Uniform,
    VonMises,
    Weibull,
)
from .distribution import Distribution, is_same, times_log
from .support import check_inside, too_close_to_the_edge

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)
_EULER = float(np.euler_gamma)

Formula = Callable[[Any, Any], Value]

CLOSED_FORMS: dict[tuple[type[Distribution], type[Distribution]], Formula] = {}
"""The pairs of laws with a closed form. The tests hold each against the Monte Carlo estimate."""


def closed_form(p: type[Distribution], q: type[Distribution]) -> Callable[[Formula], Formula]:
    """Declare the formula of ``KL(p || q)`` for a pair of families."""

    def declare(formula: Formula) -> Formula:
        CLOSED_FORMS[p, q] = formula
        return formula

    return declare


def kl_divergence(p: Distribution, q: Distribution) -> Value:
    """Return ``KL(p || q) = E_p [log p(x) - log q(x)]`` in nats, from a closed form.

    Args:
        p, q: two laws with batch shapes that broadcast.

    Returns:
        One number for each law of the batch.

    Raises:
        NotImplementedError: there is no closed form; the message offers ``monte_carlo_kl``.

    >>> float(kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0)))
    0.5
    """
    _check_same_event(p, q)
    formula = CLOSED_FORMS.get((type(p), type(q)))
    if formula is None:
        raise _no_closed_form(p, q)
    divergence = formula(p, q)
    nested = _draws_inside(p, q)
    return divergence if nested.all() else where(nested, divergence, math.inf)


def _no_closed_form(p: Distribution, q: Distribution, unless: str = "") -> NotImplementedError:
    return NotImplementedError(
        f"KL({type(p).__name__} || {type(q).__name__}) has no closed form here{unless}; "
        "monte_carlo_kl(p, q, rng=..., samples=...) estimates it from draws of p"
    )


def _draws_inside(p: Distribution, q: Distribution) -> Array:
    """Return whether the support of p lies in that of q, as far as their bounds tell."""
    if p.event_shape:  # the bounds are those of the elements; the formulas for vectors come back to theirs
        return np.True_
    (p_low, p_high), (q_low, q_high) = p.support.bounds, q.support.bounds
    return as_array((p_low >= q_low) & (p_high <= q_high))


def _check_same_event(p: Distribution, q: Distribution) -> None:
    for law in (p, q):
        if not isinstance(law, Distribution):
            raise TypeError(f"KL(p || q) takes two distributions, found {describe(law)}")
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL({type(p).__name__} || {type(q).__name__}): one draw of p has shape {p.event_shape}, one of q "
            f"{q.event_shape}; make batch axes event axes with Independent(law, n)"
        )


class MonteCarloKL(NamedTuple):
    """An estimate of a divergence, and how far off it may be; it unpacks as ``value, standard_error``.

    Args:
        value: the estimate for each law of the batch, which a cost may go on with.
        standard_error: of the estimate, an array; nan where there was a single draw.
    """

    value: Value
    standard_error: Array

    def __str__(self) -> str:
        pairs = zip(np.ravel(to_host(value_of(self.value))), np.ravel(self.standard_error), strict=True)
        return f"{', '.join(f'{value:.4g} ± {error:.2g}' for value, error in pairs)} (Monte Carlo)"


def monte_carlo_kl(p: Distribution, q: Distribution, *, rng: NoiseStream, samples: int = 1) -> MonteCarloKL:
    """Return an unbiased estimate of ``KL(p || q)``, the mean of ``log p(x) - log q(x)`` over draws, and its error.

    The draws are reparameterized where p allows it, so that the gradient is unbiased too. Those of a discrete p are
    blocked: apply ``score_function`` to the cost that the estimate enters.

    Args:
        p, q: two laws with draws of one shape.
        rng: a stream from ``tg.noise(seed)``.
        samples: how many draws to average over.

    Raises:
        ValueError: ``samples`` is below 1; or p draws a value outside the support of q, where the divergence is
            infinite; or the dtype rounds more than a thousandth of the draws to the edge of the support of p.

    >>> from tinygrad_vae.core import noise
    >>> estimate = monte_carlo_kl(Normal(1.0, 1.0), Normal(0.0, 1.0), rng=noise(0), samples=10_000)
    >>> print(estimate)
    0.513... ± 0.01 (Monte Carlo)
    """
    if samples < 1:
        raise ValueError(f"monte_carlo_kl: samples must be at least 1, found {samples}")
    _check_same_event(p, q)
    x = (p.sample if p.path is None else p.rsample)((samples,), rng=rng)
    check_inside(f"monte_carlo_kl: KL({type(p).__name__} || q) is infinite; a draw of p", q.support, value_of(x))
    if too_close := too_close_to_the_edge(p, value_of(x)):
        raise ValueError(
            f"monte_carlo_kl: {too_close}. Use float64 where these are float32, or kl_divergence where there is a "
            "closed form"
        )
    log_ratio = p.log_density(x) - q.log_density(x)
    ratios = to_host(value_of(log_ratio))
    error = np.std(ratios, axis=0, ddof=1) / math.sqrt(samples) if samples > 1 else np.full(ratios.shape[1:], np.nan)
    return MonteCarloKL(mean(log_ratio, axis=0), np.asarray(error))


# ------------------------------------------------------------------ one law against another of its family


def _cross_entropy_of_normal(p: Any, q: Any) -> Value:
    """Return ``-E_p log N(x; loc_q, scale_q^2)``, which depends on p by its mean and variance only."""
    distance = p.mean - q.loc
    return _LOG_SQRT_2_PI + log(q.scale) + 0.5 * (p.variance + distance * distance) / (q.scale * q.scale)


@closed_form(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Value:
    return normal_kl(p.loc, p.scale, q.loc, q.scale)


@closed_form(LogNormal, LogNormal)
def _log_normal(p: LogNormal, q: LogNormal) -> Value:
    return _normal(Normal(p.loc, p.scale), Normal(q.loc, q.scale))


@closed_form(HalfNormal, HalfNormal)
def _half_normal(p: HalfNormal, q: HalfNormal) -> Value:
    return _normal(Normal(0.0, p.scale), Normal(0.0, q.scale))


@closed_form(TruncatedNormal, TruncatedNormal)
def _truncated_normal(p: TruncatedNormal, q: TruncatedNormal) -> Value:
    return _cross_entropy_of_normal(p, q) + q.log_mass() - p.entropy()


@closed_form(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Value:
    distance = abs(p.loc - q.loc)
    return log(q.scale / p.scale) + (p.scale * exp(-distance / p.scale) + distance) / q.scale - 1


@closed_form(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Value:
    ratio, distance = p.scale / q.scale, (p.loc - q.loc) / q.scale
    tail = exp(lgamma(1 + ratio) - distance)
    return -log(ratio) + _EULER * (ratio - 1) + distance + tail - 1


@closed_form(Cauchy, Cauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Value:
    width, distance = (p.scale + q.scale), (p.loc - q.loc)
    return log((width * width + distance * distance) / (4 * p.scale * q.scale))


@closed_form(Weibull, Weibull)
def _weibull(p: Weibull, q: Weibull) -> Value:
    k, mean_log = q.concentration, log(p.scale) - _EULER / p.concentration
    power = exp(k * log(p.scale / q.scale) + lgamma(1 + k / p.concentration))
    return power - log(k) + k * log(q.scale) - (k - 1) * mean_log - p.entropy()


@closed_form(Pareto, Pareto)
def _pareto(p: Pareto, q: Pareto) -> Value:
    ratio = q.concentration / p.concentration
    return ratio - 1 - log(ratio) + q.concentration * log(p.scale / q.scale)


@closed_form(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Value:
    at_0, at_1, both = digamma(p.a), digamma(p.b), digamma(p.a + p.b)
    weights = (p.a - q.a) * (at_0 - both) + (p.b - q.b) * (at_1 - both)
    return betaln(q.a, q.b) - betaln(p.a, p.b) + weights


@closed_form(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: ContinuousBernoulli, q: ContinuousBernoulli) -> Value:
    return q.log_normaliser() - p.log_normaliser() + (p.logits - q.logits) * p.mean


@closed_form(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Value:
    return log((q.high - q.low) / (p.high - p.low))


@closed_form(VonMises, VonMises)
def _von_mises(p: VonMises, q: VonMises) -> Value:
    k, half = q.off_zero, sin(0.5 * (p.loc - q.loc))
    along = 1 - p.circular_variance
    cross = log(2 * math.pi * i0e(k)) + k * (p.circular_variance + 2 * along * half * half)
    return cross - p.entropy()


@closed_form(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Value:
    a, b, ratio = p.concentration, q.concentration, q.rate / p.rate
    return (a - b) * digamma(a) - lgamma(a) + lgamma(b) - b * log(ratio) + a * (ratio - 1)


def _as_gamma(law: Any) -> Gamma:
    """Return a law of the Gamma family as such; of an inverse Gamma law, that of 1 / x."""
    match law:
        case Exponential():
            return Gamma(1.0 + 0.0 * law.rate, law.rate)
        case Chi2():
            return Gamma(0.5 * law.df, 0.5 + 0.0 * law.df)
        case InverseGamma():
            return Gamma(law.concentration, law.scale)
    return law


@closed_form(Gamma, Exponential)
@closed_form(Gamma, Chi2)
@closed_form(Exponential, Gamma)
@closed_form(Exponential, Chi2)
@closed_form(Chi2, Gamma)
@closed_form(Chi2, Exponential)
@closed_form(Chi2, Chi2)
@closed_form(InverseGamma, InverseGamma)
def _gamma_family(p: Distribution, q: Distribution) -> Value:
    return _gamma(_as_gamma(p), _as_gamma(q))


@closed_form(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Value:
    return log(p.rate / q.rate) + q.rate / p.rate - 1


# ------------------------------------------------------------------------- whole numbers, and choices


@closed_form(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Value:
    heads = times_log(sigmoid(p.logits), softplus(-q.logits)) - times_log(sigmoid(p.logits), softplus(-p.logits))
    tails = times_log(sigmoid(-p.logits), softplus(q.logits)) - times_log(sigmoid(-p.logits), softplus(p.logits))
    return heads + tails


@closed_form(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Value:
    return _same_total(p, q) * _bernoulli(p, q)


@closed_form(Geometric, Geometric)
def _geometric(p: Geometric, q: Geometric) -> Value:
    return softplus(-q.logits) + times_log(p.mean, softplus(q.logits)) - p.entropy()


@closed_form(NegativeBinomial, NegativeBinomial)
def _negative_binomial(p: NegativeBinomial, q: NegativeBinomial) -> Value:
    return _same_total(p, q) * _geometric(Geometric(logits=p.logits), Geometric(logits=q.logits))


def _same_total(p: Any, q: Any) -> Value:
    """Return the total of both laws; where they are two parameters, closed to gradients: each moves without the other.

    Raises:
        NotImplementedError: the totals differ.
    """
    if not np.all(np.equal(value_of(p.total), value_of(q.total))):
        raise _no_closed_form(p, q, " unless the totals are equal")
    if is_same(p.total, q.total):
        return p.total
    reason = (
        "kl_divergence: the totals of the two laws are equal now; where they differ there is no closed form, so that "
        "the derivative in one of them is not known; use monte_carlo_kl, or give both laws one Tensor for their total"
    )
    a, b = (refuse_gradient(x, reason=reason) if isinstance(x, Tensor) else x for x in (p.total, q.total))
    return 0.5 * (a + b)


@closed_form(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Value:
    return p.rate * log(p.rate / q.rate) - p.rate + q.rate


@closed_form(Categorical, Categorical)
@closed_form(OneHotCategorical, OneHotCategorical)
def _categorical(p: Any, q: Any) -> Value:
    if p.logits.shape[-1] != q.logits.shape[-1]:
        raise ValueError(f"KL of {type(p).__name__} laws on {p.logits.shape[-1]} and on {q.logits.shape[-1]} classes")
    log_p, log_q = log_softmax(p.logits), log_softmax(q.logits)
    return sum(times_log(exp(log_p), log_p) - times_log(exp(log_p), log_q), axis=-1)


# ------------------------------------------------------------------------------------------- vectors


@closed_form(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Value:
    a, b = p.concentration, q.concentration
    mean_log = digamma(a) - digamma(sum(a, axis=-1, keepdims=True))
    return q.log_normaliser() - p.log_normaliser() + sum((a - b) * mean_log, axis=-1)


@closed_form(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Value:
    if p.n != q.n:
        raise ValueError(f"KL of Independent laws needs the same number of event axes, found {p.n} and {q.n}")
    base = kl_divergence(p.base, q.base)
    return sum(base, axis=tuple(range(-p.n, 0))) if p.n else base


@closed_form(Independent, LowRankNormal)
@closed_form(Independent, MultivariateNormal)
@closed_form(LowRankNormal, LowRankNormal)
@closed_form(LowRankNormal, MultivariateNormal)
@closed_form(MultivariateNormal, LowRankNormal)
@closed_form(MultivariateNormal, MultivariateNormal)
def _gaussian_vectors(p: Any, q: Any) -> Value:
    if isinstance(p, Independent):
        scale = _independent_normals(p, p, q).scale + 0.0 * p.base.mean
        root = expand_dims(scale, axis=-1) * namespace(value_of(scale)).eye(scale.shape[-1], dtype=scale.dtype)
    else:
        root = p.root()
    whiten, log_scale = q.whitening()
    spread, distance = matmul(whiten, root), matmul(whiten, expand_dims(p.mean - q.mean, axis=-1))
    square = sum(spread * spread, axis=(-2, -1)) + sum(distance * distance, axis=(-2, -1))
    return 0.5 * square + log_scale + _LOG_SQRT_2_PI * p.event_shape[0] - p.entropy()


@closed_form(LowRankNormal, Independent)
@closed_form(MultivariateNormal, Independent)
def _gaussian_vector_against_numbers(p: Any, q: Independent) -> Value:
    return sum(_cross_entropy_of_normal(p, _independent_normals(q, p, q)), axis=-1) - p.entropy()


def _independent_normals(law: Independent, p: Distribution, q: Distribution) -> Normal:
    if not isinstance(law.base, Normal):
        raise _no_closed_form(p, q, " unless the independent laws are normal")
    return law.base


# ------------------------------------------------------------- one family against another, by its entropy


@closed_form(Beta, Normal)
@closed_form(Exponential, Normal)
@closed_form(Gamma, Normal)
@closed_form(Gumbel, Normal)
@closed_form(HalfNormal, Normal)
@closed_form(Laplace, Normal)
@closed_form(Logistic, Normal)
@closed_form(TruncatedNormal, Normal)
@closed_form(Uniform, Normal)
def _against_normal(p: Distribution, q: Normal) -> Value:
    return _cross_entropy_of_normal(p, q) - p.entropy()


@closed_form(HalfNormal, Exponential)
@closed_form(LogNormal, Exponential)
@closed_form(TruncatedNormal, Exponential)
@closed_form(Uniform, Exponential)
@closed_form(Weibull, Exponential)
def _against_exponential(p: Distribution, q: Exponential) -> Value:
    return q.rate * p.mean - log(q.rate) - p.entropy()


@closed_form(Beta, Uniform)
@closed_form(ContinuousBernoulli, Uniform)
@closed_form(Kumaraswamy, Uniform)
@closed_form(TruncatedNormal, Uniform)
def _against_uniform(p: Distribution, q: Uniform) -> Value:
    return log(q.high - q.low) - p.entropy()


@closed_form(Uniform, Beta)
def _uniform_against_beta(p: Uniform, q: Beta) -> Value:
    low, high, width = clip(p.low, 0.0, 1.0), clip(p.high, 0.0, 1.0), p.high - p.low
    mean_log = (xlogy(high, high) - xlogy(low, low)) / width - 1
    mean_log_rest = (xlogy(1 - low, 1 - low) - xlogy(1 - high, 1 - high)) / width - 1
    return betaln(q.a, q.b) - (q.a - 1) * mean_log - (q.b - 1) * mean_log_rest - log(width)


@closed_form(Normal, Laplace)
def _normal_against_laplace(p: Normal, q: Laplace) -> Value:
    d = (p.loc - q.loc) / p.scale
    distance = p.scale * (math.sqrt(2 / math.pi) * exp(-0.5 * d * d) + d * erf(d / math.sqrt(2)))
    return distance / q.scale + log(2 * q.scale) - p.entropy()


@closed_form(LogNormal, Gamma)
def _log_normal_against_gamma(p: LogNormal, q: Gamma) -> Value:
    a = q.concentration
    return q.rate * p.mean - a * log(q.rate) - (a - 1) * p.loc + lgamma(a) - p.entropy()


@closed_form(Transformed, Transformed)
def _transformed(p: Transformed, q: Transformed) -> Value:
    """The same function of both changes nothing."""
    if not p.same_function_as(q):
        raise _no_closed_form(p, q, " unless both are made with the same bijections, of the same Tensors or numbers")
    return kl_divergence(p.base, q.base)
