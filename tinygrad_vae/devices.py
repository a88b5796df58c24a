"""Moving trees of arrays to a GPU and back."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from .core import Array, Value, describe, is_array, namespace, trees
from .core.arrays import cupy, to_numpy

Tree = TypeVar("Tree")


def to_host(tree: Tree) -> Tree:
    """Return a tree of arrays (a model, the state of an optimizer) with every array in NumPy."""
    return _moved("to_host", tree, to_numpy)


def to_device(tree: Tree) -> Tree:
    """Return a tree of arrays with every array on the current GPU, in CuPy; the model, its state and the data go there.

    Noise is drawn on the host and moved, so a run draws the same numbers everywhere. CuPy refuses arrays of the host
    beside its own, adds up sums in another order, and does not raise for an index out of range.

    Raises:
        TypeError: the tree holds Tensors, which are never moved.
        ImportError: CuPy is not installed.
    """
    return _moved("to_device", tree, cupy().asarray)


def _moved(what: str, tree: Tree, move: Any) -> Tree:
    for path, x in trees.paths(tree):
        if not is_array(x) and hasattr(x, "dtype"):
            found = f"{what} moves arrays, found {describe(x)}{f' at {path}' if path else ''}"
            raise TypeError(f"{found}; take arrays out of Tensors with tg.values(tree), move them, and wrap them again")
    return trees.map_leaves(lambda x: move(x) if is_array(x) else x, tree)


def beside(x: Array, *others: Value) -> Array:
    """Return an array where the others are: moved to the GPU if one of them is there."""
    return x if namespace(*others) is np else to_device(x)
