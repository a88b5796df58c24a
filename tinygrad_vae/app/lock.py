"""A lock on a folder: one process at a time writes there."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

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

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(folder):
    ...     [path.name for path in Path(folder).iterdir()]
    ['.lock']
    """
    path = Path(folder) / LOCK
    file = _claimed(path)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)  # still locked: a process that opened it meanwhile opens another
        file.close()


def _claimed(path: Path) -> IO[str]:
    """Return the file at the path, open and locked."""
    while True:
        file = open(path, "a+")  # noqa: SIM115  it stays open as long as the lock is held
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.seek(0)
            owner = file.read() or "another process"
            file.close()
            raise LockedError(f"{path.parent}: {owner} is writing there; wait for it, or end it") from None
        except FileNotFoundError:  # removed between the two looks at it
            pass
        except BaseException:
            file.close()
            raise
        file.close()
