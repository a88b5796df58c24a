"""Measure estimators on a cost of one's own: how noisy each is, how long it takes, and whether it is right.

A cost is drawn again and again, and every estimator meets the same draws.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from ..calculus import wrap
from ..core import (
    Array,
    GradientRefusedError,
    InvalidGradientError,
    Noise,
    NoiseStream,
    Sample,
    Tensor,
    describe,
    gradients,
    noise,
    replay,
    topological_order,
    trees,
)
from ..devices import to_host
from ..executors import in_order
from ..guard.names import name_of_draw
from ..guard.paths import live_samples, path_after
from ..guard.report import ESTIMATORS
from ..guard.verdict import BiasedGradientWarning
from ..ops import mean
from .estimator import Choices, Estimator, estimator_named, taken_care
from .measurement import FEWEST, ROUNDING, Comparison, Measurement, heavy_tail, with_disagreements
from .pathwise import Pathwise
from .score_function import ScoreFunction

Program = Callable[[Any, NoiseStream], Tensor] | Tensor
"""What is measured: ``f(parameters, rng)``, which returns a cost, or a cost that was computed already."""

TRIALS = 100  # draws that tell which estimator to use
TASKS = 64  # into how many the runs are cut for an executor


def compare_estimators(
    f: Program,
    parameters: Any,
    *,
    rng: NoiseStream,
    runs: int = 1000,
    estimators: Iterable[str | Estimator] | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Any = None,
) -> Comparison:
    """Measure estimators on a cost: mean, standard error, variance, time, and variance x time.

    Each run draws the cost anew, and takes the gradient of that draw with every estimator. If an estimator is not valid
    at one of several random nodes, pathwise or the score function takes its place there; if it is refused, its row of
    the ``Comparison`` says why. One whose mean differs from the others' by more than chance has an alarm.

    Args:
        f: a function ``f(parameters, rng)`` that draws and returns a cost, or a cost, which is replayed with new noise.
            A cost with axes is averaged over them last, so that each example gets its own credit.
        parameters: a tree of arrays for a function; the Tensors to differentiate by for a cost.
        rng: a stream from ``tg.noise(seed)``.
        runs: how many gradients of each, at least 20.
        estimators: their names or instances; by default all that are valid somewhere in the cost.
        progress: called as ``progress(done, runs)`` after every run.
        executor: a ``concurrent.futures.Executor`` for the runs after the first 20. Apart from times the numbers are
            the same, if f keeps nothing from run to run. Processes need an f from the top level of a module.

    Raises:
        TypeError, ValueError: the cost is no Tensor or depends on no blocked random node; it draws the same numbers in
            every run; runs is below 20; or an estimator has another name.

    >>> def cost(theta, rng):
    ...     return tg.Normal(theta, 1.0).sample(rng=rng, name="x") ** 2
    >>> result = tg.compare_estimators(cost, np.float64(2.0), rng=tg.noise(0), runs=400)
    >>> result["pathwise"].variance < result["score-function"].variance
    True
    """
    check_comparison(f, rng, runs)
    cost, _ = _drawn(f, parameters, rng.at("run", 0))
    _check_draws(cost, _drawn(f, parameters, rng.at("run", 1))[0])
    records = [_Record(cost, estimator) for estimator in _instances(cost, rng, estimators)]
    rows = _measured(f, parameters, rng, runs, records, progress, executor)
    rows.sort(key=lambda row: (bool(row.refused), bool(row.biased), math.isnan(row.work), row.work))
    return Comparison(rows, runs)


def _measured(
    f: Program,
    parameters: Any,
    rng: NoiseStream,
    runs: int,
    records: list[_Record],
    progress: Callable[[int, int], None] | None = None,
    executor: Any = None,
) -> list[Measurement]:
    """Return what each record measured: all of them meet the same draws."""
    own = {
        id(x): x for record in records for e in record.chosen for x in vars(e).values() if isinstance(x, NoiseStream)
    }
    before = {key: stream.drawn for key, stream in own.items()}
    for run in range(runs if executor is None else FEWEST):
        _taken(f, parameters, rng, range(run, run + 1), records)
        if progress:
            progress(run + 1, runs)
    if executor is not None:
        # noise has a fixed size: each run draws as often as the first ones
        each = {key: (stream.drawn - before[key]) // FEWEST for key, stream in own.items()}
        size = max(1, math.ceil((runs - FEWEST) / TASKS))
        parts = [range(start, min(start + size, runs)) for start in range(FEWEST, runs, size)]
        tasks = []
        for part in parts:
            streams = {key: replace(x, drawn=before[key] + part.start * each[key]) for key, x in own.items()}
            tasks.append((f, parameters, rng, part, [record.blank(streams) for record in records]))
        with warnings.catch_warnings():  # threads share the filters, and leave them as the last one does
            for part, found in zip(parts, in_order("compare_estimators", executor, _taken, tasks), strict=True):
                for record, more in zip(records, found, strict=True):
                    record.extend(more)
                if progress:
                    progress(part.stop, runs)
        for key, stream in own.items():
            stream.drawn = before[key] + runs * each[key]
    return with_disagreements([record.measurement() for record in records])


def _taken(f: Program, parameters: Any, rng: NoiseStream, runs: range, records: list[_Record]) -> list[_Record]:
    """Return the records after these runs."""
    for run in runs:
        cost, wrt = _drawn(f, parameters, rng.at("run", run))
        for record in records:
            record.take(cost, wrt)
    return records


def check_comparison(f: Any, rng: Any, runs: Any) -> None:
    """Raise where there is nothing to compare."""
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
    """Return new noise for each leaf: an antithetic pair stays one, and the same noise twice stays the same."""
    first: dict[Any, tuple[Noise, Noise]] = {}
    swaps: dict[Tensor, Tensor | Array] = {}
    for x in leaves:
        if x.origin not in first:
            first[x.origin] = x, x.redrawn(rng)
        old, new = first[x.origin]
        if np.array_equal(x.value, old.value):
            swaps[x] = new
        elif x.dist is old.dist and np.array_equal(x.value, old.mirrored().value):
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
    noises = [[x.value for x in topological_order([c]) if isinstance(x, Noise)] for c in (cost, other)]
    if len(noises[0]) == len(noises[1]) and all(map(np.array_equal, *noises)):
        raise ValueError("the cost draws the same numbers in every run; draw from the rng that f is given")


def _instances(cost: Tensor, rng: NoiseStream, chosen: Iterable[str | Estimator] | None) -> list[Estimator]:
    """Return the estimators to measure, those by name with a stream of their own."""
    found = []
    for choice in sorted(ESTIMATORS) if chosen is None else chosen:
        if isinstance(choice, str):
            choice = estimator_named(choice, "compare_estimators").example(rng.at("estimator", choice))
        if chosen is not None or any(_is_of_use(choice, z, cost) for z in live_samples(cost)):
            found.append(choice)
    return found


def _is_of_use(estimator: Estimator, z: Sample, cost: Tensor) -> bool:
    """Return whether an estimator is valid at a node, and no simpler one gives the same gradient there."""
    simpler = estimator.where_path_jumps and not path_after(z, cost).jumps
    return not simpler and estimator.refusal(z, cost) is None


class _Record:
    """The gradients of one estimator, run after run; ``chosen`` holds what takes care of each random node.

    It takes care of the nodes that are not planned for; where it is not valid, a simple one stands in for it.
    """

    def __init__(self, cost: Tensor, estimator: Estimator, planned: Choices | None = None) -> None:
        at, self.chosen = [], []
        for z in live_samples(cost):
            here = (planned or {}).get(id(z.noise))
            if here is None and estimator.refusal(z, cost) is None:
                here = estimator
            elif here is None:
                here = ScoreFunction() if z.dist.path is None or path_after(z, cost).jumps else Pathwise()
            self.chosen.append(here)
            at.append(f"{here.name} for {name_of_draw(z)}")
        if estimator not in self.chosen:  # it is valid nowhere, and its refusal is to say why
            self.chosen = [estimator] * len(self.chosen)
        alone = all(here is estimator for here in self.chosen)
        at.sort(key=lambda words: not words.startswith(estimator.name))
        self.name = estimator.name if alone else ", ".join(at)
        self.refused, self.exact, self.nodes = "", False, 0
        self.draws: list[Array] = []
        self.times: list[float] = []

    def blank(self, streams: dict[int, Any]) -> _Record:
        """Return an empty record, for later runs; the estimators in it draw from these streams, by the old one's id."""
        other = copy.copy(self)
        other.chosen = [copy.copy(estimator) for estimator in self.chosen]
        for estimator in other.chosen:
            vars(estimator).update({name: streams.get(id(x), x) for name, x in vars(estimator).items()})
        other.draws, other.times = [], []
        return other

    def extend(self, more: _Record) -> None:
        """Take over the gradients of later runs."""
        self.refused = self.refused or more.refused
        self.draws += more.draws
        self.times += more.times

    def take(self, cost: Tensor, wrt: Any) -> None:
        """Take the gradient of one draw of the cost, unless all draws are known to give the same."""
        if self.refused or self.exact:
            return
        samples = live_samples(cost)
        if len(samples) != len(self.chosen):
            raise ValueError(
                f"the cost had {len(self.chosen)} random nodes in the first run and has {len(samples)} now; "
                "estimators are compared on a cost with the same random nodes in every run"
            )
        choices = {id(z.noise): e for z, e in zip(samples, self.chosen, strict=True)}
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BiasedGradientWarning)
                opened = mean(taken_care(cost, choices, samples))
                found = gradients(opened, wrt)
        except GradientRefusedError as error:
            self.refused = " ".join(str(error).split("INVALID")[-1].split()).partition(". ")[0]  # on one line
            return
        self.times.append(time.perf_counter() - start)
        self.draws.append(np.concatenate([np.ravel(to_host(g)) for g in trees.leaves(found)]).astype(np.float64))
        if len(self.draws) == FEWEST and not self.nodes:
            order = topological_order([opened])
            self.nodes = len(order)
            same = all(np.array_equal(draw, self.draws[0]) for draw in self.draws)
            self.exact = same and not any(isinstance(node, Noise) for node in order)

    def measurement(self) -> Measurement:
        biased = "; ".join(dict.fromkeys(e.biased for e in self.chosen if e.biased))
        caveat = "; ".join(dict.fromkeys(e.caveat for e in self.chosen if e.caveat))
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


def choose(cost: Tensor, planned: Choices) -> dict[int, Estimator]:
    """Return, by trial draws, an estimator for each random node that is not planned for, by the id of its noise.

    It has the least variance x nodes: the size of the graph stands for the time, which no two runs agree on. Biased
    estimators take no part, nor do those whose error the runs do not show, nor those with noise of their own, which
    must be other noise in every step.
    """
    order, samples = topological_order([cost]), live_samples(cost)
    free = [z for z in samples if id(z.noise) not in planned]
    kinds = [kind for _, kind in sorted(ESTIMATORS.items()) if not (kind.biased or kind.caveat or kind.takes_noise)]
    candidates = [e for e in (kind() for kind in kinds) if any(_is_of_use(e, z, cost) for z in free)]
    records = [_Record(cost, estimator, planned) for estimator in candidates]
    leaves = [x for x in order if x.op is None and not isinstance(x, Noise) and x.dtype.kind == "f"]
    rows = _measured(cost, leaves, noise(0).at("pilot"), TRIALS, records)
    found = sorted(
        ((row, record) for row, record in zip(rows, records, strict=True) if not row.refused),
        key=lambda pair: (bool(pair[0].alarm), pair[0].variance * pair[0].nodes),
    )
    if not found:
        raise InvalidGradientError(f"no unbiased estimator is valid here:\n{Comparison(rows, TRIALS)}")
    best, record = found[0]
    reason = f"chosen by {TRIALS} trial draws: variance {best.variance:.3g}"
    for other, _ in found[1:2]:
        reason += f"; next best {other.name}, {other.variance:.3g}"
    explained = {id(estimator): copy.copy(estimator) for estimator in record.chosen}
    for estimator in explained.values():
        estimator.reason = reason
    chosen = zip(samples, record.chosen, strict=True)
    return {id(z.noise): explained[id(estimator)] for z, estimator in chosen if id(z.noise) not in planned}
