"""The third pass of a plan: elementwise calls that belong together become one loop, compiled by numba.

It knows calls and numba, and no graph. A chain of calls goes through memory once for each call. A loop goes through it
once, and what only the next step reads stays in a register. Of Adam's mean gradient,

    np.multiply(mean, 9.0, t); np.add(t, g, t); np.multiply(t, 0.1, mean)

becomes

    for i in range(mean.size):
        mean[i] = (mean[i] * 9.0 + g[i]) * 0.1

Only operations take part that IEEE 754 rounds correctly, so that a loop gives the bits that NumPy gives. It knows the
calls of a plan, and nothing of graphs.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from ..extras import require
from .calls import Buffer, Call, View, address

EXACT: dict[Any, str] = {
    np.add: "{} + {}",
    np.subtract: "{} - {}",
    np.multiply: "{} * {}",
    np.divide: "{} / {}",
    np.square: "{0} * {0}",
    np.negative: "-{}",
    np.absolute: "abs({})",
    np.sqrt: "sqrt({})",
}
"""The functions that take part in a loop, and how they are written there."""

LARGE = 2**14
"""From how many elements on a loop is worth the quarter of a second that compiling takes; smaller ones then use it."""

MOST_CHECKS = 8
"""How many pairs of arrays LLVM tests for overlap before a loop; with more it does without vector instructions."""

WINDOW = 256
"""How many calls after the first one may take part."""


def has_compiler() -> bool:
    """Return whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


class Loop:
    """Calls on arrays of one shape and dtype, element by element, run as one loop.

    Args:
        calls: in order.
        outs: what they write that is read elsewhere; all else stays in registers.
    """

    elementwise = True

    def __init__(self, calls: Sequence[Call], outs: Sequence[View]) -> None:
        self.calls, self.outs = list(calls), list(outs)
        made = {call.out.buffer for call in calls}
        found = {x.key: x for call in calls for x in call.reads if x.buffer not in made}
        self.reads = list(found.values())

    @functools.cached_property
    def steps(self) -> tuple[str, ...]:
        """The loop without its arrays: what is read is called ``a``, a number beside it ``s``, a step ``t``."""
        names: dict[Any, str] = {x.key: f"{'a' if x.like.ndim else 's'}{k}" for k, x in enumerate(self.reads)}
        lines = [str(self.calls[0].out.like.dtype)]
        for k, call in enumerate(self.calls):
            words = [names[x.key] if isinstance(x, View) else repr(x.item()) for x in call.args]
            lines.append(f"t{k} = {EXACT[call.function].format(*words)}")
            names[call.out.key] = f"t{k}"
        return (*lines, *(names[x.key] for x in self.outs))

    def bound(self, arena: Array) -> Callable[[], Any]:
        """Return the compiled loop with every array at its place in the arena."""
        dtype = self.calls[0].out.like.dtype
        arrays: list[Array] = []
        names: dict[Any, str] = {}  # what each view is called in the loop
        constants: dict[str, Any] = {}
        head: list[str] = []
        body: list[str] = []

        def parameter(x: View) -> str:
            """Return the name of the array: one for each place, so that what is written over is seen to be."""
            array = x.within(arena).reshape(-1)
            for k, other in enumerate(arrays):
                if address(other) == address(array):
                    return f"p{k}"
            arrays.append(array)
            return f"p{len(arrays) - 1}"

        def word(x: Any) -> str:
            if isinstance(x, View):
                return names[x.key]
            constants[f"c{len(constants)}"] = dtype.type(x.item())
            return f"c{len(constants) - 1}"

        for k, x in enumerate(self.reads):
            names[x.key] = f"a{k}"
            line = f"a{k} = {parameter(x)}"
            (body if x.like.ndim else head).append(f"{line}[i]" if x.like.ndim else f"{line}[0]")
        for k, call in enumerate(self.calls):
            body.append(f"t{k} = {EXACT[call.function].format(*map(word, call.args))}")
            names[call.out.key] = f"t{k}"
        stores = [(parameter(x), names[x.key]) for x in self.outs]
        body += [f"{array}[i] = {name}" for array, name in stores]
        lines = [
            f"def loop({', '.join(f'p{k}' for k in range(len(arrays)))}):",
            *(f"    {line}" for line in head),
            f"    for i in range({stores[0][0]}.size):",
            *(f"        {line}" for line in body),
        ]
        return functools.partial(_compiled("\n".join(lines), tuple(constants.items())), *arrays)


@functools.lru_cache(maxsize=256)
def _compiled(source: str, constants: tuple[tuple[str, Any], ...]) -> Callable[..., None]:
    """Return the function that the source defines, compiled for the arrays it will be called with."""
    scope: dict[str, Any] = {"sqrt": np.sqrt, "abs": np.abs, **dict(constants)}
    exec(source, scope)
    numba = require("numba", extra="fast")
    compiled: Callable[..., None] = numba.njit(nogil=True, error_model="numpy")(scope["loop"])
    return compiled


# ------------------------------------------------------------------------------------- which calls


def in_loops(calls: Sequence[Call], kept: set[Buffer], homes: Mapping[Buffer, Buffer]) -> list[Call | Loop]:
    """Return the calls in an order that gives the same, with loops for those that can be run as one.

    Args:
        calls: every call reads what was written before it.
        kept: the buffers that are read after the last call.
        homes: for a carried result, the buffer of the argument that it becomes, which it had better write over.
    """
    readers: dict[Buffer, int] = {}  # by how many calls, still to come, a buffer is read
    waiting = {call.out.buffer for call in calls}  # the buffers that are still to be written
    for call in calls:
        for buffer in {x.buffer for x in call.reads}:
            readers[buffer] = readers.get(buffer, 0) + 1

    left = list(calls)
    work: list[Call | Loop] = []
    while left:
        chosen = [left.pop(0)]
        if can_loop(chosen[0]):
            chosen += _joining(chosen[0], left[:WINDOW], waiting, readers, kept, homes)
            taken = set(map(id, chosen))
            left = [call for call in left if id(call) not in taken]
        for call in chosen:
            waiting.discard(call.out.buffer)
            for buffer in {x.buffer for x in call.reads}:
                readers[buffer] -= 1
        outs = [call.out for call in chosen if readers.get(call.out.buffer) or call.out.buffer in kept]
        work.append(Loop(chosen, outs) if len(chosen) > 1 and outs else chosen[0])
        if len(chosen) > 1 and not outs:  # what nobody reads
            work += chosen[1:]
    return list(_worthwhile(work))


def _joining(
    first: Call,
    later: Sequence[Call],
    waiting: set[Buffer],
    readers: Mapping[Buffer, int],
    kept: set[Buffer],
    homes: Mapping[Buffer, Buffer],
) -> list[Call]:
    """Return the calls that can be run in a loop with the first one and share arrays with it, directly or by others."""
    chosen = [first]
    for call in later:
        if call.out.like.shape == first.out.like.shape and call.out.like.dtype == first.out.like.dtype:
            home = homes.get(call.out.buffer)
            unread = 0 if home is None else readers.get(home, 0) - sum(_reads(other, home) for other in (*chosen, call))
            if can_loop(call) and not unread and _is_ready(call, chosen, waiting):
                chosen.append(call)
    together = {first.out.buffer}
    for _ in chosen:  # in each round at least one more, if any
        for call in chosen:
            buffers = {call.out.buffer, *(x.buffer for x in call.reads if x.like.ndim)}
            if buffers & together:
                together |= buffers
    chosen = [call for call in chosen if call.out.buffer in together]
    while _checks(chosen, readers, kept, homes) > MOST_CHECKS:
        chosen.pop()
    return chosen[1:]


def _is_ready(call: Call, chosen: Sequence[Call], waiting: set[Buffer]) -> bool:
    """Return whether all that a call reads is written by then, or at the same place by those in the loop."""
    made = {other.out.buffer for other in chosen}
    return all(x.buffer not in waiting or (x.buffer in made and x.like.ndim) for x in call.reads)


def can_loop(call: Call) -> bool:
    """Return whether a call gives the same bits in a compiled loop: arrays of one shape and dtype, and numbers."""
    out = call.out
    return (
        call.function in EXACT
        and out.is_whole
        and out.like.ndim > 0
        and out.like.dtype.char in "fd"
        and all(
            x.dtype == out.like.dtype and x.ndim == 0 and np.isfinite(x)
            if isinstance(x, np.ndarray)
            else isinstance(x, View)
            and x.like.dtype == out.like.dtype
            and (x.like.ndim == 0 or (x.is_whole and x.like.shape == out.like.shape))
            for x in call.args
        )
    )


def _reads(call: Call, buffer: Buffer) -> bool:
    return any(x.buffer is buffer for x in call.reads)


def _checks(
    calls: Sequence[Call], readers: Mapping[Buffer, int], kept: set[Buffer], homes: Mapping[Buffer, Buffer]
) -> int:
    """Return how many pairs of arrays might overlap, one of them written to, as far as can be told by now."""
    made = {call.out.buffer for call in calls}
    read = {x.buffer for call in calls for x in call.reads if x.like.ndim} - made
    inside = {buffer: sum(_reads(call, buffer) for call in calls) for buffer in made | read}
    outs = {buffer for buffer in made if buffer in kept or readers.get(buffer, 0) > inside[buffer]}
    written_over = {homes.get(buffer) for buffer in outs} & read
    ending = {b for b in read - written_over if readers.get(b, 0) == inside[b] and b not in kept and not b.fixed}
    arrays = len(read) + max(0, len(outs) - len(written_over) - len(ending))
    return len(outs) * (arrays - len(outs)) + len(outs) * (len(outs) - 1) // 2


def _worthwhile(work: Sequence[Call | Loop]) -> Iterator[Call | Loop]:
    """Yield the loops that are large, or alike a large one; the calls of all others as they were."""
    worth = {item.steps for item in work if isinstance(item, Loop) and item.outs[0].like.size >= LARGE}
    for item in work:
        if isinstance(item, Loop) and item.steps not in worth:
            yield from item.calls
        else:
            yield item
