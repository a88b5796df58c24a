"""Several runs side by side that differ in their seed, and what they come to on average."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .config import TrainConfig
from .loop import train
from .report import COMPARED, conclude, mean_and_error
from .run import State
from .run_folder import begin, check_free, resume

Metrics = dict[str, Any]


def folder_of(folder: Path, seed: int) -> Path:
    """Return the folder of the run with a seed."""
    return folder / f"seed-{seed}"


def begin_all(config: TrainConfig, folder: Path, count: int) -> list[Path]:
    """Begin a run for each seed from ``config.seed`` on, and return their folders.

    Raises:
        RunError: one of them cannot begin; if its folder is in use, none has begun.
    """
    folders = {seed: folder_of(folder, seed) for seed in range(config.seed, config.seed + count)}
    for path in folders.values():
        check_free(path)
    for seed, path in folders.items():
        begin(dataclasses.replace(config, seed=seed), path)
    return list(folders.values())


def train_all(
    folders: list[Path],
    changes: dict[str, Any],
    *,
    progress: Callable[[float, Path | None], None] = lambda done, ended: None,
) -> list[Metrics]:
    """Train the runs in these folders to their ends, as many at a time as there are cores, and return their metrics.

    Each run is in a process of its own, with one thread, unless ``OMP_NUM_THREADS`` says otherwise. When this process
    is stopped, each of them saves its state.

    Args:
        folders: of runs that have begun.
        changes: to their settings, as in ``resume``.
        progress: called as ``progress(done, folder)`` with the share that is done of all, from 0 to 1, and the folder
            of a run that has just ended, or ``None``.
    """
    spawn = multiprocessing.get_context("spawn")
    stop, shares = spawn.Event(), spawn.Array("d", len(folders))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = "OMP_NUM_THREADS" in os.environ
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        with concurrent.futures.ProcessPoolExecutor(
            min(cores, len(folders)), mp_context=spawn, initializer=_begin_process, initargs=(stop, shares)
        ) as executor:
            runs = {executor.submit(_train_one, i, path, changes): path for i, path in enumerate(folders)}
            waiting = set(runs)
            try:
                while waiting:
                    ended, waiting = concurrent.futures.wait(waiting, timeout=0.2, return_when="FIRST_COMPLETED")
                    progress(sum(shares[:]) / len(folders), None)
                    for run in ended:
                        run.result()
                        progress(sum(shares[:]) / len(folders), runs[run])
            except BaseException:
                stop.set()
                executor.shutdown(cancel_futures=True)
                raise
            return [run.result() for run in runs]
    finally:
        if not given:
            del os.environ["OMP_NUM_THREADS"]


def _begin_process(stop: Any, shares: Any) -> None:
    """Let this process listen to the one that began it alone: a Ctrl-C reaches both."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _train_one.shared = stop, shares  # type: ignore[attr-defined]


def _train_one(i: int, folder: Path, changes: dict[str, Any]) -> Metrics:
    stop, shares = _train_one.shared  # type: ignore[attr-defined]

    def go_on() -> None:
        if stop.is_set():
            raise KeyboardInterrupt

    def report(state: State) -> None:
        shares[i] = state.step / run.steps
        go_on()

    go_on()
    run, state = resume(folder, **changes)
    state = train(run, state, report=report)
    shares[i] = 1.0
    return conclude(run, state, progress=lambda done, n: go_on())


def averages(metrics: list[Metrics]) -> dict[str, tuple[float, float]]:
    """Return the mean over runs of each measure in ``COMPARED``, and its standard error."""
    return {name: mean_and_error(np.array([found["held_out"][name] for found in metrics])) for name in COMPARED}
