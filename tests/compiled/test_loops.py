"""Loops that numba compiles give the bits that NumPy gives, and a plan with them those of its step."""

import sys

import numpy as np
import pytest
from steps import ADAM, CALLS, assert_same_bits, binary_images, new_model, program_of, training_step

import tinygrad_vae as tg
from tinygrad_vae.compiled import loops
from tinygrad_vae.compiled.buffers import Call
from tinygrad_vae.compiled.loops import COMPARISONS, EXACT, Loop
from tinygrad_vae.optional import MissingExtraError

numba = pytest.importorskip("numba")

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, 1e-310, 3e38, -3e38, 1e300, np.inf, -np.inf, np.nan, 0.1, 7.0]


@pytest.fixture(autouse=True)
def _small_loops_too(monkeypatch):
    monkeypatch.setattr(loops, "LARGE", 0)


def _loops_of(run):
    return [item for item in program_of(run).work if isinstance(item, Loop)]


OF_NUMPY = {"absolute": tg.abs, "clip": tg.relu}
"""What calls a function of NumPy, where it has another name here."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_every_function_of_a_loop_gives_the_bits_of_numpy_also_at_the_edges(name, dtype):
    function = OF_NUMPY.get(name) or getattr(tg, name)

    def step(*columns):
        return columns[0] * function(*columns) if name in COMPARISONS else function(*columns) * 0.5

    with np.errstate(over="ignore"):
        numbers = np.array(SPECIAL).astype(dtype)
    columns = [x.ravel() for x in np.meshgrid(*[numbers] * len(function.input_names))]
    run = tg.plan(step, compiled=True)
    with np.errstate(all="ignore"):
        for _ in range(CALLS):
            assert_same_bits(run(*columns), step(*columns))
    (loop,) = _loops_of(run)
    assert [call.name for call in loop.calls] == [name, "multiply"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (1, 7), (7,)])
def test_a_layer_and_its_derivative_are_loops_with_rows_and_booleans(shape, dtype):
    def step(x, bias, g):
        y = x + bias
        return tg.relu(y), (g + g * 0.5) * (y > 0)

    run = tg.plan(step, compiled=True)
    for seed in range(CALLS):
        rng = np.random.default_rng(seed)
        x, bias, g = (rng.normal(size=n).astype(dtype) for n in (shape, 7, shape))
        assert_same_bits(run(x, bias, g), step(x, bias, g))
    (loop,) = _loops_of(run)
    assert {call.name for call in loop.calls} == {"add", "clip", "less", "multiply"}


def test_a_step_that_makes_nan_is_planned_all_the_same():
    def step(x, y):
        return (x - y) + (-(y - x)) * 2.0, (y - x) + (x - y)

    run = tg.plan(step, compiled=True)
    x = np.array([np.inf, -np.inf, np.nan, -np.nan, 1.0])
    with np.errstate(invalid="ignore"):
        for _ in range(CALLS):
            assert_same_bits(run(x, x[::-1].copy()), step(x, x[::-1].copy()))


def test_adam_is_one_loop_for_each_array_and_training_is_the_same_bit_for_bit():
    step = training_step()
    run, plain = tg.plan(step, carry=2, compiled=True), tg.plan(step, carry=2, compiled=False)
    compiled = called = eager = (new_model(), ADAM.init(new_model()))
    for i in range(8):
        images = binary_images(20, seed=i)
        *compiled, _ = run(*compiled, images, tg.noise(1).at(i))
        *called, _ = plain(*called, images, tg.noise(1).at(i))
        *eager, _ = step(*eager, images, tg.noise(1).at(i))
        assert_same_bits(compiled, eager)
        assert_same_bits(called, eager)
    assert not _loops_of(plain)
    leaves = tg.trees.leaves(new_model())
    updates = [loop for loop in _loops_of(run) if "sqrt" in {call.name for call in loop.calls}]
    assert {len(loop.outs) for loop in updates} == {3}
    assert sorted(loop.outs[0].like.size for loop in updates) == sorted(leaf.size for leaf in leaves)
    assert all(
        {x.buffer.start for x in loop.outs} <= {x.buffer.start for x in loop.reads} for loop in updates
    )  # in place


def test_a_derivative_that_is_the_same_everywhere_is_a_number_in_the_loop():
    def step(x):
        return tg.value_and_grad(lambda x: tg.mean(tg.square(x) * x))(x)

    run = tg.plan(step, compiled=True)
    for seed in range(CALLS):
        x = np.random.default_rng(seed).normal(size=(6, 5))
        assert_same_bits(run(x), step(x))
    assert not [call for call in program_of(run).work if isinstance(call, Call) and call.name == "multiply"]


def test_small_chains_stay_calls_unless_a_large_one_is_alike(monkeypatch):
    monkeypatch.setattr(loops, "LARGE", 1000)

    def step(a, b, c):
        return (a + 1.0) * a, (b + 1.0) * b, tg.sqrt(c * c)

    run = tg.plan(step, compiled=True)
    for _ in range(3):
        run(np.ones(1000), np.ones(10), np.ones(10))
    assert sorted(loop.outs[0].like.size for loop in _loops_of(run)) == [10, 1000]


def test_what_is_asked_for_and_not_installed_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtraError, match=r'numba is needed here .* pip install "tinygrad-vae\[fast\]"'):
        tg.plan(tg.exp, compiled=True)
    run = tg.plan(lambda x: (x + 1.0) * x)
    for _ in range(3):
        np.testing.assert_array_equal(run(np.ones(3)), 2 * np.ones(3))
    assert not _loops_of(run)


@pytest.mark.parametrize(
    ("step", "shapes"),
    [
        (lambda y: (y + y[0]) * 2.0, [(100, 100)]),
        (lambda y: (y[0, 0] + y) * 2.0, [(3, 4, 5)]),
        (lambda y: (tg.reshape(y[:1], ()) + y) * 2.0, [(50,)]),
        (lambda x: (tg.flip(x * 2.0, axis=0) + 1.0) * x, [(1, 5000)]),
        (lambda y, b, z, c: ((y + b) * 2.0, (z + c) * 2.0), [(100, 100), (100,), (5, 0), (0,)]),
    ],
)
def test_views_of_one_memory_and_arrays_without_elements(step, shapes):
    run, rng = tg.plan(step, compiled=True), np.random.default_rng(0)
    for _ in range(CALLS):
        arrays = [rng.normal(size=shape) for shape in shapes]
        assert_same_bits(run(*arrays), step(*arrays))


def test_constants_that_are_equal_and_not_the_same():
    steps = [lambda x: x * 2.0 + 0.0, lambda x: x * 2.0 + (-0.0)]
    runs = [tg.plan(step, compiled=True) for step in steps]
    for x in (np.ones(20), np.ones(20), np.full(20, -0.0)):
        for run, step in zip(runs, steps, strict=True):
            assert_same_bits(run(x), step(x))
