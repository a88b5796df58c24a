"""The pictures of a run, and what each of them shows of the model."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Array, NoiseStream, special
from ..devices import to_host
from ..vae import VAE
from . import figures
from .checkpoint import write_atomically
from .plane import is_plane
from .run import Run, State

MOST_IMAGES = 10_000
"""The most held-out images in a picture."""

AT_ONCE = 1000
"""The number of images generated together."""

MAP, SMALL_MAP = 20, 15
"""The number of images on each side of the map of two latents, alone and on the sheet."""


def generated(model: VAE, count: int, rng: NoiseStream) -> Iterator[Array]:
    """Give the expected pixels of ``model.generate(count, rng=rng)``, at most ``AT_ONCE`` images at a time."""
    z = model.prior().sample((count,), rng=rng, name="z")
    for start in range(0, count, AT_ONCE):
        yield to_host(model.decode(z[start : start + AT_ONCE]).mean)


def write_pictures(run: Run, state: State, folder: Path, plane: VAE) -> None:
    """Write the pictures of a run into a folder, each whole or not at all; ``plane`` is from ``plane_model``."""
    model, plane, rng = to_host(state.chosen), to_host(plane), run.rng
    shuffled = run.held_out[rng.at("shown").permutation(len(run.held_out))][:MOST_IMAGES]  # may be sorted by label
    pixels, shape, white = run.pixels(shuffled), shuffled.shape, model.likelihood.white
    means = model.encode(pixels).mean.reshape(len(pixels), -1)

    def put(name: str, plot: Callable[..., None], *arguments: Any) -> None:
        picture = io.BytesIO()
        plot(*arguments, picture)
        write_atomically(folder / name, picture.getvalue())

    originals, made = pixels[:12] / white, model.reconstruct(pixels[:12]) / white
    samples = model.generate(100, rng=rng.at("samples")) / white
    put("summary.png", figures.sheet, *_summary(run, state, (originals[:10], made[:10]), samples, plane))
    put("learning_curve.png", figures.learning_curve, state.history)
    both = np.concatenate([originals, made])
    put("reconstructions.png", figures.labelled_images, both, shape, ["original", "reconstruction"])
    put("samples.png", figures.images, samples, shape)
    put("manifold.png", figures.images, _map(plane, MAP), shape)
    put("latent_plane.png", figures.latent_plane, means, shuffled.labels)


def _summary(
    run: Run, state: State, both: tuple[Array, Array], samples: Array, plane: VAE
) -> tuple[str, list[figures.Panel]]:
    """Return the title and the panels of the sheet that shows at a glance what a run has reached."""
    config, shape, side, n = run.config, run.held_out.shape, SMALL_MAP, len(both[0])
    seen = figures.Panel(
        "Images that it had not seen, and what it makes of them",
        f"The encoder turns the {run.held_out.size} pixels of an image into {config.latent} "
        f"number{'s' if config.latent > 1 else ''}, z;\nthe decoder makes the image below it from z alone.",
        figures.mosaic(both, 2 * n, shape, columns=n),
        down=("original", "from z"),
    )
    invented = figures.Panel(
        "Images that nobody made",
        "Here z is noise, drawn from the prior, and the encoder has no part in it.",
        figures.mosaic([samples[:80]], 80, shape, columns=10),
    )
    ticks = [f"{x:.1f}".replace("-", "\N{MINUS SIGN}") if k % 3 == 1 else "" for k, x in enumerate(_quantiles(side))]
    charted = figures.Panel(
        "A map of all the images that two numbers can tell apart",
        "For each point z, the image that the decoder makes of it"
        f"{'' if is_plane(config) else ', in a second model whose z has two numbers'}.\n"
        "Neighbours look alike, since a noisy z must do for its neighbours too.",
        figures.mosaic([_map(plane, side)], side**2, shape, columns=side),
        ticks,
        ticks[::-1],
        ("$z_1$", "$z_2$"),
    )
    title = f"A variational autoencoder of {Path(config.data).name} after {state.step:,} steps"
    return title, [seen, invented, charted]


def _map(plane: VAE, side: int) -> Array:
    """Return the images on a square grid of z, from 0 to 1; each tile stands for the same probability under N(0, I)."""
    quantiles = _quantiles(side).astype(plane.posterior.first.weight.dtype)
    grid = np.stack(np.meshgrid(quantiles, -quantiles), axis=-1).reshape(-1, 2)
    return plane.decode(grid).mean / plane.likelihood.white


def _quantiles(side: int) -> Array:
    return special().ndtri((np.arange(side) + 0.5) / side)
