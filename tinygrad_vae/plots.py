"""Figures of a training run, written to picture files.

It knows arrays and matplotlib, which is imported when something is drawn, without a display. It knows nothing of
models: what to draw has been computed before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .arrays import Array, to_host
from .extras import require

Target = str | Path | BinaryIO
"""Where a picture goes: a file, whose suffix says in which format, or an open one, which gets a PNG."""

INK = "#22303c"
LINE = "#d5dde5"
BLUE, ORANGE = "#2f6db3", "#e0762d"
DPI = 150
GAP = 3
"""Pixels between two images of a mosaic."""

POINTS = 2000
"""How many images are drawn in the latent plane at most; more hide each other."""


def learning_curve(history: Sequence[dict[str, Any]], path: Target) -> None:
    """Draw the bound of training and held-out images over the epochs.

    Args:
        history: rows with ``epoch``, ``bound_train`` and ``bound_held_out``, in nats.
        path: where to write the picture.

    >>> import io
    >>> learning_curve([{"epoch": 1, "bound_train": -30.0, "bound_held_out": -31.0}], io.BytesIO())
    """
    figure, axes = _figure(7, 4.2)
    epochs = [row["epoch"] for row in history]
    lines = [("bound_train", "training", BLUE), ("bound_held_out", "held out", ORANGE)]
    for name, label, colour in lines:
        values = [row[name] for row in history]
        axes.plot(epochs, values, color=colour, linewidth=1.8, marker="o" if len(epochs) < 3 else None, label=label)
        if values:
            axes.annotate(
                f"{label}  {values[-1]:.1f}".replace("-", "\N{MINUS SIGN}"),
                (epochs[-1], values[-1]),
                xytext=(6, 0),
                textcoords="offset points",
                color=colour,
                va="bottom" if values[-1] == max(history[-1][other] for other, _, _ in lines) else "top",
            )
    later = [row[name] for row in history[len(history) // 25 :] for name, _, _ in lines]
    if len(set(later)) > 1:  # the first epochs would take up most of the height
        margin = 0.05 * (max(later) - min(later))
        axes.set_ylim(min(later) - margin, max(later) + margin)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("evidence lower bound (nats per image)")
    _save(figure, path)


def reconstructions(originals: Array, reconstructed: Array, shape: tuple[int, int], path: Target) -> None:
    """Draw images in a row, and below each what came back through the latent vector.

    Args:
        originals: images of 0 and 1, of shape (n, rows * columns).
        reconstructed: probabilities of each pixel, in the same shape.
        shape: (rows, columns) of one image.
        path: where to write the picture.

    >>> import io
    >>> reconstructions(np.eye(4), np.full((4, 4), 0.25), (2, 2), io.BytesIO())
    """
    both = np.concatenate([to_host(originals), to_host(reconstructed)])
    picture = _mosaic(both, shape, columns=len(originals))
    rows, columns = picture.shape[:2]
    figure, axes = _figure(columns / DPI + 1.3, rows / DPI + 0.1)
    axes.imshow(picture)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([rows / 4, rows * 3 / 4], ["original", "reconstruction"])
    axes.tick_params(length=0)
    _save(figure, path)


def images(probabilities: Array, shape: tuple[int, int], path: Target) -> None:
    """Draw images in a square grid, dark where a pixel is likely to be 1.

    Args:
        probabilities: of shape (n, rows * columns).
        shape: (rows, columns) of one image.
        path: where to write the picture.

    >>> import io
    >>> images(np.eye(9), (3, 3), io.BytesIO())
    """
    picture = _mosaic(to_host(probabilities), shape, columns=math.ceil(math.sqrt(len(probabilities))))
    require("matplotlib.image").imsave(path, picture, dpi=DPI)


def latent_plane(means: Array, labels: Array | None, path: Target) -> None:
    """Draw the posterior mean of each image as a point, coloured by its label, at most ``POINTS`` of them.

    With two latent dimensions these are the axes; with more, the first two principal components of the means are, and
    the axes say how much of the variance they show.

    Args:
        means: of shape (n, latent).
        labels: a whole number for each image, or ``None``.
        path: where to write the picture.

    >>> import io
    >>> latent_plane(tg.noise(0).normal((20, 3)), np.arange(20) % 10, io.BytesIO())
    """
    figure, axes = _figure(6.4, 6)
    (x, y), names = _plane(np.asarray(to_host(means), np.float64))
    x, y = x[:POINTS], y[:POINTS]
    if labels is None:
        axes.scatter(x, y, s=14, color=BLUE, alpha=0.7, linewidths=0)
    else:
        present = np.unique(labels)
        colours = require("matplotlib").colormaps["tab10" if len(present) <= 10 else "turbo"]
        for k, label in enumerate(present):
            chosen = labels[:POINTS] == label
            colour = colours(k if len(present) <= 10 else k / (len(present) - 1))
            axes.scatter(x[chosen], y[chosen], s=34, color=colour, marker=f"${label}$", linewidths=0)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.set_aspect("equal", "datalim")
    _save(figure, path)


def _plane(means: Array) -> tuple[tuple[Array, Array], tuple[str, str]]:
    """Return the two coordinates of each point, and what they are."""
    latent = means.shape[1]
    if latent == 1:
        return (means[:, 0], np.zeros(len(means))), ("posterior mean of z", "")
    if latent == 2:
        return (means[:, 0], means[:, 1]), ("posterior mean of $z_1$", "posterior mean of $z_2$")
    _, lengths, directions = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    shares = lengths**2 / max(float((lengths**2).sum()), np.finfo(np.float64).tiny)
    x, y = (means @ directions[:2].T).T
    first, second = (
        f"{name} principal component of the posterior means ({share:.0%} of the variance)"
        for name, share in zip(("1st", "2nd"), shares, strict=False)
    )
    return (x, y), (first, second)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure = require("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def _mosaic(pixels: Array, shape: tuple[int, int], columns: int) -> Any:
    """Return a picture of images side by side, dark on white, with a thin line between them.

    Each pixel of an image is blown up to a whole number of pixels, so that none looks larger than another.
    """
    factor = max(1, 84 // max(shape))
    height, width = shape[0] * factor + GAP, shape[1] * factor + GAP
    canvas = np.full((math.ceil(len(pixels) / columns) * height + GAP, columns * width + GAP), np.nan)
    for i, image in enumerate(pixels):
        top, left = GAP + i // columns * height, GAP + i % columns * width
        canvas[top : top + height - GAP, left : left + width - GAP] = np.kron(
            image.reshape(shape), np.ones((factor, factor))
        )
    colours = require("matplotlib").colormaps["gray_r"].with_extremes(bad=LINE)
    return colours(canvas, bytes=True)


def _save(figure: Any, path: Target) -> None:
    figure.savefig(path, dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.08)
