"""Paths with a mistake: the draw is a function of its noise, and the derivative of that function is not the answer."""

import math

import numpy as np
from draws import copies, gradient, many
from exhibit import exhibit

import tinygrad_vae as tg

SIGN_JUMPS, JUMPS = "`InvalidGradientError`: sign jumps", "`InvalidGradientError`: a jump after a draw"
BELL = 1 / math.sqrt(2 * math.pi)  # the density of N(0, 1) at 0


def reparameterized(mu):
    return tg.Normal(mu, 1.0).rsample(rng=tg.noise(0), name="x")


def opened(how, cost_of, mu=0.0, n=20_000):
    """Return the gradients of a cost of x ~ N(mu, 1), which ``how`` opens."""
    mu = many(mu, "mu", n)
    return tg.gradients(tg.sum(how(cost_of(tg.Normal(mu, 1.0).sample(rng=tg.noise(0))))), mu)


@exhibit("`rsample()`, then a step: sign(x), at mu = 0", "PyTorch", gives=0, truth=2 * BELL, in_readme=True)
def a_step(n):
    import torch
    from torch.distributions import Normal

    mu = copies(0.0, n)
    return gradient(torch.sign(Normal(mu, 1.0).rsample()), mu)


@a_step.same_here(SIGN_JUMPS)
def _():
    mu = tg.Tensor(0.0, "mu")
    return tg.gradients(tg.sign(reparameterized(mu)), mu)


@a_step.by_the_library("`path_and_boundary`: 0.7979")
def _():
    return opened(tg.path_and_boundary, tg.sign)


@exhibit(
    "`rsample()`, then two branches: `where(x > 1, x**2, -x)`, at mu = 0",
    "PyTorch",
    gives=2 * BELL * math.exp(-0.5) - 0.841345,
    truth=4 * BELL * math.exp(-0.5) - 0.841345,
)
def two_branches(n):
    import torch
    from torch.distributions import Normal

    mu = copies(0.0, n)
    x = Normal(mu, 1.0).rsample()
    return gradient(torch.where(x > 1, x**2, -x), mu)


@two_branches.same_here(JUMPS)
def _():
    mu = tg.Tensor(0.0, "mu")
    x = reparameterized(mu)
    return tg.gradients(tg.where(x > 1, x**2, -x), mu)


@two_branches.by_the_library("`path_and_boundary`: 0.1265")
def _():
    return opened(tg.path_and_boundary, lambda x: tg.where(x > 1, x**2, -x), n=400_000)


@exhibit("`where(mu + normal(key) > 0, 1, 0)`, at mu = 0", "JAX", gives=0, truth=BELL)
def where_in_jax(n):
    import jax

    def cost(mu):
        return jax.numpy.where(mu + jax.random.normal(jax.random.key(0), mu.shape) > 0, 1.0, 0.0).sum()

    return jax.grad(cost)(jax.numpy.zeros(n))


@where_in_jax.same_here(JUMPS)
def _():
    mu = tg.Tensor(0.0, "mu")
    return tg.gradients(tg.where(reparameterized(mu) > 0, 1.0, 0.0), mu)


@where_in_jax.by_the_library("`path_and_boundary`: 0.3989")
def _():
    return opened(tg.path_and_boundary, lambda x: tg.where(x > 0, 1.0, 0.0))


@exhibit("`rsample()`, then `round`, as a quantizer does: the rounded x, at mu = 0.3", "PyTorch", gives=0, truth=1)
def rounded(n):
    import torch
    from torch.distributions import Normal

    mu = copies(0.3, n)
    return gradient(torch.round(Normal(mu, 1.0).rsample()), mu)


@rounded.same_here("`InvalidGradientError`: round jumps")
def _():
    mu = tg.Tensor(0.3, "mu")
    return tg.gradients(tg.round(reparameterized(mu)), mu)


@rounded.by_the_library("`score_function`: 1")
def _():
    return opened(tg.score_function, tg.round, mu=0.3)


# -------------------------------------------------------------------------- a barrier option


def payoff(spot, steps, xp):
    """Return the discounted payoff of a down-and-out call: strike 100, and worthless after a date below 90."""
    price = spot * xp.exp(xp.cumulative_sum(steps, axis=1))
    alive = xp.prod(xp.where(price > 90.0, 1.0, 0.0), axis=1)
    return math.exp(-0.02) * alive * xp.maximum(price[:, -1] - 100.0, 0.0)


def barrier_in_jax(n, parameter):
    """Return the gradient of each path, twelve dates in a year at a rate of 2 %, in spot (0) or volatility (1)."""
    import jax

    noise = jax.random.normal(jax.random.key(0), (n, 12))

    def cost(spot, volatility):
        steps = (0.02 - volatility**2 / 2) / 12 + volatility * noise / math.sqrt(12)
        return payoff(spot, steps, jax.numpy).sum()

    return jax.grad(cost, parameter)(jax.numpy.full((n, 1), 100.0), jax.numpy.full((n, 1), 0.2))


def barrier_here(n=10, open_up=tg.reparameterize):
    """Return the gradients in spot and volatility, of a draw of all twelve steps."""
    spot, volatility = (tg.Tensor(np.full((n, 1), x), name) for x, name in ((100.0, "spot"), (0.2, "volatility")))
    mean = (0.02 - volatility**2 / 2) / 12 + np.zeros(12)
    steps = tg.Normal(mean, volatility / math.sqrt(12)).sample(rng=tg.noise(0), name="steps")
    return tg.gradients(tg.sum(open_up(payoff(spot, steps, tg))), [spot, volatility])


@exhibit(
    "barrier option by its path, a down-and-out call (12 dates, spot and strike 100, barrier 90, volatility 0.2): "
    "delta",
    "JAX",
    gives=0.489842,
    truth=0.668807,  # by quadrature from date to date
    share=0.1,
    in_readme=True,
)
def delta_of_a_barrier(n):
    return barrier_in_jax(n, 0)


@exhibit("the same option: vega", "JAX", gives=36.54, truth=25.9956, share=0.1)
def vega_of_a_barrier(n):
    return barrier_in_jax(n, 1)


delta_of_a_barrier.same_here(JUMPS)(lambda: barrier_here()[0])
vega_of_a_barrier.same_here(JUMPS)(lambda: barrier_here()[1])
delta_of_a_barrier.by_the_library("`path_and_boundary`: 0.6688")(lambda: barrier_here(1000, tg.path_and_boundary)[0])
vega_of_a_barrier.by_the_library("`path_and_boundary`: 26")(lambda: barrier_here(1000, tg.path_and_boundary)[1])

# ------------------------------------------------------------------------- the trick, mistaken


@exhibit(
    "`(eps + mu) * sigma`, taught as the trick: x², at mu = 1, sigma = 0.5",
    "PyTorch",
    gives=0.5,
    truth=2,
    in_readme=True,
)
def sum_before_product(n):
    import torch

    mu = copies(1.0, n)
    return gradient(((torch.randn(n) + mu) * 0.5) ** 2, mu)


@sum_before_product.same_here("0.5, since no draw is declared")
def _():
    mu = many(1.0, "mu", 100_000)
    return tg.gradients(tg.sum(((tg.noise(0).normal((100_000,)) + mu) * 0.5) ** 2), mu)


@sum_before_product.by_the_library("`reparameterize`: 2")
def _():
    mu = many(1.0, "mu", 100_000)
    return tg.gradients(tg.sum(tg.reparameterize(tg.Normal(mu, 0.5).sample(rng=tg.noise(0)) ** 2)), mu)


@exhibit(
    "`mu + eps * exp(log_var)`, the half is missing: x², mu = 0, in log_var at log 0.25",
    "PyTorch",
    gives=0.125,
    truth=0.25,
)
def half_missing(n):
    import torch

    log_var = copies(math.log(0.25), n)
    return gradient((torch.randn(n) * torch.exp(log_var)) ** 2, log_var)


@half_missing.same_here("0.125, since no draw is declared")
def _():
    log_var = many(math.log(0.25), "log_var", 100_000)
    return tg.gradients(tg.sum((tg.noise(0).normal((100_000,)) * tg.exp(log_var)) ** 2), log_var)


@half_missing.by_the_library("`reparameterize`: 0.25")
def _():
    log_var = many(math.log(0.25), "log_var", 100_000)
    x = tg.Normal(0.0, tg.exp(log_var / 2)).sample(rng=tg.noise(0))
    return tg.gradients(tg.sum(tg.reparameterize(x**2)), log_var)


@exhibit(
    "`mu + eps`, drawn again while it is below 0: the x that was kept, at mu = 0",
    "PyTorch",
    gives=1,
    truth=1 - 2 / math.pi,
)
def drawn_again(n):
    import torch

    mu = copies(0.0, n)
    eps = torch.randn(n, dtype=torch.float64)
    while (below := mu + eps < 0).any():
        eps = torch.where(below, torch.randn(n, dtype=torch.float64), eps)
    return gradient(mu + eps, mu)


@drawn_again.same_here("1, since no draw is declared")
def _():
    mu, eps = many(0.0, "mu"), tg.noise(0).normal((1000,))
    return tg.gradients(tg.sum(mu + np.abs(eps)), mu)


@drawn_again.by_the_library("`reparameterize`: 0.3634")
def _():
    mu = many(0.0, "mu", 100_000)
    x = tg.TruncatedNormal(mu, 1.0, 0.0, math.inf).sample(rng=tg.noise(0))
    return tg.gradients(tg.sum(tg.reparameterize(x)), mu)


# ------------------------------------------------------------------------- discrete, made smooth


@exhibit(
    "`p + (b - p).detach()`, straight through a toss: (b - 0.45)², at p = 0.3",
    "PyTorch",
    gives=-0.3,
    truth=1 - 2 * 0.45,
    in_readme=True,
)
def straight_through(n):
    from torch.distributions import Bernoulli

    p = copies(0.3, n)
    b = Bernoulli(p).sample()
    return gradient(((p + (b - p).detach()) - 0.45) ** 2, p)


def toss(p):
    return tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")


@straight_through.same_here("-0.3, since `stop_gradient` is your word")
def _():
    p = many(0.3, "p", 400_000)
    return tg.gradients(tg.sum((p + tg.stop_gradient(toss(p) - p) - 0.45) ** 2), p)


@straight_through.by_the_library("`estimate`: `BiasedGradientWarning`")
def _():
    p = tg.Tensor(0.3, "p")
    return tg.gradients(tg.estimate((toss(p) - 0.45) ** 2, {"b": "straight-through"}), p)


@exhibit(
    "`RelaxedBernoulli(0.5, p).rsample()` for a toss: (b - 0.45)², at p = 0.3",
    "PyTorch",
    gives=-0.0366144,  # by quadrature over the noise
    truth=1 - 2 * 0.45,
)
def relaxed_toss(n):
    import torch
    from torch.distributions import RelaxedBernoulli

    p = copies(0.3, n)
    return gradient((RelaxedBernoulli(torch.tensor(0.5), probs=p).rsample() - 0.45) ** 2, p)


@relaxed_toss.same_here("-0.03661, of the cost of a relaxed toss")
def _():
    p = many(0.3, "p", 100_000)
    return tg.gradients(tg.sum((tg.RelaxedBernoulli(0.5, probs=p).rsample(rng=tg.noise(0)) - 0.45) ** 2), p)


@relaxed_toss.by_the_library("`estimate`: `BiasedGradientWarning`")
def _():
    p = tg.Tensor(0.3, "p")
    return tg.gradients(tg.estimate((toss(p) - 0.45) ** 2, {"b": "gumbel-softmax"}), p)


@exhibit(
    "`gumbel_softmax(logits, hard=True)` for a toss: (b - 0.45)², in the logit where p = 0.3",
    "PyTorch",
    gives=-0.0315774,  # by quadrature over the noise
    truth=0.3 * 0.7 * (1 - 2 * 0.45),
)
def hard_gumbel_softmax(n):
    import torch
    from torch.nn.functional import gumbel_softmax

    logit = copies(math.log(0.3 / 0.7), n)
    b = gumbel_softmax(torch.stack([torch.zeros_like(logit), logit], 1), hard=True)[:, 1]
    return gradient((b - 0.45) ** 2, logit)


@hard_gumbel_softmax.by_the_library("`estimate`: `BiasedGradientWarning`")
def _():
    logit = tg.Tensor(math.log(0.3 / 0.7), "logit")
    b = tg.Bernoulli(logits=logit).sample(rng=tg.noise(0), name="b")
    return tg.gradients(tg.estimate((b - 0.45) ** 2, {"b": "straight-through"}), logit)
