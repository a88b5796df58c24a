"""Kullback-Leibler divergences: a table of closed forms, and the Monte Carlo estimate for all other pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import NoiseStream, Value, describe
from ..graph import value_of
from ..ops import abs, exp, lgamma, log, log_softmax, mean, sigmoid, softplus, sum, where
from .distribution import Distribution, check_inside, times_log
from .distributions import Bernoulli, Categorical, Exponential, Gumbel, Independent, Laplace, LogNormal, Normal, Uniform

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
        raise NotImplementedError(
            f"KL({type(p).__name__} || {type(q).__name__}) has no closed form here; "
            "monte_carlo_kl(p, q, rng=..., samples=...) estimates it from draws of p"
        )
    return formula(p, q)


def _check_same_event(p: Distribution, q: Distribution) -> None:
    for law in (p, q):
        if not isinstance(law, Distribution):
            raise TypeError(f"KL(p || q) takes two distributions, found {describe(law)}")
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL({type(p).__name__} || {type(q).__name__}): one draw of p has shape {p.event_shape}, one of q "
            f"{q.event_shape}; make batch axes event axes with Independent(law, n)"
        )


def monte_carlo_kl(p: Distribution, q: Distribution, *, rng: NoiseStream, samples: int = 1) -> Value:
    """Return the mean of ``log p(x) - log q(x)`` over draws of p: an unbiased estimate of ``KL(p || q)``.

    The draws are reparameterized where p allows it, so that the gradient is unbiased too. Those of a discrete p are
    blocked: apply ``score_function`` to the cost that the estimate enters.

    Args:
        p, q: two laws with draws of one shape.
        rng: a stream from ``tg.noise(seed)``.
        samples: how many draws to average over.

    Raises:
        ValueError: ``samples`` is below 1, or p draws a value outside the support of q, where the divergence is
            infinite.

    >>> from tinygrad_vae.arrays import noise
    >>> estimate = monte_carlo_kl(Normal(1.0, 1.0), Normal(0.0, 1.0), rng=noise(0), samples=100_000)
    >>> bool(abs(estimate - 0.5) < 0.02)
    True
    """
    if samples < 1:
        raise ValueError(f"monte_carlo_kl: samples must be at least 1, found {samples}")
    _check_same_event(p, q)
    x = (p.sample if p.path is None else p.rsample)((samples,), rng=rng)
    check_inside(f"monte_carlo_kl: KL({type(p).__name__} || q) is infinite; a draw of p", q.support, value_of(x))
    return mean(p.log_density(x) - q.log_density(x), axis=0)


@closed_form(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Value:
    ratio, distance = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return 0.5 * (ratio * ratio + distance * distance - 1) - log(ratio)


@closed_form(LogNormal, LogNormal)
def _log_normal(p: LogNormal, q: LogNormal) -> Value:
    return _normal(Normal(p.loc, p.scale), Normal(q.loc, q.scale))


@closed_form(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Value:
    distance = abs(p.loc - q.loc)
    return log(q.scale / p.scale) + (p.scale * exp(-distance / p.scale) + distance) / q.scale - 1


@closed_form(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Value:
    ratio, distance = p.scale / q.scale, (p.loc - q.loc) / q.scale
    tail = exp(lgamma(1 + ratio) - distance)
    return -log(ratio) + float(np.euler_gamma) * (ratio - 1) + distance + tail - 1


@closed_form(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Value:
    return log(p.rate / q.rate) + q.rate / p.rate - 1


@closed_form(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Value:
    inside = (value_of(p.low) >= value_of(q.low)) & (value_of(p.high) <= value_of(q.high))
    return where(inside, log((q.high - q.low) / (p.high - p.low)), math.inf)


@closed_form(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Value:
    heads = times_log(sigmoid(p.logits), softplus(-q.logits)) - times_log(sigmoid(p.logits), softplus(-p.logits))
    tails = times_log(sigmoid(-p.logits), softplus(q.logits)) - times_log(sigmoid(-p.logits), softplus(p.logits))
    return heads + tails


@closed_form(Categorical, Categorical)
def _categorical(p: Categorical, q: Categorical) -> Value:
    if p.logits.shape[-1] != q.logits.shape[-1]:
        raise ValueError(f"KL of Categorical laws on {p.logits.shape[-1]} and on {q.logits.shape[-1]} classes")
    log_p, log_q = log_softmax(p.logits), log_softmax(q.logits)
    return sum(times_log(exp(log_p), log_p) - times_log(exp(log_p), log_q), axis=-1)


@closed_form(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Value:
    if p.n != q.n:
        raise ValueError(f"KL of Independent laws needs the same number of event axes, found {p.n} and {q.n}")
    base = kl_divergence(p.base, q.base)
    return sum(base, axis=tuple(range(-p.n, 0))) if p.n else base
