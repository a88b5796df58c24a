"""What a run leaves: numbers of its held-out images, pictures, and the comparison of two runs image by image."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Array, trees
from ..vae import VAE, measure, summary
from .checkpoint import CheckpointError, remove_leftovers, write_atomically
from .config import RunError
from .lock import locked
from .pictures import write_pictures
from .plane import plane_model
from .run import CHECKPOINT, Pixels, Run, State
from .run_folder import OUTPUTS, ROW

DRAWS = 100
"""The number of draws of z that estimate the log-likelihood of a held-out image."""

COMPARED = {
    "log_likelihood": "log p(x), importance-weighted bound",
    "bound": "evidence lower bound (ELBO)",
    "rate": "rate, KL(q(z|x) || p(z))",
    "distortion": "distortion, -E log p(x|z)",
}
"""The numbers of each held-out image, in nats, and what they are."""


def conclude(
    run: Run,
    state: State,
    *,
    draws: int = DRAWS,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    plane: VAE | None = None,
) -> dict[str, Any]:
    """Evaluate the model on the held-out images, and write numbers and pictures.

    Args:
        run, state: from ``begin``, ``resume`` or ``train``.
        draws: the number of draws of z for each image, for the log-likelihood.
        folder: where to write, the run's folder by default.
        progress: called as ``progress(done, n)`` while images are evaluated.
        plane: the model with two latents whose map is drawn; by default ``plane_model(run, state)``.

    Returns:
        The content of ``metrics.json``: the numbers of ``vae.evaluate`` and how far the run is.

    >>> import tempfile
    >>> from tinygrad_vae.app import TrainConfig, begin
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     metrics = conclude(*begin(TrainConfig(hidden=(8,), latent=2), folder), draws=2)
    >>> metrics["held_out"]["images"], metrics["steps"]
    (300, 0)
    """
    folder = folder or run.folder
    with locked(folder):
        remove_leftovers(folder, OUTPUTS)
        pixels: Any = Pixels(run, run.held_out)
        measured = measure(state.chosen, pixels, rng=run.rng.at("evaluate"), samples=draws, progress=progress)
        metrics = {
            "held_out": summary(measured, draws),
            "epochs": len(state.history),
            "steps": state.step,
            "weights": sum(leaf.size for leaf in trees.leaves(state.chosen)),
            "config": dataclasses.asdict(run.config),
        }
        each, history = io.BytesIO(), io.StringIO()
        np.savez(each, **{name: measured[name] for name in COMPARED}, kind=_kind(run), draws=draws)
        rows = csv.DictWriter(history, list(ROW), lineterminator="\n")
        rows.writeheader()
        rows.writerows(state.history)
        write_atomically(folder / "held_out.npz", each.getvalue())
        write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
        write_atomically(folder / "history.csv", history.getvalue().encode())
        write_pictures(run, state, folder, plane_model(run, state) if plane is None else plane)
    return metrics


def _kind(run: Run) -> str:
    """Name what the numbers measure: numbers of other images, or of densities, cannot be compared with them."""
    name = run.config.likelihood if run.config.likelihood in ("bernoulli", "categorical") else "densities"
    return f"{name} of images {run.held_out.fingerprint()}"


def compare(first: str | Path, second: str | Path) -> dict[str, tuple[float, float]]:
    """Return by how much two runs differ on the held-out images, the first minus the second.

    Some images are hard for both runs. The difference ``d_i = a_i - b_i`` of each image leaves that out. For each of
    ``COMPARED`` this gives the mean difference and its standard error, ``sd(d) / sqrt(n)``.

    Raises:
        CheckpointError: there is no run in a folder.
        RunError: a run has not been evaluated, or they were on other images or with another number of draws.
    """
    a, b = _of_each_image(first), _of_each_image(second)
    for name in ("kind", "draws"):
        if a[name] != b[name]:
            raise RunError(
                f"{first} and {second}: numbers that do not compare, {name} {a[name]} and {name} {b[name]}; evaluate "
                "both on the same data and seed with the same number of draws"
            )
    return {name: mean_and_error(a[name] - b[name]) for name in COMPARED}


def mean_and_error(x: Array) -> tuple[float, float]:
    """Return the mean of independent numbers, and its standard error."""
    return float(x.mean()), float(x.std(ddof=1)) / math.sqrt(len(x))


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
