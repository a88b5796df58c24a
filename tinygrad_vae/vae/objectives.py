"""What a latent variable model is trained on: lower bounds of ``log p(x)``, one number for each example, in nats.

A bound draws z with ``sample``, which blocks the gradient: which estimator is to open it is chosen afterwards, with
``tg.reparameterize``, ``tg.score_function`` or ``tg.estimate``. It knows distributions, and of a model only that it can
encode, decode and has a prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..core import NoiseStream, Tensor, Value, describe, is_array, replay, trees, value_of
from ..distributions import Independent
from ..distributions.distribution import Distribution
from ..distributions.divergences import kl_divergence
from ..estimators import ESTIMATORS, Estimator, ScoreFunction, estimate
from ..guard.verdict import left_out, refuse_gradient
from ..ops import (
    astype,
    expand_dims,
    logsumexp,
    maximum,
    mean,
    minimum,
    reshape,
    softmax,
    stop_gradient,
    sum,
    surrogate,
)


class LatentVariableModel(Protocol):
    """What the bounds ask of a model; ``VAE`` is one."""

    def encode(self, x: Value) -> Distribution:
        """Return ``q(z|x)``, the approximate posterior."""

    def decode(self, z: Value) -> Distribution:
        """Return ``p(x|z)``, the likelihood."""

    def prior(self) -> Distribution:
        """Return ``p(z)``."""


# ------------------------------------------------------------------------------------------- the bounds


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
        model: a ``VAE``, or whatever encodes, decodes and has a prior. ``tg.wrap(model)`` records.
        x: examples of shape (batch, ...); a VAE takes images (batch, pixels).
        rng: a stream from ``tg.noise(seed)``.
        kl: ``"closed-form"``, ``"monte-carlo"``, or ``"auto"``: the former where there is one.
        samples: how many draws for each example; with more than one, z has shape (samples, batch, latent).
        beta: a weight of the divergence, from 0 on (Higgins et al. 2017). Below 1 this is no bound of log p(x). An
            array of shape () where a plan is to see it change.
        free_bits: nats that each latent may say for nothing: the divergence becomes ``sum_j max(free_bits, KL_j)`` with
            KL_j, that of latent j, averaged over the batch (Kingma et al. 2016, equation 15).
        average: whether to average over the draws; ``False`` keeps an axis of length ``samples`` in front, for
            estimators that compare the draws of an example, such as leave-one-out.

    Returns:
        Nats, of shape (batch,), or (samples, batch) without the average.

    Raises:
        TypeError, ValueError: x does not fit the model or its likelihood, or an option has another value.
        NotImplementedError: the divergence has no closed form, and one was asked for.

    >>> images = (np.arange(3 * 64).reshape(3, 64) % 5 == 0).astype(np.float32)
    >>> model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
    >>> loss = -tg.mean(tg.reparameterize(elbo(model, images, rng=tg.noise(1))))
    >>> tg.gradients(loss, model).likelihood.logits.weight.shape
    (16, 64)
    """
    _check_kl("elbo", kl, free_bits)
    check_count("elbo: samples", samples)
    check_nonnegative("elbo: beta", beta)
    check_nonnegative("elbo: free_bits", free_bits)
    q, prior = model.encode(x), model.prior()
    z = q.sample((samples,) if samples > 1 or not average else (), rng=rng, name="z")
    fit = model.decode(z).log_prob(in_dtype_of(z, x))
    if free_bits:
        each = kl_of_each_latent(q, prior)
        rate = sum(maximum(mean(each, axis=tuple(range(len(each.shape) - 1))), free_bits))
    else:
        rate = _divergence(q, prior, z, kl)
    bound = fit - _weighed(rate, beta)
    return mean(bound, axis=0) if average and samples > 1 else bound


def _divergence(q: Distribution, prior: Distribution, z: Value, kl: str) -> Value:
    if kl != "monte-carlo":
        try:
            return kl_divergence(q, prior)
        except NotImplementedError:
            if kl == "closed-form":
                raise
    return q.log_prob(z) - prior.log_prob(z)


def _weighed(rate: Value, beta: float | Value) -> Value:
    """Return ``beta rate``; an array of shape () for beta counts in the dtype of the rate, as a number does."""
    if type(beta) in (int, float):
        return rate if beta == 1 else beta * rate
    return astype(beta, rate.dtype) * rate


def kl_of_each_latent(q: Distribution, prior: Distribution) -> Value:
    """Return the divergence of each latent by itself, of shape (batch, latent); their sum is that of q from the prior.

    Raises:
        ValueError: the latents are not independent of each other in both laws.
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
        f"the divergence of {type(q).__name__} from {type(prior).__name__} is no sum over latents, so that no latent "
        "has one of its own; take a posterior and a prior with independent latents"
    )


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

    In ``E_q [log p(x, z) - log q(z; phi)]`` the parameters phi stand in the draw and in log q. The derivative in the
    second place has the expectation 0 where the support of q stays, but a variance; it is left out. At q = p(z|x) what
    remains is 0 for each draw. Roeder, Wu and Duvenaud 2017. ``gradients`` refuses parameters that move the support,
    and second derivatives in phi, which would lack what was left out.

    Args:
        model, x, rng, samples, beta, average: as ``elbo`` takes them.

    Returns:
        Nats, of shape (batch,), or (samples, batch) without the average.

    >>> images = np.zeros((3, 64), np.float32)
    >>> model = tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0))
    >>> value = sticking_the_landing(model, images, rng=tg.noise(1))
    >>> bool(np.allclose(value, elbo(model, images, rng=tg.noise(1), kl="monte-carlo")))
    True
    """
    check_count("sticking_the_landing: samples", samples)
    check_nonnegative("sticking_the_landing: beta", beta)
    q, prior = model.encode(x), model.prior()
    z = q.sample((samples,) if samples > 1 or not average else (), rng=rng, name="z")
    stuck = _without_its_gradient(q, "sticking_the_landing", 'elbo(kl="monte-carlo")')
    rate = stuck.log_prob(z) - prior.log_prob(z)
    bound = model.decode(z).log_prob(in_dtype_of(z, x)) - _weighed(rate, beta)
    return mean(bound, axis=0) if average and samples > 1 else bound


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
    return _log_mean(_log_weights(model, x, q, z))


def doubly_reparameterized_bound(model: LatentVariableModel, x: Value, *, rng: NoiseStream, samples: int) -> Value:
    """Return the importance weighted bound, with a gradient for the encoder that gets better, not worse, with K.

    With the normalized weights ``v_k = w_k / sum_j w_j``, the gradient in phi is
    ``sum_k v_k^2 (d log w_k / dz_k) (dz_k / dphi)``: phi counts in the draws only, and each draw once more by its
    weight. The decoder's gradient is that of the bound. Tucker et al. 2019, equation 8. It holds for reparameterized
    draws alone, so that z is drawn so from the start and nothing is left to be chosen. ``gradients`` refuses parameters
    that move the support of q, and second derivatives in phi.

    Args:
        model, x, rng, samples: as ``importance_weighted_bound`` takes them.

    Returns:
        Nats, of shape (batch,), the same numbers as those of ``importance_weighted_bound``.

    Raises:
        TypeError: a draw of q(z|x) cannot be reparameterized.

    >>> images = np.zeros((3, 64), np.float32)
    >>> model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
    >>> bound = doubly_reparameterized_bound(model, images, rng=tg.noise(1), samples=10)
    >>> tg.gradients(tg.mean(bound), model).posterior.mean.weight.shape
    (16, 2)
    """
    check_count("doubly_reparameterized_bound: samples", samples)
    q = model.encode(x)
    z = q.rsample((samples,), rng=rng, name="z")
    what, plain = "doubly_reparameterized_bound", "importance_weighted_bound"
    log_weights = _log_weights(model, x, _without_its_gradient(q, what, plain), z)
    if isinstance(z, Tensor):
        weights = softmax(log_weights, axis=0)
        reason = f"{what} weighs derivatives, and so gives first ones only; for second ones use {plain}"
        weights = left_out(stop_gradient(weights), weights, z, reason=reason)
        weights = reshape(weights, (*weights.shape, *(1,) * (z.ndim - weights.ndim)))
        log_weights = replay(log_weights, {z: surrogate(z, weights * z)})
    return _log_mean(log_weights)


def _log_weights(model: LatentVariableModel, x: Value, q: Distribution, z: Value) -> Value:
    """Return ``log w_k``, of shape (samples, batch)."""
    return model.decode(z).log_prob(in_dtype_of(z, x)) + model.prior().log_prob(z) - q.log_prob(z)


def _log_mean(log_weights: Value) -> Value:
    return logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])


def _without_its_gradient(q: Distribution, what: str, plain: str) -> Distribution:
    """Return the law with parameters that are constants to gradients, where a bound may lack what they would add.

    The expectation of the derivative of log q is 0 where the support of q stays, and that of its derivative is not.

    Args:
        q: the law that z was drawn from.
        what: the bound that leaves the derivative out.
        plain: the bound that does not.
    """
    moving = [path for path, x in trees.paths(q) if isinstance(x, Tensor) and path in q.moving()]
    first_only = (
        f"{what} leaves out the derivative of log q in the parameters of q, and so gives first derivatives only; for "
        f"second ones use {plain}"
    )
    edge = (
        f"{what}: the support of {type(q).__name__} moves with {', '.join(moving)}, so that the derivative of "
        f"log q, which is left out, has another expectation than 0; use {plain}"
    )

    def cut(path: str, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if path in moving:
            return refuse_gradient(x, reason=edge)
        return left_out(stop_gradient(x), x, x, reason=first_only)

    return trees.replace_leaves(q, [cut(path, x) for path, x in trees.paths(q)])


# -------------------------------------------------------------------------------- what a run is to climb


def warm_up(step: int | Value, steps: int, beta: float = 1.0) -> float | Value:
    """Return the weight of the divergence at a step: it rises from 0 to ``beta`` over the first ``steps``.

    Bowman et al. 2016; Sonderby et al. 2016: the decoder learns to use z before the divergence empties it.

    >>> [warm_up(step, 100) for step in (0, 50, 100, 200)]
    [0.0, 0.5, 1.0, 1.0]
    """
    if not steps:
        return beta
    return beta * minimum(step / steps, 1.0) if hasattr(step, "dtype") else beta * min(step / steps, 1.0)


DIVERGENCES = ("auto", "closed-form", "monte-carlo")
"""How the evidence lower bound may take its divergence: by a closed form, from the draws, or as is best."""

BOUNDS = ("elbo", "sticking-the-landing", "iwae", "dreg")
"""The bounds that an ``Objective`` may climb."""


@dataclass(frozen=True)
class Objective:
    """What a training run climbs: a bound, and how the gradient gets past its draws. Checked before anything runs.

    Args:
        bound: ``"elbo"``, ``"sticking-the-landing"``, ``"iwae"`` or ``"dreg"``.
        samples: how many draws for each example.
        estimator: the name of one of ``tg.ESTIMATORS``.
        beta: a weight of the divergence; not for ``"iwae"`` and ``"dreg"``.
        warm_up: over how many steps it rises from 0; at once with 0.
        free_bits: nats that each latent may say for nothing; for ``"elbo"`` alone.
        kl: how ``"elbo"`` takes the divergence, by a name in ``DIVERGENCES``; see ``elbo``.

    Raises:
        TypeError, ValueError: a name is not known, a number is out of range, or they do not go together.

    >>> objective = Objective("iwae", samples=5)
    >>> model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
    >>> bound = objective(model, np.zeros((3, 64), np.float32), rng=tg.noise(1))
    >>> tg.gradients(-tg.mean(bound), model).posterior.mean.bias.shape
    (2,)
    """

    bound: str = "elbo"
    samples: int = 1
    estimator: str = "pathwise"
    beta: float = 1.0
    warm_up: int = 0
    free_bits: float = 0.0
    kl: str = "auto"

    def __post_init__(self) -> None:
        if self.bound not in BOUNDS:
            raise ValueError(f"Objective: bound must be one of {', '.join(BOUNDS)}; found {self.bound!r}")
        if self.estimator not in ESTIMATORS:
            raise ValueError(
                f"Objective: there is no estimator {self.estimator!r}; choose one of {', '.join(sorted(ESTIMATORS))}"
            )
        check_count("Objective: samples", self.samples)
        check_nonnegative("Objective: beta", self.beta)
        check_nonnegative("Objective: free_bits", self.free_bits)
        if self.warm_up:
            check_count("Objective: warm_up", self.warm_up)
        weighted = self.bound in ("iwae", "dreg")
        if weighted and (self.beta != 1 or self.warm_up):
            raise ValueError(f"Objective: {self.bound} has no divergence for beta or warm_up to weigh; use elbo")
        if self.free_bits and self.bound != "elbo":
            raise ValueError(f"Objective: free_bits is for elbo, found {self.bound}")
        _check_kl("Objective", self.kl, self.free_bits)
        if self.kl != "auto" and self.bound != "elbo":
            raise ValueError(f"Objective: kl is for elbo, found {self.bound}, which draws it")
        if self.bound == "dreg" and self.estimator != "pathwise":
            raise ValueError(f"Objective: dreg is pathwise by construction, found the estimator {self.estimator}")
        if self.estimator == "leave-one-out" and (weighted or self.samples < 2):
            raise ValueError("Objective: leave-one-out compares draws: it takes elbo and samples from 2 on")
        if self.estimator == "vimco" and (self.bound != "iwae" or self.samples < 2):
            raise ValueError(
                "Objective: vimco is for the importance weighted bound: it takes iwae and samples from 2 on"
            )

    def __call__(
        self,
        model: LatentVariableModel,
        x: Value,
        *,
        rng: NoiseStream,
        step: int | Value = 0,
        baseline: Value | None = None,
    ) -> Value:
        """Return the bound of each example, of shape (batch,), open to gradients where the model is wrapped.

        Args:
            model: a ``VAE``, or whatever encodes, decodes and has a prior.
            x: examples of shape (batch, ...).
            rng: a stream from ``tg.noise(seed)``.
            step: the number of steps made before, for ``warm_up``; an array of shape () where a plan is to see it
                change.
            baseline: what the score function subtracts from the bound.

        Raises:
            ValueError: a baseline was given for another estimator.
            InvalidGradientError: the estimator would be wrong for this model.
        """
        if baseline is not None and self.estimator != "score-function":
            raise ValueError(f"Objective: a baseline is for the score function, found {self.estimator}")
        beta = warm_up(step, self.warm_up, self.beta)
        average = self.estimator != "leave-one-out"
        if self.bound == "elbo":
            options: dict[str, Any] = {"kl": self.kl, "beta": beta, "free_bits": self.free_bits}
            bound = elbo(model, x, rng=rng, samples=self.samples, average=average, **options)
        elif self.bound == "sticking-the-landing":
            bound = sticking_the_landing(model, x, rng=rng, samples=self.samples, beta=beta, average=average)
        elif self.bound == "iwae":
            bound = importance_weighted_bound(model, x, rng=rng, samples=self.samples)
        else:
            bound = doubly_reparameterized_bound(model, x, rng=rng, samples=self.samples)
        if isinstance(bound, Tensor):
            bound = estimate(bound, default=self._opener(rng, baseline))
        return bound if average else mean(bound, axis=0)

    def _opener(self, rng: NoiseStream, baseline: Value | None) -> Estimator:
        if baseline is not None:
            return ScoreFunction(baseline)
        return ESTIMATORS[self.estimator].example(rng)


# -------------------------------------------------------------------------------------------- the checks


def check_count(what: str, n: Any) -> None:
    """Raise where ``n`` is no whole number from 1 on."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{what} must be a whole number, found {describe(n)}")
    if n < 1:
        raise ValueError(f"{what} must be at least 1, found {n}")


def _check_kl(what: str, kl: Any, free_bits: float) -> None:
    if kl not in DIVERGENCES:
        raise ValueError(f"{what}: kl must be one of {', '.join(DIVERGENCES)}; found {kl!r}")
    if free_bits and kl == "monte-carlo":
        raise ValueError(f'{what}: free_bits takes the divergence of each latent in closed form; use kl="closed-form"')


def check_nonnegative(what: str, x: Any) -> None:
    """Raise where ``x`` is no finite number from 0 on, nor an array that holds one."""
    x = value_of(x)
    x = x.item() if is_array(x) and x.shape == () else x
    if isinstance(x, bool) or not isinstance(x, (int, float, np.integer, np.floating)) or not 0 <= x < math.inf:
        raise ValueError(f"{what} must be a number from 0 on, found {x!r}")


def in_dtype_of(z: Value, x: Value) -> Value:
    """Return x in the dtype of z, in which the whole model computes."""
    return x if value_of(x).dtype == z.dtype else astype(x, z.dtype)
