"""Measuring estimators on somebody's own cost: how noisy each is, what it takes, and whether it is right.

A cost is drawn again and again, each time with noise that all estimators share. It knows estimators and graphs, and
draws no picture: ``plots`` does.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import trees
from ..arrays import Array, NoiseStream, noise, to_host
from ..calculus import wrap
from ..graph import Tensor, gradients, replay, topological_order
from ..ops import mean
from .estimators import ESTIMATORS, Estimator, estimate
from .nodes import Noise, Sample, name_of_draw
from .verdict import BiasedGradientWarning, GradientRefusedError, live_samples

Program = Callable[[Any, NoiseStream], Tensor] | Tensor
"""What is measured: ``f(parameters, rng)``, which returns a cost, or a cost that was computed already."""

GROUPS = 10
"""Into how many groups the runs are divided, whose variances tell how well the variance is known."""

ALLOWED = 4.5
"""Standard errors; by chance one honest comparison in 150 000 is further off."""


@dataclass(frozen=True)
class Measurement:
    """What one estimator did: print it, or read its fields.

    Args:
        name: the estimator's; with the node that it was used for, where others take part.
        mean: the mean gradient of all runs, as one vector.
        standard_error: of that mean, for each element.
        variance: of the gradient of one run, summed over the elements.
        variance_error: the standard error of the variance.
        signal_to_noise: the length of the mean by the square root of the variance.
        seconds: the median time of one gradient.
        biased: why it is biased, or empty.
        alarm: why the variance is not to be trusted, or empty.
        refused: why it gave no gradient, or empty; the numbers are then nan.
    """

    name: str
    mean: Array
    standard_error: Array
    variance: float
    variance_error: float
    signal_to_noise: float
    seconds: float
    biased: str = ""
    alarm: str = ""
    refused: str = ""

    @property
    def cost(self) -> float:
        """Variance x seconds: what a given accuracy takes, since averaging n runs divides the variance by n."""
        return self.variance * self.seconds


@dataclass(frozen=True)
class Comparison:
    """Estimators side by side, the best first; ``str()`` is a table."""

    rows: list[Measurement]
    runs: int

    @property
    def best(self) -> Measurement:
        """The unbiased estimator that takes the least for a given accuracy, and whose variance can be trusted.

        Raises:
            ValueError: there is none.
        """
        for trusted in (True, False):
            rows = [r for r in self.rows if not r.refused and not r.biased and not (trusted and r.alarm)]
            if rows:
                return min(rows, key=lambda r: r.cost)
        raise ValueError("no unbiased estimator is valid here")

    def __getitem__(self, name: str) -> Measurement:
        return next(row for row in self.rows if row.name == name)

    def __str__(self) -> str:
        head = f"{'estimator':<22}{'gradient':>11}{'± error':>10}{'variance':>11}{'± error':>10}"
        lines = [head + f"{'signal/noise':>14}{'µs':>8}{'variance x s':>14}"]
        for r in self.rows:
            if r.refused:
                lines.append(f"{r.name:<22} refused: {r.refused}")
                continue
            value = r.mean.item() if r.mean.size == 1 else float(np.linalg.norm(r.mean))
            error = float(np.linalg.norm(r.standard_error))
            lines.append(
                f"{r.name:<22}{value:>11.4g}{error:>10.2g}{r.variance:>11.4g}{r.variance_error:>10.2g}"
                f"{r.signal_to_noise:>14.3g}{1e6 * r.seconds:>8.0f}{r.cost:>14.3g}"
                + (f"  BIASED: {r.biased}" if r.biased else "")
                + (f"  {r.alarm}" if r.alarm else "")
            )
        if any(row.mean.size > 1 for row in self.rows if not row.refused):
            lines.append("(of a gradient with several elements: its length, and the sum of their variances)")
        return "\n".join(lines)


def compare_estimators(
    f: Program,
    parameters: Any,
    *,
    rng: NoiseStream,
    runs: int = 1000,
    estimators: Iterable[str | Estimator] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure estimators on a cost: mean, standard error, variance, time, and variance x time.

    Each run draws the cost anew, with the same noise for every estimator. Where an estimator is not valid at one of
    several random nodes, the pathwise estimator or the score function takes its place at that node.

    Args:
        f: a function ``f(parameters, rng)`` that draws and returns a cost, or a cost that is there already, which is
            replayed with new noise. A cost with axes is averaged.
        parameters: a tree of arrays for a function; the Tensors to differentiate by for a cost.
        rng: a stream from ``tg.noise(seed)``.
        runs: how many gradients of each.
        estimators: which ones; by default all that are valid.
        progress: called with how many of how many runs are done.

    Returns:
        A ``Comparison``; print it, or ask for its ``best``.

    Raises:
        ValueError: there is no random node in the cost, or runs is below 20.

    >>> def cost(theta, rng):
    ...     return tg.Normal(theta, 1.0).sample(rng=rng, name="x") ** 2
    >>> result = tg.compare_estimators(cost, np.float64(2.0), rng=tg.noise(0), runs=400)
    >>> result["pathwise"].variance < result["score-function"].variance
    True
    """
    if runs < 2 * GROUPS:
        raise ValueError(f"compare_estimators: runs must be at least {2 * GROUPS}, found {runs}")
    first, wrt = _drawn(f, parameters, rng.at("run", 0))
    if not live_samples(first):
        raise ValueError("compare_estimators: the cost depends on no blocked random node; draw with sample(rng=...)")
    plans = _plans(first, rng, estimators)
    rows = []
    for k, (name, plan) in enumerate(plans):

        def report(done: int, k: int = k) -> None:
            if progress:
                progress(k * runs + done, len(plans) * runs)

        rows.append(_measured(name, plan, f, parameters, rng, runs, report))
    return Comparison(sorted(rows, key=lambda r: (bool(r.refused), bool(r.biased), r.cost)), runs)


Plan = dict[str, Estimator | str]


def _drawn(f: Program, parameters: Any, rng: NoiseStream) -> tuple[Tensor, Any]:
    """Return the cost, drawn anew, and the Tensors to differentiate by."""
    if isinstance(f, Tensor):
        leaves = [x for x in topological_order([f]) if isinstance(x, Noise)]
        return mean(replay(f, {x: x.redrawn(rng) for x in leaves})), parameters
    wrapped = wrap(parameters)
    return mean(f(wrapped, rng)), wrapped


def _plans(cost: Tensor, rng: NoiseStream, estimators: Iterable[str | Estimator] | None) -> list[tuple[str, Plan]]:
    """Return, for each estimator, a name for the row and what is chosen for each random node by its number."""
    samples = live_samples(cost)
    plans: list[tuple[str, Plan]] = []
    for choice in ESTIMATORS if estimators is None else estimators:
        estimator = ESTIMATORS[choice].example(rng.at("estimator")) if isinstance(choice, str) else choice
        fits = [estimator.objection(z, cost) is None for z in samples]
        if not any(fits) and estimators is None:
            continue
        plan: Plan = {}
        for number, (z, fit) in enumerate(zip(samples, fits, strict=True)):
            plan[str(number)] = estimator if fit or not any(fits) else _substitute(z)
        name = estimator.name
        if len(samples) > 1 and not all(fits):
            name += (
                f" ({', '.join(name_of_draw(z.name, z.place) for z, fit in zip(samples, fits, strict=True) if fit)})"
            )
        plans.append((name, plan))
    return plans


def _substitute(z: Sample) -> str:
    return "pathwise" if z.dist.path is not None else "score-function"


def _measured(
    name: str,
    plan: Plan,
    f: Program,
    parameters: Any,
    rng: NoiseStream,
    runs: int,
    report: Callable[[int], None],
) -> Measurement:
    biased = "; ".join(dict.fromkeys(e.biased for e in plan.values() if isinstance(e, Estimator) and e.biased))
    rows, times = [], []
    for run in range(runs):
        cost, wrt = _drawn(f, parameters, rng.at("run", run))
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BiasedGradientWarning)
                opened = estimate(cost, {z: plan[str(k)] for k, z in enumerate(live_samples(cost))})
                found = gradients(opened, wrt)
        except GradientRefusedError as error:
            nothing = np.full(1, np.nan)
            reason = " ".join(str(error).split("INVALID")[-1].split()).split(". ")[0]
            return Measurement(name, nothing, nothing, *(math.nan,) * 4, biased, "", reason)
        times.append(time.perf_counter() - start)
        rows.append(np.concatenate([np.ravel(to_host(g)) for g in trees.leaves(found)]).astype(np.float64))
        report(run + 1)
    draws = np.stack(rows)
    center = draws.mean(0)
    squares = ((draws - center) ** 2).sum(1)
    variance = float(squares.sum() / (runs - 1))
    groups = np.array([draws[i::GROUPS].var(0, ddof=1).sum() for i in range(GROUPS)])
    error = float(groups.std(ddof=1) / math.sqrt(GROUPS))
    signal = float(np.linalg.norm(center) / math.sqrt(variance)) if variance > 0 else math.inf
    spread = draws.std(0, ddof=1) / math.sqrt(runs)
    return Measurement(
        name, center, spread, variance, error, signal, float(np.median(times)), biased, _heavy_tail(squares)
    )


def _heavy_tail(squares: Array) -> str:
    """Say so where a few runs carry the variance, so that it may be infinite or not yet seen.

    Hill's estimate of the tail index of the squared deviations, from the largest 2 percent and at least ten of them:
    at 1 and below they have no mean, or none that this many draws have found.
    """
    top = np.sort(squares)[::-1][: max(11, len(squares) // 50)]
    if top[-1] <= 0 or len(squares) < 100:
        return ""
    index = 1 / max(float(np.log(top[:-1] / top[-1]).mean()), 1e-12)
    if index > 1:
        return ""
    share = 100 * top[:-1].sum() / squares.sum()
    return f"HEAVY TAIL: {len(top) - 1} of {len(squares)} runs carry {share:.0f} % of the variance; it may be larger, or infinite"


@dataclass(frozen=True)
class Audit:
    """How far an estimator's mean is from a reference, in standard errors.

    Args:
        z: for each element of the gradient, the distance from the reference in standard errors of both.
        visible_bias: for each element, the smallest bias that would have been seen.
        passed: whether all distances are below 4.5.
    """

    z: Array
    visible_bias: Array
    passed: bool

    def __str__(self) -> str:
        verdict = "no bias seen" if self.passed else "BIASED"
        return (
            f"{verdict}: the largest of {self.z.size} distances is {np.abs(self.z).max():.2f} standard errors; "
            f"a bias of {self.visible_bias.max():.2g} would have been seen"
        )


def audit(
    f: Program,
    parameters: Any,
    estimator: str | Estimator,
    reference: Any,
    *,
    rng: NoiseStream,
    runs: int = 2000,
) -> Audit:
    """Hold an estimator against a reference that does not share its draws.

    Args:
        f, parameters: as for ``compare_estimators``.
        estimator: the one to look at.
        reference: the true gradient, in the structure of the parameters; or another estimator, which gets noise of
            its own (``"enumeration"`` and ``"quadrature"`` are exact where they are valid).
        rng: a stream from ``tg.noise(seed)``.
        runs: how many gradients.

    Raises:
        InvalidGradientError: the estimator or the reference is not valid here.

    >>> def cost(theta, rng):
    ...     return tg.Normal(theta, 1.0).sample(rng=rng) ** 2
    >>> print(tg.audit(cost, np.float64(2.0), "score-function", np.float64(4.0), rng=tg.noise(0)))
    no bias seen: the largest of 1 distances is ... standard errors; a bias of ... would have been seen
    """
    found = _one(f, parameters, estimator, rng.at("audited"), runs)
    if isinstance(reference, (str, Estimator)):
        other = _one(f, parameters, reference, rng.at("reference"), runs)
        truth, error = other.mean, np.hypot(found.standard_error, other.standard_error)
    else:
        truth = np.concatenate([np.ravel(to_host(x)) for x in trees.leaves(reference)])
        error = found.standard_error
    rounding = 1e-9 * (1 + np.abs(truth))
    z = (found.mean - truth) / (error + rounding / ALLOWED)
    return Audit(z, ALLOWED * error + rounding, bool(np.all(np.abs(z) <= ALLOWED)))


def _one(f: Program, parameters: Any, estimator: str | Estimator, rng: NoiseStream, runs: int) -> Measurement:
    row = compare_estimators(f, parameters, rng=rng, runs=runs, estimators=[estimator]).rows[0]
    if row.refused:
        raise GradientRefusedError(f"audit: {row.name} is refused: {row.refused}")
    return row


def pilot(cost: Tensor, wrt: Any = None, *, rng: NoiseStream | None = None, runs: int = 100) -> Comparison:
    """Return a small comparison of all valid estimators on a cost that is there, to choose one from.

    Args:
        cost: a cost with blocked random nodes.
        wrt: what the gradient is wanted in; by default every leaf of floats that the cost depends on.
        rng: a stream of noise for the runs; by default one of its own.
        runs: how many gradients of each.
    """
    if wrt is None:
        wrt = [x for x in topological_order([cost]) if x.op is None and x.guard is None and x.dtype.kind == "f"]
    return compare_estimators(cost, wrt, rng=rng or noise(0).at("pilot"), runs=runs)
