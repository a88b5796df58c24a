"""One expectation, two gradients: the score function and the reparameterization trick against their closed forms.

x = mu + s e with e ~ N(0, 1). Every draw has parameters of its own, so that one gradient holds the estimates of all
draws; their mean is compared with the gradient of the expectation, and their spread with the variance in closed form.
"""

import math

import numpy as np
import pytest
import scipy.optimize
from standard_errors import assert_agrees, assert_variance_agrees

import tinygrad_vae as tg

DRAWS = 100_000
MU, S, K = 1.3, 0.7, 0.4


def estimates(f, rewrite, mu=MU, s=S):
    """Return single-draw estimates of the derivatives of ``E f(x)`` in mu and in s."""
    parameters = [tg.Tensor(np.full(DRAWS, value), name) for value, name in ((mu, "mu"), (s, "s"))]
    x = tg.Normal(*parameters).sample(rng=tg.noise(0))
    return tg.gradients(tg.sum(rewrite(f(x))), parameters)


def scored(baseline=None):
    return lambda cost: tg.score_function(cost, baseline)


def test_the_example_of_the_question():
    """E x^2 at theta = 2, s = 1: both estimate 4, with a variance of 87 and of 4."""
    for rewrite, variance in ((tg.score_function, 87), (tg.reparameterize, 4)):
        found, _ = estimates(lambda x: x * x, rewrite, 2.0, 1.0)
        assert_agrees(found, 4)
        assert_variance_agrees(found, variance)


# ------------------------------------------------------------------------------------------ (x - k)^2

D = MU - K
SQUARE = {
    "score function": (scored(), D**4 / S**2 + 14 * D**2 + 15 * S**2, 2 * D**4 / S**2 + 60 * D**2 + 74 * S**2),
    "with the mean as baseline": (scored(D**2 + S**2), 8 * D**2 + 10 * S**2, None),
    "with the best baseline": (scored(D**2 + 3 * S**2), 8 * D**2 + 6 * S**2, None),
    "pathwise": (tg.reparameterize, 4 * S**2, 4 * D**2 + 8 * S**2),
}


@pytest.mark.parametrize("name", SQUARE)
def test_a_parabola(name):
    rewrite, *variances = SQUARE[name]
    for found, gradient, variance in zip(
        estimates(lambda x: (x - K) ** 2, rewrite), (2 * D, 2 * S), variances, strict=True
    ):
        assert_agrees(found, gradient)
        if variance is not None:
            assert_variance_agrees(found, variance)


@pytest.mark.parametrize(("rewrite", "variance"), [(tg.score_function, 8 * D**2), (tg.reparameterize, 0)])
def test_a_parabola_with_antithetic_pairs(rewrite, variance):
    mu = tg.Tensor(np.full(DRAWS, MU), "mu")
    x = tg.Normal(mu, S).sample(rng=tg.noise(0))
    cost = (x - K) ** 2
    twin = tg.replay(cost, {x.noise: x.noise.mirrored()})
    found = tg.gradients(tg.sum(0.5 * (rewrite(cost) + rewrite(twin))), mu)
    assert_agrees(found, 2 * D)
    assert_variance_agrees(found, variance)


# ------------------------------------------------------------------------------------------ cos(k x)


def cosine_moments(k, mu, s):
    """Return the second moments of the estimates in mu and in s, of the score function and of the path."""
    c, t = math.cos(2 * k * mu) * math.exp(-2 * k**2 * s**2), 2 * k * s
    score = (1 + (1 - t**2) * c) / (2 * s**2), (2 + (2 - 4 * t**2 + t**4) * c) / (2 * s**2)
    path = (k**2 / 2) * (1 - c), (k**2 / 2) * (1 - (1 - t**2) * c)
    return score, path


@pytest.mark.parametrize("k", [0.5, 1.0638, 1.2973, 4.0])
@pytest.mark.parametrize("which", [0, 1], ids=["score function", "pathwise"])
def test_a_cosine(which, k):
    found = estimates(lambda x: tg.cos(k * x), (tg.score_function, tg.reparameterize)[which])
    damping = math.exp(-(k**2) * S**2 / 2)
    truth = (-k * math.sin(k * MU) * damping, -(k**2) * S * math.cos(k * MU) * damping)
    for draws, gradient, moment in zip(found, truth, cosine_moments(k, MU, S)[which], strict=True):
        assert_agrees(draws, gradient)
        assert_agrees(draws**2, moment)


def test_from_some_frequency_on_the_score_function_wins():
    for parameter, crossover in ((0, 1.0638), (1, 1.2973)):

        def advantage(k, parameter=parameter):
            score, path = cosine_moments(k, 1.0, 1.0)
            return score[parameter] - path[parameter]

        assert scipy.optimize.brentq(advantage, 0.9, 1.5) == pytest.approx(crossover, abs=5e-5)
    for k, winner in ((0.8, tg.reparameterize), (2.0, tg.score_function)):
        spread = {
            rewrite: estimates(lambda x, k=k: tg.cos(k * x), rewrite, 1.0, 1.0)[0].var()
            for rewrite in (tg.reparameterize, tg.score_function)
        }
        assert min(spread, key=spread.get) is winner


# ---------------------------------------------------------------------------------------- exp(-k x^2)


@pytest.mark.parametrize("k", [0.3, 2.0])
def test_a_bell(k):
    one, two = 1 + 2 * k * S**2, 1 + 4 * k * S**2
    expectation = one**-0.5 * math.exp(-k * MU**2 / one)
    truth = (
        -2 * k * MU * expectation / one,
        expectation * (-2 * k * S / one + 4 * k**2 * MU**2 * S / one**2),
    )
    z, m, v = two**-0.5 * math.exp(-2 * k * MU**2 / two), MU / two, S**2 / two
    moments = {
        tg.score_function: z * (16 * k**2 * MU**2 / two**2 + 1 / (S**2 * two)),
        tg.reparameterize: 4 * k**2 * z * (m**2 + v),
    }
    for rewrite, moment in moments.items():
        found = estimates(lambda x: tg.exp(-k * x * x), rewrite)
        for draws, gradient in zip(found, truth, strict=True):
            assert_agrees(draws, gradient)
        assert_agrees(found[0] ** 2, moment)


# -------------------------------------------------------------------------------- |x|^a, and exp(k x)


@pytest.mark.parametrize(
    ("mu", "gradient", "variance"), [(0.0, 0, 1.2333), (0.5, 0.10264, 1.2009), (1.0, 0.16687, 1.1551)]
)
def test_a_root_has_a_score_function_of_finite_variance_where_the_path_has_none(mu, gradient, variance):
    """E |x|^(1/4): the variance of the path is infinite, so that it grows with the number of draws."""
    score, path = (
        estimates(lambda x: tg.abs(x) ** 0.25, r, mu, 1.0)[0] for r in (tg.score_function, tg.reparameterize)
    )
    assert_agrees(score, gradient, rounding=1e-5)
    assert_variance_agrees(score, variance)
    assert np.var(path) > 3 * np.median([np.var(part) for part in np.split(path, 1000)])


def test_rare_draws_leave_the_path_an_advantage_of_a_factor_of_four():
    """E exp(k x) at mu = 0, s = 1: second moments (1 + 4 k^2) exp(2 k^2) and k^2 exp(2 k^2)."""
    for k in (0.25, 0.75):
        moments = {tg.score_function: (1 + 4 * k**2) * math.exp(2 * k**2), tg.reparameterize: k**2 * math.exp(2 * k**2)}
        for rewrite, moment in moments.items():
            found, _ = estimates(lambda x, k=k: tg.exp(k * x), rewrite, 0.0, 1.0)
            assert_agrees(found, k * math.exp(k**2 / 2))
            assert_agrees(found**2, moment)


@pytest.mark.parametrize("delta", [0.3, 0.8])
def test_an_importance_ratio_has_the_variance_of_a_chi_squared_divergence(delta):
    """N(delta, I) / N(0, I) in two dimensions: exp(|delta|^2) - 1."""
    p, q = (tg.Independent(tg.Normal(np.full(2, loc), 1.0), 1) for loc in (delta, 0.0))
    x = q.sample((DRAWS,), rng=tg.noise(0))
    ratio = np.exp(p.log_prob(x) - q.log_prob(x))
    assert_agrees(ratio, 1)
    assert_variance_agrees(ratio, math.exp(2 * delta**2) - 1)


# ---------------------------------------------------------------------------------- over dimensions


@pytest.mark.parametrize("n", [1, 4, 12])
def test_the_score_function_pays_for_every_dimension_and_the_path_for_none(n):
    """The variance of the gradient of one mean, of the sum of x_i^2 at mu = 0, s = 1."""
    mu = tg.Tensor(np.zeros((DRAWS // 4, n)), "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(n))
    together, apart = tg.sum(x * x, axis=1), x * x
    table = {
        "score function": (tg.score_function(together), (n + 2) * (n + 4)),
        "best baseline": (tg.score_function(together, n + 2.0), 2 * (n + 2)),
        "only its own cost": (tg.score_function(apart), 15),
        "both": (tg.score_function(apart, 3.0), 6),
        "pathwise": (tg.reparameterize(together), 4),
    }
    for cost, variance in table.values():
        found = tg.gradients(tg.sum(cost), mu)[:, 0]
        assert_agrees(found, 0)
        assert_variance_agrees(found, variance)


# --------------------------------------------------------------------------------------- no density


@pytest.mark.parametrize("t", [0.45, 0.9])
def test_a_toss_has_no_path_and_one_baseline_makes_its_score_function_exact(t):
    """(b - t)^2 with b ~ Bernoulli(p): the gradient 1 - 2 t, and its variance with and without a baseline."""
    p, truth = 0.3, 1 - 2 * t
    spread = (1 - t) ** 4 / p + t**4 / (1 - p) - truth**2
    exact = (1 - p) * (1 - t) ** 2 + p * t**2
    for baseline, variance in ((None, spread), (exact, 0)):
        probs = tg.Tensor(np.full(DRAWS, p), "p")
        b = tg.Bernoulli(probs=probs).sample(rng=tg.noise(0))
        with pytest.raises(tg.BlockedGradientError):
            tg.gradients(tg.sum(tg.reparameterize((b - t) ** 2)), probs)
        found = tg.gradients(tg.sum(tg.score_function((b - t) ** 2, baseline)), probs)
        assert_agrees(found, truth)
        assert_variance_agrees(found, variance)
