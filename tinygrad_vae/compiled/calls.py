"""What a plan is made of once it is lowered: buffers of memory, views of them, and calls of NumPy on views.

It knows arrays and how NumPy is called, and no graph.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, is_array, to_host


@dataclass(eq=False)
class Buffer:
    """Memory that is written once: by a call, or from outside before the first of them."""

    like: Array
    fixed: bool
    """Whether it is a constant, which stays where it is."""
    start: int | None = None
    """Where it begins in the arena, once that is decided."""


@dataclass(eq=False)
class View:
    """An array that lies in a buffer."""

    buffer: Buffer
    like: Array

    @property
    def key(self) -> Hashable:
        """What tells it from every array with other numbers."""
        like = self.like
        strides = (stride if n > 1 else 0 for n, stride in zip(like.shape, like.strides, strict=True))
        return self.buffer, address(like), like.shape, *strides, like.dtype.char

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its buffer, row after row."""
        return bool(self.like.nbytes == self.buffer.like.nbytes and self.like.flags.c_contiguous)

    def within(self, arena: Array) -> Array:
        """Return the array at its place in the arena."""
        if self.buffer.start is None:
            return self.like
        offset = self.buffer.start + address(self.like) - address(self.buffer.like)
        return np.ndarray(self.like.shape, self.like.dtype, arena, offset, self.like.strides)

    def forget(self) -> None:
        """Keep the shape and the dtype alone: the memory is needed no more once everything has its place."""
        self.like = np.broadcast_to(np.empty((), self.like.dtype), self.like.shape)
        self.buffer.like = self.like


@dataclass(eq=False)
class Call:
    """One call of NumPy, ``function(*args, out)``."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    out: View
    elementwise: bool

    @property
    def reads(self) -> list[View]:
        """What it reads."""
        return [x for x in self.args if isinstance(x, View)]

    @property
    def outs(self) -> list[View]:
        """What it writes."""
        return [self.out]

    def is_elementwise(self, out: View) -> bool:
        """Return whether each element is written after what is read at the same place."""
        return self.elementwise

    @property
    def bare(self) -> Callable[..., Any]:
        """The function without the options that it is called with."""
        bare: Callable[..., Any] = getattr(self.function, "func", self.function)
        return bare

    @property
    def name(self) -> str:
        """The name of the function of NumPy that works element by element; empty for all else."""
        return self.function.__name__ if self.elementwise and isinstance(self.function, np.ufunc) else ""

    def bound(self, arena: Array) -> Callable[[], Any]:
        """Return the call with every array at its place in the arena."""
        args = [x.within(arena) if isinstance(x, View) else x for x in self.args]
        return functools.partial(self.function, *args, out=self.out.within(arena))


def address(x: Array) -> int:
    """Return where in memory an array begins."""
    found: int = x.__array_interface__["data"][0]
    return found


def word(x: Any) -> Hashable:
    """Return what tells a number, a text, an array, or a tree of them from every other one; of all else, itself."""
    if isinstance(x, dict):
        return type(x), *((word(key), word(part)) for key, part in x.items())
    if isinstance(x, (list, tuple)):
        return type(x), *map(word, x)
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return type(x), *(word(getattr(x, field.name)) for field in dataclasses.fields(x))
    if is_array(x):
        return type(x), x.shape, x.dtype.str, to_host(x).tobytes()
    if isinstance(x, (bool, int, float, str)):
        return type(x), repr(x)  # 1, 1.0 and True are equal, and so are 0.0 and -0.0
    return x if isinstance(x, Hashable) else _Itself(x)


@dataclass(frozen=True, eq=False)
class _Itself:
    """Something without a hash, which is equal to itself alone."""

    thing: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)
