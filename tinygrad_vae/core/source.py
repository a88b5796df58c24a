"""Lines of the user's code, for messages: where a draw was made, where a number went wrong. It knows nothing else."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ENGINE = frozenset({"core", "ops", "compiled", "distributions", "guard", "estimators", "numerics.py", "calculus.py"})


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


def calling_place() -> Place:
    """Return the line outside this package that the running call came from; for a command, that of the package.

    A command is called from a script that pip has written, which says nothing: there it is the line of the model or of
    the training that came to the engine.
    """
    frame, inside = sys._getframe(1), None
    while frame.f_back is not None and (path := os.path.abspath(frame.f_code.co_filename)).startswith(_PACKAGE):
        part = path.removeprefix(_PACKAGE).split(os.sep)[0]
        if part == "app" and inside is not None:
            return inside
        if inside is None and part not in _ENGINE:
            inside = Place(path, frame.f_lineno)
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
