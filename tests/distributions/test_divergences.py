"""Kullback-Leibler divergences: each closed form against draws, and what has none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standard_errors import assert_agrees, neighbours

import tinygrad_vae as tg
from tinygrad_vae.checks.ops import check_vjp
from tinygrad_vae.core import trees
from tinygrad_vae.distributions.divergences import CLOSED_FORMS

PAIRS = pytest.mark.parametrize("pair", list(CLOSED_FORMS), ids=lambda pair: f"{pair[0].__name__}-{pair[1].__name__}")
DRAWS = 20_000


@PAIRS
def test_the_closed_form_is_the_mean_over_draws(pair):
    p, q = neighbours(pair, shape=(3,))
    x = p.sample((DRAWS,), rng=tg.noise(1))
    assert_agrees(p.log_prob(x) - q.log_prob(x), tg.kl_divergence(p, q))


@PAIRS
def test_the_closed_form_is_the_integral(pair):
    p, q = neighbours(pair)
    if p.support.discrete or p.event_shape:
        return
    tail = 10.0 ** np.arange(-15, 0)
    kinks = [p.cdf(q.loc)] if pair[1] is tg.Laplace else []
    ends = np.unique(np.concatenate([tail, [0.25, 0.5, 0.75, *kinks], 1 - tail]))
    points, weights = np.polynomial.legendre.leggauss(40)
    half = 0.5 * np.diff(ends)[:, None]
    x = p.icdf(0.5 * (ends[1:] + ends[:-1])[:, None] + half * points)
    integral = np.sum(half * weights * (p.log_prob(x) - q.log_prob(x)))  # over the probabilities from 0 to 1
    np.testing.assert_allclose(tg.kl_divergence(p, q), integral, rtol=1e-8, atol=1e-9)


@PAIRS
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_it_is_positive_between_two_distributions_and_zero_from_a_distribution_to_itself(pair, seed):
    p, q = neighbours(pair, seed, (3,))
    assert (tg.kl_divergence(p, q) > 0).all()
    if pair[0] is pair[1]:
        np.testing.assert_allclose(tg.kl_divergence(p, p), np.zeros(3), atol=1e-12)


@PAIRS
def test_its_gradient_is_right_in_the_parameters_of_both(pair):
    p, q = neighbours(pair)
    both = [p, q]
    held = [path.endswith(("total", "successes")) for path, _ in trees.paths(both)]  # the formula is for equal ones
    leaves = trees.leaves(both)

    def divergence(*free):
        remaining = iter(free)
        chosen = [x if h else next(remaining) for x, h in zip(leaves, held, strict=True)]
        return tg.kl_divergence(*trees.replace_leaves(both, chosen))

    check_vjp(divergence, *(x for x, h in zip(leaves, held, strict=True) if not h))


@PAIRS
def test_the_estimate_is_the_mean_over_its_draws(pair):
    p, q = neighbours(pair)
    x = p.sample((7,), rng=tg.noise(3))
    estimate = tg.monte_carlo_kl(p, q, rng=tg.noise(3), samples=7)
    ratios = p.log_prob(x) - q.log_prob(x)
    np.testing.assert_allclose(estimate.value, ratios.mean(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(estimate.standard_error, ratios.std(0, ddof=1) / np.sqrt(7), rtol=1e-12, atol=1e-15)


def test_the_estimate_says_how_far_off_it_may_be():
    p, q = tg.Gamma(np.array([2.0, 5.0]), 1.5), tg.LogNormal(np.array([0.3, 1.0]), 0.8)
    estimate, error = tg.monte_carlo_kl(p, q, rng=tg.noise(0), samples=2000)
    others = np.array([tg.monte_carlo_kl(p, q, rng=tg.noise(s), samples=2000).value for s in range(1, 60)])
    np.testing.assert_allclose(error, others.std(0), rtol=0.4)
    assert np.all(np.abs(estimate - others.mean(0)) < 4.5 * error)
    assert str(tg.monte_carlo_kl(p, q, rng=tg.noise(0), samples=2000)).endswith(" (Monte Carlo)")
    assert np.isnan(tg.monte_carlo_kl(p, q, rng=tg.noise(0)).standard_error).all()
    with pytest.raises(ValueError, match="is infinite"):
        tg.monte_carlo_kl(q, tg.Beta(2.0, 2.0), rng=tg.noise(0), samples=100)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (tg.Beta(np.float32(0.3), np.float32(0.1)), tg.Beta(np.float32(1), np.float32(1))),
        (tg.Gamma(np.float32(0.01), np.float32(1)), tg.Gamma(np.float32(1), np.float32(1))),
        (tg.Dirichlet(np.full(3, 0.01, np.float32)), tg.Dirichlet(np.ones(3, np.float32))),
    ],
    ids=lambda dist: type(dist).__name__,
)
def test_the_mean_over_draws_that_were_rounded_to_an_edge_is_refused(p, q):
    with pytest.raises(ValueError, match=r"of \d+ draws of \w+ are as close to the edge .* float32 can tell.*kl_diver"):
        tg.monte_carlo_kl(p, q, rng=tg.noise(0), samples=5000)
    assert np.isfinite(tg.kl_divergence(p, q))


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (tg.Uniform(0.0, 2.0), tg.Uniform(0.0, 1.0)),
        (tg.Uniform(-1.0, 0.5), tg.Uniform(0.0, 1.0)),
        (tg.Uniform(-1.0, 0.5), tg.Exponential(1.0)),
        (tg.Uniform(0.5, 1.5), tg.Beta(2.0, 3.0)),
        (tg.Beta(2.0, 3.0), tg.Uniform(0.0, 0.5)),
        (tg.Pareto(concentration=2.0, scale=1.0), tg.Pareto(concentration=2.0, scale=1.5)),
        (tg.TruncatedNormal(0.0, 1.0, -1.0, 2.0), tg.TruncatedNormal(0.0, 1.0, -1.0, 1.0)),
        (tg.TruncatedNormal(0.0, 1.0, -math.inf, 2.0), tg.Exponential(1.0)),
        (tg.Bernoulli(probs=0.5), tg.Bernoulli(probs=0.0)),
        (tg.Bernoulli(probs=0.5), tg.Bernoulli(probs=1.0)),
        (tg.Categorical(probs=np.array([0.5, 0.5])), tg.Categorical(probs=np.array([1.0, 0.0]))),
    ],
)
def test_it_is_infinite_where_q_excludes_what_p_draws(p, q):
    assert tg.kl_divergence(p, q) == math.inf


@pytest.mark.parametrize("logit", [-math.inf, math.inf])
def test_certain_distributions_have_finite_divergences(logit):
    certain = tg.Bernoulli(logits=logit)
    assert tg.kl_divergence(certain, certain) == 0
    assert tg.kl_divergence(certain, tg.Bernoulli(probs=0.5)) == pytest.approx(math.log(2))
    class_0 = tg.Categorical(logits=np.array([0.0, -math.inf]))
    assert tg.kl_divergence(class_0, class_0) == 0
    assert tg.kl_divergence(class_0, tg.Categorical(probs=np.array([0.5, 0.5]))) == pytest.approx(math.log(2))


def test_without_a_closed_form_the_estimate_is_offered_and_works():
    p, q = tg.Normal(0.0, 1.0), tg.Logistic(0.5, 1.0)
    with pytest.raises(
        NotImplementedError, match=r"KL\(Normal \|\| Logistic\) has no closed form.*monte_carlo_kl\(p, q"
    ):
        tg.kl_divergence(p, q)
    x = np.linspace(-12, 12, 20_001)
    truth = np.trapezoid(np.exp(p.log_prob(x)) * (p.log_prob(x) - q.log_prob(x)), x)
    assert_agrees([tg.monte_carlo_kl(p, q, rng=tg.noise(s)).value for s in range(2000)], truth)


@pytest.mark.parametrize(
    ("p", "q", "reason"),
    [
        (tg.Binomial(3, probs=0.5), tg.Binomial(4, probs=0.5), "unless total is equal in both"),
        (
            tg.MultivariateNormal(np.zeros(2), np.eye(2)),
            tg.Independent(tg.Laplace(np.zeros(2)), 1),
            "unless the independent elements are normal",
        ),
        (
            tg.Transformed(tg.Normal(), tg.bijections.Exp()),
            tg.Transformed(tg.Normal(), tg.bijections.Tanh()),
            "unless both are made with the same bijections",
        ),
    ],
)
def test_a_pair_with_a_closed_form_in_some_cases_says_in_which(p, q, reason):
    with pytest.raises(NotImplementedError, match=rf"{reason}.*monte_carlo_kl"):
        tg.kl_divergence(p, q)


def test_two_bijections_of_equal_numbers_are_not_the_same_where_one_of_them_may_move():
    """Of N(t + m, 1) and N(1, 1) the divergence moves with t as it does with m, also where t is 0 by chance."""
    shift, m = tg.Tensor(np.zeros(3), "shift"), tg.Tensor(np.zeros(3), "m")

    def dist(loc, by):
        return tg.Transformed(tg.Normal(loc, 1.0), tg.bijections.Affine(by, 1.0))

    for by in (np.zeros(3), tg.Tensor(np.zeros(3), "other")):
        with pytest.raises(NotImplementedError, match="same bijections, of the same Tensors or numbers"):
            tg.kl_divergence(dist(m, shift), dist(1.0, by))
    draws = tg.monte_carlo_kl(dist(m, shift), dist(1.0, np.zeros(3)), rng=tg.noise(0)).value
    np.testing.assert_allclose(tg.gradients(tg.sum(draws), shift), tg.gradients(tg.sum(draws), m))
    same = tg.gradients(tg.sum(tg.kl_divergence(dist(m, shift), dist(1.0, shift))), [shift, m])
    np.testing.assert_array_equal(same, [np.zeros(3), -np.ones(3)])


def test_only_the_distributions_that_are_not_nested_have_an_infinite_divergence():
    p = tg.Uniform(np.array([-1.0, 0.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(tg.kl_divergence(p, tg.Exponential(1.0)), [math.inf, 0.25 - math.log(0.5)])


@pytest.mark.parametrize("family", [tg.Bernoulli, tg.Categorical])
def test_draws_of_a_discrete_distribution_are_blocked_until_score_function_opens_them(family):
    rng = np.random.default_rng(0)
    logits, q = tg.Tensor(rng.normal(size=3), "logits"), family(logits=rng.normal(size=3))
    closed = tg.gradients(tg.sum(tg.kl_divergence(family(logits=logits), q)), logits)
    estimates = []
    for seed in range(500):
        estimate = tg.sum(tg.monte_carlo_kl(family(logits=logits), q, rng=tg.noise(seed), samples=10).value)
        with pytest.raises(tg.BlockedGradientError):
            tg.gradients(estimate, logits)
        estimates.append(tg.gradients(tg.score_function(estimate), logits))
    assert_agrees(estimates, closed)


def test_the_reparameterized_estimate_has_the_gradient_of_the_closed_form():
    p, q = tg.wrap([tg.Normal(0.5, 1.5), tg.Normal(0.0, 1.0)])
    parameters = trees.leaves([p, q])
    closed = tg.gradients(tg.kl_divergence(p, q), parameters)
    estimates = [tg.gradients(tg.monte_carlo_kl(p, q, rng=tg.noise(s)).value, parameters) for s in range(2000)]
    assert_agrees(estimates, closed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tg.kl_divergence(tg.Normal(), 0.0), "takes two distributions, found the float 0.0"),
        (
            lambda: tg.monte_carlo_kl(
                tg.Independent(tg.Normal(np.zeros(2)), 1), tg.Normal(np.zeros(2)), rng=tg.noise(0)
            ),
            r"one draw of p has shape \(2,\), one of q \(\); make batch axes event axes with Independent",
        ),
        (
            lambda: tg.kl_divergence(*(tg.Categorical(logits=np.zeros(k)) for k in (1, 3))),
            "among 1 and among 3 classes",
        ),
        (lambda: tg.monte_carlo_kl(tg.Normal(), tg.Normal(), rng=tg.noise(0), samples=0), "at least 1, found 0"),
        (
            lambda: tg.monte_carlo_kl(tg.Normal(), tg.LogNormal(), rng=tg.noise(0), samples=50),
            "is infinite; a draw of p must be positive, found -",
        ),
    ],
)
def test_a_pair_that_makes_no_sense_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize(
    "kind", [lambda r, **of: tg.NegativeBinomial(successes=r, **of), tg.Binomial], ids=["NegativeBinomial", "Binomial"]
)
def test_totals_that_are_two_parameters_have_no_gradient_in_a_closed_form(kind):
    r, same, logits = tg.Tensor(3.0, "r"), tg.Tensor(3.0, "same"), tg.Tensor(0.5, "logits")
    p, q = kind(r, logits=logits), kind(same, logits=-1.0)
    for a, b in ((p, q), (p, kind(3.0, logits=-1.0)), (kind(3.0, logits=-1.0), p)):
        divergence = tg.kl_divergence(a, b)
        with pytest.raises(tg.InvalidGradientError, match="give both one Tensor for it"):
            tg.gradients(divergence, [r])
        expected = tg.kl_divergence(*(kind(3.0, logits=tg.values(x.logits)) for x in (a, b)))
        assert divergence.value == pytest.approx(float(expected), rel=1e-12)
        assert tg.gradients(divergence, [logits])[0] != 0
    together = tg.kl_divergence(p, kind(r, logits=-1.0))
    np.testing.assert_allclose(tg.gradients(together, r), together.value / 3.0)
