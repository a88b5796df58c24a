"""Training a VAE on images: the loop, the run folder it keeps, and how a stopped run goes on as if it had not stopped.

A run is a function of its configuration and its data: order and noise come from places in one noise stream, and a
step takes a whole state to a whole state. It knows models, data and pictures, and nothing of the terminal.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import checkpoint, plots, trees
from .arrays import Array, NoiseStream, noise
from .calculus import wrap
from .checkpoint import CheckpointError, write_atomically
from .data import Images, load
from .graph import Tensor, gradients
from .nn import ACTIVATIONS
from .ops import mean
from .optim import Adam
from .stochastic.estimators import reparameterize, score_function
from .vae import VAE, elbo, evaluate

CHECKPOINT = "checkpoint.safetensors"
PICTURES = ("learning_curve.png", "reconstructions.png", "samples.png", "latent_plane.png")
OUTPUTS = (CHECKPOINT, "history.csv", "metrics.json", *PICTURES)
"""The files of a run folder; no other file in it is ever touched."""

DRAWS = 100
"""How many draws of z for each held-out image estimate its log-likelihood."""

TRAINING_ESTIMATORS = ("pathwise", "score-function")
"""How the gradient may get past the draw of z: with the reparameterization trick, and without."""

BASELINE_MEMORY = 0.9
"""How much of the baseline is kept from step to step: it is a mean over about the last ten batches."""


class RunError(ValueError):
    """A run cannot start or go on as it was asked to; nothing has been changed."""


class DivergedError(ArithmeticError):
    """The loss or a weight is no longer a finite number; the last good state is in the run folder."""


@dataclass(frozen=True)
class TrainConfig:
    """All that a run depends on.

    Args:
        data: what ``data.load`` takes: ``"digits"``, or the path of a file or folder.
        epochs: how often each image is seen.
        batch: the number of images of a step; the last one of an epoch may be smaller.
        learning_rate: Adam's.
        hidden: the sizes of the encoder's hidden layers; the decoder has them in reverse.
        latent: the length of z.
        activation: one of ``"relu"``, ``"tanh"``, ``"softplus"``, ``"sigmoid"``.
        estimator: how the gradient gets past the draw of z, ``"pathwise"`` or ``"score-function"``.
        seed: decides the first weights, which images are held out, their order, and all noise.

    Raises:
        RunError: a number or a name is out of range.

    >>> TrainConfig(epochs=3).latent
    8
    """

    data: str = "digits"
    epochs: int = 80
    batch: int = 100
    learning_rate: float = 2e-3
    hidden: tuple[int, ...] = (200, 100)
    latent: int = 8
    activation: str = "relu"
    estimator: str = "pathwise"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.data, str):
            raise RunError(f'data: expected "digits" or a path as text, found {self.data!r}')
        if not isinstance(self.hidden, tuple):
            raise RunError(f"hidden: expected a tuple of sizes, found {self.hidden!r}")
        for name in ("epochs", "batch", "latent"):
            _check_whole(name, getattr(self, name), 1)
        _check_whole("seed", self.seed, 0)
        for size in self.hidden:
            _check_whole("hidden", size, 1)
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
            raise RunError(f"learning rate: expected a positive number, found {rate!r}")
        for name, known in (("activation", ACTIVATIONS), ("estimator", TRAINING_ESTIMATORS)):
            if getattr(self, name) not in known:
                raise RunError(f"{name}: expected {' or '.join(known)}, found {getattr(self, name)!r}")


def _check_whole(name: str, value: Any, lowest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise RunError(f"{name}: expected a whole number from {lowest} on, found {value!r}")


@dataclass(frozen=True)
class State:
    """Where a run stands: all that the next step depends on, beside the configuration and the data.

    Args:
        model: the weights.
        optimizer: Adam's state.
        step: how many steps have been made.
        epoch_total: the sum of the bounds of the images seen in the running epoch.
        baseline: the running mean of the bound, which only the score function uses; ``None`` before the first step.
        history: for each finished epoch, the mean bound while it was trained and that of the held-out images after it.
    """

    model: VAE
    optimizer: Any
    step: int = 0
    epoch_total: float = 0.0
    baseline: float | None = None
    history: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Run:
    """What stays the same while a run goes on: its configuration, its folder, its images and their fingerprint."""

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
        """How many batches hold each image once."""
        return math.ceil(len(self.images) / self.config.batch)

    @property
    def steps(self) -> int:
        """How many steps the whole run takes."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def checkpoint(self) -> Path:
        """The file that holds the state."""
        return self.folder / CHECKPOINT


# ------------------------------------------------------------------------------------ starting a run


def begin(config: TrainConfig, folder: str | Path) -> tuple[Run, State]:
    """Return a new run and its first state, which stands in the folder already.

    Args:
        config: what to train.
        folder: where to keep it; made where it does not exist.

    Raises:
        RunError: the folder holds a run already or cannot be written, or a batch is larger than the data.
        DataError: the data cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(batch=50), folder)
    >>> run.steps_per_epoch, state.step
    (30, 0)
    """
    folder = Path(folder)
    taken = [name for name in OUTPUTS if (folder / name).exists()]
    if CHECKPOINT in taken:
        raise RunError(f"{folder}: holds a run already; resume it (--resume), or choose another folder (--out)")
    if taken:
        raise RunError(
            f"{folder}: holds {', '.join(taken)}, which a run would overwrite; choose another folder (--out)"
        )
    run = _with_data(config, folder)
    state = _first_state(config, run.images.pixels.shape[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save(run, state)
    except OSError as error:
        raise RunError(f"{folder}: the output folder cannot be written: {error}") from error
    return run, state


def resume(folder: str | Path, **changes: Any) -> tuple[Run, State]:
    """Return a run from its folder, and the state at which it stopped.

    Args:
        folder: where the run was kept.
        changes: fields of its configuration, as ``epochs=200``. Only the number of epochs may differ from what it was.

    Raises:
        RunError: a change would make it another run, or the run is longer than that already.
        CheckpointError: there is no run in the folder, or its checkpoint cannot be used.
        DataError: the data cannot be read any more.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(hidden=(8,)), folder)
    ...     run, state = resume(folder, epochs=200)
    >>> run.config.epochs, run.config.hidden
    (200, (8,))
    """
    config, arrays, facts = _read(folder)
    for name, value in changes.items():
        if name != "epochs" and value != getattr(config, name):
            raise RunError(
                f"{folder}: this run has {name} {getattr(config, name)}, {value} was asked for; "
                "only the number of epochs can be changed on the way. Choose another folder (--out) for another run"
            )
    config = dataclasses.replace(config, **changes)
    run = _with_data(config, Path(folder))
    if facts["fingerprint"] != run.fingerprint:
        raise RunError(f"{config.data}: the images are not those that the run in {folder} began with; restore the file")
    if facts["step"] > run.steps:
        epochs = facts["step"] / run.steps_per_epoch
        raise RunError(f"{folder}: this run is {epochs:.4g} epochs long already, {config.epochs} were asked for")
    blank = _first_state(config, run.images.pixels.shape[1])
    filled = checkpoint.fill({"model": blank.model, "optimizer": blank.optimizer}, arrays, run.checkpoint)
    kept = {name: facts[name] for name in ("step", "epoch_total", "baseline")}
    return run, State(**filled, **kept, history=tuple(facts["history"]))


def load_model(folder: str | Path) -> tuple[VAE, tuple[int, int], TrainConfig]:
    """Return the model of a run, the shape (rows, columns) of its images, and its configuration.

    The data of the run need not be at hand any more.

    Raises:
        CheckpointError: there is no run in the folder, or its checkpoint cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(hidden=(8,)), folder)
    ...     model, shape, config = load_model(folder)
    >>> model.latent, shape
    (8, (8, 8))
    """
    config, arrays, facts = _read(folder)
    rows, columns = facts["shape"]
    blank = {"model": _first_state(config, rows * columns).model}
    weights = {name: array for name, array in arrays.items() if name.startswith("model.")}
    return checkpoint.fill(blank, weights, Path(folder) / CHECKPOINT)["model"], (rows, columns), config


def _read(folder: str | Path) -> tuple[TrainConfig, dict[str, Array], dict[str, Any]]:
    """Return the configuration, the arrays and the facts of the checkpoint in a run folder."""
    path = Path(folder) / CHECKPOINT
    if not path.exists():
        raise CheckpointError(
            f"{folder}: holds no run, {CHECKPOINT} is missing; begin one with: tinygrad-vae train --out {folder}"
        )
    arrays, facts = checkpoint.load(path)
    try:
        config = TrainConfig(**{**facts["config"], "hidden": tuple(facts["config"]["hidden"])})
    except (KeyError, TypeError, RunError) as error:
        raise CheckpointError(f"{path}: a checkpoint, but not one of a training run: {error}") from error
    return config, arrays, facts


def _first_state(config: TrainConfig, pixels: int) -> State:
    model = VAE.init(
        pixels,
        hidden=config.hidden,
        latent=config.latent,
        activation=config.activation,
        rng=noise(config.seed).at("weights"),
    )
    return State(model, Adam(config.learning_rate).init(model))


def _with_data(config: TrainConfig, folder: Path) -> Run:
    images, held_out = load(config.data, seed=config.seed)
    if config.batch > len(images):
        raise RunError(f"batch: {config.batch} is more than the {len(images)} training images; choose a smaller one")
    if len(held_out) < 2:
        raise RunError(f"{config.data}: a standard error takes two held-out images at least, found {len(held_out)}")
    fingerprint = zlib.crc32(held_out.pixels.tobytes(), zlib.crc32(images.pixels.tobytes()))
    return Run(config, folder, images, held_out, fingerprint)


def save(run: Run, state: State) -> None:
    """Write the state to the run's checkpoint.

    Raises:
        DivergedError: a weight is not finite; the checkpoint is left as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(hidden=(8,)), folder)
    ...     save(run, step(run, state))
    ...     saved_step(run)
    1
    """
    if not all(np.isfinite(leaf).all() for leaf in trees.leaves(state.model)):
        raise DivergedError(f"the weights after step {state.step} are not finite numbers")
    facts = {
        "config": dataclasses.asdict(run.config),
        "shape": run.images.shape,
        "fingerprint": run.fingerprint,
        "step": state.step,
        "epoch_total": state.epoch_total,
        "baseline": state.baseline,
        "history": list(state.history),
    }
    checkpoint.save(run.checkpoint, {"model": state.model, "optimizer": state.optimizer}, facts)


def saved_step(run: Run) -> int:
    """Return after which step the state in the run's checkpoint was saved."""
    return int(checkpoint.load(run.checkpoint)[1]["step"])


# ------------------------------------------------------------------------------------------ the loop


def train(run: Run, state: State, *, report: Callable[[State], None] | None = None) -> State:
    """Train to the end, and return the last state.

    The state is saved after every epoch. A ``KeyboardInterrupt`` saves it as well, and is raised again; the step that
    it fell into is made again by ``resume``.

    Args:
        run: from ``begin`` or ``resume``.
        state: from there too.
        report: called with the state after each step.

    Raises:
        DivergedError: the loss is not finite any more; the checkpoint holds the last state that was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(epochs=1, hidden=(8,)), folder)
    ...     train(run, state).history[0]["epoch"]
    1
    """
    try:
        while state.step < run.steps:
            state = step(run, state)
            if state.step % run.steps_per_epoch == 0:
                save(run, state)
            if report is not None:
                report(state)
    except KeyboardInterrupt:
        save(run, state)
        raise
    except DivergedError as error:
        raise DivergedError(
            f"{error}. {run.checkpoint} holds the last good state. "
            f"Begin a new run with a learning rate below {run.config.learning_rate:g}"
        ) from error
    return state


def step(run: Run, state: State) -> State:
    """Return the state after one step of Adam up the bound of one batch, averaged over its images.

    The state is left alone, so that what interrupts a step leaves nothing half done.

    Raises:
        DivergedError: the loss, or what it is computed from, is not finite.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return _step(run, state)
    except ValueError as error:  # a law refuses parameters that are not finite, and Adam such gradients
        raise DivergedError(f"training diverged in step {state.step + 1}: {error}") from error


def _step(run: Run, state: State) -> State:
    config, rng = run.config, run.rng
    epoch, position = divmod(state.step, run.steps_per_epoch)
    order = _order(config.seed, epoch, len(run.images))
    batch = run.images.pixels[order[position * config.batch : (position + 1) * config.batch]]

    model = wrap(state.model)
    bound = elbo(model, batch, rng=rng.at("noise", state.step))
    loss = -mean(_opened(bound, config.estimator, state.baseline))
    if not np.isfinite(loss.value):
        raise ValueError(f"the loss is {loss.value}")
    new, optimizer = Adam(config.learning_rate).update(state.model, gradients(loss, model), state.optimizer)

    value = -float(loss.value)
    baseline = value if state.baseline is None else state.baseline + (1 - BASELINE_MEMORY) * (value - state.baseline)
    after = State(new, optimizer, state.step + 1, state.epoch_total + value * len(batch), baseline, state.history)
    return _close_epoch(run, after, epoch + 1) if after.step % run.steps_per_epoch == 0 else after


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> Array:
    """Return the order in which the images of an epoch are seen."""
    return noise(seed).at("order", epoch).permutation(count)


def _opened(bound: Tensor, estimator: str, baseline: float | None) -> Tensor:
    """Let the gradient past the draw. The baseline is that of the steps before, so it knows nothing of this draw."""
    return score_function(bound, baseline) if estimator == "score-function" else reparameterize(bound)


def _close_epoch(run: Run, state: State, epoch: int) -> State:
    """Add a row to the history. The held-out images meet the same noise every time: only the model changes."""
    held_out = float(np.mean(_bounds(state.model, run.held_out.pixels, run.rng.at("held-out"))))
    if not math.isfinite(held_out):
        raise ValueError(f"the bound of the held-out images is {held_out}")
    row = {
        "epoch": epoch,
        "step": state.step,
        "bound_train": state.epoch_total / len(run.images),
        "bound_held_out": held_out,
    }
    return dataclasses.replace(state, epoch_total=0.0, history=(*state.history, row))


def _bounds(model: VAE, pixels: Array, rng: NoiseStream, at_once: int = 1000) -> Array:
    """Return the bound of each image, computed with arrays, some images at a time."""
    parts = [elbo(model, pixels[start : start + at_once], rng=rng) for start in range(0, len(pixels), at_once)]
    return np.concatenate(parts).astype(np.float64)


# --------------------------------------------------------------------------------- what a run leaves


def conclude(
    run: Run, state: State, *, draws: int = DRAWS, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Evaluate the model on the held-out images, and write numbers and pictures to the run's folder.

    Writes ``metrics.json``, ``history.csv``, ``learning_curve.png``, ``reconstructions.png``, ``samples.png`` and
    ``latent_plane.png``.

    Args:
        run: from ``begin`` or ``resume``.
        state: of which to draw the model.
        draws: of z for each image, for the log-likelihood.
        progress: called as ``progress(done, n)`` while images are evaluated.

    Returns:
        What stands in ``metrics.json``: the numbers of ``vae.evaluate`` and where the run stands.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     metrics = conclude(*begin(TrainConfig(hidden=(8,)), folder), draws=2)
    >>> metrics["held_out"]["images"], metrics["steps"]
    (300, 0)
    """
    rng, model, held_out = run.rng, state.model, run.held_out
    found = evaluate(model, held_out.pixels, rng=rng.at("evaluate"), samples=draws, progress=progress)
    metrics = {
        "held_out": found,
        "epochs": len(state.history),
        "steps": state.step,
        "weights": sum(leaf.size for leaf in trees.leaves(model)),
        "config": dataclasses.asdict(run.config),
    }
    write_atomically(run.folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    write_atomically(run.folder / "history.csv", _table(state.history).encode())
    draw(run, state)
    return metrics


def _table(rows: tuple[dict[str, Any], ...]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["epoch", "step", "bound_train", "bound_held_out"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def draw(run: Run, state: State) -> None:
    """Draw the pictures of a run into its folder."""
    model, rng = state.model, run.rng
    shuffled = run.held_out[rng.at("shown").permutation(len(run.held_out))]  # a file may be sorted by label
    some = shuffled.pixels[:12]
    curve, reconstructions, samples, plane = (run.folder / name for name in PICTURES)
    plots.learning_curve(state.history, curve)
    plots.reconstructions(some, model.reconstruct(some), shuffled.shape, reconstructions)
    plots.images(model.generate(100, rng=rng.at("samples")), shuffled.shape, samples)
    plots.latent_plane(model.encode(shuffled.pixels).mean, shuffled.labels, plane)
