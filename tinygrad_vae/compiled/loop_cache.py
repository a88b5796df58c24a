"""The machine code of loops on disk, so that the next process does not compile them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..optional import require

KEPT = 500  # loops, of about 30 KB each; the oldest ones are removed


class LoopCache:
    """Where numba looks for the machine code of a loop before it compiles it, and leaves it afterwards.

    A file is named by the hash of all that the code depends on: the loop, the types of its arrays, the versions and the
    processor. It begins with the hash of its content, and appears whole, so that processes do not disturb each other.
    A file that cannot be read, or is damaged, counts as missing, and code that cannot be written is not kept. Loops
    that compute different things must have different names.
    """

    cache_path = None

    def __init__(self, name: str) -> None:
        self._name = name

    def _file(self, signature: Any, context: Any) -> Path:
        versions = sys.version, np.__version__, require("numba").__version__
        key = repr((self._name, signature, versions, context.codegen().magic_tuple()))
        folder = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(folder, "tinygrad_vae", "loops", hashlib.sha256(key.encode()).hexdigest())

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return what numba compiled for these types before, or ``None``."""
        with contextlib.suppress(Exception):  # another version of numba may raise anything
            content = self._file(signature, context).read_bytes()
            if hashlib.sha256(content[32:]).digest() == content[:32]:
                context.refresh()
                return require("numba.core.compiler").CompileResult._rebuild(context, *pickle.loads(content[32:]))
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep what numba compiled for these types."""
        with contextlib.suppress(Exception):
            file = self._file(signature, compiled.target_context)
            content = require("numba.core.serialize").dumps(compiled._reduce())
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}")
            try:
                part.write_bytes(hashlib.sha256(content).digest() + content)
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)
            for old in sorted(file.parent.iterdir(), key=lambda file: file.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)
