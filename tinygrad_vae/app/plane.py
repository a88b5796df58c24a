"""A second, small model with two latents, so that each run can show its images on a map."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..core import trees
from ..vae import VAE
from .config import TrainConfig
from .run import Run, State
from .step import DivergedError, stepper

MOST_STEPS = 1200
"""The most training steps of the second model; they take about five seconds."""


def is_plane(config: TrainConfig) -> bool:
    """Return whether the latent space of a run is itself a map: two Gaussian latents under the prior N(0, I)."""
    return config.latent == 2 and "gaussian" in config.posterior and not config.components


def plane_model(run: Run, state: State, *, progress: Callable[[int, int], None] | None = None) -> VAE:
    """Return a model with two latents for the images of a run: its own, or a second one that is trained here.

    The second model has the hidden layers of the run and sees the same images, at most ``MOST_STEPS`` batches of them.
    It is computed on the CPU and not saved. If its training diverges, this returns the last good weights.
    """
    if is_plane(run.config):
        return state.chosen
    model = ("hidden", "activation", "likelihood", "pixel_scale")
    others = ("data", "binarise", "epochs", "batch", "learning_rate", "clip", "seed")
    config = TrainConfig(**{name: getattr(run.config, name) for name in (*model, *others)}, latent=2)
    second = Run(config, Path(), run.images, run.held_out, run.fingerprint)
    make_step, state, steps = stepper(second), second.first_state(), min(second.steps, MOST_STEPS)
    good = state.model
    with contextlib.suppress(DivergedError):
        while state.step < steps:
            state = make_step(state)
            if progress is not None:
                progress(state.step, steps)
            if state.step % 100 == 0 or state.step == steps:
                good = trees.map_leaves(np.copy, state.model)  # a compiled step overwrites the state before it
    return good
