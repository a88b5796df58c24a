"""A step as a list of calls, on arrays that stay where they are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Array, is_array, trees, value_of
from .arena import ALIGNMENT, assign_memory
from .buffers import Buffer, Call, View, address, laid_out_like
from .loops import Loop, in_loops
from .recording import OVERWRITTEN, PlanError, Recording
from .trace import Trace, Traced


class Program:
    """The calls of a step.

    Args:
        outside: the arrays that each run fills: arguments and draws.
        results: arrays that hold the results after a run, and whatever is no array as it is.
        carried: for the index of a result, the index in ``outside`` of the argument that it becomes.
        calls: what a run does once the arrays are filled.
    """

    _renewed: Callable[[Array], Array]  # returns another array in the same memory
    _lies_here: Callable[[Array], bool]  # whether an array lies in memory of the program
    _is_current: Callable[[Array], bool]  # whether it is, or looks at, an array that was handed out last
    _fill: Callable[[int, Array], None]  # copies an array to ``outside[i]``

    def __init__(
        self, outside: list[Array], results: list[Any], carried: Mapping[int, int], calls: list[Callable[[], Any]]
    ) -> None:
        self._outside, self.results, self._carried, self.calls = outside, results, carried, calls
        self._becoming = frozenset(carried.values())
        self._arguments = list(outside)
        self._hand_out()

    def _hand_out(self) -> None:
        """Make new arrays of the carried ones, so that those handed out before are recognised as outdated."""
        for k, i in self._carried.items():
            self.results[k] = self._arguments[i] = self._renewed(self._outside[i])

    def run(self, given: Sequence[Array]) -> None:
        """Copy the given arrays to where the calls read them, and make the calls.

        Raises:
            PlanError: an array lies in memory of the program, and holds other numbers than when it was handed out.
        """
        new = [(i, x) for i, (mine, x) in enumerate(zip(self._arguments, given, strict=True)) if x is not mine]
        for n, (i, x) in enumerate(new):
            if self._lies_here(x):
                if not self._is_current(x):
                    raise PlanError(OVERWRITTEN)
                new[n] = i, x.copy()  # before others are written there
        if any(i in self._becoming for i, _ in new):
            self._hand_out()
        try:
            for i, x in new:
                self._fill(i, x)
            with np.errstate(all="ignore"):  # NumPy gave its warnings while recording
                for call in self.calls:
                    call()
        except BaseException:
            self._hand_out()  # what is carried is half updated
            raise


class NumPyProgram(Program):
    """The calls of a step on NumPy's arrays, which lie in one piece of memory: the arena.

    With ``fuse``, elementwise calls become compiled loops.
    """

    def __init__(self, recording: Recording, carried: Mapping[int, int], fuse: bool) -> None:
        calls, outside, returned, homes = _lowered(recording, carried)
        kept = {x.buffer for x in returned if isinstance(x, View)}
        self.work: Sequence[Call | Loop] = in_loops(calls, kept, homes) if fuse else calls
        size = assign_memory(self.work, [x.buffer for x in outside], kept, homes)
        self._memory = np.zeros(size + ALIGNMENT, np.uint8)
        start = -address(self._memory) % ALIGNMENT
        self.arena = arena = self._memory[start : start + size]
        found = [x.within(arena) if isinstance(x, View) else x for x in returned]
        places = [x.within(arena) for x in outside]
        bound = [item.bound(arena) for item in self.work]
        for k, i in carried.items():
            if address(found[k]) != address(places[i]):
                bound.append(functools.partial(np.copyto, places[i], found[k]))
        for x in [x for item in self.work for x in (*item.reads, *item.outs)]:
            x.forget()
        self._cuts = [(..., *(slice(None if stride else 1) for stride in x.strides)) for x in places]
        super().__init__(places, found, carried, bound)

    def _hand_out(self) -> None:
        self._owner = np.asarray(self._memory.data)  # the ``base`` of all that is handed out, and of its views
        super()._hand_out()

    def _renewed(self, home: Array) -> Array:
        offset = address(home) - address(self._memory)
        return np.ndarray(home.shape, home.dtype, self._owner, offset, home.strides)

    def _lies_here(self, x: Array) -> bool:
        return np.may_share_memory(x, self._memory)

    def _is_current(self, x: Array) -> bool:
        return np.asarray(x).base is self._owner

    def _fill(self, i: int, x: Array) -> None:
        cut = self._cuts[i]  # a broadcast row once
        np.copyto(self._outside[i][cut], x[cut])

    def __str__(self) -> str:
        loops = sum(isinstance(item, Loop) for item in self.work)
        fused = f", {loops} of them compiled loops," if loops else ""
        return f"{len(self.work)} calls{fused} in {self.arena.size / 2**20:.1f} MiB"


def _lowered(
    recording: Recording, carried: Mapping[int, int]
) -> tuple[list[Call], list[View], list[Any], dict[Buffer, Buffer]]:
    """Return the calls of a graph, where the given arrays and the results lie, and the homes of carried results."""
    trace, given = Trace(), recording.given
    traced = {id(x): trace.hold(laid_out_like(x)) for x in given}
    outside = [trace.view(x) for x in traced.values()]
    computed: dict[int, Traced] = {}

    def of(x: Any) -> Any:
        value = value_of(x)
        if not is_array(value):
            return value
        known = computed.get(id(x), traced.get(id(value)))
        if known is not None:
            return known
        if any(np.may_share_memory(value, y) for y in given):  # the caller may edit it later
            value, old = laid_out_like(value), value
            np.copyto(value, old)
        return trace.hold(np.asarray(value), fixed=True)

    with np.errstate(all="ignore"):
        for node in recording.order:
            if node.op is not None:
                computed[id(node)] = trace.run(node, [of(x) for x in node.inputs])
    returned = [of(x) for x in trees.leaves(recording.results)]
    becoming = {outside[i].buffer for i in carried.values()}
    homes: dict[Buffer, Buffer] = {}
    for k, x in enumerate(returned):  # an argument that is returned as it was is copied before its home is written
        if k not in carried and isinstance(x, Traced) and trace.view(x).buffer in becoming:
            returned[k] = trace.copy(x, np.empty_like(x.view(np.ndarray)))
    for k, i in carried.items():
        view = trace.view(returned[k])
        taken = view.buffer in homes or any(view.buffer is x.buffer for x in outside)
        if view.buffer.fixed or taken or not view.lies_like(outside[i]):
            returned[k] = trace.copy(returned[k], laid_out_like(outside[i].like))
        homes[trace.view(returned[k]).buffer] = outside[i].buffer
    return trace.calls, outside, [trace.view(x) if isinstance(x, Traced) else x for x in returned], homes
