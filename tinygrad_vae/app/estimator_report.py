"""The command ``tinygrad-vae estimators``: it compares estimators of one gradient, in a table and a picture."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..core import NoiseStream, Tensor, noise
from ..estimators.compare import compare_estimators
from ..estimators.measurement import Comparison
from ..vae import VAE, elbo
from . import estimator_figures
from .data import load
from .textbook import COSTS, TextbookCost, sweep

MODELS = {"vae": ("gaussian", 2), "bits": ("bernoulli", 4)}
"""The models whose bound can be measured: the kind of latent variables, and how many."""

IMAGES = 8
"""The bound is the mean over so many images."""

Progress = Callable[[int, int], None]


def measure(name: str, runs: int, seed: int, out: Path, progress: Progress) -> str:
    """Compare estimators on one of ``COSTS`` or ``MODELS``, write the picture, and return the report."""
    rng = noise(seed)
    if name in COSTS:
        return _textbook(COSTS[name], runs, rng, out, progress)
    return _bound(name, runs, rng, out, progress)


def _textbook(cost: TextbookCost, runs: int, rng: NoiseStream, out: Path, progress: Progress) -> str:
    found = sweep(cost, rng=rng, runs=runs, progress=progress)
    title = f"gradient of E {cost.title}"
    estimator_figures.variances(cost.settings, found, cost.variances, out, knob=cost.knob, title=title)
    shown = found[cost.settings.index(cost.shown)]
    truth = f"the truth is {cost.gradient(cost.shown):.4g}"
    return "\n\n".join(
        [
            textwrap.fill(f"The {title}: {runs} gradients of each estimator. {cost.lesson}", 100),
            f"At {cost.knob} = {cost.shown:g}, where {truth}:\n\n{shown}",
            f"The variance, and what theory says of it:\n\n{_variances(cost, found)}",
        ]
    )


def _variances(cost: TextbookCost, found: Sequence[Comparison]) -> str:
    """Return a table of variances, a column for each setting."""
    lines = [f"{cost.knob:<20}" + "".join(f"{setting:>9g}" for setting in cost.settings)]
    for name in (row.name for row in found[-1].rows):
        lines.append(f"{name:<20}" + "".join(_number(c[name].variance) for c in found))
        if name in cost.variances:
            lines.append(f"{'  in theory':<20}" + "".join(_number(cost.variances[name](x)) for x in cost.settings))
    return "\n".join(lines)


def _number(x: float) -> str:
    return f"{x:>9.3g}"


def _bound(name: str, runs: int, rng: NoiseStream, out: Path, progress: Progress) -> str:
    kind, latent = MODELS[name]
    images = load("digits")[0].pixels[:IMAGES]
    model = VAE.init(images.shape[1], hidden=(16,), latent=latent, posterior=kind, rng=rng.at("weights"))

    def loss(encoder: dict[str, Any], rng: NoiseStream) -> Tensor:
        bound: Any = elbo(dataclasses.replace(model, **encoder), images, rng=rng)
        return -bound

    encoder = {"encoder": model.encoder, "posterior": model.posterior}
    found = compare_estimators(loss, encoder, rng=rng, runs=runs, progress=progress)
    title = f"gradient of the bound in the encoder of a VAE with {latent} {kind} latent variables"
    estimator_figures.comparison(found, out, title=f"{title}, {IMAGES} images")
    best = found.best
    said = f"The {title}, before its training: {runs} gradients of each estimator, of the mean over {IMAGES} images."
    return f"{textwrap.fill(said, 100)}\n\n{found}\n\nThe least variance x time of the unbiased ones: {best.name}"
