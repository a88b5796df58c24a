"""Optional packages: imported where they are used, with a clear message where they are missing.

It knows nothing of the library. The engine needs NumPy and SciPy alone; the command needs a few packages more.
"""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtraError(ImportError):
    """An optional package is not installed."""


def require(module: str, *, extra: str = "train") -> Any:
    """Return an optional module, such as ``"matplotlib.figure"``, of one of the extras.

    Raises:
        MissingExtraError: it is not installed; the message holds the command that installs it.

    >>> require("safetensors").__name__
    'safetensors'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f'{package} is needed here and cannot be imported ({error}); pip install "tinygrad-vae[{extra}]"'
        ) from error
