"""Stochastic triples: exact sums, variances of theory, random walks, and programs that are hard on an estimator."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
from standard_errors import assert_agrees

import tinygrad_vae as tg

DRAWS = 20_000
P = scipy.special.expit(-0.4)
COUNTS = {
    "Bernoulli": (lambda l: tg.Bernoulli(logits=l), scipy.stats.bernoulli(P), 1e-20),
    "Binomial": (lambda l: tg.Binomial(5, logits=l), scipy.stats.binom(5, P), 2.0),
    "Geometric": (lambda l: tg.Geometric(logits=l), scipy.stats.geom(P, loc=-1), 450.0),
    "NegativeBinomial": (lambda l: tg.NegativeBinomial(successes=2.5, logits=l), scipy.stats.nbinom(2.5, P), 4000.0),
}
BOTH = pytest.mark.parametrize("estimator", [lambda: tg.Triples(), lambda: tg.PrunedTriples(tg.noise(7))])


def copies(x):
    """Return a Tensor with a copy of x for each draw."""
    return tg.Tensor(np.broadcast_to(x, (DRAWS, *np.shape(x))).copy(), "theta")


@BOTH
@pytest.mark.parametrize("name", COUNTS)
def test_a_quadratic_has_the_gradient_of_its_exact_sum_and_little_variance(name, estimator):
    family, exact, variance = COUNTS[name]
    logits, k = copies(-0.4), np.arange(400)
    slope = {  # of log p(k) in the logit
        "Bernoulli": k - P,
        "Binomial": k - 5 * P,
        "Geometric": (1 - P) - k * P,
        "NegativeBinomial": 2.5 * (1 - P) - k * P,
    }[name]
    z = family(logits).sample(rng=tg.noise(0))
    found = tg.gradients(tg.sum(estimator()((z - 0.45) ** 2)), logits)
    assert_agrees(found, np.sum(exact.pmf(k) * slope * (k - 0.45) ** 2))
    assert found.var() <= variance


@BOTH
def test_the_square_of_a_poisson_draw_has_variance_12(estimator):
    """One event more: (z + 1)^2 - z^2 = 2 z + 1, of mean 7 and variance 4 times 3."""
    rate = copies(3.0)
    z = tg.Poisson(rate).sample(rng=tg.noise(0))
    np.testing.assert_allclose(tg.gradients(tg.sum(estimator()(z**2)), rate), 2 * z.value + 1, rtol=1e-12)


@BOTH
@pytest.mark.parametrize("classes", [1, 2, 5, 300])
def test_a_choice_between_two_has_no_variance_and_among_many_less_than_a_score_function(classes, estimator):
    logits, worth = np.linspace(-1.0, 1.0, classes) ** 2, np.arange(classes) ** 1.5
    p = scipy.special.softmax(logits)
    truth = p * (worth - p @ worth)
    found = {}
    for family in (tg.Categorical, tg.OneHotCategorical):
        l = copies(logits) if classes < 100 else tg.Tensor(np.broadcast_to(logits, (2000, classes)).copy())
        z = family(logits=l).sample(rng=tg.noise(0))
        cost = tg.take(worth, z, axis=0) if family is tg.Categorical else tg.sum(z * worth, axis=-1)
        found[family] = tg.gradients(tg.sum(estimator()(cost)), l)
        score = tg.gradients(tg.sum(tg.score_function(cost)), l)
    np.testing.assert_array_equal(*found.values())
    along = np.arange(classes) / classes  # a direction that all classes take part in
    assert_agrees(found[tg.Categorical] @ along, truth @ along)
    variance = found[tg.Categorical].var(axis=0).sum()
    assert variance < 1e-20 if classes < 3 else variance < 0.6 * score.var(axis=0).sum()


def walk(p, n, rng):
    """Return the place after n steps, each to the right with probability exp(-x / p), else to the left."""
    x = np.zeros(p.shape)
    for _ in range(n):
        x = x + 2 * tg.Bernoulli(probs=tg.clip(tg.exp(-x / p), 1e-9, 1 - 1e-9)).sample(rng=rng) - 1
    return x


def slope_of_walk(p, n):
    """Return dE x^2 / dp by a sum over all places."""
    x, chances, slopes = np.arange(n + 2), np.eye(n + 2)[0], np.zeros(n + 2)
    for _ in range(n):
        right = np.exp(-x / p)
        moved = [chances * right, slopes * right + chances * right * x / p**2]
        stayed = [chances - moved[0], slopes - moved[1]]
        chances, slopes = (np.append(0, a[:-1]) + np.append(b[1:], 0) for a, b in zip(moved, stayed, strict=True))
    return float(slopes @ x**2)


def test_two_outcomes_of_a_walk_of_a_hundred_steps_give_its_gradient():
    """StochasticAD's example: a score function has a standard deviation of 93, and 21 with a baseline."""
    p = tg.Tensor(np.full(4000, 200.0), "p")
    found = tg.gradients(tg.sum(tg.PrunedTriples(tg.noise(9))(walk(p, 100, tg.noise(1)) ** 2)), p)
    truth = slope_of_walk(200.0, 100)
    assert truth == pytest.approx(15.1349, abs=1e-4)
    assert_agrees(found, truth)
    assert found.std() < 9


def test_a_change_of_every_draw_is_calmer_than_of_one():
    p = tg.Tensor(np.full(4000, 20.0), "p")
    cost = walk(p, 10, tg.noise(1)) ** 2
    every, one = (tg.gradients(tg.sum(e(cost)), p) for e in (tg.Triples(), tg.PrunedTriples(tg.noise(9))))
    assert_agrees(every, slope_of_walk(20.0, 10))
    assert_agrees(one, slope_of_walk(20.0, 10))
    assert every.std() < 0.9 * one.std()


@BOTH
@pytest.mark.parametrize("batch", [(), (3,)])
def test_draws_that_some_examples_share_are_changed_for_all_of_them(estimator, batch):
    """A toss for all examples, tosses for each, and a vector in each: the truth is the sum over all outcomes."""

    def cost(theta, opened):
        rng = tg.noise(3)
        shared = tg.Bernoulli(logits=theta[..., :1]).sample(rng=rng)
        own = tg.Bernoulli(logits=theta + shared).sample(rng=rng)
        parts = tg.Bernoulli(logits=tg.stack([theta, own - theta], axis=-1)).sample(rng=rng)
        return opened((own + tg.sum(parts * np.array([1.0, 2.0]), axis=-1) - 2 * shared) ** 2)

    at = np.linspace(-0.5, 0.7, batch[0]) if batch else np.array([0.3])
    theta, exact = copies(at), tg.Tensor(at)
    found = tg.gradients(tg.sum(cost(theta, estimator())), theta)
    assert_agrees(found, tg.gradients(tg.sum(cost(exact, tg.Enumeration())), exact))


@BOTH
def test_a_probability_of_0_or_1_has_a_gradient(estimator):
    """``f(1) - f(0)``, which a draw that always comes out the same tells nothing of."""
    p = tg.Tensor(np.array([0.0, 0.3, 1.0]), "p")
    toss, count = (dist.sample(rng=tg.noise(0)) for dist in (tg.Bernoulli(probs=p), tg.Binomial(5, probs=p)))
    np.testing.assert_allclose(tg.gradients(tg.sum(estimator()((toss - 0.45) ** 2)), p), 0.1)
    np.testing.assert_allclose(tg.gradients(tg.sum(estimator()(2 * count)), p)[[0, 2]], 10.0)
    one, none = tg.Tensor(np.ones(3), "p"), tg.Tensor(np.zeros(3), "rate")
    np.testing.assert_allclose(
        tg.gradients(tg.sum(estimator()(3 * tg.Geometric(probs=one).sample(rng=tg.noise(0)))), one), -3
    )
    np.testing.assert_allclose(tg.gradients(tg.sum(estimator()(3 * tg.Poisson(none).sample(rng=tg.noise(0)))), none), 3)


def test_of_many_draws_that_never_came_one_is_chosen_all_the_same():
    p = copies(np.array([0.0, 0.0, 1.0]))
    cost = tg.sum(tg.Bernoulli(probs=p).sample(rng=tg.noise(0)) * np.array([1.0, 2.0, 3.0]), axis=-1) ** 2
    found = tg.gradients(tg.sum(tg.PrunedTriples(tg.noise(1))(cost)), p)
    assert_agrees(found, np.array([16 - 9, 25 - 9, 9.0]))


@BOTH
def test_a_class_of_probability_0_is_never_the_other_one(estimator):
    logits = copies(np.array([0.3, -np.inf, 0.0]))
    z = tg.Categorical(logits=logits).sample(rng=tg.noise(0))
    p = scipy.special.expit(0.3)
    found = tg.gradients(tg.sum(estimator()(tg.where(z == 1, 1e9, tg.astype(z, float)))), logits)
    np.testing.assert_allclose(found, np.broadcast_to(2 * p * (1 - p) * np.array([-1.0, 0.0, 1.0]), found.shape))
    alone = tg.Tensor(np.array([0.0, -np.inf]), "alone")
    cost = tg.astype(tg.Categorical(logits=alone).sample((3,), rng=tg.noise(0)), float)
    np.testing.assert_array_equal(tg.gradients(tg.sum(estimator()(cost)), alone), 0)


@BOTH
@pytest.mark.parametrize("family", [*(family for family, *_ in COUNTS.values()), lambda l: tg.Poisson(tg.exp(l))])
def test_float32_stays_float32_and_the_value_bit_for_bit(family, estimator):
    l = tg.Tensor(np.linspace(-0.5, 0.5, 6, dtype=np.float32).reshape(2, 3), "l")
    rng = tg.noise(0)
    first = family(l).sample((4,), rng=rng)
    cost = tg.sum((family(l - 0.1 * first).sample(rng=rng) - first) ** 2, axis=-1)
    new = estimator()(cost)
    assert new.value.tobytes() == cost.value.tobytes()
    assert tg.gradients(tg.sum(new), l).dtype == np.float32
    assert tg.explain(tg.sum(new), l).unbiased


def test_the_other_parameter_of_a_negative_binomial_has_a_gradient_and_that_of_a_binomial_is_refused():
    total = copies(2.5)
    z = tg.NegativeBinomial(successes=total, logits=0.2).sample(rng=tg.noise(0))
    exact = tg.Tensor(2.5)
    d = tg.NegativeBinomial(successes=exact, logits=0.2)
    assert_agrees(tg.gradients(tg.sum(tg.Triples()(z**2)), total), tg.gradients(d.mean**2 + d.variance, exact))
    n, logit = tg.Tensor(5.0, "n"), tg.Tensor(0.3, "logit")
    cost = tg.Triples()(tg.Binomial(n, logits=logit).sample(rng=tg.noise(0)) ** 2)
    tg.gradients(cost, logit)
    with pytest.raises(tg.InvalidGradientError, match="triples: the support of Binomial moves with total"):
        tg.gradients(cost, n)


def test_draws_in_a_plan_choose_anew():
    def step(l, rng):
        def cost(l):
            b = tg.Bernoulli(logits=l).sample(rng=rng.at("b"))
            k = tg.Poisson(tg.exp(l + b)).sample(rng=rng.at("k"))
            return tg.mean(tg.PrunedTriples(rng.at("choice"))(tg.sum((k - b) ** 2, axis=1)))

        return tg.value_and_grad(cost)(l)

    run, l = tg.plan(step), np.random.default_rng(0).normal(size=(6, 3))
    for seed in range(4):
        for found, expected in zip(run(l + seed, tg.noise(seed)), step(l + seed, tg.noise(seed)), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_triples_are_offered_where_they_are_valid_and_nowhere_else():
    l = tg.Tensor(np.zeros(3), "l")
    b = tg.Bernoulli(logits=l).sample(rng=tg.noise(0), name="b")
    x = tg.Normal(l + b, 1.0).sample(rng=tg.noise(1), name="x")
    valid = [{o.call for o in node.options if o.valid} for node in tg.explain(tg.sum((x + b) ** 2), l).nodes]
    assert [{"triples", "pruned-triples"} & calls for calls in valid] == [{"triples", "pruned-triples"}, set()]
    with pytest.raises(tg.InvalidGradientError, match="no other value beside a draw of Normal is declared"):
        tg.Triples()(x)
    many = tg.Bernoulli(logits=tg.Tensor(np.zeros(5000))).sample(rng=tg.noise(0))
    with pytest.raises(tg.InvalidGradientError, match=r"the cost mixes 5000 elements.*pruned-triples takes one"):
        tg.Triples()(tg.sum(many))
    tg.PrunedTriples(tg.noise(1))(tg.sum(many))


def test_auto_takes_the_estimator_without_variance():
    l = tg.Tensor(np.full(4, 0.3), "l")
    b = tg.Binomial(np.array([2.0, 3.0, 4.0, 5.0]), logits=l).sample(rng=tg.noise(0), name="k")
    report = tg.explain(tg.sum(tg.estimate(3 * b, default="auto")), l)
    assert report.nodes[0].estimator == "triples"
