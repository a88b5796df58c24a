"""What a graph shows less plainly: baselines made of values, choices and products that share noise, swapped noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from standard_errors import assert_agrees

import tinygrad_vae as tg
from tinygrad_vae.core import Noise, topological_order

NUMBERS = arrays(np.float64, (4, 3), elements=st.floats(-2, 2, width=32), unique=True)
SUMMARIES = [np.mean, np.sum, np.median, np.max, np.min]


def cost_of(numbers, power=2):
    """Return a cost of a draw whose noise is given."""
    mu = tg.Tensor(np.full(numbers.shape, 0.37), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    z = tg.replay(z, {z.noise: numbers})
    return mu, tg.exp(0.1 * z) + z**power


@given(NUMBERS, st.sampled_from(SUMMARIES), st.sampled_from([None, 0, 1]))
def test_a_summary_of_the_own_cost_is_no_baseline(numbers, summary, axis):
    _, cost = cost_of(numbers)
    baseline = summary(cost.value, axis=axis, keepdims=axis is not None)
    numbers = np.concatenate([cost.value.ravel(), np.ravel(baseline)])
    if np.unique(cost.value).size < cost.size or np.any(numbers * 64 == np.round(numbers * 64)):
        return  # may be so by chance
    for given_as in (baseline, tg.Tensor(baseline), float(baseline) if axis is None else baseline):
        with pytest.raises(ValueError, match="the baseline depends on z"):
            tg.score_function(cost, given_as)


@given(NUMBERS, st.floats(-5, 5))
def test_other_numbers_are_baselines(numbers, constant):
    _, cost = cost_of(numbers)
    tg.score_function(cost, constant)
    tg.score_function(cost, np.mean(cost_of(numbers + 0.25)[1].value))


def test_rewards_of_few_values_may_equal_a_baseline_by_chance():
    p = tg.Tensor(np.full(4, 0.4), "p")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    for cost in (b, (b - 0.3) ** 2):
        tg.score_function(cost, float(np.mean(cost.value)))


CHOICES = {
    "take": lambda cost, z: tg.take(cost, tg.astype(tg.stop_gradient(z[0]) > 0.3, np.int64)),
    "argmax": lambda cost, z: cost[tg.argmax(tg.stop_gradient(z))],
    "mask": lambda cost, z: tg.mean(cost[tg.stop_gradient(z) > -100.0]),
    "where": lambda cost, z: tg.where(tg.stop_gradient(z) > 0.3, cost, 0.0),
    "put": lambda cost, z: tg.take_along_axis(cost, tg.argsort(tg.stop_gradient(z)), axis=0)[0],
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_weighed_cost_is_not_picked_by_its_own_draw(name):
    mu = tg.Tensor(np.array([0.1, 0.5, 0.9]), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    picked = tg.sum(CHOICES[name](tg.score_function(z * z), z))
    with pytest.raises(tg.InvalidGradientError, match="uses a cost that an estimator has weighed"):
        tg.gradients(picked, mu)
    other = tg.Normal(0.0 * tg.Tensor(np.zeros(3)), 1.0).sample(rng=tg.noise(1), name="other")
    assert np.isfinite(tg.gradients(tg.sum(CHOICES[name](tg.score_function(z * z), other)), mu)).all()
    inside = tg.score_function(tg.sum(CHOICES[name](z * z, z)))  # the estimator last
    assert np.isfinite(tg.gradients(inside, mu)).all()


def test_a_part_that_was_enumerated_is_no_factor_of_one_that_was_weighed():
    p = tg.Tensor(0.3, "p")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    exact, weighed = tg.estimate(1 + 2 * b, {"b": "enumeration"}), tg.score_function(1 + b)
    with pytest.raises(tg.InvalidGradientError, match="multiply uses a cost that an estimator has weighed"):
        tg.gradients(exact * weighed, p)
    tg.gradients(exact + weighed, p)
    other = tg.Bernoulli(probs=p).sample(rng=tg.noise(1), name="other")
    tg.gradients(exact * tg.score_function(1 + other), p)


def test_a_tensor_in_the_place_of_noise_is_random_all_the_same():
    mu = tg.Tensor(0.2, "mu")
    z = tg.Normal(mu, 1.0).rsample((5,), rng=tg.noise(0), name="z")
    for cost in (tg.where(z > 0, 1.0, 0.0), z / abs(z)):
        (noise,) = [x for x in topological_order([cost]) if isinstance(x, Noise)]
        with pytest.raises(tg.InvalidGradientError):
            tg.gradients(tg.mean(tg.replay(cost, {noise: tg.Tensor(noise.value)})), mu)


@given(st.integers(1, 4), st.integers(0, 3), st.sampled_from([tg.Normal, tg.Laplace]))
def test_antithetic_pairs_in_one_array_are_no_independent_draws(half, width, family):
    mu = tg.Tensor(np.full(width, 2.0) if width else 2.0, "mu")
    z = family(mu, 1.0).sample((2 * half,), rng=tg.noise(0), name="z")
    tg.estimate(z * z, default="leave-one-out")
    e = z.noise.value[:half]
    if width == 0 or e.size:
        paired = tg.replay(z * z, {z.noise: np.concatenate([e, z.noise.dist.mirror(e)])})
        with pytest.raises(tg.InvalidGradientError, match="not independent"):
            tg.estimate(paired, default="leave-one-out")
        with pytest.raises(tg.InvalidGradientError, match="not independent of each other"):
            tg.score_function(tg.mean(paired))
        tg.gradients(tg.mean(tg.score_function(paired)), mu)  # each weighed with its own


def test_a_kink_in_the_draw_itself_is_refused_or_split():
    z = tg.HalfNormal(tg.Tensor(1.0, "scale")).sample(rng=tg.noise(0), name="z")
    with pytest.raises(tg.InvalidGradientError, match="abs in the transform of HalfNormal has a kink"):
        tg.estimate(z * 1.0, {"z": tg.Quadrature(16)})
    mean = tg.estimate(z * 1.0, {"z": tg.Quadrature(32)})
    np.testing.assert_allclose([mean.value, tg.gradients(mean, z.inputs[1])], np.sqrt(2 / np.pi), rtol=1e-7)
    for family in (tg.LogNormal, tg.Exponential, tg.Gamma):
        d = tg.wrap(family.example(np.random.default_rng(0)))
        tg.estimate(d.sample(rng=tg.noise(0), name="z") * 1.0, {"z": tg.Quadrature(16)})


def test_a_divergence_between_numbers_and_counts_is_infinite():
    for p, q in ((tg.Bernoulli(probs=0.3), tg.Normal(0.0, 1.0)), (tg.Normal(0.0, 1.0), tg.Poisson(2.0))):
        for first, second in ((p, q), (q, p)):
            with pytest.raises(ValueError, match="infinite"):
                tg.monte_carlo_kl(first, second, rng=tg.noise(0), samples=10)


def test_a_mean_over_many_tosses_is_explained():
    logits = tg.Tensor(np.zeros(15_000), "logits")
    b = tg.Bernoulli(logits=logits).sample(rng=tg.noise(0), name="b")
    reasons = {option.call: option.reason for option in tg.explain(tg.mean(b), logits).nodes[0].options}
    assert "2^15000 copies" in reasons["enumeration"]


def test_the_advice_for_a_decision_gives_an_unbiased_gradient():
    """E of 3 or, with probability p, x^2 with x ~ N(mu, 1): d/dp = mu^2 + 1 - 3 and d/dmu = 2 p mu."""
    p, mu, found = tg.Tensor(0.4, "p"), tg.Tensor(1.5, "mu"), []
    for seed in range(1000):
        rng = tg.noise(seed)
        b, x = tg.Bernoulli(probs=p).sample(rng=rng, name="b"), tg.Normal(mu, 1.0).sample(rng=rng, name="x")
        cost = (x**2 if b.value else tg.Tensor(3.0)) + 0 * b
        found.append(tg.gradients(tg.score_function(cost), [p, mu]))
    for gradients, truth in zip(np.transpose(found), (1.5**2 + 1 - 3, 2 * 0.4 * 1.5), strict=True):
        assert_agrees(gradients, truth)
    for decide in (bool, int, float):
        with pytest.raises(TypeError, match=r"add 0 \* tensor to the cost and use score_function\(cost\)"):
            decide(b)
