"""The pictures of a run: which there are, and what each of them shows of the model."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Array, NoiseStream, special
from ..devices import to_host
from ..distributions import Categorical
from ..vae import VAE, kl_of_each_latent
from . import figures
from .checkpoint import write_atomically
from .config import TrainConfig
from .plane import is_plane
from .run import Run, State
from .run_folder import LATENT_PICTURES, PICTURES

MOST_IMAGES = 10_000
"""How many held-out images the pictures look at, at most."""

MOST_LATENTS = 16
"""How many latents the pictures show at most, the most informative first."""

REACHES = (0.5, 1.0, 1.5, 2.0, math.inf)
"""How far from 0 each latent may lie in the rows of the truncated samples."""

AT_ONCE = 1000
"""How many images are generated together."""

MAP, SMALL_MAP = 20, 15
"""How many images each side of the map of two latents holds, alone and on the sheet."""


def pictures(config: TrainConfig) -> tuple[str, ...]:
    """Return the names of the pictures of a run with this configuration."""
    return (*PICTURES, *LATENT_PICTURES) if "gaussian" in config.posterior else PICTURES


def generated(model: VAE, count: int, rng: NoiseStream) -> Iterator[Array]:
    """Give the expected pixels of ``model.generate(count, rng=rng)``, at most ``AT_ONCE`` images at a time."""
    z = model.prior().sample((count,), rng=rng, name="z")
    for start in range(0, count, AT_ONCE):
        yield to_host(model.decode(z[start : start + AT_ONCE]).mean)


def write_pictures(run: Run, state: State, folder: Path, plane: VAE) -> None:
    """Write the pictures of a run into a folder, each whole or not at all; ``plane`` is from ``plane_model``."""
    model, rng = to_host(state.chosen), run.rng
    shuffled = run.held_out[rng.at("shown").permutation(len(run.held_out))][:MOST_IMAGES]  # may be sorted by label
    pixels, shape = run.pixels(shuffled), shuffled.shape
    white = model.likelihood.white
    q = model.encode(pixels)

    def decoded(z: Array) -> Array:
        return model.decode(z).mean / white

    def put(name: str, plot: Callable[..., None], *arguments: Any, **options: Any) -> None:
        picture = io.BytesIO()
        plot(*arguments, picture, **options)
        write_atomically(folder / name, picture.getvalue())

    originals, made = pixels[:12] / white, model.reconstruct(pixels[:12]) / white
    samples = model.generate(100, rng=rng.at("samples")) / white
    plane = to_host(plane)
    title, panels = _summary(run, state, (originals[:10], made[:10]), samples, plane)
    put("summary.png", lambda file: figures.sheet(title, panels, file))
    both = np.concatenate([originals, made])
    put("learning_curve.png", figures.learning_curve, state.history)
    put("reconstructions.png", figures.labelled_images, both, shape, ["original", "reconstruction"])
    put("samples.png", figures.images, samples, shape)
    put("manifold.png", figures.images, _map(plane, MAP), shape)
    put("latent_plane.png", figures.latent_plane, q.mean.reshape(len(pixels), -1), shuffled.labels)
    if "gaussian" not in run.config.posterior:
        return

    means, dtype = q.mean, q.mean.dtype
    count = min(6, len(pixels) // 2)
    blend = np.linspace(0, 1, 10, dtype=dtype)[:, None]
    ways = [decoded((1 - blend) * a + blend * b) for a, b in zip(means[:count], means[count : 2 * count], strict=True)]
    ends = pixels / white
    between = np.concatenate([np.concatenate([ends[[k]], way, ends[[count + k]]]) for k, way in enumerate(ways)])
    columns = ["original", *[""] * 10, "original"]
    put("interpolations.png", figures.labelled_images, between, shape, [""] * count, columns=columns)

    mixture = model.learned_prior
    independent = run.config.posterior == "gaussian" and mixture is None  # the divergence is a sum over latents
    rates = kl_of_each_latent(q, model.prior()).mean(axis=0) if independent else None
    shown = np.argsort(-(means.var(axis=0) if rates is None else rates), kind="stable")[:MOST_LATENTS]
    moved = np.linspace(-3, 3, 11, dtype=dtype)
    draws = q.sample(rng=rng.at("aggregate"))
    z = np.tile(means[0], (len(shown), len(moved), 1))
    for row, latent in zip(z, shown, strict=True):  # over three standard deviations of the aggregate posterior
        of = draws[:, latent]
        row[:, latent] = moved if mixture is None else of.mean() + of.std() * moved
    names = [f"$z_{{{k + 1}}}$" + ("" if rates is None else f"   {rates[k]:.2f} nats") for k in shown]
    steps = [f"{x:.2g}".replace("-", "\N{MINUS SIGN}") for x in moved]
    put("traversals.png", figures.labelled_images, decoded(z).reshape(-1, shuffled.size), shape, names, columns=steps)
    density = None if mixture is None else lambda z: mixture.marginals(z)[:, shown]
    put("latent_histograms.png", figures.latent_histograms, draws[:, shown], titles=names, density=density)

    u = rng.at("truncated").uniform((10, run.config.latent))
    inside = np.stack([_truncated(u, reach) for reach in REACHES]).astype(dtype)
    if mixture is not None:  # within so many standard deviations of a component, the same one in each row
        k = Categorical(logits=mixture.logits).sample((len(u),), rng=rng.at("component"))
        inside = mixture.mean[k] + np.exp(mixture.log_scale[k]) * inside
    distance = "$|z_k|$" if mixture is None else "distance"
    rows = ["any z" if math.isinf(reach) else f"{distance} < {reach:g}" for reach in REACHES]
    put("truncated_samples.png", figures.labelled_images, decoded(inside.reshape(-1, run.config.latent)), shape, rows)


def _summary(
    run: Run, state: State, both: tuple[Array, Array], samples: Array, plane: VAE
) -> tuple[str, tuple[figures.Panel, figures.Panel, figures.Panel]]:
    """Return the title and the panels of the sheet that shows at a glance what a run has reached."""
    config, shape, side = run.config, run.held_out.shape, SMALL_MAP
    numbers = f"{config.latent} number{'s' if config.latent > 1 else ''}"
    originals, made = both
    n = len(originals)
    seen = figures.Panel(
        "Images that it had not seen, and what it makes of them",
        f"The encoder turns the {run.held_out.size} pixels of an image into {numbers}, z;\n"
        "the decoder makes the image below it from z alone.",
        figures.mosaic([originals, made], 2 * n, shape, columns=n),
        down=("original", "from z"),
    )
    invented = figures.Panel(
        "Images that nobody made",
        "Here z is noise, drawn from the prior, and the encoder has no part in it.",
        figures.mosaic([samples[:80]], 80, shape, columns=10),
    )
    at = [f"{x:.1f}".replace("-", "\N{MINUS SIGN}") for x in _quantiles(side)]
    ticks = [x if k % 3 == 1 else "" for k, x in enumerate(at)]
    whose = "" if is_plane(config) else ", in a second model whose z has two numbers"
    charted = figures.Panel(
        "A map of all the images that two numbers can tell apart",
        f"For each point z, the image that the decoder makes of it{whose}.\n"
        "Neighbours look alike, since a noisy z must do for its neighbours too.",
        figures.mosaic([_map(plane, side)], side**2, shape, columns=side),
        ticks,
        ticks[::-1],
        ("$z_1$", "$z_2$"),
    )
    return f"A variational autoencoder of {Path(config.data).name} after {state.step:,} steps", (
        seen,
        invented,
        charted,
    )


def _map(plane: VAE, side: int) -> Array:
    """Return the images on a square grid of z, from 0 to 1; each tile stands for the same probability under N(0, I)."""
    quantiles = _quantiles(side).astype(plane.posterior.first.weight.dtype)
    grid = np.stack(np.meshgrid(quantiles, -quantiles), axis=-1).reshape(-1, 2)
    return plane.decode(grid).mean / plane.likelihood.white


def _quantiles(side: int) -> Array:
    return special().ndtri((np.arange(side) + 0.5) / side)


def _truncated(u: Array, reach: float) -> Array:
    """Return standard normal draws within ``reach``, made from the uniform draws u."""
    low = special().ndtr(-reach)
    return special().ndtri(low + u * (1 - 2 * low))
