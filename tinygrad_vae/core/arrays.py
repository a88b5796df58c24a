"""Arrays of NumPy or CuPy: what may enter a graph, and which module computes with it. Only this file imports CuPy."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np

Array = Any
"""A ``numpy.ndarray``, a NumPy scalar, or a ``cupy.ndarray``."""

Value = Any
"""What a library function takes and returns: an array or a number, or a ``Tensor`` that holds one."""


def namespace(*arrays: Value) -> ModuleType:
    """Return the module that computes with these arrays: ``cupy`` if one of them is on a GPU, ``numpy`` otherwise."""
    return sys.modules["cupy"] if any(map(_is_cupy, arrays)) else np


def special(*arrays: Value) -> ModuleType:
    """Return the module of special functions for these arrays: ``scipy.special`` or its CuPy twin."""
    import scipy.special  # only here: importing it takes longer than importing the library

    return importlib.import_module("cupyx.scipy.special") if any(map(_is_cupy, arrays)) else scipy.special


def _is_cupy(x: object) -> bool:
    module = sys.modules.get("cupy")
    return module is not None and isinstance(x, getattr(module, "ndarray", ()))


def is_array(x: object) -> bool:
    """Return whether ``x`` is an array: of NumPy or CuPy, a NumPy scalar included."""
    return isinstance(x, (np.ndarray, np.generic)) or _is_cupy(x)


def as_array(x: Array) -> Array:
    """Return a number as an array, and an array of floats, integers or booleans as it is, without a copy.

    Raises:
        TypeError: ``x`` is neither; a list is refused, because its dtype would be a guess.
    """
    if isinstance(x, (bool, int, float, np.generic)):
        x = np.asarray(x)
    if not is_array(x):
        raise TypeError(f"expected an array or a number, found {describe(x)}; write numpy.asarray(x, dtype)")
    if x.dtype.kind not in "fiub":
        raise TypeError(f"expected floats, integers or booleans, found {describe(x)}; convert it with .astype(float)")
    return x


def describe(x: object) -> str:
    """Say in a few words what ``x`` is, for error messages: ``a float32 array of shape (2, 3)``."""
    if isinstance(x, (bool, int, float, complex, str)):
        return f"the {type(x).__name__} {x!r}"
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return f"a {x.dtype} {'array' if is_array(x) else type(x).__name__} of shape {tuple(x.shape)}"
    if isinstance(x, (list, tuple)):
        return f"a {type(x).__name__} of length {len(x)}"
    return f"an object of type {type(x).__name__}"


def to_numpy(x: Array) -> Array:
    """Return an array in NumPy."""
    return x.get() if _is_cupy(x) else np.asarray(x)


def cupy() -> ModuleType:
    """Return CuPy, or raise an ImportError that says how to install it."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ImportError("a GPU needs CuPy: pip install 'tinygrad-vae[cuda12]', or [cuda13] for CUDA 13") from error


def owned(arrays: list[Array], taken: set[int]) -> list[Array]:
    """Return arrays that a caller may edit one by one: views, repeats and those with an id in ``taken`` are copied."""
    out = []
    for g in map(as_array, arrays):
        if g.base is not None or id(g) in taken:
            g = g.copy()
        taken.add(id(g))
        out.append(g)
    return out
