"""Figures of a training run, written to picture files.

It knows arrays and matplotlib, which is imported when something is drawn, without a display. It knows nothing of
models: what to draw has been computed before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core import Array, to_host
from ..estimators import ESTIMATORS
from ..estimators.compare import Comparison, Measurement
from ..optional import require

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


def labelled_images(
    pixels: Array, shape: tuple[int, int], rows: Sequence[str], path: Target, *, columns: Sequence[str] = ()
) -> None:
    """Draw images in rows that say what they show, as originals above their reconstructions.

    Args:
        pixels: from 0 to 1, of shape (n, rows * columns of an image), row after row, each with as many images.
        shape: (rows, columns) of one image.
        rows: what to write beside each row.
        path: where to write the picture.
        columns: what to write above each image of the first row; nothing by default.

    Raises:
        ValueError: the images do not fill the rows.

    >>> import io
    >>> labelled_images(np.eye(4), (2, 2), ["original", "reconstruction"], io.BytesIO())
    """
    across, rest = divmod(len(pixels), max(1, len(rows)))
    if rest or not across:
        raise ValueError(f"labelled_images: {len(pixels)} images do not fill {len(rows)} rows")
    picture = _mosaic(to_host(pixels), shape, columns=across)
    height, width = picture.shape[:2]
    least = 0.16 * len(rows)  # where images are flat, the words beside them need the room
    figure, axes = _figure(width / DPI + 1.3, max(least, height / DPI) + (0.4 if columns else 0.1))
    axes.imshow(picture)
    axes.spines[:].set_visible(False)
    axes.set_yticks([(height - GAP) * (k + 0.5) / len(rows) for k in range(len(rows))], rows)
    axes.set_xticks([(width - GAP) * (k + 0.5) / across for k in range(len(columns))], columns)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    _save(figure, path)


def latent_histograms(
    draws: Array,
    path: Target,
    *,
    titles: Sequence[str] = (),
    density: Callable[[Array], Array] | None = None,
) -> None:
    """Draw how each latent is spread over the draws of all images, beside the prior.

    Where the two differ much, z from the prior lies where the decoder has seen nothing: the aggregate posterior is not
    the prior (Hoffman and Johnson 2016). A latent that is not used follows the prior exactly.

    Args:
        draws: one z for each image, of shape (n, latent).
        path: where to write the picture.
        titles: what to write above each latent.
        density: from numbers of shape (m,) to the prior's density of each latent there, of shape (m, latent); that of
            the standard normal law by default.

    >>> import io
    >>> latent_histograms(tg.noise(0).normal((50, 3)), io.BytesIO(), titles=["a", "b", "c"])
    """
    draws = np.asarray(to_host(draws), np.float64)
    latent = draws.shape[1]
    across = min(4, latent)
    down = math.ceil(latent / across)
    figure = require("matplotlib.figure").Figure(figsize=(2.3 * across + 0.4, 1.6 * down + 0.5), layout="constrained")
    reach = max(3.5, float(np.abs(draws).max()))
    z = np.linspace(-reach, reach, 200)
    normal = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    prior = np.tile(normal[:, None], latent) if density is None else to_host(density(z))
    for k, axes in enumerate(figure.subplots(down, across, squeeze=False, sharex=True).ravel()):
        axes.set_visible(k < latent)
        if k < latent:
            axes.hist(draws[:, k], bins=25, range=(-reach, reach), density=True, color=BLUE, alpha=0.6)
            axes.plot(z, prior[:, k], color=ORANGE, linewidth=1.6)
            axes.set_title(titles[k] if titles else "", fontsize=9, color=INK)
            axes.set_yticks([])
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(colors=INK, labelsize=8, labelbottom=k >= latent - across)
    figure.supxlabel("a draw of z for each held-out image (bars), and p(z) (line)", fontsize=9, color=INK)
    _save(figure, path)


def images(probabilities: Array, shape: tuple[int, int], path: Target) -> None:
    """Draw images in a square grid, dark where a pixel is bright or likely to be 1.

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


def comparison(found: Comparison, path: Target, title: str = "") -> None:
    """Draw the variance of each estimator, with its standard error, beside what a given accuracy takes.

    A hollow point is biased, and an arrow says that the variance may be larger, or infinite. Estimators without
    variance are named above, and those that were refused are left out.

    Args:
        found: what ``compare_estimators`` returned.
        path: where to write the picture.
        title: what was measured.
    """
    rows = [row for row in found.rows if row.variance > 0 and math.isfinite(row.variance)]
    rows.sort(key=lambda row: row.variance, reverse=True)
    colours = _colours([row.name for row in rows])
    figure = require("matplotlib.figure").Figure(figsize=(9, 1.6 + 0.36 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, label in ((left, "variance of one gradient"), (right, "variance \N{MULTIPLICATION SIGN} seconds")):
        _plain(axes)
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.grid(axis="x", color=LINE)
        axes.set_axisbelow(True)
    for y, row in enumerate(rows):
        for axes, x, error in (
            (left, row.variance, row.variance_error),
            (right, row.work, row.variance_error * row.seconds),
        ):
            _point(axes, x, y, row, colours[row.name], xerr=[[min(error, 0.9 * x)], [error]])
            if row.alarm:
                axes.annotate("", (1.9 * x, y), (1.1 * x, y), arrowprops={"arrowstyle": "->", "color": INK})
    left.set_yticks(range(len(rows)), [f"{row.name}{'  (biased)' if row.biased else ''}" for row in rows])
    left.set_ylim(-0.6, len(rows) - 0.4)
    exact = [row for row in found.rows if row.variance == 0]
    figure.suptitle(_title(title, exact), color=INK, fontsize=11)
    _save(figure, path)


def variances(
    settings: Sequence[float],
    found: Sequence[Comparison],
    theory: Mapping[str, Callable[[float], float]],
    path: Target,
    *,
    knob: str,
    title: str = "",
) -> None:
    """Draw the variance of estimators over the settings of a knob: theory as lines, measurements as points.

    The bars are standard errors. A hollow point is biased, and a triangle says that the variance may be larger, or
    infinite.

    Args:
        settings: the horizontal axis.
        found: what ``compare_estimators`` returned at each setting.
        theory: the variance as a function of the setting, for the estimators whose theory is known.
        path: where to write the picture.
        knob: the name of what is set.
        title: what was measured.
    """
    figure, axes = _figure(8, 5)
    names = [row.name for row in found[-1].rows if any(c[row.name].variance > 0 for c in found)]
    exact = [row for row in found[-1].rows if row.name not in names and not row.refused]
    colours = _colours(names)
    wide = settings[0] > 0 and settings[-1] / settings[0] > 30
    grid = (np.geomspace if wide else np.linspace)(settings[0], settings[-1], 400)
    for name in names:
        if name in theory:
            curve = np.array([theory[name](float(x)) for x in grid])
            shown = np.isfinite(curve) & (curve > 0)
            axes.plot(grid, np.where(shown, curve, np.nan), color=colours[name], linewidth=1.3)
        biased = any(c[name].biased for c in found)
        for x, c in zip(settings, found, strict=True):
            row = c[name]
            if row.variance > 0 and math.isfinite(row.variance):
                error = row.variance_error
                _point(axes, x, row.variance, row, colours[name], yerr=[[min(error, 0.9 * row.variance)], [error]])
        label, face = (f"{name}  (biased)", "white") if biased else (name, colours[name])
        axes.plot([], [], "o-" if name in theory else "o", color=colours[name], mfc=face, markersize=5, label=label)
    if any(c[name].alarm for c in found for name in names):
        axes.plot([], [], "^", color=INK, markersize=6, label="heavy tail: may be larger")
    axes.set_yscale("log")
    lowest = min((c[name].variance for c in found for name in names if c[name].variance > 0), default=1.0)
    axes.set_ylim(bottom=lowest / 3)
    if wide:
        axes.set_xscale("log", base=2)
    axes.set_xlabel(knob)
    axes.set_ylabel("variance of one gradient")
    axes.set_title(_title(title, exact), color=INK, fontsize=11)
    axes.grid(color=LINE)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelcolor=INK)
    _save(figure, path)


def _point(axes: Any, x: float, y: float, row: Measurement, colour: Any, **errors: Any) -> None:
    face = "white" if row.biased else colour
    marker = "^" if row.alarm else "o"
    axes.errorbar(x, y, fmt=marker, color=colour, mfc=face, markersize=5.5, elinewidth=1, capsize=2, **errors)


def _title(title: str, exact: Sequence[Measurement]) -> str:
    names = [f"{row.name}{' (whose error is not measured)' if row.alarm else ''}" for row in exact]
    return (title + (f"\nno variance: {', '.join(names)}" if names else "")).strip()


def _colours(names: Sequence[str]) -> dict[str, Any]:
    """Return a colour for each estimator, the same one for a name in every picture."""
    first = ["pathwise", "score-function"]
    order = first + sorted(set(ESTIMATORS) - set(first))
    palette = require("matplotlib").colormaps["tab20"]
    wheel = [*range(0, 20, 2), *range(1, 20, 2)]
    return {
        name: palette(wheel[order.index(name.partition(" for ")[0]) % 20])
        if name.partition(" for ")[0] in order
        else INK
        for name in names
    }


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
    _plain(axes)
    return figure, axes


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


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
    return colours(np.clip(canvas, 0, 1), bytes=True)


def _save(figure: Any, path: Target) -> None:
    figure.savefig(path, dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.08)
