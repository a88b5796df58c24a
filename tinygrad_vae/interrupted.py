"""A Ctrl-C while the command still imports the library ends it in one line, not in a traceback."""

import sys
from pathlib import Path
from types import TracebackType


def _say_so(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("tinygrad-vae: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


_as_module = ("-m", __package__) in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
if _as_module or Path(sys.argv[0] if sys.argv else "").stem == "tinygrad-vae":
    sys.excepthook = _say_so
