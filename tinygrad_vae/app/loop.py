"""The training loop: steps, saved states, and what happens when it is stopped on the way."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections.abc import Callable

from ..core import trees
from ..optional import blas
from ..parallel import Ranks
from .checkpoint import remove_leftovers
from .config import RunError
from .lock import locked
from .run import Run, State
from .run_folder import OUTPUTS, record, save, saved_step
from .step import ALONE, DivergedError, stepper
from .stopping import signals_wait

SAVE_AFTER = 60.0
"""Seconds after which the state is also saved within an epoch."""


class SaveError(OSError):
    """The state cannot be saved; the last one that could be is in the run folder, if there still is one."""


def train(run: Run, state: State, *, report: Callable[[State], None] | None = None, ranks: Ranks = ALONE) -> State:
    """Train to the end, and return the last state.

    The state is saved after every epoch, every ``SAVE_AFTER`` seconds, and before a ``KeyboardInterrupt`` is raised.

    Args:
        run, state: from ``begin`` or ``resume``.
        report: called with the state after each step.
        ranks: the processes that train together, ``tinygrad_vae.parallel.world()`` under mpiexec. All call this with
            the same run and state; the first one alone writes and reports.

    Raises:
        DivergedError: the loss is not finite any more; the checkpoint holds the last good state.
        SaveError: the state cannot be saved.
        LockedError: another process trains in the folder.
        RunError: another process has trained further in the folder since the state was read.

    >>> import tempfile
    >>> from tinygrad_vae.app import TrainConfig, begin
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, state = begin(TrainConfig(epochs=1, hidden=(8,)), folder)
    ...     train(run, state).history[0]["epoch"]
    1
    """
    with contextlib.ExitStack() as folder:

        def claim() -> None:
            folder.enter_context(locked(run.folder))
            if saved_step(run) > state.step:
                raise RunError(f"{run.folder}: another process has gone on with this run; resume it anew")
            remove_leftovers(run.folder, OUTPUTS)
            record(run)

        ranks.on_first(claim)
        if run.config.blocks > 1:  # then the bits do not depend on how many cores there are
            folder.enter_context(blas().limit(limits=1))
        return _loop(run, state, report, ranks)


def _loop(run: Run, state: State, report: Callable[[State], None] | None, ranks: Ranks) -> State:
    make_step = stepper(run, ranks)
    saved, between_steps = time.monotonic(), True
    try:
        with signals_wait() as stop_if_asked:
            while not run.finished(state):
                between_steps = False
                with ranks.together():
                    state = make_step(state)
                    between_steps = True
                    end_of_epoch = state.step % run.steps_per_epoch == 0
                    if ranks.rank == 0 and (end_of_epoch or time.monotonic() - saved > SAVE_AFTER):
                        _save(run, state)
                        saved = time.monotonic()
                    if ranks.rank == 0 and report is not None:
                        report(state)
                    stop_if_asked()
                if end_of_epoch and ranks.size > 1:
                    _check_same(ranks, state)
    except KeyboardInterrupt:
        if between_steps and ranks.rank == 0:
            # within one, the memory of the compiled step is neither the old state nor the new one
            _save(run, state)
        raise
    except DivergedError as error:
        raise DivergedError(
            f"{error}. {run.checkpoint} holds the last good state. "
            f"Begin a new run with a learning rate below {run.config.learning_rate:g}"
        ) from error
    return state


def _check_same(ranks: Ranks, state: State) -> None:
    """Raise if the ranks do not hold the same weights any more."""
    digest = hashlib.sha256(b"".join(x.tobytes() for x in trees.leaves(state.model))).hexdigest()
    expected = ranks.on_first(lambda: digest)
    with ranks.together():
        if digest != expected:
            raise RunError(
                f"rank {ranks.rank} holds other weights than rank 0 after step {state.step}, since its processor or "
                "its libraries compute other bits; start all ranks on machines of one kind, and go on with --resume"
            )


def _save(run: Run, state: State) -> None:
    try:
        save(run, state)
    except OSError as error:
        if not run.folder.is_dir():
            raise SaveError(
                f"{run.folder}: the run folder was removed or renamed while the run went on, and its state after step "
                f"{state.step} cannot be saved there; put it back and resume, or begin anew"
            ) from error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise SaveError(
            f"{run.checkpoint}: the state after step {state.step} cannot be saved: {error}. The file holds the last "
            f"state that could be; {'free some space' if full else 'make it writable'}, and go on with --resume"
        ) from error
