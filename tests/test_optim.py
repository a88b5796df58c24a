"""Optimizers: the formulas, purity, and what they refuse before anything has changed."""

import dataclasses

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae import adam_loop
from tinygrad_vae.checks.ops import check_vjp
from tinygrad_vae.core import trees
from tinygrad_vae.nn import MLP
from tinygrad_vae.optim import SGD, Adam, AdamW, clip_by_global_norm, cosine, stages, warm_up

OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, momentum=0.9),
    Adam(0.1),
    AdamW(0.1, weight_decay=0.1),
    SGD(np.float64(0.1), np.float64(0.9)),
    Adam(np.float64(0.1)),
    AdamW(np.float64(0.1), weight_decay=np.float64(0.1)),
]


def _parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    return {
        "w": rng.normal(size=(3, 2)).astype(dtype),
        "rest": [rng.normal(size=4).astype(dtype), np.asarray(1, dtype)],
    }


def _gradients(parameters, seed):
    rng = np.random.default_rng(seed)
    return trees.map_leaves(lambda p: np.asarray(rng.normal(size=p.shape), p.dtype), parameters)


def _assert_same(a, b, **tolerance):
    for (path, x), (_, y) in zip(trees.paths(a), trees.paths(b), strict=True):
        np.testing.assert_allclose(x, y, err_msg=path, **tolerance)


def test_sgd_with_momentum_is_its_formula():
    sgd, p = SGD(0.1, momentum=0.9), {"x": np.array(1.0)}
    state = sgd.init(p)
    position, velocity = 1.0, 0.0
    for g in (2.0, -1.0, 0.5):
        p, state = sgd.update(p, {"x": np.array(g)}, state)
        velocity = 0.9 * velocity + g
        position -= 0.1 * velocity
        assert p["x"] == pytest.approx(position, rel=1e-14)


def test_adam_is_its_formula():
    adam, p = Adam(0.1, beta1=0.8, beta2=0.95, epsilon=1e-3), _parameters()
    state = adam.init(p)
    position, m, v = p, trees.map_leaves(np.zeros_like, p), trees.map_leaves(np.zeros_like, p)
    for t in range(1, 6):
        g = _gradients(p, t)
        p, state = adam.update(p, g, state)
        m = trees.map_leaves(lambda m, g: 0.8 * m + 0.2 * g, m, g)
        v = trees.map_leaves(lambda v, g: 0.95 * v + 0.05 * g**2, v, g)
        position = trees.map_leaves(
            lambda p, m, v, t=t: p - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3), position, m, v
        )
        _assert_same(p, position, rtol=1e-12)
    assert state["step"] == 5


def test_adamw_is_adam_and_a_decay_beside_it():
    p, plain = _parameters(), Adam(0.1)
    state = plain.init(p)
    for t in range(1, 4):
        g = _gradients(p, t)
        expected, _ = plain.update(p, g, state)
        expected = trees.map_leaves(lambda new, p: new - 0.1 * 0.3 * p, expected, p)
        p, state = AdamW(0.1, weight_decay=0.3).update(p, g, state)
        _assert_same(p, expected, rtol=1e-14)
    without, _ = AdamW(0.1, weight_decay=0).update(p, g, state)
    _assert_same(without, plain.update(p, g, state)[0], rtol=0)


def test_adamw_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    p = {"w": _parameters()["w"]}
    theirs = torch.tensor(p["w"].copy(), requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], lr=0.05, weight_decay=0.2)
    adam = AdamW(0.05, weight_decay=0.2)
    state = adam.init(p)
    for t in range(10):
        g = _gradients(p, t)
        p, state = adam.update(p, g, state)
        theirs.grad = torch.tensor(g["w"])
        optimizer.step()
    np.testing.assert_allclose(p["w"], theirs.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_keeps_the_direction_and_bounds_the_norm_over_all_arrays(dtype):
    g = _gradients(_parameters(dtype), 1)
    everything = np.concatenate([leaf.ravel() for leaf in trees.leaves(g)]).astype(np.float64)
    for limit in (0.5, 1e3):
        clipped, norm = clip_by_global_norm(g, limit)
        assert norm == pytest.approx(np.linalg.norm(everything), rel=1e-12)
        scale = min(1, limit / norm)
        _assert_same(clipped, trees.map_leaves(lambda x, scale=scale: x * scale, g), rtol=1e-6)
        assert {leaf.dtype for leaf in trees.leaves(clipped)} == {np.dtype(dtype)}


def test_clipping_where_float32_would_overflow_and_where_nothing_is_finite():
    huge = {"x": np.full(4, 1e30, np.float32)}
    clipped, norm = clip_by_global_norm(huge, 1.0)
    assert norm == pytest.approx(2e30, rel=1e-6)
    np.testing.assert_allclose(clipped["x"], 0.5, rtol=1e-6)
    broken = {"x": np.array([1.0, np.nan])}
    assert clip_by_global_norm(broken, 1.0)[0] is broken
    for limit in (0, -1.0, np.nan, True):
        with pytest.raises(ValueError, match="limit must be a positive number"):
            clip_by_global_norm(huge, limit)


def test_gradients_whose_sum_is_too_large_are_taken_and_broken_ones_are_named():
    adam, p = Adam(0.1), {"x": np.zeros(4, np.float32), "y": np.zeros(2, np.float32)}
    huge = {"x": np.full(4, 3e38, np.float32), "y": np.array([-3e38, 1.0], np.float32)}
    for g in (huge, trees.map_leaves(np.negative, huge)):
        with np.errstate(over="ignore"):
            new, _ = adam.update(p, g, adam.init(p))
        assert np.isfinite(new["x"]).all()
    for broken in (np.inf, -np.inf, np.nan):
        with pytest.raises(ValueError, match="1 of 2 elements of the gradient at y are not finite"):
            adam.update(p, huge | {"y": np.array([1.0, broken], np.float32)}, adam.init(p))
    with pytest.raises(ValueError, match="2 of 2 elements"):
        adam.update(p, huge | {"y": np.array([np.inf, -np.inf], np.float32)}, adam.init(p))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_large_gradient_does_not_stop_a_parameter_for_good(dtype):
    optimizer, large = Adam(0.1, beta1=0.7, beta2=0.7), np.finfo(dtype).max
    for size in (large, np.sqrt(large), 0.9 * np.sqrt(large), np.sqrt(large) / 20):
        p = {"x": np.zeros(2, dtype)}
        state = optimizer.init(p)
        for _ in range(3):
            p, state = optimizer.update(p, {"x": np.array([size, -1.0], dtype)}, state)
        np.testing.assert_allclose(p["x"], [-0.3, 0.3], rtol=1e-5)
        for _ in range(2500):
            p, state = optimizer.update(p, {"x": np.array([-1.0, 1.0], dtype)}, state)
        assert all(np.isfinite(leaf).all() for leaf in trees.leaves(state))
        assert p["x"][0] > 1  # it moves on, where it stood still at -0.3


def test_schedules_at_their_corners():
    assert [warm_up(step, 0) for step in (0, 5)] == [1, 1]
    assert cosine(0, 10) == 1
    assert cosine(10, 10) == cosine(11, 10) == 0
    lengths = np.unique([stages(epoch) for epoch in range(3280)], return_counts=True)[1]
    np.testing.assert_array_equal(lengths, 3 ** np.arange(8)[::-1])
    assert stages(3279) == pytest.approx(0.1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_the_inputs_are_never_edited_and_never_returned(optimizer):
    p = _parameters()
    g, state = _gradients(p, 1), optimizer.init(p)
    p, state = optimizer.update(p, g, state)  # a state that is not all zeros
    everything = [p, g, state]
    for leaf in trees.leaves(everything):
        leaf.flags.writeable = False
    before = trees.map_leaves(np.copy, everything)
    new, new_state = optimizer.update(p, g, state)
    _assert_same(everything, before, rtol=0)
    for leaf in trees.leaves([new, new_state]):
        assert not any(np.shares_memory(leaf, old) for old in trees.leaves(everything))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_structure_shapes_and_dtype_stay(optimizer, dtype):
    model = MLP.init((3, 4, 2), rng=tg.noise(0), dtype=dtype)
    new, state = optimizer.update(model, _gradients(model, 1), optimizer.init(model))
    assert isinstance(new, MLP)
    assert new.activation == model.activation
    for tree in [new, *(state[name] for name in state if name != "step")]:
        assert [(path, x.shape, x.dtype) for path, x in trees.paths(tree)] == [
            (path, x.shape, x.dtype) for path, x in trees.paths(model)
        ]


@pytest.mark.parametrize("optimizer", [SGD(0.05), SGD(0.02, momentum=0.9), Adam(0.1)], ids=repr)
def test_the_minimum_of_a_bowl_is_found(optimizer):
    target = np.array([3.0, -1.0])
    p = {"x": np.zeros(2)}
    state = optimizer.init(p)
    for _ in range(500):
        x = tg.wrap(p)
        loss = tg.sum(np.array([1.0, 10.0]) * (x["x"] - target) ** 2)
        p, state = optimizer.update(p, tg.gradients(loss, x), state)
    np.testing.assert_allclose(p["x"], target, atol=1e-3)


def test_a_tree_with_other_order_of_keys_is_matched_by_name():
    p = {"a": np.zeros(2), "b": np.zeros(2)}
    new, _ = SGD(1.0).update(p, {"b": np.ones(2), "a": np.full(2, 5.0)}, {})
    np.testing.assert_array_equal(new["a"], [-5, -5])


@pytest.mark.parametrize("rate", [0, -0.1, np.nan, np.inf, True, "0.1", None])
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_learning_rate_is_a_positive_number(kind, rate):
    with pytest.raises(ValueError, match=f"{kind.__name__}: learning_rate must be a positive number, found"):
        kind(learning_rate=rate)


@pytest.mark.parametrize("option", [{"beta1": 1.0}, {"beta2": -0.1}, {"epsilon": 0.0}])
def test_adam_refuses_other_numbers_out_of_range(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        Adam(**option)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda g: {"w": g["w"]}, r"missing: rest.0, rest.1; not known: nothing"),
        (lambda g: {**g, "extra": np.ones(1)}, "not known: extra"),
        (lambda g: {**g, "w": g["w"].T}, r"gradients at w must be .*\(3, 2\) like the parameter, found .*\(2, 3\)"),
        (lambda g: {**g, "w": g["w"].astype(np.float32)}, "float64 .* like the parameter, found a float32"),
        (
            lambda g: {**g, "w": np.where(g["w"] == g["w"].max(), np.nan, g["w"])},
            "1 of 6 elements .* at w are not finite",
        ),
        (lambda g: tg.wrap(g), r"found a float64 Tensor of shape \(3, 2\)"),
    ],
)
def test_gradients_that_do_not_match_are_refused(optimizer, edit, message):
    p = _parameters()
    with pytest.raises(ValueError, match=message):
        optimizer.update(p, edit(_gradients(p, 1)), optimizer.init(p))


@pytest.mark.parametrize("decay", [-0.1, np.nan, np.inf, True, "0.1", None])
def test_a_weight_decay_is_a_non_negative_number(decay):
    with pytest.raises(ValueError, match="weight_decay must be a non-negative number"):
        AdamW(weight_decay=decay)


def test_a_state_of_another_optimizer_is_refused():
    p = _parameters()
    g = _gradients(p, 1)
    with pytest.raises(ValueError, match=r"dict of mean, square, step, found a dict of velocity; begin with"):
        Adam().update(p, g, SGD(0.1, momentum=0.9).init(p))
    with pytest.raises(ValueError, match="dict of nothing, found a dict of mean, square, step"):
        SGD(0.1).update(p, g, Adam().init(p))
    with pytest.raises(ValueError, match="mean must be a tree like the parameters"):
        Adam().update(p, g, Adam().init({"w": p["w"]}))


def test_parameters_are_arrays_of_floats():
    for bad in (np.arange(3), tg.Tensor(np.ones(3)), [1.0], np.ones(3, np.float16)):
        with pytest.raises(TypeError, match=r"a parameter is an array of float32 or float64, found .* at x"):
            Adam().init({"x": bad})


def test_an_optimizer_cannot_be_edited():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Adam().learning_rate = 1.0


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_an_update_of_tensors_is_recorded_with_the_same_values(optimizer):
    p = _parameters(np.float32)
    g, state = _gradients(p, 1), optimizer.init(p)
    expected = optimizer.update(p, g, state)
    recorded = optimizer.update(tg.wrap(p), tg.wrap(g), tg.wrap(state))
    assert all(isinstance(leaf, tg.Tensor) for leaf in trees.leaves(recorded))
    _assert_same(tg.values(recorded), expected, rtol=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_an_update_can_be_differentiated(optimizer):
    def after(g):
        p = tg.wrap({"x": np.array([1.0, -2.0])})
        new, _ = optimizer.update(p, {"x": g}, tg.wrap(state))
        return new["x"]

    start = {"x": np.array([1.0, -2.0])}
    _, state = optimizer.update(start, {"x": np.array([0.5, 3.0])}, optimizer.init(start))
    check_vjp(after, np.array([0.3, -0.7]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_of_a_weight_without_gradient_become_zero_and_never_denormal(dtype):
    adam, p = Adam(beta1=0.5, beta2=0.5), {"x": np.ones(3, dtype)}
    state = adam.init(p)
    smallest = np.finfo(dtype).tiny
    p, state = adam.update(p, {"x": np.array([1.0, -1e-3, 1e-30], dtype)}, state)
    while np.any(state["mean"]["x"]):
        p, state = adam.update(p, {"x": np.zeros(3, dtype)}, state)
        for moment in (state["mean"]["x"], state["square"]["x"]):
            assert np.all((moment == 0) | (np.abs(moment) >= smallest))
    assert state["step"] < 2000
    assert np.all(np.isfinite(p["x"]))


@pytest.mark.parametrize("make", [lambda: Adam(0.1), lambda: AdamW(0.1, beta1=0.95, beta2=0.99)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_loop_of_adam_gives_the_bits_of_its_ops(make, dtype, monkeypatch):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    shapes = {"w": (64, 80), "of few": (3,), "transposed": (80, 64)}
    start = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    start["transposed"] = start["transposed"].T
    smallest, largest = np.log10(np.finfo(dtype).tiny) - 5, np.log10(np.finfo(dtype).max) / 2

    def trained(first):
        monkeypatch.setattr(adam_loop, "FIRST", first)
        adam, rng = make(), np.random.default_rng(1)
        p, state = start, adam.init(start)
        for _ in range(20):
            sizes = {name: 10.0 ** rng.uniform(smallest, largest, x.shape) for name, x in p.items()}
            signs = {name: rng.integers(-1, 2, x.shape) for name, x in p.items()}
            g = {name: (sizes[name] * signs[name]).astype(dtype) for name in p}
            p, state = adam.update(p, g, state)
        return trees.leaves((p, state))

    for a, b in zip(trained(10), trained(1000), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_an_average_comes_to_rest_at_may_be_divided_and_is_not_denormal(dtype, decay):
    average, before, nothing = np.array([1.0, -1e-20], dtype), None, np.zeros(2, dtype)
    while before is None or np.any(average != before):
        average, before = tg.moving_average(average, nothing, decay=decay), average
    quotient = np.abs(average) / dtype(1e7)
    assert np.all((quotient == 0) | (quotient >= np.finfo(dtype).tiny))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [SGD, lambda rate: SGD(rate, momentum=0.9), Adam, AdamW])
def test_a_plan_sees_a_learning_rate_change_that_is_an_array(make, dtype):
    run = tg.plan(lambda p, state, g, rate: make(rate).update(p, g, state), carry=2)
    p = _parameters(dtype)
    planned = eager = p, make(0.1).init(p)
    for i in range(5):
        g, rate = _gradients(p, i), 0.1 / (i + 1)
        planned, eager = run(*planned, g, np.asarray(rate)), make(rate).update(eager[0], g, eager[1])
        for (path, a), (_, b) in zip(trees.paths(planned), trees.paths(eager), strict=True):
            assert a.dtype == b.dtype, path
            np.testing.assert_array_equal(a, b, err_msg=path)


@pytest.mark.parametrize("rate", [np.zeros(()), np.ones(1), np.array("0.1"), np.array(np.nan), tg.Tensor(-1.0)])
def test_an_array_for_a_learning_rate_holds_one_positive_number(rate):
    with pytest.raises(ValueError, match="Adam: learning_rate must be a positive number, found"):
        Adam(rate)
