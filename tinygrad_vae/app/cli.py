"""The command ``tinygrad-vae``: train a VAE, evaluate a run, sample from it, explain a step, compare estimators.

It turns words into calls, and errors into one line with an exit code: 0, done; 1, training diverged, or something
cannot be saved, and the last good state is kept; 2, the request cannot be met, and nothing has been changed; 130,
129 or 143, stopped by Ctrl-C, SIGHUP or SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import noise
from ..optional import MissingExtraError, require
from ..parallel import RANK_COUNTS, Ranks, world
from .arguments import command_line
from .checkpoint import CheckpointError, write_atomically
from .config import RunError, TrainConfig, settings_in
from .downloads import DATASETS
from .images import DataError
from .lock import LockedError
from .loop import SaveError, train
from .pictures import generated
from .plane import is_plane, plane_model
from .progress import progress_bar, training_progress
from .report import DRAWS, compare, conclude
from .run import Run, State
from .run_folder import NUMBERS, PICTURES, begin, environment_changes, load_model, resume, saved_step
from .seeds import averages, begin_all, folder_of, train_all
from .step import DivergedError
from .stopping import signals_stop
from .teaching import estimators_command, explain_command
from .words import in_plain_words, introduction, measures, table

USER_ERRORS = (DataError, CheckpointError, RunError, LockedError, MissingExtraError, OSError)
"""What may be wrong with a request, as opposed to the program."""

BLOCKS = 8
"""The default number of blocks of a batch under mpiexec."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these words, by default those of the process, and return its exit code.

    Raises:
        SystemExit: the words are not understood (code 2), or ask for help (code 0).

    >>> main(["evaluate", "nowhere"])  # and says on stderr that there is no run
    2
    """
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:  # otherwise the next file that is opened would take the place of the stream
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if "stdout" in closed:
        _say("standard output is closed, and everything printed there is lost")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what no encoding has
    with warnings.catch_warnings(), signals_stop():
        note_once = functools.cache(_say)
        warnings.showwarning = lambda message, *_: note_once(str(message))
        try:
            ranks = world()
        except (MissingExtraError, RuntimeError) as error:
            return _fail(2, error)
        return _obey(argv) if ranks.size == 1 else _as_one_of(ranks, argv)


def _as_one_of(ranks: Ranks, argv: Sequence[str] | None) -> int:
    """Run the command on several ranks: the first one speaks for all, and an error of one alone ends all."""
    words = io.StringIO()
    with contextlib.ExitStack() as silence:
        if ranks.rank:
            silence.enter_context(contextlib.redirect_stdout(silence.enter_context(open(os.devnull, "w"))))
            silence.enter_context(contextlib.redirect_stderr(words))
        try:
            code = _obey(argv)
        except SystemExit:
            raise
        except BaseException:
            traceback.print_exc()
            code = 1
    if code and not ranks.ended_together:
        print(words.getvalue(), end="", file=sys.stderr, flush=True)
        ranks.comm.Abort(code)
    return code


def _obey(argv: Sequence[str] | None) -> int:
    """Return the exit code of a command, and turn the user's errors into a line."""
    arguments, unknown = command_line(COMMANDS).parse_known_args(argv)
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if world().size > 1 and arguments.command in COMMANDS.values() and arguments.command is not train_command:
        arguments.parser.error("runs in one process; of all commands only train shares its work under mpiexec")
    try:
        code = int(arguments.command(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _let_stdout_go()
        return 0
    except (DivergedError, SaveError) as error:
        return _fail(1, error)
    except MemoryError as error:
        return _fail(2, f"there is not enough memory: {error}; a smaller batch or fewer samples take less")
    except USER_ERRORS as error:
        with contextlib.suppress(ValueError):
            try:
                sys.stdout.flush()
            except OSError:  # of a full disk, and Python would try again at its end
                _let_stdout_go()
        return _fail(2, error)
    except KeyboardInterrupt as stop:
        return _fail(_exit_code(stop), "interrupted")


def _let_stdout_go() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_code(stop: KeyboardInterrupt) -> int:
    return 128 + getattr(stop, "number", signal.SIGINT)


def _fail(code: int, message: object) -> int:
    _say(message)
    return code


def _say(message: object) -> None:
    with contextlib.suppress(OSError):  # after a SIGHUP the terminal may be gone
        print(f"tinygrad-vae: {message}", file=sys.stderr)


def train_command(arguments: argparse.Namespace) -> int:
    """Train, or go on with a run, and conclude it."""
    ranks = world()
    asked, folder = ranks.on_first(lambda: _asked(arguments))
    if arguments.print_config:
        resumed = arguments.resume
        config = ranks.on_first(lambda: resume(folder, **asked)[0].config if resumed else TrainConfig(**asked))
        print(config.to_toml(), end="")
        return 0
    if arguments.seeds:
        return _train_seeds(arguments, asked, folder)
    run, state = ranks.on_first(lambda: _started(arguments.resume, asked, folder, ranks))
    print(introduction(run, state, ranks))
    try:
        with training_progress(run, state) as show:
            state = train(run, state, report=show, ranks=ranks)
        if ranks.comm:  # the others may end
            ranks.ended_together = True
            require("mpi4py.MPI", extra="mpi").Finalize()
        if ranks.rank:
            return 0
        if arguments.verbose:
            compiled = run.compiled_update if run.config.blocks == 1 else run.compiled_descend
            print(f"the steps ran {f'compiled: {compiled.in_words()}' if compiled.is_compiled else 'op by op'}")
        try:
            _conclude(run, state, DRAWS)
        except BrokenPipeError:
            raise
        except OSError as error:
            return _fail(
                1,
                f"the run is trained, {run.checkpoint} holds its last state, but its numbers and pictures cannot be "
                f"written: {error}. Once they can: tinygrad-vae evaluate {shlex.quote(str(folder))}",
            )
        return 0
    except KeyboardInterrupt as stop:
        if ranks.rank:
            return _exit_code(stop)
        reached = f"{run.checkpoint} holds the state after step {saved_step(run)} of {run.steps}"
        return _fail(_exit_code(stop), f"stopped; {reached}\n{_to_go_on(folder)}")


def _to_go_on(folder: Path, flags: str = "") -> str:
    where = "" if folder == Path("runs/digits") else f" --out {shlex.quote(str(folder))}"
    return f"To go on: tinygrad-vae train{where}{flags} --resume"


def _train_seeds(arguments: argparse.Namespace, asked: dict[str, Any], folder: Path) -> int:
    """Train several runs side by side, and print what they come to on average."""
    if world().size > 1:
        arguments.parser.error("argument --seeds: starts processes of its own; leave out mpiexec")
    if arguments.resume:
        first = asked.pop("seed", 0)
        folders = [folder_of(folder, seed) for seed in range(first, first + arguments.seeds)]
        for path in folders:
            resume(path, **asked)  # what cannot go on says so before any does
    else:
        folders, asked = begin_all(TrainConfig(**asked), folder, arguments.seeds), {}
    print(f"{len(folders)} runs, in {folders[0]} to {folders[-1].name}")
    try:
        with progress_bar("training", 1) as advance:

            def progress(done: float, ended: Path | None) -> None:
                advance(done, f"{ended}: done" if ended else "training", line=bool(ended))

            metrics = train_all(folders, asked, progress=progress)
    except KeyboardInterrupt as stop:
        return _fail(_exit_code(stop), f"stopped\n{_to_go_on(folder, f' --seeds {len(folders)}')}")
    print(table(f"mean over {len(folders)} runs", averages(metrics)))
    return 0


def _asked(arguments: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """Return the settings that were asked for, and the folder of the run."""
    for module in () if arguments.print_config else ("rich.progress", "matplotlib.figure", "safetensors.numpy"):
        require(module)  # before the first step, not after the last
    asked = settings_in(arguments.config) if arguments.config else {}
    asked |= {name: value for name, value in vars(arguments).items() if name in TrainConfig.__dataclass_fields__}
    asked |= _where(asked)
    if not arguments.resume and any(name in os.environ for name in RANK_COUNTS):  # under mpiexec
        asked = {"blocks": BLOCKS} | asked
    return asked, arguments.out or Path("runs") / Path(asked.get("data", "digits")).name.partition(".")[0]


def _where(settings: dict[str, Any]) -> dict[str, str]:
    """Return where the data is as an absolute path, if it is a path: the run may be resumed from another folder."""
    data = settings.get("data")
    return {} if data is None or data in ("digits", *DATASETS) else {"data": os.path.abspath(data)}


def _started(resumed: bool, asked: dict[str, Any], folder: Path, ranks: Ranks) -> tuple[Run, State]:
    """Return the run and its state: a new one, or one that goes on."""
    found = resume(folder, **asked) if resumed else None
    config = found[0].config if found else TrainConfig(**asked)
    if config.blocks < ranks.size:
        more = f"start {config.blocks} at most" if resumed else f"take --blocks {ranks.size} or more"
        raise RunError(f"blocks: {ranks.size} ranks cannot share {config.blocks} of them; {more}")
    run, state = found or begin(config, folder)
    for change in environment_changes(run):
        _say(f"since this run began, {change}; the bits that follow may differ from those of an undisturbed run")
    return run, state


def _conclude(run: Run, state: State, draws: int, folder: Path | None = None) -> None:
    """Evaluate a run, write its numbers and pictures, and say in plain words what there is."""
    plane, folder = None, folder or run.folder
    if not is_plane(run.config):
        with progress_bar("a second model, with two latents, for the map", 1) as advance:
            plane = plane_model(run, state, progress=lambda done, n: advance(done / n))
    with progress_bar("evaluating", len(run.held_out)) as advance:
        metrics = conclude(run, state, draws=draws, folder=folder, plane=plane, progress=lambda done, n: advance(done))
    print(measures(metrics))
    if metrics["held_out"]["warning"]:
        _say(metrics["held_out"]["warning"])
    first, *others = (*PICTURES, *NUMBERS)
    print(
        f"\n{in_plain_words(run, state, metrics['held_out'])}\n"
        f"Look at {folder / first}: held-out images and what the model makes of them, images that it made up, and a "
        f"map of all that two latents can tell apart.\nBeside it: {', '.join(others)}"
    )


def evaluate_command(arguments: argparse.Namespace) -> int:
    """Measure runs again."""
    require("matplotlib.figure")
    out = arguments.out
    if out and len(arguments.run) > 1:
        raise RunError(f"--out: takes the results of one run, found {len(arguments.run)} runs")
    if out:
        out.mkdir(parents=True, exist_ok=True)
    for run, state in [resume(folder, **_where(vars(arguments))) for folder in arguments.run]:
        if out and (out / run.checkpoint.name).exists() and not out.samefile(run.folder):
            raise RunError(f"{out}: holds another run; choose another folder (--out)")
        print(f"{run.folder}: {run.config.estimator} estimator, {state.step} steps, seed {run.config.seed}")
        try:
            _conclude(run, state, arguments.samples, out)
        except PermissionError as error:
            raise RunError(f"{out or run.folder}: cannot be written: {error}; choose another folder (--out)") from error
    return 0


def compare_command(arguments: argparse.Namespace) -> int:
    """Print by how much two runs differ."""
    first, second = arguments.runs
    print(table(f"{first} minus {second}, paired", compare(first, second), "+", digits=3))
    return 0


def sample_command(arguments: argparse.Namespace) -> int:
    """Generate images, some at a time, into a picture or an array."""
    out = arguments.out or arguments.run / "samples.png"
    model, shape, config = load_model(arguments.run)
    rng = noise(config.seed).at("samples") if arguments.seed is None else noise(arguments.seed)
    parts, file = generated(model, arguments.count, rng), io.BytesIO()
    if out.suffix == ".npy":
        described = {"descr": "<f4", "fortran_order": False, "shape": (arguments.count, *shape)}
        np.lib.format.write_array_header_1_0(file, described)
        write_atomically(out, itertools.chain([file.getvalue()], (part.astype("<f4").tobytes() for part in parts)))
    else:
        from .figures import images

        images((part / model.likelihood.white for part in parts), shape, file, arguments.count)
        write_atomically(out, file.getvalue())
    print(f"{arguments.count} images in {out}")
    return 0


COMMANDS = {
    "train": train_command,
    "evaluate": evaluate_command,
    "compare": compare_command,
    "sample": sample_command,
    "explain": explain_command,
    "estimators": estimators_command,
}
