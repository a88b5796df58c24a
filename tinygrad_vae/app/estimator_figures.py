"""Figures that compare estimators of a gradient: how noisy each is, and what a given accuracy takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    rows = sorted(filter(_can_be_shown, found.rows), key=lambda row: row.variance, reverse=True)
    figure = require("matplotlib.figure").Figure(figsize=(9, 1.6 + 0.36 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, factor, label in (
        (left, lambda row: 1.0, "variance of one gradient"),
        (right, lambda row: row.seconds, "variance \N{MULTIPLICATION SIGN} seconds"),
    ):
        figures.plain_axes(axes)
        axes.set(xscale="log", xlabel=label, axisbelow=True)
        axes.grid(axis="x", color=LINE)
        for y, row in enumerate(rows):
            x, error = row.variance * factor(row), row.variance_error * factor(row)
            _point(axes, x, y, row, xerr=[[min(error, 0.9 * x)], [error]])
            if row.alarm:
                axes.annotate("", (1.9 * x, y), (1.1 * x, y), arrowprops={"arrowstyle": "->", "color": INK})
    left.set_yticks(range(len(rows)), [_label(row.name, row.biased) for row in rows])
    left.set_ylim(-0.6, len(rows) - 0.4)
    figure.suptitle(_title(title, (row for row in found.rows if row.variance == 0)), color=INK, fontsize=11)
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

    ``found`` has the result of ``compare_estimators`` at each setting, ``theory`` the variance as a function of the
    setting. The bars are standard errors. A hollow point is biased, and a triangle says that the variance may be
    larger, or infinite.
    """
    figure, axes = figures.new_figure(8, 5)
    names = [row.name for row in found[-1].rows if any(c[row.name].variance > 0 for c in found)]
    wide = settings[0] > 0 and settings[-1] / settings[0] > 30
    grid = (np.geomspace if wide else np.linspace)(settings[0], settings[-1], 400)
    for name in names:
        if name in theory:
            curve = np.array([theory[name](float(x)) for x in grid])
            curve[~(np.isfinite(curve) & (curve > 0))] = np.nan
            axes.plot(grid, curve, color=_colour(name), linewidth=1.3)
        for x, row in zip(settings, (c[name] for c in found), strict=True):
            if _can_be_shown(row):
                below = min(row.variance_error, 0.9 * row.variance)
                _point(axes, x, row.variance, row, yerr=[[below], [row.variance_error]])
        biased = any(c[name].biased for c in found)
        look = {"color": _colour(name), "mfc": "white" if biased else _colour(name), "markersize": 5}
        axes.plot([], [], "o-" if name in theory else "o", label=_label(name, biased), **look)
    if any(c[name].alarm for c in found for name in names):
        axes.plot([], [], "^", color=INK, markersize=6, label="heavy tail: may be larger")
    lowest = min((c[name].variance for c in found for name in names if c[name].variance > 0), default=1.0)
    axes.set(yscale="log", xlabel=knob, ylabel="variance of one gradient", axisbelow=True)
    axes.set_ylim(bottom=lowest / 3)
    if wide:
        axes.set_xscale("log", base=2)
    exact = (row for row in found[-1].rows if row.name not in names and not row.refused)
    axes.set_title(_title(title, exact), color=INK, fontsize=11)
    axes.grid(color=LINE)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelcolor=INK)
    figures.save(figure, path)


def _can_be_shown(row: Measurement) -> bool:
    return 0 < row.variance < math.inf


def _point(axes: Any, x: float, y: float, row: Measurement, **errors: Any) -> None:
    look = {"color": _colour(row.name), "mfc": "white" if row.biased else _colour(row.name), "markersize": 5.5}
    axes.errorbar(x, y, fmt="^" if row.alarm else "o", elinewidth=1, capsize=2, **look, **errors)


def _label(name: str, biased: object) -> str:
    return f"{name}  (biased)" if biased else name


def _title(title: str, exact: Iterable[Measurement]) -> str:
    names = [f"{row.name}{' (whose error is not measured)' if row.alarm else ''}" for row in exact]
    return (title + (f"\nno variance: {', '.join(names)}" if names else "")).strip()


def _colour(name: str) -> Any:
    """Return the colour of an estimator, the same in every picture."""
    first = ["pathwise", "score-function"]
    order, name = first + sorted(set(ESTIMATORS) - set(first)), name.partition(" for ")[0]
    wheel = [*range(0, 20, 2), *range(1, 20, 2)]
    return require("matplotlib").colormaps["tab20"](wheel[order.index(name) % 20]) if name in order else INK
