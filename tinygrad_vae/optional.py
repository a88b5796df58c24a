"""Optional packages: imported where they are used, with a clear message if they are missing.

The engine needs NumPy and SciPy alone; the command needs a few packages more.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any


class MissingExtraError(ImportError):
    """An optional package cannot be imported."""


def require(module: str, *, extra: str = "train") -> Any:
    """Return an optional module, such as ``"matplotlib.figure"``, of one of the extras.

    Raises:
        MissingExtraError: it is not installed, and the message says how to; or it is broken or badly set up, such as
            matplotlib with a bad ``MPLBACKEND``.

    >>> require("safetensors").__name__
    'safetensors'
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'{package} is needed here and cannot be imported ({error}); pip install "tinygrad-vae[{extra}]"'
        ) from error
    except Exception as error:
        raise MissingExtraError(f"{package} is installed, but cannot be imported: {error}") from error


def has_compiler() -> bool:
    """Return whether there is a numba that works with the installed NumPy."""
    try:
        importlib.import_module("numba")
    except ImportError:  # numba raises it as well if NumPy is too new
        return False
    return True


@functools.cache
def blas() -> Any:
    """Return what sets the number of threads of matrix products: ``with blas().limit(limits=1): ...``."""
    return require("threadpoolctl", extra="mpi").ThreadpoolController().select(user_api="blas")
