"""The third pass of a plan: elementwise calls that belong together become one loop, compiled by numba.

It knows the calls of a plan and numba, and nothing of graphs. A chain of calls goes through memory once for each call.
A loop goes through it once, and what only the next step reads stays in a register. Of Adam's mean gradient
(``moving_average``, where c is a constant that rounds the result),

    np.multiply(mean, 9.0, t); np.add(t, g, t); np.multiply(t, 0.1, t); np.add(t, c, t); np.subtract(t, c, mean)

becomes

    for i in range(mean.size):
        mean[i] = (mean[i] * 9.0 + g[i]) * 0.1 + c - c

Only operations take part that IEEE 754 rounds correctly, so that a loop gives the bits that NumPy gives.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Array
from ..optional import require
from .calls import Buffer, Call, View, address

EXACT = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "square": "{0} * {0}",
    "negative": "-{}",
    "absolute": "abs({})",
    "sqrt": "sqrt({})",
    "clip": "clip({}, {}, {})",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
}
"""The functions of NumPy that take part in a loop, and how they are written there."""

COMPARISONS = frozenset({"less", "less_equal"})


def _clip(x: Any, low: Any, high: Any) -> Any:
    """Return what ``numpy.clip`` gives for bounds that are numbers, also of -0 and NaN."""
    return low if x < low else high if x > high else x


LARGE = 2**12
"""From how many elements on a loop is worth the quarter of a second that compiling takes; smaller ones then use it."""

MOST_CHECKS = 8
"""How many pairs of arrays LLVM tests for overlap before a loop; with more it does without vector instructions."""

MOST_COPIES = 4
"""How often an operation on arguments is computed rather than stored."""

LEAST_ROW = 64
"""How long rows must be to be added up on the way."""

WINDOW = 256
"""How many calls after the first one may take part."""


def has_compiler() -> bool:
    """Return whether there is a numba that works with the NumPy that is installed."""
    try:
        importlib.import_module("numba")
    except ImportError:  # numba raises it, too, where NumPy is too new for it
        return False
    return True


ONE, ROW, ALL = "one", "row", "all"
"""What part of a loop's shape an array has: a number that is the same everywhere, the last axis, or all of it."""


def _part(x: View, shape: tuple[int, ...]) -> str:
    if x.like.shape == shape and x.like.flags.c_contiguous:
        return ALL
    moves = any(stride for n, stride in zip(x.like.shape, x.like.strides, strict=True) if n > 1)
    return ROW if moves else ONE


class Loop:
    """Calls on arrays of one shape, element by element, run as one loop.

    Beside floats of one dtype there may be booleans, numbers, and rows that are the same for all rows of the others.
    What the loop makes may be added up over its rows on the way.

    Args:
        calls: in order.
        outs: what they write that is read elsewhere; all else stays in registers.
        sums: the calls that add up what they write; their results are the last of ``outs``.
    """

    def __init__(self, calls: Sequence[Call], outs: Sequence[View], sums: Sequence[Call] = ()) -> None:
        self.calls, self.sums = list(calls), list(sums)
        self.written, self.outs = list(outs), [*outs, *(call.out for call in sums)]
        made = {call.out.buffer for call in calls}
        found = {x.key: x for call in calls for x in call.reads if x.buffer not in made}
        self.reads = list(found.values())
        self.shape = calls[0].out.like.shape
        self.dtype: Any = dtype_of(calls[0])

    @property
    def has_rows(self) -> bool:
        """Whether something is a row, the same for all rows or their sum, so that there is a loop inside the other."""
        return bool(self.sums) or any(_part(x, self.shape) == ROW for x in self.reads)

    def is_elementwise(self, out: View) -> bool:
        """Return whether each element is written after what is read at the same place: not so of sums."""
        return out.like.shape == self.shape

    def _lines(self, constants: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Return what is read from the arrays, and the steps with what they give; constants are named on the way."""
        names: dict[Any, str] = {}
        loads, steps = [], []
        for k, x in enumerate(self.reads):
            names[x.key] = f"a{k}"
            loads.append(f"{x.like.dtype} {_part(x, self.shape)}")

        def word(call: Call, x: Any) -> str:
            if isinstance(x, View):
                is_number = x.like.dtype.kind == "b" and call.name not in COMPARISONS
                return f"number({names[x.key]})" if is_number else names[x.key]
            constants[f"c{len(constants)}"] = self.dtype.type(x.item())
            return f"c{len(constants) - 1}"

        for k, call in enumerate(self.calls):
            steps.append(f"t{k} = {EXACT[call.name].format(*(word(call, x) for x in call.args))}")
            names[call.out.key] = f"t{k}"
        return loads, [*steps, *(names[x.key] for x in (*self.written, *(call.args[0] for call in self.sums)))]

    @functools.cached_property
    def steps(self) -> tuple[Any, ...]:
        """The loop without its arrays: what two of them have in common that are compiled to the same."""
        constants: dict[str, Any] = {}
        loads, steps = self._lines(constants)
        return str(self.dtype), f"{len(self.sums)} sums", *loads, *steps, *constants.values()

    def _flat(self, x: View, arena: Array) -> Array:
        """Return an array at its place: one number, a row, or all, with two axes where something is a row."""
        part, array = _part(x, self.shape), x.within(arena)
        if part == ONE:
            return array[(..., *(slice(1),) * array.ndim)].reshape(-1)
        return array.reshape((-1, self.shape[-1]) if part == ALL and self.has_rows else -1)

    def bound(self, arena: Array) -> Callable[[], Any]:
        """Return the compiled loop with every array at its place in the arena."""
        constants: dict[str, Any] = {}
        _, steps = self._lines(constants)
        arrays: list[Array] = []

        def parameter(x: View) -> str:
            """Return the name of the array: one for each place, so that what is written over is seen to be."""
            array = self._flat(x, arena)
            for k, other in enumerate(arrays):
                if address(other) == address(array) and other.shape == array.shape:
                    return f"p{k}"
            arrays.append(array)
            return f"p{len(arrays) - 1}"

        where = {ONE: "[0]", ROW: "[i]", ALL: "[r, i]" if self.has_rows else "[i]"}
        head: list[str] = []
        body: list[str] = []
        for k, x in enumerate(self.reads):
            part = _part(x, self.shape)
            (head if part == ONE else body).append(f"a{k} = {parameter(x)}{where[part]}")
        count = len(self.calls)
        body += steps[:count]
        for x, name in zip(self.outs, steps[count:], strict=True):
            if x in self.written:
                body.append(f"{parameter(x)}{where[ALL]} = {name}")
            else:
                head.append(f"{parameter(x)}[:] = nothing")
                body.append(f"{parameter(x)}[i] += {name}")
        first = parameter(next(x for x in (*self.written, *self.reads) if _part(x, self.shape) == ALL))
        loops = [f"for r in range({first}.shape[0]):", f"    for i in range({first}.shape[1]):"]
        loops = loops if self.has_rows else [f"for i in range({first}.size):"]
        indent = "    " * (len(loops) + 1)
        lines = [
            f"def loop({', '.join(f'p{k}' for k in range(len(arrays)))}):",
            *(f"    {line}" for line in (*head, *loops)),
            *(f"{indent}{line}" for line in body),
        ]
        bits = tuple((name, number.tobytes()) for name, number in constants.items())  # 0.0 and -0.0 are equal
        return functools.partial(_compiled("\n".join(lines), self.dtype, bits), *arrays)


@functools.lru_cache(maxsize=256)
def _compiled(source: str, dtype: Any, constants: tuple[tuple[str, bytes], ...]) -> Callable[..., None]:
    """Return the function that the source defines, compiled for the arrays it will be called with."""
    numba = require("numba", extra="fast")
    nothing = np.add.reduce(np.full((1, 2), -0.0, dtype), axis=0)[0]  # where NumPy begins to add: at 0.0 or -0.0
    known = {"sqrt": np.sqrt, "abs": np.abs, "number": dtype.type, "nothing": nothing}
    numbers = {name: np.frombuffer(bits, dtype)[0] for name, bits in constants}
    scope: dict[str, Any] = {**known, "clip": numba.njit(_clip), **numbers}
    exec(source, scope)
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
    calls, copies = _anew(calls, kept, homes)
    readers: dict[Buffer, int] = {}  # by how many calls, still to come, a buffer is read
    waiting = {call.out.buffer for call in calls}  # the buffers that are still to be written
    for call in calls:
        for buffer in {x.buffer for x in call.reads}:
            readers[buffer] = readers.get(buffer, 0) + 1

    left = list(calls)
    work: list[Call | Loop] = []
    while left:
        chosen, sums = [left.pop(0)], []
        if can_loop(chosen[0]):
            chosen += _joining(chosen[0], left[:WINDOW], waiting, readers, kept, homes, copies)
            sums = _sums(chosen, left[:WINDOW])
            taken = set(map(id, (*chosen, *sums)))
            left = [call for call in left if id(call) not in taken]
        for call in (*chosen, *sums):
            waiting.discard(call.out.buffer)
            for buffer in {x.buffer for x in call.reads}:
                readers[buffer] -= 1
        outs = [call.out for call in chosen if readers.get(call.out.buffer) or call.out.buffer in kept]
        pays = len(chosen) > 1 or sums or (can_loop(chosen[0]) and _converts(chosen[0]))
        work += [Loop(chosen, outs, sums)] if pays and (outs or sums) else chosen  # without: what nobody reads
    return list(_worthwhile(work))


def _anew(calls: Sequence[Call], kept: set[Buffer], homes: Mapping[Buffer, Buffer]) -> tuple[list[Call], set[Buffer]]:
    """Return the calls, with what is one operation on arguments computed anew for each of the few that read it.

    Those may be in different loops, and to compute it again takes less time than to store it. Beside them stands what
    is computed so.
    """
    made = {call.out.buffer: call.out.like.shape for call in calls}
    moving = {*made, *homes.values()}
    readers = Counter(x.buffer for call in calls for x in call.reads)

    def is_in_loop(x: View, reader: Call) -> bool:
        """Return whether an array is read where it is written: in a loop of the same shape, and as it is."""
        return can_loop(reader) and x.is_whole and x.like.shape == reader.out.like.shape == made.get(x.buffer)

    needed = kept | {x.buffer for call in calls for x in call.reads if not is_in_loop(x, call)}
    simple = {
        call.out.buffer: call
        for call in calls
        if can_loop(call)
        and call.out.like.size >= LARGE
        and readers[call.out.buffer] <= MOST_COPIES
        and call.out.buffer not in needed
        and moving.isdisjoint(x.buffer for x in call.reads)
    }
    found: list[Call] = []
    copies: set[Buffer] = set()
    for call in calls:
        if call.out.buffer in simple:
            continue
        args = list(call.args)
        for k, x in enumerate(args):
            first = simple.get(x.buffer) if isinstance(x, View) else None
            if first is not None:
                like = first.out.like
                args[k] = View(Buffer(like, False), like)
                copies.add(args[k].buffer)
                found.append(dataclasses.replace(first, out=args[k]))
        found.append(dataclasses.replace(call, args=tuple(args)))
    return found, copies


def _sums(chosen: Sequence[Call], later: Sequence[Call]) -> list[Call]:
    """Return the calls that add up, row after row, what is made by the calls of a loop."""
    shape, made = chosen[0].out.like.shape, {call.out.buffer for call in chosen}
    long = len(shape) == 2 and shape[1] >= LEAST_ROW
    if not long or not any(_part(x, shape) == ALL for call in chosen for x in call.reads if x.buffer not in made):
        return []
    sums = [call for call in later if is_sum_of_rows(call)]
    return [call for call in sums if call.args[0].buffer in made and call.args[0].like.shape == shape]


def is_sum_of_rows(call: Call) -> bool:
    """Return whether a call adds up the rows of floats, which NumPy does one after the other."""
    if call.bare != np.add.reduce or len(call.args) != 1:
        return False
    (x,), out, options = call.args, call.out, dict(getattr(call.function, "keywords", {}))
    return bool(
        options.pop("axis", None) in (0, (0,))
        and options.pop("where", True) is True
        and all(value is None or value is False for value in options.values())
        and x.is_whole
        and x.like.ndim == 2
        and out.is_whole
        and (out.like.shape, out.like.dtype) == (x.like.shape[1:], x.like.dtype)
    )


def _joining(
    first: Call,
    later: Sequence[Call],
    waiting: set[Buffer],
    readers: Mapping[Buffer, int],
    kept: set[Buffer],
    homes: Mapping[Buffer, Buffer],
    copies: set[Buffer],
) -> list[Call]:
    """Return the calls that can be run in a loop with the first one and share arrays with it, directly or by others.

    Those of ``copies`` only where they are read.
    """
    chosen, made = [first], {first.out.buffer}
    for call in later:
        alike = call.out.like.shape == first.out.like.shape and dtype_of(call) == dtype_of(first)
        if alike and can_loop(call) and _is_ready(call, made, waiting):
            home = homes.get(call.out.buffer)
            unread = 0 if home is None else readers.get(home, 0) - sum(_reads(other, home) for other in (*chosen, call))
            if not unread:
                chosen.append(call)
                made.add(call.out.buffer)
    together, before = {first.out.buffer}, 0
    while len(together) > before:
        before = len(together)
        for call in chosen:
            buffers = {call.out.buffer, *(x.buffer for x in call.reads if x.like.ndim)}
            if buffers & together:
                together |= buffers
    chosen = [call for call in chosen if call.out.buffer in together]
    traffic, longest = _Traffic(readers, kept, homes), 1
    for count, call in enumerate(chosen, 1):
        traffic.add(call)
        if traffic.checks <= MOST_CHECKS:
            longest = count
    read = {x.buffer for call in chosen[:longest] for x in call.reads}
    return [call for call in chosen[1:longest] if call.out.buffer not in copies or call.out.buffer in read]


def _is_ready(call: Call, made: set[Buffer], waiting: set[Buffer]) -> bool:
    """Return whether all that a call reads is written by then, or at the same place in the loop, as ``made`` is."""
    return all(
        x.buffer not in waiting or (x.buffer in made and x.like.shape == call.out.like.shape) for x in call.reads
    )


def can_loop(call: Call) -> bool:
    """Return whether a call gives the same bits in a compiled loop."""
    out = call.out
    return (
        call.name in EXACT
        and out.is_whole
        and out.like.ndim > 0
        and out.like.size > 0
        and getattr(dtype_of(call), "char", "") in ("f", "d")
        and out.like.dtype == (np.bool_ if call.name in COMPARISONS else dtype_of(call))
        and all(_can_be_read(x, call) for x in call.args)
    )


def _can_be_read(x: Any, call: Call) -> bool:
    shape, dtype = call.out.like.shape, dtype_of(call)
    if isinstance(x, np.ndarray):  # a number
        return bool(x.dtype == dtype and x.ndim == 0 and not np.isnan(x))
    if not isinstance(x, View) or (call.name == "clip" and x is not call.args[0]):
        return False
    if x.like.dtype == np.bool_:
        return call.name in ("multiply", "subtract") and x.is_whole and x.like.shape == shape
    is_row = x.like.flags.c_contiguous and x.like.shape == shape[-1:]
    return bool(x.like.dtype == dtype and (is_row or _part(x, shape) != ROW))


def dtype_of(call: Call) -> Any:
    """Return the dtype of the floats that a call reads, ``None`` where there are none or several."""
    found = {x.like.dtype for x in call.reads if x.like.dtype.kind == "f"}
    return found.pop() if len(found) == 1 else None


def _converts(call: Call) -> bool:
    """Return whether NumPy would convert an array of booleans to floats first."""
    return any(x.like.dtype == np.bool_ for x in call.reads)


def _reads(call: Call, buffer: Buffer) -> bool:
    return any(x.buffer is buffer for x in call.reads)


class _Traffic:
    """Which buffers a loop reads and writes, kept up as calls are added to it; the arguments are those of ``_joining``.

    Attributes:
        read: what is read from outside.
        ending: what of it nobody else reads, so that a result may take its place.
        outs: what is written for others to read.
    """

    def __init__(self, readers: Mapping[Buffer, int], kept: set[Buffer], homes: Mapping[Buffer, Buffer]) -> None:
        self._readers, self._kept, self._homes = readers, kept, homes
        self._inside: Counter[Buffer] = Counter()
        self._made: set[Buffer] = set()
        self._carried: set[Buffer] = set()
        self.read: set[Buffer] = set()
        self.ending: set[Buffer] = set()
        self.outs: set[Buffer] = set()

    def add(self, call: Call) -> None:
        """Add the next call."""
        arrays = {x.buffer for x in call.reads if x.like.ndim}
        for buffer in {x.buffer for x in call.reads}:
            self._inside[buffer] += 1
            is_last = self._readers.get(buffer, 0) == self._inside[buffer] and buffer not in self._kept
            if buffer in self._made:
                if is_last:
                    self.outs.discard(buffer)
                    self._carried.discard(buffer)
            elif buffer in arrays or buffer in self.read:
                self.read.add(buffer)
                if is_last and not buffer.fixed:
                    self.ending.add(buffer)
        out = call.out.buffer
        self._made.add(out)
        if out in self._kept or self._readers.get(out):
            self.outs.add(out)
            if out in self._homes:
                self._carried.add(out)

    @property
    def checks(self) -> int:
        """How many pairs of arrays might overlap, one of them written to, as far as can be told by now."""
        over = {self._homes[buffer] for buffer in self._carried} & self.read
        new = len(self.outs) - len(over) - len(self.ending - over)
        arrays, outs = len(self.read) + max(0, new), len(self.outs)
        return outs * (arrays - outs) + outs * (outs - 1) // 2


def _worthwhile(work: Sequence[Call | Loop]) -> Iterator[Call | Loop]:
    """Yield the loops that are large, or alike a large one; the calls of all others as they were."""
    worth = {item.steps for item in work if isinstance(item, Loop) and item.calls[0].out.like.size >= LARGE}
    for item in work:
        if isinstance(item, Loop) and item.steps not in worth:
            yield from (*item.calls, *item.sums)
        else:
            yield item
