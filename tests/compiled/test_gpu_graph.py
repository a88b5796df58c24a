"""A plan on a GPU: CUDA graphs, tested with an array type that behaves as CuPy's and captures as CUDA does."""

import functools
import importlib
import itertools
import sys
from pathlib import Path

import device_array
import numpy as np
import pytest
from device_array import pretend
from on_devices import BETWEEN, IMAGES, small_model, training_step
from steps import program_of

import tinygrad_vae as tg
from tinygrad_vae.compiled.plan import PlanError
from tinygrad_vae.core import namespace, trees
from tinygrad_vae.ops.cases import cases_of, draw_inputs
from tinygrad_vae.ops.declare import OPS

STEP = training_step(tg.optim.Adam(0.01))


@pytest.fixture(params=[True, False], ids=["cublas", "no-cublas"])
def gpu(request):
    with pretend(cublas=request.param) as counts:
        counts.has_cublas = request.param
        yield counts


def _train(step, steps):
    model, losses = tg.to_device(small_model()), []
    state = tg.optim.Adam(0.01).init(model)
    for i in range(steps):
        x = tg.to_device(IMAGES[: 4 + 2 * (i % 2)])
        model, state, loss = step(model, state, x, tg.noise(1).at("step", i))
        losses.append(float(loss))
    return tg.to_host((model, state)), losses


def _assert_equal(a, b):
    for (path, x), y in zip(trees.paths(a), trees.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=path)


def test_a_captured_step_trains_as_the_eager_one_bit_for_bit(gpu):
    _assert_equal(_train(tg.plan(STEP, carry=2), 8), _train(STEP, 8))


def test_a_captured_step_waits_for_nothing_and_is_one_launch(gpu):
    run, model, x = tg.plan(STEP, carry=2), tg.to_device(small_model()), tg.to_device(IMAGES)
    state = tg.optim.Adam(0.01).init(model)
    for i in range(3):
        model, state, loss = run(model, state, x, tg.noise(1).at("step", i))
    gpu.clear()
    held = [id(leaf) for leaf in trees.leaves((model, state))]
    model, state, loss = run(model, state, x, tg.noise(1).at("step", 3))
    assert not gpu.synchronizations
    assert gpu.copies == ["asarray"]  # the noise
    assert held == [id(leaf) for leaf in trees.leaves((model, state))]
    products = sum(name in ("matmul", "gemm") for name in gpu.kernels)
    graphs = [not isinstance(call, functools.partial) for call in program_of(run).calls]
    assert (gpu.launches, products) == (sum(graphs), len(graphs) - sum(graphs))
    assert not any(a and b for a, b in itertools.pairwise(graphs))  # a product stands between two graphs
    assert (gpu.launches, products) == (1, 0) if gpu.has_cublas else products > 0
    assert "1 CUDA graphs and 0 calls" in repr(run) or not gpu.has_cublas
    assert float(loss) > 0


# --------------------------------------------------------------------------------- what is captured


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_every_op_runs_in_a_plan_as_it_does_eagerly(op, gpu):
    for trial in cases_of(op):
        draws = [draw_inputs(op, trial, np.random.default_rng(seed)) for seed in range(2)]
        inputs, others = ([x.astype(np.float32) if x.dtype.kind == "f" else x for x in drawn] for drawn in draws)
        run = tg.plan(lambda *inputs: op(*inputs, **trial.attrs))  # noqa: B023
        for given in (inputs, inputs, inputs if op.name in BETWEEN - {"einsum_arrays"} else others):
            found = run(*tg.to_device(given))
            assert namespace(found).__name__ == "cupy"
        _equal_to_rounding(found, op(*given, **trial.attrs))
        calls = program_of(run).calls
        if op.name in BETWEEN or (".linalg." in op.__module__ and op.name != "power_norm"):
            assert len(calls) > 1
        elif gpu.has_cublas and op.name not in ("matmul", "linear", "erfcx_integral"):
            assert len(calls) == 1


def _equal_to_rounding(device, host):
    found = tg.to_host(device)
    assert (found.dtype, found.shape) == (np.asarray(host).dtype, np.shape(host))
    np.testing.assert_allclose(found, host, 1e-6, 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_products_take_matrices_as_they_lie(dtype, turned, gpu):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5)).astype(dtype), rng.normal(size=(5, 4)).astype(dtype)

    def step(x, y):
        x, y = (z.T if turn else z for z, turn in zip((x, y), turned, strict=True))
        strided = (x + 0)[:, ::2] @ (y + 0)[::2]
        return x @ y, strided, tg.stack([x, x]) @ y

    given = tg.to_device([np.ascontiguousarray(z.T) if turn else z for z, turn in zip((x, y), turned, strict=True)])
    run = tg.plan(step)
    for _ in range(3):
        found = run(*given)
    for result, expected in zip(found, (x @ y, x[:, ::2] @ y[::2], np.stack([x, x]) @ y), strict=True):
        np.testing.assert_allclose(tg.to_host(result), expected, 1e-5)
    assert len(program_of(run).calls) == (1 if gpu.has_cublas else 6 + (turned != (False, False)))


def _run(step, *args, times=4, **options):
    run = tg.plan(step, **options)
    for _ in range(times):
        found = run(*args)
    return found


def test_what_waits_for_the_device_runs_between_two_graphs(gpu):
    def step(x):
        lower = tg.linalg.cholesky(tg.exp(x) * np.float64(2))
        return tg.sum(tg.sort(lower * 3)[..., -1]) + 1, lower

    x = np.log(np.array([[2.0, 0.5], [0.5, 1.0]]))
    run = tg.plan(step)
    for scale in (1.0, 1.0, 0.9):
        found = run(tg.to_device(scale * x))
    for result, expected in zip(found, step(scale * x), strict=True):
        _equal_to_rounding(result, expected)
    assert "3 CUDA graphs and 2 calls" in repr(run)


def test_a_result_of_another_shape_is_an_error(gpu):
    run = tg.plan(lambda x: x[x > 0] * 2)
    for _ in range(3):
        found = run(tg.to_device(np.array([1.0, -1.0, 3.0])))
    np.testing.assert_array_equal(tg.to_host(found), [2.0, 6.0])
    with pytest.raises((ValueError, PlanError), match="shape"):
        run(tg.to_device(np.array([1.0, 1.0, 3.0])))


def test_a_branch_that_hangs_on_a_value_is_refused(gpu):
    run = tg.plan(lambda x: x * 2 if float(tg.value_of(x).sum()) > 0 else x)
    with pytest.raises((PlanError, AttributeError)):
        for value in (1.0, -1.0):
            run(tg.to_device(np.array([value])))


# ------------------------------------------------------------------------------ places and carrying


def test_images_of_the_host_are_copied_to_the_place_of_the_batch(gpu):
    run, model = tg.plan(STEP, carry=2), tg.to_device(small_model())
    state = tg.optim.Adam(0.01).init(model)
    for i in range(4):
        model, state, loss = run(model, state, IMAGES, tg.noise(1).at("step", i))
    eager_model, eager_state = small_model(), tg.optim.Adam(0.01).init(small_model())
    for i in range(4):
        eager_model, eager_state, expected = STEP(eager_model, eager_state, IMAGES, tg.noise(1).at("step", i))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_arguments_that_change_places_are_read_before_they_are_overwritten(gpu):
    def step(a, b, x):
        return b + x, a * 2, a - b

    run, eager = tg.plan(step, carry=2), [np.array(1.0), np.array(10.0)]
    a, b = tg.to_device(eager)
    for i in range(6):
        a, b, difference = run(a, b, tg.to_device(np.array(float(i))))
        *eager, expected = step(*eager, np.array(float(i)))
        assert float(difference) == float(expected)
    a, b, _ = run(b, a, tg.to_device(np.array(0.0)))  # what lies in the place of one argument is given for the other
    assert (float(a), float(b)) == (float(eager[0]), 2 * float(eager[1]))


def test_results_that_are_inputs_views_or_constants(gpu):
    constant = tg.to_device(np.array([7.0]))

    def step(w, x):
        return w + x, w, w[:1], x, tg.reshape(x, (2, 1)), constant, 3.0, None

    run, w = tg.plan(step, carry=1), tg.to_device(np.array([1.0, 2.0]))
    for i in range(4):
        before = tg.to_host(w).copy()
        x = np.array([float(i), 1.0])
        w, *others = run(w, tg.to_device(x))
        *arrays, number, nothing = others
        for found, expected in zip(arrays, [before, before[:1], x, x[:, None], [7.0]], strict=True):
            np.testing.assert_array_equal(tg.to_host(found), expected)
        assert (number, nothing) == (3.0, None)
        np.testing.assert_array_equal(tg.to_host(w), before + x)


def test_an_op_may_hand_on_a_constant(gpu):
    constant = tg.to_device(np.arange(3.0))

    def step(x):
        return tg.surrogate(constant, x) * 2 + tg.sum(tg.surrogate(constant, x))

    run = tg.plan(step)
    for i in range(4):
        np.testing.assert_array_equal(tg.to_host(run(tg.to_device(np.full(3, 1.0 * i)))), 2 * np.arange(3.0) + 3)


def test_what_a_carried_argument_was_may_be_a_result(gpu):
    def step(a, b):
        return a * 2, b + a, a, tg.reshape(b, (3, 1)), a[1:]

    run = tg.plan(step, carry=2)
    theirs = np.arange(3.0), np.ones(3)
    mine = tg.to_device(theirs)
    for _ in range(5):
        *mine, a, b, c = run(*mine)
        *theirs, x, y, z = step(*theirs)
        for found, expected in zip([*mine, a, b, c], [*theirs, x, y, z], strict=True):
            np.testing.assert_array_equal(tg.to_host(found), expected)


def test_two_states_through_one_captured_step_are_refused_and_not_mixed(gpu):
    run = tg.plan(lambda total, x: (total + x,), carry=1)
    one, ten, a, b = map(tg.to_device, (np.array(1.0), np.array(10.0), np.array(0.0), np.array(100.0)))
    with pytest.raises(PlanError, match="overwritten since, by a run on another state"):
        for _ in range(5):
            (a,), (b,) = run(a, one), run(b, ten)
    (c,) = run(tg.to_device(np.array(5.0)), one)  # a new state is fine
    (c,) = run(c, one)
    assert float(c) == 7


def test_what_is_given_out_is_not_overwritten_by_the_next_run(gpu):
    run = tg.plan(lambda x: (x * 2, x + 1))
    kept = [run(tg.to_device(np.array(float(i)))) for i in range(5)]
    assert [(float(a), float(b)) for a, b in kept] == [(2.0 * i, i + 1.0) for i in range(5)]


def test_memory_is_given_back_once_it_was_read_for_the_last_time(gpu):
    x = tg.to_device(np.ones(1000))
    run = tg.plan(lambda x: tg.sum(functools.reduce(lambda y, _: tg.cumulative_sum(y) / 1000, range(50), x)))
    for _ in range(3):
        run(x)
    alive = [a for a in device_array._owners.values() if a.nbytes == x.nbytes]
    assert len(alive) < 6


def _op_that_fails_when_called_for_the_time(number):
    calls = itertools.count(1)

    @tg.op(None)
    def moody(x, /):
        if next(calls) == number:
            raise RuntimeError("in a mood")
        return namespace(x).cumsum(x)

    OPS.pop("moody")
    return moody


def test_a_step_whose_capture_fails_runs_op_by_op_with_one_warning(gpu):
    record, again, warm, tried = 1, 1, 1, 1
    moody = _op_that_fails_when_called_for_the_time(record + again + warm + tried + 1)
    run, x = tg.plan(lambda x: moody(x) * 2), tg.to_device(np.ones(2))
    run(x)
    with pytest.warns(UserWarning, match="capturing a CUDA graph failed, so the step runs op by op .in a mood"):
        run(x)
    assert not any(stream.is_capturing() for stream in device_array._by_pointer.values())
    assert float(tg.sum(tg.exp(x))) > 0
    for _ in range(3):  # any warning would be an error
        np.testing.assert_array_equal(tg.to_host(run(x)), [2.0, 4.0])


def test_the_benchmark_on_a_gpu_agrees_with_numpy_and_says_where_there_is_none(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    bench = importlib.import_module("bench_gpu")
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--batch", "4", "--rounds", "1", "--steps", "1"])
    with pretend():
        monkeypatch.setattr(bench, "CONTENDERS", {k: v for k, v in bench.CONTENDERS.items() if "tinygrad_vae" in k})
        bench.main()
    assert "| tinygrad_vae captured |" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(SystemExit, match="no GPU here"):
        bench.main()


def test_the_table_of_what_cupy_has_is_that_of_cupy_itself():
    """Where CuPy is installed, though there be no GPU."""
    cupy = pytest.importorskip("cupy")
    special = pytest.importorskip("cupyx.scipy.special")
    for table, module in {"cupy": cupy, "linalg": cupy.linalg, "special": special, "ndarray": cupy.ndarray}.items():
        assert [name for name in device_array.INTERFACE[table] if not hasattr(module, name)] == []
    assert not hasattr(special, "ndtri_exp")
    assert all(hasattr(cupy.cuda, name) for name in ("Stream", "MemoryPool", "using_allocator", "get_current_stream"))
    assert all(hasattr(cupy.cuda.Stream, name) for name in ("begin_capture", "end_capture", "synchronize"))
    assert hasattr(cupy.cuda.Graph, "launch")
