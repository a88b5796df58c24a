"""The pictures of a run: which there are, and what each of them shows of the model."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from ..core import Array, NoiseStream
from ..devices import to_host
from ..distributions import Categorical
from ..vae import VAE, kl_of_each_latent
from . import figures
from .checkpoint import write_atomically
from .config import TrainConfig
from .run import Run, State
from .run_folder import LATENT_PICTURES, MANIFOLD, PICTURES

MOST_IMAGES = 10_000
"""How many held-out images the pictures look at, at most."""

MOST_LATENTS = 16
"""How many latents the pictures show at most, the most informative first."""

REACHES = (0.5, 1.0, 1.5, 2.0, math.inf)
"""How far from 0 each latent may lie in the rows of the truncated samples."""

AT_ONCE = 1000
"""How many images are generated together."""


def pictures(config: TrainConfig) -> tuple[str, ...]:
    """Return the names of the pictures of a run with this configuration."""
    if "gaussian" not in config.posterior:
        return PICTURES
    return (*PICTURES, *LATENT_PICTURES, *([MANIFOLD] if config.latent == 2 and not config.components else []))


def generated(model: VAE, count: int, rng: NoiseStream) -> Iterator[Array]:
    """Give the expected pixels of ``model.generate(count, rng=rng)``, at most ``AT_ONCE`` images at a time."""
    z = model.prior().sample((count,), rng=rng, name="z")
    for start in range(0, count, AT_ONCE):
        yield to_host(model.decode(z[start : start + AT_ONCE]).mean)


def write_pictures(run: Run, state: State, folder: Path) -> None:
    """Write the pictures of a run into a folder, each whole or not at all."""
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

    both = np.concatenate([pixels[:12], model.reconstruct(pixels[:12])]) / white
    put("learning_curve.png", figures.learning_curve, state.history)
    put("reconstructions.png", figures.labelled_images, both, shape, ["original", "reconstruction"])
    put("samples.png", figures.images, model.generate(100, rng=rng.at("samples")) / white, shape)
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
    if MANIFOLD in pictures(run.config):
        side = 20
        quantiles = ndtri((np.arange(side) + 0.5) / side).astype(dtype)
        grid = np.stack(np.meshgrid(quantiles, -quantiles), axis=-1).reshape(-1, 2)
        put(MANIFOLD, figures.images, decoded(grid), shape)


def _truncated(u: Array, reach: float) -> Array:
    """Return standard normal draws within ``reach``, made from the uniform draws u."""
    low = ndtr(-reach)
    return ndtri(low + u * (1 - 2 * low))
