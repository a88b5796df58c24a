"""A world that is no graph: its values, whose credit they are, which estimators fit, and what is refused."""

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.guard.axes import surviving_axes


def drift(place, push):
    """Return the next place and what it costs."""
    place = 0.9 * place + np.where(push > 0, 1.0, -0.5)
    return place, np.abs(place - 1)


def played(theta, world, steps=3):
    place, cost, rng = np.zeros(theta.shape), 0.0, tg.noise(1)
    for _ in range(steps):
        place, step_cost = world(place, tg.Bernoulli(logits=theta - place).sample(rng=rng))
        cost = cost + step_cost
    return cost


def in_the_graph(place, push):
    place = 0.9 * place + tg.where(push > 0, 1.0, -0.5)
    return place, tg.abs(place - 1)


ESTIMATORS = {
    "score": tg.score_function,
    "downstream": lambda cost: tg.score_function(cost, credit="downstream"),
    "disarm": tg.DisARM(),
    "triples": tg.Triples(),
    "pruned": lambda cost: tg.PrunedTriples(tg.noise(2))(cost),
    "enumeration": tg.Enumeration(),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_world_outside_has_the_gradients_of_the_same_world_in_the_graph(name):
    theta = tg.Tensor(np.linspace(-1.0, 1.0, 5), "theta")
    found, expected = (
        tg.gradients(tg.mean(ESTIMATORS[name](played(theta, world))), theta)
        for world in (lambda *inputs: tg.outside(drift, *inputs), in_the_graph)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_answer_that_came_as_an_array_is_known_for_its_draw_alone():
    logits = tg.Tensor(np.zeros((4, 3)), "logits")
    arm = tg.Categorical(logits=logits).sample(rng=tg.noise(0), name="arm")
    worth = np.array([1.0, 5.0, 2.0])
    cost = tg.outside(worth[arm.value], arm)
    assert surviving_axes(cost, arm) == (0,)
    found = tg.gradients(tg.sum(tg.score_function(cost)), logits)
    expected = tg.gradients(tg.sum(tg.score_function(tg.take(worth, arm))), logits)
    np.testing.assert_array_equal(found, expected)
    for estimator in (tg.ARSM(), tg.Triples(), tg.Enumeration(), tg.SecondDraw(tg.noise(1))):
        with pytest.raises(ValueError, match="known for the draws that it came from, and others were asked for"):
            estimator(cost)
    with pytest.raises(TypeError, match=r"found an object of type ndarray; .*tg.outside\(array, draw\)"):
        tg.score_function(worth[arm.value])


def test_examples_that_a_world_mixes_are_credited_together():
    draw = tg.Bernoulli(logits=tg.Tensor(np.zeros((4, 2)), "l")).sample(rng=tg.noise(0))
    ranks = lambda x: np.argsort(x[:, 0]).astype(float)  # noqa: E731
    assert surviving_axes(tg.outside(ranks, draw), draw) == (0,)
    assert surviving_axes(tg.outside(ranks, draw, apart=0), draw) == (None,)
    assert surviving_axes(tg.outside(lambda x: x, draw), draw) == (0, None)
    assert surviving_axes(tg.outside(lambda x: x, draw, apart=2), draw) == (0, 1)


def test_a_gradient_through_a_world_is_refused_and_never_zero():
    theta = tg.Tensor(np.full(3, 0.3), "theta")
    with pytest.raises(tg.InvalidGradientError, match="a world outside of the graph has no derivative"):
        tg.gradients(tg.sum(tg.outside(np.cos, theta)), theta)
    cost = tg.outside(np.cos, tg.Normal(theta, 1.0).sample(rng=tg.noise(0), name="z"))
    with pytest.raises(tg.InvalidGradientError, match="a world outside of the graph has no derivative"):
        tg.gradients(tg.sum(tg.reparameterize(cost)), theta)
    with pytest.raises(tg.BlockedGradientError, match="from_outside between z and the cost jumps"):
        tg.gradients(tg.sum(cost), theta)
    unused = tg.Tensor(1.0, "unused")
    assert tg.explain(tg.sum(tg.score_function(cost)), [theta, unused]).unreached == ["unused"]


def test_a_world_of_arrays_gives_arrays_and_in_a_plan_it_is_called_again():
    assert isinstance(tg.outside(np.cos, np.zeros(3)), np.ndarray)
    assert [type(x) for x in tg.outside(drift, np.zeros(3), np.ones(3))] == [np.ndarray, np.ndarray]

    def step(theta, rng):
        def cost(theta):
            return tg.mean(tg.score_function(tg.outside(np.abs, tg.Poisson(tg.exp(theta)).sample(rng=rng))))

        return tg.value_and_grad(cost)(theta)

    run = tg.plan(step)
    for seed in range(4):
        for found, expected in zip(run(np.ones(5), tg.noise(seed)), step(np.ones(5), tg.noise(seed)), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_op_that_stands_for_a_world_keeps_what_it_declares():
    tg.check_op(tg.OPS["from_outside"])
