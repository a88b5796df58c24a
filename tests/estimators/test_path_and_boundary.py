"""The path and the boundary: gradients of costs that jump where a draw decides a comparison, against exact ones."""

import numpy as np
import pytest
from scipy import integrate, stats
from standard_errors import DISTRIBUTIONS, assert_agrees, calm

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.distributions.sobol import sobol

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


@pytest.mark.parametrize("d", [2, 10, 50])
def test_the_sign_of_a_sum(d):
    n = 4000
    mu = tg.Tensor(np.zeros((n, d)), "mu")
    x = draw(tg.Normal(mu, 1.0))
    cost = tg.where(tg.sum(x, axis=1) > 0, 1.0, 0.0)
    found = estimates(cost, mu)
    assert_agrees(found, DENSITY_AT_0 / np.sqrt(d))
    scores = tg.gradients(tg.sum(tg.score_function(cost)), mu)
    assert np.all(10 * found.var(0) < scores.var(0))


def barrier(s0, sigma, dates, by="log", low=90.0, strike=100.0, rate=0.02):
    """Return the payoff of a call that ends where the price is below a barrier at one of the dates: down and out."""
    dt, first = 1 / dates, np.eye(1, dates)
    s0, sigma = tg.expand_dims(s0, axis=1), tg.expand_dims(sigma, axis=1)
    steps = tg.Normal((rate - sigma**2 / 2) * dt * np.ones(dates) + tg.log(s0) * first, sigma * np.sqrt(dt))
    prices = tg.cumulative_sum(draw(steps, 8, "steps"), axis=1)
    alive = prices > np.log(low) if by == "log" else tg.exp(prices) > low
    return np.exp(-rate) * tg.prod(tg.where(alive, 1.0, 0.0), axis=1) * tg.relu(tg.exp(prices[:, -1]) - strike)


@pytest.mark.parametrize(
    ("by", "dates", "truth", "times"),
    [("log", 12, (0.66881, 25.996), (10, 40)), ("price", 2, (0.59383, 35.943), (5, 10))],
)
def test_an_option_that_ends_at_a_barrier(by, dates, truth, times):
    """The truth by the density of the price, from date to date; the score function is 10 and 40 times as noisy."""
    parameters = [tg.Tensor(np.full(DRAWS, 100.0), "s0"), tg.Tensor(np.full(DRAWS, 0.2), "sigma")]
    cost = barrier(*parameters, dates, by)
    found, scores = (estimates(cost, parameters, rewrite) for rewrite in (tg.path_and_boundary, tg.score_function))
    for draws, others, expected, factor in zip(found, scores, truth, times, strict=True):
        assert_agrees(draws, expected)
        assert factor * draws.var() < others.var()


SEVERAL = {
    "two": lambda x: tg.where(x > 0, x, 1.0) * tg.where(x > 1, 2.0, -x),
    "both": lambda x: tg.where(tg.logical_and(x > 0, x < 1), x, 0.0),
    "nested": lambda x: tg.where(x > 0, tg.where(x > 1, x * x, x), tg.where(x > -1, 1.0, -x)),
    "mask": lambda x: (x > 0.5) * x**2,
    "a root of tanh": lambda x: tg.where(tg.tanh(x) < 0.5, x, -2.0),
    "a flat root": lambda x: tg.where(x**3 > 0.0, x, -2.0),
    "a cube": lambda x: tg.where(x**3 + x > 0.5, x, -2.0),
    "a sign": lambda x: tg.sign(x) * x**2 + tg.sign(x - 1),
    "no jump": lambda x: tg.where(x > 0.2, abs(x - 0.2), 0.2 - x),
    "infinite": lambda x: tg.where(x > np.inf, x, tg.where(x > -np.inf, x * x, 0.0)),
    "never": lambda x: tg.where(tg.sigmoid(x) > 1.5, x, x * x),
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_comparisons_of_one_draw(name, dtype):
    mu = tg.Tensor(np.full(DRAWS, 0.3, dtype), "mu")
    found = estimates(SEVERAL[name](draw(tg.Normal(mu, 1.0))), mu)
    assert found.dtype == dtype
    ends = np.linspace(-9, 9, 200_001)
    x = (ends[1:] + ends[:-1]) / 2
    truth = np.sum(SEVERAL[name](x) * (x - 0.3) * stats.norm.pdf(x, 0.3)) * (ends[1] - ends[0])
    assert_agrees(found, truth, 1e-4)


@pytest.mark.parametrize("other", [lambda x: x > 0.4, lambda x: 2 * x > 0.8, lambda x: tg.exp(x) > np.exp(0.4)])
def test_comparisons_that_flip_together_count_as_one_jump(other):
    """The cost jumps from -1 to 6, and not by the sum of what each factor does alone."""
    mu = copies(0.3, "mu")
    x = draw(tg.Normal(mu, 1.0))
    found = estimates(tg.where(x > 0.4, 2.0, 1.0) * tg.where(other(x), 3.0, -1.0), mu)
    np.testing.assert_allclose(found, 7 * stats.norm.pdf(0.4, 0.3), rtol=1e-10)


CONTINUOUS = [
    family
    for family in DISTRIBUTIONS
    if family.path and not calm(family).event_shape and family not in (tg.Delta, tg.MixtureSameFamily, tg.Independent)
]


@pytest.mark.parametrize("family", CONTINUOUS, ids=lambda family: family.__name__)
def test_every_distribution_with_a_path_and_a_cdf(family):
    """The truth is the derivative of an integral over the noise, by differences."""
    d = calm(family)
    leaves = trees.leaves(d)
    many = tg.wrap(trees.map_leaves(lambda x: np.full(4000, x), d))
    z = draw(many, 1, "z")
    t = float(np.quantile(z.value, 0.6))
    found = trees.leaves(estimates(tg.where(z > t, tg.tanh(z), -1.0), many))
    nodes, weights = np.polynomial.legendre.leggauss(200)

    def expectation(k, at):
        moved = trees.replace_leaves(d, [*leaves[:k], at, *leaves[k + 1 :]])
        below = moved.cdf(t)
        return np.sum(weights * np.tanh(moved.icdf(below + (1 - below) * (nodes + 1) / 2))) * (1 - below) / 2 - below

    for k, draws in enumerate(found):
        truth = slope(lambda at, k=k: expectation(k, at), leaves[k], 1e-4)
        assert_agrees(draws, truth, 2e-4 * (1 + abs(truth)))


# ---------------------------------------------------------------------------------------------- draws after each other


def two_draws():
    """Return x ~ N(0.3, 1) and y ~ N(x / 2 - 0.2, 0.7), and their parameters."""
    mu, nu = copies(0.3, "mu"), copies(-0.2, "nu")
    x = draw(tg.Normal(mu, 1.0))
    return x, draw(tg.Normal(x * 0.5 + nu, 0.7), 1, "y"), mu, nu


WAYS = ["path-and-boundary", "pathwise", "score-function"]


@pytest.mark.parametrize("for_x", WAYS)
@pytest.mark.parametrize("for_y", WAYS)
def test_a_comparison_of_two_draws_is_solved_in_one_that_nothing_else_depends_on(for_x, for_y):
    x, y, mu, nu = two_draws()
    cost = tg.where(x > y, 1.0, 0.0)  # x - y is normal, with mean mu / 2 - nu and variance 0.74

    def choose():
        return tg.gradients(tg.sum(tg.estimate(cost, {"x": for_x, "y": for_y})), [mu, nu])

    if "path-and-boundary" in (for_x, for_y) and (for_x, for_y) != ("path-and-boundary", "score-function"):
        density = stats.norm.pdf(0.35, 0, np.sqrt(0.74))
        for draws, truth in zip(choose(), (density / 2, -density), strict=True):
            assert_agrees(draws, truth)
    elif for_x == for_y == "score-function":
        choose()
    else:
        with pytest.raises(tg.InvalidGradientError, match=r"jumps|decided by y too"):
            choose()


def test_a_comparison_that_flips_twice_in_one_draw_is_solved_in_the_other():
    """P(x > w^2), by quadrature over w."""
    mu, nu = copies(0.3, "mu"), copies(-0.2, "nu")
    x, w = draw(tg.Normal(mu, 1.0)), draw(tg.Normal(nu, 0.7), 1, "w")
    found = estimates(tg.where(x > w * w, 1.0, 0.0), [mu, nu])
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    w = 0.7 * nodes - 0.2
    density = weights / weights.sum() * stats.norm.pdf(w**2, 0.3)
    assert_agrees(found[0], density.sum())
    assert_agrees(found[1], -np.sum(density * 2 * w))


def test_a_walk_that_must_not_fall_below_a_bound():
    """Each position is a draw around the one before; the truth by the density of the position, from step to step."""
    mu, rng, position, alive = copies(0.1, "mu"), tg.noise(0), 0.0, 1.0
    for _ in range(3):
        position = tg.Normal(position + mu, 1.0).sample(rng=rng)
        alive = alive * tg.where(position > -1.0, 1.0, 0.0)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    grid, weights = 6.5 + 7.5 * nodes, 7.5 * weights

    def expectation(m):
        density = stats.norm.pdf(grid, m)
        for _ in range(2):
            density = stats.norm.pdf(grid[:, None], grid + m) @ (weights * density)
        return np.sum(weights * grid * density)

    assert_agrees(estimates(alive * position, mu), slope(expectation, 0.1), 1e-6)


# ------------------------------------------------------------------------------------------- beside other estimators


def stepped(draws=5000):
    """The smallest graph that breaks a careless nesting, with a step: E where(x > 1, x^2, -x) (1 + b)."""
    p, mu, rng = tg.Tensor(np.full(draws, 0.3), "p"), tg.Tensor(np.full(draws, 0.5), "mu"), tg.noise(0)
    b = tg.Bernoulli(probs=p).sample(rng=rng, name="b")
    x = tg.Normal(mu + b, 1.0).sample(rng=rng, name="x")
    return tg.where(x > 1.0, x * x, -x) * (1 + b), b, x, [p, mu]


def valid(which):
    """Return the unbiased estimators that are valid at one of the two draws."""
    cost, *draws, _ = stepped(3)
    kinds = [kind for kind in tg.ESTIMATORS.values() if not kind.biased]
    return sorted(kind.name for kind in kinds if kind.example(tg.noise(1)).refusal(draws[which], cost) is None)


@pytest.mark.parametrize("for_b", valid(0))
@pytest.mark.parametrize("for_x", sorted(set(valid(1)) - {"pathwise"}))
def test_every_mixture_of_estimators_is_unbiased_on_the_stepped_program(for_b, for_x):
    cost, b, x, parameters = stepped()
    choices = {z: tg.ESTIMATORS[name].example(tg.noise(seed)) for z, name, seed in ((b, for_b, 1), (x, for_x, 2))}
    found = tg.gradients(tg.sum(tg.estimate(cost, choices)), parameters)

    def expectation(m):  # of where(x > 1, x^2, -x) = -x + 1[x > 1] (x^2 + x)
        above, density = stats.norm.sf(1, m), stats.norm.pdf(1, m)
        return -m + (m**2 + 1 + m) * above + (m + 2) * density

    assert_agrees(found[0], 2 * expectation(1.5) - expectation(0.5))
    assert_agrees(found[1], 0.7 * slope(expectation, 0.5) + 0.6 * slope(expectation, 1.5), 1e-7)


@pytest.mark.parametrize("for_b", ["enumeration", "score-function", "arm"])
def test_a_threshold_that_is_another_draw(for_b):
    """x > b: E = (1 - p) E x 1[x > 0] + p E x 1[x > 1], with x ~ N(mu, 1) in both."""
    p, mu = copies(0.3, "p"), copies(0.5, "mu")
    b = draw(tg.Bernoulli(probs=p), 1, "b")
    cost = tg.where(draw(tg.Normal(mu, 1.0)) > b, 1.0, 0.0)
    found = tg.gradients(tg.sum(tg.estimate(cost, {"b": for_b, "x": "path-and-boundary"})), [p, mu])
    assert_agrees(found[0], stats.norm.sf(0.5) - stats.norm.sf(-0.5))
    assert_agrees(found[1], 0.7 * stats.norm.pdf(0.5) + 0.3 * stats.norm.pdf(0.5))


def test_audit_and_auto_know_it():
    def cost(theta, rng):
        return tg.where((x := tg.Uniform(0.0, theta).sample(rng=rng, name="x")) > 1.0, x, 0.0)

    assert tg.audit(cost, np.float64(2.0), "path-and-boundary", np.float64(0.625), rng=tg.noise(0), runs=100).passed
    chosen = tg.estimate(cost(tg.Tensor(2.0, "h"), tg.noise(0)), default="auto")
    assert [node.estimator for node in tg.explain(chosen, []).nodes] == ["path-and-boundary"]


def test_discrete_draws_stay_blocked():
    cost, _, _, parameters = stepped(50)
    with pytest.raises(tg.BlockedGradientError, match="b ~ Bernoulli"):
        tg.gradients(tg.sum(tg.path_and_boundary(cost)), parameters)
    new = tg.estimate(cost, {"b": "enumeration"}, default="path-and-boundary")
    assert tg.explain(tg.sum(new), parameters).unbiased


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        (lambda x: tg.floor(x), "floor between x and the cost jumps, and only comparisons"),
        (lambda x: tg.round(x), "round between x and the cost jumps"),
        (lambda x: 1 / x, "divide between x and the cost jumps"),
        (lambda x: tg.where(tg.floor(x) > 1, x, 0.0), "floor between x and the cost jumps"),
        (lambda x: tg.where(x > tg.where(x > 0, 1.0, 2.0), x, 0.0), "x > 0 between x and the cost jumps, in"),
        (lambda x: tg.where(x - 0.5 * tg.stop_gradient(x) > 0, x, 0.0), "through stop_gradient"),
        (lambda x: tg.where(x > 0, tg.log(tg.relu(x)), 0.0), "the cost is not finite where x > 0 flips"),
    ],
)
def test_what_it_does_not_see_is_refused_with_the_reason(cost, reason):
    x = draw(tg.Normal(tg.Tensor(0.3, "mu"), 1.0))
    with pytest.raises(tg.InvalidGradientError, match=reason), np.errstate(all="ignore"):
        tg.path_and_boundary(cost(x))


def test_a_vector_without_a_cdf_is_refused():
    v = draw(tg.Dirichlet(tg.Tensor(np.ones(3), "a")), name="v")
    with pytest.raises(tg.InvalidGradientError, match="Dirichlet declares no cdf"):
        tg.path_and_boundary(tg.where(v[0] > 0.3, 1.0, 0.0))


def test_a_comparison_that_a_draw_does_not_decide_for_all_examples_is_refused():
    """Of the first example w decides, and the jump of its distribution would be lost."""
    mu = tg.Tensor(np.full(2, 0.3), "mu")
    w, x = draw(tg.Normal(mu, 1.0), 1, "w"), draw(tg.Normal(np.array([0.1, 0.2]) + 0 * mu, 1.0))
    with pytest.raises(tg.InvalidGradientError, match="not known to be strictly monotone"):
        tg.estimate(tg.where(x * np.array([0.0, 1.0]) > w, 1.0, 0.0), {"x": "path-and-boundary", "w": "pathwise"})


def test_first_derivatives_only():
    mu, scale = copies(0.3, "mu"), tg.Tensor(2.0, "scale")
    x = draw(tg.Normal(mu, 1.0))
    cost = tg.sum(tg.path_and_boundary(scale**2 * tg.where(x > 0, x * x, -x)))
    in_mu, in_scale = tg.gradients(cost, [mu, scale], record=True)
    with pytest.raises(tg.InvalidGradientError, match="first derivatives only"):
        tg.gradients(tg.sum(in_mu), mu)
    np.testing.assert_allclose(tg.gradients(tg.sum(in_mu), scale), np.sum(in_mu.value) * 2 / 2)
    np.testing.assert_allclose(tg.gradients(in_scale, scale), 2 * cost.value / 4)


# --------------------------------------------------------------------------------------------------- shapes and plans


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0), (1, 1)])
def test_no_number_and_one_number(shape):
    mu = tg.Tensor(np.full(shape, 0.3), "mu")
    x = draw(tg.Normal(mu, 1.0))
    for cost in (tg.where(x > 0, x * x, -x), tg.exp(tg.sum(tg.where(x > 0, x * x, -x)))):
        assert estimates(cost, mu).shape == shape


def test_a_mean_over_the_batch_may_come_before_it():
    mu = tg.Tensor(np.full(500, 0.3), "mu")
    cost = tg.where((x := draw(tg.Normal(mu, 1.0))) > 0, x * x, -x)
    np.testing.assert_allclose(estimates(tg.mean(cost), mu), estimates(cost, mu) / 500, rtol=1e-12)


def test_a_rewritten_graph_can_be_replayed_with_other_noise_and_parameters():
    mu, other = (tg.Tensor(np.full(50, at), "mu") for at in (0.3, -0.6))
    x, y = (tg.Normal(m, 1.0).sample(rng=tg.noise(seed)) for m, seed in ((mu, 0), (other, 1)))
    first, second = (tg.path_and_boundary(tg.where(tg.exp(z) > 1.2, z * z, -z)) for z in (x, y))
    again = tg.replay(first, {mu: other, x.noise: x.noise.redrawn(tg.noise(1))})
    np.testing.assert_array_equal(again.value, second.value)
    found = [tg.gradients(tg.sum(cost), other) for cost in (again, second)]
    np.testing.assert_array_equal(*found)


def test_a_plan_gives_the_same_bits():
    def step(mu, rng):
        x = tg.Normal(mu * np.ones(100), 1.0).sample(rng=rng, name="x")
        cost = tg.mean(tg.path_and_boundary(tg.where(tg.exp(x) > 1.2, x * x, -x)))
        return cost, tg.gradients(cost, mu, record=True)

    plan = tg.plan(step)
    for at, seed in ((0.3, 0), (0.7, 1)):
        run, eager = plan(np.array(at), tg.noise(seed)), step(tg.Tensor(np.array(at)), tg.noise(seed))
        assert [float(x) for x in run] == [float(x.value) for x in eager]


def test_draws_that_depend_on_each_other_are_refused_where_the_cost_joins_them():
    x = draw(tg.Normal(tg.Tensor(np.zeros(8), "mu"), 1.0))
    z = tg.replay(x, {x.noise: sobol(x.noise, tg.noise(1))})
    tg.path_and_boundary(tg.where(z > 0, z, 1.0))
    with pytest.raises(tg.InvalidGradientError, match="the draws depend on each other, and the cost joins them"):
        tg.path_and_boundary(tg.tanh(tg.sum(tg.where(z > 0, z, 1.0))))


@pytest.mark.parametrize("condition", [lambda x, w: x * w > 0, lambda x, w: w * w * x > w, lambda x, w: x * w > 0.1])
def test_a_comparison_whose_direction_another_draw_decides_is_refused(condition):
    """P(x w > 0) jumps as w crosses 0, and no root in x says so."""
    mu = tg.Tensor(np.full(20, 0.3), "mu")
    x, w = draw(tg.Normal(mu, 1.0)), draw(tg.Normal(mu, 1.0), 1, "w")
    with pytest.raises(tg.InvalidGradientError, match="not known to be strictly monotone"):
        tg.path_and_boundary(tg.where(condition(x, w), 1.0, 0.0))
