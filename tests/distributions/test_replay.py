"""A formula chooses its branch anew when its graph runs again: by replay, in a compiled step, or under enumeration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standard_errors import DISTRIBUTIONS

import tinygrad_vae as tg
from tinygrad_vae import domains
from tinygrad_vae.core import topological_order, trees
from tinygrad_vae.distributions.distribution import Distribution, domain_of, parameters
from tinygrad_vae.distributions.divergences import CLOSED_FORMS

BATCH = 24
SEEDS = st.integers(0, 2**32 - 1)
FORMULAS = ("draw", "log_prob", "cdf", "icdf", "mean", "variance", "entropy")
WIDE = [
    (domains.REAL, lambda rng: rng.normal(size=BATCH) * rng.choice([0.3, 5.0], BATCH)),
    (domains.POSITIVE, lambda rng: np.exp(rng.uniform(-4, 4, BATCH)) * rng.choice([1.0, 1e6], BATCH, p=[0.9, 0.1])),
    (domains.NONNEGATIVE, lambda rng: np.exp(rng.uniform(-4, 8, BATCH)) * rng.choice([0.0, 1.0], BATCH, p=[0.1, 0.9])),
    (domains.COUNT, lambda rng: rng.integers(0, 300, BATCH).astype(float)),
    (domains.LOGIT, lambda rng: rng.normal(size=BATCH) * rng.choice([1.0, 6.0], BATCH)),
]


def wide(family, rng):
    """Return a batch of distributions whose parameters lie on all sides of the borders between formulas."""
    d = family.example(rng, (BATCH,))
    for f in parameters(d):
        domain = domain_of(d, f)
        if domain.event_ndim == 0:
            own = [draw for known, draw in WIDE if known is domain]
            object.__setattr__(d, f.name, own[0](rng) if own else domain.draw(rng, (BATCH,)))
    return d


def argument(formula, d, rng):
    """Return what the formula takes besides the parameters: noise, a value, a probability, or nothing."""
    if formula == "draw":
        return d.noise_distribution.draw(tg.noise(int(rng.integers(2**31))), d.noise_shape(), np.dtype(float))
    if formula == "log_prob":
        return np.asarray(d.sample(rng=tg.noise(int(rng.integers(2**31)))), float)
    if formula == "cdf":
        x = rng.normal(size=BATCH) * rng.choice([0.3, 30.0], BATCH)
        return np.where(rng.random(BATCH) < 0.5, x, d.sample(rng=tg.noise(int(rng.integers(2**31)))))
    return rng.uniform(0, 1, BATCH) ** rng.choice([1, 8], BATCH) if formula == "icdf" else np.zeros(())


def declared(family):
    d = family.example(np.random.default_rng(0))
    names = {"draw": "transform", "log_prob": "log_density"}
    for formula in FORMULAS:
        own = getattr(family, names.get(formula, formula)) is not getattr(Distribution, names.get(formula, formula))
        if formula == "draw" or (own and not (formula in ("cdf", "icdf") and d.event_shape)):
            yield formula


CASES = pytest.mark.parametrize(
    ("family", "formula"),
    [(family, f) for family in DISTRIBUTIONS for f in declared(family)],
    ids=lambda x: getattr(x, "__name__", x),
)
PAIRS = pytest.mark.parametrize("pair", list(CLOSED_FORMS), ids=lambda pair: f"{pair[0].__name__}-{pair[1].__name__}")


def evaluate(formula, structure, leaves, x):
    d = trees.replace_leaves(structure, leaves)
    if formula == "draw":
        return d.transform(x)
    if formula == "log_prob":
        return d.log_density(x)
    found = getattr(d, formula)
    return found if formula in ("mean", "variance") else found(x) if formula in ("cdf", "icdf") else found()


def two_points(formula, family, seed):
    rng = np.random.default_rng(seed)
    points = []
    for d in (wide(family, rng), wide(family, rng)):
        points.append([*trees.leaves(d), argument(formula, d, rng)])
    return d, points


def check_replay(function, a, b):
    """Assert that a graph made at one point and run again at another is the graph made there, and so its gradient."""
    leaves = [tg.Tensor(x, f"leaf {i}") for i, x in enumerate(a)]
    there = [tg.Tensor(x, f"leaf {i}") for i, x in enumerate(b)]
    made = function(leaves)
    present = {id(x) for x in topological_order([made])}
    swaps = {old: new for old, new in zip(leaves, there, strict=True) if id(old) in present}
    again, expected = tg.replay(made, swaps), function(there)
    np.testing.assert_array_equal(again.value, expected.value)
    used = [x for x in there if id(x) in {id(node) for node in topological_order([expected])}]
    if made.dtype.kind != "f":
        return
    for found, truth in zip(*(tg.gradients(tg.sum(y), used) for y in (again, expected)), strict=True):
        np.testing.assert_array_equal(found, truth)


@CASES
@given(seed=SEEDS)
@settings(max_examples=3, deadline=None)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_graph_that_is_replayed_elsewhere_is_the_graph_made_there(family, formula, seed):
    d, (a, b) = two_points(formula, family, seed)
    check_replay(lambda leaves: evaluate(formula, d, leaves[:-1], leaves[-1]), a, b)


@CASES
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_compiled_step_chooses_its_branches_at_every_call(family, formula):
    d, (a, b) = two_points(formula, family, 0)

    def function(*leaves):
        return evaluate(formula, d, leaves[:-1], leaves[-1]) + 0.0

    step = tg.plan(function, compiled=False)
    for point in (a, a, b):
        np.testing.assert_array_equal(step(*point), function(*point))


@CASES
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_expectation_over_a_toss_in_front_sees_both_branches(family, formula):
    d, (a, b) = two_points(formula, family, 1)

    def function(toss):
        """Return the formula at the first point where the toss is 0, and at the second where it is 1."""
        leaves = [tg.where(toss > 0.5, y, x) for x, y in zip(a, b, strict=True)]
        return evaluate(formula, d, leaves[:-1], leaves[-1]) * 1.0

    ends = [function(np.array(t)) for t in (0.0, 1.0)]
    finite = np.nonzero(np.isfinite(ends[0] + ends[1]))
    p = tg.Tensor(0.3, "p")
    toss = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="toss")
    found = tg.estimate(function(toss)[finite], {"toss": "enumeration"})
    low, high = (end[finite] for end in ends)
    np.testing.assert_allclose(found.value, 0.7 * low + 0.3 * high, rtol=1e-12)
    assert tg.gradients(tg.sum(found), p) == pytest.approx(np.sum(high - low), rel=1e-9)


@PAIRS
@given(seed=SEEDS)
@settings(max_examples=3, deadline=None)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_divergence_that_is_replayed_elsewhere_is_the_one_made_there(pair, seed):
    rng = np.random.default_rng(seed)

    def both():
        p, q = (wide(family, rng) for family in pair)
        if tg.Independent in pair and pair != (tg.Independent, tg.Independent):
            normal = tg.Independent(tg.Normal.example(rng, (BATCH, 3)), 1)
            p, q = (normal, q) if pair[0] is tg.Independent else (p, normal)
        return p, q

    (p, q), (r, s) = both(), both()
    structure = (p, q)
    numbers = {f.name for f in parameters(p)} & {"total", "successes"}  # there is a formula for equal ones only

    def function(leaves):
        first, second = trees.replace_leaves(structure, leaves)
        if numbers:
            second = type(second)(**{name: getattr(first, name) for name in numbers}, logits=second.logits)
        return tg.kl_divergence(first, second)

    check_replay(function, trees.leaves((p, q)), trees.leaves((r, s)))
