"""Score functions with a mistake: the gradient goes through the probability of the draw, and something is left out."""

import numpy as np
from draws import FEW, PARTLY, copies, gradient, many, normal
from exhibit import exhibit

import tinygrad_vae as tg


def shifted(n, mu=2.0):
    """Return n draws of N(mu, 1) and their scores in mu, for programs that are written by hand."""
    e = np.random.default_rng(0).standard_normal(n)
    return mu + e, e


@exhibit(
    "cost times `log_prob`, support moves: x of Uniform(0, h), at h = 2",
    "PyTorch",
    gives=-0.5,
    truth=0.5,
    in_readme=True,
)
def moving_support(n):
    from torch.distributions import Uniform

    h = copies(2.0, n)
    x = Uniform(0.0, h).sample()
    return gradient(x * Uniform(0.0, h).log_prob(x), h)


@moving_support.same_here(PARTLY)
def _():
    h = many(2.0, "h")
    x = tg.Uniform(0.0, h).sample(rng=tg.noise(0))
    return tg.gradients(tg.sum(x * tg.Uniform(0.0, h).log_prob(x)), h)


@moving_support.by_the_library("`score_function`: `InvalidGradientError`")
def _():
    h = tg.Tensor(2.0, "h")
    return tg.gradients(tg.score_function(tg.Uniform(0.0, h).sample(rng=tg.noise(0))), h)


@exhibit(
    "cost times `log_prob`, draws rounded to 1: x of Beta(0.3, b) in float32, at b = 0.1",
    "PyTorch",
    gives=-0.39,
    truth=-1.875,
)
def rounded_draws(n):
    import torch
    from torch.distributions import Beta

    torch.manual_seed(0)
    b = torch.full((n,), 0.1, requires_grad=True)
    x = Beta(torch.full((n,), 0.3), b).sample()
    return gradient(x * Beta(torch.tensor(0.3), b).log_prob(x), b)


def beta():
    b = tg.Tensor(np.full(FEW, 0.1, np.float32), "b")
    return b, tg.Beta(np.float32(0.3), b).sample(rng=tg.noise(0))


@rounded_draws.same_here(PARTLY)
def _():
    b, x = beta()
    return tg.gradients(tg.sum(x * tg.Beta(np.float32(0.3), b).log_prob(x)), b)


@rounded_draws.by_the_library("`score_function`: `InvalidGradientError`")
def _():
    b, x = beta()
    return tg.gradients(tg.mean(tg.score_function(x)), b)


@exhibit(
    "cost less the mean of its group of 4, times `log_prob`: x², at mu = 2", "PyTorch", gives=3, truth=4, in_readme=True
)
def own_group(n):
    from torch.distributions import Normal

    mu = copies(2.0, n - n % 4)
    x = Normal(mu, 1.0).sample()
    cost = (x**2).reshape(-1, 4)
    advantage = (cost - cost.mean(1, keepdim=True)).reshape(-1)
    return gradient(advantage * Normal(mu, 1.0).log_prob(x), mu).reshape(-1, 4).mean(1)  # draws of a group depend


def square_in_groups_of_four(groups=FEW):
    mu = tg.Tensor(np.full((groups, 4), 2.0), "mu")
    x = normal(mu)
    return mu, x, x**2


@own_group.same_here(PARTLY)
def _():
    mu, x, cost = square_in_groups_of_four()
    advantage = cost - tg.mean(cost, axis=1, keepdims=True)
    return tg.gradients(tg.sum(advantage * tg.Normal(mu, 1.0).log_prob(x)), mu)


@own_group.by_the_library("`score_function`: `ValueError`")
def _():
    _, _, cost = square_in_groups_of_four()
    return tg.score_function(cost, baseline=tg.mean(cost, axis=1, keepdims=True))


@exhibit(
    "`cost.detach() * log_prob`, second derivative: x², at mu = 0.5", "PyTorch", gives=-1.25, truth=2, in_readme=True
)
def second_derivative(n):
    import torch
    from torch.distributions import Normal

    mu = copies(0.5, n)
    x = Normal(mu, 1.0).sample()
    surrogate = (x**2).detach() * Normal(mu, 1.0).log_prob(x)
    (first,) = torch.autograd.grad(surrogate.sum(), mu, create_graph=True)
    return gradient(first, mu)


@second_derivative.same_here(PARTLY)
def _():
    mu = many(0.5, "mu")
    x = normal(mu)
    surrogate = tg.stop_gradient(x**2) * tg.Normal(mu, 1.0).log_prob(x)
    first = tg.gradients(tg.sum(surrogate), mu, record=True)
    return tg.gradients(tg.sum(first), mu)


@second_derivative.by_the_library("`score_function`: 2")
def _():
    mu = many(0.5, "mu", 400_000)
    first = tg.gradients(tg.sum(tg.score_function(normal(mu) ** 2)), mu, record=True)
    return tg.gradients(tg.sum(first), mu)


@exhibit(
    "`cost.detach() * log_prob`, the parameter stands in the cost too: mu x, at mu = 2", "PyTorch", gives=2, truth=4
)
def parameter_in_the_cost(n):
    from torch.distributions import Normal

    mu = copies(2.0, n)
    x = Normal(mu, 1.0).sample()
    return gradient((mu * x).detach() * Normal(mu, 1.0).log_prob(x), mu)


@parameter_in_the_cost.same_here(PARTLY)
def _():
    mu = many(2.0, "mu")
    x = normal(mu)
    return tg.gradients(tg.sum(tg.stop_gradient(mu * x) * tg.Normal(mu, 1.0).log_prob(x)), mu)


@parameter_in_the_cost.by_the_library("`score_function`: 4")
def _():
    mu = many(2.0, "mu", 100_000)
    return tg.gradients(tg.sum(tg.score_function(mu * normal(mu))), mu)


@exhibit("mean cost of a batch of 8, times its mean `log_prob`: x², at mu = 2", "PyTorch", gives=0.5, truth=4)
def means_of_a_batch(n):
    from torch.distributions import Normal

    mu = copies(2.0, n - n % 8)
    x = Normal(mu, 1.0).sample()
    cost, log_prob = ((y.reshape(-1, 8).mean(1)) for y in (x**2, Normal(mu, 1.0).log_prob(x)))
    return gradient(cost * log_prob, mu).reshape(-1, 8).sum(1)


@means_of_a_batch.same_here(PARTLY)
def _():
    mu = many(2.0, "mu", 8)
    x = normal(mu)
    return tg.gradients(tg.mean(x**2) * tg.mean(tg.Normal(mu, 1.0).log_prob(x)), mu)


@means_of_a_batch.by_the_library("`score_function`: 4")
def _():
    mu = tg.Tensor(np.full((20_000, 1), 2.0), "mu")
    x = normal(mu + np.zeros(8))
    return tg.gradients(tg.sum(tg.mean(tg.score_function(x**2), axis=1)), mu)


@exhibit(
    "`log_prob` of the action after `clamp(x, -1, 1)`: the clamped x, at mu = 0",
    "PyTorch",
    gives=0.51606,
    truth=0.68269,
)
def clamped_action(n):
    from torch.distributions import Normal

    mu = copies(0.0, n)
    action = Normal(mu, 1.0).sample().clamp(-1, 1)
    return gradient(action * Normal(mu, 1.0).log_prob(action), mu)


@clamped_action.same_here(PARTLY)
def _():
    mu = many(0.0, "mu")
    action = tg.clip(normal(mu), -1.0, 1.0)
    return tg.gradients(tg.sum(action * tg.Normal(mu, 1.0).log_prob(action)), mu)


@clamped_action.by_the_library("`score_function`: 0.6827")
def _():
    mu = many(0.0, "mu", 100_000)
    return tg.gradients(tg.sum(tg.score_function(tg.clip(normal(mu), -1.0, 1.0))), mu)


@exhibit("cost times the score, draws of an earlier policy N(1.5, 1): x², at mu = 2", "NumPy", gives=1.375, truth=4)
def earlier_policy(n):
    x, _ = shifted(n, mu=1.5)
    return x**2 * (x - 2.0)


@earlier_policy.same_here("1.375, since no draw depends on mu")
def _():
    x, mu = shifted(100_000, mu=1.5)[0], many(2.0, "mu", 100_000)
    return tg.gradients(tg.sum(x**2 * tg.Normal(mu, 1.0).log_prob(x)), mu)


@exhibit(
    "score function, the cost of the mirrored draw mu - e for a baseline: x², at mu = 2",
    "NumPy",
    gives=8,
    truth=4,
)
def mirrored_baseline(n):
    x, score = shifted(n)
    return (x**2 - (4.0 - x) ** 2) * score


@mirrored_baseline.same_here("`ValueError`: the baseline depends on x")
def _():
    mu = many(2.0, "mu")
    x = normal(mu)
    return tg.score_function(x**2, baseline=(2.0 * mu - x) ** 2)


@exhibit(
    "score function, a running mean for a baseline that is updated before it is used, by a tenth: x², at mu = 2",
    "NumPy",
    gives=3.6,
    truth=4,
)
def running_mean(n):
    x, score = shifted(n)
    return (x**2 - (0.9 * 5.0 + 0.1 * x**2)) * score


@running_mean.same_here("`ValueError`: the baseline depends on x")
def _():
    cost = normal(many(2.0, "mu")) ** 2
    return tg.score_function(cost, baseline=0.9 * 5.0 + 0.1 * cost)
