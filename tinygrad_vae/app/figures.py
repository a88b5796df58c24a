"""Figures of a training run, made of arrays with matplotlib, which is imported when the first one is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core import Array
from ..devices import to_host
from ..optional import require

Target = str | Path | BinaryIO
"""Where a picture is written: a file, whose suffix says the format, or an open file, which gets a PNG."""

INK = "#22303c"
LINE = "#d5dde5"
BLUE, ORANGE = "#2f6db3", "#e0762d"
DPI = 150
GAP = 3
"""Pixels between two images of a mosaic."""

POINTS = 2000
"""The most images in the latent plane; more hide each other."""

WRITTEN_LABELS = 40
"""With up to this many different labels a point is drawn as its label, with more as a dot in the label's colour."""

WIDEST = 8000
"""About the largest width of a mosaic of enlarged images, in pixels."""


@dataclass(frozen=True)
class Panel:
    """A part of a sheet: words above a picture of shape (height, width, 3), and at its columns and rows."""

    heading: str
    caption: str
    picture: Array
    across: Sequence[str] = ()
    down: Sequence[str] = ()
    labels: tuple[str, str] = ("", "")  # of the columns and of the rows


def learning_curve(history: Sequence[dict[str, Any]], path: Target) -> None:
    """Show ``bound_train`` and ``bound_held_out`` over ``epoch``, the columns of a history in nats."""
    figure, axes = new_figure(7, 4.2)
    epochs = [row["epoch"] for row in history]
    lines = [("bound_train", "training", BLUE), ("bound_held_out", "held out", ORANGE)]
    for name, label, colour in lines:
        values = [row[name] for row in history]
        axes.plot(epochs, values, color=colour, linewidth=1.8, marker="o" if len(epochs) < 3 else None)
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
    axes.set(xlabel="epoch", ylabel="evidence lower bound (nats per image)")
    save(figure, path)


def labelled_images(pixels: Array, shape: tuple[int, ...], rows: Sequence[str], path: Target) -> None:
    """Show images in rows, each with words beside it, such as originals above their reconstructions.

    ``pixels`` holds row after row, each with as many images; the other arguments are as in ``mosaic``.
    """
    across, rest = divmod(len(pixels), max(1, len(rows)))
    if rest or not across:
        raise ValueError(f"labelled_images: {len(pixels)} images do not fill {len(rows)} rows")
    picture = mosaic([pixels], len(pixels), shape, columns=across)
    height, width = picture.shape[:2]
    least = 0.16 * len(rows)  # where images are flat, the words beside them need the room
    figure, axes = new_figure(width / DPI + 1.3, max(least, height / DPI) + 0.1)
    _show(axes, picture, (), rows)
    save(figure, path)


def sheet(title: str, panels: Sequence[Panel], path: Target) -> None:
    """Show three panels with their headings and captions on one sheet: two on the left, a large one on the right."""
    ratios = [panel.picture.shape[0] / panel.picture.shape[1] for panel in panels]  # all lengths are in inches
    heads = [0.58 + 0.21 * (panel.caption.count("\n") + 1) for panel in panels]
    left, top, words = 5.6, 0.45, 0.85  # the width of the column, the room for the title, and that beside a panel
    above, below = left * ratios[0], left * ratios[1]
    high = max(2.0, heads[0] + above + heads[1] + below - heads[2] - 0.45)
    width, height = words + left + words + max(left, high / ratios[2]) + 0.2, top + heads[2] + high + 0.6
    figure = require("matplotlib.figure").Figure(figsize=(width, height))
    figure.text(words / width, 1 - 0.35 / height, title, fontsize=16, color=INK)
    places = (
        (words, top + heads[0], left, above),
        (words, top + heads[0] + above + heads[1], left, below),
        (words + left + words, top + heads[2], high / ratios[2], high),
    )
    for (x, y, w, h), panel in zip(places, panels, strict=True):
        axes = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
        _show(axes, panel.picture, panel.across, panel.down)
        written = {"xycoords": "axes fraction", "textcoords": "offset points", "color": INK, "linespacing": 1.35}
        axes.annotate(panel.caption, (0, 1), (0, 6), fontsize=9.5, **written)
        lines = panel.caption.count("\n") + 1
        axes.annotate(panel.heading, (0, 1), (0, 11 + 15 * lines), fontsize=12.5, fontweight="bold", **written)
        axes.set_xlabel(panel.labels[0], color=INK)
        axes.set_ylabel(panel.labels[1], color=INK, rotation=0, labelpad=10)
    save(figure, path)


def _show(axes: Any, mosaic: Array, across: Sequence[str], down: Sequence[str]) -> None:
    """Show a mosaic with words below its columns and beside its rows."""
    axes.imshow(mosaic)
    axes.spines[:].set_visible(False)
    for axis, length, words in ((axes.xaxis, mosaic.shape[1], across), (axes.yaxis, mosaic.shape[0], down)):
        axis.set_ticks([(length - GAP) * (k + 0.5) / len(words) for k in range(len(words))], words)
    axes.tick_params(length=0, colors=INK)


def images(pixels: Array | Iterable[Array], shape: tuple[int, ...], path: Target, count: int | None = None) -> None:
    """Show images, or ``count`` of them in parts, in a square grid; the arguments are as in ``mosaic``."""
    parts, count = ([pixels], len(pixels)) if isinstance(pixels, np.ndarray) else (pixels, count or 0)
    picture = mosaic(parts, count, shape, columns=math.ceil(math.sqrt(count)))
    require("matplotlib.image").imsave(path, picture, format=None if isinstance(path, (str, Path)) else "png", dpi=DPI)


def latent_plane(means: Array, labels: Array | None, path: Target) -> None:
    """Show the posterior mean of each image, of shape (n, latent), as a point in the colour of its label.

    With more than two latents the axes are the first two principal components, and say how much variance they show.
    """
    figure, axes = new_figure(6.4, 6)
    (x, y), names = _plane(np.asarray(to_host(means), np.float64))
    x, y = x[:POINTS], y[:POINTS]
    present, ranks = np.unique([] if labels is None else labels[:POINTS], return_inverse=True)
    if 0 < len(present) <= WRITTEN_LABELS:
        colours = require("matplotlib").colormaps["tab10" if len(present) <= 10 else "turbo"]
        for k, label in enumerate(present):
            colour = colours(k if len(present) <= 10 else k / (len(present) - 1))
            axes.scatter(x[ranks == k], y[ranks == k], s=34, color=colour, marker=f"${label}$", linewidths=0)
    else:
        look = {"color": BLUE, "alpha": 0.7} if labels is None else {"c": ranks, "cmap": "turbo"}
        axes.scatter(x, y, s=14, linewidths=0, **look)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.set_aspect("equal", "datalim")
    save(figure, path)


def _plane(means: Array) -> tuple[Array, list[str]]:
    """Return the two coordinates of each point, of shape (2, n), and what they are."""
    latent = means.shape[1]
    if latent <= 2:
        names = [f"posterior mean of $z_{k}$" for k in range(1, latent + 1)]
        return np.pad(means.T, ((0, 2 - latent), (0, 0))), [*names, ""][:2]
    _, lengths, directions = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    shares = lengths**2 / max(float((lengths**2).sum()), np.finfo(np.float64).tiny)
    return (means @ directions[:2].T).T, [
        f"{name} principal component of the posterior means ({share:.0%} of the variance)"
        for name, share in zip(("1st", "2nd"), shares, strict=False)
    ]


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return a figure of this size in inches, and its axes."""
    figure = require("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    plain_axes(axes)
    return figure, axes


def plain_axes(axes: Any) -> None:
    """Take away the frame, and colour the rest."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def mosaic(parts: Iterable[Array], count: int, shape: tuple[int, ...], columns: int) -> Array:
    """Return a picture of images side by side, dark on white or in colour, with a thin line between them.

    Each pixel of an image becomes a square of an odd number of pixels, the same for all, so that none looks larger than
    another. The pixel's value stands in the middle of its square; between the middles runs a cubic spline, which shows
    the stroke of a small digit better than a staircase.

    Args:
        parts: arrays of shape (n, pixels), from 0 to 1.
        count: the number of images in all parts.
        shape: (rows, columns) or (rows, columns, 3) of one image.
        columns: how many images stand side by side.

    Returns:
        Bytes of shape (height, width, 3).

    >>> mosaic([np.eye(4)], 4, (2, 2), columns=2).shape
    (173, 173, 3)
    """
    factor = max(1, min(84, WIDEST // columns) // max(shape[:2]))
    factor -= factor % 2 == 0
    height, width = shape[0] * factor + GAP, shape[1] * factor + GAP
    line = [int(LINE[i : i + 2], 16) for i in (1, 3, 5)]
    canvas = np.full((math.ceil(count / columns) * height + GAP, columns * width + GAP, 3), line, np.uint8)
    taller, wider = (_spline(side, factor) for side in shape[:2])
    i = 0
    for part in parts:
        for image in np.clip(to_host(part), 0, 1).astype(np.float64):
            top, left = GAP + i // columns * height, GAP + i % columns * width
            shades = image.reshape(shape) if len(shape) == 3 else 1 - image.reshape(*shape, 1)
            enlarged = np.einsum("ai,ijc,bj->abc", taller, shades, wider, optimize=True)
            canvas[top : top + height - GAP, left : left + width - GAP] = np.rint(255 * np.clip(enlarged, 0, 1))
            i += 1
    return canvas


def _spline(side: int, factor: int) -> Array:
    """Return the matrix that turns a row of pixels into one that is ``factor`` times as long."""
    from scipy.ndimage import zoom

    return zoom(np.eye(side), (factor, 1), order=3, mode="nearest", grid_mode=True)


def save(figure: Any, path: Target) -> None:
    """Write a figure."""
    figure.savefig(path, dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.08)
