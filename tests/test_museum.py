"""Mistakes that libraries and users have made: the line that makes each, and what is right.

The programs that go silently wrong elsewhere are in ``examples/museum``; ``test_other_libraries.py`` runs them.
"""

import math

import numpy as np
import pytest

import tinygrad_vae as tg


def test_a_node_that_is_used_twice_collects_both_gradients():
    """``self.grad = gradient`` in place of ``+=``: d(x x + x) at 3 comes out as 1."""
    x = tg.Tensor(3.0)
    assert tg.gradients(x * x + x, x) == 7


def test_a_node_is_visited_once_its_own_gradient_is_complete():
    """``for x in node.inputs: x.backward()``: b = a + a, c = b + b reaches b while half of its gradient is missing."""
    a = tg.Tensor(1.0)
    b = a + a
    c = b + b
    assert tg.gradients(c * b, a) == 16  # 8 a^2


def test_inner_and_outer_derivatives_are_kept_apart():
    """``x.grad`` shared by both levels: d/dx of (d/dy (x + y) at y = x), times x, comes out as 2."""
    assert tg.grad(lambda x: x * tg.grad(lambda y: x + y)(x))(3.0) == 1
    assert tg.grad(lambda x: tg.grad(lambda y: x * y)(x))(3.0) == 1


def test_division_undoes_its_broadcast():
    """``return g / y, -g * x / y**2``: the gradient of a (3,) under a (2, 3) keeps the shape (2, 3)."""
    x, y = tg.Tensor(np.ones((2, 3))), tg.Tensor(np.full(3, 2.0))
    gx, gy = tg.gradients(tg.sum(x / y), [x, y])
    np.testing.assert_array_equal(gx, np.full((2, 3), 0.5))
    np.testing.assert_array_equal(gy, np.full(3, -0.5))


def test_the_divergence_takes_a_standard_deviation():
    """``kl = -(1 + log_var - mu**2 - sigma).sum() / 2``: without the square on sigma it trains to something else."""
    mu, sigma = 0.7, 1.8
    right = (sigma**2 + mu**2 - 1) / 2 - math.log(sigma)
    assert tg.kl_divergence(tg.Normal(mu, sigma), tg.Normal()) == pytest.approx(right, rel=1e-12)
    wrong = -(1 + 2 * math.log(sigma) - mu**2 - sigma) / 2
    assert abs(right - wrong) > 0.1


def test_a_constant_stays_constant():
    """``Tensor(2.0)`` made inside an op asks for a gradient of its own, and an optimizer then trains it."""
    x = tg.Tensor(3.0)
    y = 2.0 * x
    assert y.inputs == (2.0, x)
    step = tg.Tensor(np.arange(3)) * 1.0
    with pytest.raises(TypeError, match="only floats have a gradient"):
        tg.gradients(tg.sum(step), step.inputs[0])


def test_an_array_on_the_left_leaves_the_product_to_the_tensor():
    """No ``__rmatmul__`` and no ``__array_ufunc__ = None``: ``array @ tensor`` becomes an array of objects."""
    x = tg.Tensor(np.ones((3, 2)), "x")
    for left, expected in (
        (np.ones((4, 3)) @ x, np.full((3, 2), 4.0)),
        (np.full((3, 2), 4.0) * x, np.full((3, 2), 4.0)),
    ):
        assert isinstance(left, tg.Tensor)
        np.testing.assert_array_equal(tg.gradients(tg.sum(left), x), expected)


def test_an_error_names_the_argument_that_is_wrong():
    """``f"argument {i}"`` after a dropped first argument: the error names 0 for 1."""
    with pytest.raises(TypeError, match=r"y: .*list of length 2"):
        tg.Tensor(np.ones(2)) * [1.0, 2.0]
    with pytest.raises(ValueError, match=r"x: a float64 array of shape \(2,\)\n  y: a float64 array of shape \(3,\)"):
        tg.Tensor(np.ones(2)) + np.ones(3)


def test_float32_stays_float32():
    """``np.ones(shape)`` for the seed of the backward pass: every gradient becomes float64."""
    x = tg.Tensor(np.ones(3, np.float32))
    y = tg.mean(tg.exp(x * 2.0) / 3 - 1)
    assert (y.dtype, tg.gradients(y, x).dtype) == (np.float32, np.float32)


def test_a_gradient_is_not_added_to_that_of_the_step_before():
    """``loss.backward()`` without ``zero_grad()``: the second step gets twice the gradient."""
    x = tg.Tensor(2.0)
    assert [float(tg.gradients(x * x, x)) for _ in range(3)] == [4, 4, 4]


def test_a_power_with_exponent_zero_is_flat_also_at_zero():
    """``n * x ** (n - 1)``: 0 * 0 ** -1 is nan."""
    x = tg.Tensor(np.array([0.0, 1.0]))
    np.testing.assert_array_equal(tg.gradients(tg.sum(x**0), x), [0, 0])
    np.testing.assert_array_equal(tg.gradients(tg.sum(x**2), x), [0, 2])


def test_a_branch_that_was_not_taken_sends_no_nan():
    """``where(x > 0, log(x), 0)``: 0 times the infinite slope of log at 0. The safe form guards the argument too."""
    x = tg.Tensor(np.array([0.0, 2.0]))
    positive = x > 0
    safe = tg.where(positive, tg.log(tg.where(positive, x, 1.0)), 0.0)
    np.testing.assert_array_equal(tg.gradients(tg.sum(safe), x), [0, 0.5])


# ------------------------------------------------------------------------------------ random nodes


DRAWS = 50_000


def within(draws, truth):
    """Return whether the mean of draws is the truth, within 4.5 of its standard errors."""
    return abs(np.mean(draws) - truth) < 4.5 * np.std(draws) / math.sqrt(len(draws)) + 1e-12


def test_the_weights_of_dreg_are_cut_and_squared_and_those_of_the_bound_are_not_cut():
    """``w = softmax(log_w)`` left open in DReG, or cut in the plain bound by hand: each a gradient of something else.

    Tucker et al. 2019, equation 8: the weight of a path is the square of the *detached* normalised weight.
    """
    k, runs = 4, DRAWS // 4
    mu = tg.Tensor(np.full((1, runs), 0.4), "mu")
    z = tg.Normal(mu, 1.0).sample((k,), rng=tg.noise(0), name="z")

    def log_weights(q_mu):
        return tg.Normal(z, 0.5).log_prob(1.0) + tg.Normal().log_prob(z) - tg.Normal(q_mu, 1.0).log_prob(z)

    bound = tg.logsumexp(log_weights(mu), axis=0) - math.log(k)
    right = tg.gradients(tg.sum(tg.reparameterize(bound)), mu)[0]
    inner = log_weights(tg.stop_gradient(mu))
    w = tg.softmax(inner, axis=0)

    def dreg(weights):
        return tg.gradients(tg.sum(tg.reparameterize(tg.sum(weights * inner, axis=0))), mu)[0]

    difference = dreg(tg.stop_gradient(w * w)) - right
    assert within(difference, 0)
    for wrong in (dreg(w * w), dreg(tg.stop_gradient(w))):
        assert not within(wrong - right, 0)


def test_the_second_relaxed_draw_of_rebar_follows_its_distribution_given_the_choice():
    """``u = v * p if b else p + v * (1 - p)``, with the two intervals exchanged: it runs, and is biased.

    Given b = 1 the uniform lies above 1 - p, for the toss is ``u > 1 - p``: Tucker et al. 2017, appendix C.
    """
    p, t, v = 0.3, 0.45, tg.noise(1).uniform((DRAWS,))
    logits = tg.Tensor(np.full(DRAWS, math.log(p / (1 - p))), "logits")
    b = tg.Bernoulli(logits=logits).sample(rng=tg.noise(0), name="b")
    toss, truth = b.value, p * (1 - p) * (1 - 2 * t)

    def rebar(threshold):
        again = toss * (threshold + v * (1 - threshold)) + (1 - toss) * v * threshold
        first, second = (
            (tg.sigmoid((logits + tg.log(u) - tg.log(1 - u)) / 0.5) - t) ** 2 for u in (b.noise.value, again)
        )
        score = tg.gradients(tg.sum(tg.Bernoulli(logits=logits).log_prob(toss)), logits)
        return ((toss - t) ** 2 - second.value) * score + tg.gradients(tg.sum(first - second), logits)

    assert within(rebar(tg.sigmoid(-logits)), truth)
    assert not within(rebar(tg.sigmoid(logits)), truth)
    assert within(tg.gradients(tg.sum(tg.REBAR(tg.noise(1))((b - t) ** 2)), logits), truth)


def test_a_value_cannot_slip_out_of_the_graph():
    """``float(loss)`` or ``np.exp(z)`` in the middle of a model: all before it gets no gradient."""
    z = tg.Tensor(0.5)
    for leave in (float, int, bool, np.exp, np.asarray, lambda t: np.ones(3)[t], np.sum):
        with pytest.raises(TypeError, match=r"graph|ufunc"):
            leave(z)


def test_noise_of_one_step_is_not_that_of_the_next():
    """``rng = np.random.default_rng(0)`` inside the loop: every step draws the same noise."""
    rng = tg.noise(0)
    first, second = (tg.Normal().sample((3,), rng=rng) for _ in range(2))
    assert not np.any(first == second)
    assert np.array_equal(first, tg.Normal().sample((3,), rng=tg.noise(0)))
