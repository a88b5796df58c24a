"""The second model, of two latents: it is what a run of its own would be, and no trouble to the run beside it."""

import dataclasses

import numpy as np
import pytest

from tinygrad_vae import app, trees
from tinygrad_vae.app import plane
from tinygrad_vae.compiled.plan import PlanError


@pytest.fixture
def begun(config, tmp_path):
    """Begin a run with some settings changed."""
    return lambda **settings: app.begin(dataclasses.replace(config, **settings), tmp_path / "run")


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(trees.leaves(a), trees.leaves(b), strict=True))


@pytest.mark.parametrize(
    "settings",
    [{"latent": 5}, {"components": 3}, {"posterior": "one-hot", "estimator": "rebar"}, {"patience": 1, "latent": 1}],
    ids=str,
)
def test_it_has_the_weights_that_a_run_of_two_latents_would_have(settings, begun, kept):
    steps = []
    model = plane.plane_model(*begun(**settings), progress=lambda done, n: steps.append((done, n)))
    assert same(model, app.load_model(kept)[0])
    assert steps == [(done, 12) for done in range(1, 13)]


@pytest.mark.usefixtures("op_by_op")
def test_it_is_trained_for_a_bounded_number_of_steps(begun, kept, monkeypatch):
    monkeypatch.setattr(plane, "MOST_STEPS", 5)
    run, state = begun(latent=5)
    assert not same(plane.plane_model(run, state), app.load_model(kept)[0])
    steps = []
    plane.plane_model(run, state, progress=lambda done, n: steps.append((done, n)))
    assert steps == [(done, 5) for done in range(1, 6)]


def test_a_step_that_cannot_be_compiled_runs_op_by_op(begun, kept, monkeypatch):
    def refuse(*_):
        raise PlanError("not today")

    monkeypatch.setattr(app.run.Run, "compiled_update", property(lambda run: refuse))
    with pytest.warns(UserWarning, match="the steps run op by op, not compiled: not today"):
        assert same(plane.plane_model(*begun(latent=5)), app.load_model(kept)[0])


def test_a_run_of_two_latents_is_its_own_map(begun):
    run, state = begun(latent=2)
    assert plane.plane_model(run, state) is state.chosen


def test_weights_stay_finite_where_its_training_diverges(begun):
    run, state = begun(latent=5)
    wild = dataclasses.replace(run, config=dataclasses.replace(run.config, learning_rate=1e30))
    assert all(np.isfinite(leaf).all() for leaf in trees.leaves(plane.plane_model(wild, state)))
