"""Arrays and where they live: which module an array belongs to, moving it, drawing it from a seed.

The only file that imports CuPy, and only to move arrays to a GPU (``to_device``); all else looks at it only where it is
imported already. It knows trees, and nothing of graphs: what it returns are plain arrays.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import scipy.special
from numpy.random.bit_generator import ISpawnableSeedSequence

from . import trees

Tree = TypeVar("Tree")

Array = Any
"""A ``numpy.ndarray``, a NumPy scalar, or a ``cupy.ndarray``."""

Value = Any
"""What a library function takes and gives: an array or a number, or a ``Tensor`` that holds one."""

NUMBERS = "fiub"
"""The ``dtype.kind`` of the arrays that may enter a graph: floats, integers and booleans."""

# glibc hands freed memory back to the system, and a training step, which asks for as much again at once, gets it page
# by page: a tenth of an eager step. Once an array as large as this was freed it keeps up to 64 MiB (M_MMAP_THRESHOLD in
# the manual page of mallopt). The array costs nothing, since nothing is written to it.
np.empty(2**25 - 2**16, np.uint8)


def give_back_memory() -> None:
    """Hand freed memory back to the system, where glibc keeps it (see above)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # which other C libraries have not got
        if trim is not None:
            trim(0)


def namespace(*arrays: Value) -> ModuleType:
    """Return the module that computes with these arrays: ``cupy`` if one of them is on a GPU, ``numpy`` otherwise.

    >>> namespace(np.ones(3)).__name__
    'numpy'
    """
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

    A number becomes an array without axes. Lists are refused (their dtype would be a guess), and so
    are complex numbers, text and objects.

    Raises:
        TypeError: ``x`` is no number and no array of numbers.
    """
    if isinstance(x, (bool, int, float, np.generic)):
        x = np.asarray(x)
    if not is_array(x):
        raise TypeError(
            f"expected an array or a number, found {describe(x)}; write numpy.asarray(...) and choose its dtype"
        )
    if x.dtype.kind not in NUMBERS:
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
    """Return the tree with its arrays in NumPy; those that are there already are returned as they are.

    Args:
        tree: an array, or a tree of them: a model, the state of an optimizer. What is no array stays what it is.

    Raises:
        TypeError: the tree holds Tensors, which are never moved.

    >>> to_host({"weight": np.ones(2), "name": "w"})
    {'weight': array([1., 1.]), 'name': 'w'}
    """
    return _moved("to_host", tree, lambda x: x.get() if _is_cupy(x) else np.asarray(x))


def to_device(tree: Tree) -> Tree:
    """Return the tree with its arrays on the current GPU, in CuPy; those that are there already stay as they are.

    Whatever is computed from arrays on a GPU is computed there: move the model, the optimizer's state and the data.
    Noise is drawn on the host and moved, so that a run draws the same numbers wherever it runs. CuPy differs from NumPy
    in this: arrays of the host are refused beside those of a GPU, numbers are not; sums are added up in another order;
    an index out of range wraps around, and a matrix that has no factor gives nan, where NumPy raises. To look at a
    number waits for the device, and so does each check of a law's parameters and of an optimizer's gradients; a
    ``tg.plan`` makes none of them.

    Args:
        tree: an array, or a tree of them: a model, the state of an optimizer. What is no array stays what it is.

    Raises:
        TypeError: the tree holds Tensors, which are never moved.
        ImportError: CuPy is not installed.

    >>> to_device({"weight": np.ones(2)})["weight"].device  # doctest: +SKIP
    <CUDA Device 0>
    """
    module = cupy()
    return _moved("to_device", tree, lambda x: x if _is_cupy(x) else module.asarray(x))


def _moved(what: str, tree: Tree, move: Callable[[Array], Array]) -> Tree:
    for path, x in trees.paths(tree):
        if not is_array(x) and hasattr(x, "dtype"):
            raise TypeError(
                f"{what} moves arrays, found {describe(x)}{f' at {path}' if path else ''}; "
                "take arrays out of Tensors with tg.values(tree), move them, and wrap them again"
            )
    return trees.map_leaves(lambda x: move(x) if is_array(x) else x, tree)


def beside(x: Array, *others: Value) -> Array:
    """Return an array where the others are: moved to the GPU if one of them is there, as it is otherwise."""
    return x if namespace(*others) is np else to_device(x)


def cupy() -> ModuleType:
    """Return CuPy.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ImportError(
            "arrays on a GPU need CuPy: pip install 'tinygrad-vae[cuda12]', or 'tinygrad-vae[cuda13]' "
            "where the driver is one for CUDA 13"
        ) from error


@dataclass
class NoiseStream:
    """A stream of external noise, made by ``noise(seed)``.

    The numbers are a function of ``(seed, path, how many draws came before on this stream)`` and of
    nothing else: not of how large the earlier draws were, nor of what ran elsewhere. ``at`` names a
    place, so that a run that resumes at step 700 draws what an undisturbed one would have drawn there.
    Each draw has a generator of its own, Philox 4x64, whose key is a hash of that place.

    >>> stream = noise(0)
    >>> a, b = stream.at("step", 700).normal((2,)), stream.at("step", 700).normal((2,))
    >>> bool((a == b).all())
    True
    """

    seed: int
    path: tuple[int | str, ...] = ()
    drawn: int = field(default=0)

    def at(self, *where: int | str) -> NoiseStream:
        """Return the stream that stands at ``where`` below this one, at its beginning."""
        return NoiseStream(self.seed, (*self.path, *map(_part, where)))

    @property
    def place(self) -> tuple[int, tuple[int | str, ...], int]:
        """Where the next draw stands: seed, path, and how many came before. Its numbers depend on nothing else."""
        return self.seed, self.path, self.drawn

    def generator(self) -> np.random.Generator:
        """Return the generator of the next draw, and count the draw."""
        place: Any = _Place(*self.place)
        self.drawn += 1
        return np.random.Generator(np.random.Philox(place))

    def normal(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> Array:
        """Return draws of N(0, 1)."""
        return np.asarray(self.generator().standard_normal(shape, dtype=dtype))

    def uniform(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> Array:
        """Return draws of the uniform law on the *open* interval (0, 1).

        The values are the midpoints ``(k + 1/2) / 2^n``, with n = 23 for float32 and 52 for float64: never 0
        or 1, so that an inverse cdf stays finite, and ``1 - u`` is exact, so that a pair is antithetic.
        """
        steps = 2.0**23 if np.dtype(dtype) == np.float32 else 2.0**52
        k = np.floor(self.generator().random(shape, dtype=dtype) * np.asarray(steps, dtype))
        return np.asarray((k + np.asarray(0.5, dtype)) / np.asarray(steps, dtype))

    def sobol(self, shape: tuple[int, ...], dtype: Any = np.float64, *, normal: bool = False) -> Array:
        """Return points of a scrambled Sobol sequence in the open unit cube, or their images under ``ndtri``.

        The first axis counts the points, all others together are the coordinates. Each number by itself is uniform on
        (0, 1), or N(0, 1), and different coordinates are independent; the points are not, since they keep out of each
        other's way. ``scipy.stats.qmc`` makes them; a power of 2 is the best number of points.

        Raises:
            ValueError: there is no axis to count the points.
        """
        if not shape:
            raise ValueError("a Sobol sequence needs an axis that counts its points, found shape ()")
        qmc = importlib.import_module("scipy.stats.qmc")  # only here: importing it takes most of a second
        coordinates = math.prod(shape[1:])
        points = np.zeros((shape[0], coordinates))
        if points.size:
            sequence = qmc.Sobol(coordinates, scramble=True, rng=self.generator())
            points = sequence.random_base2(math.ceil(math.log2(shape[0])))[: shape[0]]
        steps = 2.0**23 if np.dtype(dtype) == np.float32 else 2.0**30
        u = ((np.floor(points * steps) + 0.5) / steps).reshape(shape)
        return (scipy.special.ndtri(u) if normal else u).astype(dtype)

    def permutation(self, n: int) -> Array:
        """Return the numbers 0 to n - 1 in a random order."""
        return self.generator().permutation(n)


class _Place(ISpawnableSeedSequence):
    """Where a draw stands, as what NumPy's generators take their keys from: as many bytes as they ask for.

    They are a hash of the place, so that no two places have anything in common (SHAKE128, FIPS 202).
    """

    def __init__(self, *place: Any) -> None:
        self._place = place
        self._spawned = 0

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Array:
        """Return this many words of a generator's key."""
        dtype = np.dtype(dtype)
        found = hashlib.shake_128(repr(self._place).encode()).digest(n_words * dtype.itemsize)
        return np.frombuffer(found, dtype.newbyteorder("<")).astype(dtype, copy=False)

    def spawn(self, n_children: int) -> list[_Place]:
        """Return places below this one, for generators that are made from its generator."""
        first = self._spawned
        self._spawned += n_children
        return [_Place(*self._place, child) for child in range(first, self._spawned)]


def _part(part: int | str) -> int | str:
    """Return a part of a place as Python's own number or text: what it looks like becomes part of a key."""
    if isinstance(part, str):
        return str(part)
    if part < 0:
        raise ValueError(f"a place in a noise stream is counted from 0, found {part}")
    return int(part)


def noise(seed: int) -> NoiseStream:
    """Return a stream of external noise: the only source of randomness of the library.

    Args:
        seed: a whole number from 0 on; the same seed gives the same draws on every machine.

    Raises:
        TypeError, ValueError: the seed is no such number.

    >>> noise(1).normal((2,)).shape
    (2,)
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"noise(seed) takes a whole number, found {describe(seed)}")
    if seed < 0:
        raise ValueError(f"noise(seed) takes a whole number from 0 on, found {seed}")
    return NoiseStream(int(seed))


def size(shape: tuple[int, ...]) -> int:
    """Return the number of elements of an array of this shape."""
    return math.prod(shape)
