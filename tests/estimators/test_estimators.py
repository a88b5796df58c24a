"""What every rewrite promises: the value and the original stay, nothing is left blocked, the gradient is unbiased."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standard_errors import DISTRIBUTIONS, assert_agrees, calm

import tinygrad_vae as tg
from tinygrad_vae.core import topological_order, trees
from tinygrad_vae.guard.paths import live_samples

SEEDS = st.integers(0, 2**32 - 1)
DRAWS = 20_000
WITHOUT_MOMENTS = (
    tg.Cauchy,
    tg.HalfCauchy,
    tg.LogisticNormal,
    tg.RelaxedBernoulli,
    tg.RelaxedOneHotCategorical,
    tg.Transformed,
)
CONTINUOUS = (tg.Normal, tg.Laplace, tg.Logistic, tg.Gumbel)

REWRITES = {
    "pathwise": tg.reparameterize,
    "score-function": tg.score_function,
    "both": lambda cost: tg.score_function(tg.reparameterize(cost)),
    "baseline": lambda cost: tg.score_function(cost, 0.7),
}
every_rewrite = pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES)
opening = pytest.mark.parametrize("name", [name for name in REWRITES if name != "pathwise"])


def program(seed, discrete=True, batch=(3,)):
    """Return a cost for each example, in which draws decide on the distributions of later draws, and its parameters."""
    rng, stream = np.random.default_rng(seed), tg.noise(seed)
    theta = tg.wrap({"a": rng.normal(size=batch), "b": rng.normal(size=batch), "c": rng.normal(size=())})
    seen = list(theta.values())

    def pick():
        return seen[rng.integers(len(seen))]

    for _ in range(rng.integers(1, 5)):
        at = tg.tanh(0.7 * pick() + pick() + theta["a"])
        if discrete and rng.random() < 0.4:
            dist = tg.Bernoulli(logits=at)
        else:
            dist = CONTINUOUS[rng.integers(len(CONTINUOUS))](at, 0.3 + tg.sigmoid(pick()))
        seen.append(dist.sample(rng=stream))
    return tg.sin(seen[-1]) * pick() + pick() ** 2 + theta["b"] * seen[-1], theta


def snapshot(cost):
    nodes = topological_order([cost])
    return [(node, node.op, node.inputs, dict(node.attrs), node.name, node.value, node.value.copy()) for node in nodes]


# --------------------------------------------------------------------------------------- invariants


@every_rewrite
@given(seed=SEEDS, batch=st.sampled_from([(), (1,), (3,), (2, 3)]))
@settings(max_examples=40, deadline=None)
def test_a_rewrite_keeps_the_value_and_leaves_the_original_alone(rewrite, seed, batch):
    cost, _ = program(seed, batch=batch)
    before = snapshot(cost)
    new = rewrite(cost)
    np.testing.assert_array_equal(new.value, cost.value)
    for old, now in zip(before, snapshot(cost), strict=True):
        assert all(a is b for a, b in zip(old[:3], now[:3], strict=True))
        assert (old[3:5], id(old[5])) == (now[3:5], id(now[5]))
        np.testing.assert_array_equal(old[6], now[6])


@every_rewrite
@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_second_rewrite_changes_nothing_and_the_original_can_be_rewritten_again(rewrite, seed):
    cost, theta = program(seed)
    new = rewrite(cost)
    assert rewrite(new) is new
    if not live_samples(new):
        first, again = (tg.gradients(tg.sum(r), theta) for r in (new, rewrite(cost)))
        for name, gradient in first.items():
            np.testing.assert_array_equal(gradient, again[name])


@opening
@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_no_random_node_is_left_on_a_live_path(name, seed):
    cost, theta = program(seed)
    assert live_samples(cost)
    new = REWRITES[name](cost)
    assert not live_samples(new)
    assert tg.explain(tg.sum(new), theta).unbiased
    tg.gradients(tg.sum(new), theta)


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_pathwise_leaves_only_what_has_no_derivative(seed):
    cost, _ = program(seed)
    assert all(z.dist.path is None for z in live_samples(tg.reparameterize(cost)))


@given(seed=SEEDS, batch=st.sampled_from([(), (3,)]))
@settings(max_examples=40, deadline=None)
def test_the_difference_of_the_blocked_graph_is_the_gradient_of_the_reparameterized_one(seed, batch):
    """One test for sampling, replay, rewrite and engine: the noise is the same at both ends of the difference."""
    cost, theta = program(seed, discrete=False, batch=batch)
    cost = tg.sum(cost)
    gradient = tg.gradients(tg.reparameterize(cost), theta)
    rng, h = np.random.default_rng(seed), 1e-5
    along = {name: rng.normal(size=t.shape) for name, t in theta.items()}
    ends = [
        tg.replay(cost, {t: t.value + s * along[name] for name, t in theta.items() if depends(cost, t)}).value
        for s in (h, -h)
    ]
    expected = (ends[0] - ends[1]) / (2 * h)
    found = sum(float(np.sum(gradient[name] * along[name])) for name in theta)
    assert found == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


def depends(cost, t):
    return any(node is t for node in topological_order([cost]))


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_rewritten_graph_can_be_replayed_with_other_noise(seed):
    cost, _ = program(seed, discrete=False)
    noises = [node for node in topological_order([cost]) if isinstance(node, tg.Noise)]
    swaps = {noise: noise.mirrored() for noise in noises}
    np.testing.assert_array_equal(tg.replay(tg.reparameterize(cost), swaps).value, tg.replay(cost, swaps).value)


# --------------------------------------------------------------------------------------- unbiasedness


def one_parameter_for_each_draw(family):
    """Return Tensors with a copy of each parameter for each draw, so that one gradient holds that of every draw."""
    d = calm(family)
    return d, tg.wrap(trees.map_leaves(lambda x: np.broadcast_to(x, (DRAWS, *x.shape)).copy(), d))


@pytest.mark.parametrize(
    "family", [family for family in DISTRIBUTIONS if family not in WITHOUT_MOMENTS], ids=lambda family: family.__name__
)
@pytest.mark.parametrize("name", ["pathwise", "score-function"])
def test_the_gradient_of_a_second_moment_is_that_of_the_declared_mean_and_variance(family, name):
    d, copies = one_parameter_for_each_draw(family)
    z = copies.sample(rng=tg.noise(1))
    cost = tg.astype(z, np.float64) ** 2
    cost = tg.sum(cost, axis=tuple(range(-len(d.event_shape), 0))) if d.event_shape else cost
    opened = name == "pathwise" and d.path is not None
    if not opened and (name == "pathwise" or d.moving()):
        with pytest.raises(tg.GradientRefusedError):
            tg.gradients(tg.sum(REWRITES[name](cost)), copies)
        return
    found = tg.gradients(tg.sum(REWRITES[name](cost)), copies)
    exact = tg.wrap(d)
    truth = tg.gradients(tg.sum(exact.mean**2 + exact.variance), exact)
    for estimates, expected in zip(trees.leaves(found), trees.leaves(truth), strict=True):
        assert_agrees(estimates, expected)


def nested(draws=DRAWS):
    """Return b ~ Bernoulli(p), x ~ N(mu + b, 1) and the cost x^2 (1 + b): d/dp is 5.25 and d/dmu 2.5."""
    p, mu = tg.Tensor(np.full(draws, 0.3), "p"), tg.Tensor(np.full(draws, 0.5), "mu")
    rng = tg.noise(0)
    b = tg.Bernoulli(probs=p).sample(rng=rng, name="b")
    x = tg.Normal(mu + b, 1.0).sample(rng=rng, name="x")
    return x**2 * (1 + b), [p, mu]


@opening
def test_estimators_may_be_mixed_in_one_graph(name):
    cost, parameters = nested()
    in_p, in_mu = tg.gradients(tg.sum(REWRITES[name](cost)), parameters)
    assert_agrees(in_p, 5.25)
    assert_agrees(in_mu, 2.5)


@opening
def test_three_draws_deep(name):
    """z ~ N(a, 1), b ~ Bernoulli(sigmoid(z)), x ~ N(b + z, 1), cost b x: the truth by integrating over z."""
    a, rng = tg.Tensor(np.full(DRAWS, 0.4), "a"), tg.noise(3)
    z = tg.Normal(a, 1.0).sample(rng=rng)
    b = tg.Bernoulli(logits=z).sample(rng=rng)
    x = tg.Normal(b + z, 1.0).sample(rng=rng)
    grid = np.linspace(-10, 10, 20_001)
    weight = np.exp(tg.Normal(0.4, 1.0).log_prob(grid)) * (grid - 0.4)
    truth = np.trapezoid(weight * tg.sigmoid(grid) * (1 + grid), grid)
    assert_agrees(tg.gradients(tg.sum(REWRITES[name](b * x)), a), truth)


@pytest.mark.parametrize("name", ["pathwise", "score-function", "both"])
def test_second_and_third_derivatives_are_unbiased(name):
    mu = tg.Tensor(np.full(DRAWS, 0.8), "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    first = tg.gradients(tg.sum(REWRITES[name](x * x)), mu, record=True)
    second = tg.gradients(tg.sum(first), mu, record=True)
    third = tg.gradients(tg.sum(second), mu)
    for estimate, truth in ((first.value, 1.6), (second.value, 2), (third, 0)):
        assert_agrees(estimate, truth)


def test_a_probability_has_no_second_derivative():
    p = tg.Tensor(np.full(DRAWS, 0.3), "p")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0))
    first = tg.gradients(tg.sum(tg.score_function(tg.exp(b))), p, record=True)
    assert_agrees(first.value, np.e - 1)
    assert_agrees(tg.gradients(tg.sum(first), p), 0)


def test_the_mixed_second_derivative_of_nested_draws_is_unbiased():
    """d^2/dp dmu of E x^2 (1 + b) = (1 - p)(mu^2 + 1) + 2 p ((mu + 1)^2 + 1) is 4 (mu + 1) - 2 mu = 5."""
    cost, (p, mu) = nested()
    in_mu = tg.gradients(tg.sum(REWRITES["both"](cost)), mu, record=True)
    assert_agrees(tg.gradients(tg.sum(in_mu), p), 5)


# ---------------------------------------------------------------------------------- credit, baselines


def batch_estimates(rewrite, runs=800, batch=4):
    """Return the gradients in one shared mu of the mean of x^2 over a batch, one for each run."""
    mu, rng, found = tg.Tensor(1.0, "mu"), tg.noise(0), []
    for _ in range(runs):
        x = tg.Normal(mu, 1.0).sample((batch,), rng=rng)
        found.append(tg.gradients(tg.mean(rewrite(x * x)), mu))
    return np.array(found)


@pytest.fixture(scope="module")
def plain():
    return batch_estimates(tg.score_function)


def test_own_credit_and_joint_credit_are_both_unbiased_and_own_credit_is_calmer(plain):
    joint = batch_estimates(lambda cost: tg.score_function(tg.mean(cost)))
    assert_agrees(plain, 2)
    assert_agrees(joint, 2)
    assert plain.var() < joint.var() / 2


def test_a_baseline_leaves_the_mean_and_lowers_the_variance(plain):
    steadied = batch_estimates(lambda cost: tg.score_function(cost, 4.0))  # mu^2 + 3, the best constant
    assert_agrees(steadied, 2)
    assert steadied.var() < plain.var() / 1.5


def test_a_baseline_may_be_learned_from_the_inputs():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=4), DRAWS // 4)
    w, k = tg.Tensor(np.full(DRAWS, 0.5), "w"), tg.Tensor(2.0, "k")
    z = tg.Normal(w * x, 1.0).sample(rng=tg.noise(0))
    in_w, in_k = tg.gradients(tg.sum(tg.score_function(z * z, k * x * x)), [w, k])
    assert_agrees(in_w.reshape(4, -1).T, (2 * 0.5 * x * x).reshape(4, -1)[:, 0])
    assert in_k == 0


@pytest.mark.parametrize("for_w", ["pathwise", "score-function"])
def test_a_baseline_from_an_earlier_draw_needs_no_estimator_there(for_w):
    m, k, rng = tg.Tensor(np.ones(DRAWS), "m"), tg.Tensor(1.0, "k"), tg.noise(1)
    w = tg.Normal(m, 1.0).sample(rng=rng, name="w")
    z = tg.Normal(w, 1.0).sample(rng=rng, name="z")
    baseline, closed = k * w * w + 1.0, k * tg.stop_gradient(w * w) + 1.0
    costs = [tg.estimate(z * z, {"w": for_w, "z": tg.ScoreFunction(b)}) for b in (baseline, closed)]
    in_steps = tg.estimate(tg.estimate(z * z, {"z": tg.ScoreFunction(baseline)}), {"w": for_w})
    first, *others = [tg.gradients(tg.sum(cost), [m, k]) for cost in (*costs, in_steps)]
    assert_agrees(first[0], 2.0)
    assert first[1] == 0
    for other in others:
        np.testing.assert_array_equal(other[0], first[0])
    slope = tg.gradients(tg.sum(costs[0]), m, record=True)
    trained = tg.gradients(tg.sum(tg.square(slope)), k)  # on the variance, where z has a part in the gradient
    assert (trained != 0) == (for_w == "pathwise")


def test_a_baseline_may_be_a_network_of_the_inputs_trained_beside_the_cost():
    """Unbiased whatever the network says, and calmer once it knows what the cost is at each input."""
    points = np.linspace(-2, 2, 8)
    x, rng = np.repeat(points, 4)[:, None], tg.noise(0)
    network = tg.nn.MLP.init((1, 32, 1), rng=rng.at("network"), activation="tanh", trunk=True, dtype=np.float64)

    def cost_of(w, x, rng):
        return (tg.Normal(w * x, 1.0).sample(rng=rng) + 2.0 * x) ** 2

    trained = network
    for step in range(300):
        seen = cost_of(0.5, x, rng.at("step", step))
        slopes = tg.grad(lambda n, seen=seen: tg.mean((30.0 * n(x) - seen) ** 2))(trained)
        trained = tg.trees.map_leaves(lambda p, g: p - 3e-4 * g, trained, slopes)
    many = np.repeat(points, 2000)[:, None]
    w = tg.Tensor(np.full(many.shape, 0.5), "w")
    cost = cost_of(w, many, rng.at("test"))
    baselines = (None, 30.0 * network(many), 30.0 * trained(many))
    found = [tg.gradients(tg.sum(tg.score_function(cost, b)), w).reshape(8, -1).T for b in baselines]
    for draws in found:
        assert_agrees(draws, 2 * (0.5 + 2.0) * points**2)
    plain, untrained, steadied = (draws.var(0).sum() for draws in found)
    assert steadied < 0.5 * min(plain, untrained)


CROWDED = {
    "Beta, a": lambda a: tg.Beta(a, a.dtype.type(0.1)),
    "Beta, b": lambda b: tg.Beta(b.dtype.type(0.3), b),
    "RelaxedBernoulli": lambda x: tg.RelaxedBernoulli(logits=x, temperature=x.dtype.type(0.02)),
    "Tanh": lambda x: tg.Transformed(tg.Normal(x, x.dtype.type(40)), tg.bijections.Tanh()),
    "several elements": lambda x: tg.Independent(tg.Beta(tg.broadcast_to(x, (3,)), x.dtype.type(0.1)), 1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(CROWDED))
def test_a_score_function_is_refused_where_draws_were_rounded_to_the_edge_of_the_support(name, dtype):
    x = tg.Tensor(dtype(0.1), "x")
    z = CROWDED[name](x).sample((2000,), rng=tg.noise(0), name="z")
    for opened in (tg.score_function(z), tg.estimate(z, {"z": tg.SecondDraw(tg.noise(1))})):
        with pytest.raises(
            tg.InvalidGradientError, match=r"of \d+ draws of .* edge of its support as float\d\d can tell"
        ):
            tg.gradients(tg.mean(opened), x)
    assert np.isfinite(tg.gradients(tg.mean(tg.reparameterize(z)), x))
    valid = {option.call for option in tg.explain(z, x).nodes[0].options if option.valid}
    assert "reparameterize(cost)" in valid
    assert valid.isdisjoint(["score_function(cost)", "leave-one-out", "second-draw"])


@given(a=st.floats(0.05, 4), b=st.floats(0.05, 4), dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
@settings(max_examples=100, deadline=None)
def test_a_score_function_near_the_edge_of_the_support_is_right_or_refused(a, b, dtype, seed):
    """The mean of Beta is a / (a + b); up to a thousandth of rounded draws may each be 1 / b off in log p."""
    parameters = [tg.Tensor(np.full(5000, number, dtype)) for number in (a, b)]
    z = tg.Beta(*parameters).sample(rng=tg.noise(seed))
    try:
        found = tg.gradients(tg.sum(tg.score_function(z)), parameters)
    except tg.InvalidGradientError:
        assert min(a, b) < 0.6  # at 0.5, one seed of 20 has six of 5000 draws rounded to 1 in float32
        return
    for estimates, truth, shape in zip(found, (b / (a + b) ** 2, -a / (a + b) ** 2), (a, b), strict=True):
        assert_agrees(estimates, truth, rounding=1e-3 / shape)


def test_a_single_draw_on_the_edge_is_no_reason_to_refuse():
    b = tg.Tensor(np.float32(0.05), "b")
    z = tg.Beta(np.float32(0.5), b).sample((3,), rng=tg.noise(0))
    assert (z.value > 1 - 1e-7).any()
    assert np.isfinite(tg.gradients(tg.sum(tg.score_function(z)), b))


@every_rewrite
def test_a_rewrite_takes_a_tensor(rewrite):
    with pytest.raises(TypeError, match=r"Tensor.* found .*float"):
        rewrite(3.0)


@pytest.mark.parametrize("rewrite", [tg.reparameterize, tg.score_function])
def test_a_thousand_draws_in_a_row(rewrite):
    """A state that is moved at random again and again: neither the stack nor the square of its length may matter."""
    a, rng, state = tg.Tensor(0.9, "a"), tg.noise(0), 1.0
    for _ in range(1000):
        state = tg.Normal(a * state, 0.1).sample(rng=rng)
    cost = rewrite(state**2)
    assert not live_samples(cost)
    assert np.isfinite(tg.gradients(cost, a))


def test_a_cost_without_randomness_is_given_back_as_it_is():
    cost = tg.exp(tg.Tensor(1.0))
    assert all(rewrite(cost) is cost for rewrite in REWRITES.values())


def test_a_draw_that_was_cut_on_purpose_stays_cut():
    mu = tg.Tensor(1.0, "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    cost = tg.stop_gradient(z) * mu
    for rewrite in REWRITES.values():
        assert rewrite(cost).value == cost.value
        assert tg.gradients(rewrite(cost), mu) == z.value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": np.zeros(3)}, r"the baseline has shape \(3,\), which does not broadcast to the cost's, \(4,\)"),
        ({"baseline": np.zeros((2, 4))}, r"shape \(2, 4\)"),
        ({"credit": "all"}, "credit must be"),
    ],
)
def test_wrong_options_are_refused(options, message):
    z = tg.Normal(tg.Tensor(1.0), 1.0).sample((4,), rng=tg.noise(0))
    with pytest.raises(ValueError, match=message):
        tg.score_function(z * z, **options)


def test_an_estimator_that_draws_the_same_noise_for_two_draws_is_refused():
    class FromOneSeed(tg.ScoreFunction):
        name = "from-one-seed"

        def apply(self, z, cost, rest):
            again = tg.stop_gradient(z.dist.transform(z.noise.redrawn(tg.noise(123))))
            here = tg.stop_gradient(z)
            return (self.weight(z, cost, here) * rest(here) + self.weight(z, cost, again) * rest(again)) / 2

    try:
        mu, rng = tg.Tensor(0.0, "mu"), tg.noise(0)
        a, b = (tg.Normal(mu, 1.0).sample(rng=rng, name=name) for name in "ab")
        with pytest.raises(ValueError, match="from-one-seed: the estimator's own noise has been drawn already"):
            FromOneSeed()((a * b + a + b) ** 2)
        assert np.isfinite(tg.gradients(FromOneSeed()(a**2), mu))
    finally:
        del tg.ESTIMATORS["from-one-seed"]
