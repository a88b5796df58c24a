"""Training a VAE on images: the loop, the run folder it keeps, and how a stopped run goes on as if it had not stopped.

A run is a function of its configuration and its data: order and noise come from places in one noise stream, and a
step takes a whole state to a whole state. What is on the disk is always one of these states, so that a run can be
killed at any moment. It knows models, data and pictures, and nothing of the terminal.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import importlib.metadata
import io
import json
import math
import os
import platform
import shlex
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.special

from ..calculus import value_and_grad
from ..compiled.plan import Plan, PlanError, plan
from ..core import Array, NoiseStream, Value, beside, noise, to_device, to_host, trees
from ..distributions import Categorical
from ..estimators import ESTIMATORS
from ..guard.verdict import BiasedGradientWarning, GradientRefusedError
from ..ops import mean
from ..optim import AdamW, clip_by_global_norm, cosine, stages, warm_up
from ..vae import VAE, CategoricalHead, FixedGaussianHead, OneHotHead, evaluate, kl_of_each_latent, measure, summary
from . import checkpoint, plots
from .checkpoint import CheckpointError, write_atomically
from .config import RunError, TrainConfig
from .data import Images, binarise, load
from .lock import locked

CHECKPOINT = "checkpoint.safetensors"
PICTURES = ("learning_curve.png", "reconstructions.png", "samples.png", "latent_plane.png")
LATENT_PICTURES = ("interpolations.png", "traversals.png", "truncated_samples.png", "latent_histograms.png")
"""Those that a Gaussian posterior has, too."""

MANIFOLD = "manifold.png"
"""That of two Gaussian latents under the standard prior."""

RECORDS = ("config.toml", "environment.json")
NUMBERS = ("metrics.json", "history.csv", "held_out.npz")
OUTPUTS = (CHECKPOINT, *RECORDS, *NUMBERS, *PICTURES, *LATENT_PICTURES, MANIFOLD)
"""The files of a run folder; no other file in it is ever touched."""

DRAWS = 100
"""How many draws of z for each held-out image estimate its log-likelihood."""

SAVE_AFTER = 60.0
"""After how many seconds the state is saved within an epoch; it is saved after each epoch in any case."""

BASELINE_MEMORY = 0.9
"""How much of the baseline is kept from step to step: it is a mean over about the last ten batches."""


class DivergedError(ArithmeticError):
    """The loss or a weight is no longer a finite number; the last good state is in the run folder."""


class SaveError(OSError):
    """The state cannot be saved, the disk may be full; the last one that could is in the run folder."""


@dataclass(frozen=True)
class State:
    """Where a run stands: all that the next step depends on, beside the configuration and the data.

    Args:
        model: the weights.
        optimizer: Adam's state.
        best: the weights after the epoch with the best held-out bound; kept where the run may stop early.
        step: how many steps have been made.
        epoch_total: the sum of the bounds of the images seen in the running epoch.
        baseline: the running mean of the bound, which only the score function uses; ``None`` before the first step.
        history: for each finished epoch, the mean of the objective while it was trained and the evidence lower bound
            of the held-out images after it.
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
        """The model that the run gives: that of the best epoch where it is kept, else the last one."""
        return self.model if self.best is None else self.best


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
        """How many steps the whole run takes, if it does not stop early."""
        return self.config.epochs * self.steps_per_epoch

    def pixels(self, images: Images) -> Array:
        """Return images as the model takes them: whole grey levels for a categorical likelihood, else 0 to 1."""
        return images.pixels if self.levels == 1 else np.rint(images.pixels * np.float32(self.levels - 1))

    @property
    def levels(self) -> int:
        """How many grey levels a categorical likelihood tells apart; 1 for the others."""
        return int(self.images.full_scale) + 1 if self.config.likelihood == "categorical" else 1

    def update(self, model: VAE, optimizer: Any, batch: Array, rng: NoiseStream, *numbers: Array | None) -> Any:
        """Return the weights and Adam's state after one step up the mean bound of a batch, and minus that bound.

        Args:
            model, optimizer: the weights, and Adam's state.
            batch: images as the model takes them.
            rng: where the noise of the step comes from.
            numbers: learning rate, number of steps made before, and baseline, where the estimator has one: arrays, so
                that a plan sees them change.
        """
        rate, step, baseline = numbers
        climbed = self.config.climbed(self.steps_per_epoch)

        def loss(model: VAE) -> Value:
            return -mean(climbed(model, batch, rng=rng, step=step, baseline=baseline))

        value, gradient = value_and_grad(loss)(model)
        if self.config.clip:
            gradient, _ = clip_by_global_norm(gradient, self.config.clip)
        adam = AdamW(rate, weight_decay=self.config.weight_decay)
        return *adam.update(model, gradient, optimizer), value

    @functools.cached_property
    def planned_update(self) -> Plan:
        """The same, run by a plan: faster, in memory of its own, where what it returned last is written over."""
        return plan(self.update, carry=2)

    @property
    def how(self) -> str:
        """How the steps of this process were run, in words."""
        planned = self.planned_update
        return f"by a plan: {planned.in_words()}" if planned.is_compiled else "without a plan, op by op"

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
        RunError: the folder holds a run already or cannot be written, a batch is larger than the data, or the estimator
            is not valid for the model. Nothing has been written then.
        LockedError: another process begins a run there.
        DataError: the data cannot be used.
        DivergedError: the loss of the first step is not finite.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(batch=50), folder)
    >>> run.steps_per_epoch, state.step
    (30, 0)
    """
    folder = Path(folder)
    _check_free(folder)
    run = _with_data(config, folder)
    state = _on_device(run, _first_state(config, run.images.size, run.levels))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BiasedGradientWarning)  # said when the first step is made in earnest
            step(run, state)  # on trial: what cannot work says so here
    except GradientRefusedError as error:
        raise RunError(
            f"estimator: {config.estimator} does not work for this model: {error}. "
            f"These do: {', '.join(_valid_estimators(run, state)) or 'none'}"
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            _check_free(folder)
            save(run, state)
            _record(run)
    except OSError as error:
        raise RunError(f"{folder}: the output folder cannot be written: {error}") from error
    return run, state


def _valid_estimators(run: Run, state: State) -> list[str]:
    """Return the names of the estimators that are unbiased for the model, as a few images show."""

    def is_valid(name: str) -> bool:
        try:
            config = dataclasses.replace(run.config, estimator=name, batch=min(4, run.config.batch))
            step(dataclasses.replace(run, config=config), state)
        except (RunError, GradientRefusedError, BiasedGradientWarning, DivergedError):
            return False
        return True

    with warnings.catch_warnings():
        warnings.simplefilter("error", BiasedGradientWarning)
        return [name for name in ESTIMATORS if is_valid(name)]


def _check_free(folder: Path) -> None:
    taken = [name for name in OUTPUTS if (folder / name).exists()]
    if CHECKPOINT in taken:
        raise RunError(f"{folder}: holds a run already; resume it (--resume), or choose another folder (--out)")
    if taken:
        raise RunError(
            f"{folder}: holds {', '.join(taken)}, which a run would overwrite; choose another folder (--out)"
        )


def environment() -> dict[str, Any]:
    """Return what the bits of a run depend on beside its configuration: versions, processor and threads.

    >>> environment()["numpy"] == np.__version__
    True
    """
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "tinygrad_vae": importlib.metadata.version("tinygrad-vae"),
        "blas": f"{blas['name']} {blas['version']}",
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
        "cores": os.cpu_count(),
    }


def environment_changes(run: Run) -> list[str]:
    """Return in words what is not as it was when the run began; with the same bits of data, these may change some.

    The sum inside a matrix product is added up in an order that depends on the linear algebra library, the processor
    and the number of threads.
    """
    try:
        before = json.loads((run.folder / "environment.json").read_text())
        return [f"{name} was {before.get(name)}, is {x}" for name, x in environment().items() if before.get(name) != x]
    except (OSError, ValueError, AttributeError):
        return []


def _record(run: Run) -> None:
    """Write beside the checkpoint what it takes to repeat the run, where it is not there already."""
    text = (
        "# To repeat this run: tinygrad-vae train --config config.toml --out FOLDER\n"
        f"# The versions that it began with are in environment.json.\n\n{run.config.to_toml()}"
    )
    written = {"config.toml": text, "environment.json": json.dumps(environment(), indent=2) + "\n"}
    for name, content in written.items():
        path = run.folder / name
        if not path.exists() or (name == "config.toml" and path.read_bytes() != content.encode()):
            write_atomically(path, content.encode())


def resume(folder: str | Path, **changes: Any) -> tuple[Run, State]:
    """Return a run from its folder, and the state at which it stopped.

    Args:
        folder: where the run was kept.
        changes: fields of its configuration, as ``epochs=200``. Only the number of epochs, the patience and the device
            may differ from what they were.

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
    changeable = ("epochs", "patience", "device")
    for name, value in changes.items():
        if name not in changeable and value != getattr(config, name):
            raise RunError(
                f"{folder}: this run has {name} {getattr(config, name)}, {value} was asked for; "
                f"only {', '.join(changeable)} can be changed on the way. "
                "Choose another folder (--out) for another run"
            )
    changed = dataclasses.replace(config, **changes)
    if changed.schedule == "cosine" and changed.epochs != config.epochs:
        raise RunError(
            f"{folder}: the learning rate of this run falls to 0 by epoch {config.epochs} (schedule cosine), so that "
            "the number of epochs cannot be changed. Choose another folder (--out) for another run"
        )
    if bool(changed.patience) != bool(config.patience):
        raise RunError(
            f"{folder}: this run {'keeps' if config.patience else 'has not kept'} the weights of its best epoch "
            f"(patience {config.patience}); that cannot be changed on the way"
        )
    run = _with_data(changed, Path(folder))
    if facts["fingerprint"] != run.fingerprint:
        raise RunError(f"{config.data}: the images are not those that the run in {folder} began with; restore the file")
    if facts["step"] > run.steps:
        epochs = facts["step"] / run.steps_per_epoch
        raise RunError(f"{folder}: this run is {epochs:.4g} epochs long already, {changed.epochs} were asked for")
    blank = _first_state(changed, run.images.size, run.levels)
    best = blank.model if config.patience and facts["history"] else None
    parts = {"model": blank.model, "optimizer": blank.optimizer, "best": best}
    filled = checkpoint.fill(parts, arrays, run.checkpoint)
    kept = {name: facts[name] for name in ("step", "epoch_total", "baseline")}
    return run, _on_device(run, State(**filled, **kept, history=tuple(facts["history"])))


def _on_device(run: Run, state: State) -> State:
    """Return the state where the run computes.

    Raises:
        RunError: that is a GPU, and there is none, or no CuPy.
    """
    if run.config.device == "cpu":
        return state
    try:
        return to_device(state)
    except (ImportError, RuntimeError) as error:  # CuPy's errors are RuntimeErrors
        raise RunError(f"device: a GPU cannot be used here: {error}. Choose --device cpu") from error


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
    part = "best" if any(name.startswith("best.") for name in arrays) else "model"
    blank = {part: _first_state(config, rows * columns, facts["levels"]).model}
    weights = {name: array for name, array in arrays.items() if name.startswith(f"{part}.")}
    return checkpoint.fill(blank, weights, Path(folder) / CHECKPOINT)[part], (rows, columns), config


def _read(folder: str | Path) -> tuple[TrainConfig, dict[str, Array], dict[str, Any]]:
    """Return the configuration, the arrays and the facts of the checkpoint in a run folder."""
    path = Path(folder) / CHECKPOINT
    if Path(folder).is_file():
        raise CheckpointError(f"{folder}: is a file; give the folder of the run, {Path(folder).parent}")
    if not path.exists():
        raise CheckpointError(
            f"{folder}: holds no run, {CHECKPOINT} is missing; begin one with tinygrad-vae train, "
            f"--out {shlex.quote(str(folder))} and without --resume"
        )
    arrays, facts = checkpoint.load(path)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite; no run saves such a state")
    try:
        for name, holds in FACTS.items():
            if not holds(facts[name]):
                raise RunError(f"{name} is {facts[name]!r}")
        return TrainConfig(**facts["config"]), arrays, facts
    except (KeyError, TypeError, RunError) as error:
        raise CheckpointError(f"{path}: a checkpoint, but not one of a training run: {error}") from error


def _is_count(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x >= 0


def _is_number(x: Any) -> bool:
    return isinstance(x, float) and math.isfinite(x)


ROW: dict[str, Callable[[Any], bool]] = {
    "epoch": _is_count,
    "step": _is_count,
    "bound_train": _is_number,
    "bound_held_out": _is_number,
    "rate_held_out": _is_number,
    "active_units": _is_count,
}
"""What the history tells of an epoch, and what each may be."""


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and row.keys() == ROW.keys() and all(ROW[name](x) for name, x in row.items())


FACTS: dict[str, Callable[[Any], bool]] = {
    "config": lambda x: isinstance(x, dict),
    "shape": lambda x: isinstance(x, list) and len(x) == 2 and all(_is_count(side) and side for side in x),
    "levels": lambda x: _is_count(x) and x > 0,
    "fingerprint": _is_count,
    "step": _is_count,
    "epoch_total": _is_number,
    "baseline": lambda x: x is None or _is_number(x),
    "history": lambda x: isinstance(x, list) and all(map(_is_row, x)),
}
"""What the checkpoint of a run tells beside its arrays, and what each may be."""


def _first_state(config: TrainConfig, pixels: int, levels: int) -> State:
    likelihood: Any = config.likelihood
    if levels > 1:
        likelihood = functools.partial(CategoricalHead.init, levels=levels)
    if config.likelihood == "gaussian-fixed":
        likelihood = functools.partial(FixedGaussianHead.init, scale=config.pixel_scale)
    posterior: Any = config.posterior
    if config.posterior == "one-hot":
        posterior = functools.partial(OneHotHead.init, classes=config.classes)
    try:
        model = VAE.init(
            pixels,
            hidden=config.hidden,
            latent=config.latent,
            activation=config.activation,
            posterior=posterior,
            likelihood=likelihood,
            components=config.components,
            rng=noise(config.seed).at("weights"),
        )
    except (MemoryError, ValueError) as error:
        raise RunError(f"hidden, latent: a model of this size cannot be made: {error}") from error
    return State(model, AdamW(config.learning_rate).init(model))


def _with_data(config: TrainConfig, folder: Path) -> Run:
    images, held_out = load(config.data, seed=config.seed, binarise=config.binarise)
    if config.batch > len(images):
        raise RunError(f"batch: {config.batch} is more than the {len(images)} training images; choose a smaller one")
    if len(held_out) < 2:
        raise RunError(f"{config.data}: a standard error takes two held-out images at least, found {len(held_out)}")
    if config.likelihood == "categorical" and images.full_scale == 1:
        raise RunError(f"{config.data}: a categorical likelihood takes whole grey levels, found numbers from 0 to 1")
    return Run(config, folder, images, held_out, held_out.fingerprint(images.fingerprint()))


def save(run: Run, state: State) -> None:
    """Write the state to the run's checkpoint.

    Raises:
        DivergedError: a weight, or what Adam keeps of it, is not finite; the checkpoint is left as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(hidden=(8,)), folder)
    ...     save(run, step(run, state))
    ...     saved_step(run)
    1
    """
    if not all(np.isfinite(leaf).all() for leaf in trees.leaves([state.model, state.optimizer])):
        raise DivergedError(f"the weights after step {state.step}, or Adam's means, are not finite numbers")
    facts = {
        "config": dataclasses.asdict(run.config),
        "shape": run.images.shape,
        "levels": run.levels,
        "fingerprint": run.fingerprint,
        "step": state.step,
        "epoch_total": state.epoch_total,
        "baseline": state.baseline,
        "history": list(state.history),
    }
    parts = {"model": state.model, "optimizer": state.optimizer, "best": state.best}
    checkpoint.save(run.checkpoint, parts, facts)


def saved_step(run: Run) -> int:
    """Return after which step the state in the run's checkpoint was saved."""
    return int(checkpoint.load(run.checkpoint)[1]["step"])


# ------------------------------------------------------------------------------------------ the loop


def train(run: Run, state: State, *, report: Callable[[State], None] | None = None) -> State:
    """Train to the end, and return the last state.

    The state is saved after every epoch, and every ``SAVE_AFTER`` seconds. A ``KeyboardInterrupt`` saves it as well,
    and is raised again; the step that it fell into is made again by ``resume``.

    Args:
        run: from ``begin`` or ``resume``.
        state: from there too.
        report: called with the state after each step.

    Raises:
        DivergedError: the loss is not finite any more; the checkpoint holds the last state that was.
        SaveError: the state cannot be saved; the checkpoint holds the last one that could.
        LockedError: another process trains in the folder.
        RunError: another process has trained further in the folder since the state was read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(epochs=1, hidden=(8,)), folder)
    ...     train(run, state).history[0]["epoch"]
    1
    """
    with locked(run.folder):
        if saved_step(run) > state.step:
            raise RunError(f"{run.folder}: another process has gone on with this run; resume it anew")
        _remove_leftovers(run)
        _record(run)
        return _loop(run, state, report)


def _remove_leftovers(run: Run) -> None:
    """Remove what a process left that was killed while it wrote a file of the run."""
    for name in OUTPUTS:
        checkpoint.remove_leftovers(run.folder / name)


def _loop(run: Run, state: State, report: Callable[[State], None] | None) -> State:
    saved = time.monotonic()
    update: Update = run.planned_update
    between_steps = True
    try:
        with _interrupts_wait() as interrupted:
            while not finished(run, state):
                between_steps = False
                try:
                    state = step(run, state, update)
                except PlanError:  # the step is not the same each time; no step has been made
                    update = run.update
                    continue
                between_steps = True
                if state.step % run.steps_per_epoch == 0 or time.monotonic() - saved > SAVE_AFTER:
                    _save(run, state)
                    saved = time.monotonic()
                if report is not None:
                    report(state)
                if interrupted():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        if between_steps:  # within one, the memory of the plan is neither the old state nor the new one
            _save(run, state)
        raise
    except DivergedError as error:
        raise DivergedError(
            f"{error}. {run.checkpoint} holds the last good state. "
            f"Begin a new run with a learning rate below {run.config.learning_rate:g}"
        ) from error
    return state


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Let a Ctrl-C wait for the end of the step that it falls into; a second one does not wait.

    Gives a function that tells whether there was one. Where something else takes care of Ctrl-C, that is left alone.
    """
    count = 0

    def note(number: int, frame: Any) -> None:
        nonlocal count
        count += 1
        if count > 1:
            signal.default_int_handler(number, frame)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: count > 0
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def finished(run: Run, state: State) -> bool:
    """Return whether all steps are made, or the held-out bound has not risen for as long as the run has patience."""
    patience = run.config.patience
    return state.step >= run.steps or (patience > 0 and _since_best(state) >= patience)


def _since_best(state: State) -> int:
    """Return how many epochs ago the best held-out bound was."""
    bounds = [row["bound_held_out"] for row in state.history]
    return len(bounds) - 1 - bounds.index(max(bounds)) if bounds else 0


def _save(run: Run, state: State) -> None:
    try:
        save(run, state)
    except OSError as error:
        raise SaveError(
            f"{run.checkpoint}: the state after step {state.step} cannot be saved: {error}. The file holds the last "
            "state that could be; free some space, and go on with --resume"
        ) from error


Update = Callable[..., tuple[VAE, Any, Array]]


def step(run: Run, state: State, update: Update | None = None) -> State:
    """Return the state after one step of Adam up the bound of one batch, averaged over its images.

    Args:
        run: from ``begin`` or ``resume``.
        state: from there too. It is left alone, so that what interrupts a step leaves nothing half done.
        update: ``run.planned_update`` gives the same numbers faster. It writes over the state that the step before has
            returned; one that is to last must be copied.

    Raises:
        DivergedError: the loss, or what it is computed from, is not finite.
        GradientRefusedError: the estimator is not valid for the model.
        PlanError: the step cannot be planned; no step has been made.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return _step(run, state, update or run.update)
    except (GradientRefusedError, PlanError):
        raise
    except ValueError as error:  # a law refuses parameters that are not finite, and Adam such gradients
        raise DivergedError(f"training diverged in step {state.step + 1}: {error}") from error


def _step(run: Run, state: State, update: Update) -> State:
    config, rng = run.config, run.rng
    epoch, position = divmod(state.step, run.steps_per_epoch)
    order = _order(config.seed, epoch, len(run.images))
    batch = run.pixels(run.images[order[position * config.batch : (position + 1) * config.batch]])
    if config.binarise == "fresh":
        batch = binarise(batch, rng.at("bits", "fresh", state.step))

    weight = trees.leaves(state.model)[0]
    numbers = [np.asarray(learning_rate(run, state.step)), np.asarray(float(state.step)), None]
    if config.estimator == "score-function" and state.baseline is not None:
        numbers[2] = np.asarray(state.baseline, weight.dtype)
    there = [None if x is None else beside(x, weight) for x in numbers]
    given = beside(batch, weight), rng.at("noise", state.step), *there
    model, optimizer, loss = update(state.model, state.optimizer, *given)
    value = -float(loss)
    if not math.isfinite(value):
        raise ValueError(f"the loss is {-value}")

    baseline = value if state.baseline is None else state.baseline + (1 - BASELINE_MEMORY) * (value - state.baseline)
    after = dataclasses.replace(
        state,
        model=model,
        optimizer=optimizer,
        step=state.step + 1,
        epoch_total=state.epoch_total + value * len(batch),
        baseline=baseline,
    )
    return _close_epoch(run, after, epoch + 1) if after.step % run.steps_per_epoch == 0 else after


def learning_rate(run: Run, step: int) -> float:
    """Return the learning rate of a step, by the schedule of the run.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, _ = begin(TrainConfig(hidden=(8,), warm_up=1, schedule="cosine", epochs=3), folder)
    >>> [round(1000 * learning_rate(run, step), 3) for step in (0, 14, 30, 45)]
    [0.133, 2.0, 1.0, 0.0]
    """
    config, an_epoch = run.config, run.steps_per_epoch
    rising = config.warm_up * an_epoch
    rate = config.learning_rate * warm_up(step, rising)
    if config.schedule == "cosine" and step >= rising:
        rate *= cosine(step - rising, max(1, run.steps - rising))
    elif config.schedule == "stages":
        rate *= stages(step // an_epoch)
    return rate


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> Array:
    """Return the order in which the images of an epoch are seen."""
    return noise(seed).at("order", epoch).permutation(count)


def _close_epoch(run: Run, state: State, epoch: int) -> State:
    """Add a row to the history. The held-out images meet the same noise every time: only the model changes."""
    pixels, rng = run.pixels(run.held_out), run.rng.at("held-out")
    found = evaluate(state.model, pixels, rng=rng, samples=1, batch=1000)
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
    if run.config.patience and not _since_best(after):
        return dataclasses.replace(after, best=trees.map_leaves(np.copy, after.model))
    return after


# --------------------------------------------------------------------------------- what a run leaves


def conclude(
    run: Run, state: State, *, draws: int = DRAWS, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Evaluate the model on the held-out images, and write numbers and pictures to the run's folder.

    Writes ``metrics.json``, ``history.csv``, ``held_out.npz`` with the numbers of each image, and ``pictures(config)``.

    Args:
        run: from ``begin`` or ``resume``.
        state: of which to draw the model.
        draws: of z for each image, for the log-likelihood.
        progress: called as ``progress(done, n)`` while images are evaluated.

    Returns:
        What stands in ``metrics.json``: the numbers of ``vae.evaluate`` and where the run stands.

    Raises:
        LockedError: another process writes in the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     metrics = conclude(*begin(TrainConfig(hidden=(8,)), folder), draws=2)
    >>> metrics["held_out"]["images"], metrics["steps"]
    (300, 0)
    """
    with locked(run.folder):
        _remove_leftovers(run)
        return _conclude(run, state, draws, progress)


def _conclude(run: Run, state: State, draws: int, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    rng, model = run.rng, state.chosen
    measured = measure(model, run.pixels(run.held_out), rng=rng.at("evaluate"), samples=draws, progress=progress)
    metrics = {
        "held_out": summary(measured, draws),
        "epochs": len(state.history),
        "steps": state.step,
        "weights": sum(leaf.size for leaf in trees.leaves(model)),
        "config": dataclasses.asdict(run.config),
    }
    content = io.BytesIO()
    np.savez(content, **{name: measured[name] for name in COMPARED}, kind=_kind(run), draws=draws)
    write_atomically(run.folder / "held_out.npz", content.getvalue())
    write_atomically(run.folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    write_atomically(run.folder / "history.csv", _table(state.history).encode())
    draw(run, state)
    return metrics


COMPARED = ("log_likelihood", "bound", "rate", "distortion")
"""What is known of each held-out image, in nats."""


def _kind(run: Run) -> str:
    """Say what the numbers of the images are about: numbers of other images, or of densities, do not compare."""
    law = run.config.likelihood if run.config.likelihood in ("bernoulli", "categorical") else "densities"
    return f"{law} of images {run.held_out.fingerprint()}"


def compare(first: str | Path, second: str | Path) -> dict[str, tuple[float, float]]:
    """Return by how much two runs differ on the held-out images, the first minus the second, image by image.

    Both have met the same images, and some are hard for both. The difference ``d_i = a_i - b_i`` of each image does
    without that, and so does its standard error, ``sd(d) / sqrt(n)``.

    Args:
        first: the folder of a run that has been evaluated.
        second: that of another one.

    Returns:
        For ``log_likelihood``, ``bound``, ``rate`` and ``distortion`` the mean difference and its standard error.

    Raises:
        CheckpointError: there is no run in a folder.
        RunError: a run has not been evaluated, or they were on other images or with another number of draws.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for seed in ("a", "b"):
    ...         metrics = conclude(*begin(TrainConfig(hidden=(8,)), f"{folder}/{seed}"), draws=2)
    ...     compare(f"{folder}/a", f"{folder}/b")["bound"]
    (0.0, 0.0)
    """
    a, b = _of_each_image(first), _of_each_image(second)
    for name in ("kind", "draws"):
        if a[name] != b[name]:
            raise RunError(
                f"{first} and {second}: numbers that do not compare, {name} {a[name]} and {name} {b[name]}; evaluate "
                "both on the same data and seed with the same number of draws"
            )
    differences = {name: a[name] - b[name] for name in COMPARED}
    return {name: (float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d))) for name, d in differences.items()}


def _of_each_image(folder: str | Path) -> dict[str, Array]:
    path = Path(folder) / "held_out.npz"
    if not path.exists() and not (Path(folder) / CHECKPOINT).exists():
        raise CheckpointError(f"{folder}: holds no run; give the folder that tinygrad-vae train has written")
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            return {name: content[name] for name in (*COMPARED, "kind", "draws")}
    except Exception as error:  # what NumPy's readers raise for a damaged file is of many kinds
        raise RunError(
            f"{path}: missing, damaged or something else; evaluate the run first: tinygrad-vae evaluate {folder}"
        ) from error


def _table(rows: tuple[dict[str, Any], ...]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROW), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def pictures(config: TrainConfig) -> tuple[str, ...]:
    """Return the names of the pictures that a run with this configuration draws."""
    if "gaussian" not in config.posterior:
        return PICTURES
    return (*PICTURES, *LATENT_PICTURES, *([MANIFOLD] if config.latent == 2 and not config.components else []))


def draw(run: Run, state: State) -> None:
    """Draw the pictures of a run into its folder, each whole or not at all."""
    model, rng = to_host(state.chosen), run.rng
    shuffled = run.held_out[rng.at("shown").permutation(len(run.held_out))]  # a file may be sorted by label
    pixels, shape = run.pixels(shuffled), shuffled.shape
    white = model.likelihood.white
    q = model.encode(pixels)

    def decoded(z: Array) -> Array:
        return model.decode(z).mean / white

    def put(name: str, plot: Callable[..., None], *arguments: Any, **options: Any) -> None:
        picture = io.BytesIO()
        plot(*arguments, picture, **options)
        write_atomically(run.folder / name, picture.getvalue())

    both = np.concatenate([pixels[:12], model.reconstruct(pixels[:12])]) / white
    put("learning_curve.png", plots.learning_curve, state.history)
    put("reconstructions.png", plots.labelled_images, both, shape, ["original", "reconstruction"])
    put("samples.png", plots.images, model.generate(100, rng=rng.at("samples")) / white, shape)
    put("latent_plane.png", plots.latent_plane, q.mean.reshape(len(pixels), -1), shuffled.labels)
    if "gaussian" not in run.config.posterior:
        return

    means, dtype = q.mean, q.mean.dtype
    count = min(6, len(pixels) // 2)
    blend = np.linspace(0, 1, 10, dtype=dtype)[:, None]
    ways = [decoded((1 - blend) * a + blend * b) for a, b in zip(means[:count], means[count : 2 * count], strict=True)]
    ends = pixels / white
    between = [np.concatenate([ends[[k]], way, ends[[count + k]]]) for k, way in enumerate(ways)]
    put("interpolations.png", plots.labelled_images, np.concatenate(between), shape, [""] * count, columns=ENDS)

    mixture = model.learned_prior
    apart = run.config.posterior == "gaussian" and mixture is None  # the divergence is a sum over latents
    rates = kl_of_each_latent(q, model.prior()).mean(axis=0) if apart else None
    shown = np.argsort(-(means.var(axis=0) if rates is None else rates), kind="stable")[:MOST_LATENTS]
    moved = np.linspace(-3, 3, 11, dtype=dtype)
    draws = q.sample(rng=rng.at("aggregate"))
    z = np.tile(means[0], (len(shown), len(moved), 1))
    for row, latent in zip(z, shown, strict=True):  # over three standard deviations of where z lies
        of = draws[:, latent]
        row[:, latent] = moved if mixture is None else of.mean() + of.std() * moved
    names = [f"$z_{{{k + 1}}}$" + ("" if rates is None else f"   {rates[k]:.2f} nats") for k in shown]
    steps = [f"{x:.2g}".replace("-", "\N{MINUS SIGN}") for x in moved]
    put("traversals.png", plots.labelled_images, decoded(z).reshape(-1, run.held_out.size), shape, names, columns=steps)
    density = None if mixture is None else lambda z: mixture.marginals(z)[:, shown]
    put("latent_histograms.png", plots.latent_histograms, draws[:, shown], titles=names, density=density)

    u = rng.at("truncated").uniform((10, run.config.latent))
    inside = np.stack([_truncated(u, reach) for reach in REACHES]).astype(dtype)
    if mixture is not None:  # within so many standard deviations of a component, the same one in each row
        k = Categorical(logits=mixture.logits).sample((len(u),), rng=rng.at("component"))
        inside = mixture.mean[k] + np.exp(mixture.log_scale[k]) * inside
    distance = "$|z_k|$" if mixture is None else "distance"
    rows = ["any z" if math.isinf(reach) else f"{distance} < {reach:g}" for reach in REACHES]
    put("truncated_samples.png", plots.labelled_images, decoded(inside.reshape(-1, run.config.latent)), shape, rows)
    if MANIFOLD in pictures(run.config):
        side = 20
        places = scipy.special.ndtri((np.arange(side) + 0.5) / side).astype(dtype)
        grid = np.stack(np.meshgrid(places, -places), axis=-1).reshape(-1, 2)
        put(MANIFOLD, plots.images, decoded(grid), shape)


ENDS = ("original", *[""] * 10, "original")

MOST_LATENTS = 16
"""How many latents the pictures show at most, those that say most first."""

REACHES = (0.5, 1.0, 1.5, 2.0, math.inf)
"""How far from 0 each latent may lie in the rows of the truncated samples."""


def _truncated(u: Array, reach: float) -> Array:
    """Return standard normal draws within ``reach``, from uniform ones: the same u for any reach."""
    low = scipy.special.ndtr(-reach)
    return scipy.special.ndtri(low + u * (1 - 2 * low))
