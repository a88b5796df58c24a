"""Draws that are plain numbers: the gradient ends there, and nothing says so."""

import math

import numpy as np
from exhibit import exhibit

import tinygrad_vae as tg

CUT, PARTLY = "`BlockedGradientError`: cut", "`BlockedGradientError`: partly cut"
FEW = 1000


def copies(value, n):
    """Return a parameter of PyTorch with one copy for each draw, so that each has a gradient of its own."""
    import torch

    torch.manual_seed(0)
    return torch.full((n,), value, dtype=torch.float64, requires_grad=True)


def gradient(cost, parameter):
    """Return the gradient of each draw, or None where PyTorch hands out none."""
    cost.sum().backward()
    return None if parameter.grad is None else parameter.grad.double().numpy()


def many(value, name, n=FEW):
    """Return the same for tinygrad_vae."""
    return tg.Tensor(np.full(n, value), name)


def normal(mu):
    return tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")


# ----------------------------------------------------------------- sample() of torch.distributions


@exhibit(
    "`sample()`, a cost with a weight: 3 x², at mu = 2, the gradient in mu",
    "PyTorch",
    gives=None,
    truth=12,
    remark=", while the weight gets the right one",
    in_readme=True,
)
def beside_a_weight(n):
    from torch.distributions import Normal

    mu, w = copies(2.0, n), copies(3.0, n)
    found = gradient(w * Normal(mu, 1.0).sample() ** 2, mu)
    assert abs(w.grad.mean() - 5) < 0.5  # E x^2
    return found


@beside_a_weight.same_here(CUT)
def _():
    mu, w = tg.Tensor(2.0, "mu"), tg.Tensor(3.0, "w")
    return tg.gradients(w * normal(mu) ** 2, [mu, w])


@exhibit("`sample()`, a second way to the cost: x² + mu² / 2, at mu = 2", "PyTorch", gives=2, truth=6, in_readme=True)
def a_second_way(n):
    from torch.distributions import Normal

    mu = copies(2.0, n)
    return gradient(Normal(mu, 1.0).sample() ** 2 + mu**2 / 2, mu)


@a_second_way.same_here(PARTLY)
def _():
    mu = tg.Tensor(2.0, "mu")
    return tg.gradients(normal(mu) ** 2 + mu**2 / 2, mu)


@exhibit("entropy as the mean of `-log_prob(sample())`, in sigma at 2", "PyTorch", gives=0, truth=0.5)
def entropy(n):
    from torch.distributions import Normal

    sigma = copies(2.0, n)
    dist = Normal(0.0, sigma)
    return gradient(-dist.log_prob(dist.sample()), sigma)


@entropy.same_here(PARTLY)
def _():
    dist = tg.Normal(0.0, tg.Tensor(2.0, "sigma"))
    return tg.gradients(-dist.log_prob(dist.sample(rng=tg.noise(0))), dist.scale)


@entropy.by_the_library("`entropy`: 0.5")
def _():
    dist = tg.Normal(0.0, tg.Tensor(2.0, "sigma"))
    return tg.gradients(dist.entropy(), dist.scale)


@exhibit(
    "KL penalty, `q.log_prob(x) - p.log_prob(x)` as a loss: x of q = N(mu, 1), p = N(0, 1), at mu = 1",
    "PyTorch",
    gives=0,
    truth=1,
)
def kl_from_the_ratio(n):
    from torch.distributions import Normal

    mu = copies(1.0, n)
    q, p = Normal(mu, 1.0), Normal(0.0, 1.0)
    x = q.sample()
    return gradient(q.log_prob(x) - p.log_prob(x), mu)


@kl_from_the_ratio.same_here(PARTLY)
def _():
    q, p = tg.Normal(tg.Tensor(1.0, "mu"), 1.0), tg.Normal(0.0, 1.0)
    x = q.sample(rng=tg.noise(0))
    return tg.gradients(q.log_prob(x) - p.log_prob(x), q.loc)


@kl_from_the_ratio.by_the_library("`kl_divergence`: 1")
def _():
    q = tg.Normal(tg.Tensor(1.0, "mu"), 1.0)
    return tg.gradients(tg.kl_divergence(q, tg.Normal(0.0, 1.0)), q.loc)


@exhibit(
    "KL penalty as in GRPO, r - 1 - log r with r = p(x) / q(x) as a loss: x of q = N(0, sigma), p = N(0, 1), at "
    "sigma = 2",
    "PyTorch",
    gives=0.375,  # the gradient of KL(p, q): the other direction
    truth=1.5,
    in_readme=True,
)
def kl_of_grpo(n):
    from torch.distributions import Normal

    sigma = copies(2.0, n)
    q, p = Normal(0.0, sigma), Normal(0.0, 1.0)
    x = q.sample()
    log_r = p.log_prob(x) - q.log_prob(x)
    return gradient(log_r.exp() - 1 - log_r, sigma)


@kl_of_grpo.same_here(PARTLY)
def _():
    q, p = tg.Normal(0.0, tg.Tensor(2.0, "sigma")), tg.Normal(0.0, 1.0)
    x = q.sample(rng=tg.noise(0))
    log_r = p.log_prob(x) - q.log_prob(x)
    return tg.gradients(tg.exp(log_r) - 1 - log_r, q.scale)


@kl_of_grpo.by_the_library("`score_function`: 1.5")
def _():
    q, p = tg.Normal(0.0, many(2.0, "sigma", 100_000)), tg.Normal(0.0, 1.0)
    x = q.sample(rng=tg.noise(0))
    log_r = p.log_prob(x) - q.log_prob(x)
    return tg.gradients(tg.sum(tg.score_function(tg.exp(log_r) - 1 - log_r)), q.scale)


@exhibit(
    "a mixture: `Categorical.sample()`, then `rsample()` of the component chosen; x², means -1 and 2, in the logit of "
    "the second at 0",
    "PyTorch",
    gives=None,
    truth=0.75,
)
def a_mixture(n):
    import torch
    from torch.distributions import Categorical, Normal

    logit = copies(0.0, n)
    chosen = Categorical(logits=torch.stack([torch.zeros_like(logit), logit], 1)).sample()
    mean = torch.tensor([-1.0, 2.0], requires_grad=True)[chosen]
    return gradient(Normal(mean, 1.0).rsample() ** 2, logit)


@a_mixture.same_here(CUT)
def _():
    logit = tg.Tensor(0.0, "logit")
    chosen = tg.Categorical(logits=tg.stack([0.0, logit])).sample(rng=tg.noise(0))
    x = tg.Normal(tg.take(tg.Tensor(np.array([-1.0, 2.0]), "means"), chosen, axis=0), 1.0).rsample(rng=tg.noise(1))
    return tg.gradients(x**2, logit)


@a_mixture.by_the_library("`reparameterize`: 0.75")
def _():
    logit = many(0.0, "logit", 20_000)
    parts = tg.Normal(np.array([-1.0, 2.0]), 1.0)
    x = tg.MixtureSameFamily(tg.stack([0.0 * logit, logit], axis=1), parts).sample(rng=tg.noise(0))
    return tg.gradients(tg.sum(tg.reparameterize(x**2)), logit)


# ------------------------------------------------------------------------ functions that draw


@exhibit("`torch.normal(mu, 1)`: x², at mu = 2", "PyTorch", gives=0, truth=4)
def torch_normal(n):
    import torch

    mu = copies(2.0, n)
    return gradient(torch.normal(mu, 1.0) ** 2, mu)


@torch_normal.same_here(CUT)
def _():
    mu = tg.Tensor(2.0, "mu")
    return tg.gradients(normal(mu) ** 2, mu)


@exhibit("`torch.poisson(rate)`: x², at 3", "PyTorch", gives=0, truth=7)
def torch_poisson(n):
    import torch

    rate = copies(3.0, n)
    return gradient(torch.poisson(rate) ** 2, rate)


@torch_poisson.same_here(CUT)
def _():
    rate = tg.Tensor(3.0, "rate")
    return tg.gradients(tg.Poisson(rate).sample(rng=tg.noise(0)) ** 2, rate)


@exhibit("`torch.bernoulli(p)`: (b - 0.45)², at p = 0.3", "PyTorch", gives=0, truth=1 - 2 * 0.45)
def torch_bernoulli(n):
    import torch

    p = copies(0.3, n)
    return gradient((torch.bernoulli(p) - 0.45) ** 2, p)


def tossed():
    p = tg.Tensor(0.3, "p")
    return tg.gradients((tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b") - 0.45) ** 2, p)


torch_bernoulli.same_here(CUT)(tossed)


@exhibit("`random.bernoulli(key, p)`: (b - 0.45)², at p = 0.3", "JAX", gives=0, truth=1 - 2 * 0.45)
def jax_bernoulli(n):
    import jax

    def cost(p):
        return ((jax.random.bernoulli(jax.random.key(0), p) - 0.45) ** 2).sum()

    return jax.grad(cost)(jax.numpy.full(n, 0.3))


jax_bernoulli.same_here(CUT)(tossed)


@exhibit("`random.categorical(key, logits)`: costs 1, 2, 4, in the last of equal logits", "JAX", gives=0, truth=5 / 9)
def jax_categorical(n):
    import jax

    def cost(logits):
        chosen = jax.random.categorical(jax.random.key(0), logits)
        return jax.numpy.array([1.0, 2.0, 4.0])[chosen].sum()

    return jax.grad(cost)(jax.numpy.zeros((n, 3)))[:, 2]


@jax_categorical.same_here(CUT)
def _():
    logits = tg.Tensor(np.zeros(3), "logits")
    return tg.gradients(
        tg.take(np.array([1.0, 2.0, 4.0]), tg.Categorical(logits=logits).sample(rng=tg.noise(0)), axis=0), logits
    )


# -------------------------------------------------------------------------- a particle filter

SIGNALS = [-0.7139, -1.5324, -2.2705, -1.6729]


@exhibit(
    "particle filter, `torch.multinomial` chooses the 8 particles after each of 4 signals: the evidence, at a = 0.8 "
    "(lesson 19)",
    "PyTorch",
    gives=0.007995,
    truth=0.00555425,  # Kalman's filter
    share=0.25,
    in_readme=True,
)
def particle_filter(n):
    import torch

    a, evidence = copies(0.8, n), 1.0
    x = torch.randn(n, 8, dtype=torch.float64)
    for y in SIGNALS:
        x = a[:, None] * x + torch.randn(n, 8, dtype=torch.float64)
        w = torch.exp(-2 * (y - x) ** 2) / math.sqrt(math.pi / 2)  # the density of N(x, 1/2) at y
        evidence = evidence * w.mean(1)
        x = x.gather(1, torch.multinomial(w / w.sum(1, keepdim=True), 8, replacement=True))
    return gradient(evidence, a)


def filtered(a):
    x, evidence, rng = tg.noise(0).normal((8, *a.shape)), 1.0, tg.noise(1)
    for y in SIGNALS:
        x = tg.Normal(a * x, 1.0).rsample(rng=rng)
        w = tg.exp(tg.Normal(x, 0.5).log_prob(y))
        evidence = evidence * tg.mean(w, axis=0)
        chances = tg.matrix_transpose(w / tg.sum(w, axis=0))
        x = tg.take_along_axis(x, tg.Categorical(probs=chances).sample((8,), rng=rng), axis=0)
    return evidence


@particle_filter.same_here(PARTLY)
def _():
    a = many(0.8, "a", 10)
    return tg.gradients(tg.sum(filtered(a)), a)


@particle_filter.by_the_library("`score_function`: 0.005554")
def _():
    a = many(0.8, "a", 20_000)
    return tg.gradients(tg.sum(tg.score_function(filtered(a), baseline=0.004)), a)
