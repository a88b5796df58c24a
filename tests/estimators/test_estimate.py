"""The mechanism of all estimators: mixtures, nestings, closed forms, and what each refuses."""

import itertools
import math
import re
import warnings

import numpy as np
import pytest
import scipy.special
from standard_errors import DISTRIBUTIONS, assert_agrees, assert_variance_agrees, calm

import tinygrad_vae as tg
from tinygrad_vae.core import value_of
from tinygrad_vae.estimators.measure_valued import WEAK_DERIVATIVES
from tinygrad_vae.estimators.relaxed import noisy_logits, noisy_logits_given

DRAWS = 20_000
OPTIONAL = {name: kind for name, kind in tg.ESTIMATORS.items() if not kind.biased}


def instance(name, seed=11):
    return tg.ESTIMATORS[name].example(tg.noise(seed))


def valid(name, z, cost):
    return instance(name).objection(z, cost) is None


@pytest.mark.parametrize("name", tg.ESTIMATORS)
def test_every_estimator_has_a_page_with_formula_source_and_example(name):
    page = tg.ESTIMATORS[name].__doc__
    assert "``" in page
    assert ">>> " in page
    assert re.search(r"[A-Z][a-z]+.* (19|20)\d\d\b", page)


def mixed_program(draws=DRAWS):
    """Return the smallest graph that breaks a careless nesting: d/dp = 5.25 and d/dmu = 2.5 at these parameters."""
    p, mu = tg.Tensor(np.full(draws, 0.3), "p"), tg.Tensor(np.full(draws, 0.5), "mu")
    rng = tg.noise(0)
    b = tg.Bernoulli(probs=p).sample(rng=rng, name="b")
    x = tg.Normal(mu + b, 1.0).sample(rng=rng, name="x")
    return x**2 * (1 + b), b, x, p, mu


PAIRS = [
    (for_b, for_x)
    for for_b, for_x in itertools.product(OPTIONAL, OPTIONAL)
    for cost, b, x, _, _ in [mixed_program(3)]
    if valid(for_b, b, cost) and valid(for_x, x, cost)
]


def test_every_kind_of_estimator_takes_part_in_the_mixtures():
    alone = {"arsm", "vimco", "rejection-path"}  # for choices, bounds on several draws, Gamma draws: tested below
    assert {name for pair in PAIRS for name in pair} == set(OPTIONAL) - alone


FIRST_ONLY = {"arm", "disarm", "measure-valued", "triples", "pruned-triples"}


@pytest.mark.parametrize(("for_b", "for_x"), PAIRS)
def test_every_mixture_is_unbiased_and_so_is_each_second_derivative_that_is_not_refused(for_b, for_x):
    """E x^2 (1 + b) = (1 - p)(mu^2 + 1) + 2 p ((mu + 1)^2 + 1) has 0, 2 mu + 4 = 5 and 2 + 2 p = 2.6."""
    cost, b, _x, p, mu = mixed_program()
    new = tg.estimate(cost, {b: instance(for_b, 1), "x": instance(for_x, 2)})
    in_p, in_mu = tg.gradients(tg.sum(new), [p, mu], record=True)
    assert_agrees(in_p.value, 5.25)
    assert_agrees(in_mu.value, 2.5)
    for first, theta, truth in ((in_p, p, 0.0), (in_p, mu, 5.0), (in_mu, p, 5.0), (in_mu, mu, 2.6)):
        report = tg.explain(tg.sum(first), theta)
        if report.problems:
            assert "first derivatives only" in report.problems[0]
            assert {for_b, for_x} & FIRST_ONLY
            with pytest.raises(tg.InvalidGradientError, match="first derivatives only"):
                tg.gradients(tg.sum(first), theta)
        else:
            assert_agrees(tg.gradients(tg.sum(first), theta), truth)


@pytest.mark.parametrize(("for_b", "for_x"), PAIRS)
def test_the_value_is_kept_bit_for_bit_and_the_original_left_alone(for_b, for_x):
    cost, b, x, p, mu = mixed_program(50)
    before = cost.value.copy()
    new = tg.estimate(cost, {b: instance(for_b, 1), x: instance(for_x, 2)})
    if tg.ESTIMATORS[for_b].keeps_value and tg.ESTIMATORS[for_x].keeps_value:
        np.testing.assert_array_equal(new.value, before)
    np.testing.assert_array_equal(cost.value, before)
    with pytest.raises(tg.BlockedGradientError):
        tg.gradients(tg.sum(cost), p)
    assert tg.explain(tg.sum(new), [p, mu]).unbiased
    assert tg.estimate(new, default="pathwise") is tg.estimate(new, default="auto") is new


@pytest.mark.parametrize("name", ["pathwise", "score-function", "enumeration", "quadrature", "leave-one-out"])
def test_second_derivatives_are_unbiased_where_that_is_promised(name):
    if name == "enumeration":
        theta = tg.Tensor(np.full(DRAWS, 0.4), "logit")
        z = tg.Bernoulli(logits=theta).sample(rng=tg.noise(0), name="z")
        s = 1 / (1 + np.exp(-0.4))
        cost, truth = (z - 0.3) ** 2, 0.4 * s * (1 - s) * (1 - 2 * s)
    else:
        theta = tg.Tensor(np.full(DRAWS, 2.0), "theta")
        z = tg.Normal(theta, 1.0).sample(rng=tg.noise(0), name="z")
        cost, truth = z**2, 2.0
    first = tg.gradients(tg.sum(tg.estimate(cost, {"z": name})), theta, record=True)
    assert_agrees(tg.gradients(tg.sum(first), theta), truth)


def test_enumeration_and_quadrature_have_no_variance():
    p = tg.Tensor(np.full(100, 0.3), "p")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0))
    exact = tg.gradients(tg.sum(tg.Enumeration()((b - 0.45) ** 2)), p)
    np.testing.assert_allclose(exact, 1 - 2 * 0.45, rtol=1e-12)
    mu, s = tg.Tensor(np.full(100, 0.5), "mu"), tg.Tensor(np.full(100, 0.8), "s")
    x = tg.Normal(mu, s).sample(rng=tg.noise(0))
    for k in (0.5, 1.0, 3.0):
        in_mu, in_s = tg.gradients(tg.sum(tg.Quadrature(40)(tg.cos(k * x))), [mu, s])
        decay = np.exp(-(k**2) * 0.8**2 / 2)
        np.testing.assert_allclose(in_mu, -k * np.sin(k * 0.5) * decay, atol=1e-12)
        np.testing.assert_allclose(in_s, -(k**2) * 0.8 * np.cos(k * 0.5) * decay, atol=1e-12)


ROUGH = {tg.Laplace: 1e-4, tg.MixtureSameFamily: 1e-3}
"""How far off 64 points may be where a draw, as a function of its noise, has a corner or is steep in the middle."""


def has_moments_and_path(family):
    d = calm(family)
    try:
        return d.path is not None and not d.event_shape and np.isfinite(d.variance).all()
    except NotImplementedError:
        return False


@pytest.mark.parametrize(
    "family",
    [family for family in DISTRIBUTIONS if has_moments_and_path(family)],
    ids=lambda family: family.__name__,
)
def test_quadrature_gives_the_declared_second_moment_of_every_distribution_and_its_gradient(family):
    d = tg.wrap(calm(family))
    z = d.sample(rng=tg.noise(0), name="z")
    found, truth = tg.Quadrature()(tg.square(z)), tg.square(d.mean) + d.variance
    rough = ROUGH.get(family, 1e-9)
    np.testing.assert_allclose(found.value, value_of(truth), rtol=rough)
    parameters = [leaf for leaf in tg.trees.leaves(d) if isinstance(leaf, tg.Tensor)]
    none = sum(0.0 * tg.sum(x) for x in parameters)  # reaches all of them
    for a, b in zip(*(tg.gradients(none + tg.sum(x), parameters) for x in (found, truth)), strict=True):
        np.testing.assert_allclose(a, b, rtol=100 * rough, atol=100 * rough)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quadrature_takes_a_single_point_and_stays_inside_what_the_dtype_can_tell(dtype):
    z = tg.Exponential(tg.Tensor(dtype(1.0))).sample(rng=tg.noise(0))
    assert tg.Quadrature(1)(z * 1.0).value == pytest.approx(math.log(2), rel=1e-6)  # at the middle of the noise
    for points in (16, 64, 500):
        assert tg.Quadrature(points)(z**2).value == pytest.approx(2, rel=1e-4 if dtype == np.float32 else 1e-6)


@pytest.mark.parametrize("name", ["enumeration", "score-function", "arm", "disarm", "rebar", "relax", "second-draw"])
def test_costs_that_mix_several_discrete_draws(name):
    w = np.array([1.0, -2.0, 0.5])

    def gradient(estimator, draws):
        logits = tg.Tensor(np.tile([0.3, -0.5, 1.0], (draws, 1)), "logits")
        b = tg.Independent(tg.Bernoulli(logits=logits), 1).sample(rng=tg.noise(4), name="b")
        cost = (tg.sum(b * w, axis=1) + b[:, 0] * b[:, 1]) ** 2
        return tg.gradients(tg.sum(tg.estimate(cost, {"b": estimator})), logits)

    truth = np.zeros(3)
    p = 1 / (1 + np.exp(-np.array([0.3, -0.5, 1.0])))
    for bits in itertools.product([0, 1], repeat=3):
        v = np.array(bits)
        weight = np.prod(np.where(v, p, 1 - p))
        truth += weight * (v - p) * (v @ w + v[0] * v[1]) ** 2
    found = gradient(instance(name), 5 if name == "enumeration" else DRAWS)
    assert_agrees(found, truth)
    if name == "enumeration":
        np.testing.assert_allclose(found, np.tile(truth, (5, 1)), rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["arsm", "enumeration", "score-function", "rebar", "relax", "second-draw", "gumbel-softmax"]
)
def test_costs_that_mix_several_choices(name):
    start = np.array([[0.3, -0.5, 1.0], [0.0, 0.7, -0.2]])
    worth = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]])

    def gradient(estimator, draws):
        logits = tg.Tensor(np.tile(start, (draws, 1, 1)), "logits")
        z = tg.Independent(tg.OneHotCategorical(logits=logits), 1).sample(rng=tg.noise(4), name="z")
        cost = tg.exp(0.5 * tg.sum(z * worth, axis=(1, 2)))
        return tg.gradients(tg.sum(tg.estimate(cost, {"z": estimator})), logits)

    p = np.exp(start) / np.exp(start).sum(-1, keepdims=True)
    truth = np.zeros((2, 3))
    for i, j in itertools.product(range(3), repeat=2):
        cost = np.exp(0.5 * (worth[0, i] + worth[1, j]))
        truth += p[0, i] * p[1, j] * cost * (np.eye(3)[[i, j]] - p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tg.BiasedGradientWarning)
        found = gradient(instance(name), 5 if name == "enumeration" else DRAWS)
    if name == "gumbel-softmax":
        with pytest.raises(AssertionError):
            assert_agrees(found, truth)
        return
    assert_agrees(found, truth)


@pytest.mark.parametrize("family", [tg.Categorical, tg.OneHotCategorical], ids=lambda family: family.__name__)
def test_swapping_the_noise_of_two_classes_gives_the_gradient_of_a_choice_and_less_variance(family):
    start, worth = np.array([0.3, -0.5, 1.0, 0.0]), np.array([1.0, -2.0, 0.5, 3.0])
    logits = tg.Tensor(np.tile(start, (DRAWS, 1)), "logits")
    z = family(logits=logits).sample(rng=tg.noise(4), name="z")
    cost = tg.take(worth, z, axis=0) if family is tg.Categorical else tg.sum(z * worth, axis=1)
    p = scipy.special.softmax(start)
    found, plain = (tg.gradients(tg.sum(tg.estimate(cost, {"z": e})), logits) for e in ("arsm", "score-function"))
    for draws in (found, plain):
        assert_agrees(draws, p * (worth - p @ worth))
    assert found.var(0).sum() < plain.var(0).sum()


def test_swapping_between_two_classes_is_arm():
    """With logits (0, l) and two classes, the gradient in l is that of ARM for a toss of logit l, of the same noise."""
    logit, u = 0.7, tg.noise(2).uniform((50, 2))
    pair = tg.Tensor(np.tile([0.0, logit], (50, 1)), "logits")
    z = tg.OneHotCategorical(logits=pair).sample(rng=tg.noise(0), name="z")
    z = tg.replay(z, {z.noise: u})
    found = tg.gradients(tg.sum(tg.ARSM()((z[:, 1] - 0.45) ** 2)), pair)
    share = np.log(u[:, 1]) / np.log(u).sum(1)  # uniform
    cost = (np.array([0.0, 1.0]) - 0.45) ** 2
    heads, mirror = (x < scipy.special.expit(logit) for x in (share, 1 - share))
    arm = (cost[heads.astype(int)] - cost[mirror.astype(int)]) * (0.5 - share)
    np.testing.assert_allclose(found, np.stack([-arm, arm], 1), atol=1e-12)


def test_noisy_logits_given_the_draw_have_the_draw_for_their_argmax_and_the_distribution_of_the_others():
    dist = tg.OneHotCategorical(logits=np.tile([0.3, -0.5, 1.0], (DRAWS, 1)))
    z = dist.sample(rng=tg.noise(0))
    again = noisy_logits_given(dist, z, tg.noise(1).uniform(z.shape))
    np.testing.assert_array_equal(np.argmax(again, axis=1), np.argmax(z, axis=1))
    first = noisy_logits(dist, tg.noise(2).uniform(z.shape))
    assert_agrees(again - first, 0.0)
    assert_agrees(again**2 - first**2, 0.0)
    assert_agrees(again * np.roll(again, 1, axis=1) - first * np.roll(first, 1, axis=1), 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", [tg.Bernoulli, tg.OneHotCategorical])
def test_noisy_logits_given_a_draw_stay_finite_where_a_probability_rounds_to_0_or_1(family, dtype):
    sure = np.array([-1e3, -90, -20, -10, 0, 10, 20, 90, 1e3], dtype)
    halves = 0.5 / 2.0 ** (23 if dtype == np.float32 else 52)
    v = np.array([halves, 0.5, 1 - halves], dtype)  # the least and the largest that a stream gives
    shape = (9, 3) if family is tg.Bernoulli else (9, 3, 3)
    logits = sure[:, None] if family is tg.Bernoulli else sure[:, None, None] * np.array([1, 0, -1], dtype)
    v = np.broadcast_to(v, shape) if family is tg.Bernoulli else v[:, None][..., np.array([0, 0, 0])]
    for k in range(2 if family is tg.Bernoulli else 3):
        theta = tg.Tensor(np.broadcast_to(logits, shape).copy(), "theta")
        b = np.full(shape, k, dtype) if family is tg.Bernoulli else np.broadcast_to(np.eye(3, dtype=dtype)[k], shape)
        noisy = noisy_logits_given(family(logits=theta), b, np.broadcast_to(v, shape).copy())
        soft = tg.sigmoid(2 * noisy) if family is tg.Bernoulli else tg.softmax(2 * noisy)[..., 0]
        assert noisy.dtype == dtype
        assert np.isfinite(noisy.value).all()
        assert np.isfinite(tg.gradients(tg.sum(soft), theta)).all()


def test_the_variances_of_the_measure_valued_derivative_are_those_of_theory():
    for mu, s in ((2.0, 1.0), (1.0, 1.0), (0.5, 2.0)):
        loc, scale = tg.Tensor(np.full(DRAWS, mu), "mu"), tg.Tensor(np.full(DRAWS, s), "s")
        x = tg.Normal(loc, scale).sample(rng=tg.noise(1))
        in_mu, in_s = tg.gradients(tg.sum(tg.MeasureValued(tg.noise(2))(x * x)), [loc, scale])
        assert_agrees(in_mu, 2 * mu)
        assert_agrees(in_s, 2 * s)
        assert_variance_agrees(in_mu, (16 / np.pi - 4) * mu**2)
        assert_variance_agrees(in_s, 4 * mu**2 + 4 * s**2)


def test_measure_valued_derivatives_take_each_coordinate_that_the_cost_mixes():
    mu = tg.Tensor(np.zeros((DRAWS, 3)), "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(1))
    assert_agrees(tg.gradients(tg.sum(tg.MeasureValued(tg.noise(2))(tg.sum(x, axis=1) ** 3)), mu), 9.0)


WEAK = {
    tg.Normal: {"loc": 0.4, "scale": 0.8},
    tg.LogNormal: {"loc": 0.2, "scale": 0.5},
    tg.Exponential: {"rate": 1.7},
    tg.Gamma: {"concentration": 2.5, "rate": 1.7},
    tg.Weibull: {"concentration": 1.6, "scale": 0.9},
    tg.Poisson: {"rate": 1.7},
}


@pytest.mark.parametrize("family", WEAK_DERIVATIVES, ids=lambda family: family.__name__)
def test_every_weak_derivative_is_that_of_the_probability_of_a_tail(family):
    """The cost 1[z > 1] jumps, so that no path can follow; the truth is the derivative of 1 - F(1), by the formula."""
    pairs = WEAK_DERIVATIVES[family](family(**WEAK[family]), np.ones(()), lambda noise: np.full((), 0.5))
    leaves = {name: tg.Tensor(np.full(DRAWS, value), name) for name, value in WEAK[family].items() if name in pairs}
    z = family(**(WEAK[family] | leaves)).sample(rng=tg.noise(3), name="z")
    found = tg.gradients(tg.sum(tg.MeasureValued(tg.noise(4))(tg.where(z > 1.0, 1.0, 0.0))), leaves)
    exact = {name: tg.Tensor(WEAK[family][name], name) for name in leaves}
    truth = tg.gradients(1 - family(**(WEAK[family] | exact)).cdf(1.0), exact)
    assert leaves
    for name, draws in found.items():
        assert_agrees(draws, truth[name])


def test_a_parameter_without_a_weak_derivative_is_named():
    z = tg.Gamma(tg.Tensor(2.0, "a"), 1.0).sample(rng=tg.noise(0), name="z")
    with pytest.raises(tg.InvalidGradientError, match="no weak derivative of Gamma is declared in concentration"):
        tg.MeasureValued(tg.noise(0))(z * 2.0)


def test_leave_one_out_has_the_variance_of_a_baseline_and_no_bias_where_the_batch_mean_has_one():
    n, runs = 4, DRAWS // 4
    mu = tg.Tensor(np.full((1, runs), 2.0), "mu")
    z = tg.Normal(mu, 1.0).sample((n,), rng=tg.noise(0), name="z")
    cost = tg.sum(z * z, axis=1)
    found = tg.gradients(tg.sum(tg.mean(tg.LeaveOneOut()(cost), axis=0)), mu)[0]
    assert_agrees(found, 4.0)
    zv = z.value[:, 0]
    biased = ((zv**2 - (zv**2).mean(0)) * (zv - 2.0)).mean(0)
    with pytest.raises(AssertionError):
        assert_agrees(biased, 4.0)
    assert_agrees(biased, 4.0 * (1 - 1 / n))


@pytest.mark.parametrize("name", [name for name, kind in tg.ESTIMATORS.items() if kind.biased])
def test_a_biased_estimator_says_so_and_is_biased(name):
    p = tg.Tensor(np.full(DRAWS, 0.3), "p")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    new = tg.sum(tg.estimate((b - 0.45) ** 2, {"b": name}))
    report = tg.explain(new, p)
    assert not report.unbiased
    assert "BIASED" in str(report)
    with pytest.warns(tg.BiasedGradientWarning, match=rf"b \(test_estimate.py:\d+\) is biased.*\[{name}\]"):
        found = tg.gradients(new, p)
    with pytest.raises(AssertionError):
        assert_agrees(found, 1 - 2 * 0.45)
    if name == "straight-through":
        assert_agrees(found, 2 * 0.3 - 2 * 0.45)


def test_a_bias_is_warned_of_also_where_no_noise_is_left():
    p = tg.Tensor(0.3, "p")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    fixed = tg.replay(tg.StraightThrough()(b * 2.0), {b.noise: tg.Tensor(b.noise.value)})
    with pytest.warns(tg.BiasedGradientWarning, match="straight-through"):
        tg.gradients(fixed, p)


@pytest.mark.filterwarnings("ignore::tinygrad_vae.BiasedGradientWarning")
def test_a_bias_that_no_requested_parameter_meets_is_not_warned_of():
    p, w = tg.Tensor(0.3, "p"), tg.Tensor(2.0, "w")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    new = tg.StraightThrough()(w * b)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tg.gradients(new, w) == b.value


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("pathwise", "pathwise for b .*discrete"),
        ("leave-one-out", "several draws"),
        ("measure-valued", "no weak derivative is declared for Bernoulli"),
        ("quadrature", "discrete"),
    ],
)
def test_an_estimator_that_would_be_wrong_at_its_node_is_refused_with_the_reason(choice, message):
    b = tg.Bernoulli(probs=tg.Tensor(0.3, "p")).sample(rng=tg.noise(0), name="b")
    with pytest.raises(tg.InvalidGradientError, match=message):
        tg.estimate(b * 2.0, {"b": instance(choice)})


@pytest.mark.parametrize(
    "family",
    [
        lambda mu: tg.MultivariateNormal(mu, np.eye(3)),
        lambda mu: tg.Independent(tg.Normal(mu, 1.0), 1),
        lambda mu: tg.OneHotCategorical(logits=mu),
    ],
)
def test_the_coordinates_of_one_draw_are_no_draws_to_leave_one_out(family):
    """They have one log-probability, so that the cost at the others is weighed with it too."""
    mu = tg.Tensor(np.ones(3), "mu")
    z = family(mu).sample(rng=tg.noise(0), name="z")
    with pytest.raises(tg.InvalidGradientError, match=r"leave-one-out for z .*must count the draws"):
        tg.estimate(z * z, {"z": "leave-one-out"})
    with pytest.raises(tg.InvalidGradientError, match=r"vimco for z .*must count the draws"):
        tg.estimate(tg.logsumexp(z, axis=0), {"z": "vimco"})
    (node,) = tg.explain(tg.sum(tg.estimate(tg.where(z > 0.5, z, 0.0), default="auto")), mu).nodes
    assert node.estimator not in ("leave-one-out", "vimco")
    several = family(mu).sample((2,), rng=tg.noise(0), name="z")
    tg.gradients(tg.sum(tg.estimate(several * several, {"z": "leave-one-out"})), mu)


@pytest.mark.parametrize("shared", [(1,), (1, 4)])
def test_draws_that_share_an_earlier_one_are_no_baseline_for_it(shared):
    mu = tg.Tensor(np.ones(shared), "mu")
    rng = tg.noise(0)
    w = tg.Normal(mu, 1.0).sample(rng=rng, name="w")
    z = tg.Normal(w, np.ones((4, *shared[1:]))).sample(rng=rng, name="z")
    with pytest.raises(tg.InvalidGradientError, match=r"leave-one-out for w .*depend on draw i alone"):
        tg.estimate(z * z, {"z": "pathwise"}, default="leave-one-out")
    with pytest.raises(tg.InvalidGradientError, match=r"vimco for w .*each depend on its own"):
        tg.estimate(tg.logsumexp(z, axis=0), {"w": "vimco", "z": "pathwise"})


@pytest.mark.parametrize("name", ["enumeration", "arm", "arsm", "disarm", "rebar", "relax", "gumbel-softmax"])
def test_estimators_of_discrete_draws_refuse_continuous_ones(name):
    z = tg.Normal(tg.Tensor(0.3, "mu"), 1.0).sample(rng=tg.noise(0), name="z")
    with pytest.raises(tg.InvalidGradientError, match=rf"{name} for z .*Normal"):
        tg.estimate(z * 2.0, {"z": instance(name)})


def test_choices_that_name_nothing_are_refused():
    z = tg.Normal(tg.Tensor(0.3, "mu"), 1.0).sample(rng=tg.noise(0), name="z")
    with pytest.raises(ValueError, match=r"no random node 'y' .*these do: z"):
        tg.estimate(z * 2.0, {"y": "pathwise"})
    with pytest.raises(ValueError, match="no estimator 'reinforce'; choose one of arm, arsm, disarm"):
        tg.estimate(z * 2.0, {"z": "reinforce"})
    for call in (lambda name: tg.estimate(z * 2.0, {"z": name}), lambda name: tg.vae.Objective(estimator=name)):
        with pytest.raises(ValueError, match="no estimator 'dissarm'; did you mean disarm or arm"):
            call("dissarm")
    with pytest.raises(TypeError, match="graph of a Tensor"):
        tg.estimate(np.ones(2), default="pathwise")


def test_a_weighed_cost_put_into_a_function_is_refused_for_every_estimator_that_weighs():
    mu = tg.Tensor(0.3, "mu")
    for estimator in (tg.ScoreFunction(), tg.MeasureValued(tg.noise(1))):
        z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
        with pytest.raises(tg.InvalidGradientError, match="term of the final cost"):
            tg.gradients(tg.exp(estimator(z * z)), mu)


def test_nodes_that_nobody_chose_for_stay_blocked():
    cost, _b, x, p, mu = mixed_program(5)
    half = tg.estimate(cost, {x: "pathwise"})
    assert tg.gradients(tg.sum(half), mu).shape == (5,)
    with pytest.raises(tg.BlockedGradientError, match="b ~ Bernoulli"):
        tg.gradients(tg.sum(half), [p])


def test_the_control_of_relax_can_be_trained_on_the_variance():
    p = tg.Tensor(np.full(DRAWS, 0.3), "p")
    scale = tg.Tensor(0.0, "scale")
    b = tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")
    new = tg.RELAX(lambda s: scale * tg.sigmoid(s), tg.noise(1))((b - 0.45) ** 2)
    g = tg.gradients(tg.sum(new), p, record=True)
    slope = tg.gradients(tg.mean(g * g), scale)

    def spread(at):
        return tg.replay(tg.mean(g * g), {scale: np.asarray(at)}).value

    np.testing.assert_allclose(slope, (spread(1e-4) - spread(-1e-4)) / 2e-4, rtol=1e-6)
    assert spread(0.1 * -np.sign(slope)) < spread(0.0)


def test_the_control_of_relax_lies_along_the_cost_as_the_draw_does():
    """The cost of a square of draws, transposed, has their shape: its control is transposed too."""
    start, w = np.array([[0.3, -0.2], [0.5, 1.0]]), np.array([[1.0, 5.0], [0.0, -3.0]])
    logits = tg.Tensor(start, "logits")

    def one(r, control, cost):
        b = tg.Bernoulli(logits=logits).sample(rng=tg.noise(0).at(r), name="b")
        return tg.gradients(tg.sum(tg.RELAX(control, tg.noise(1).at(r))(cost(b))), logits)

    p = 1 / (1 + np.exp(-start))
    turned = lambda b: tg.matrix_transpose(b) * w  # noqa: E731
    for control in (lambda v: 3 * tg.sigmoid(v), lambda v: tg.matrix_transpose(3 * tg.sigmoid(v)) * w):
        assert_agrees([one(r, control, turned) for r in range(400)], w.T * p * (1 - p))


def test_a_control_of_relax_that_joins_what_the_cost_keeps_apart_is_refused():
    logits = tg.Tensor(np.zeros((3, 3)), "logits")
    b = tg.Bernoulli(logits=logits).sample(rng=tg.noise(0), name="b")
    joins = tg.RELAX(lambda v: v - tg.mean(v, axis=0), tg.noise(1))
    with pytest.raises(tg.InvalidGradientError, match=r"RELAX for b .*\(3, 3\), depends on draws of its own"):
        joins(b * 2.0)
    tg.gradients(joins(tg.sum(b)), logits)
    tg.gradients(tg.sum(tg.RELAX(lambda v: np.ones((3, 3)), tg.noise(1))(b * 2.0)), logits)


def test_quadrature_refuses_a_cost_that_jumps_where_its_derivative_would_be_zero():
    mu = tg.Tensor(0.0, "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    with pytest.raises(tg.InvalidGradientError, match=r"quadrature for z .*z > 0 between z and the cost jumps"):
        tg.estimate(tg.where(z > 0, 1.0, 0.0), {"z": "quadrature"})


@pytest.mark.parametrize("name", ["abs", "relu", "maximum"])
def test_quadrature_refuses_a_cost_with_a_kink_where_it_would_be_off(name):
    mu = tg.Tensor(0.5, "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    cost = {"abs": tg.abs(z) ** 0.25, "relu": tg.relu(z), "maximum": tg.maximum(z, 0.1)}[name]
    with pytest.raises(tg.InvalidGradientError, match=rf"quadrature for z .*{name} has a kink"):
        tg.estimate(cost, {"z": "quadrature"})
    tg.estimate(z**2 + tg.relu(mu), {"z": "quadrature"})


# ------------------------------------------------------------------------- chosen where drawn, or by trying


def test_an_estimator_may_be_chosen_where_the_node_is_drawn():
    p, mu, rng = tg.Tensor(0.3, "p"), tg.Tensor(0.5, "mu"), tg.noise(0)
    b = tg.Bernoulli(probs=p).sample(rng=rng, name="b", estimator="enumeration")
    x = tg.Normal(mu + b, 1.0).sample(rng=rng, name="x", estimator=tg.ScoreFunction(2.0))
    cost = x**2 * (1 + b)

    def chosen(new):
        return {node.name: node.estimator for node in tg.explain(new, [p, mu]).nodes}

    assert chosen(tg.estimate(cost)) == {"b": "enumeration", "x": "score-function"}
    assert chosen(tg.estimate(cost, {"x": "pathwise"})) == {"b": "enumeration", "x": "pathwise"}
    assert chosen(tg.estimate(cost, default="pathwise")) == {"b": "enumeration", "x": "score-function"}
    assert chosen(tg.reparameterize(cost)) == {"b": None, "x": "pathwise"}
    assert chosen(tg.score_function(cost)) == {"b": "score-function", "x": "score-function"}
    again = tg.replay(cost, {mu: np.asarray(0.7)})
    assert chosen(tg.estimate(again)) == {"b": "enumeration", "x": "score-function"}


def test_a_name_of_no_estimator_where_the_node_is_drawn_is_refused_when_it_is_used():
    z = tg.Normal(tg.Tensor(0.3, "mu"), 1.0).sample(rng=tg.noise(0), name="z", estimator="trick")
    with pytest.raises(ValueError, match="no estimator 'trick'"):
        tg.estimate(z * 2.0)


def test_an_estimator_with_noise_of_its_own_needs_a_stream():
    z = tg.Normal(tg.Tensor(0.3, "mu"), 1.0).sample(rng=tg.noise(0), name="z")
    with pytest.raises(ValueError, match=r"measure-valued draws noise of its own.*tg.MeasureValued\(rng=...\)"):
        tg.estimate(z * 2.0, {"z": "measure-valued"})


@pytest.mark.parametrize(("k", "best"), [(0.5, "pathwise"), (3.0, "score-function")])
def test_auto_tries_out_which_estimator_is_best_and_says_what_it_found(k, best):
    mu = tg.Tensor(1.0, "mu")
    cost = tg.cos(k * tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x"))
    new = tg.estimate(cost, default="auto")
    (node,) = tg.explain(new, mu).nodes
    assert node.estimator == best
    assert "chosen by 100 trial draws: variance" in node.note
    np.testing.assert_array_equal(new.value, cost.value)
    again = tg.estimate(cost, default="auto")
    assert tg.explain(again, mu).nodes == [node]
    assert tg.gradients(again, mu) == tg.gradients(new, mu)


def test_auto_chooses_only_for_what_nobody_else_has_chosen_for():
    cost, _b, _x, p, mu = mixed_program(1)
    new = tg.estimate(cost, {"b": "arm"}, default="auto")
    notes = {node.name: (node.estimator, bool(node.note)) for node in tg.explain(tg.sum(new), [p, mu]).nodes}
    assert notes["b"] == ("arm", False)
    assert notes["x"] == ("pathwise", True)
    both = tg.estimate(cost, default="auto")
    assert {node.name: node.estimator for node in tg.explain(tg.sum(both), [p, mu]).nodes}["b"] == "enumeration"


def test_auto_refuses_where_nothing_is_valid():
    low = tg.Tensor(0.5, "low")
    x = tg.Uniform(low, 2.0).sample(rng=tg.noise(0), name="x")
    with pytest.raises(tg.InvalidGradientError, match="no unbiased estimator is valid here"):
        tg.estimate(tg.floor(x), default="auto")


# --------------------------------------------------------------------------------------- downstream credit


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize(
    ("options", "variance"),
    [
        ({}, lambda n: (n + 2) * (n + 4)),
        ({"baseline": lambda n: n + 2}, lambda n: 2 * (n + 2)),
        ({"credit": "downstream"}, lambda n: 15),
        ({"credit": "downstream", "baseline": lambda n: 3}, lambda n: 6),
    ],
    ids=["plain", "baseline", "downstream", "both"],
)
def test_the_variance_of_a_sum_over_dimensions_is_that_of_theory(n, options, variance):
    options = {key: value(n) if callable(value) else value for key, value in options.items()}
    mu = tg.Tensor(np.zeros((DRAWS, n)), "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
    found = tg.gradients(tg.sum(tg.ScoreFunction(**options)(tg.sum(x * x, axis=1))), mu)
    assert_agrees(found, 0.0)
    assert_variance_agrees(found[:, 0], variance(n))


@pytest.mark.parametrize("other", ["pathwise", "score-function", "enumeration", "downstream"])
def test_terms_are_weighed_for_every_draw_that_they_depend_on_however_far_back(other):
    """d/dp E [x^2 (1 + b) + 3 b - x] = 5.25 + 3 - 1 and d/dmu = 2.5 - 1."""
    downstream = tg.ScoreFunction(credit="downstream")
    _, b, x, p, mu = mixed_program()
    cost = x**2 * (1 + b) + 3 * b - x
    choices = {
        "pathwise": {b: downstream, x: "pathwise"},
        "score-function": {b: "score-function", x: downstream},
        "enumeration": {b: "enumeration", x: downstream},
        "downstream": {b: downstream, x: downstream},
    }[other]
    in_p, in_mu = tg.gradients(tg.sum(tg.estimate(cost, choices)), [p, mu])
    assert_agrees(in_p, 7.25)
    assert_agrees(in_mu, 1.5)


def test_a_term_that_depends_on_no_draw_is_not_weighed_and_one_that_is_bent_is_weighed_whole():
    mu, w = tg.Tensor(np.zeros(DRAWS), "mu"), tg.Tensor(np.full(DRAWS, 2.0), "w")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
    cost = 1000.0 * w + tg.exp(x - 0.5) / w
    in_mu, in_w = tg.gradients(tg.sum(tg.ScoreFunction(credit="downstream")(cost)), [mu, w])
    assert_agrees(in_mu, 0.5)
    assert_variance_agrees(in_mu, (1 + 4) * np.e / 4 - 0.25)
    assert_agrees(in_w, 1000 - 0.25)


def test_a_mean_over_a_batch_gives_each_example_its_own_credit():
    mu = tg.Tensor(np.zeros(50), "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
    found = tg.gradients(tg.ScoreFunction(credit="downstream")(tg.mean(x**2)), mu)
    np.testing.assert_allclose(found, x.value**3 / 50)
    second = tg.ScoreFunction(credit="downstream")(tg.mean(x**2) * tg.sum(x))
    np.testing.assert_allclose(tg.gradients(second, mu), np.mean(x.value**2) * x.value.sum() * x.value)


def test_the_baseline_of_terms_is_a_number():
    with pytest.raises(ValueError, match="the baseline of each term must be a number"):
        tg.ScoreFunction(np.zeros(3), credit="downstream")


# ------------------------------------------------------------------------------- baselines, bounds, Gamma draws


def bound(logits, n, estimator, seed=0):
    """Return the gradient in the logits of log mean exp over n draws of two tosses, for each row, and the cost."""
    b = tg.Independent(tg.Bernoulli(logits=logits), 1).sample((n,), rng=tg.noise(seed), name="b")
    log_weights = tg.sum(b * np.array([1.0, -2.0]), axis=2) + b[..., 0] * b[..., 1]
    cost = 0.5 - (tg.logsumexp(log_weights, axis=0) - np.log(n))
    new = tg.estimate(cost, {"b": estimator})
    np.testing.assert_array_equal(new.value, cost.value)
    return tg.gradients(tg.sum(new), logits)


def test_vimco_is_unbiased_on_a_bound_of_several_draws_and_calmer_than_the_score_function():
    start, n = np.array([0.4, -0.3]), 3
    p = 1 / (1 + np.exp(-start))
    truth = np.zeros(2)
    for bits in itertools.product([0, 1], repeat=2 * n):
        v = np.reshape(bits, (n, 2))
        log_weights = v @ [1.0, -2.0] + v[:, 0] * v[:, 1]
        cost = 0.5 - np.log(np.mean(np.exp(log_weights)))
        truth += np.prod(np.where(v, p, 1 - p)) * cost * (v - p).sum(0)
    logits = tg.Tensor(np.tile(start, (DRAWS, 1)), "logits")
    found, plain = (bound(logits, n, name) for name in ("vimco", "score-function"))
    assert_agrees(found, truth)
    assert_agrees(plain, truth)
    assert np.all(found.var(0) < plain.var(0) / 2)


def test_vimco_is_the_score_function_less_the_bound_without_that_draw():
    logits = tg.Tensor(np.array([[0.4, -0.3]]), "logits")
    found = bound(logits, 4, "vimco", seed=7)
    b = tg.Bernoulli(logits=logits.value).sample((4,), rng=tg.noise(7))[:, 0]
    l = b @ [1.0, -2.0] + b[:, 0] * b[:, 1]
    expected = 0.0
    for k in range(4):
        without = l.copy()
        without[k] = np.delete(l, k).mean()
        expected += -(np.logaddexp.reduce(l) - np.logaddexp.reduce(without)) * (b[k] - 1 / (1 + np.exp(-logits.value)))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (lambda b: tg.sum(b, axis=0), "must be logsumexp"),
        (lambda b: tg.exp(tg.logsumexp(b, axis=0)), "must be logsumexp"),
        (lambda b: tg.logsumexp(b, axis=1), "must be logsumexp"),
        (lambda b: tg.logsumexp(b - tg.mean(b, axis=0), axis=0), "each depend on its own"),
        (lambda b: tg.logsumexp(b[:1], axis=0), "each depend on its own"),
    ],
)
def test_vimco_refuses_what_is_no_bound_on_several_draws(cost, message):
    b = tg.Bernoulli(logits=tg.Tensor(np.zeros(2), "logits")).sample((3,), rng=tg.noise(0), name="b")
    with pytest.raises(tg.InvalidGradientError, match=message):
        tg.estimate(cost(b), {"b": "vimco"})


def test_the_corrected_path_through_a_rejection_sampler_is_unbiased_and_calm():
    """d/da E x^2 and d/da E log x of Gamma(a, 1) are 2 a + 1 and trigamma(a); d/drate E x is -a / rate^2."""
    for a in (1.0, 2.5):
        for cost, truth in ((lambda z: z * z, 2 * a + 1), (tg.log, scipy.special.polygamma(1, a))):
            shape = tg.Tensor(np.full(DRAWS, a), "a")
            z = tg.Gamma(shape, 1.0).sample(rng=tg.noise(5), name="z")
            found = tg.gradients(tg.sum(tg.RejectionPath()(cost(z))), shape)
            plain = tg.gradients(tg.sum(tg.score_function(cost(z))), shape)
            assert_agrees(found, truth)
            assert found.var() < plain.var()
    rate = tg.Tensor(np.full(DRAWS, 2.0), "rate")
    z = tg.Gamma(3.0, rate).sample(rng=tg.noise(6), name="z")
    assert_agrees(tg.gradients(tg.sum(tg.RejectionPath()(z)), rate), -3 / 4)


def test_the_corrected_path_has_second_derivatives():
    """E x^2 of Gamma(a, 1) is a^2 + a."""
    a = tg.Tensor(np.full(DRAWS, 2.5), "a")
    z = tg.Gamma(a, 1.0).sample(rng=tg.noise(5), name="z")
    first = tg.gradients(tg.sum(tg.RejectionPath()(z * z)), a, record=True)
    assert_agrees(tg.gradients(tg.sum(first), a), 2.0)


def test_the_rejection_sampler_is_for_concentrations_from_one_on_and_continuous_costs():
    z = tg.Gamma(tg.Tensor(np.array([2.0, 0.5]), "a"), 1.0).sample(rng=tg.noise(0), name="z")
    with pytest.raises(tg.InvalidGradientError, match=r"from 1 on, found 0\.5"):
        tg.RejectionPath()(z * 2.0)
    a = tg.Tensor(2.0, "a")
    y = tg.Gamma(a, 1.0).sample(rng=tg.noise(0), name="y")
    with pytest.raises(tg.InvalidGradientError, match="y > 1 between y and the cost jumps"):
        tg.RejectionPath()(tg.where(y > 1.0, 1.0, 0.0))


def opened(name, theta):
    """Return a parameter and a cost of a draw of its distribution, taken care of by one estimator."""
    theta = tg.Tensor(theta, "theta")
    choice = tg.OneHotCategorical(logits=tg.stack([0.0 * theta, theta], axis=-1))
    for dist in (tg.Bernoulli(logits=theta), tg.Normal(theta, 1.0), tg.Gamma(theta, 1.0), choice):
        z = dist.sample((5,), rng=tg.noise(0), name="z")
        cost = ((z[..., 1] if dist is choice else z) - 0.3) ** 2 * theta
        if name == "vimco":
            cost = tg.logsumexp(cost, axis=0)
        if valid(name, z, cost):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", tg.BiasedGradientWarning)
                return theta, tg.estimate(cost, {"z": instance(name)})
    raise AssertionError(f"no distribution here for {name}")


@pytest.mark.parametrize("name", sorted(tg.ESTIMATORS))
def test_an_opened_graph_run_again_with_other_parameters_is_that_opened_there(name):
    here, there = np.linspace(1.2, 3.0, 20), np.linspace(3.0, 1.2, 20)
    theta, cost = opened(name, here)
    other, expected = opened(name, there)
    again = tg.replay(cost, {theta: other})
    np.testing.assert_array_equal(again.value, expected.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tg.BiasedGradientWarning)
        found, right = (tg.gradients(tg.sum(c), other) for c in (again, expected))
    np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("name", ["arm", "arsm", "disarm", "measure-valued", "pruned-triples", "triples", "vimco"])
def test_a_difference_of_costs_has_no_second_derivative_and_says_so(name):
    theta, cost = opened(name, np.array([0.5, 1.5]))
    gradient = tg.gradients(tg.sum(cost), theta, record=True)
    with pytest.raises(tg.GradientRefusedError, match=r"first derivatives only|stand"):
        tg.gradients(tg.sum(gradient), theta)


@pytest.mark.parametrize("name", ["enumeration", "score-function", "rebar", "relax", "second-draw"])
def test_second_derivatives_of_the_others_are_unbiased(name):
    logits = tg.Tensor(np.full(DRAWS, 0.8), "logits")
    b = tg.Bernoulli(logits=logits).sample(rng=tg.noise(0), name="b")
    cost = tg.estimate((b - 0.2) ** 2, {"b": instance(name)})
    gradient = tg.gradients(tg.sum(cost), logits, record=True)
    p = scipy.special.expit(0.8)
    assert_agrees(tg.gradients(tg.sum(gradient), logits), (0.8**2 - 0.2**2) * p * (1 - p) * (1 - 2 * p))


@pytest.mark.parametrize("estimator", ["enumeration", "score-function", "disarm"])
def test_a_gradient_in_arrays_is_arrays_whatever_the_estimator_puts_into_the_graph(estimator):
    def cost(logit):
        b = tg.Bernoulli(logits=logit).sample(rng=tg.noise(0), name="b")
        return tg.estimate((b - 0.45) ** 2, default=estimator)

    value, gradient = tg.value_and_grad(cost)(np.array(0.3))
    assert isinstance(value, np.ndarray)
    assert isinstance(gradient, np.ndarray)
