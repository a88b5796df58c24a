"""The last pass of a plan: every buffer gets a place in one piece of memory, the arena.

It knows calls and how large their results are, and nothing of what they compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .calls import Buffer, Call, View
from .loops import Loop

ALIGNMENT = 64
"""Every array in an arena begins at a multiple of so many bytes, the line of a cache."""


class _Arena:
    """Which parts of a piece of memory are free, while its size is being found out."""

    def __init__(self) -> None:
        self.size = 0
        self.free: list[tuple[int, int]] = []  # length and start

    def take(self, nbytes: int) -> int:
        """Return the start of a part: the shortest free one that is long enough, or a new one at the end."""
        nbytes = _rounded(nbytes)
        part = min((part for part in self.free if part[0] >= nbytes), default=None)
        if part is None:
            self.size += nbytes
            return self.size - nbytes
        self.free.remove(part)
        length, start = part
        if length > nbytes:
            self.free.append((length - nbytes, start + nbytes))
        return start

    def give(self, start: int, nbytes: int) -> None:
        """Free a part, joined with its free neighbours."""
        end = start + _rounded(nbytes)
        for length, other in list(self.free):
            if other + length == start or other == end:
                self.free.remove((length, other))
                start, end = min(start, other), max(end, other + length)
        self.free.append((end - start, start))


def _rounded(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def place(work: Sequence[Call | Loop], outside: list[Buffer], kept: set[Buffer], homes: Mapping[Buffer, Buffer]) -> int:
    """Give each buffer its start in the arena, and return the arena's size.

    Args:
        work: calls and loops in the order in which they are made.
        outside: what is filled before the first call; nothing else takes its place.
        kept: what is read after the last call.
        homes: for a carried result, the buffer of the argument that it becomes: its place, where that is free by then.
    """
    arena = _Arena()
    for buffer in outside:
        buffer.start = arena.take(buffer.like.nbytes)
    last = {x.buffer: i for i, item in enumerate(work) for x in (*item.reads, *item.outs)}
    staying = {*outside, *kept, *(buffer for buffer in last if buffer.fixed)}
    for i, item in enumerate(work):
        buffers = dict.fromkeys(x.buffer for x in (*item.reads, *item.outs))  # in an order that is the same every time
        ending = {buffer: None for buffer in buffers if last[buffer] == i and buffer not in staying}
        for view in item.outs:
            out = view.buffer
            home = homes.get(out)
            if home is not None and home not in kept and _is_free(home, last.get(home, -1), i, item, view):
                out.start = home.start
                continue
            old = next((b for b in ending if b is not out and _may_overwrite(item, b, view)), None)
            if old is None:
                out.start = arena.take(out.like.nbytes)
            else:
                out.start = old.start
                del ending[old]
        for buffer in ending:
            arena.give(buffer.start, buffer.like.nbytes)  # type: ignore[arg-type]
    return arena.size


def _is_free(home: Buffer, last: int, i: int, item: Call | Loop, out: View) -> bool:
    """Return whether ``out`` of number i may lie where an argument does that is read last by number ``last``."""
    return last < i or (last == i and _may_overwrite(item, home, out))


def _may_overwrite(item: Call | Loop, buffer: Buffer, out: View) -> bool:
    """Return whether what reads a buffer last may write ``out`` there, each element after it was read."""
    reads = [x for x in item.reads if x.buffer is buffer]
    alike = all(x.is_whole and x.like.shape == out.like.shape for x in (*reads, out))
    return bool(reads) and item.is_elementwise(out) and alike and buffer.like.nbytes == out.buffer.like.nbytes
