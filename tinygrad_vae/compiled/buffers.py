"""The parts of a compiled step: buffers of memory, views of them, and calls of NumPy on views."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array


@dataclass(eq=False)
class Buffer:
    """Memory that is written once: by one call, or from outside before the first call."""

    like: Array
    fixed: bool  # a constant, which stays where it is
    start: int | None = None  # the offset in the arena, once it is decided


@dataclass(eq=False)
class View:
    """An array that lies in a buffer; ``like`` has its shape, dtype and strides, and no numbers."""

    buffer: Buffer
    like: Array

    @property
    def offset(self) -> int:
        """How many bytes after the beginning of the buffer the first element lies."""
        return address(self.like) - address(self.buffer.like)

    @property
    def key(self) -> Hashable:
        """Equal for two views of the same elements."""
        like = self.like
        strides = (stride if n > 1 else 0 for n, stride in zip(like.shape, like.strides, strict=True))
        return self.buffer, address(like), like.shape, *strides, like.dtype.char

    @property
    def is_whole(self) -> bool:
        """Whether this is all of its buffer, row after row."""
        return bool(self.like.nbytes == self.buffer.like.nbytes and self.like.flags.c_contiguous)

    def lies_like(self, other: View) -> bool:
        """Return whether each element lies as far from the beginning of its buffer as the same element of another."""
        a, b = self.like, other.like
        same = (a.shape, a.strides, self.offset) == (b.shape, b.strides, other.offset)
        return bool(same and self.buffer.like.nbytes == other.buffer.like.nbytes)

    def within(self, arena: Array) -> Array:
        """Return the array in the arena, or the constant itself."""
        if self.buffer.start is None:
            return self.like
        return np.ndarray(self.like.shape, self.like.dtype, arena, self.buffer.start + self.offset, self.like.strides)

    def forget(self) -> None:
        """Keep shape and dtype only: once everything lies in the arena, the memory is no longer needed."""
        self.like = self.buffer.like = np.broadcast_to(np.empty((), self.like.dtype), self.like.shape)


@dataclass(eq=False)
class Call:
    """One call of NumPy: ``function(*args, out=out)``."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    out: View
    elementwise: bool  # each element is written after the same elements of the arguments are read, and needs no others

    @property
    def reads(self) -> list[View]:
        return [x for x in self.args if isinstance(x, View)]

    @property
    def outs(self) -> list[View]:
        return [self.out]

    @property
    def name(self) -> str:
        """The name of an elementwise function of NumPy; empty for everything else."""
        return self.function.__name__ if self.elementwise and isinstance(self.function, np.ufunc) else ""

    def bound(self, arena: Array) -> Callable[[], Any]:
        """Return the call on arrays in the arena."""
        args = [x.within(arena) if isinstance(x, View) else x for x in self.args]
        return functools.partial(self.function, *args, out=self.out.within(arena))


def address(x: Array) -> int:
    """Return the address of the first element."""
    found: int = x.__array_interface__["data"][0]
    return found


def laid_out_like(x: Array) -> Array:
    """Return an array without numbers that has the strides of x, also where they are negative, zero, or leave gaps."""
    low, high = np.lib.array_utils.byte_bounds(x)
    return np.ndarray(x.shape, x.dtype, np.empty(max(high - low, 1), np.uint8), address(x) - low, x.strides)
