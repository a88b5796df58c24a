"""Fuse elementwise calls into loops that numba compiles.

A chain of calls goes through memory once for each call; a loop goes through it once for all of them. The running mean
of the gradients in Adam

    np.multiply(mean, 9.0, t); np.add(t, g, t); np.multiply(t, 0.1, t); np.add(t, c, t); np.subtract(t, c, mean)

becomes

    for i in range(mean.size):
        mean[i] = (mean[i] * 9.0 + g[i]) * 0.1 + c - c

Only operations take part that IEEE 754 rounds correctly, so that a loop gives the same bits as NumPy.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Array
from ..optional import require
from .buffers import Buffer, Call, View, address
from .loop_cache import LoopCache

LARGE = 2**12  # elements: a loop takes a quarter of a second to compile; smaller ones with the same source then use it
WINDOW = 256  # how many of the following calls may join a loop
OPTIONS = {"nogil": True, "error_model": "numpy"}

EXACT = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "square": "{0} * {0}",
    "negative": "-{}",
    "absolute": "abs({})",
    "sqrt": "sqrt({})",
    "clip": "{1} if {0} < {1} else {2} if {0} > {2} else {0}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
}
"""The functions of NumPy that a loop may contain, and how they are written there."""

COMPARISONS = frozenset({"less", "less_equal"})

ONE, ROW, ALL = "[0]", "[i]", "[r, i]"
"""How a loop reads an array: one number, a row that is the same for all rows of the others, or every element."""


def _part(x: View, shape: tuple[int, ...]) -> str:
    if x.like.shape == shape and x.like.flags.c_contiguous:
        return ALL
    moves = any(stride for n, stride in zip(x.like.shape, x.like.strides, strict=True) if n > 1)
    return ROW if moves else ONE


class Loop:
    """Calls on arrays of one shape, run element by element as one loop.

    Args:
        calls: the calls, in order. They read floats of one dtype, and booleans.
        outs: the results that are read elsewhere; all others stay in registers.
    """

    elementwise = True

    def __init__(self, calls: Sequence[Call], outs: Sequence[View]) -> None:
        self.calls, self.outs = list(calls), list(outs)
        made = {call.out.buffer for call in calls}
        self.reads = list({x.key: x for call in calls for x in call.reads if x.buffer not in made}.values())
        self.shape = calls[0].out.like.shape
        self.dtype: Any = _dtype_of(calls[0])
        self.has_rows = any(_part(x, self.shape) == ROW for x in self.reads)
        names: dict[Any, str] = {}
        self.signature = self.source(lambda x: names.setdefault(x.key, f"{x.like.dtype.name}{len(names)}"))

    def source(self, name: Callable[[View], str]) -> str:
        """Return the body of the loop; ``name`` gives the parameter for an array."""
        values: dict[Any, str] = {}
        head, body = list[str](), list[str]()

        def word(call: Call, x: Any) -> str:
            if not isinstance(x, View):
                return f"number({x.item()!r})"
            is_number = x.like.dtype.kind == "b" and call.name not in COMPARISONS
            return f"number({values[x.key]})" if is_number else values[x.key]

        for k, x in enumerate(self.reads):
            part = _part(x, self.shape)
            values[x.key] = f"a{k}"
            (head if part == ONE else body).append(f"a{k} = {name(x)}{part}")
        for k, call in enumerate(self.calls):
            body.append(f"t{k} = {EXACT[call.name].format(*(word(call, x) for x in call.args))}")
            values[call.out.key] = f"t{k}"
        body += [f"{name(x)}{ALL} = {values[x.key]}" for x in self.outs]
        rows, columns = (f"range({name(self.outs[0])}.shape[{axis}])" for axis in (0, 1))
        head += [f"for r in {rows}:", f"    for i in {columns}:", *(f"        {line}" for line in body)]
        return "\n    ".join(head)

    def bound(self, arena: Array) -> Callable[[], Any]:
        """Return the compiled loop on arrays in the arena."""
        arrays: list[Array] = []

        def parameter(x: View) -> str:
            """Return the parameter for an array: the same for two in one place, one of which is written over."""
            part, array = _part(x, self.shape), x.within(arena)
            if part == ONE:
                array = array[(..., *(slice(1),) * array.ndim)].reshape(-1)
            elif part == ROW or self.has_rows:
                array = array.reshape(-1) if part == ROW else array.reshape(-1, self.shape[-1])
            else:
                array = array.reshape(1, -1)
            for k, other in enumerate(arrays):
                if (address(other), other.shape) == (address(array), array.shape):
                    return f"p{k}"
            arrays.append(array)
            return f"p{len(arrays) - 1}"

        source = self.source(parameter)
        parameters = ", ".join(f"p{k}" for k in range(len(arrays)))
        return functools.partial(_compiled(f"({parameters}):\n    {source}", self.dtype), *arrays)


@functools.lru_cache(maxsize=256)
def _compiled(source: str, dtype: Any) -> Callable[..., None]:
    """Return the function of these parameters and this body; numba compiles it at the first call."""
    name = f"loop_{hashlib.sha256(repr((source, dtype.name, OPTIONS)).encode()).hexdigest()}"
    scope = {"__name__": __name__, "sqrt": np.sqrt, "abs": np.abs, "inf": np.inf, "number": dtype.type}
    exec(f"def {name}{source}", scope)
    compiled: Any = require("numba", extra="fast").njit(**OPTIONS)(scope[name])
    compiled._cache = LoopCache(name)
    return compiled


def in_loops(calls: Sequence[Call], kept: set[Buffer], homes: Mapping[Buffer, Buffer]) -> list[Call | Loop]:
    """Return the calls in an order that gives the same results, with loops for those that can run as one.

    ``kept`` and ``homes`` are those of ``assign_memory``.
    """
    readers = Counter(buffer for call in calls for buffer in {x.buffer for x in call.reads})  # still to come
    waiting = {call.out.buffer for call in calls}  # still to be written
    left = list(calls)
    work: list[Call | Loop] = []
    while left:
        chosen = [left.pop(0)]
        if _can_loop(chosen[0]):
            chosen += _joining(chosen[0], left[:WINDOW], waiting, readers, homes)
            taken = set(chosen)
            left = [call for call in left if call not in taken]
        for call in chosen:
            waiting.discard(call.out.buffer)
            readers.subtract({x.buffer for x in call.reads})
        outs = [call.out for call in chosen if readers[call.out.buffer] or call.out.buffer in kept]
        converts = any(x.like.dtype == np.bool_ for x in chosen[0].reads)  # NumPy would make floats of booleans first
        pays = len(chosen) > 1 or (converts and _can_loop(chosen[0]))
        work += [Loop(chosen, outs)] if pays and outs else chosen
    worth = {item.signature for item in work if isinstance(item, Loop) and item.outs[0].like.size >= LARGE}
    parts = ([item] if isinstance(item, Call) or item.signature in worth else item.calls for item in work)
    return [*itertools.chain.from_iterable(parts)]


def _joining(
    first: Call, later: Sequence[Call], waiting: set[Buffer], readers: Mapping[Buffer, int], homes: Mapping[Buffer, Any]
) -> list[Call]:
    """Return the calls that can run in a loop with the first one and share arrays with it, directly or through others.

    A carried result joins only if nothing outside the loop still reads the argument that it overwrites.
    """
    chosen, made = [first], {first.out.buffer}
    for call in later:
        shape = call.out.like.shape
        alike = shape == first.out.like.shape and _dtype_of(call) == _dtype_of(first) and _can_loop(call)
        # what it reads is written before the loop, or at the same element inside it
        if alike and all(x.buffer not in waiting or (x.buffer in made and x.like.shape == shape) for x in call.reads):
            home = homes.get(call.out.buffer)
            inside = sum(any(x.buffer is home for x in other.reads) for other in (*chosen, call))
            if home is None or readers[home] == inside:
                chosen.append(call)
                made.add(call.out.buffer)
    together, before = {first.out.buffer}, 0
    while len(together) > before:
        before = len(together)
        for call in chosen:
            buffers = {call.out.buffer, *(x.buffer for x in call.reads if x.like.ndim)}
            together |= buffers if buffers & together else set()
    return [call for call in chosen[1:] if call.out.buffer in together]


def _can_loop(call: Call) -> bool:
    """Return whether a compiled loop gives the same bits as the call."""
    out, dtype = call.out, _dtype_of(call)
    return (
        call.name in EXACT
        and out.is_whole
        and out.like.ndim > 0
        and out.like.size > 0
        and getattr(dtype, "char", "") in ("f", "d")
        and out.like.dtype == (np.bool_ if call.name in COMPARISONS else dtype)
        and all(_can_be_read(x, call) for x in call.args)
    )


def _can_be_read(x: Any, call: Call) -> bool:
    shape, dtype = call.out.like.shape, _dtype_of(call)
    if isinstance(x, np.ndarray):  # a number
        return bool(x.dtype == dtype and x.ndim == 0 and not np.isnan(x))
    if not isinstance(x, View) or (call.name == "clip" and x is not call.args[0]):
        return False
    if x.like.dtype == np.bool_:
        return call.name in ("multiply", "subtract") and x.is_whole and x.like.shape == shape
    is_row = x.like.flags.c_contiguous and x.like.shape == shape[-1:]
    return bool(x.like.dtype == dtype and (is_row or _part(x, shape) != ROW))


def _dtype_of(call: Call) -> Any:
    """Return the dtype of the floats that a call reads, ``None`` if there are none or several."""
    found = {x.like.dtype for x in call.reads if x.like.dtype.kind == "f"}
    return found.pop() if len(found) == 1 else None
