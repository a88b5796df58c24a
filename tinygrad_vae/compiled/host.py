"""A step on NumPy's arrays: its graph as a list of calls, and the memory that they work on.

It knows graphs, and the passes that make calls of them; nothing of how a step is recorded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, Tensor, is_array, value_of
from .calls import Buffer, Call, View, address
from .lines import with_requests
from .loops import Loop, in_loops
from .place import ALIGNMENT, place
from .tape import Tape, Writer
from .turned import with_turned

LARGE_INPUT = 2**16
"""From how many bytes on an argument is read where it lies, and not copied."""


@dataclass(frozen=True)
class Lowered:
    """A recording as calls of NumPy, without its graph and its numbers.

    Attributes:
        calls: in the order in which they are made.
        outside: where the arrays lie that a run is given.
        left: where the results lie, and what is no array as it is.
        carried: for the number of a result, that of the array of ``outside`` that it becomes.
        homes: for the buffer of a carried result, that of the array that it becomes.
    """

    calls: list[Call]
    outside: list[View]
    left: list[Any]
    carried: Mapping[int, int]
    homes: dict[Buffer, Buffer]

    @property
    def kept(self) -> set[Buffer]:
        """The buffers that are read after the last call."""
        return {x.buffer for x in self.left if isinstance(x, View)}


def lowered(
    order: Sequence[Tensor], filled: Sequence[Array], results: Sequence[Any], carried: Mapping[int, int]
) -> Lowered:
    """Return the calls of a graph.

    Args:
        order: the nodes, each after those it is made from.
        filled: the arrays that a run is given.
        results: what it leaves behind.
        carried: for the number of a result, that of the array of ``filled`` that it becomes.
    """
    tape = Tape()
    given = {id(x): tape.hold(np.empty_like(x)) for x in filled}
    outside = [tape.view(x) for x in given.values()]
    computed: dict[int, Writer] = {}

    def of(x: Any) -> Any:
        value = value_of(x)
        if not is_array(value):
            return value
        known = computed.get(id(x), given.get(id(value)))
        if known is not None:
            return known
        is_theirs = any(np.may_share_memory(value, y) for y in filled)  # and may be edited by the caller
        return tape.hold(np.array(value) if is_theirs else np.asarray(value), fixed=True)

    with np.errstate(all="ignore"):
        for node in order:
            if node.op is not None:
                computed[id(node)] = tape.run(node, [of(x) for x in node.inputs])
    left = [of(x) for x in results]
    becoming = {outside[i].buffer for i in carried.values()}
    for k, x in enumerate(left):  # what was handed in is written over before the others are handed out
        if k not in carried and isinstance(x, Writer) and tape.view(x).buffer in becoming:
            left[k] = tape.copy(x)
    homes: dict[Buffer, Buffer] = {}
    for k, i in carried.items():
        taken = {*homes, *(x.buffer for x in outside)}
        view = tape.view(left[k])
        if view.buffer.fixed or view.buffer in taken or not view.is_whole:
            left[k] = tape.copy(left[k])
        if outside[i].is_whole:
            homes[tape.view(left[k]).buffer] = outside[i].buffer
    views = [tape.view(x) if isinstance(x, Writer) else x for x in left]
    return Lowered(tape.calls, outside, views, carried, homes)


def _readers(calls: Sequence[Any], home: Array) -> list[tuple[int, list[tuple[Any, ...]]]]:
    """Return which calls read an array, by their numbers, and for each the arguments that lie in it, and where."""
    start, found = address(home), []
    for k, call in enumerate(calls):
        places = [
            (position, x.shape, x.dtype, address(x) - start, x.strides)
            for position, x in enumerate(call.args)
            if isinstance(x, np.ndarray) and np.may_share_memory(x, home)
        ]
        if places:
            found.append((k, places))
    return found


class Calls:
    """The calls of a step on NumPy's arrays, each array at its place in the arena.

    Args:
        lowered: the calls, and what they are given and leave behind.
        compiled: whether to fuse elementwise calls to compiled loops.

    Attributes:
        results: the places of the results, and what is no array as it is.
    """

    def __init__(self, lowered: Lowered, compiled: bool) -> None:
        kept, homes = lowered.kept, lowered.homes
        calls = with_turned(lowered.calls)
        work: Sequence[Call | Loop] = in_loops(calls, kept, homes) if compiled else calls
        size = place(work, [x.buffer for x in lowered.outside], kept, homes)
        self.work = with_requests(work, size)
        memory = np.zeros(size + ALIGNMENT, np.uint8)
        start = -address(memory) % ALIGNMENT
        self.arena = arena = memory[start : start + size]
        self.outside = [x.within(arena) for x in lowered.outside]
        self.results = [x.within(arena) if isinstance(x, View) else x for x in lowered.left]
        self.calls: list[Callable[[], Any]] = [item.bound(arena) for item in self.work]
        carried, shown = set(lowered.carried.values()), [x.buffer for x in lowered.left if isinstance(x, View)]
        self.readers = {
            i: _readers(self.calls, home)
            for i, (home, view) in enumerate(zip(self.outside, lowered.outside, strict=True))
            if home.nbytes >= LARGE_INPUT and i not in carried and view.buffer not in shown
        }
        self.latest: dict[int, Array] = {}  # of these, what was given last
        for item in self.work:
            for x in (*item.reads, *item.outs):
                x.forget()
        self.shown = list(self.outside)  # what is handed out; if it is made read-only, its place is not
        for k, i in lowered.carried.items():
            home, result = self.outside[i], self.results[k]
            if address(result) != address(home) or result.strides != home.strides:
                self.calls.append(functools.partial(np.copyto, home, result))
            self.results[k] = self.shown[i] = home.view()

    def run(self, given: Sequence[Array]) -> None:
        """Fill the places with what is given, and run the step once."""
        new = [(i, x) for i, (shown, x) in enumerate(zip(self.shown, given, strict=True)) if x is not shown]
        new = [(i, x.copy() if np.may_share_memory(x, self.arena) else x) for i, x in new]  # before others are filled
        for i, x in new:
            home = self.outside[i]
            stays = i in self.readers and x.flags.carray and x.dtype == home.dtype  # also in the order of its bytes
            if i in self.readers:
                self._read_from(i, x if stays else home)
            if not stays:
                np.copyto(home, x)
        with np.errstate(all="ignore"):  # NumPy gave its warnings while recording
            for call in self.calls:
                call()

    def _read_from(self, i: int, x: Array) -> None:
        """Let the calls that read an argument read it where it lies, which saves a copy of it.

        It is aligned, may be written to and lies row after row, as it would in the arena: for any other numba would
        compile its loops anew.
        """
        if self.latest.get(i) is x:
            return
        self.latest[i] = x
        for k, places in self.readers[i]:
            call: Any = self.calls[k]
            args = list(call.args)
            for position, shape, dtype, offset, strides in places:
                args[position] = np.ndarray(shape, dtype, x, offset, strides)
            self.calls[k] = functools.partial(call.func, *args, **call.keywords)

    def __str__(self) -> str:
        loops = sum(isinstance(item, Loop) for item in self.work)
        compiled = f", {loops} of them compiled loops," if loops else ""
        return f"{len(self.work)} calls{compiled} in {self.arena.size / 2**20:.1f} MiB"
