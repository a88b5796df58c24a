"""Lower bounds of ``log p(x)`` for a latent variable model: one number for each example, in nats.

A bound draws z with ``sample``, which blocks the gradient. You choose the estimator that opens it afterwards, with
``tg.reparameterize``, ``tg.score_function`` or ``tg.estimate``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np

from ..core import NoiseStream, Tensor, Value, describe, is_array, replay, trees, value_of
from ..distributions import Independent
from ..distributions.distribution import Distribution
from ..distributions.divergences import kl_divergence
from ..ops import astype, expand_dims, logsumexp, maximum, mean, reshape, softmax, stop_gradient, sum, surrogate
from ..refusals import first_order, refuse_gradient

DIVERGENCES = ("auto", "closed-form", "monte-carlo")
"""How ``elbo`` may compute its divergence; see there."""


class LatentVariableModel(Protocol):
    """The methods that a model needs for the bounds: q(z|x), p(x|z) and p(z). ``VAE`` has them."""

    def encode(self, x: Value) -> Distribution: ...

    def decode(self, z: Value) -> Distribution: ...

    def prior(self) -> Distribution: ...


def elbo(
    model: LatentVariableModel,
    x: Value,
    *,
    rng: NoiseStream,
    kl: str = "auto",
    samples: int = 1,
    beta: float | Value = 1.0,
    free_bits: float = 0.0,
    average: bool = True,
) -> Value:
    """Return the evidence lower bound of each example, estimated from draws ``z ~ q(z|x)``.

    ``log p(x) >= E_q [log p(x|z)] - KL(q(z|x) || p(z))``, with equality where q is the posterior. The expectation is a
    mean over draws; the divergence is a closed form, or the mean of ``log q(z|x) - log p(z)`` over the same draws.
    Kingma and Welling 2014, equations 6, 7 and 10.

    Args:
        model: a ``VAE``, or anything that encodes, decodes and has a prior. ``tg.wrap(model)`` records.
        x: examples of shape (batch, ...); a VAE takes images (batch, pixels).
        rng: a stream from ``tg.noise(seed)``.
        kl: ``"closed-form"``, ``"monte-carlo"``, or ``"auto"``: the former where there is one.
        samples: the number of draws for each example; with more than one, z has shape (samples, batch, latent).
        beta: a non-negative weight of the divergence (Higgins et al. 2017). Below 1 this is no bound of log p(x). Pass
            an array of shape () if a plan should see it change.
        free_bits: nats that each latent may say at no cost: the divergence becomes ``sum_j max(free_bits, KL_j)``,
            where KL_j is the divergence of latent j, averaged over the batch (Kingma et al. 2016, equation 15).
        average: whether to average over the draws; ``False`` keeps an axis of length ``samples`` in front, for
            estimators that compare the draws of an example, such as leave-one-out.

    Returns:
        Nats, of shape (batch,), or (samples, batch) without the average.

    Raises:
        TypeError, ValueError: x does not fit the model or its likelihood, or an option has another value.
        NotImplementedError: kl is "closed-form" and there is none.

    >>> images = (np.arange(3 * 64).reshape(3, 64) % 5 == 0).astype(np.float32)
    >>> model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
    >>> loss = -tg.mean(tg.reparameterize(elbo(model, images, rng=tg.noise(1))))
    >>> tg.gradients(loss, model).likelihood.logits.weight.shape
    (16, 64)
    """
    check_kl("elbo", kl, free_bits)

    def rate_of(q: Distribution, prior: Distribution, z: Value) -> Value:
        if free_bits:
            each = kl_of_each_latent(q, prior)
            return sum(maximum(mean(each, axis=tuple(range(len(each.shape) - 1))), free_bits))
        if kl != "monte-carlo":
            try:
                return kl_divergence(q, prior)
            except NotImplementedError:
                if kl == "closed-form":
                    raise
        return q.log_prob(z) - prior.log_prob(z)

    return _fit_less_rate("elbo", rate_of, model, x, rng, samples, beta, average)


def sticking_the_landing(
    model: LatentVariableModel,
    x: Value,
    *,
    rng: NoiseStream,
    samples: int = 1,
    beta: float | Value = 1.0,
    average: bool = True,
) -> Value:
    """Return the bound of ``elbo(kl="monte-carlo")``, with a gradient that vanishes where q is the posterior.

    In ``E_q [log p(x, z) - log q(z; phi)]`` the parameters phi stand in the draw and in log q. If the support of q does
    not move, the derivative through log q has expectation 0 but a variance; it is left out. At q = p(z|x) the rest is 0
    for each draw. Roeder, Wu and Duvenaud 2017. ``gradients`` refuses parameters that move the support, and second
    derivatives in phi, which would be incomplete.

    Args:
        model, x, rng, samples, beta, average: as in ``elbo``, which also says what is returned and raised.

    >>> images = np.zeros((3, 64), np.float32)
    >>> model = tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0))
    >>> value = sticking_the_landing(model, images, rng=tg.noise(1))
    >>> bool(np.allclose(value, elbo(model, images, rng=tg.noise(1), kl="monte-carlo")))
    True
    """

    def rate_of(q: Distribution, prior: Distribution, z: Value) -> Value:
        stuck = _without_its_gradient(q, "sticking_the_landing", 'elbo(kl="monte-carlo")')
        return stuck.log_prob(z) - prior.log_prob(z)

    return _fit_less_rate("sticking_the_landing", rate_of, model, x, rng, samples, beta, average)


def _fit_less_rate(
    what: str,
    rate_of: Callable[[Distribution, Distribution, Value], Value],
    model: LatentVariableModel,
    x: Value,
    rng: NoiseStream,
    samples: int,
    beta: float | Value,
    average: bool,
) -> Value:
    """Return ``log p(x|z) - beta rate`` for draws z of q(z|x)."""
    check_count(f"{what}: samples", samples)
    check_nonnegative(f"{what}: beta", beta)
    q, prior = model.encode(x), model.prior()
    z = q.sample((samples,) if samples > 1 or not average else (), rng=rng, name="z")
    fit = model.decode(z).log_prob(in_dtype_of(z, x))
    rate = rate_of(q, prior, z)
    if type(beta) not in (int, float):
        rate = astype(beta, rate.dtype) * rate  # an array of shape () leaves the dtype alone, as a number does
    elif beta != 1:
        rate = beta * rate
    return mean(fit - rate, axis=0) if average and samples > 1 else fit - rate


def kl_of_each_latent(q: Distribution, prior: Distribution) -> Value:
    """Return the divergence of each latent, of shape (batch, latent); their sum is the divergence of q from the prior.

    Raises:
        ValueError: the latents depend on each other in one of the distributions.
        NotImplementedError: there is no closed form.

    >>> q = tg.Independent(tg.Normal(np.array([[0.0, 1.0]]), 1.0), 1)
    >>> kl_of_each_latent(q, tg.Independent(tg.Normal(np.zeros(2), 1.0), 1))
    array([[0. , 0.5]])
    """
    if not q.event_shape:
        return expand_dims(kl_divergence(q, prior), axis=-1)
    if isinstance(q, Independent) and isinstance(prior, Independent) and q.n == prior.n == 1:
        return kl_divergence(q.base, prior.base)
    raise ValueError(
        f"the divergence of {type(q).__name__} from {type(prior).__name__} is not a sum over latents; take a posterior "
        "and a prior with independent latents"
    )


def importance_weighted_bound(model: LatentVariableModel, x: Value, *, rng: NoiseStream, samples: int) -> Value:
    """Return the importance weighted bound of each example, in nats, of shape (batch,).

    ``log p(x) >= E log (1/K sum_k w_k)`` with ``w_k = p(x|z_k) p(z_k) / q(z_k|x)``, z_k ~ q(z|x). It rises with K
    towards ``log p(x)``, and is the evidence lower bound for K = 1. Burda, Grosse and Salakhutdinov 2016, equation 8.

    Args:
        model, x, rng: as in ``elbo``.
        samples: K, the number of draws; z has shape (K, batch, latent).

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
    return _log_mean(_log_weights(model, x, q, z))


def doubly_reparameterized_bound(model: LatentVariableModel, x: Value, *, rng: NoiseStream, samples: int) -> Value:
    """Return the importance weighted bound, with a gradient for the encoder that gets better, not worse, with K.

    With the normalized weights ``v_k = w_k / sum_j w_j``, the gradient in the encoder's parameters phi is
    ``sum_k v_k^2 (d log w_k / dz_k) (dz_k / dphi)``, and the decoder's gradient is the bound's (Tucker et al.
    2019, equation 8). It holds for reparameterized draws only, so z is reparameterized from the start and no estimator
    is chosen later. ``gradients`` refuses parameters that move the support of q, and second derivatives in phi.

    Args:
        model, x, rng, samples: as in ``importance_weighted_bound``, whose numbers these are.

    Raises:
        TypeError: a draw of q(z|x) cannot be reparameterized.

    >>> images = np.zeros((3, 64), np.float32)
    >>> model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
    >>> bound = doubly_reparameterized_bound(model, images, rng=tg.noise(1), samples=10)
    >>> tg.gradients(tg.mean(bound), model).posterior.mean.weight.shape
    (16, 2)
    """
    what, plain = "doubly_reparameterized_bound", "importance_weighted_bound"
    check_count(f"{what}: samples", samples)
    q = model.encode(x)
    z = q.rsample((samples,), rng=rng, name="z")
    log_weights = _log_weights(model, x, _without_its_gradient(q, what, plain), z)
    if isinstance(z, Tensor):
        weights = softmax(log_weights, axis=0)
        reason = f"{what} weighs derivatives, and so gives first ones only; for second ones use {plain}"
        weights = first_order(stop_gradient(weights), weights, z, reason=reason)
        weights = reshape(weights, (*weights.shape, *(1,) * (z.ndim - weights.ndim)))
        log_weights = replay(log_weights, {z: surrogate(z, weights * z)})
    return _log_mean(log_weights)


def _log_weights(model: LatentVariableModel, x: Value, q: Distribution, z: Value) -> Value:
    """Return ``log w_k``, of shape (samples, batch)."""
    return model.decode(z).log_prob(in_dtype_of(z, x)) + model.prior().log_prob(z) - q.log_prob(z)


def _log_mean(log_weights: Value) -> Value:
    return logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])


def _without_its_gradient(q: Distribution, what: str, plain: str) -> Distribution:
    """Return q with parameters that are constants to gradients; ``plain`` names the bound that keeps their gradient.

    The derivative of log q has expectation 0 only where the support of q stays; its second derivative does not.
    """
    moving = [path for path, x in trees.paths(q) if isinstance(x, Tensor) and path in q.moving()]
    edge = (
        f"{what}: the support of {type(q).__name__} moves with {', '.join(moving)}, so that the derivative of "
        f"log q, which is left out, has another expectation than 0; use {plain}"
    )
    once = (
        f"{what} leaves out the derivative of log q in the parameters of q, and so gives first derivatives only; for "
        f"second ones use {plain}"
    )

    def cut(path: str, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return refuse_gradient(x, reason=edge) if path in moving else first_order(stop_gradient(x), x, x, reason=once)

    return trees.replace_leaves(q, [cut(path, x) for path, x in trees.paths(q)])


def check_count(what: str, n: Any) -> None:
    """Raise unless ``n`` is a positive integer."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{what} must be a positive integer, found {describe(n)}")
    if n < 1:
        raise ValueError(f"{what} must be a positive integer, found {n}")


def check_name(what: str, name: Any, known: Collection[str]) -> None:
    """Raise unless ``name`` is one of those known."""
    if name not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; found {name!r}")


def check_kl(what: str, kl: Any, free_bits: Any) -> None:
    """Raise unless ``kl`` is in ``DIVERGENCES``, and goes together with ``free_bits``, a non-negative number."""
    check_nonnegative(f"{what}: free_bits", free_bits)
    check_name(f"{what}: kl", kl, DIVERGENCES)
    if free_bits and kl == "monte-carlo":
        raise ValueError(f'{what}: free_bits takes the divergence of each latent in closed form; use kl="closed-form"')


def check_nonnegative(what: str, x: Any) -> None:
    """Raise unless ``x`` is a finite non-negative number, or an array that holds one."""
    x = value_of(x)
    x = x.item() if is_array(x) and x.shape == () else x
    if isinstance(x, bool) or not isinstance(x, (int, float, np.integer, np.floating)) or not 0 <= x < math.inf:
        raise ValueError(f"{what} must be a non-negative number, found {x!r}")


def in_dtype_of(z: Value, x: Value) -> Value:
    """Return x in the dtype of z, in which the whole model computes."""
    return x if value_of(x).dtype == z.dtype else astype(x, z.dtype)
