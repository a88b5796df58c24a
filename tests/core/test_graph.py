"""The engine: nodes, gradients, rewrite and replay, with the ops of the library as material."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_vae as tg
from tinygrad_vae.core import topological_order


def test_a_node_is_a_value_an_op_its_inputs_and_its_attributes():
    x = tg.Tensor(np.ones((2, 3)), "x")
    y = tg.mean(x, axis=1)
    assert (y.op.name, y.inputs, y.attrs) == ("mean", (x,), {"axis": 1, "keepdims": False})
    assert (x.op, x.inputs, x.name) == (None, (), "x")
    assert (y.shape, y.ndim, y.size, y.dtype) == ((2,), 1, 2, np.float64)


def test_on_arrays_an_op_gives_an_array_and_records_nothing():
    assert type(tg.exp(np.ones(2))) is np.ndarray
    assert isinstance(tg.exp(tg.Tensor(np.ones(2))), tg.Tensor)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (lambda t: t + 2.0, lambda t: 2.0 + t),
        (lambda t: t * np.array([3.0, 4.0]), lambda t: np.array([3.0, 4.0]) * t),
        (lambda t: t @ np.ones((2, 2)), lambda t: np.ones((2, 2)).T @ t),
    ],
)
def test_operators_take_arrays_and_numbers_on_either_side(left, right):
    t = tg.Tensor(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(left(t).value, right(t).value)
    assert isinstance(right(t), tg.Tensor)


@given(st.floats(-3, 3), st.floats(0.5, 3))
def test_operators_with_the_array_on_the_left_keep_their_order(a, b):
    t, c = tg.Tensor(b), np.asarray(a)
    pairs = [(c - t, a - b), (c / t, a / b), (2.0**t, 2.0**b), (c // t, a // b), (-t, -b), (abs(-t), b)]
    pairs += [(c < t, a < b), (c <= t, a <= b), (c > t, a > b), (c >= t, a >= b), (c == t, a == b), (c != t, a != b)]
    for tensor, expected in pairs:
        np.testing.assert_allclose(tensor.value, expected)


def test_methods_are_those_of_numpy():
    a = np.array([[1.0, 2.0, 4.0], [0.5, 3.0, 1.5]])
    t = tg.Tensor(a)
    for name in ("sum", "mean", "prod", "std", "var", "max", "min", "argmax", "argmin"):
        for axis in (None, 0, -1):
            np.testing.assert_allclose(getattr(t, name)(axis).value, getattr(a, name)(axis), err_msg=name)
    assert t.sum(axis=0, keepdims=True).shape == (1, 3)
    np.testing.assert_array_equal(t.reshape(3, 2).value, t.reshape((3, 2)).value)
    np.testing.assert_array_equal(t.T.value, a.T)
    np.testing.assert_array_equal((t // 2).value, a // 2)
    np.testing.assert_array_equal((5 // t).value, 5 // a)
    np.testing.assert_array_equal(((t > 1) ^ (t > 2)).value, (a > 1) ^ (a > 2))
    assert (t > 1).any().value
    assert not (t > 1).all().value
    assert t.astype(np.float32).dtype == np.float32


def test_gradients_of_several_parameters_and_of_nodes_in_between():
    x, w = tg.Tensor(2.0), tg.Tensor(3.0)
    h = x * w
    cost = h * h + x
    assert tg.gradients(cost, [x, w, h, cost]) == [2 * 6 * 3 + 1, 2 * 6 * 2, 12, 1]
    assert tg.gradients(cost, {"a": x, "b": (w,)}) == {"a": 37, "b": (24,)}
    assert tg.gradients(cost, x) == 37


def test_what_the_output_does_not_depend_on_has_gradient_zero():
    x, other = tg.Tensor(2.0), tg.Tensor(np.ones(3, np.float32))
    _, zero = tg.gradients(x * x, [x, other])
    np.testing.assert_array_equal(zero, np.zeros(3, np.float32))
    assert zero.dtype == np.float32


def test_stop_gradient_cuts_on_purpose():
    x = tg.Tensor(3.0)
    assert tg.gradients(x * tg.stop_gradient(x), x) == 3.0


def test_surrogate_has_one_value_and_another_derivative():
    x = tg.Tensor(3.0)
    y = tg.surrogate(tg.floor(x * 1.4), x * x)
    assert y.value == 4.0
    assert tg.gradients(y, x) == 6.0
    with pytest.raises(ValueError, match="one shape"):
        tg.surrogate(np.ones(2), np.ones(3))


def test_float32_stays_float32_and_mixed_precision_gradients_have_the_dtype_of_their_parameter():
    w = tg.Tensor(np.ones(3, np.float32))
    y = tg.mean(tg.tanh(w * 2.0 + 1) ** 2 / 3)
    assert y.dtype == np.float32
    assert tg.gradients(y, w).dtype == np.float32
    wide = tg.sum(w * np.ones(3))
    assert (wide.dtype, tg.gradients(wide, w).dtype) == (np.float64, np.float32)


def test_float32_with_an_integer_array_is_refused_instead_of_widened():
    with pytest.raises(TypeError, match="float32 and int64 would give float64"):
        tg.Tensor(np.ones(2, np.float32)) * np.arange(2)


def test_each_gradient_can_be_edited_without_harm_to_the_others():
    x, y = tg.Tensor(np.ones(3)), tg.Tensor(np.ones(3))
    a, b = tg.gradients(tg.sum(x + y), [x, y])
    a += 1
    np.testing.assert_array_equal(b, np.ones(3))
    c = np.ones(3)
    g = tg.gradients(x, x, cotangent=c)
    g += 1
    np.testing.assert_array_equal(c, np.ones(3))


def test_recorded_gradients_equal_raw_ones_and_can_be_differentiated():
    x = tg.Tensor(np.array([0.3, -1.2]))
    cost = tg.sum(tg.sin(x) ** 3 / (1 + x * x))
    (raw,), (recorded,) = tg.gradients(cost, [x]), tg.gradients(cost, [x], record=True)
    np.testing.assert_array_equal(raw, recorded.value)
    second = tg.gradients(tg.sum(recorded), x)
    eps = 1e-5
    moved = [tg.Tensor(x.value + s * eps) for s in (1, -1)]
    above, below = (tg.gradients(tg.replay(cost, {x: y}), y) for y in moved)
    np.testing.assert_allclose(second, (above - below) / (2 * eps), rtol=1e-8)


def test_a_cotangent_weighs_the_elements_of_the_output():
    x = tg.Tensor(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(tg.gradients(x * x, x, cotangent=np.array([1.0, 10.0])), [2.0, 40.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tg.gradients(x * x, [x]), r"shape \(2,\).*tg.mean or tg.sum.*cotangent=.*tg.jacobian"),
        (lambda x: tg.gradients(np.ones(2), [x]), "records nothing"),
        (lambda x: tg.gradients(tg.sum(x), [np.ones(2)]), "wrt holds a float64 array"),
        (lambda x: tg.gradients(tg.sum(x), [tg.Tensor(1)]), "int64; only floats"),
        (lambda x: tg.gradients(tg.argmax(x), [x]), "the output holds int64"),
        (lambda x: tg.gradients(x, [x], cotangent=np.ones(3)), r"cotangent has shape \(3,\)"),
        (lambda x: tg.rewrite(np.ones(2), lambda node, inputs: None), "rewrite takes Tensors"),
        (lambda x: tg.replay(x * 1.0, {tg.Tensor(1.0): 2.0}), "not part of the graph"),
        (lambda x: tg.Tensor(x), "found a Tensor"),
        (lambda x: tg.Tensor([1.0]), "list of length 1.*numpy.asarray"),
        (lambda x: tg.Tensor(np.ones(2, complex)), "complex128"),
        (lambda x: tg.Tensor("text"), "'text'"),
        (lambda x: tg.Tensor(np.array([None])), "object"),
        (lambda x: tg.add(x, [1, 2]), r"add: .*list of length 2"),
        (lambda x: x * None, "multiply: .*NoneType"),
        (lambda x: tg.add(np.ones(2), np.ones(3)), r"(?s)add: .*x: a float64 array of shape \(2,\).*y: .*\(3,\)"),
        (lambda x: tg.add(x, np.ones(3)), r"(?s)add: .*y: a float64 array of shape \(3,\)"),
        (lambda x: tg.sum(x, axis=4), r"(?s)sum: .*axis: 4"),
        (lambda x: x[5], r"(?s)getitem: .*key: \(5,\)"),
        (lambda x: tg.reshape(x, (3,)), r"(?s)reshape: .*shape: \(3,\)"),
        (lambda x: bool(x[0] > 0), "tg.where"),
        (lambda x: float(x[0]), r"float\(tensor.value\)"),
        (lambda x: int(x[0]), r"int\(tensor.value\)"),
        (lambda x: [1, 2][tg.argmax(x)], "tg.take"),
        (lambda x: np.asarray(x), "tensor.value"),
        (lambda x: np.sum(x), "tensor.value"),
        (lambda x: np.exp(x), r"numpy.exp of a Tensor.*tensor.value"),
        (lambda x: np.multiply(x, 2.0), r"numpy.multiply of a Tensor"),
        (lambda x: np.add.reduce(x), r"numpy.add of a Tensor"),
        (lambda x: np.add(np.ones(2), x, out=np.ones(2)), r"numpy.add of a Tensor"),
        (lambda x: x.__setitem__(0, 1.0), "never edited"),
        (lambda x: len(x[0]), "no length"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        call(tg.Tensor(np.array([1.0, 2.0])))


def test_a_number_can_be_formatted():
    assert f"{tg.Tensor(1.23456, 'x'):.2f}" == "1.23"
    assert f"{tg.Tensor(1.5, 'x')}" == "Tensor(1.5, name='x')"


def test_a_tensor_can_be_unpacked_and_iterated():
    x = tg.Tensor(np.array([1.0, 2.0]))
    a, b = x
    assert tg.gradients(a * b, x).tolist() == [2.0, 1.0]


def test_a_node_used_many_times_is_visited_once():
    x = tg.Tensor(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    assert tg.gradients(y, x) == 2.0**60
    assert len(topological_order([y])) == 61


def test_a_chain_of_100_000_is_differentiated_and_freed():
    """``def visit(node): for x in node.inputs: visit(x)``, as elsewhere: the recursion ends near a depth of 1000."""
    x = tg.Tensor(1.0)
    y = x
    for _ in range(100_000):
        y = y + 0.0
    assert tg.gradients(y, x) == 1.0
    gone = weakref.ref(y)
    del y
    assert gone() is None  # by counting references alone, without the cycle collector


def test_a_training_loop_holds_no_memory_of_earlier_steps():
    w = np.ones(100_000)

    def step():
        t = tg.Tensor(w)
        return tg.gradients(tg.sum(tg.tanh(t * t)), t)

    def held_after(steps):
        for _ in range(steps):
            step()
        return tracemalloc.get_traced_memory()[0]

    gc.disable()  # counting references must be enough
    tracemalloc.start()
    try:
        early, late = held_after(10), held_after(50)
    finally:
        tracemalloc.stop()
        gc.enable()
    assert late - early < w.nbytes


def test_rewrite_shares_what_it_did_not_touch_and_leaves_the_original_alone():
    x, y = tg.Tensor(2.0), tg.Tensor(3.0)
    left, right = tg.exp(x), tg.sin(y)
    cost = left * right
    new = tg.rewrite(cost, lambda node, inputs: tg.cos(*inputs) if node is right else None)
    assert new.inputs[0] is left
    assert cost.inputs == (left, right)
    np.testing.assert_allclose(new.value, np.exp(2.0) * np.cos(3.0))


def test_a_replacement_of_the_same_value_is_not_computed_again():
    x = tg.Tensor(2.0)
    h = tg.exp(x)
    cost = h * h
    new = tg.rewrite(cost, lambda node, inputs: tg.stop_gradient(node) if node is h else None)
    assert new.value is cost.value
    assert tg.gradients(new, x) == 0.0


def test_replay_with_nothing_swapped_gives_the_very_same_objects():
    x = tg.Tensor(2.0)
    roots = {"a": x * x, "b": [tg.exp(x)]}
    again = tg.replay(roots, {})
    assert again["a"] is roots["a"]
    assert again["b"][0] is roots["b"][0]


def test_replay_with_other_leaves_equals_computing_anew():
    x, y = tg.Tensor(2.0, "x"), tg.Tensor(3.0, "y")
    f = lambda a, b: tg.sin(a * b) + a  # noqa: E731
    again = tg.replay(f(x, y), {x: 5.0})
    assert again.value == f(np.float64(5.0), np.float64(3.0))
    fresh = next(node for node in topological_order([again]) if node.name == "x")
    np.testing.assert_allclose(tg.gradients(again, fresh), 3 * np.cos(15.0) + 1)


def test_replay_sees_what_was_edited_in_an_array():
    w = np.array([1.0, 2.0])
    t = tg.Tensor(w)
    y = tg.sum(t * t)
    w[:] = [3.0, 4.0]
    assert tg.replay(y, {t: w}).value == 25.0


def test_an_op_that_was_typed_in_can_be_typed_in_again():
    def typed_in(x, /):
        return 2 * x

    typed_in.__module__ = "__main__"  # as in a cell of a notebook
    try:
        first, second = (tg.elementwise(lambda g, y, x: 2 * g)(typed_in) for _ in range(2))
        assert tg.OPS["typed_in"] is second is not first
    finally:
        del tg.OPS["typed_in"]


def test_an_array_that_is_edited_is_read_as_it_stands_unless_it_was_copied_or_closed():
    """What the docstring of Tensor says of edits: nothing is copied, so that wrapping weights costs nothing."""
    array, constant = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    x, safe = tg.Tensor(array), tg.Tensor(array.copy())
    cost, safe_cost = tg.sum(x * x * constant), tg.sum(safe * safe * constant.copy())
    assert x.value is array
    array *= 10.0
    constant *= 10.0
    assert cost.value == 19
    np.testing.assert_array_equal(tg.gradients(cost, x), [600, 1600])
    np.testing.assert_array_equal(tg.gradients(safe_cost, safe), [6, 16])
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        array *= 10.0


def test_an_attribute_that_tensors_have_elsewhere_says_what_to_write_here():
    x = tg.Tensor(1.0)
    for name, instead in (("backward", "tg.gradients"), ("grad", "tg.gradients"), ("detach", "tg.stop_gradient")):
        with pytest.raises(AttributeError, match=f"a Tensor has no attribute '{name}'.*{instead}"):
            getattr(x, name)
    assert not hasattr(x, "anything_else")


def test_an_op_is_declared_once_and_completely():
    with pytest.raises(ValueError, match=r"exp is declared already, in tinygrad_vae\.ops"):

        @tg.elementwise(None)
        def exp(x, /):
            return x

    with pytest.raises(TypeError, match="positional-only"):

        @tg.elementwise(None)
        def no_inputs(x):
            return x

    with pytest.raises(TypeError, match="1 vjps for the inputs x, y"):

        @tg.elementwise(None)
        def too_few(x, y, /):
            return x


def test_a_wrong_cotangent_shape_names_the_op_and_the_argument():
    @tg.op(lambda g, y, x: g)
    def total(x, /):
        return np.sum(x)

    try:
        x = tg.Tensor(np.ones(3))
        with pytest.raises(ValueError, match=r"vjp of total in x gave shape \(\) for an input of shape \(3,\)"):
            tg.gradients(total(x), x)
    finally:
        del tg.OPS["total"]


def test_cotangents_are_added_up_in_place_only_where_nobody_else_holds_them():
    x, w = tg.Tensor(np.ones(3)), np.full(3, 5.0)
    seen = []

    @tg.elementwise(lambda g, y, x: seen.append(g) or g)
    def passed_on(x, /):
        return +x

    try:
        y = passed_on(x) * w + passed_on(x) * 2 + x * w + x  # what a vjp was given, or gave, is still held in ``seen``
        first, second = tg.gradients(tg.sum(y), [x, x])
        np.testing.assert_array_equal(first, 13.0)
        assert sorted(float(g[0]) for g in seen) == [2.0, 5.0]
        assert first is not second
        np.testing.assert_array_equal(w, 5.0)
    finally:
        del tg.OPS["passed_on"]
    z = tg.Tensor(np.ones(3))
    cotangent = np.ones(3)
    np.testing.assert_array_equal(tg.gradients(z + z + z * 3, z, cotangent=cotangent), 5.0)
    np.testing.assert_array_equal(cotangent, 1.0)


def test_an_op_whose_derivative_nobody_knows_is_refused_and_one_that_jumps_is_flat():
    @tg.elementwise(None)
    def unknown(x, /):
        return x**2

    @tg.elementwise(None, smoothness="jump")
    def step(x, /):
        return np.floor(x)

    try:
        x = tg.Tensor(1.5, "x")
        with pytest.raises(tg.BlockedGradientError, match="unknown has no derivative"):
            tg.gradients(unknown(x), x)
        assert tg.gradients(step(x), x) == 0.0
    finally:
        del tg.OPS["unknown"], tg.OPS["step"]


def test_an_op_that_was_made_and_not_declared_counts_as_smooth():
    cube = tg.Op(lambda x, /: x**3, [lambda g, y, x: 3 * g * x**2], elementwise=True)
    mu = tg.Tensor(2.0, "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    assert tg.gradients(tg.reparameterize(cube(z)), mu) == 3 * z.value**2
    assert tg.explain(cube(z), mu).nodes[0].cut == ["mu"]
    with pytest.raises(tg.BlockedGradientError, match="1 random node stands between"):
        tg.gradients(cube(z), mu)


def test_a_tree_that_was_wrapped_twice_is_an_error_and_no_zeros():
    weights = {"w": np.ones(3), "b": np.ones(())}
    first = tg.wrap(weights)
    cost = tg.sum(first["w"] * 2.0 + first["b"])
    with pytest.raises(ValueError, match="wrapped twice"):
        tg.gradients(cost, tg.wrap(weights))
    with pytest.raises(ValueError, match="wrapped twice"):  # the model of the next step, and the cost of this one
        tg.gradients(cost, tg.wrap({name: x - 0.1 for name, x in weights.items()}))
    np.testing.assert_array_equal(tg.gradients(cost, first)["w"], [2.0, 2.0, 2.0])


def test_a_tensor_that_a_cost_does_not_depend_on_has_the_gradient_zero():
    a, b = tg.Tensor(2.0, "a"), tg.Tensor(3.0, "b")
    assert tg.gradients(a * a, b) == 0
    slope = tg.gradients(a * b, a, record=True)  # b: linear in a
    assert (tg.gradients(slope, a), tg.gradients(slope, b)) == (0, 1)
