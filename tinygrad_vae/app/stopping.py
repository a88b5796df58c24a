"""Ctrl-C, SIGTERM and SIGHUP: all three stop the command alike, and a training step is finished first."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


class StoppedError(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the process to end; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return signal.Signals(self.number).name


def _stop(number: int, frame: Any) -> None:
    raise StoppedError(number)


def _handled_by(*handlers: Any) -> dict[int, Any]:
    """Return the signals with these handlers, and the handler of each; none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) in handlers}


@contextlib.contextmanager
def signals_stop() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise ``StoppedError``, unless somebody else handles or ignores them.

    Python drops an exception that is raised in the callback of a weak reference: that signal is sent again.
    """
    before, report = _handled_by(signal.SIG_DFL), sys.unraisablehook

    def send_again(dropped: Any) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            number = getattr(dropped.exc_value, "number", signal.SIGINT)
            started = threading.Event()

            def send() -> None:
                started.wait()  # a signal that came back before this callback ends would be dropped again
                time.sleep(0.05)
                os.kill(os.getpid(), number)

            threading.Thread(target=send, daemon=True).start()
            started.set()
        else:
            report(dropped)

    for number in before:
        signal.signal(number, _stop)
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_wait() -> Iterator[Callable[[], None]]:
    """Let a signal that stops the process wait; a second one does not wait.

    Gives a function that raises what the waiting signal would have raised. The end of the context does the same.
    """
    before = _handled_by(signal.default_int_handler, _stop)
    waiting: list[int] = []

    def note(number: int, frame: Any) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            before[number](number, frame)

    def stop_if_asked() -> None:
        if waiting:
            before[waiting[0]](waiting[0], None)

    for number in before:
        signal.signal(number, note)
    try:
        yield stop_if_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    stop_if_asked()
