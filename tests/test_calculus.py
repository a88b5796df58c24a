"""Derivatives of functions: values against closed forms, nesting, trees, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standard_errors import assert_agrees

import tinygrad_vae as tg

numbers = st.floats(-2, 2)


@given(x=numbers)
def test_derivatives_of_every_order_of_a_polynomial(x):
    f = lambda t: t**4 + tg.sin(t)  # noqa: E731
    orders = [tg.grad(f), tg.grad(tg.grad(f)), tg.grad(tg.grad(tg.grad(f)))]
    truth = [4 * x**3 + np.cos(x), 12 * x**2 - np.sin(x), 24 * x - np.cos(x)]
    np.testing.assert_allclose([g(x) for g in orders], truth, rtol=1e-12, atol=1e-12)


@given(x=numbers)
def test_nested_derivatives_are_not_confused(x):
    assert tg.grad(lambda a: tg.grad(lambda b: a * b)(a))(x) == 1  # d/dx of (d/dy xy at y = x)
    assert tg.grad(lambda a: a * tg.grad(lambda b: a + b)(1.0))(x) == 1
    np.testing.assert_allclose(tg.grad(lambda a: a * tg.grad(lambda b: a * b * b)(3.0))(x), 12 * x)  # by the closure


def test_arrays_give_arrays_and_tensors_give_tensors():
    f = lambda x: tg.sum(x * x)  # noqa: E731
    assert isinstance(tg.grad(f)(np.ones(2)), np.ndarray)
    assert isinstance(tg.grad(f)(tg.Tensor(np.ones(2))), tg.Tensor)
    value, gradient = tg.value_and_grad(lambda x: tg.sum(tg.Normal(x, 1.0).rsample(rng=tg.noise(0))))(np.ones(2))
    assert isinstance(value, np.ndarray)
    assert isinstance(gradient, np.ndarray)  # noise drawn inside is no parameter from outside


def test_a_blocked_draw_is_refused_here_too():
    with pytest.raises(tg.BlockedGradientError):
        tg.grad(lambda mu: tg.Normal(mu, 1.0).sample(rng=tg.noise(0)) ** 2)(0.5)


def test_trees_keep_their_structure():
    point = {"a": np.array([1.0, 2.0]), "b": [3.0, (4.0,)]}
    f = lambda p: tg.sum(p["a"]) * p["b"][0] * p["b"][1][0]  # noqa: E731
    gradient = tg.grad(f)(point)
    np.testing.assert_allclose(gradient["a"], [12.0, 12.0])
    assert gradient["b"] == [12.0, (9.0,)]
    hessian = tg.hessian(f)(point)
    np.testing.assert_allclose(hessian["b"][0]["a"], [4.0, 4.0])
    np.testing.assert_allclose(hessian["a"]["b"][1][0], [3.0, 3.0])


@given(seed=st.integers(0, 2**32 - 1))
def test_products_with_the_jacobian_and_the_hessian_agree_with_them(seed):
    rng = np.random.default_rng(seed)
    w, x, t, g = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=4), rng.normal(size=3)
    f = lambda y: tg.tanh(w @ y)  # noqa: E731
    jacobian = tg.jacobian(f)(x)
    np.testing.assert_allclose(jacobian, w / np.cosh(w @ x)[:, None] ** 2, rtol=1e-12)
    value, pull = tg.vjp(f, x)
    np.testing.assert_allclose(pull(g)[0], g @ jacobian, atol=1e-12)
    value, tangent = tg.jvp(f, (x,), (t,))
    np.testing.assert_array_equal(value, np.tanh(w @ x))
    np.testing.assert_allclose(tangent, jacobian @ t, atol=1e-12)
    cost = lambda y: tg.sum(f(y) ** 2)  # noqa: E731
    np.testing.assert_allclose(tg.hvp(cost, x, t), tg.hessian(cost)(x) @ t, atol=1e-12)


def test_a_linear_function_has_a_zero_second_derivative():
    np.testing.assert_array_equal(tg.hessian(lambda x: tg.sum(3 * x))(np.ones(2)), np.zeros((2, 2)))
    np.testing.assert_array_equal(tg.hvp(lambda x: tg.sum(x), np.ones(2), np.ones(2)), np.zeros(2))


def test_a_function_that_ignores_its_argument_has_gradient_zero():
    np.testing.assert_array_equal(tg.grad(lambda x: 5.0)(np.ones(2)), np.zeros(2))


@pytest.mark.parametrize(
    ("f", "point", "message"),
    [
        (lambda x: x * x, np.ones(2), "shape \\(2,\\).*tg.jacobian"),
        (lambda x: [x], 1.0, "a list of length 1, not a number"),
        (lambda x: (x, x), 1.0, "return the loss alone, or say has_aux=True"),
        (lambda x: tg.mean(x.value), 1.0, r"an array and no Tensor: .* from a \.value"),
        (lambda x: x * 1.0, 1, "int64.*only floats"),
        (lambda x: x, "text", "found the str 'text'"),
    ],
)
def test_what_has_no_gradient_is_refused_in_words(f, point, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tg.grad(f)(point)


@given(x=numbers, y=numbers)
def test_several_arguments_and_a_result_with_something_beside_it(x, y):
    f = lambda a, p, scale=1.0: scale * a * tg.sin(p["y"])  # noqa: E731
    da, dp = tg.grad(f, (0, 1))(x, {"y": y}, scale=2.0)
    assert (da, dp["y"]) == (tg.grad(f)(x, {"y": y}, scale=2.0), tg.grad(f, 1)(x, {"y": y}, scale=2.0)["y"])
    hessian = tg.hessian(lambda a, b: f(a, {"y": b}), (0, 1))(x, y)
    np.testing.assert_allclose(hessian, [[0, np.cos(y)], [np.cos(y), -x * np.sin(y)]], rtol=1e-12, atol=1e-12)
    (value, aux), gradient = tg.value_and_grad(lambda a: (a * a, {"text": "kept", "cube": a**3}), has_aux=True)(x)
    assert (value, gradient, aux["text"], isinstance(aux["cube"], np.ndarray)) == (x * x, 2 * x, "kept", True)
    second = tg.grad(lambda a: tg.grad(lambda b: (b**3, b * b), has_aux=True)(a)[0] ** 2)
    np.testing.assert_allclose(second(x), 36 * x**3, rtol=1e-12, atol=1e-12)
    with pytest.raises(TypeError, match=r"must return \(number, anything\), found a float64 Tensor"):
        tg.grad(lambda a: a * a, has_aux=True)(x)


@given(x=numbers, u=numbers)
def test_a_pullback_can_be_differentiated_later(x, u):
    _, pull = tg.vjp(lambda t: t**3, x)
    assert isinstance(pull(u)[0], np.ndarray)
    np.testing.assert_allclose(tg.grad(lambda v: pull(v)[0])(u), 3 * x**2, rtol=1e-12, atol=1e-12)
    gauss_newton = lambda t: tg.vjp(tg.sin, x)[1](tg.jvp(tg.sin, (x,), (t,))[1])[0]  # noqa: E731
    np.testing.assert_allclose(tg.grad(gauss_newton)(u), np.cos(x) ** 2, rtol=1e-12, atol=1e-15)


@given(x=numbers)
def test_a_derivative_that_is_constant_inside_another_one_is_no_error(x):
    assert tg.grad(lambda a: tg.grad(lambda b: a + b)(1.0))(x) == 0
    assert tg.grad(lambda a: tg.grad(lambda b: 5.0)(a))(x) == 0
    assert tg.grad(tg.grad(lambda a: 3 * a))(x) == 0


def test_every_row_of_a_jacobian_has_the_same_noise():
    stream = tg.noise(0)
    hessian = tg.hessian(lambda p: stream.normal(()) * p["a"] * p["b"])({"a": 1.0, "b": 2.0})
    assert hessian["a"]["b"] == hessian["b"]["a"] == tg.noise(0).normal(())


def test_a_direction_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\) where \(2,\)"):
        tg.hvp(lambda x: tg.sum(x * x), np.ones(2), np.ones(3))


def test_a_direction_that_depends_on_the_draw_is_no_factor_of_a_weighed_derivative():
    m = tg.Tensor(np.full(20_000, 0.7), "m")
    square = lambda k, opened: opened(tg.Normal(k, 1.0).sample(rng=tg.noise(1)) ** 2)  # noqa: E731
    z = tg.stop_gradient(tg.Normal(m, 1.0).sample(rng=tg.noise(1)))
    with pytest.raises(tg.InvalidGradientError, match="multiply uses a cost that an estimator has weighed"):
        tg.jvp(lambda k: square(k, tg.score_function), (m,), (z * 1.0,))
    other = tg.stop_gradient(tg.Normal(m, 1.0).sample(rng=tg.noise(2)))
    for direction, mean in ((other, 0.7), (tg.stop_gradient(m), 0.7), (np.ones(20_000), 1.0)):
        _, along = tg.jvp(lambda k: square(k, tg.score_function), (m,), (direction,))
        assert_agrees(along.value, 2 * 0.7 * mean)
        assert_agrees(tg.gradients(tg.sum(along), m), 2 * mean)
    along = tg.jvp(lambda k: square(k, tg.reparameterize), (m,), (z,))[1]
    np.testing.assert_allclose(along.value, 2 * z.value**2)
