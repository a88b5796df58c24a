"""The path and the boundary: gradients of costs that jump where a draw decides a comparison, against exact ones."""

import numpy as np
import pytest
from scipy import integrate, stats
from standard_errors import assert_agrees

import tinygrad_vae as tg

DRAWS = 20_000
DENSITY_AT_0 = 1 / np.sqrt(2 * np.pi)


def copies(value, name):
    """Return a parameter for each draw, so that one gradient holds that of every draw."""
    return tg.Tensor(np.full(DRAWS, value), name)


def draw(dist, seed=0, name="x"):
    return dist.sample(rng=tg.noise(seed), name=name)


def estimates(cost, parameters, rewrite=tg.path_and_boundary):
    new = rewrite(cost)
    np.testing.assert_array_equal(new.value, cost.value)
    return tg.gradients(tg.sum(new), parameters)


def slope(expectation, at, h=1e-5):
    return (expectation(at + h) - expectation(at - h)) / (2 * h)


# ------------------------------------------------------------------------------------------------------- one draw


def test_the_probability_of_a_sign_has_a_gradient_without_variance():
    mu = copies(0.0, "mu")
    x = draw(tg.Normal(mu, 1.0))
    np.testing.assert_allclose(estimates(tg.where(x > 0, 1.0, 0.0), mu), DENSITY_AT_0, rtol=1e-14)


def test_a_threshold_has_a_gradient_without_variance():
    c = copies(0.7, "c")
    x = draw(tg.Normal(tg.Tensor(np.full(DRAWS, 0.3)), 0.8))
    found = estimates(tg.where(x > c, x, 0.0), c)
    np.testing.assert_allclose(found, -0.7 * stats.norm.pdf(0.7, 0.3, 0.8), rtol=1e-12)


def test_a_leap_between_two_formulas():
    mu, sigma = copies(0.3, "mu"), copies(0.8, "sigma")
    x = draw(tg.Normal(mu, sigma))
    in_mu, in_sigma = estimates(tg.where(x > 1.0, x * x, -x), [mu, sigma])

    def expectation(m, s):
        above, _ = integrate.quad(lambda x: (x * x + x) * stats.norm.pdf(x, m, s), 1, 20)
        return above - m

    assert_agrees(in_mu, slope(lambda m: expectation(m, 0.8), 0.3), 1e-7)
    assert_agrees(in_sigma, slope(lambda s: expectation(0.3, s), 0.8), 1e-7)
    assert in_mu.var() < 3
    assert in_sigma.var() < 5


def test_a_support_that_moves():
    """E where(x > 1, x, 0) over U(0, h) is (h - 1 / h) / 2."""
    h = copies(2.0, "h")
    assert_agrees(estimates(tg.where((x := draw(tg.Uniform(0.0, h))) > 1.0, x, 0.0), h), 0.625)


def test_an_implicit_path():
    a = copies(2.0, "a")
    x = draw(tg.Gamma(a, 1.0))
    found = estimates(tg.where(x > 2.0, x, 0.0), a)
    truth = slope(lambda a: a * stats.gamma.sf(2.0, a + 1), 2.0)
    assert truth == pytest.approx(1.14037, abs=1e-5)
    assert_agrees(found, truth, 1e-7)


def test_it_is_refused_where_a_comparison_may_flip_twice():
    mu = tg.Tensor(0.3, "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
    for cost in (tg.where(x * x > 1.0, x, 0.0), tg.where(tg.sin(x) > 0.1, x, 0.0), tg.where(tg.relu(x) > 0, x, 1.0)):
        with pytest.raises(tg.InvalidGradientError, match="which x decides, is not known to be strictly monotone"):
            tg.path_and_boundary(cost)


def test_explain_offers_it_where_a_path_is_refused():
    mu = tg.Tensor(0.3, "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
    options = {option.call: option for option in tg.explain(tg.where(x > 0.5, x, -x), mu).nodes[0].options}
    assert options["path_and_boundary(cost)"].valid
    assert not options["reparameterize(cost)"].valid
    with pytest.raises(tg.BlockedGradientError, match=r"path_and_boundary\(cost\) the path, and the boundary at x > 0"):
        tg.gradients(tg.where(x > 0, x, -x * x), mu)
    assert "path_and_boundary(" not in str(tg.explain(x * x, mu))


# -------------------------------------------------------------------------------------------------- several numbers


@pytest.mark.parametrize("d", [2, 10])
def test_the_sign_of_a_sum(d):
    n = 4000
    mu = tg.Tensor(np.zeros((n, d)), "mu")
    x = draw(tg.Normal(mu, 1.0))
    cost = tg.where(tg.sum(x, axis=1) > 0, 1.0, 0.0)
    found = estimates(cost, mu)
    assert_agrees(found, DENSITY_AT_0 / np.sqrt(d))
    scores = tg.gradients(tg.sum(tg.score_function(cost)), mu)
    assert np.all(10 * found.var(0) < scores.var(0))


def barrier(s0, sigma, n, dates, by="log", barrier=90.0, strike=100.0, rate=0.02):
    """Return the payoff of a call that ends where the price is at a date below the barrier: down and out."""
    dt, first = 1 / dates, np.eye(1, dates)
    s0, sigma = tg.expand_dims(s0, axis=1), tg.expand_dims(sigma, axis=1)
    steps = tg.Normal((rate - sigma**2 / 2) * dt * np.ones(dates) + tg.log(s0) * first, sigma * np.sqrt(dt))
    prices = tg.cumulative_sum(steps.sample(rng=tg.noise(8), name="steps"), axis=1)
    alive = prices > np.log(barrier) if by == "log" else tg.exp(prices) > barrier
    return np.exp(-rate) * tg.prod(tg.where(alive, 1.0, 0.0), axis=1) * tg.relu(tg.exp(prices[:, -1]) - strike)


@pytest.mark.parametrize(("by", "dates"), [("log", 12), ("price", 2)])
def test_an_option_that_ends_at_a_barrier(by, dates):
    n = 4000
    s0, sigma = tg.Tensor(np.full(n, 100.0), "s0"), tg.Tensor(np.full(n, 0.2), "sigma")
    cost = barrier(s0, sigma, n, dates, by)
    delta, vega = estimates(cost, [s0, sigma])
    for found, truth in zip((delta, vega), {12: (0.66881, 25.996), 2: (0.59383, 35.943)}[dates], strict=True):
        assert_agrees(found, truth)
