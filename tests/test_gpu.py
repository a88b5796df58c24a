"""The registries on a real GPU against NumPy, and captured steps against eager ones.

Run them alone, ``pytest tests/test_gpu.py``: other tests put a pretended CuPy in the place of the real one for a while.
"""

import numpy as np
import pytest
from on_devices import BETWEEN, ESTIMATED, IMAGES, OPTIMIZERS, PROGRAMS, declared, estimated, small_model, training_step
from standard_errors import DISTRIBUTIONS, neighbours

import tinygrad_vae as tg
from tinygrad_vae.core import BLOCKED, namespace, pull_back, trees
from tinygrad_vae.distributions.divergences import CLOSED_FORMS
from tinygrad_vae.ops.cases import cases_of, draw_inputs
from tinygrad_vae.ops.declare import OPS


def _has_gpu():
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except (ImportError, RuntimeError):
        return False


if not _has_gpu():
    pytest.skip("no CuPy, or no GPU", allow_module_level=True)

TOLERANCE = {"d": 1e-9, "f": 1e-4}


def _close(host, device, path=""):
    """Compare to rounding, relative to the largest number: kernels add up in another order."""
    found, host = tg.to_host(device), np.asarray(host)
    assert (found.dtype, found.shape) == (host.dtype, host.shape), path
    if host.dtype.kind != "f":
        np.testing.assert_array_equal(found, host, err_msg=path)
        return
    tolerance = TOLERANCE[host.dtype.char]
    scale = np.abs(host[np.isfinite(host)]).max(initial=0.0)
    np.testing.assert_allclose(found, host, tolerance, tolerance * scale, err_msg=path)


def _all_close(host, device):
    for (path, x), y in zip(trees.paths(host), trees.leaves(device), strict=True):
        if hasattr(x, "dtype"):
            _close(x, y, path)


HAND_ON_SIGNS = {"eigenvectors", "orthonormal", "left_singular_vectors", "right_singular_vectors"}
"""Ops whose columns may come out with another sign from another library."""


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("op", [op for op in OPS.values() if op.name not in HAND_ON_SIGNS], ids=lambda op: op.name)
def test_ops_and_their_vjps(op, dtype):
    for trial in cases_of(op):
        drawn = draw_inputs(op, trial, np.random.default_rng(0))
        inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in drawn]
        moved, attrs = tg.to_device(inputs), op.defaults | trial.attrs
        y, z = op(*inputs, **trial.attrs), op(*moved, **trial.attrs)
        assert namespace(z).__name__ == "cupy"
        _close(y, z)
        g = np.random.default_rng(1).uniform(-1, 1, np.shape(y)).astype(np.asarray(y).dtype)
        for i, x in enumerate(inputs):
            if op.vjp_of(i) not in (None, BLOCKED) and x.dtype.kind == "f":
                _close(
                    pull_back(op, i, g, y, inputs, attrs),
                    pull_back(op, i, tg.to_device(g), z, moved, attrs),
                    f"vjp {i}",
                )


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_ops_in_a_captured_step(op):
    for trial in cases_of(op):
        draws = [draw_inputs(op, trial, np.random.default_rng(seed)) for seed in range(2)]
        inputs, others = (tg.to_device([np.asarray(x) for x in drawn]) for drawn in draws)
        run = tg.plan(lambda *inputs: op(*inputs, **trial.attrs))  # noqa: B023
        for given in (inputs, inputs, inputs if op.name in BETWEEN - {"einsum_arrays"} else others):
            found = run(*given)
        _close(tg.to_host(op(*given, **trial.attrs)), found)


@pytest.mark.parametrize("family", DISTRIBUTIONS, ids=lambda family: family.__name__)
def test_distributions(family):
    dist = family.example(np.random.default_rng(5), (2,))
    moved = tg.to_device(dist)
    x, z = (d.sample((4,), rng=tg.noise(1)) for d in (dist, moved))
    _close(x, z)
    _all_close(declared(family, dist, x), declared(family, moved, tg.to_device(x)))


@pytest.mark.parametrize("pair", list(CLOSED_FORMS), ids=lambda pair: f"{pair[0].__name__}-{pair[1].__name__}")
def test_divergences(pair):
    p, q = neighbours(pair, shape=(2,))
    _close(tg.kl_divergence(p, q), tg.kl_divergence(tg.to_device(p), tg.to_device(q)))


@pytest.mark.parametrize(("name", "program"), ESTIMATED)
@pytest.mark.filterwarnings("ignore::tinygrad_vae.BiasedGradientWarning")
def test_estimators(name, program):
    parameters = PROGRAMS[program][0]
    _all_close(estimated(name, program, parameters), estimated(name, program, tg.to_device(parameters)))


def _train(step, optimizer, steps=6):
    model = tg.to_device(small_model())
    state = optimizer.init(model)
    for i in range(steps):
        x = tg.to_device(IMAGES[: 4 + 2 * (i % 2)])
        model, state, loss = step(model, state, x, tg.noise(1).at("step", i))
    return tg.to_host((model, state, loss))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_captured_step_trains_as_the_eager_one(optimizer):
    step = training_step(optimizer)
    host, captured = _train(step, optimizer), _train(tg.plan(step, carry=2), optimizer)
    for x, y in zip(trees.leaves(host), trees.leaves(captured), strict=True):
        np.testing.assert_allclose(y, x, 2e-3, 2e-3)


def test_a_training_step_is_one_launch():
    step = training_step(tg.optim.Adam())
    run, model = tg.plan(step, carry=2), tg.to_device(small_model())
    state = tg.optim.Adam().init(model)
    for i in range(3):
        model, state, _ = run(model, state, tg.to_device(IMAGES), tg.noise(i))
    assert "1 CUDA graphs and 0 calls" in repr(run)


def test_a_model_is_evaluated_on_the_device():
    model = small_model()
    expected, found = (tg.vae.evaluate(m, IMAGES, rng=tg.noise(1), samples=5) for m in (model, tg.to_device(model)))
    for name in ("bound", "log_likelihood", "rate", "distortion"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4)
