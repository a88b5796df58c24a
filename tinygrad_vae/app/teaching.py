"""The commands that teach: what blocks the gradient of a step, and how estimators of a gradient compare."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from ..core import NoiseStream, Tensor, noise, reparameterize
from ..draw import draw, draw_side_by_side
from ..estimators.compare import compare_estimators
from ..estimators.measurement import Comparison
from ..guard.report import explain
from ..optional import require
from ..vae import VAE, elbo
from . import estimator_figures
from .data import load
from .progress import progress_bar
from .textbook import COSTS, TextbookCost, sweep

STEP = """\
import tinygrad_vae as tg

model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
images = tg.Tensor(tg.noise(1).uniform((8, 64)) < 0.3, "images")
bound = tg.elbo(model, images, rng=tg.noise(2))
loss = -tg.mean(bound)
"""
"""The training step that ``explain`` shows, runs and explains."""


def explain_command(arguments: argparse.Namespace) -> int:
    """Print and draw what blocks the gradient of a training step, and what opens it."""
    step: dict[str, Any] = {}
    exec(compile(STEP, "step.py", "exec"), step)
    model, loss = step["model"], step["loss"]
    opened = reparameterize(loss)
    titles = ("z is drawn: the gradient is cut", "reparameterized: the gradient gets through")
    if arguments.out.suffix == ".html":  # the page lets the reader find that out
        titles = ("z is drawn", "reparameterized")
    draw_side_by_side(loss, opened, arguments.out, titles=titles, wrt=model)
    print("A training step (step.py):\n")
    print("\n".join(f"  {i}  {line}" for i, line in enumerate(STEP.splitlines(), 1)))
    print(f"\nIts loss, {float(loss.value):.4f}, and what stands between it and the weights:\n")
    print(explain(loss, model))
    print("\n" + draw(loss, wrt=model, title="The graph of the loss"))
    print(f"\nAfter tg.reparameterize(loss), with the same value, {float(opened.value):.4f}:\n")
    print(explain(opened, model))
    print("\n" + draw(opened, wrt=model, title="The graph of the reparameterized loss"))
    print(f"\nBoth graphs: {arguments.out}")
    return 0


MODELS = {"vae": ("gaussian", 2), "bits": ("bernoulli", 4)}
"""The models whose bound can be measured: their posterior, and their number of latent variables."""

IMAGES = 8
"""The number of images whose mean bound is measured."""


def estimators_command(arguments: argparse.Namespace) -> int:
    """Compare estimators of one gradient, of a textbook cost or of the bound of a VAE."""
    require("matplotlib.figure")
    with progress_bar("measuring", 1) as advance:
        of = _textbook if arguments.cost in COSTS else _bound
        report = of(arguments, noise(arguments.seed), lambda done, total: advance(done / total))
    print(f"{report}\n\nThe picture: {arguments.out}")
    return 0


def _textbook(arguments: argparse.Namespace, rng: NoiseStream, progress: Callable[[int, int], None]) -> str:
    cost, runs = COSTS[arguments.cost], arguments.runs
    found = sweep(cost, rng=rng, runs=runs, progress=progress)
    title = f"gradient of E {cost.title}"
    estimator_figures.variances(cost.settings, found, cost.variances, arguments.out, knob=cost.knob, title=title)
    said = textwrap.fill(f"The {title}: {runs} gradients of each estimator. {cost.lesson}", 100)
    shown = found[cost.settings.index(cost.shown)]
    return (
        f"{said}\n\nAt {cost.knob} = {cost.shown:g}, where the truth is {cost.gradient(cost.shown):.4g}:\n\n{shown}\n\n"
        f"The variance, and what theory says of it:\n\n{_variances(cost, found)}"
    )


def _variances(cost: TextbookCost, found: Sequence[Comparison]) -> str:
    """Return a table of variances, a column for each setting."""
    lines = [f"{cost.knob:<20}" + "".join(f"{setting:>9g}" for setting in cost.settings)]
    for name in (row.name for row in found[-1].rows):
        lines.append(f"{name:<20}" + "".join(f"{c[name].variance:>9.3g}" for c in found))
        if name in cost.variances:
            lines.append(f"{'  in theory':<20}" + "".join(f"{cost.variances[name](x):>9.3g}" for x in cost.settings))
    return "\n".join(lines)


def _bound(arguments: argparse.Namespace, rng: NoiseStream, progress: Callable[[int, int], None]) -> str:
    kind, latent = MODELS[arguments.cost]
    images = load("digits")[0].pixels[:IMAGES]
    model = VAE.init(images.shape[1], hidden=(16,), latent=latent, posterior=kind, rng=rng.at("weights"))

    def loss(encoder: dict[str, Any], rng: NoiseStream) -> Tensor:
        bound: Any = elbo(dataclasses.replace(model, **encoder), images, rng=rng)
        return -bound

    encoder = {"encoder": model.encoder, "posterior": model.posterior}
    found = compare_estimators(loss, encoder, rng=rng, runs=arguments.runs, progress=progress)
    title = f"gradient of the bound in the encoder of a VAE with {latent} {kind} latent variables"
    estimator_figures.comparison(found, arguments.out, title=f"{title}, {IMAGES} images")
    said = (
        f"The {title}, before its training: {arguments.runs} gradients of each estimator, of the mean over {IMAGES} "
        "images."
    )
    best = found.best
    return f"{textwrap.fill(said, 100)}\n\n{found}\n\nThe least variance x time of the unbiased ones: {best.name}"
