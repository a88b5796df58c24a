"""Draws after each other: what they cost grows with their number, or its square, and never like a power of two."""

import inspect
import sys
import time

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.core import topological_order
from tinygrad_vae.estimators.estimator import Rest
from tinygrad_vae.guard.paths import live_samples

DISCRETE = {
    "coins": lambda at: tg.Bernoulli(logits=at).sample,
    "choices": lambda at: tg.OneHotCategorical(logits=at * np.arange(3.0)).sample,
    "counts": lambda at: tg.Poisson(tg.exp(at)).sample,
}
TRIPLES = ["triples", "pruned-triples"]
FITTING = {
    "coins": ["arm", "disarm", "second-draw", "rebar", "relax", "straight-through", "gumbel-softmax", *TRIPLES],
    "choices": ["arsm", "rebar", "second-draw", *TRIPLES],
    "counts": ["measure-valued", "second-draw", *TRIPLES],
}
CHAINS = [(kind, name) for kind, names in FITTING.items() for name in names]


def discrete(kind, n):
    """Return the square of a sum of n draws, each of which decides on the distribution of the next."""
    theta, rng, state = tg.Tensor(0.3, "theta"), tg.noise(0), 0.0
    for _ in range(n):
        state = state + tg.sum(
            DISCRETE[kind](theta - 0.1 * state)(rng=rng) * (np.arange(3.0) if kind == "choices" else 1)
        )
    return state**2, theta


def walk(n, every_step=False):
    """Return a cost of a state of three numbers that n normal draws have moved, and its parameter."""
    a, rng, state, total = tg.Tensor(np.full(3, 0.9), "a"), tg.noise(0), 1.0, 0.0
    for _ in range(n):
        state = tg.Normal(a * state, 0.1).sample(rng=rng)
        total = total + state**2 if every_step else state**2
    return total, a


def growth(run, small, large):
    """Return how many times longer the larger program takes, by the best of three on this processor."""
    times = []
    for n in (small, large):
        found = []
        for _ in range(3):
            program = walk(n, every_step=True)
            start = time.process_time()
            run(*program)
            found.append(time.process_time() - start)
        times.append(min(found))
    return times[1] / times[0]


@pytest.mark.parametrize(("kind", "name"), CHAINS)
def test_the_graph_of_an_estimator_grows_with_the_square_of_the_number_of_draws(kind, name):
    sizes = [len(topological_order([tg.ESTIMATORS[name].example(tg.noise(1))(discrete(kind, n)[0])])) for n in (6, 12)]
    assert sizes[1] < 6 * sizes[0]


@pytest.mark.parametrize(
    ("kind", "name"), [pair for pair in CHAINS if pair[1] in ("arm", "disarm", "arsm", "second-draw", "measure-valued")]
)
def test_a_cost_that_is_only_a_number_needs_no_estimator_for_its_later_draws(kind, name, monkeypatch):
    """The gradient is the same, digit for digit, as where the later draws of every copy are taken care of."""

    def gradient():
        cost, theta = discrete(kind, 2)
        return tg.gradients(tg.ESTIMATORS[name].example(tg.noise(1))(cost), theta)

    found = gradient()
    monkeypatch.setattr(Rest, "number", lambda rest, value: tg.stop_gradient(rest(value)))
    assert found == gradient()


ONE_BY_ONE = [("coins", name) for name in ("arm", "disarm", "second-draw", "relax", "triples", "pruned-triples")]


@pytest.mark.parametrize(("kind", "name"), [*ONE_BY_ONE, ("choices", "arsm"), ("counts", "measure-valued")])
def test_many_draws_in_a_row_need_no_deep_recursion(kind, name):
    cost, theta = discrete(kind, 40)
    choices = {z: tg.ESTIMATORS[name].example(tg.noise(1).at(i)) for i, z in enumerate(live_samples(cost))}
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack()) + 75)
        new = tg.estimate(cost, choices)  # an instance for each, so that none takes care of all at once
    finally:
        sys.setrecursionlimit(before)
    assert np.isfinite(tg.gradients(new, theta))


def test_rebar_is_unbiased_over_draws_in_a_row():
    """The truth is the sum over all eight outcomes of three tosses."""
    draws = 20_000
    logit, exact = tg.Tensor(np.full(draws, 0.3), "logit"), tg.Tensor(0.3, "logit")

    def cost(theta, rng):
        state = 0.0
        for _ in range(3):
            state = state + tg.Bernoulli(logits=theta - 0.5 * state).sample(rng=rng)
        return (state - 1.0) ** 2

    found = tg.gradients(tg.sum(tg.REBAR(tg.noise(1))(cost(logit, tg.noise(0)))), logit)
    truth = tg.gradients(tg.Enumeration()(cost(exact, tg.noise(0))), exact)
    assert abs(found.mean() - truth) < 4.5 * found.std() / np.sqrt(draws)


def test_an_expectation_over_too_many_draws_in_a_row_is_refused():
    cost, _ = discrete("coins", 50)
    with pytest.raises(tg.InvalidGradientError, match=r"enumeration: each of 50 draws multiplies .* more than 4096"):
        tg.Enumeration()(cost)


def test_the_time_of_score_function_and_explain_grows_with_the_number_of_draws():
    assert growth(lambda cost, a: tg.score_function(cost), 100, 400) < 8
    assert growth(tg.explain, 100, 400) < 8


def test_the_time_of_downstream_credit_grows_with_the_square_of_the_number_of_terms():
    assert growth(lambda cost, a: tg.score_function(cost, credit="downstream"), 25, 100) < 20
