"""Arrays of NumPy or CuPy: what may enter a graph, and which module computes with it. Only this file names CuPy."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import scipy.special

from . import trees

Tree = TypeVar("Tree")

Array = Any
"""A ``numpy.ndarray``, a NumPy scalar, or a ``cupy.ndarray``."""

Value = Any
"""What a library function takes and returns: an array or a number, or a ``Tensor`` that holds one."""


def namespace(*arrays: Value) -> ModuleType:
    """Return the module that computes with these arrays: ``cupy`` if one of them is on a GPU, ``numpy`` otherwise."""
    return sys.modules["cupy"] if any(map(_is_cupy, arrays)) else np


def special(*arrays: Value) -> ModuleType:
    """Return the module of special functions for these arrays: ``scipy.special`` or its CuPy twin."""
    return importlib.import_module("cupyx.scipy.special") if any(map(_is_cupy, arrays)) else scipy.special


def _is_cupy(x: object) -> bool:
    module = sys.modules.get("cupy")
    return module is not None and isinstance(x, getattr(module, "ndarray", ()))


def is_array(x: object) -> bool:
    """Return whether ``x`` is an array: of NumPy or CuPy, a NumPy scalar included."""
    return isinstance(x, (np.ndarray, np.generic)) or _is_cupy(x)


def as_array(x: Array) -> Array:
    """Return ``x`` as an array of floats, integers or booleans, without a copy where it already is one.

    A number becomes an array without axes. A list is refused, because its dtype would be a guess.

    Raises:
        TypeError: ``x`` is no number and no array of real numbers.
    """
    if isinstance(x, (bool, int, float, np.generic)):
        x = np.asarray(x)
    if not is_array(x):
        raise TypeError(
            f"expected an array or a number, found {describe(x)}; write numpy.asarray(...) and choose its dtype"
        )
    if x.dtype.kind not in "fiub":
        raise TypeError(
            f"expected floats, integers or booleans, found {describe(x)}; convert it with .astype(numpy.float64)"
        )
    return x


def describe(x: object) -> str:
    """Say in a few words what ``x`` is, for error messages.

    >>> describe(np.ones((2, 3), dtype=np.float32))
    'a float32 array of shape (2, 3)'
    """
    if isinstance(x, (bool, int, float, complex, str)):
        return f"the {type(x).__name__} {x!r}"
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return f"a {x.dtype} {'array' if is_array(x) else type(x).__name__} of shape {tuple(x.shape)}"
    if isinstance(x, (list, tuple)):
        return f"a {type(x).__name__} of length {len(x)}"
    return f"an object of type {type(x).__name__}"


def to_host(tree: Tree) -> Tree:
    """Return a tree of arrays (a model, the state of an optimizer) with every array in NumPy.

    Raises:
        TypeError: the tree holds Tensors, which are never moved.

    >>> to_host({"weight": np.ones(2), "name": "w"})
    {'weight': array([1., 1.]), 'name': 'w'}
    """
    return _moved("to_host", tree, lambda x: x.get() if _is_cupy(x) else np.asarray(x))


def to_device(tree: Tree) -> Tree:
    """Return a tree of arrays with every array on the current GPU, in CuPy.

    Whatever is computed from arrays on a GPU is computed there: move the model, the optimizer's state and the data.
    Noise is drawn on the host and moved, so a run draws the same numbers everywhere. CuPy refuses arrays of the host
    beside its own, adds up sums in another order, and does not raise for an index out of range.

    Raises:
        TypeError: the tree holds Tensors, which are never moved.
        ImportError: CuPy is not installed.
    """
    module = cupy()
    return _moved("to_device", tree, lambda x: x if _is_cupy(x) else module.asarray(x))


def _moved(what: str, tree: Tree, move: Any) -> Tree:
    for path, x in trees.paths(tree):
        if not is_array(x) and hasattr(x, "dtype"):
            raise TypeError(
                f"{what} moves arrays, found {describe(x)}{f' at {path}' if path else ''}; "
                "take arrays out of Tensors with tg.values(tree), move them, and wrap them again"
            )
    return trees.map_leaves(lambda x: move(x) if is_array(x) else x, tree)


def owned(arrays: list[Array], taken: set[int]) -> list[Array]:
    """Return the arrays, each with memory of its own, so that editing one leaves the others alone.

    ``taken`` has the ids of the arrays that belong to somebody else; those that are returned are added.
    """
    out = []
    for g in arrays:
        g = as_array(g)
        if g.base is not None or id(g) in taken:
            g = g.copy()
        taken.add(id(g))
        out.append(g)
    return out


def beside(x: Array, *others: Value) -> Array:
    """Return an array where the others are: moved to the GPU if one of them is there."""
    return x if namespace(*others) is np else to_device(x)


def cupy() -> ModuleType:
    """Return CuPy, or raise an ImportError that says how to install it."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ImportError(
            "arrays on a GPU need CuPy: pip install 'tinygrad-vae[cuda12]', or 'tinygrad-vae[cuda13]' "
            "where the driver is one for CUDA 13"
        ) from error
