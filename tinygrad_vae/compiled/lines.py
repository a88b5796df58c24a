"""Lines of the cache that a matrix product left with two processors, asked for before they are written.

It knows the calls of a plan and where they lie in the arena, and nothing of what they compute.

BLAS divides a product between processors. Each then holds the lines of 64 bytes that it has read, and one of them can
write to such a line only after the others have let go of it. A loop that reads and writes several arrays waits for that
at every line. Asked for in advance and one after the other, many lines come at the same time. Where the processors do
not share a cache, the step of Adam on 400 x 784 weights then takes 0.4 ms in place of 1.9. Where they do there is
nothing to wait for, and asking costs a tenth of the step; so a few lines are asked for, and the others only if those
took long. On a virtual machine that may change from one second to the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from ..core import Array
from .calls import Buffer, Call, View
from .loops import Loop
from .turned import is_product

LINE = 64
"""How many bytes are held together."""

LEAST = 2**19
"""From how many bytes on an array is asked for."""

FEW = 512
"""How many lines are asked for first."""

LONG = 5e-6
"""How many seconds that must have taken for the others to be asked for: some 10 nanoseconds for each line."""


def with_requests(work: Sequence[Call | Loop], size: int) -> list[Call | Loop]:
    """Return the work, and before what writes where a product read or wrote last, a request for those lines.

    Args:
        work: calls and loops, with every buffer at its place.
        size: the size of the arena, in bytes.
    """
    divided = np.zeros(-(-size // LINE), np.bool_)  # for each line, whether a product was the last to need it
    asked: list[Call | Loop] = []
    for _ in range(2):  # a step begins with what the one before it has left
        asked = []
        for item in work:
            if is_product(item):
                for _, lines in _lines((*item.reads, *item.outs)):
                    divided[lines] = True
            else:
                for buffer, lines in _lines(item.outs):
                    if buffer.like.nbytes >= LEAST and divided[lines].mean() > 0.5:
                        asked.append(_request(buffer))
                    divided[lines] = False
            asked.append(item)
    return asked


def _lines(views: Sequence[View]) -> Iterator[tuple[Buffer, slice]]:
    """Yield the buffers of arrays, and which lines of the arena belong to them."""
    for buffer in {view.buffer: None for view in views}:
        if buffer.start is not None:
            yield buffer, slice(buffer.start // LINE, -(-(buffer.start + buffer.like.nbytes) // LINE))


def _request(buffer: Buffer) -> Call:
    like = buffer.like if buffer.like.flags.c_contiguous else buffer.like.T
    lines = like.view(np.ndarray).reshape(-1).view(np.uint8)[::LINE]
    few, others = View(buffer, lines[:FEW]), View(buffer, lines[FEW:])
    return Call(request, (few,), others, elementwise=False)


def request(few: Array, out: Array) -> None:
    """Write to each of a few lines what stands there, and if that took long to the others."""
    np.bitwise_or(_NOTHING, 0, out=_NOTHING)  # the first call of a function takes longer
    start = time.perf_counter()
    np.bitwise_or(few, 0, out=few)
    if time.perf_counter() - start > LONG:
        np.bitwise_or(out, 0, out=out)


_NOTHING = np.zeros(1, np.uint8)
