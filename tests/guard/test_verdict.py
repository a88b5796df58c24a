"""Wrong gradients are refused with the reason, right ones are not; what is said of which draw belongs to which cost."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standard_errors import assert_agrees

import tinygrad_vae as tg
from tinygrad_vae.core import new_noise, topological_order
from tinygrad_vae.guard.axes import surviving_axes

DRAWS = 20_000


def draw(family=tg.Normal, shape=(), **parameters):
    """Return a draw and its parameters as Tensors."""
    theta = {name: tg.Tensor(value, name) for name, value in parameters.items()}
    return family(**theta).sample(shape, rng=tg.noise(0), name="z"), theta


def refused(cost, theta, kind=tg.InvalidGradientError):
    with pytest.raises(kind) as caught:
        tg.gradients(cost, theta)
    assert not tg.explain(cost, theta).unbiased
    return str(caught.value)


# -------------------------------------------------------------------------------------- blocked draws


def test_the_error_names_parameter_node_line_and_the_valid_rewrites():
    mu, sigma = tg.Tensor(0.5, "mu"), tg.Tensor(1.5, "sigma")
    w = tg.Tensor(2.0, "w")
    latent = tg.Normal(mu, sigma).sample(rng=tg.noise(0))
    line = test_the_error_names_parameter_node_line_and_the_valid_rewrites.__code__.co_firstlineno + 3
    message = refused((latent - w) ** 2 + mu * mu, [mu, sigma, w], tg.BlockedGradientError)
    assert message.splitlines() == [
        "1 random node stands between the cost and 2 of 3 parameters",
        f"  latent ~ Normal(mu, sigma)                   test_verdict.py:{line}",
        "    cut          sigma",
        "    partly cut   mu",
        "                 (other paths reach them: without this one they would train, and wrongly)",
        "    open         w",
        "  valid here     reparameterize(cost)    all 3 ops from latent to the cost are continuous",
        "                 score_function(cost)    the support of Normal does not move with mu, sigma",
    ]


def test_each_draw_gets_the_rewrites_that_are_valid_for_it():
    theta = {"logits": tg.Tensor(0.0, "logits"), "h": tg.Tensor(2.0, "h")}
    b = tg.Bernoulli(logits=theta["logits"]).sample(rng=tg.noise(0))
    u = tg.Uniform(0.0, theta["h"]).sample(rng=tg.noise(1))
    report = tg.explain(b * u, theta)
    options = {node.name: {o.call: (o.valid, o.reason) for o in node.options} for node in report.nodes}
    assert options["b"]["reparameterize(cost)"] == (False, b.dist.why_no_path)
    assert options["b"]["score_function(cost)"][0]
    assert options["u"]["reparameterize(cost)"][0]
    assert options["u"]["score_function(cost)"] == (False, "the support of Uniform moves with h")


def test_a_draw_is_no_obstacle_to_parameters_that_do_not_reach_it():
    z, theta = draw(loc=0.0)
    w = tg.Tensor(2.0, "w")
    assert tg.gradients(z * w, w) == z.value
    assert tg.gradients(z * z, z) == 2 * z.value
    assert "cut          -" in str(tg.explain(z * w, w))
    refused(z * w, [w, theta["loc"]], tg.BlockedGradientError)


def test_the_only_open_path_does_not_hide_the_cut_one():
    """The partly cut posterior: the divergence alone would train it, to the prior."""
    z, theta = draw(loc=0.5)
    cost = (z - 3.0) ** 2 + tg.kl_divergence(tg.Normal(theta["loc"], 1.0), tg.Normal())
    report = tg.explain(cost, theta)
    assert (report.nodes[0].cut, report.nodes[0].partly_cut) == ([], ["loc"])
    refused(cost, theta, tg.BlockedGradientError)


def test_unnamed_draws_and_parameters_are_named_as_well_as_possible():
    mu = tg.Tensor(0.0)
    inline = tg.explain(tg.Normal(mu, 1.0).sample(rng=tg.noise(0)) ** 2, [mu])
    assert (inline.nodes[0].name, inline.nodes[0].cut) == ("a draw", ["wrt[0]"])
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    assert tg.explain(z, [mu]).nodes[0].name == "z"


def test_a_long_list_of_parameters_stays_on_one_line():
    parameters = [tg.Tensor(1.0, f"layer{i}.weight") for i in range(100)]
    z = tg.Normal(sum(parameters), 1.0).sample(rng=tg.noise(0))
    message = refused(z, parameters, tg.BlockedGradientError)
    assert max(len(line) for line in message.splitlines()) <= 130
    assert "layer0.weight layer1.weight" in message
    assert "94 more" in message


# ------------------------------------------------------------------------------------- wrong programs


def test_a_support_that_moves_refuses_the_score_function():
    """E x of Uniform(0, h) has the derivative 1/2. Without the term at the edge the formula says -1/2."""
    x, theta = draw(tg.Uniform, (DRAWS,), low=0.0, high=np.array(2.0))
    formula = x.value * tg.gradients(tg.Uniform(0.0, theta["high"]).log_prob(1.0), theta["high"])
    assert_agrees(formula, -0.5)
    message = refused(tg.mean(tg.score_function(x)), theta["high"])
    assert "the support of Uniform moves with high, low" in message
    assert "use reparameterize(cost)" in message
    assert_agrees(x.value / 2.0, tg.gradients(tg.mean(tg.reparameterize(x)), theta["high"]))
    assert_agrees(x.value / 2.0, 0.5)


def test_a_support_that_moves_is_no_matter_to_other_parameters():
    x, theta = draw(tg.Uniform, low=0.0, high=2.0)
    w = tg.Tensor(3.0, "w")
    cost = tg.score_function(x * w)
    assert tg.gradients(cost, w) == x.value
    assert tg.explain(cost, w).unbiased
    assert not tg.explain(cost, [w, theta["low"]]).unbiased


JUMPS = {
    "less": lambda z: tg.where(z > 0, 1.0, 0.0),
    "floor": lambda z: tg.floor(z) * 2.0,
    "sign": lambda z: tg.sign(z) + 1.0,
    "equal": lambda z: tg.where(z == 0.0, 1.0, 2.0),
    "argmax": lambda z: np.array([1.0, 2.0, 3.0]) * tg.argmax(tg.stack([z, -z]), axis=0),
    "getitem": lambda z: tg.Tensor(np.arange(9.0))[tg.astype(tg.clip(z + 4.0, 0.0, 8.0), np.int64)],
    "astype": lambda z: tg.astype(tg.astype(z, np.int64), np.float64),
}


@pytest.mark.parametrize("name", JUMPS)
def test_a_path_that_jumps_with_the_draw_is_refused(name):
    z, theta = draw(loc=0.0)
    cost = tg.sum(JUMPS[name](z))
    opened = tg.reparameterize(cost)
    jumping = {"getitem": "astype", "less": "> 0", "equal": "== 0"}.get(name, name)
    assert f"{jumping} jumps with a random value" in refused(opened, theta)
    pathwise, score = tg.explain(cost, theta).nodes[0].options[:2]
    assert (pathwise.valid, score.valid) == (False, True)
    assert jumping in pathwise.reason
    assert np.isfinite(tg.gradients(tg.score_function(cost), theta["loc"]))


LEAPS = {
    "atan2": lambda z: tg.atan2(z, z - 1.0),
    "eigenvectors": lambda z: tg.linalg.eigh(np.eye(2) * z + np.array([[0.0, 1.0], [1.0, 1.0]]))[1][0, 0],
    "orthonormal": lambda z: tg.linalg.qr(np.array([[1.0, 0.0], [2.0, 1.0]]) * z)[0][0, 0],
    "left_singular_vectors": lambda z: tg.linalg.svd(np.array([[1.0, 0.0], [2.0, 1.0]]) * z)[0][0, 0],
    "remainder": lambda z: tg.remainder(z, 1.0),
}


@pytest.mark.parametrize("name", LEAPS)
def test_a_path_that_leaps_is_followed_for_a_parameter_and_refused_for_a_random_value(name):
    w = tg.Tensor(0.4, "w")
    assert np.isfinite(tg.gradients(LEAPS[name](w) * 1.0, w))
    z, theta = draw(loc=0.4)
    assert name in refused(tg.reparameterize(LEAPS[name](z)), theta)
    pathwise, score = tg.explain(LEAPS[name](z), theta).nodes[0].options[:2]
    assert (pathwise.valid, score.valid) == (False, True)
    assert name in pathwise.reason


def test_an_angle_has_a_gradient_by_the_score_function_that_its_path_misses():
    """E atan2(sin t, cos t), t ~ N(3, 1): the path says 1, and misses how often the angle leaps from pi to -pi."""
    mu = tg.Tensor(np.full(DRAWS, 3.0), "mu")
    t = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    angle = tg.atan2(tg.sin(t), tg.cos(t))
    edges = np.pi * np.arange(-5.0, 9.0, 2.0)
    truth = 1 - 2 * np.pi * np.sum(np.exp(-0.5 * (edges - 3) ** 2)) / np.sqrt(2 * np.pi)
    assert truth < -1
    assert_agrees(tg.gradients(tg.sum(tg.score_function(angle)), mu), truth)


def test_every_estimator_is_among_the_options_of_a_random_node_with_its_reason():
    rng = tg.noise(0)
    p, h = tg.Tensor(0.3, "p"), tg.Tensor(2.0, "h")
    b = tg.Bernoulli(probs=p).sample(rng=rng, name="b")
    u = tg.Uniform(0.0, h).sample((4,), rng=rng, name="u")
    for_b, for_u = (node.options for node in tg.explain(u**2 * b, [p, h]).nodes)
    for options in (for_b, for_u):
        others = {option.call: option for option in options[2:]}
        assert set(others) == set(tg.ESTIMATORS) - {"pathwise", "score-function"}
        for name, option in others.items():
            assert option.valid == (not option.reason)
            assert option.biased == tg.ESTIMATORS[name].biased
    reasons = {option.call: option.reason for option in for_u}
    assert reasons["leave-one-out"] == reasons["second-draw"] == "the support of Uniform moves with h"
    assert reasons["arm"] == "it is for Bernoulli draws, found Uniform"
    assert reasons["quadrature"] == ""


def test_estimators_that_are_valid_too_stand_on_one_line_of_the_report():
    b = tg.Bernoulli(probs=tg.Tensor(0.3, "p")).sample(rng=tg.noise(0), name="b")
    report = str(tg.explain(b**2, b.inputs[1]))
    assert "  also valid     arm disarm enumeration pruned-triples rebar relax second-draw triples\n" in report
    assert "  with a bias    gumbel-softmax straight-through" in report
    assert "also valid" not in refused(b**2, b.inputs[1], tg.BlockedGradientError)


def test_copies_of_one_draw_are_reported_once_and_two_draws_of_one_line_twice():
    p, mu, rng = tg.Tensor(0.3, "p"), tg.Tensor(0.5, "mu"), tg.noise(0)
    b = tg.Bernoulli(probs=p).sample(rng=rng, name="b", estimator="enumeration")
    x = sum(tg.Normal(mu + b, 1.0).sample(rng=rng, name="x", estimator="pathwise") for _ in range(2))
    names = [node.name for node in tg.explain(tg.estimate(x * b), [p, mu]).nodes]
    assert sorted(names) == ["b", "x", "x"]


def test_the_score_function_finds_the_gradient_that_a_jump_hides():
    mu = tg.Tensor(np.zeros(DRAWS), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    found = tg.gradients(tg.sum(tg.score_function(tg.where(z > 0, 1.0, 0.0))), mu)
    assert_agrees(found, 1 / math.sqrt(2 * math.pi))


def test_a_jump_with_randomness_that_was_cut_is_a_jump_all_the_same():
    """E where(z + w > 0, 1, 0) depends smoothly on w, also for a z that is none of its business."""
    z, _ = draw(loc=0.5)
    w = tg.Tensor(1.0, "w")
    refused(tg.where(tg.stop_gradient(z) + w > 0, 1.0, 0.0) * w, [w])
    tg.gradients(tg.where(z > 0, w, 2.0 * w), w)


def test_a_threshold_that_is_a_parameter_is_a_jump_too():
    """E 1(z > t) has the derivative -density(t): the same cost, written as z - t > 0, was refused all along."""
    z, theta = draw(shape=(DRAWS,), loc=0.0)
    t = tg.Tensor(0.3, "t")
    for cost in (tg.reparameterize, tg.score_function):
        message = refused(tg.mean(cost(tg.where(z > t, 1.0, 0.0))), t)
        assert "jumps where a random value meets what depends on the parameters" in message
    tg.gradients(tg.where(t > 0.0, tg.mean(tg.reparameterize(z)), 0.0), [t, theta["loc"]])
    away = tg.Tensor(np.full(DRAWS, 0.3), "t")
    difference = tg.Normal(-away, 1.0).sample(rng=tg.noise(0))
    found = tg.gradients(tg.sum(tg.score_function(tg.where(difference > 0, 1.0, 0.0))), away)
    assert_agrees(found, -math.exp(-0.5 * 0.3**2) / math.sqrt(2 * math.pi))


@pytest.mark.parametrize(
    "mean_of",
    [
        lambda z: tg.mean(z * z),
        lambda z: tg.stop_gradient(tg.mean(z * z)),
        lambda z: tg.reparameterize(tg.mean(z * z)),
        lambda z: tg.replay(tg.mean(z * z), {z.noise: z.noise.mirrored()}),
    ],
    ids=["its mean", "cut", "opened", "mirrored"],
)
def test_a_baseline_that_contains_its_own_draw_is_refused(mean_of):
    z, _ = draw(shape=(4,), loc=0.0)
    with pytest.raises(ValueError, match=r"the baseline depends on z \(test_verdict.py:.*factor 1 - 1/K"):
        tg.score_function(z * z, mean_of(z))


@pytest.mark.parametrize(
    "baseline_of",
    [
        lambda z, cost: cost.value,
        lambda z, cost: z.value[:, :1],
        lambda z, cost: tg.Tensor(cost.value) * 0.5,
        lambda z, cost: 0.5 * tg.Tensor(z.value)[:, :1] + 1.0,
    ],
    ids=["its value", "a view", "a leaf", "a leaf of a view"],
)
def test_an_array_that_is_a_value_of_the_cost_is_no_baseline_either(baseline_of):
    z, _ = draw(shape=(4, 2), loc=0.0)
    cost, twin = tg.sum(z * z, axis=1), z * z
    for here in (cost, twin):
        baseline = baseline_of(z, twin)
        try:
            np.broadcast_to(tg.values(baseline), here.shape)
        except ValueError:
            continue
        with pytest.raises(ValueError, match="the baseline depends on z"):
            tg.score_function(here, baseline)
    tg.score_function(cost, np.full(4, 0.5))


def test_a_baseline_from_a_second_draw_is_valid_only_where_it_is_another_draw():
    z, _ = draw(shape=(4,), loc=0.0)
    tg.score_function(z * z, tg.stop_gradient(tg.replay(z * z, {z.noise: z.noise.redrawn(tg.noise(1))})))
    with pytest.raises(ValueError, match="the baseline depends on z"):
        tg.score_function(z * z, tg.stop_gradient(tg.replay(z * z, {z.noise: z.noise.redrawn(tg.noise(0))})))


def test_two_streams_of_one_seed_are_one_source_of_noise():
    """The second draw would be the first one, and the gradient 0."""
    z, _ = draw(loc=2.0)
    for estimator in (tg.SecondDraw, tg.MeasureValued):
        with pytest.raises(ValueError, match=r"own noise has been drawn already.*a stream of the same seed"):
            estimator(tg.noise(0))(z * z)
    b = tg.Bernoulli(logits=tg.Tensor(0.3, "l")).sample(rng=tg.noise(5))
    for estimator in (tg.SecondDraw(tg.noise(5)), tg.RELAX(tg.sigmoid, tg.noise(5)), tg.REBAR(tg.noise(5))):
        with pytest.raises(ValueError, match="own noise has been drawn already"):
            estimator((b - 0.3) ** 2)
    with pytest.raises(ValueError, match=r"measure-valued, second-draw: .* own noise has been drawn already"):
        tg.estimate(z * b, {z: tg.MeasureValued(tg.noise(7)), b: tg.SecondDraw(tg.noise(7))})
    other = tg.Normal(tg.Tensor(1.0, "nu"), 1.0).sample((3,), rng=tg.noise(0))  # other parameters, another shape
    with pytest.raises(ValueError, match=r"in two ways.*two streams of one seed"):
        tg.score_function(z * other)
    rng = tg.noise(0)
    draws = [tg.Normal(tg.Tensor(1.0), 1.0).sample(rng=rng) for _ in range(2)]
    tg.score_function(draws[0] * draws[1])


def test_noise_drawn_in_a_plan_has_its_place_in_the_stream():
    origins = []

    def step(mu, rng):
        draws = [tg.Normal(mu, 1.0).sample(rng=rng) for _ in range(2)]
        origins.extend(z.noise.origin for z in draws)
        return draws[0] + draws[1]

    run, stream = tg.plan(step), tg.noise(3)
    run(np.ones(2), stream)
    assert origins[:2] == [(3, (), 0), (3, (), 1)]


@pytest.mark.parametrize("first", ["replay", "estimate"])
def test_noise_that_was_made_of_a_parameter_or_of_other_noise_is_for_paths_alone(first):
    """z = m + t e, and y beside it from noise that is made of theirs: exact by hand."""
    t, m = tg.Tensor(np.full(DRAWS, 1.5), "t"), tg.Tensor(np.ones(DRAWS), "m")
    rng = tg.noise(1)
    z, y = (tg.Normal(m, 1.0).sample(rng=rng, name=name) for name in "zy")
    other = new_noise(rng, z.noise.dist, z.shape, z.dtype, ())
    swaps = {z.noise: t * z.noise}, {z.noise: 1.0 * z.noise, y.noise: 0.6 * other + 0.8 * z.noise}

    def gradients_of(opened, cost, swap):
        new = opened(tg.replay(cost, swap)) if first == "replay" else tg.replay(opened(cost), swap)
        return tg.gradients(tg.sum(new), [t, m])

    for opened in (tg.score_function, lambda c: tg.estimate(c, default=tg.MeasureValued(tg.noise(2)))):
        for cost, swap in zip((z * z, z * y * y), swaps, strict=True):
            with pytest.raises(
                tg.InvalidGradientError, match=r"for [zy] \(.*: in the place of its noise stands another"
            ):
                gradients_of(opened, cost, swap)
    in_t, in_m = gradients_of(tg.reparameterize, z * z, swaps[0])
    assert_agrees(in_t, 2 * 1.5)
    assert_agrees(in_m, 2.0)
    assert_agrees(gradients_of(tg.reparameterize, z * y * y, swaps[1])[1], 3 * 1.0 + 1.0 + 2 * 0.8)
    fresh = {z.noise: z.noise.redrawn(tg.noise(3))}
    assert_agrees(gradients_of(tg.score_function, z * z, fresh)[1], 2.0)
    assert gradients_of(tg.score_function, z * z, {z.noise: np.zeros(DRAWS)})[1].shape == (DRAWS,)


def test_the_report_says_that_a_draw_with_other_noise_has_a_path_alone():
    t, m = tg.Tensor(1.5, "t"), tg.Tensor(1.0, "m")
    z = tg.Normal(m, 1.0).sample(rng=tg.noise(1), name="z")
    (node,) = tg.explain(tg.replay(z * z, {z.noise: t * z.noise}), [t, m]).nodes
    assert [option.call for option in node.options if option.valid] == ["reparameterize(cost)"]
    assert node.cut == ["t", "m"]


def test_a_weighed_cost_is_a_term_of_the_final_cost_and_nothing_else():
    z, theta = draw(loc=2.0)
    part, w = tg.score_function(z), tg.Tensor(3.0, "w")
    bent = {
        "multiply": part * part,
        "square": tg.square(part),
        "exp": tg.exp(part),
        "logsumexp": tg.logsumexp(tg.stack([part, 2.0 * part])),
        "divide": 1.0 / part,
    }
    for name, cost in bent.items():
        assert f"{name} uses a cost that an estimator has weighed" in refused(cost, theta)
    again = tg.score_function(part + z * z)  # would weigh the first part twice
    assert "multiply uses a cost that an estimator has weighed" in refused(again, theta)
    for cost in (part + 1.0, w * part / 4.0 - part, tg.mean(tg.stack([part, part])) * w, tg.sum(part) - w):
        tg.gradients(cost, [theta["loc"], w])


def test_a_recorded_gradient_of_a_weighed_cost_is_weighed_too():
    """d/dmu of g^2 by the graph is 2 g dg/dmu, whose mean is neither that of E[g]^2 nor that of E[g^2]."""
    mu, w = tg.Tensor(0.7, "mu"), tg.Tensor(1.5, "w")
    z = tg.Normal(mu, 1.0).sample((5,), rng=tg.noise(0), name="z")
    loss = tg.mean(tg.score_function(w * z * z))
    for g in tg.gradients(loss, [mu, w], record=True):
        for bent in (g * g, tg.exp(g), 1.0 / g, g * tg.mean(tg.stop_gradient(z))):
            message = refused(bent, [mu])
            assert "or a recorded gradient of one" in message
        for cost in (g, 3.0 * g - 1.0, tg.mean(tg.stack([g, g])) * w):
            tg.gradients(cost, [mu, w])
    # w is no parameter of the distribution
    assert np.isfinite(tg.gradients(tg.square(tg.gradients(loss, w, record=True)), w))


def test_a_cotangent_that_depends_on_the_draw_bends_a_weighed_cost():
    z, theta = draw(shape=(5,), loc=0.7)
    cost = tg.score_function(z * z)
    with pytest.raises(tg.InvalidGradientError, match="multiply uses a cost that an estimator has weighed"):
        tg.gradients(cost, theta["loc"], cotangent=tg.stop_gradient(z), record=True)
    other = tg.Normal(0.0, 1.0).sample((5,), rng=tg.noise(1))
    for cotangent in (tg.Tensor(other), np.ones(5)):
        assert np.isfinite(tg.gradients(cost, theta["loc"], cotangent=cotangent, record=True).value)


def test_a_weighed_cost_may_be_multiplied_by_what_does_not_depend_on_its_draw():
    mu = tg.Tensor(np.full(DRAWS, 2.0), "mu")
    z, other = (tg.Normal(mu, 1.0).sample(rng=tg.noise(seed)) for seed in (0, 1))
    cost = tg.score_function(z) * tg.reparameterize(other)
    assert_agrees(tg.gradients(tg.sum(cost), mu), 4)


def test_an_antithetic_pair_is_weighed_one_by_one():
    """Under one joint log-probability the two scores cancel, and the gradient would be 0."""
    mu = tg.Tensor(np.full(DRAWS, 2.0), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    cost = z * z
    twin = tg.replay(cost, {z.noise: z.noise.mirrored()})
    for in_two_ways in (cost + twin, cost + tg.reparameterize(twin), cost + tg.reparameterize(cost)):
        for rewrite in (tg.score_function, tg.ScoreFunction()):
            with pytest.raises(ValueError, match=r"the noise of z \(test_verdict.py:.*in two ways.*alone"):
                rewrite(in_two_ways)
    pair = (tg.score_function(cost) + tg.score_function(twin)) / 2.0
    found = tg.gradients(tg.sum(pair), mu)
    assert_agrees(found, 4)
    np.testing.assert_allclose(
        tg.gradients(tg.sum(tg.reparameterize(cost + twin)), mu), 8.0, rtol=1e-12, err_msg="no noise is left"
    )


def test_a_kink_has_a_first_derivative_but_no_second_one():
    """E relu(z) has the second derivative exp(-mu^2/2) / sqrt(2 pi); that of the path is 0 almost everywhere."""
    z, theta = draw(loc=0.0)
    for kink in (tg.relu, tg.abs, lambda x: tg.maximum(x, 0.0), lambda x: tg.max(tg.stack([x, -x]))):
        first = tg.gradients(tg.reparameterize(kink(z)), theta["loc"], record=True)
        message = refused(first, theta)
        assert "second derivatives need score_function" in message
    mu = tg.Tensor(np.zeros(DRAWS), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    first = tg.gradients(tg.sum(tg.score_function(tg.relu(z))), mu, record=True)
    assert_agrees(tg.gradients(tg.sum(first), mu), 1 / math.sqrt(2 * math.pi))


# ---------------------------------------------------------------------------------------- right ones


def test_no_false_alarms():
    z, theta = draw(shape=(3,), loc=0.5)
    w, keep = tg.Tensor(np.array([1.0, -2.0, 3.0]), "w"), tg.noise(1).uniform((3,)) < 0.5
    dropped = tg.where(keep, z * w, 0.0)
    mask = tg.Bernoulli(probs=0.5).sample((3,), rng=tg.noise(2))
    for cost in (
        dropped,
        z * w * mask,
        tg.relu(z) + tg.abs(w * z) + tg.maximum(z, w) + tg.clip(z, -1.0, 1.0),
        tg.max(z) + tg.min(z * w),
        tg.where(w > 0, z, 2.0 * z),
        tg.where(tg.stop_gradient(z) > 0, z, 2.0 * z),
        z * tg.stop_gradient(tg.floor(z)),
    ):
        tg.gradients(tg.sum(tg.reparameterize(cost)), [w, theta["loc"]])


def test_explain_names_the_estimator_that_was_chosen():
    z, theta = draw(loc=0.5)
    for rewrite, estimator in ((tg.reparameterize, "pathwise"), (tg.score_function, "score")):
        report = tg.explain(rewrite(z * z), theta)
        assert report.unbiased
        assert report.nodes[0].estimator.startswith(estimator)
        assert str(report).startswith("UNBIASED: every random node between the cost and a parameter is taken care of")
    assert str(tg.explain(theta["loc"] * 2.0, theta)) == "UNBIASED: the cost depends on no random node"


def test_explain_takes_tensors():
    z, theta = draw(loc=0.5)
    for wrong in ((3.0, theta), (z, [3.0])):
        with pytest.raises(TypeError, match=r"explain\(cost, wrt\) takes a Tensor .* found the float 3.0"):
            tg.explain(*wrong)


def test_looking_at_a_graph_is_linear_in_its_size():
    z, theta = draw(loc=0.5)
    cost = z
    for _ in range(20_000):
        cost = cost * 0.999 + 0.001
    assert tg.explain(cost, theta).nodes[0].options[0].reason == "all 40000 ops from z to the cost are continuous"
    assert np.isfinite(tg.gradients(tg.reparameterize(cost), theta["loc"]))


# ------------------------------------------------------------------------------------------- credit


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: (x - tg.mean(x)) ** 2,
        lambda x: (x - tg.mean(x)) / tg.sqrt(tg.mean((x - tg.mean(x)) ** 2)) * np.arange(4.0),
        lambda x: x * x[::-1],
    ],
    ids=["centred", "batch normalised", "reversed"],
)
def test_a_cost_that_mixes_examples_gets_the_joint_log_probability(mixed):
    mu = tg.Tensor(np.array([0.0, 0.5, 1.0, 1.5]), "mu")
    rng, estimates, truth = tg.noise(0), [], []
    for _ in range(400):
        cost = mixed(tg.Normal(mu, 1.0).sample(rng=rng, name="x"))
        estimates.append(tg.gradients(tg.sum(tg.score_function(cost)), mu))
        truth.append(tg.gradients(tg.sum(tg.reparameterize(cost)), mu))
    assert_agrees(np.array(estimates) - np.array(truth), 0)
    report = tg.explain(tg.sum(tg.score_function(cost)), mu)
    assert report.unbiased
    assert "joint log-probability: the cost of one example depends on the draws of others" in str(report)
    assert re.search(r"(mean|getitem) mixes the 4 examples, and the gradient is up to 4 times as noisy", str(report))


def test_a_cost_that_was_averaged_too_early_is_unbiased_and_said_to_be_noisy():
    x, theta = draw(shape=(4,), loc=0.5)
    report = tg.explain(tg.score_function(tg.mean(x * x)), theta)
    assert report.unbiased
    assert "one cost for all draws of shape (4,): unbiased, and noisier" in str(report)


def test_positions_that_were_drawn_keep_their_axes_apart():
    """A table looked up at a draw: cost i depends on draw i alone, and gets its own credit."""
    logits = tg.Tensor(np.zeros((5, 3)), "logits")
    k = tg.Categorical(logits=logits).sample((2,), rng=tg.noise(0), name="k")
    table = np.arange(12.0).reshape(3, 4)
    assert surviving_axes(tg.take(table[:, 0], k, axis=0), k) == (0, 1)
    assert surviving_axes(tg.take(table, k, axis=0), k) == (0, 1, None)
    assert surviving_axes(tg.take(table.T, k, axis=1), k) == (None, 0, 1)
    assert surviving_axes(tg.Tensor(table.T)[:, k], k) == (None, 0, 1)
    assert surviving_axes(tg.Tensor(table)[k, 1], k) == (0, 1)
    assert surviving_axes(tg.Tensor(table)[k, k], k) == (0, 1)


def test_the_axis_of_the_components_is_no_axis_of_a_draw():
    """Two draws of a mixture of two vectors: both depend on both components."""
    w, _ = draw(shape=(), loc=np.zeros((2, 2)), scale=1.0)
    mixture = tg.MixtureSameFamily(np.zeros(2), tg.Independent(tg.Normal(w, 1.0), 1))
    assert surviving_axes(mixture.sample((2,), rng=tg.noise(1)), w) == (None, None)
    assert surviving_axes(mixture.sample(rng=tg.noise(1)), w) == (None,)


def test_a_mixture_of_drawn_components_has_an_unbiased_score_function():
    m, found = tg.Tensor(np.zeros((2, 2)), "m"), []
    for r in range(700):
        rng = tg.noise(5).at(r)
        w = tg.Normal(m, 1.0).sample(rng=rng, name="w")
        z = tg.MixtureSameFamily(np.zeros(2), tg.Independent(tg.Normal(w, 1.0), 1)).sample((2,), rng=rng, name="z")
        found.append(tg.gradients(tg.sum(tg.score_function(tg.sum(z + z * z * 0.5, axis=1))), m))
    assert_agrees(found, 1.0)


def test_elements_that_are_drawn_together_are_drawn_one_by_one():
    w = tg.Tensor(np.zeros((3, 2, 2)), "w")
    for dist, axes in (
        (tg.Independent(tg.Normal(w, 1.0), 2), (0, 1, 2)),
        (tg.Independent(tg.MultivariateNormal(w, np.eye(2)), 1), (0, 1, None)),
        (tg.Independent(tg.Categorical(logits=w), 1), (0, 1)),
        (tg.RelaxedOneHotCategorical(tg.exp(w[:, 0, 0]), logits=np.zeros((3, 3))), (0, None)),
    ):
        assert surviving_axes(dist.sample(rng=tg.noise(0)), w) == axes


def test_one_parameter_of_several_draws_is_carried_by_none_of_them():
    w, _ = draw(loc=np.zeros(1))
    z = tg.Normal(w, np.ones(5)).sample(rng=tg.noise(1), name="y")
    assert surviving_axes(z * z, w) == (None,)
    with pytest.raises(tg.InvalidGradientError, match="cost i must depend on draw i alone"):
        tg.estimate(z * z, {"z": "leave-one-out", "y": "leave-one-out"})


def one_op(x, rng):
    """Return x after one op, drawn at random from those that fit its shape."""
    axis = int(rng.integers(x.ndim)) if x.ndim else 0
    key = tuple(rng.choice([slice(None), slice(0, 2), slice(None, None, -1)]) for _ in range(x.ndim))
    indices = rng.integers(0, x.shape[axis] if x.ndim else 1, 3)
    fitting = [
        lambda: tg.sin(x),
        lambda: x + rng.normal(size=x.shape[x.ndim // 2 :]),
        lambda: x * rng.normal(size=(2, *(1,) * x.ndim)),
        lambda: tg.where(x > 0, x, 0.5),
        lambda: tg.Normal(x, 1.0).sample(rng=tg.noise(int(rng.integers(100)))),
        lambda: tg.Normal(x, np.ones([3 if n == 1 else n for n in x.shape])).sample(rng=tg.noise(0)),
        lambda: tg.stop_gradient(x),
        lambda: tg.take(rng.normal(size=9), tg.astype(tg.clip(2.0 * x + 4.0, 0.0, 8.0), np.int64), axis=0),
        lambda: tg.take(rng.normal(size=(2, 9, 2)), tg.astype(tg.clip(2.0 * x + 4.0, 0.0, 8.0), np.int64), axis=1),
    ]
    if x.ndim:
        fitting += [
            lambda: tg.permute_dims(x, tuple(int(a) for a in rng.permutation(x.ndim))),
            lambda: tg.sum(x, axis=axis, keepdims=bool(rng.integers(2))),
            lambda: x - tg.mean(x, axis=axis, keepdims=True),
            lambda: tg.max(x, axis=axis),
            lambda: tg.softmax(x, axis=axis),
            lambda: tg.logsumexp(x, axis=axis),
            lambda: x[key],
            lambda: x[key[:-1]],
            lambda: tg.take(x, indices, axis=axis),
            lambda: tg.take_along_axis(x, tg.astype(x > 0, np.int64) * (x.shape[axis] - 1), axis=axis),
            lambda: tg.take_along_axis(rng.normal(size=x.shape), tg.astype(x > 0, np.int64) * 0, axis=axis),
            lambda: tg.concat([x, tg.cos(x)], axis=axis),
            lambda: tg.stack([x, tg.cos(x)], axis=axis),
            lambda: tg.reshape(x, (*x.shape[:axis], -1)),
            lambda: tg.reshape(x, (-1, *x.shape[axis + 1 :])),
            lambda: tg.expand_dims(x, axis=axis),
            lambda: x[(*(slice(None),) * axis, 0)],
            lambda: tg.broadcast_to(x, (2, *x.shape)),
            lambda: tg.sum_to(x, (1, *x.shape[1:])),
            lambda: tg.argmax(x, axis=axis) * 1.0,
            lambda: tg.matmul(x, rng.normal(size=(x.shape[-1], 2))),
        ]
    if x.ndim > 1 and x.shape == x.shape[::-1]:
        fitting.append(lambda: x + tg.permute_dims(x, tuple(range(x.ndim))[::-1]))
    if x.ndim > 1:
        fitting += [
            lambda: tg.matmul(rng.normal(size=x.shape[-2]), x),
            lambda: tg.matrix_transpose(x),
            lambda: tg.matmul(x, tg.matrix_transpose(tg.sin(x))),
            lambda: x[0, ..., np.array([0, 0])],
            lambda: x[:, np.array([0, 0])],
        ]
    return fitting[rng.integers(len(fitting))]()


@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([(3,), (2, 3), (3, 3), (2, 1, 3), (2, 2, 2)]))
@settings(max_examples=300, deadline=None)
def test_no_axis_is_called_unmixed_that_is_mixed(seed, shape):
    """Brute force: what a slice of z can change must lie in the slices of the cost that carry it."""
    rng = np.random.default_rng(seed)
    z = tg.Tensor(rng.normal(size=shape))
    cost, seen = z, [z]
    for _ in range(rng.integers(1, 6)):
        cost = one_op(cost, rng)
        same = [x for x in seen if x.shape == cost.shape]
        if same and rng.random() < 0.3:
            cost = cost * same[0]
        seen.append(cost)
    for axis, carried in enumerate(surviving_axes(cost, z)):
        if carried is None:
            continue
        assert cost.shape[axis] == shape[carried]
        for i in range(shape[carried]):
            moved = z.value.copy()
            moved[(*(slice(None),) * carried, i)] = rng.normal(size=np.take(moved, i, axis=carried).shape)
            changed = tg.replay(cost, {z: moved}).value != cost.value
            assert not np.delete(changed, i, axis=axis).any(), (
                carried,
                axis,
                [node.op for node in topological_order([cost])],
            )


@pytest.mark.parametrize(
    ("cost", "call"),
    [
        (lambda x: tg.mean(tg.exp(x)), "tg.mean(score_function(each))"),
        (lambda x: -tg.sum(x * x) / 7.0, "tg.sum(score_function(each))"),
        (lambda x: tg.mean(x * x) + tg.sum(x), 'score_function(cost, credit="downstream")'),
        (lambda x: tg.mean(x) ** 2, ""),
        (lambda x: tg.exp(x), ""),
    ],
)
def test_the_advice_of_the_error_is_the_one_with_little_noise(cost, call):
    mu, found = tg.Tensor(0.5, "mu"), {"advised": [], "plain": []}
    for r in range(200):
        x = tg.Normal(mu, 1.0).sample((30,), rng=tg.noise(0).at(r), name="x")
        score = tg.explain(cost(x), mu).nodes[0].options[1]
        assert score.reason.partition("less noisy: ")[2] == call
        if call:
            advised = tg.score_function(cost(x), credit="downstream")
            if "each" in call:
                each = tg.exp(x) if "mean" in call else -x * x / 7.0
                advised = getattr(tg, call[3:].partition("(")[0])(tg.score_function(each))
            assert advised.value == pytest.approx(cost(x).value)
            for name, opened in (("advised", advised), ("plain", tg.score_function(cost(x)))):
                found[name].append(tg.gradients(opened, mu))
    if call:
        assert np.var(found["advised"]) < np.var(found["plain"]) / 5
