"""The folder of a run: a run begins there, is saved and resumed, and its model is loaded from there.

The checkpoint is always one whole state, so that a run can be killed at any moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Array, GradientRefusedError, trees
from ..devices import to_device
from ..guard.report import ESTIMATORS
from ..guard.verdict import BiasedGradientWarning
from ..vae import VAE
from . import checkpoint
from .checkpoint import CheckpointError, write_atomically
from .config import RunError, TrainConfig, settings_in
from .data import load
from .downloads import DATASETS
from .images import DataError
from .lock import locked
from .run import CHECKPOINT, Run, State, blank_model
from .step import DivergedError, step

RECORDS = ("config.toml", "environment.json")
NUMBERS = ("metrics.json", "history.csv", "held_out.npz")
PICTURES = (
    "summary.png",
    "learning_curve.png",
    "reconstructions.png",
    "samples.png",
    "manifold.png",
    "latent_plane.png",
)
OUTPUTS = (CHECKPOINT, *RECORDS, *NUMBERS, *PICTURES)
"""The files of a run folder; no other file in it is ever touched."""

KEPT = ("step", "epoch_total", "baseline", "history")
"""What a state keeps beside arrays."""

CHANGEABLE = ("epochs", "patience", "device", "data")
"""The settings that may change when a run is resumed."""


def begin(config: TrainConfig, folder: str | Path) -> tuple[Run, State]:
    """Return a new run and its first state, which is saved in the folder.

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
    check_free(folder)
    run = _with_data(config, folder)
    state = _on_device(run, run.first_state())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BiasedGradientWarning)  # said when the first step is made in earnest
            _try_step(run, state)
    except GradientRefusedError as error:
        raise RunError(
            f"estimator: {config.estimator} does not work for this model: {error}. "
            f"These do: {', '.join(_valid_estimators(run, state)) or 'none'}"
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            check_free(folder)
            save(run, state)
            record(run)
    except OSError as error:
        raise RunError(f"{folder}: the output folder cannot be written: {error}") from error
    return run, state


def _try_step(run: Run, state: State, **changes: Any) -> None:
    """Make a step on trial; one process makes it, and so in one block."""
    step(dataclasses.replace(run, config=dataclasses.replace(run.config, blocks=1, **changes)), state)


def _valid_estimators(run: Run, state: State) -> list[str]:
    """Return the names of the estimators that are unbiased for the model, tried on a few images."""
    valid = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", BiasedGradientWarning)
        for name in ESTIMATORS:
            with contextlib.suppress(RunError, GradientRefusedError, BiasedGradientWarning, DivergedError):
                _try_step(run, state, estimator=name, batch=min(4, run.config.batch))
                valid.append(name)
    return valid


def check_free(folder: Path) -> None:
    """Raise a ``RunError`` if a run cannot begin in the folder, because it would overwrite something."""
    taken = [name for name in OUTPUTS if (folder / name).exists()]
    if CHECKPOINT in taken:
        raise RunError(f"{folder}: holds a run already; resume it (--resume), or choose another folder (--out)")
    if taken:
        raise RunError(
            f"{folder}: holds {', '.join(taken)}, which a run would overwrite; choose another folder (--out)"
        )


def _with_data(config: TrainConfig, folder: Path) -> Run:
    images, held_out = load(config.data, seed=config.seed, binarise=config.binarise)
    if config.batch > len(images):
        raise RunError(f"batch: {config.batch} is more than the {len(images)} training images; choose a smaller one")
    if (smallest := len(images) % config.batch or config.batch) < config.blocks:
        raise RunError(
            f"blocks: {config.blocks} are more than the {smallest} images of the smallest batch of an epoch; take "
            "fewer blocks, or another batch"
        )
    if len(held_out) < 2:
        raise RunError(f"{config.data}: a standard error takes two held-out images at least, found {len(held_out)}")
    if config.likelihood == "categorical" and images.full_scale == 1:
        raise RunError(f"{config.data}: a categorical likelihood takes whole grey levels, found numbers from 0 to 1")
    return Run(config, folder, images, held_out, held_out.fingerprint(images.fingerprint()))


def _on_device(run: Run, state: State) -> State:
    if run.config.device == "cpu":
        return state
    try:
        return to_device(state)
    except (ImportError, RuntimeError) as error:  # CuPy's errors are RuntimeErrors
        raise RunError(f"device: a GPU cannot be used here: {error}. Choose --device cpu") from error


def environment() -> dict[str, Any]:
    """Return what the bits of a run depend on beside its settings: versions, processor and threads."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": importlib.metadata.version("scipy"),
        "tinygrad_vae": importlib.metadata.version("tinygrad-vae"),
        "blas": f"{blas['name']} {blas['version']}",
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
        "cores": os.cpu_count(),
    }


def environment_changes(run: Run) -> list[str]:
    """Return in words what has changed since the run began; the order of a sum, and so its bits, may depend on it."""
    try:
        before = json.loads((run.folder / "environment.json").read_text())
        return [f"{name} was {before.get(name)}, is {x}" for name, x in environment().items() if before.get(name) != x]
    except (OSError, ValueError, AttributeError):
        return []


def record(run: Run) -> None:
    """Write beside the checkpoint what it takes to repeat the run, unless it is there already.

    A ``config.toml`` that was edited by hand is left alone as long as its settings are those of the run.
    """
    if not (run.folder / "environment.json").exists():
        write_atomically(run.folder / "environment.json", (json.dumps(environment(), indent=2) + "\n").encode())
    path = run.folder / "config.toml"
    if path.exists():
        written = TrainConfig(**settings_in(path))
        if written == run.config:
            return
        if path.read_bytes() != _as_file(written):
            warnings.warn(f"{path}: was edited, and is written anew with the settings of the run", stacklevel=3)
    write_atomically(path, _as_file(run.config))


def _as_file(config: TrainConfig) -> bytes:
    return (
        "# To repeat this run: tinygrad-vae train --config config.toml --out FOLDER\n"
        f"# The versions that it began with are in environment.json.\n\n{config.to_toml()}"
    ).encode()


def save(run: Run, state: State) -> None:
    """Write the state to the run's checkpoint.

    Raises:
        DivergedError: a weight, or a mean that Adam keeps, is not finite; the checkpoint is left as it was.
    """
    if not all(np.isfinite(leaf).all() for leaf in trees.leaves([state.model, state.optimizer])):
        raise DivergedError(f"the weights after step {state.step}, or Adam's means, are not finite numbers")
    facts = {
        "config": dataclasses.asdict(run.config),
        "shape": run.images.shape,
        "levels": run.levels,
        "fingerprint": run.fingerprint,
        **{name: getattr(state, name) for name in KEPT},
    }
    parts = {"model": state.model, "optimizer": state.optimizer, "best": state.best}
    checkpoint.save(run.checkpoint, parts, facts)


def saved_step(run: Run) -> int:
    """Return after which step the state in the run's checkpoint was saved."""
    return int(checkpoint.load(run.checkpoint)[1]["step"])


def resume(folder: str | Path, **changes: Any) -> tuple[Run, State]:
    """Return a run from its folder, and the state at which it stopped.

    ``changes`` are settings, such as ``epochs=200``. Only those in ``CHANGEABLE`` may differ from what they were, and
    the images at another ``data`` must be the same. An edited ``config.toml`` in the folder is a change, too.

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
    before, arrays, facts = _read(folder)
    config = _changed(before, folder, changes)
    if config.data not in ("digits", *DATASETS) and not Path(config.data).exists():
        raise DataError(f"{folder}: the images of this run are no longer at {config.data}; say where with --data")
    run = _with_data(config, Path(folder))
    if facts["fingerprint"] != run.fingerprint:
        raise RunError(
            f"{config.data}: the images are not those that the run in {folder} began with; restore the file, or say "
            "with --data where they are"
        )
    if facts["step"] > run.steps:
        epochs = facts["step"] / run.steps_per_epoch
        raise RunError(f"{folder}: this run is {epochs:.4g} epochs long already, {config.epochs} were asked for")
    blank = run.first_state()
    best = blank.model if before.patience and facts["history"] else None
    parts = {"model": blank.model, "optimizer": blank.optimizer, "best": best}
    filled = checkpoint.fill(parts, arrays, run.checkpoint)
    kept = {name: facts[name] for name in KEPT} | {"history": tuple(facts["history"])}
    return run, _on_device(run, State(**filled, **kept))


def _changed(config: TrainConfig, folder: str | Path, changes: dict[str, Any]) -> TrainConfig:
    """Return the configuration of a run with the changes that were asked for, here or in its edited file."""
    edited = Path(folder) / "config.toml"
    asked = (settings_in(edited) if edited.exists() else {}) | changes
    for name, value in asked.items():
        if name not in CHANGEABLE and value != getattr(config, name):
            where = "was asked for" if name in changes else f"stands in {edited}, which was edited"
            raise RunError(
                f"{folder}: this run has {name} {getattr(config, name)}, {value} {where}; "
                f"only {', '.join(CHANGEABLE)} can be changed on the way. "
                "Choose another folder (--out) for another run"
            )
    new = dataclasses.replace(config, **asked)
    if config.schedule == "cosine" and config.epochs != new.epochs:
        raise RunError(
            f"{folder}: the learning rate of this run falls to 0 by epoch {config.epochs} (schedule cosine), so that "
            "the number of epochs cannot be changed. Choose another folder (--out) for another run"
        )
    if bool(config.patience) != bool(new.patience):
        raise RunError(
            f"{folder}: this run {'keeps' if config.patience else 'has not kept'} the weights of its best epoch "
            f"(patience {config.patience}); that cannot be changed on the way"
        )
    return new


def load_model(folder: str | Path) -> tuple[VAE, tuple[int, ...], TrainConfig]:
    """Return the model of a run, the shape (rows, columns) or (rows, columns, 3) of its images, and its configuration.

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
    before, arrays, facts = _read(folder)
    config, shape = _changed(before, folder, {}), tuple(facts["shape"])
    part = "best" if any(name.startswith("best.") for name in arrays) else "model"
    blank = {part: blank_model(config, math.prod(shape), facts["levels"])}
    weights = {name: array for name, array in arrays.items() if name.startswith(f"{part}.")}
    return checkpoint.fill(blank, weights, Path(folder) / CHECKPOINT)[part], shape, config


def _read(folder: str | Path) -> tuple[TrainConfig, dict[str, Array], dict[str, Any]]:
    """Return the configuration of a run, and the arrays and the facts of its checkpoint."""
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
    if not _fits(facts, FACTS):
        raise CheckpointError(f"{path}: a checkpoint, but not one of a training run")
    try:
        return TrainConfig(**facts["config"]), arrays, facts
    except (TypeError, RunError) as error:
        raise CheckpointError(f"{path}: a checkpoint, but not one of a training run: {error}") from error


ROW = {
    "epoch": int,
    "step": int,
    "bound_train": float,
    "bound_held_out": float,
    "rate_held_out": float,
    "active_units": int,
}
"""What the history tells of an epoch."""

FACTS = {
    "config": dict,
    "shape": [int],
    "levels": int,
    "fingerprint": int,
    "step": int,
    "epoch_total": float,
    "baseline": float | None,
    "history": [ROW],
}
"""What the checkpoint of a run tells beside its arrays."""


def _fits(x: Any, kind: Any) -> bool:
    """Return whether a value is of a type, a list of such values, or a dict of the same keys."""
    if isinstance(kind, list):
        return isinstance(x, list) and all(_fits(part, kind[0]) for part in x)
    if type(kind) is dict:
        return isinstance(x, dict) and x.keys() == kind.keys() and all(_fits(x[name], kind[name]) for name in kind)
    return isinstance(x, kind) and not isinstance(x, bool)
