"""A run: its settings and images, the state that training changes, and the update that a step applies to it.

A run is a function of its settings and its data: order and noise are keys of one noise stream.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..calculus import value_and_grad
from ..compiled.plan import Plan, plan
from ..core import Array, NoiseStream, Value, noise
from ..ops import mean
from ..optim import AdamW, clip_by_global_norm, cosine, stages, warm_up
from ..parallel import Ranks, parallel
from ..vae import LIKELIHOODS, POSTERIORS, VAE
from .config import RunError, TrainConfig
from .images import Images, binarise

CHECKPOINT = "checkpoint.safetensors"

Update = Callable[..., tuple[VAE, Any, Array]]


@dataclass(frozen=True)
class State:
    """All that the next step depends on, beside the settings and the data.

    Args:
        model, optimizer: the weights, and Adam's state.
        best: the weights after the epoch with the best held-out bound, if the run may stop early.
        step: the number of steps made.
        epoch_total: the sum of the bounds of the images seen in the running epoch.
        baseline: the running mean of the bound, which only the score function uses; ``None`` before the first step.
        history: a row for each finished epoch, see ``run_folder.ROW``.
    """

    model: VAE
    optimizer: Any
    best: VAE | None = None
    step: int = 0
    epoch_total: float = 0.0
    baseline: float | None = None
    history: tuple[dict[str, Any], ...] = ()

    @property
    def chosen(self) -> VAE:
        """The model that the run gives: the best one if it is kept, else the last one."""
        return self.model if self.best is None else self.best

    @property
    def epochs_since_best(self) -> int:
        """How many epochs ago the best held-out bound was."""
        bounds = [row["bound_held_out"] for row in self.history]
        return len(bounds) - 1 - bounds.index(max(bounds)) if bounds else 0


@dataclass(frozen=True)
class Run:
    """What stays the same while a run goes on: its settings, its folder, its images and their fingerprint."""

    config: TrainConfig
    folder: Path
    images: Images
    held_out: Images
    fingerprint: int

    @property
    def rng(self) -> NoiseStream:
        """The stream that all noise of the run comes from."""
        return noise(self.config.seed)

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches that hold each image once."""
        return math.ceil(len(self.images) / self.config.batch)

    @property
    def steps(self) -> int:
        """The number of steps of the whole run, if it does not stop early."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def checkpoint(self) -> Path:
        """The file that holds the state."""
        return self.folder / CHECKPOINT

    @property
    def levels(self) -> int:
        """The number of grey levels that a categorical likelihood distinguishes; 1 for the others."""
        return int(self.images.full_scale) + 1 if self.config.likelihood == "categorical" else 1

    def pixels(self, images: Images) -> Array:
        """Return images as the model takes them: whole grey levels for a categorical likelihood, else 0 to 1."""
        return images.pixels if self.levels == 1 else np.rint(images.pixels * np.float32(self.levels - 1))

    def first_state(self) -> State:
        """Return the state before the first step."""
        model = blank_model(self.config, self.images.size, self.levels)
        return State(model, AdamW(self.config.learning_rate).init(model))

    def finished(self, state: State) -> bool:
        """Return whether all steps are made, or the held-out bound has not risen for ``patience`` epochs."""
        return state.step >= self.steps or 0 < self.config.patience <= state.epochs_since_best

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, by the schedule of the run."""
        config, an_epoch = self.config, self.steps_per_epoch
        rising = config.warm_up * an_epoch
        rate = config.learning_rate * warm_up(step, rising)
        if config.schedule == "cosine" and step >= rising:
            rate *= cosine(step - rising, max(1, self.steps - rising))
        elif config.schedule == "stages":
            rate *= stages(step // an_epoch)
        return rate

    def batch(self, images: Images, bits: NoiseStream) -> Array:
        """Return images as the model takes them; ``bits`` is the noise to draw their bits with, if they are."""
        pixels = self.pixels(images)
        return binarise(pixels, bits) if self.config.binarise == "fresh" else pixels

    def loss_and_gradient(self, model: VAE, batch: Array, rng: NoiseStream, step: Array, baseline: Array | None) -> Any:
        """Return minus the mean bound of a batch at a step, and its gradient in the weights."""
        bound = self.config.objective_for(self.steps_per_epoch)

        def loss(model: VAE) -> Value:
            return -mean(bound(model, batch, rng=rng, step=step, baseline=baseline))

        return value_and_grad(loss)(model)

    def descend(self, model: VAE, optimizer: Any, gradient: Any, rate: Array) -> Any:
        """Return the weights and Adam's state after one step down a gradient."""
        if self.config.clip:
            gradient, _ = clip_by_global_norm(gradient, self.config.clip)
        return AdamW(rate, weight_decay=self.config.weight_decay).update(model, gradient, optimizer)

    @property
    def update(self) -> Update:
        """The function that takes weights and Adam's state one step down the loss, and returns the loss with them.

        The learning rate, the step and the baseline are arrays, so that a compiled step sees them change.
        """
        return _in_one(self.loss_and_gradient, self.descend)

    @functools.cached_property
    def compiled_update(self) -> Plan:
        """``update``, compiled: the same numbers, faster. It overwrites the state that it returned last."""
        return plan(self.update, carry=2)

    @functools.cached_property
    def compiled_descend(self) -> Plan:
        """``descend``, compiled, for a batch that is cut into blocks."""
        return plan(self.descend, carry=2)

    def update_on(self, ranks: Ranks, *, compiled: bool = False) -> Update:
        """Return the ``update`` that these processes make together."""
        if self.config.blocks == 1:
            return self.compiled_update if compiled else self.update
        loss_and_gradient = parallel(self.loss_and_gradient, blocks=self.config.blocks, compiled=compiled, comm=ranks)
        return _in_one(loss_and_gradient, self.compiled_descend if compiled else self.descend)


def _in_one(loss_and_gradient: Callable[..., Any], descend: Callable[..., Any]) -> Update:
    def update(
        model: VAE, optimizer: Any, batch: Any, rng: NoiseStream, rate: Array, step: Array, baseline: Array | None
    ) -> Any:
        loss, gradient = loss_and_gradient(model, batch, rng, step, baseline)
        return *descend(model, optimizer, gradient, rate), loss

    return update


class Pixels:
    """Images of a run as the model takes them, computed slice by slice; ``bits`` is the noise of a batch."""

    def __init__(self, run: Run, images: Images, bits: NoiseStream | None = None) -> None:
        self.run, self.images, self.bits = run, images, bits

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> Array:
        images = self.images[part]
        if self.bits is None:
            return self.run.pixels(images)
        return self.run.batch(images, self.bits.at("block", part.start))


def blank_model(config: TrainConfig, pixels: int, levels: int) -> VAE:
    """Return a model with its first weights, or raise a ``RunError`` if there is no memory for it."""
    settings: dict[str, dict[str, Any]] = {
        "categorical": {"levels": levels},
        "gaussian-fixed": {"scale": config.pixel_scale},
        "one-hot": {"classes": config.classes},
    }
    posterior, likelihood = config.posterior, config.likelihood
    try:
        return VAE.init(
            pixels,
            hidden=config.hidden,
            latent=config.latent,
            activation=config.activation,
            posterior=functools.partial(POSTERIORS[posterior], **settings.get(posterior, {})),
            likelihood=functools.partial(LIKELIHOODS[likelihood], **settings.get(likelihood, {})),
            components=config.components,
            rng=noise(config.seed).at("weights"),
        )
    except (MemoryError, OverflowError, TypeError, ValueError) as error:
        raise RunError(f"hidden, latent: a model of this size cannot be made: {error}") from error
