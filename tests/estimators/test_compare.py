"""Measured estimators against the theory of the textbook costs, and what a comparison and an audit promise."""

import math

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.app.textbook import COSTS
from tinygrad_vae.estimators.measurement import ALLOWED, heavy_tail

RUNS = 400
"""The standard error of a variance is then 7 % where the estimates are normal, and 32 % would be noticed."""


def square(theta, rng):
    return tg.Normal(theta, 1.0).sample(rng=rng, name="x") ** 2


def nested(parameters, rng):
    """A row of eight, so that a hundred runs tell as much as 800 of one number."""
    b = tg.Bernoulli(probs=parameters["p"] + np.zeros(8)).sample(rng=rng, name="b")
    x = tg.Normal(parameters["mu"] + b, 1.0).sample(rng=rng, name="x")
    return x**2 * (1 + b)


NESTED = {"p": np.float64(0.3), "mu": np.float64(0.5)}
TRUTH = np.array([5.25, 2.5])


def compare(f, parameters, *, runs=40, **options):
    return tg.compare_estimators(f, parameters, rng=tg.noise(0), runs=runs, **options)


# ------------------------------------------------------------------------------------------ the theory


MEASURED = {
    "square": (0.5, 2.0),
    "cos": (0.5, 2.0),
    "exp": (0.5, 4.0),
    "power": (0.25, 1.0),
    "bernoulli": (0.3, 0.8),
}


@pytest.mark.parametrize(("name", "knob"), [(name, knob) for name, knobs in MEASURED.items() for knob in knobs])
def test_means_and_variances_are_those_of_theory(name, knob):
    cost = COSTS[name]
    found = compare(cost.program(knob), np.float64(cost.parameter(knob)), runs=RUNS, estimators=cost.variances)
    for row in found.rows:
        truth = cost.variances[row.name](knob)
        if not row.biased:
            assert abs(row.mean[0] - cost.gradient(knob)) <= ALLOWED * row.standard_error[0] + 1e-12
        if np.isfinite(truth):
            assert abs(row.variance - truth) <= ALLOWED * row.variance_error + 1e-12, row.name
        assert bool(row.alarm) == (not np.isfinite(truth))


def test_the_score_function_beats_the_trick_beyond_the_crossover_of_the_cosine():
    cost = COSTS["cos"]
    for k, best in ((0.8, "pathwise"), (1.4, "score-function")):
        rows = compare(cost.program(k), np.float64(1.0), runs=RUNS, estimators=["pathwise", "score-function"])
        assert min(rows.rows, key=lambda row: row.variance).name == best
    difference = [cost.variances["pathwise"](k) - cost.variances["score-function"](k) for k in (1.0637, 1.0639)]
    assert difference[0] < 0 < difference[1]


def test_a_gradient_of_several_parameters_has_the_sum_of_their_variances():
    def cost(p, rng):
        return tg.Normal(p["mu"], p["s"]).sample(rng=rng, name="x") ** 2

    row = compare(cost, {"mu": np.float64(1.0), "s": np.float64(0.5)}, runs=RUNS, estimators=["pathwise"]).rows[0]
    assert np.all(np.abs(row.mean - [2.0, 1.0]) <= ALLOWED * row.standard_error)
    assert abs(row.variance - (4 * 0.5**2 + 4 + 8 * 0.5**2)) <= ALLOWED * row.variance_error


# ------------------------------------------------------------------------------------------- the alarm


def alarms(gradient, runs, seeds=200):
    """Return how often the alarm goes off for draws of a gradient."""
    rng, count = np.random.default_rng(0), 0
    for _ in range(seeds):
        g = gradient(rng.normal(size=runs))
        count += bool(heavy_tail((g - g.mean()) ** 2))
    return count / seeds


@pytest.mark.parametrize(
    "gradient",
    [
        lambda e: 2 * (e + 1),
        lambda e: (e + 2) ** 2 * e,
        lambda e: e**3,
        lambda e: np.cos(1 + e) * e,
        lambda e: np.abs(e + 0.5) ** 0.25 * e,
        lambda e: np.sign(e) * np.abs(e) ** -0.25,
        lambda e: np.exp(0.5 * e) * e,
        lambda e: np.sign(e),
    ],
)
def test_the_alarm_stays_silent_where_a_thousand_runs_know_the_variance(gradient):
    assert alarms(gradient, 1000) <= 0.05


@pytest.mark.parametrize(
    ("gradient", "at_least"),
    [
        (lambda e: np.exp(2 * e) * e, 0.95),
        (lambda e: np.exp(2 * e), 0.95),
        (lambda e: np.sign(e + 0.5) * np.abs(e + 0.5) ** -0.75, 0.9),
        (lambda e: np.sign(e) * np.abs(e) ** -0.6, 0.65),
        (lambda e: np.sign(e) * np.abs(e) ** -0.5, 0.3),  # the border: an infinite variance that grows like log n
    ],
)
def test_the_alarm_goes_off_where_the_variance_is_infinite_or_out_of_sight(gradient, at_least):
    assert alarms(gradient, 1000) >= at_least


def test_rare_draws_are_no_heavy_tail_once_enough_of_them_were_seen():
    def rare(e):
        return np.where(e < -2.3, 100.0, -1.0)

    assert alarms(rare, 100_000, 20) == 0


def test_the_alarm_stands_in_the_table_and_keeps_a_row_from_being_the_best():
    names = ["pathwise", "score-function", "measure-valued"]
    found = compare(COSTS["power"].program(0.25), np.float64(0.5), runs=RUNS, estimators=names)
    assert "HEAVY TAIL" in found["pathwise"].alarm
    assert "runs carry the variance" in str(found)
    assert not found.best.alarm
    smooth = compare(square, np.float64(0.5))
    assert smooth["quadrature"].work == 0
    assert "not measured" in smooth["quadrature"].alarm
    assert smooth.best.name != "quadrature"


# ---------------------------------------------------------------------------------------- the comparison


def test_every_estimator_meets_the_same_draws():
    rows = compare(square, np.float64(1.0), estimators=["pathwise", tg.Pathwise(), "pathwise"]).rows
    for row in rows[1:]:
        np.testing.assert_array_equal(row.mean, rows[0].mean)
        assert row.variance == rows[0].variance


def test_a_comparison_is_the_same_whenever_it_is_run_and_whatever_else_is_measured():
    alone = compare(nested, NESTED, estimators=["measure-valued"]).rows[0]
    together = compare(nested, NESTED, estimators=["arm", "measure-valued", "enumeration"])["measure-valued"]
    np.testing.assert_array_equal(alone.mean, together.mean)
    assert alone.variance == together.variance


def test_a_cost_that_is_there_is_replayed_with_new_noise():
    theta = tg.Tensor(2.0, "theta")
    z = tg.Normal(theta, 1.0).sample(rng=tg.noise(9), name="x")
    replayed = compare(z**2, theta, estimators=["pathwise", "score-function"])
    drawn = compare(square, np.float64(2.0), estimators=["pathwise", "score-function"])
    for row in drawn.rows:
        np.testing.assert_array_equal(replayed[row.name].mean, row.mean)


def test_a_cost_for_each_example_gets_credit_for_its_own_draws_and_is_averaged_last():
    def cost(mu, rng):
        return tg.Normal(mu + np.zeros(8), 1.0).sample(rng=rng, name="x") ** 2

    options = {"runs": 400, "estimators": ["score-function"]}
    (row,) = compare(cost, np.float64(1.0), **options).rows
    (joint,) = compare(lambda mu, rng: tg.mean(cost(mu, rng)), np.float64(1.0), **options).rows
    expected = (1 + 14 + 15) / 8
    assert abs(row.variance - expected) <= ALLOWED * row.variance_error
    assert row.variance < joint.variance / 2
    assert "leave-one-out" in {row.name for row in compare(cost, np.float64(1.0), runs=20).rows}


def test_where_an_estimator_is_not_valid_at_one_node_another_one_stands_in_for_it():
    found = compare(nested, NESTED, runs=100)
    names = {row.name for row in found.rows}
    assert {"enumeration for b, pathwise for x", "pathwise for x, score-function for b", "score-function"} <= names
    assert found["enumeration"].name == "enumeration for b, pathwise for x"
    for row in found.rows:
        assert not row.refused
        off = np.abs(row.mean - TRUTH) > ALLOWED * row.standard_error
        assert row.biased or not off.any(), row
    assert found["enumeration"].variance < found["score-function"].variance


def test_the_stand_in_does_not_follow_a_path_that_jumps():
    def cost(p, rng):
        b = tg.Bernoulli(probs=p["p"]).sample(rng=rng, name="b")
        return b * tg.where(tg.Normal(p["mu"], 1.0).sample(rng=rng, name="x") > 0, 1.0, 0.0)

    names = [row.name for row in compare(cost, NESTED, estimators=["arm"]).rows]
    assert names == ["arm for b, score-function for x"]


def test_a_refusal_is_a_row_that_says_why():
    def step(mu, rng):
        return tg.where(tg.Normal(mu, 1.0).sample(rng=rng, name="x") > 0, 1.0, 0.0)

    found = compare(step, np.float64(0.0))
    assert "jumps with a random value" in found["pathwise"].refused
    assert np.isnan(found["pathwise"].variance)
    assert "pathwise" in str(found)
    assert "> 0 jumps" in str(found)
    assert found.best.name in ("score-function", "measure-valued", "second-draw")
    only = compare(step, np.float64(0.0), estimators=["arm"])
    assert "it is for Bernoulli draws, found Normal" in only.rows[0].refused
    with pytest.raises(ValueError, match="no unbiased estimator gave a gradient here:\n"):
        _ = only.best


def test_the_best_is_unbiased_and_takes_the_least_variance_times_time():
    found = compare(COSTS["bernoulli"].program(0.3), np.float64(0.3), runs=200)
    assert found.best.name == "enumeration"
    rows = [row for row in found.rows if not row.biased]
    assert found.best.work == min(row.work for row in rows) == 0
    assert [row for row in found.rows if row.biased] == found.rows[-2:]
    assert all(f"BIASED: {row.biased}" in str(found) for row in found.rows[-2:])
    row = found["score-function"]
    assert row.work == row.variance * row.seconds
    assert row.signal_to_noise == pytest.approx(abs(row.mean[0]) / np.sqrt(row.variance))


def test_gradients_that_are_no_numbers_are_counted():
    with np.errstate(all="ignore"):
        found = compare(lambda mu, rng: tg.log(tg.Normal(mu, 1.0).sample(rng=rng)), np.float64(0.0))
    assert "NOT FINITE" in found["score-function"].alarm
    finite = [math.isfinite(row.work) for row in found.rows if not row.refused]
    assert finite == sorted(finite, reverse=True)  # numbers before those that are none


def test_a_name_in_brackets_is_that_of_one_row():
    found = compare(nested, NESTED, runs=20, estimators=["enumeration"])
    with pytest.raises(KeyError, match=r"'reinforce' is the name of 0 rows; there are: .*enumeration for b"):
        found["reinforce"]


def test_progress_is_reported_after_every_run():
    seen = []
    compare(square, np.float64(1.0), runs=20, progress=lambda done, runs: seen.append((done, runs)))
    assert seen == [(k + 1, 20) for k in range(20)]


# --------------------------------------------------------------------------------------------- audits


@pytest.mark.parametrize("name", ["arm", "enumeration", "leave-one-out", "measure-valued", "score-function"])
def test_an_audit_passes_what_is_unbiased(name):
    assert tg.audit(nested, NESTED, name, dict(zip(NESTED, TRUTH, strict=True)), rng=tg.noise(1), runs=100).passed


@pytest.mark.parametrize("name", ["straight-through", "gumbel-softmax"])
def test_an_audit_finds_a_bias_that_it_says_it_would_have_seen(name):
    cost = COSTS["bernoulli"].program(0.3)
    result = tg.audit(cost, np.float64(0.3), name, "enumeration", rng=tg.noise(0), runs=2000)
    assert not result.passed
    assert str(result).startswith("BIASED: the largest of 1 distances is")
    if name == "straight-through":
        bias = (2 * 0.3 - 2 * 0.45) - (1 - 2 * 0.45)
        assert abs(bias) > result.visible_bias[0]
        assert result.z[0] * result.visible_bias[0] / (2 * ALLOWED) == pytest.approx(bias, abs=result.visible_bias[0])


def test_an_audit_of_two_noisy_estimators_takes_the_error_of_both():
    result = tg.audit(square, np.float64(1.0), "pathwise", "score-function", rng=tg.noise(0), runs=200)
    assert result.passed
    assert (
        result.visible_bias[0]
        > tg.audit(square, np.float64(1.0), "pathwise", np.float64(2.0), rng=tg.noise(0), runs=200).visible_bias[0]
    )
    assert tg.audit(square, np.float64(1.0), "quadrature", np.float64(2.0), rng=tg.noise(0), runs=20).passed


# -------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: compare(3.0, np.float64(1.0)), TypeError, "what to measure is a function .* found the float 3.0"),
        (lambda: compare(lambda p, rng: 3.0, np.float64(1.0)), TypeError, "must return a cost, a Tensor; found"),
        (lambda: compare(square, np.float64(1.0), runs=19), ValueError, "from 20 on, found 19"),
        (lambda: compare(square, np.float64(1.0), runs=1e3), ValueError, "whole number .* found 1000.0"),
        (lambda: compare(square, np.float64(1.0), estimators=["trick"]), ValueError, "no estimator 'trick'; choose"),
        (lambda: compare(lambda p, rng: p * p, np.float64(1.0)), ValueError, "depends on no blocked random node"),
        (
            lambda: compare(lambda p, rng: square(p, tg.noise(0)), np.float64(1.0)),
            ValueError,
            "the same numbers in every run; draw from the rng",
        ),
        (
            lambda: tg.compare_estimators(square, np.float64(1.0), rng=np.random.default_rng(0)),
            TypeError,
            r"rng takes a stream from tg.noise\(seed\), found",
        ),
        (
            lambda: tg.audit(square, np.float64(1.0), "pathwise", np.zeros(2), rng=tg.noise(0)),
            ValueError,
            r"the reference has the shapes \[\(2,\)\], the parameters have \[\(\)\]",
        ),
        (
            lambda: tg.audit(square, np.float64(1.0), "arm", np.float64(2.0), rng=tg.noise(0)),
            tg.InvalidGradientError,
            "arm is refused: .* Bernoulli",
        ),
    ],
)
def test_bad_input_gets_one_clear_error(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_cost_whose_random_nodes_change_from_run_to_run_is_refused():
    def cost(mu, rng):
        x = tg.Normal(mu, 1.0).sample(rng=rng)
        return x + tg.Normal(mu, 1.0).sample(rng=rng) if x.value > 0 else x

    with pytest.raises(ValueError, match="random nodes in the first run and has"):
        compare(cost, np.float64(0.0), estimators=["pathwise"])


def masked_cost(logits, rng):
    """A softmax with masks of -1e9: for all that a relaxed choice can tell it is a step."""
    z = tg.OneHotCategorical(logits=logits).sample(rng=rng, name="z")
    values = np.array([1.0, 4.0, 9.0])
    return tg.sum(tg.softmax(values + (1 - z) * -1e9, axis=-1) * values, axis=-1) ** 2


def test_an_estimator_that_is_calm_and_wrong_has_an_alarm():
    """REBAR finds 0 +- 0 for 23 there, and was the best of all."""
    chosen = ["rebar", "enumeration", "score-function", "arsm"]
    result = tg.compare_estimators(masked_cost, np.zeros(3), rng=tg.noise(0), runs=200, estimators=chosen)
    assert result["rebar"].alarm.startswith("DISAGREES with ")
    assert all(row.name in result["rebar"].alarm for row in result.rows if row.name != "rebar")
    assert not any(row.alarm for row in result.rows if row.name != "rebar")
    assert result.best.name == "enumeration"


def test_two_that_disagree_are_both_doubted():
    result = tg.compare_estimators(
        masked_cost, np.zeros(3), rng=tg.noise(0), runs=200, estimators=["rebar", "score-function"]
    )
    assert [row.alarm for row in result.rows] == [f"DISAGREES with {row.name}" for row in result.rows[::-1]]
