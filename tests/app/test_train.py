"""A run is a function of its configuration and its data, however often it is stopped on the way."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from app_runs import GREY, finished, in_the_sixth_step

import tinygrad_vae as tg
from tinygrad_vae import app
from tinygrad_vae.app import checkpoint, images, pictures, run_folder, step
from tinygrad_vae.app.checkpoint import CheckpointError
from tinygrad_vae.app.config import RunError, TrainConfig, settings_in
from tinygrad_vae.app.step import DivergedError
from tinygrad_vae.core import trees

# ---------------------------------------------------------------------------- the same run, bit for bit


def test_a_seed_gives_the_same_run_and_another_seed_another(config, tmp_path):
    first = finished(config, tmp_path / "a")
    assert finished(config, tmp_path / "b") == first
    assert finished(dataclasses.replace(config, seed=1), tmp_path / "c") != first


@pytest.mark.parametrize("estimator", ["pathwise", "score-function"])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(config, estimator, tmp_path):
    config = dataclasses.replace(config, estimator=estimator)
    undisturbed = finished(config, tmp_path / "undisturbed")

    def interrupted_after(steps):
        def report(state):
            if state.step == steps:
                raise KeyboardInterrupt

        return report

    for steps in (1, 4, 6):  # the first step, the end of an epoch, the middle of another
        folder = tmp_path / str(steps)
        with pytest.raises(KeyboardInterrupt):
            app.train(*app.begin(config, folder), report=interrupted_after(steps))
        run, state = app.resume(folder)
        assert state.step == steps
        app.train(run, state)
        assert run.checkpoint.read_bytes() == undisturbed


def test_a_step_that_is_broken_off_is_not_saved(config, undisturbed, tmp_path, monkeypatch):
    run, state = app.begin(config, tmp_path / "b")

    def broken_off(step, args):
        step(*args)  # has changed the memory of the plan
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        in_the_sixth_step(patch, broken_off)  # in the second epoch of four steps
        with pytest.raises(KeyboardInterrupt):
            app.train(run, state)
    run, state = app.resume(tmp_path / "b")
    assert state.step == 4
    app.train(run, state)
    assert (tmp_path / "b" / run_folder.CHECKPOINT).read_bytes() == undisturbed


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"estimator": "score-function"},
        {"estimator": "leave-one-out", "samples": 3},
        {"posterior": "bernoulli", "estimator": "rebar"},
        {"posterior": "bernoulli", "estimator": "disarm"},
        {"objective": "dreg", "samples": 3},
        {"objective": "iwae", "samples": 3},
        {"beta_warm_up": 2, "schedule": "cosine", "warm_up": 1, "weight_decay": 0.1, "clip": 0.5},
        {"free_bits": 0.2, "schedule": "stages", "binarise": "fresh", "patience": 1, "batch": 9},
    ],
    ids=lambda options: " ".join(map(str, options.values())) or "defaults",
)
def test_a_planned_run_is_the_same_bit_for_bit(config, options, tmp_path, request):
    config = dataclasses.replace(config, **options)
    run, state = app.begin(config, tmp_path / "a")
    app.train(run, state)
    assert run.compiled_update.is_compiled
    request.getfixturevalue("op_by_op")
    assert (tmp_path / "a" / run_folder.CHECKPOINT).read_bytes() == finished(config, tmp_path / "b")


@pytest.mark.filterwarnings("ignore::tinygrad_vae.guard.verdict.BiasedGradientWarning")
@pytest.mark.parametrize("estimator", sorted(tg.ESTIMATORS))
@pytest.mark.parametrize("posterior", ["gaussian", "bernoulli"])
def test_every_estimator_that_trains_trains_by_a_plan(config, posterior, estimator, tmp_path):
    samples = 2 if estimator in ("leave-one-out", "vimco") else 1
    objective = "iwae" if estimator == "vimco" else "elbo"
    options = {"posterior": posterior, "estimator": estimator, "samples": samples, "objective": objective}
    try:
        run, state = app.begin(dataclasses.replace(config, epochs=1, **options), tmp_path / "run")
    except RunError:
        return  # not valid for such a posterior
    app.train(run, state)
    assert run.compiled_update.is_compiled


def test_a_longer_run_begins_with_the_shorter_one(config, tmp_path):
    longer = finished(dataclasses.replace(config, epochs=5), tmp_path / "a")
    finished(config, tmp_path / "b")
    app.train(*app.resume(tmp_path / "b", epochs=5))
    assert (tmp_path / "b" / run_folder.CHECKPOINT).read_bytes() == longer


# ------------------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("estimator", ["pathwise", "score-function"])
def test_the_bound_of_the_digits_rises(estimator, tmp_path):
    config = TrainConfig(epochs=4, hidden=(32,), latent=2, estimator=estimator)
    state = app.train(*app.begin(config, tmp_path / "run"))
    first, last = state.history[0], state.history[-1]
    assert last["bound_train"] > first["bound_train"]
    assert last["bound_held_out"] > first["bound_held_out"]


def test_a_step_is_adam_along_the_gradient_of_the_mean_bound(config, tmp_path):
    run, state = app.begin(config, tmp_path / "run")
    batch = run.images.pixels[tg.noise(0).at("order", 0).permutation(len(run.images))[:10]]

    def loss(model):
        return -tg.mean(tg.reparameterize(tg.elbo(model, batch, rng=tg.noise(0).at("noise", 0))))

    value, gradient = tg.value_and_grad(loss)(state.model)
    adam = tg.optim.Adam(config.learning_rate)
    expected, _ = adam.update(state.model, gradient, adam.init(state.model))
    after = step.step(run, state)
    for found, wanted in zip(trees.leaves(after.model), trees.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert after.baseline == -float(value)


@pytest.mark.usefixtures("op_by_op")
def test_the_baseline_is_read_before_it_is_updated(config, tmp_path, monkeypatch):
    run, state = app.begin(dataclasses.replace(config, estimator="score-function"), tmp_path / "run")
    read, climb = [], tg.vae.Objective.__call__

    def watched(self, *args, baseline, **options):
        bound = climb(self, *args, baseline=baseline, **options)
        read.append((baseline, float(bound.value.mean())))
        return bound

    monkeypatch.setattr(tg.vae.Objective, "__call__", watched)
    app.train(run, state)
    expected = None
    for baseline, bound in read:
        assert baseline is expected is None or float(baseline) == pytest.approx(expected, rel=1e-6)
        memory = step.BASELINE_MEMORY
        expected = bound if expected is None else memory * expected + (1 - memory) * bound


@pytest.fixture
def watched(monkeypatch, op_by_op):
    """What the training steps gave to the bound, and what it gave back: images, noise and bound of each step."""
    steps, climb = [], tg.vae.Objective.__call__

    def watched(self, model, x, *, rng, **options):
        bound = climb(self, model, x, rng=rng, **options)
        steps.append((x, rng.path, bound.value))
        return bound

    monkeypatch.setattr(tg.vae.Objective, "__call__", watched)
    return steps


def trained(config, folder, watched):
    """The run and its last state; ``watched`` holds its steps, and not that on trial."""
    run, state = app.begin(config, folder)
    watched.clear()
    return run, app.train(run, state)


def test_every_image_is_seen_once_in_an_epoch_in_another_order_each_time(config, watched, tmp_path):
    run, _ = trained(dataclasses.replace(config, epochs=2, batch=9), tmp_path / "run", watched)
    assert [len(x) for x, _, _ in watched] == 2 * [9, 9, 9, 6]
    key = 2.0 ** np.arange(16)
    first, second = (np.concatenate([x for x, _, _ in watched[k : k + 4]]) @ key for k in (0, 4))
    np.testing.assert_array_equal(np.sort(first), np.sort(run.images.pixels @ key))
    np.testing.assert_array_equal(np.sort(first), np.sort(second))
    assert not np.array_equal(first, second)


def test_no_two_steps_share_their_noise(config, watched, tmp_path):
    trained(config, tmp_path / "run", watched)
    assert [path for _, path, _ in watched] == [tg.noise(0).at("noise", k).path for k in range(len(watched))]


def test_the_history_holds_the_mean_bound_over_images_not_over_batches(config, watched, tmp_path):
    run, state = trained(dataclasses.replace(config, epochs=1, batch=32), tmp_path / "run", watched)
    (row,) = state.history
    bounds = np.concatenate([bound for _, _, bound in watched])
    assert row["bound_train"] == pytest.approx(bounds.mean(), rel=1e-6)
    after = tg.elbo(app.resume(run.folder)[1].model, run.held_out.pixels, rng=run.rng.at("held-out"))
    assert row["bound_held_out"] == pytest.approx(after.mean(), rel=1e-6)


def test_what_a_run_leaves(config, tmp_path):
    run, state = app.begin(config, tmp_path / "run")
    state = app.train(run, state)
    metrics = app.conclude(run, state, draws=5)
    assert {path.name for path in run.folder.iterdir()} == set(run_folder.OUTPUTS)
    assert json.loads((run.folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    rows = np.genfromtxt(run.folder / "history.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(rows["epoch"], [1, 2, 3])
    np.testing.assert_array_equal(rows["bound_held_out"], [row["bound_held_out"] for row in state.history])
    found = tg.vae.evaluate(state.model, run.held_out.pixels, rng=run.rng.at("evaluate"), samples=5)
    assert metrics["held_out"] == found


def test_a_model_can_be_loaded_without_its_data(config, tmp_path):
    config = dataclasses.replace(config, data=str(shutil.copy(config.data, tmp_path / "images.npz")))
    run, state = app.begin(config, tmp_path / "run")
    (tmp_path / "images.npz").unlink()
    model, shape, loaded = app.load_model(run.folder)
    assert (shape, loaded) == ((4, 4), config)
    for found, saved in zip(trees.leaves(model), trees.leaves(state.model), strict=True):
        np.testing.assert_array_equal(found, saved)


# --------------------------------------------------------------------------------- what bad input gets


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("epochs", 0, "epochs: expected a positive integer up to 2147483647, found 0"),
        ("epochs", 2.5, "found 2.5"),
        ("epochs", True, "found True"),
        ("batch", 0, "batch: expected a positive integer"),
        ("latent", 0, "latent: expected a positive integer"),
        ("hidden", (8, 0), r"hidden: expected positive integers .*, found \(8, 0\)"),
        ("seed", -1, "seed: expected a non-negative integer, found"),
        ("learning_rate", -1e-3, "learning_rate: expected a positive number, found -0.001"),
        ("learning_rate", float("nan"), "found nan"),
        ("learning_rate", float("inf"), "found inf"),
        ("activation", "swish", "activation: expected relu or tanh.*found 'swish'"),
        ("estimator", "reinforce", "estimator: expected .*pathwise.*found 'reinforce'"),
        ("hidden", 8, "hidden: expected positive integers"),
        ("data", None, "data: expected .* found None"),
        ("samples", 2**63, "samples: expected a positive integer up to 2147483647, found 9223372036854775808"),
        ("hidden", (3, 2**31), "hidden: expected positive integers up to 2147483647"),
    ],
)
def test_bad_numbers_and_names(field, value, words):
    with pytest.raises(RunError, match=words):
        TrainConfig(**{field: value})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"objective": "dreg", "posterior": "bernoulli"},
            "dreg goes with posterior gaussian or full-gaussian: it takes a draw with a path.*found bernoulli",
        ),
        ({"components": 3, "posterior": "one-hot"}, "components: 3 goes with posterior gaussian or full-gaussian"),
        ({"components": 3, "kl": "closed-form"}, "components: 3 goes with kl auto or monte-carlo, found closed-form"),
        ({"components": 3, "free_bits": 0.1}, "free_bits: 0.1 goes with components 0, found 3"),
        ({"posterior": "full-gaussian", "free_bits": 0.1}, "free_bits: 0.1 goes with posterior gaussian"),
        ({"classes": 4}, "classes: 4 goes with posterior one-hot, found gaussian"),
        ({"pixel_scale": 0.3}, "pixel_scale: 0.3 goes with likelihood gaussian-fixed, found bernoulli"),
        ({"kl": "monte-carlo", "objective": "iwae"}, "kl is for elbo, found iwae"),
        ({"binarise": "none"}, "likelihood: bernoulli goes with binarise threshold or fixed or fresh.*found none"),
        (
            {"likelihood": "gaussian"},
            "likelihood: gaussian goes with binarise none: it takes grey levels, found thresh",
        ),
        ({"warm_up": 81}, "warm_up: 81 epochs are more than the 80 epochs of the run"),
        ({"beta_warm_up": 81}, "beta_warm_up: 81 epochs are more than the 80 epochs of the run"),
        ({"kl": "monte-carlo", "free_bits": 0.1}, "free_bits takes the divergence of each latent in closed form"),
    ],
)
def test_settings_that_do_not_go_together(settings, words):
    with pytest.raises(RunError, match=words):
        TrainConfig(**settings)


def test_an_estimator_that_is_not_valid_is_refused_with_the_names_of_those_that_are(config, tmp_path):
    discrete = dataclasses.replace(config, posterior="bernoulli")
    with pytest.raises(RunError, match=r"pathwise does not work for this model.*These do: .*disarm") as refused:
        app.begin(discrete, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    names = str(refused.value).partition("These do: ")[2].split(", ")
    assert "straight-through" not in names  # it runs, and is biased
    for name in names:
        app.begin(dataclasses.replace(discrete, estimator=name), tmp_path / name)


@pytest.mark.parametrize(
    "settings",
    [
        {"components": 3},
        {"components": 3, "posterior": "full-gaussian", "latent": 3},
        {"posterior": "one-hot", "classes": 4, "estimator": "rebar"},
        {"likelihood": "gaussian-fixed", "binarise": "none", "pixel_scale": 0.3},
        {"likelihood": "categorical", "binarise": "none"},
        {"kl": "monte-carlo", "beta_warm_up": 1},
    ],
    ids=str,
)
def test_every_kind_of_model_trains_is_drawn_and_is_read_again(settings, config, tmp_path):
    run, state = app.begin(dataclasses.replace(config, epochs=1, **settings), tmp_path / "run")
    metrics = app.conclude(run, app.train(run, state), draws=2)
    assert np.isfinite(metrics["held_out"]["log_likelihood"])
    assert {path.name for path in run.folder.iterdir()} == set(run_folder.OUTPUTS)
    model, _, loaded = app.load_model(run.folder)
    assert loaded == run.config
    assert len(trees.leaves(model)) == len(trees.leaves(state.model))


def test_a_state_that_is_not_finite_is_neither_saved_nor_read(config, tmp_path):
    run, state = app.begin(config, tmp_path / "run")
    before = run.checkpoint.read_bytes()
    square = trees.map_leaves(lambda x: np.full_like(x, np.inf), state.optimizer["square"])
    bad = dataclasses.replace(state, optimizer={**state.optimizer, "square": square})
    with pytest.raises(DivergedError, match="or Adam's means, are not finite"):
        run_folder.save(run, bad)
    assert run.checkpoint.read_bytes() == before
    arrays, facts = checkpoint.load(run.checkpoint)
    checkpoint.save(run.checkpoint, arrays | {"model.likelihood.logits.bias": np.full(16, np.nan, np.float32)}, facts)
    for read in (app.resume, app.load_model):
        with pytest.raises(checkpoint.CheckpointError, match=r"model\.likelihood\.logits\.bias holds numbers that are"):
            read(run.folder)


def test_a_model_larger_than_any_memory_is_refused_before_the_folder_is_made(config, tmp_path):
    for hidden in ((2**31 - 1,), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(RunError, match=r"hidden, latent: a model of this size cannot be made: .*rray"):
            app.begin(dataclasses.replace(config, hidden=hidden), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_refused_before_the_folder_is_made(config, tmp_path):
    with pytest.raises(RunError, match="41 is more than the 33 training images"):
        app.begin(dataclasses.replace(config, batch=41), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_is_overwritten(config, tmp_path):
    before = finished(config, tmp_path / "run")
    with pytest.raises(RunError, match=r"run: holds a run already; resume it \(--resume\)"):
        app.begin(config, tmp_path / "run")
    assert (tmp_path / "run" / run_folder.CHECKPOINT).read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "samples.png").write_text("precious")
    with pytest.raises(RunError, match=r"mine: holds samples\.png"):
        app.begin(config, tmp_path / "mine")


def test_a_folder_that_cannot_be_written(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file/run: the output folder cannot be written"):
        app.begin(config, tmp_path / "file" / "run")


def test_a_resumed_run_is_the_same_run(config, tmp_path):
    before = finished(config, tmp_path / "run")
    for changes, words in [
        ({"latent": 3}, "this run has latent 2, 3 was asked for"),
        ({"learning_rate": 0.1}, "this run has learning_rate 0.002, 0.1 was asked for"),
        ({"epochs": 2}, "this run is 3 epochs long already, 2 were asked for"),
        ({"epochs": 0}, "epochs: expected"),
    ]:
        with pytest.raises(RunError, match=words):
            app.resume(tmp_path / "run", **changes)
    app.resume(tmp_path / "run", latent=2)
    np.savez(tmp_path / "images.npz", images=255 - GREY)
    with pytest.raises(RunError, match="the images are not those"):
        app.resume(tmp_path / "run", data=str(tmp_path / "images.npz"))
    assert (tmp_path / "run" / run_folder.CHECKPOINT).read_bytes() == before


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run"):
        app.resume(tmp_path)
    checkpoint.save(tmp_path / run_folder.CHECKPOINT, {"w": np.ones(2)}, {"step": 1})
    with pytest.raises(CheckpointError, match="not one of a training run"):
        app.resume(tmp_path)


@pytest.mark.parametrize("rate", [1e3, 1e8, 1e30])
def test_divergence_stops_and_keeps_the_last_good_state(rate, config, tmp_path):
    run, state = app.begin(dataclasses.replace(config, learning_rate=rate, epochs=50), tmp_path / "run")
    with pytest.raises(DivergedError, match=r"step \d+.*holds the last good state.*a learning rate below") as caught:
        app.train(run, state)
    assert f"{rate:g}" in str(caught.value)
    _, kept = app.resume(run.folder)
    assert all(np.isfinite(leaf).all() for leaf in trees.leaves(kept.model))


def test_a_loss_that_is_not_finite_stops_the_run_even_where_its_gradient_is(config, tmp_path, monkeypatch):
    run, state = app.begin(config, tmp_path / "run")
    climb = tg.vae.Objective.__call__
    monkeypatch.setattr(tg.vae.Objective, "__call__", lambda *args, **options: climb(*args, **options) - np.inf)
    with pytest.raises(DivergedError, match="step 1: the loss is inf"):
        app.train(run, state)


def test_weights_that_are_not_finite_are_never_saved(config, tmp_path):
    run, state = app.begin(config, tmp_path / "run")
    before = run.checkpoint.read_bytes()
    broken = dataclasses.replace(state, model=trees.map_leaves(lambda w: w * np.float32(np.nan), state.model))
    with pytest.raises(DivergedError, match="weights after step 0"):
        run_folder.save(run, broken)
    assert run.checkpoint.read_bytes() == before


def test_a_configuration_as_other_editors_write_it(tmp_path):
    text = TrainConfig(latent=3).to_toml()
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-8"):
        content = text.replace("\n", "\r\n").encode(encoding)
        (tmp_path / "a.toml").write_bytes(b"\xff\xfe" + content if encoding == "utf-16-le" else content)
        assert TrainConfig(**settings_in(tmp_path / "a.toml")) == TrainConfig(latent=3)


def test_no_more_than_some_held_out_images_are_made_floats_at_once(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.tile(GREY[:, :2, :2], (200, 1, 1)))
    most, pixels = [], images.Images.pixels
    monkeypatch.setattr(images.Images, "pixels", property(lambda x: most.append(len(x)) or pixels.fget(x)))
    monkeypatch.setattr(images, "AT_ONCE", 1000)
    monkeypatch.setattr(pictures, "MOST_IMAGES", 1000)
    config = TrainConfig(str(tmp_path / "a.npy"), epochs=1, batch=1000, hidden=(2,), latent=1)
    run, state = app.begin(config, tmp_path / "run")
    app.conclude(run, app.train(run, state), draws=1)
    assert len(run.held_out) > max(most) == 1000


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_images_in_colour_are_trained_on_and_generated(likelihood, tmp_path):
    np.save(tmp_path / "a.npy", (tg.noise(0).uniform((40, 3, 4, 3)) * 255).astype(np.uint8))
    settings = {"likelihood": likelihood, "binarise": "threshold" if likelihood == "bernoulli" else "none"}
    config = TrainConfig(str(tmp_path / "a.npy"), epochs=1, batch=10, hidden=(6,), latent=2, **settings)
    run, state = app.begin(config, tmp_path / "run")
    app.conclude(run, app.train(run, state), draws=2)
    assert {path.name for path in run.folder.iterdir()} == set(run_folder.OUTPUTS)
    model, shape, _ = app.load_model(run.folder)
    assert (model.data_size, shape) == (36, (3, 4, 3))


def test_many_images_are_generated_some_at_a_time(kept):
    model, _, _ = app.load_model(kept)
    parts = list(pictures.generated(model, 2500, tg.noise(1)))
    assert [len(part) for part in parts] == [1000, 1000, 500]
    np.testing.assert_allclose(np.concatenate(parts), model.generate(2500, rng=tg.noise(1)), rtol=1e-5)
