"""What a latent variable model is trained on: lower bounds of ``log p(x)``, one number for each example, in nats.

A bound draws z with ``sample``, which blocks the gradient: which estimator is to open it is chosen afterwards, with
``tg.reparameterize`` or ``tg.score_function``. It knows distributions, and of a model only that it can encode,
decode and has a prior.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from ..arrays import NoiseStream, Value, describe
from ..graph import value_of
from ..ops import astype, logsumexp, mean
from ..stochastic.distribution import Distribution
from ..stochastic.divergences import kl_divergence


class LatentVariableModel(Protocol):
    """What the bounds ask of a model; ``VAE`` is one."""

    def encode(self, x: Value) -> Distribution:
        """Return ``q(z|x)``, the approximate posterior."""

    def decode(self, z: Value) -> Distribution:
        """Return ``p(x|z)``, the likelihood."""

    def prior(self) -> Distribution:
        """Return ``p(z)``."""


def elbo(model: LatentVariableModel, x: Value, *, rng: NoiseStream, kl: str = "closed-form", samples: int = 1) -> Value:
    """Return the evidence lower bound of each example, estimated from draws ``z ~ q(z|x)``.

    ``log p(x) >= E_q [log p(x|z)] - KL(q(z|x) || p(z))``, with equality where q is the posterior. The expectation is a
    mean over draws; the divergence is a closed form, or the mean of ``log q(z|x) - log p(z)`` over the same draws.
    Kingma and Welling 2014, equations 10 and 8.

    Args:
        model: a ``VAE``, or whatever encodes, decodes and has a prior. ``tg.wrap(model)`` records.
        x: examples of shape (batch, ...); a VAE takes images (batch, pixels) of 0 and 1.
        rng: a stream from ``tg.noise(seed)``.
        kl: ``"closed-form"`` or ``"monte-carlo"``.
        samples: how many draws for each example; with more than one, z has shape (samples, batch, latent).

    Returns:
        Nats, of shape (batch,).

    Raises:
        TypeError, ValueError: x does not fit the model or its likelihood, or an option has another value.
        NotImplementedError: the divergence has no closed form.

    >>> images = (np.arange(3 * 64).reshape(3, 64) % 5 == 0).astype(np.float32)
    >>> model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
    >>> loss = -tg.mean(tg.reparameterize(elbo(model, images, rng=tg.noise(1))))
    >>> tg.gradients(loss, model).pixels.weight.shape
    (16, 64)
    """
    if kl not in ("closed-form", "monte-carlo"):
        raise ValueError(f'elbo: kl must be "closed-form" or "monte-carlo", found {kl!r}')
    check_count("elbo: samples", samples)
    q, prior = model.encode(x), model.prior()
    z = q.sample((samples,) if samples > 1 else (), rng=rng, name="z")
    fit = model.decode(z).log_prob(in_dtype_of(z, x))
    if kl == "monte-carlo":
        fit = fit + prior.log_prob(z) - q.log_prob(z)
    if samples > 1:
        fit = mean(fit, axis=0)
    return fit if kl == "monte-carlo" else fit - kl_divergence(q, prior)


def importance_weighted_bound(model: LatentVariableModel, x: Value, *, rng: NoiseStream, samples: int) -> Value:
    """Return the importance weighted bound of each example.

    ``log p(x) >= E log (1/K sum_k w_k)`` with ``w_k = p(x|z_k) p(z_k) / q(z_k|x)``, z_k ~ q(z|x). It rises with K
    towards ``log p(x)``, and is the evidence lower bound for K = 1. Burda, Grosse and Salakhutdinov 2016, equation 8.

    Args:
        model: a ``VAE``, or whatever encodes, decodes and has a prior. ``tg.wrap(model)`` records.
        x: examples of shape (batch, ...).
        rng: a stream from ``tg.noise(seed)``.
        samples: K, the number of draws; z has shape (K, batch, latent).

    Returns:
        Nats, of shape (batch,).

    Raises:
        TypeError, ValueError: x does not fit the model or its likelihood, or samples is less than 1.

    >>> images = np.zeros((3, 64), np.float32)
    >>> model = tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0))
    >>> importance_weighted_bound(model, images, rng=tg.noise(1), samples=10).shape
    (3,)
    """
    check_count("importance_weighted_bound: samples", samples)
    q = model.encode(x)
    z = q.sample((samples,), rng=rng, name="z")
    log_weights = model.decode(z).log_prob(in_dtype_of(z, x)) + model.prior().log_prob(z) - q.log_prob(z)
    return logsumexp(log_weights, axis=0) - math.log(samples)


def check_count(what: str, n: Any) -> None:
    """Raise where ``n`` is no whole number from 1 on."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{what} must be a whole number, found {describe(n)}")
    if n < 1:
        raise ValueError(f"{what} must be at least 1, found {n}")


def in_dtype_of(z: Value, x: Value) -> Value:
    """Return x in the dtype of z, in which the whole model computes."""
    return x if value_of(x).dtype == z.dtype else astype(x, z.dtype)
