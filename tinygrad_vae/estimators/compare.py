"""Measuring estimators on somebody's own cost: how noisy each is, what it takes, and whether it is right.

A cost is drawn again and again, and every estimator meets the same draws. It knows estimators and graphs, and draws no
picture: ``plots`` does.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..calculus import wrap
from ..core import (
    Array,
    Noise,
    NoiseStream,
    Sample,
    Tensor,
    describe,
    gradients,
    name_of_draw,
    noise,
    replay,
    to_host,
    topological_order,
    trees,
)
from ..guard.verdict import (
    BiasedGradientWarning,
    GradientRefusedError,
    InvalidGradientError,
    live_nodes,
    live_samples,
    path_after,
)
from ..ops import mean
from . import ESTIMATORS, Estimator, Pathwise, ScoreFunction, estimate
from .estimate import Plan

Program = Callable[[Any, NoiseStream], Tensor] | Tensor
"""What is measured: ``f(parameters, rng)``, which returns a cost, or a cost that was computed already."""

ALLOWED = 4.5
"""Standard errors; by chance one honest comparison in 150 000 is further off."""

FEWEST = 20
"""How many runs a variance needs at least."""

ROUNDING = 1e-12
"""How far apart, relative to their mean, gradients are that are the same but for rounding."""

PILOT_RUNS = 100
"""How many runs tell which estimator to use."""


@dataclass(frozen=True)
class Measurement:
    """What one estimator did: print it, or read its fields.

    Args:
        name: the estimator's; with the node that it was used for, where others took part.
        mean: the mean gradient of all runs, as one vector.
        standard_error: of that mean, for each element.
        variance: of the gradient of one run, summed over the elements.
        variance_error: the standard error of the variance.
        seconds: the median time of one gradient: rewriting the graph, and going back through it.
        nodes: how many nodes the rewritten graph has.
        biased: why it is biased, or empty.
        alarm: why the numbers are not to be trusted, or empty.
        refused: why it gave no gradient, or empty; the numbers are then nan.
    """

    name: str
    mean: Array = field(default_factory=lambda: np.full(1, np.nan))
    standard_error: Array = field(default_factory=lambda: np.full(1, np.nan))
    variance: float = math.nan
    variance_error: float = math.nan
    seconds: float = math.nan
    nodes: int = 0
    biased: str = ""
    alarm: str = ""
    refused: str = ""

    @property
    def signal_to_noise(self) -> float:
        """The length of the mean gradient by the standard deviation of one run."""
        length = float(np.linalg.norm(self.mean))
        return length / math.sqrt(self.variance) if self.variance else math.inf

    @property
    def work(self) -> float:
        """Variance x seconds: what a given accuracy takes, since averaging n runs divides the variance by n."""
        return self.variance * self.seconds


@dataclass(frozen=True)
class Comparison:
    """Estimators side by side, the best first; ``str()`` is a table.

    Args:
        rows: one for each estimator.
        runs: how many gradients of each were taken.
    """

    rows: list[Measurement]
    runs: int

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
            remarks = [f"BIASED: {row.biased}"] if row.biased else []
            lines.append(
                f"{row.name:<{width}}{value:>11.4g}{error:>9.2g}{row.variance:>11.4g}{row.variance_error:>9.2g}"
                f"{row.signal_to_noise:>14.3g}{1e6 * row.seconds:>8.0f}{row.work:>14.3g}"
                + "".join(f"  {remark}" for remark in [*remarks, *([row.alarm] if row.alarm else [])])
            )
        if any(row.mean.size > 1 for row in self.rows):
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

    Each run draws the cost anew, and takes the gradient of that one draw with every estimator. Where an estimator is
    not valid at one of several random nodes, pathwise or the score function stands in for it there.

    Args:
        f: a function ``f(parameters, rng)`` that draws and returns a cost, or a cost that is there already, which is
            replayed with new noise. A cost with axes is averaged over them last, so that each example gets its own
            credit.
        parameters: a tree of arrays for a function; the Tensors to differentiate by for a cost.
        rng: a stream from ``tg.noise(seed)``.
        runs: how many gradients of each, at least 20.
        estimators: which ones, by name or as they are; by default all that are valid somewhere in the cost.
        progress: called as ``progress(done, runs)`` after every run.

    Returns:
        A ``Comparison``: print it, or ask for its ``best``. An estimator that is refused has a row that says why.

    Raises:
        TypeError, ValueError: the cost is no Tensor or depends on no blocked random node; it draws the same numbers in
            every run; runs is below 20; or an estimator has another name.

    >>> def cost(theta, rng):
    ...     return tg.Normal(theta, 1.0).sample(rng=rng, name="x") ** 2
    >>> result = tg.compare_estimators(cost, np.float64(2.0), rng=tg.noise(0), runs=400)
    >>> result["pathwise"].variance < result["score-function"].variance
    True
    """
    _check_request(f, rng, runs)
    cost, _ = _drawn(f, parameters, rng.at("run", 0))
    _check_draws(cost, _drawn(f, parameters, rng.at("run", 1))[0])
    records = [_record(cost, estimator) for estimator in _instances(cost, rng, estimators)]
    rows = _measured(f, parameters, rng, runs, records, progress)
    return Comparison(sorted(rows, key=lambda row: (bool(row.refused), bool(row.biased), row.work)), runs)


def _measured(
    f: Program,
    parameters: Any,
    rng: NoiseStream,
    runs: int,
    records: list[_Record],
    progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    """Return what all runs say of each record, which meet the same draws."""
    for run in range(runs):
        cost, wrt = _drawn(f, parameters, rng.at("run", run))
        for record in records:
            record.take(cost, wrt)
        if progress:
            progress(run + 1, runs)
    return [record.measurement() for record in records]


def _check_request(f: Any, rng: Any, runs: Any) -> None:
    if not callable(f) and not isinstance(f, Tensor):
        raise TypeError(f"what to measure is a function f(parameters, rng) or a cost, a Tensor; found {describe(f)}")
    if not isinstance(rng, NoiseStream):
        raise TypeError(f"rng takes a stream from tg.noise(seed), found {describe(rng)}")
    if isinstance(runs, bool) or not isinstance(runs, (int, np.integer)) or runs < FEWEST:
        raise ValueError(f"runs must be a whole number from {FEWEST} on, found {runs!r}")


def _drawn(f: Program, parameters: Any, rng: NoiseStream) -> tuple[Tensor, Any]:
    """Return the cost, drawn anew, and the Tensors to differentiate by."""
    if isinstance(f, Tensor):
        return replay(f, _redrawn([x for x in topological_order([f]) if isinstance(x, Noise)], rng)), parameters
    wrapped = wrap(parameters)
    cost = f(wrapped, rng)
    if not isinstance(cost, Tensor):
        raise TypeError(f"f(parameters, rng) must return a cost, a Tensor; found {describe(cost)}")
    return cost, wrapped


def _redrawn(leaves: list[Noise], rng: NoiseStream) -> dict[Tensor, Tensor | Array]:
    """Return new noise for each leaf, of which an antithetic pair stays one, and the same noise twice the same.

    Raises:
        ValueError: two leaves share their noise in another way.
    """
    first: dict[Any, tuple[Noise, Noise]] = {}
    swaps: dict[Tensor, Tensor | Array] = {}
    for x in leaves:
        if x.origin not in first:
            first[x.origin] = x, x.redrawn(rng)
        old, new = first[x.origin]
        if np.array_equal(x.value, old.value):
            swaps[x] = new
        elif x.law is old.law and np.array_equal(x.value, old.mirrored().value):
            swaps[x] = new.mirrored()
        else:
            raise ValueError(
                "two draws of the cost share their noise and are no antithetic pair, so that it cannot be drawn anew; "
                "give a function f(parameters, rng) that draws the cost"
            )
    return swaps


def _check_draws(cost: Tensor, other: Tensor) -> None:
    if not live_samples(cost):
        raise ValueError("the cost depends on no blocked random node; draw with sample(rng=...)")
    first, second = ([z.value for z in live_samples(x)] for x in (cost, other))
    noises = [[x.value for x in topological_order([c]) if isinstance(x, Noise)] for c in (cost, other)]
    if len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(*noises, strict=True)):
        raise ValueError("the cost draws the same numbers in every run; draw from the rng that f is given")


def _instances(cost: Tensor, rng: NoiseStream, chosen: Iterable[str | Estimator] | None) -> list[Estimator]:
    """Return the estimators to measure, those by name with a stream of their own."""
    samples = live_samples(cost)
    found = []
    for choice in sorted(ESTIMATORS) if chosen is None else chosen:
        if isinstance(choice, str) and choice not in ESTIMATORS:
            raise ValueError(f"there is no estimator {choice!r}; choose from {', '.join(sorted(ESTIMATORS))}")
        estimator = ESTIMATORS[choice].example(rng.at("estimator", choice)) if isinstance(choice, str) else choice
        if chosen is not None or any(estimator.refusal(z, cost) is None for z in samples):
            found.append(estimator)
    return found


def _record(cost: Tensor, estimator: Estimator, planned: Plan | None = None) -> _Record:
    """Return an empty record of an estimator at every random node that is not planned for and where it is valid.

    Another one stands in for it at the others.
    """
    chosen, at = [], []
    for z in live_samples(cost):
        here = (planned or {}).get(id(z.noise))
        here = here or (estimator if estimator.refusal(z, cost) is None else _stand_in(z, cost))
        chosen.append(here)
        at.append(f"{here.name} for {name_of_draw(z.name, z.place)}")
    if estimator not in chosen:  # it is valid nowhere, and its refusal is to say why
        chosen = [estimator] * len(chosen)
    if all(here is estimator for here in chosen):
        return _Record(estimator.name, chosen)
    return _Record(", ".join(sorted(at, key=lambda words: not words.startswith(estimator.name))), chosen)


def _stand_in(z: Sample, cost: Tensor) -> Estimator:
    """Return pathwise where it is valid, and else the score function."""
    jumps = path_after(z, live_nodes(cost))[1]
    return ScoreFunction() if z.dist.path is None or jumps else Pathwise()


class _Record:
    """The gradients of one estimator, run after run; ``chosen`` holds what takes care of each random node."""

    def __init__(self, name: str, chosen: list[Estimator]) -> None:
        self.name, self.chosen = name, chosen
        self.refused, self.exact, self.nodes = "", False, 0
        self.draws: list[Array] = []
        self.times: list[float] = []

    def take(self, cost: Tensor, wrt: Any) -> None:
        """Take the gradient of one draw of the cost, unless it is known that it does not depend on the draw."""
        if self.refused or self.exact:
            return
        samples = live_samples(cost)
        if len(samples) != len(self.chosen):
            raise ValueError(
                f"the cost had {len(self.chosen)} random nodes in the first run and has {len(samples)} now; "
                "estimators are compared on a cost with the same random nodes in every run"
            )
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BiasedGradientWarning)
                opened = mean(estimate(cost, dict(zip(samples, self.chosen, strict=True))))
                found = gradients(opened, wrt)
        except GradientRefusedError as error:
            self.refused = _in_short(str(error))
            return
        self.times.append(time.perf_counter() - start)
        self.draws.append(np.concatenate([np.ravel(to_host(g)) for g in trees.leaves(found)]).astype(np.float64))
        if len(self.draws) == FEWEST:
            order = topological_order([opened])
            self.nodes = len(order)
            same = all(np.array_equal(draw, self.draws[0]) for draw in self.draws)
            self.exact = same and not any(isinstance(node, Noise) for node in order)

    def measurement(self) -> Measurement:
        """Return what the runs say of the plan."""
        biased, caveat = (
            "; ".join(dict.fromkeys(text for text in texts if text))
            for texts in ([e.biased for e in self.chosen], [e.caveat for e in self.chosen])
        )
        if self.refused:
            return Measurement(self.name, biased=biased, refused=self.refused)
        draws, runs = np.stack(self.draws), len(self.draws)
        center = draws[0] if self.exact else draws.mean(0)
        away = draws - center
        distances = np.where(np.abs(away) <= ROUNDING * np.abs(center), 0.0, away**2 * (runs / (runs - 1)))
        squares = distances.sum(1)
        broken = int((~np.isfinite(draws).all(1)).sum())
        return Measurement(
            self.name,
            center,
            np.sqrt(distances.mean(0) / runs),
            float(squares.mean()),
            float(squares.std(ddof=1) / math.sqrt(runs)),
            float(np.median(self.times)),
            self.nodes,
            biased,
            f"NOT FINITE: {broken} of {runs} gradients" if broken else caveat or heavy_tail(squares),
        )


def _in_short(text: str) -> str:
    """Return the reason for a refusal on one line."""
    return " ".join(text.split("INVALID")[-1].split()).partition(". ")[0]


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


@dataclass(frozen=True)
class Audit:
    """How far an estimator's mean is from a reference, in standard errors.

    Args:
        z: for each element of the gradient, the distance from the reference in standard errors of both.
        visible_bias: for each element, a bias of nine standard errors, which is missed once in 300 000 audits.
        passed: whether all distances are at most 4.5.
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
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Hold an estimator against a reference that does not share its draws.

    Args:
        f, parameters: as for ``compare_estimators``.
        estimator: the one to look at.
        reference: the true gradient, in the structure of the parameters; or another estimator, which gets noise of
            its own (``"enumeration"`` and ``"quadrature"`` are exact where they are valid).
        rng: a stream from ``tg.noise(seed)``.
        runs: how many gradients.
        progress: called as ``progress(done, runs)`` after every run; for a reference that is an estimator, once more.

    Raises:
        InvalidGradientError: the estimator or the reference is not valid here.
        TypeError, ValueError: as for ``compare_estimators``, or the reference has another structure.

    >>> def cost(theta, rng):
    ...     return tg.Normal(theta, 1.0).sample(rng=rng) ** 2
    >>> print(tg.audit(cost, np.float64(2.0), "score-function", np.float64(4.0), rng=tg.noise(0)))
    no bias seen: the largest of 1 distances is ... standard errors; a bias of ... would have been seen
    """
    _check_request(f, rng, runs)
    found = _one(f, parameters, estimator, rng.at("audited"), runs, progress)
    if isinstance(reference, (str, Estimator)):
        other = _one(f, parameters, reference, rng.at("reference"), runs, progress)
        truth, error = other.mean, np.hypot(found.standard_error, other.standard_error)
    else:
        truth = _flat(reference, parameters)
        error = found.standard_error
    rounding = 1e-9 * (1 + np.abs(truth))
    allowed = ALLOWED * error + rounding
    z = ALLOWED * (found.mean - truth) / allowed
    return Audit(z, 2 * allowed, bool(np.all(np.abs(z) <= ALLOWED)))


def _flat(reference: Any, parameters: Any) -> Array:
    """Return the reference as one vector."""
    shapes, expected = ([np.shape(x) for x in trees.leaves(tree)] for tree in (reference, parameters))
    if shapes != expected:
        raise ValueError(f"audit: the reference has the shapes {shapes}, the parameters have {expected}")
    return np.concatenate([np.ravel(to_host(x)) for x in trees.leaves(reference)])


def _one(
    f: Program,
    parameters: Any,
    estimator: str | Estimator,
    rng: NoiseStream,
    runs: int,
    progress: Callable[[int, int], None] | None,
) -> Measurement:
    options: dict[str, Any] = {"rng": rng, "runs": runs, "progress": progress}
    row = compare_estimators(f, parameters, estimators=[estimator], **options).rows[0]
    if row.refused:
        raise InvalidGradientError(f"audit: {row.name} is refused: {row.refused}")
    return row


def pilot(
    cost: Tensor,
    wrt: Any = None,
    *,
    rng: NoiseStream | None = None,
    runs: int = PILOT_RUNS,
    estimators: Sequence[str | Estimator] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Return a small comparison of estimators on a cost that is there, to choose one from.

    Args:
        cost: a cost with blocked random nodes.
        wrt: what the gradient is wanted in; by default every leaf of floats that the cost depends on.
        rng: a stream of noise for the runs; by default one of its own.
        runs: how many gradients of each.
        estimators: which ones; by default all that are valid.
        progress: called as ``progress(done, runs)`` after every run.

    >>> z = tg.Normal(tg.Tensor(2.0, "mu"), 1.0).sample(rng=tg.noise(0), name="z")
    >>> tg.pilot(z * z, estimators=["pathwise", "score-function"]).best.name
    'pathwise'
    """
    wrt = _float_leaves(cost) if wrt is None else wrt
    stream = rng or noise(0).at("pilot")
    return compare_estimators(cost, wrt, rng=stream, runs=runs, estimators=estimators, progress=progress)


def choose(cost: Tensor, planned: Plan) -> dict[int, Estimator]:
    """Return, by a pilot run, an estimator for each random node that is not planned for, by the id of its noise.

    The one with the least variance x nodes: the size of the graph stands for the time, which is another one whenever it
    is measured. Only unbiased estimators take part. Those with noise of their own do not, since it must be other noise
    in every step, nor those whose error the runs do not show.
    """
    samples = live_samples(cost)
    free = [z for z in samples if id(z.noise) not in planned]
    kinds = [kind for _, kind in sorted(ESTIMATORS.items()) if not kind.biased and not kind.caveat]
    candidates = [kind() for kind in kinds if not kind.takes_noise]
    records = [
        _record(cost, estimator, planned)
        for estimator in candidates
        if any(estimator.refusal(z, cost) is None for z in free)
    ]
    found = _measured(cost, _float_leaves(cost), noise(0).at("pilot"), PILOT_RUNS, records)
    rows = sorted(zip(found, records, strict=True), key=lambda pair: _price(pair[0]))
    if not rows or rows[0][0].refused:
        raise InvalidGradientError(f"no unbiased estimator is valid here:\n{Comparison(found, PILOT_RUNS)}")
    (best, record), others = rows[0], [row for row, _ in rows[1:] if not row.refused]
    reason = f"chosen by {PILOT_RUNS} trial draws: variance {best.variance:.3g}"
    if others:
        reason += f"; next best {others[0].name}, {others[0].variance:.3g}"
    explained = {id(estimator): copy.copy(estimator) for estimator in record.chosen}
    for estimator in explained.values():
        estimator.reason = reason
    chosen = zip(samples, record.chosen, strict=True)
    return {id(z.noise): explained[id(estimator)] for z, estimator in chosen if id(z.noise) not in planned}


def _price(row: Measurement) -> tuple[bool, bool, float]:
    return bool(row.refused), bool(row.alarm), row.variance * row.nodes


def _float_leaves(cost: Tensor) -> list[Tensor]:
    return [x for x in topological_order([cost]) if x.op is None and x.guard is None and x.dtype.kind == "f"]
