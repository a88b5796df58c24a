"""What a comparison of estimators found: a table of means, variances and costs, and whether to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from ..core import Array, special

ALLOWED = 4.5  # standard errors; by chance one honest comparison in 150 000 is further off
CHANCE = 1e-8  # of an alarm for two estimators that agree, were their means normal
FEWEST = 20  # runs, at least, for a variance
ROUNDING = 1e-12  # how far apart, relative to their mean, gradients are that are the same but for rounding


@dataclass(frozen=True)
class Measurement:
    """What one estimator did: a row of a ``Comparison``."""

    name: str  # the estimator's; with the node that it was used for, where others took part
    mean: Array = field(default_factory=lambda: np.full(1, np.nan))  # gradient of all runs, as one vector
    standard_error: Array = field(default_factory=lambda: np.full(1, np.nan))  # of the mean, for each element
    variance: float = math.nan  # of the gradient of one run, summed over the elements
    variance_error: float = math.nan  # the standard error of the variance
    seconds: float = math.nan  # the median time of one gradient: rewriting the graph, and going back through it
    nodes: int = 0  # of the rewritten graph
    biased: str = ""  # why it is biased
    alarm: str = ""  # why the numbers are not to be trusted
    refused: str = ""  # why it gave no gradient; the numbers are then nan

    @property
    def signal_to_noise(self) -> float:
        """The length of the mean gradient by the standard deviation of one run."""
        length = float(np.linalg.norm(self.mean))
        return length / math.sqrt(self.variance) if self.variance else math.inf

    @property
    def work(self) -> float:
        """Variance x seconds, the price of a given accuracy: averaging n runs divides the variance by n."""
        return self.variance * self.seconds


@dataclass(frozen=True)
class Comparison:
    """Estimators side by side, the best first; ``str()`` is a table."""

    rows: list[Measurement]  # one for each estimator
    runs: int  # how many gradients of each were taken

    @property
    def best(self) -> Measurement:
        """The unbiased estimator that takes the least work, of those whose numbers can be trusted if there are any.

        Raises:
            ValueError: there is none.
        """
        rows = [row for row in self.rows if not row.refused and not row.biased]
        rows = [row for row in rows if not row.alarm] or [row for row in rows if math.isfinite(row.variance)]
        if not rows:
            raise ValueError(f"no unbiased estimator gave a gradient here:\n{self}")
        return min(rows, key=lambda row: row.work)

    def __getitem__(self, name: str) -> Measurement:
        """Return the row of that name, or the only one whose name begins with it."""
        rows = [r for r in self.rows if r.name == name] or [r for r in self.rows if r.name.startswith(f"{name} for ")]
        if len(rows) != 1:
            raise KeyError(
                f"{name!r} is the name of {len(rows)} rows; there are: {', '.join(r.name for r in self.rows)}"
            )
        return rows[0]

    def __str__(self) -> str:
        width = max(16, *(len(row.name) for row in self.rows))
        lines = [
            f"{'estimator':<{width}}{'gradient':>11}{'± error':>9}{'variance':>11}{'± error':>9}"
            f"{'signal/noise':>14}{'µs':>8}{'variance x s':>14}"
        ]
        for row in self.rows:
            if row.refused:
                lines.append(f"{row.name:<{width}}  refused: {row.refused}")
                continue
            value = row.mean.item() if row.mean.size == 1 else float(np.linalg.norm(row.mean))
            error = float(np.linalg.norm(row.standard_error))
            lines.append(
                f"{row.name:<{width}}{value:>11.4g}{error:>9.2g}{row.variance:>11.4g}{row.variance_error:>9.2g}"
                f"{row.signal_to_noise:>14.3g}{1e6 * row.seconds:>8.0f}{row.work:>14.3g}"
                f"{f'  BIASED: {row.biased}' if row.biased else ''}{f'  {row.alarm}' if row.alarm else ''}"
            )
        if any(row.mean.size > 1 for row in self.rows):
            lines.append("(of a gradient with several elements: its length, and the sum of their variances)")
        return "\n".join(lines)


def with_disagreements(rows: list[Measurement]) -> list[Measurement]:
    """Return the rows, with an alarm for those whose mean differs from what most others found by more than chance.

    All unbiased estimators have one mean. One that is calm and elsewhere has its noise in draws that are too rare to
    show up in the runs: REBAR does where the cost jumps for all that a relaxed draw can tell.
    """
    trusted = [row for row in rows if not (row.refused or row.biased or row.alarm)]
    against = {id(row): [other for other in trusted if _apart(row, other)] for row in trusted}
    fewest = min(map(len, against.values()), default=0)
    most = {key for key, others in against.items() if len(others) == fewest}
    if len(most) == len(trusted):  # there is no majority
        most = set()
    found = []
    for row in rows:
        others = [] if id(row) in most else against.get(id(row), [])
        named = [other.name for other in others if id(other) in most] or [other.name for other in others]
        found.append(replace(row, alarm=f"DISAGREES with {', '.join(named)}") if named else row)
    return found


def _apart(a: Measurement, b: Measurement) -> bool:
    error = np.sqrt(a.standard_error**2 + b.standard_error**2)
    allowed = -special().ndtri(CHANCE / a.mean.size) * error + ROUNDING * (np.abs(a.mean) + np.abs(b.mean))
    return bool((np.abs(a.mean - b.mean) > allowed).any())


def heavy_tail(squares: Array) -> str:
    """Say so where a few runs carry the variance, so that it may be infinite or not yet seen; else return nothing.

    ``squares`` are the squared distances y of the runs from their mean. Two signs must come together: the tail index
    of the largest 5 percent is above 1, where y has no mean (the moment estimate of Dekkers, Einmahl and de Haan 1989),
    and the effective number of runs in their sum, ``(sum y)^2 / sum y^2``, is below the root of the number of runs.
    """
    y = np.sort(np.asarray(squares, np.float64))[::-1]
    top, total = y[: max(10, len(y) // 20) + 1], float(y.sum())
    if len(y) < 2 * len(top) or top[-1] <= 0 or top[0] == top[-1]:
        return ""
    distances = np.log(top[:-1] / top[-1])
    first, second = float(distances.mean()), float((distances**2).mean())
    effective = total**2 / float((y**2).sum())
    unequal = 1 - first**2 / second
    if unequal <= 0 or first + 1 - 0.5 / unequal <= 1 or effective >= math.sqrt(len(y)):
        return ""
    return f"HEAVY TAIL: {math.ceil(effective)} of {len(y)} runs carry the variance; it may be larger, or infinite"
