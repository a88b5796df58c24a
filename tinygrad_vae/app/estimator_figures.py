"""Figures that compare estimators of a gradient: how noisy each is, and what a given accuracy takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..estimators.measurement import Comparison, Measurement
from ..guard.report import ESTIMATORS
from ..optional import require
from . import figures
from .figures import INK, LINE, Target


def comparison(found: Comparison, path: Target, title: str = "") -> None:
    """Show the variance of each estimator, with its standard error, beside variance times seconds.

    A hollow point is biased, and an arrow says that the variance may be larger, or infinite. Estimators without
    variance are named above, and those that were refused are left out.
    """
    rows = [row for row in found.rows if row.variance > 0 and math.isfinite(row.variance)]
    rows.sort(key=lambda row: row.variance, reverse=True)
    colours = _colours([row.name for row in rows])
    figure = require("matplotlib.figure").Figure(figsize=(9, 1.6 + 0.36 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, label in ((left, "variance of one gradient"), (right, "variance \N{MULTIPLICATION SIGN} seconds")):
        figures.plain_axes(axes)
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
    figures.save(figure, path)


def variances(
    settings: Sequence[float],
    found: Sequence[Comparison],
    theory: Mapping[str, Callable[[float], float]],
    path: Target,
    *,
    knob: str,
    title: str = "",
) -> None:
    """Show the variance of estimators over the settings of a knob: theory as lines, measurements as points.

    The bars are standard errors. A hollow point is biased, and a triangle says that the variance may be larger, or
    infinite.

    Args:
        settings: the horizontal axis.
        found: the result of ``compare_estimators`` at each setting.
        theory: the variance as a function of the setting, for the estimators whose theory is known.
        path: where to write the picture.
        knob: the name of the setting.
        title: the cost.
    """
    figure, axes = figures.new_figure(8, 5)
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
    figures.save(figure, path)


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
