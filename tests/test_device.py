"""Everything runs on device arrays: tested with an array type that behaves as CuPy's where it hurts."""

import sys

import numpy as np
import pytest
import scipy.special
from app_runs import small_pictures
from device_array import pretend
from on_devices import ESTIMATED, IMAGES, OPTIMIZERS, PROGRAMS, declared, estimated, small_model, training_step
from standard_errors import DISTRIBUTIONS, neighbours

import tinygrad_vae as tg
from tinygrad_vae import app
from tinygrad_vae.app import checkpoint, run_folder
from tinygrad_vae.app.config import TrainConfig
from tinygrad_vae.core import BLOCKED, namespace, pull_back, trees
from tinygrad_vae.distributions.divergences import CLOSED_FORMS
from tinygrad_vae.ops.cases import cases_of, draw_inputs
from tinygrad_vae.ops.declare import OPS, case
from tinygrad_vae.vae import LIKELIHOODS, POSTERIORS, Objective, evaluate


@pytest.fixture
def gpu():
    with pretend() as counts:
        yield counts


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_ops_and_their_vjps_give_the_same_on_a_device(op, dtype, gpu):
    for trial in cases_of(op):
        drawn = draw_inputs(op, trial, np.random.default_rng(0))
        inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in drawn]
        _compare(op, trial.attrs, inputs, tg.to_device(inputs), gpu)


def _compare(op, attrs, inputs, moved, gpu):
    gpu.clear()
    y, z = op(*inputs, **attrs), op(*moved, **attrs)
    assert namespace(z).__name__ == "cupy"
    g = np.random.default_rng(1).uniform(-1, 1, np.shape(y)).astype(np.asarray(y).dtype)
    attrs = op.defaults | attrs
    pairs = [(y, z)]
    for i, x in enumerate(inputs):
        if op.vjp_of(i) not in (None, BLOCKED) and x.dtype.kind == "f":
            pairs.append((pull_back(op, i, g, y, inputs, attrs), pull_back(op, i, tg.to_device(g), z, moved, attrs)))
    assert bool(gpu.synchronizations) == (op.name in SYNCHRONIZE)
    for host, device in pairs:
        (_close if op.name in OUR_OWN else _same)(host, device)


OUR_OWN = {"ndtri_exp"}
"""Where CuPy has no function, and a formula of this library stands in."""

SYNCHRONIZE = {"nonzero_positions", "unique_part"}


BESIDE_NUMBERS = [op for op in OPS.values() if op.elementwise and len(op.input_names) > 1 and op.name != "where"]
"""To CuPy, a number is no condition for ``where``."""


@pytest.mark.parametrize("op", BESIDE_NUMBERS, ids=lambda op: op.name)
def test_numbers_may_stand_beside_arrays_on_a_device(op, gpu):
    for i in range(len(op.input_names)):
        drawn = draw_inputs(
            op, case(*((2, 3) if k == i else () for k in range(len(op.input_names)))), np.random.default_rng(0)
        )
        numbers = [x if k == i else x.item() for k, x in enumerate(drawn)]
        moved = [tg.to_device(x) if k == i else x for k, x in enumerate(numbers)]
        host, device = op(*numbers), op(*moved)
        (_close if op.name in OUR_OWN else _same)(host, device)


def test_the_inverse_of_log_ndtr_is_that_of_scipy(gpu):
    y = -np.concatenate([np.logspace(-300, 300, 2001), np.linspace(0.01, 10, 501)])
    edges = np.array([0.0, -np.inf, np.nan, 1.0, -5e-324])
    _close(scipy.special.ndtri_exp(y), tg.ndtri_exp(tg.to_device(y)), 1e-12)
    _close(scipy.special.ndtri_exp(edges), tg.ndtri_exp(tg.to_device(edges)), 1e-12)
    narrow = y[abs(y) < 1e30].astype(np.float32)
    _close(scipy.special.ndtri_exp(narrow), tg.ndtri_exp(tg.to_device(narrow)), 1e-6)


def _same(host, device):
    found = tg.to_host(device)
    assert found.dtype == np.asarray(host).dtype
    np.testing.assert_array_equal(found, host)


# ----------------------------------------------------------------------------------- distributions


def _close(host, device, rtol=1e-12):
    found = tg.to_host(device)
    assert found.dtype == np.asarray(host).dtype
    np.testing.assert_allclose(found, host, rtol, rtol)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("family", DISTRIBUTIONS, ids=lambda family: family.__name__)
def test_distributions_draw_and_tell_the_same_on_a_device(family, dtype, gpu):
    dist = trees.map_leaves(lambda x: np.asarray(x, dtype), family.example(np.random.default_rng(5), (2,)))
    moved = tg.to_device(dist)
    x, z = (d.sample((4,), rng=tg.noise(1)) for d in (dist, moved))
    assert namespace(z).__name__ == "cupy"
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    _close(x, z, rtol)
    expected, found = declared(family, dist, x), declared(family, moved, z)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        _close(np.broadcast_to(value, np.shape(value)), found[name], rtol)


@pytest.mark.parametrize("family", DISTRIBUTIONS, ids=lambda family: family.__name__)
def test_gradients_of_draws_and_densities_are_the_same_on_a_device(family, gpu):
    dist = family.example(np.random.default_rng(5), (2,))
    found = []
    for at in (dist, tg.to_device(dist)):
        wrapped = tg.wrap(at)
        cost = tg.sum(wrapped.log_prob(wrapped.sample((3,), rng=tg.noise(1)).value))
        gradients = [tg.gradients(cost, wrapped)]
        if family.path is not None:
            gradients.append(tg.gradients(tg.sum(tg.sin(wrapped.rsample((3,), rng=tg.noise(2)))), wrapped))
        found.append(gradients)
    for host, device in zip(trees.leaves(found[0]), trees.leaves(found[1]), strict=True):
        _close(host, device, 1e-9)


@pytest.mark.parametrize("pair", list(CLOSED_FORMS), ids=lambda pair: f"{pair[0].__name__}-{pair[1].__name__}")
def test_divergences_are_the_same_on_a_device(pair, gpu):
    p, q = neighbours(pair, shape=(2,))
    _close(tg.kl_divergence(p, q), tg.kl_divergence(tg.to_device(p), tg.to_device(q)))


@pytest.mark.parametrize("numbers", [tg.Normal(0.5, 2.0), tg.Bernoulli(probs=0.3), tg.Gamma(2.0, 3.0)], ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_distribution_of_numbers_goes_where_the_values_are(numbers, dtype, gpu):
    x = np.ones(3, dtype)
    _close(numbers.log_prob(x), numbers.log_prob(tg.to_device(x)), 1e-6)


@pytest.mark.parametrize(
    "family",
    [
        lambda x: tg.Multinomial(5, logits=x[0]),
        lambda x: tg.Wishart(df=4.0, scale_tril=x),
        lambda x: tg.LKJCholesky(3, x[2]),
        lambda x: tg.FisherSnedecor(2.0, x[2]),
    ],
    ids=["Multinomial", "Wishart", "LKJCholesky", "FisherSnedecor"],
)
def test_a_number_may_stand_beside_arrays_on_a_device(family, gpu):
    array = np.array([[1.0, 0.0, 0.0], [0.3, 2.0, 0.0], [0.1, 0.2, 0.5]])
    host, device = family(array), family(tg.to_device(array))
    x = host.sample((4,), rng=tg.noise(0))
    _close(host.log_prob(x), device.log_prob(tg.to_device(x)))
    _close(host.mean, device.mean)
    _close(host.log_prob(x - 9.0, outside=-np.inf), device.log_prob(tg.to_device(x - 9.0), outside=-np.inf))


# -------------------------------------------------------------------------------------- estimators


@pytest.mark.parametrize(("name", "program"), ESTIMATED)
@pytest.mark.filterwarnings("ignore::tinygrad_vae.BiasedGradientWarning")
def test_estimators_give_the_same_on_a_device(name, program, gpu):
    found = [estimated(name, program, at) for at in (PROGRAMS[program][0], tg.to_device(PROGRAMS[program][0]))]
    for host, device in zip(trees.leaves(found[0]), trees.leaves(found[1]), strict=True):
        _close(host, device, 1e-9)


@pytest.mark.parametrize("name", ["straight", "bent", "mixed"])
def test_boundaries_are_the_same_on_a_device(name, gpu):
    def gradient(mu):
        mu = tg.Tensor(mu, "mu")
        x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
        cost = {
            "straight": lambda: tg.where(x > 0.2, x * x, -x),
            "bent": lambda: tg.where(tg.exp(x) > 1.2, x * x, -x),
            "mixed": lambda: tg.tanh(tg.sum(tg.where(tg.cumulative_sum(x, axis=1) > 0.2, x, -1.0), axis=1)),
        }[name]()
        return tg.gradients(tg.sum(tg.path_and_boundary(cost)), mu)

    mu = np.linspace(-0.5, 0.5, 12).reshape(4, 3)
    np.testing.assert_allclose(tg.to_host(gradient(tg.to_device(mu))), gradient(mu), rtol=1e-10)


# --------------------------------------------------------------------------------------------- vae


def _on_both(function, *trees_):
    return function(*trees_), function(*tg.to_device(trees_))


def _all_close(found, rtol=1e-5):
    host, device = found
    for (path, x), y in zip(trees.paths(host), trees.leaves(device), strict=True):
        if hasattr(x, "dtype"):
            assert namespace(y).__name__ == "cupy", path
            assert y.dtype == x.dtype, path
            np.testing.assert_allclose(tg.to_host(y), x, rtol, rtol, err_msg=path)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_every_vae_runs_on_a_device(posterior, likelihood, gpu):
    def run(model, x):
        wrapped = tg.wrap(model)
        bound = Objective(estimator="pathwise" if "gaussian" in posterior else "score-function")(
            wrapped, x, rng=tg.noise(1)
        )
        gradients = tg.gradients(-tg.mean(bound), wrapped)
        made = model.generate(3, rng=tg.noise(2)), model.reconstruct(x)
        return bound.value, trees.leaves(gradients), made

    _all_close(_on_both(run, small_model(posterior=posterior, likelihood=likelihood), IMAGES))


@pytest.mark.parametrize(
    "objective",
    [
        Objective("elbo", samples=3, free_bits=0.1),
        Objective("elbo", samples=3, estimator="leave-one-out"),
        Objective("sticking-the-landing"),
        Objective("iwae", samples=3),
        Objective("iwae", samples=3, estimator="vimco"),
        Objective("dreg", samples=3),
    ],
    ids=repr,
)
def test_every_bound_runs_on_a_device(objective, gpu):
    def run(model, x):
        loss = lambda model: -tg.mean(objective(model, x, rng=tg.noise(1)))  # noqa: E731
        value, gradient = tg.value_and_grad(loss)(model)
        return value, trees.leaves(gradient)

    _all_close(_on_both(run, small_model(components=3 * (objective == Objective("iwae", samples=3))), IMAGES))


def test_a_model_is_evaluated_where_it_is_and_images_follow_it(gpu):
    model = small_model()
    expected = evaluate(model, IMAGES, rng=tg.noise(1), samples=5)
    found = evaluate(tg.to_device(model), IMAGES, rng=tg.noise(1), samples=5)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value, rel=1e-5) if value else value), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_training_runs_on_a_device(optimizer, gpu):
    def run(model, x):
        state, step = optimizer.init(model), training_step(optimizer)
        for i in range(3):
            model, state, loss = step(model, state, x, tg.noise(1).at("step", i))
        return trees.leaves(model), state, loss

    _all_close(_on_both(run, small_model(), IMAGES), rtol=2e-4)


def test_derivatives_of_functions_run_on_a_device(gpu):
    def run(x, v):
        f = lambda x: tg.sum(x**3) * tg.sum(tg.sin(x))  # noqa: E731
        each = lambda x: x * tg.sum(x)  # noqa: E731
        pulled = tg.vjp(each, x)
        return (
            tg.grad(f)(x),
            tg.jvp(f, (x,), (v,)),
            tg.hvp(f, x, v),
            tg.hessian(f)(x),
            tg.jacobian(each)(x),
            pulled[1](v),
            tg.optim.clip_by_global_norm({"x": x}, 0.5)[0],
        )

    rng = np.random.default_rng(0)
    _all_close(_on_both(run, rng.normal(size=3), rng.normal(size=3)), 1e-12)


def test_an_eager_step_waits_once_for_pixels_distributions_and_update(gpu):
    model, x, adam = tg.to_device(small_model()), tg.to_device(IMAGES), tg.optim.Adam(0.01)
    state, step = adam.init(model), training_step(adam)
    gpu.clear()
    step(model, state, x, tg.noise(1))
    pixels = posterior = prior = likelihood = log_prob = update = 1
    assert gpu.synchronizations == ["__bool__"] * (pixels + posterior + prior + likelihood + log_prob + update)
    assert gpu.copies == ["asarray"]  # the noise


# ------------------------------------------------------------------------------------------ moving


def test_a_tree_is_moved_there_and_back(gpu):
    tree = {"model": small_model(), "name": "x", "rate": 0.1, "none": None, "list": [np.arange(3), np.float32(2)]}
    moved = tg.to_device(tree)
    assert all(namespace(x).__name__ == "cupy" for x in trees.leaves(moved) if hasattr(x, "dtype"))
    assert (moved["name"], moved["rate"], moved["none"]) == ("x", 0.1, None)
    assert trees.leaves(tg.to_device(moved))[0] is trees.leaves(moved)[0]
    for x, y in zip(trees.leaves(tree), trees.leaves(tg.to_host(moved)), strict=True):
        np.testing.assert_array_equal(x, y)
    assert tg.to_host(tree)["list"][0] is tree["list"][0]


@pytest.mark.parametrize("move", [tg.to_device, tg.to_host])
def test_tensors_are_not_moved(move, gpu):
    with pytest.raises(TypeError, match=r"found a float64 Tensor of shape \(\) at a\.1; .* tg\.values"):
        move({"a": (np.ones(2), tg.Tensor(1.0))})


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"tinygrad-vae\[cuda12\]"):
        tg.to_device(np.ones(2))


def test_tensors_on_a_device_can_be_read(gpu):
    x = tg.Tensor(tg.to_device(np.array([1.0, 2.0])), "x")
    assert repr(x) == "Tensor([1. 2.], name='x')"
    assert f"{tg.sum(x):.1f}" == "3.0"
    z = tg.Normal(x, 1.0).sample(rng=tg.noise(0))
    assert repr(z).startswith("Sample([")
    assert "Normal" in tg.explain(tg.sum(z), x).__repr__() + str(tg.explain(tg.sum(z), x))
    with pytest.raises(ValueError, match=r"Normal: scale must be positive, found -1\.0 at index"):
        tg.Normal(x, tg.to_device(np.array([1.0, -1.0])))
    with pytest.raises(ValueError, match="not finite"):
        tg.optim.Adam().update({"x": x.value}, {"x": x.value / 0}, tg.optim.Adam().init({"x": x.value}))


def test_arrays_of_the_host_and_of_a_device_do_not_mix(gpu):
    with pytest.raises(TypeError, match="Unsupported type"):
        tg.add(tg.to_device(np.ones(2)), np.ones(2))


def test_graphs_of_a_device_are_drawn_saved_and_compared(gpu, tmp_path):
    theta = {"mu": np.array([0.5, 1.0]), "sigma": np.array(0.7)}

    def cost(theta):
        z = tg.Normal(theta["mu"], theta["sigma"]).sample(rng=tg.noise(0), name="z")
        return tg.sum(tg.tanh(z))

    drawn = []
    for at in (theta, tg.to_device(theta)):
        named = {name: tg.Tensor(x, name) for name, x in at.items()}
        tg.draw(cost(named), tmp_path / "graph.svg")
        tg.draw(cost(named), tmp_path / "graph.html")
        drawn.append((tmp_path / "graph.svg").read_text())
    assert drawn[0] == drawn[1]

    checkpoint.save(tmp_path / "a.safetensors", tg.to_device(theta), {})
    filled = checkpoint.fill(tg.to_device(theta), checkpoint.load(tmp_path / "a.safetensors")[0], "a.safetensors")
    np.testing.assert_array_equal(filled["mu"], theta["mu"])

    def objective(theta, rng):
        return tg.tanh(tg.Normal(theta["mu"], theta["sigma"]).sample((4,), rng=rng, name="z"))

    host, device = (
        tg.compare_estimators(objective, at, rng=tg.noise(0), runs=20, estimators=["pathwise", "score-function"])
        for at in (theta, tg.to_device(theta))
    )
    expected, found = ({row.name: row for row in comparison.rows} for comparison in (host, device))
    assert expected.keys() == found.keys()
    for name, row in expected.items():
        np.testing.assert_allclose(found[name].mean, row.mean, 1e-9, 1e-9)


# -------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"estimator": "score-function", "patience": 2, "schedule": "cosine", "clip": 1.0},
        {"objective": "iwae", "samples": 3, "components": 2, "latent": 2},
        {"posterior": "bernoulli", "estimator": "disarm", "beta_warm_up": 1},
    ],
    ids=str,
)
def test_a_run_on_a_device_learns_what_one_on_the_host_learns(settings, gpu, tmp_path):
    results = []
    for device in ("cpu", "gpu"):
        config = TrainConfig(hidden=(16,), epochs=2, batch=500, device=device, **settings)
        run, state = app.begin(config, tmp_path / device)
        state = app.train(run, state)
        assert namespace(*trees.leaves(state.model)).__name__ == ("numpy" if device == "cpu" else "cupy")
        results.append(state.history)
    for (path, a), b in zip(trees.paths(results[0]), trees.leaves(results[1]), strict=True):
        assert a == (pytest.approx(b, rel=2e-2, abs=1e-3) if isinstance(a, float) else b), path


def test_a_run_goes_on_where_it_is_asked_to(gpu, tmp_path, monkeypatch):
    small_pictures(monkeypatch)
    run, state = app.begin(TrainConfig(hidden=(16,), latent=2, epochs=1, batch=500, device="gpu"), tmp_path)
    app.train(run, state)
    assert app.conclude(run, state, draws=2)["steps"] == 0
    assert all((tmp_path / name).exists() for name in run_folder.PICTURES)
    for device in ("cpu", "gpu", "cpu"):
        run, state = app.resume(tmp_path, epochs=run.config.epochs + 1, device=device)
        assert namespace(*trees.leaves(state.model)).__name__ == ("numpy" if device == "cpu" else "cupy")
        app.train(run, state)
    assert namespace(*trees.leaves(app.load_model(tmp_path)[0])) is np


def test_a_run_without_a_gpu_says_so_before_anything_is_written(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(app.RunError, match=r"device: a GPU cannot be used here: .*cuda12.*--device cpu"):
        app.begin(TrainConfig(hidden=(8,), device="gpu"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
