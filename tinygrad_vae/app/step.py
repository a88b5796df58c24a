"""One training step: its batch, its noise, the update of the weights, and a row of the history after an epoch."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..compiled.plan import PlanError
from ..core import Array, GradientRefusedError, noise, trees
from ..devices import beside
from ..parallel import Ranks
from ..vae import evaluate
from .run import Pixels, Run, State, Update

BASELINE_MEMORY = 0.9
"""The part of the baseline that a step keeps: it is a mean over about the last ten batches."""


class NotCompiledWarning(UserWarning):
    """The steps run op by op, because they cannot be compiled."""


class DivergedError(ArithmeticError):
    """The loss or a weight is no longer a finite number; the last good state is in the run folder."""


ALONE = Ranks()


def stepper(run: Run, ranks: Ranks = ALONE) -> Callable[[State], State]:
    """Return ``step`` as a function of the state: compiled, and op by op, with a warning, if it cannot be compiled."""
    update = run.update_on(ranks, compiled=True)

    def make_step(state: State) -> State:
        nonlocal update
        try:
            return step(run, state, update, ranks)
        except PlanError as error:  # no step has been made
            warnings.warn(f"the steps run op by op, not compiled: {error}", NotCompiledWarning, stacklevel=3)
            update = run.update_on(ranks)
            return step(run, state, update, ranks)

    return make_step


def step(run: Run, state: State, update: Update | None = None, ranks: Ranks = ALONE) -> State:
    """Return the state after one step of Adam up the bound of one batch, averaged over its images.

    Args:
        run, state: from ``begin`` or ``resume``.
        update: from ``run.update_on``; a compiled one overwrites the state that it returned before.
        ranks: the processes that share the work; by default this one alone.

    Raises:
        DivergedError: the loss, or what it is computed from, is not finite.
        GradientRefusedError: the estimator is not valid for the model.
        PlanError: the step cannot be compiled; no step has been made.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return _step(run, state, update or run.update_on(ranks), ranks)
    except (GradientRefusedError, PlanError):
        raise
    except ValueError as error:  # distributions refuse parameters that are not finite, and Adam refuses gradients
        raise DivergedError(f"training diverged in step {state.step + 1}: {error}") from error


def _step(run: Run, state: State, update: Update, ranks: Ranks) -> State:
    config, rng = run.config, run.rng
    epoch, position = divmod(state.step, run.steps_per_epoch)
    order = _order(config.seed, epoch, len(run.images))
    images = run.images[order[position * config.batch : (position + 1) * config.batch]]
    bits, weight = rng.at("bits", "fresh", state.step), trees.leaves(state.model)[0]  # any weight tells the device
    batch = beside(run.batch(images, bits), weight) if config.blocks == 1 else Pixels(run, images, bits)
    rate, steps_made = (beside(np.asarray(float(x)), weight) for x in (run.learning_rate(state.step), state.step))
    baseline: Any = None
    if config.estimator == "score-function" and state.baseline is not None:
        baseline = beside(np.asarray(state.baseline, weight.dtype), weight)
    noise_of_step = rng.at("noise", state.step)
    model, optimizer, loss = update(state.model, state.optimizer, batch, noise_of_step, rate, steps_made, baseline)
    bound = -float(loss)
    if not math.isfinite(bound):
        raise ValueError(f"the loss is {-bound}")

    old = bound if state.baseline is None else state.baseline
    after = dataclasses.replace(
        state,
        model=model,
        optimizer=optimizer,
        step=state.step + 1,
        epoch_total=state.epoch_total + bound * len(images),
        baseline=old + (1 - BASELINE_MEMORY) * (bound - old),
    )
    return _close_epoch(run, after, epoch + 1, ranks) if after.step % run.steps_per_epoch == 0 else after


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> Array:
    """Return the order in which the images of an epoch are seen."""
    return noise(seed).at("order", epoch).permutation(count)


def _close_epoch(run: Run, state: State, epoch: int, ranks: Ranks) -> State:
    """Add a row to the history. The held-out images meet the same noise every time: only the model changes."""
    pixels: Any = Pixels(run, run.held_out)
    rng = run.rng.at("held-out")
    found = ranks.on_first(lambda: evaluate(state.model, pixels, rng=rng, samples=1, batch=1000))
    if not math.isfinite(found["bound"]):
        raise ValueError(f"the bound of the held-out images is {found['bound']}")
    row = {
        "epoch": epoch,
        "step": state.step,
        "bound_train": state.epoch_total / len(run.images),
        "bound_held_out": found["bound"],
        "rate_held_out": found["rate"],
        "active_units": found["active_units"],
    }
    after = dataclasses.replace(state, epoch_total=0.0, history=(*state.history, row))
    if run.config.patience and not after.epochs_since_best:
        return dataclasses.replace(after, best=trees.map_leaves(np.copy, after.model))
    return after
