"""A lock on a folder: one process at a time writes there."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows, where a folder is not locked
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class LockedError(RuntimeError):
    """Another process writes in the folder."""


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep other processes out of a folder that exists.

    The operating system drops the lock when the process ends, however it ends. A killed process leaves a file
    behind, which the next one takes over.

    Raises:
        LockedError: another process, or this one, has locked the folder.
        OSError: the folder cannot be written.
    """
    path = Path(folder) / LOCK
    while True:
        with open(path, "a+") as file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read() or "another process"
                raise LockedError(f"{folder}: {owner} is writing there; wait for it, or end it") from None
            if not _is_at(path, file):  # the owner removed it after it was opened here
                continue
            try:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
                yield
            finally:
                path.unlink(missing_ok=True)  # still locked: a process that opened it meanwhile opens another
            return


def _is_at(path: Path, file: Any) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
