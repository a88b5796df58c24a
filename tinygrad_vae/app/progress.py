"""Progress of long work: a bar in a terminal, some lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..optional import require
from .run import Run, State


@contextlib.contextmanager
def training_progress(run: Run, state: State) -> Iterator[Callable[[State], None]]:
    """Show epoch, bound, speed and remaining time, given the state after each step."""
    lines = max(1, run.config.epochs // 10)
    begun, first = time.monotonic(), state.step  # when and where the epoch began: the first one of a run compiles
    with progress_bar("epoch", run.steps, state.step) as advance:

        def show(state: State) -> None:
            nonlocal begun, first
            position = state.step % run.steps_per_epoch
            epoch = math.ceil(state.step / run.steps_per_epoch)
            seen = position * run.config.batch
            bound = state.epoch_total / seen if seen else state.history[-1]["bound_train"]
            speed = (state.step - first) / (time.monotonic() - begun) * run.config.batch
            advance(
                state.step,
                f"epoch {epoch}/{run.config.epochs}  bound {bound:7.2f} nats  {speed:6,.0f} images/s",
                line=not position and (epoch % lines == 0 or epoch == run.config.epochs),
            )
            if not position:
                begun, first = time.monotonic(), state.step

        yield show


@contextlib.contextmanager
def progress_bar(what: str, total: int, done: int = 0) -> Iterator[Callable[..., Any]]:
    """Give a function ``advance(done, text, line=)`` that moves a bar, or prints the text outside a terminal."""
    progress = require("rich.progress")
    console = require("rich.console").Console(stderr=True)

    def print_line(done: float, text: str = what, line: bool = False) -> None:
        if line:
            print(text, file=sys.stderr, flush=True)

    if not console.is_terminal:
        yield print_line
        return
    columns = ("{task.description}", progress.BarColumn(bar_width=16), progress.TimeRemainingColumn(), "left")
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda done, text=what, line=False: bar.update(task, completed=done, description=text)
