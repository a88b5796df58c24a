"""Where the arrays of a compiled step lie: two share memory if one is no longer needed when the other is written."""

from __future__ import annotations

import bisect
import contextlib
import ctypes
from collections.abc import Mapping, Sequence

from .buffers import Buffer, Call, View
from .loops import Loop

ALIGNMENT = 64  # bytes, a cache line: every array in the arena begins at a multiple


def assign_memory(
    work: Sequence[Call | Loop], outside: Sequence[Buffer], kept: set[Buffer], homes: Mapping[Buffer, Buffer]
) -> int:
    """Give each buffer its start in the arena, and return the arena's size.

    Args:
        work: calls and loops in the order in which they run.
        outside: buffers that are filled before the first call; nothing else lies there.
        kept: buffers that are read after the last call.
        homes: for each carried result the buffer of the argument that it becomes, and in whose memory it is written as
            soon as nothing reads the old numbers any more.
    """
    size = 0
    last = {x.buffer: i for i, item in enumerate(work) for x in (*item.reads, *item.outs)}
    reads = dict(last)
    last |= dict.fromkeys((*outside, *kept), len(work))
    busy: list[tuple[int, int, int]] = []  # start, end and last use of all that is still needed, in this order

    def place(buffer: Buffer, start: int | None = None) -> None:  # or in the first free part that is long enough
        nonlocal size
        length = -(-max(buffer.like.nbytes, 1) // ALIGNMENT) * ALIGNMENT
        if start is None:
            start = 0
            for other, end, _ in busy:
                if other - start >= length:
                    break
                start = max(start, end)
        buffer.start, size = start, max(size, start + length)
        bisect.insort(busy, (start, start + length, last[buffer]))

    for buffer in outside:
        place(buffer)
    for i, item in enumerate(work):
        busy = [part for part in busy if part[2] >= i]
        ending = {x.buffer: None for x in item.reads if last[x.buffer] == i and not x.buffer.fixed}
        for out in item.outs:
            home = homes.get(out.buffer)
            if home is not None and home not in kept:
                read = reads.get(home, -1)
                if read < i or (read == i and _may_overwrite(item, home, out)):
                    place(out.buffer, home.start)
                    continue
            old = next((b for b in ending if _may_overwrite(item, b, out)), None)
            place(out.buffer, None if old is None else old.start)
            ending.pop(old, None)  # type: ignore[arg-type]
    return size


def _may_overwrite(item: Call | Loop, buffer: Buffer, out: View) -> bool:
    """Return whether the last reader of a buffer may write its result there, each element after it was read."""
    reads = [x for x in item.reads if x.buffer is buffer]
    return bool(reads) and item.elementwise and all(x.lies_like(out) for x in reads)


def give_back_freed_memory() -> None:
    """Let glibc give the system back what it keeps: a recorded graph takes twice the memory of the step it becomes."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library frees by itself
        ctypes.CDLL(None).malloc_trim(0)
