"""A step on NumPy's arrays: a list of calls, and the one piece of memory that they work on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Array, Tensor, is_array, value_of
from .arena import ALIGNMENT, assign_memory
from .buffers import Buffer, Call, View, address, laid_out_like
from .loops import Loop, in_loops
from .recording import OVERWRITTEN, PlanError
from .trace import Trace, Traced


class NumPyProgram:
    """The calls of a step, on arrays in the arena.

    Args:
        order: the nodes of the recorded graph, each after its inputs.
        given: the recorded arrays that each run replaces: arguments and draws.
        results: nodes, arrays and other things that a run returns.
        carried: for the index of a result, the index in ``given`` of the argument that it becomes.
        fuse: whether elementwise calls become compiled loops.

    Attributes:
        results: arrays that hold the results after a run, and whatever is no array as it is.
        lease: owns the carried arrays that were handed out last. Arrays of an earlier lease hold other numbers by now.
    """

    def __init__(
        self,
        order: Sequence[Tensor],
        given: Sequence[Array],
        results: Sequence[Any],
        carried: Mapping[int, int],
        fuse: bool,
    ) -> None:
        calls, outside, left, homes = _lowered(order, given, results, carried)
        kept = {x.buffer for x in left if isinstance(x, View)}
        self.work: Sequence[Call | Loop] = in_loops(calls, kept, homes) if fuse else calls
        size = assign_memory(self.work, [x.buffer for x in outside], kept, homes)
        self._memory = np.zeros(size + ALIGNMENT, np.uint8)
        start = -address(self._memory) % ALIGNMENT
        self.arena = arena = self._memory[start : start + size]
        self._outside = [x.within(arena) for x in outside]
        self.results = [x.within(arena) if isinstance(x, View) else x for x in left]
        self.calls: list[Callable[[], Any]] = [item.bound(arena) for item in self.work]
        for k, i in carried.items():
            if address(self.results[k]) != address(self._outside[i]):
                self.calls.append(functools.partial(np.copyto, self._outside[i], self.results[k]))
        for x in [x for item in self.work for x in (*item.reads, *item.outs)]:
            x.forget()
        self._carried = carried
        self._arguments: list[Any] = list(self._outside)
        self._renew_lease()

    def _renew_lease(self) -> None:
        """Hand out the carried arrays as new ones, so that those handed out before are recognised as outdated."""
        self.lease = np.asarray(_Lease(self._memory))
        start = address(self.lease)
        for k, i in self._carried.items():
            home = self._outside[i]
            array = np.ndarray(home.shape, home.dtype, self.lease, address(home) - start, home.strides)
            self.results[k] = self._arguments[i] = array

    def run(self, given: Sequence[Array]) -> None:
        """Copy the given arrays to where the calls read them, and make the calls.

        Raises:
            PlanError: an array was handed out by this program, and its memory holds other numbers by now.
        """
        new = [(i, x) for i, (mine, x) in enumerate(zip(self._arguments, given, strict=True)) if x is not mine]
        for n, (i, x) in enumerate(new):
            if np.may_share_memory(x, self._memory):
                if not _owned_by(x, self.lease):
                    raise PlanError(OVERWRITTEN)
                new[n] = i, x.copy("K")  # before others are written there
        if any(i in self._carried.values() for i, _ in new):
            self._renew_lease()
        try:
            for i, x in new:
                cut = (..., *(slice(None, None if stride else 1) for stride in x.strides))  # a broadcast row once
                np.copyto(self._outside[i][cut], x[cut])
            with np.errstate(all="ignore"):  # NumPy gave its warnings while recording
                for call in self.calls:
                    call()
        except BaseException:
            self._renew_lease()  # what is carried is half updated
            raise

    def __str__(self) -> str:
        loops = sum(isinstance(item, Loop) for item in self.work)
        fused = f", {loops} of them compiled loops," if loops else ""
        return f"{len(self.work)} calls{fused} in {self.arena.size / 2**20:.1f} MiB"


class _Lease:
    """Memory under another owner: an array made from this ends the chain of ``base`` of all views of it."""

    def __init__(self, memory: Array) -> None:
        self.memory, self.__array_interface__ = memory, memory.__array_interface__


def _owned_by(x: Array, lease: Array) -> bool:
    while x is not lease and isinstance(x.base, np.ndarray):
        x = x.base
    return x is lease


def _lowered(
    order: Sequence[Tensor], given: Sequence[Array], results: Sequence[Any], carried: Mapping[int, int]
) -> tuple[list[Call], list[View], list[Any], dict[Buffer, Buffer]]:
    """Return the calls of a graph, where the given arrays and the results lie, and the homes of carried results."""
    trace = Trace()
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
        for node in order:
            if node.op is not None:
                computed[id(node)] = trace.run(node, [of(x) for x in node.inputs])
    left = [of(x) for x in results]
    becoming = {outside[i].buffer for i in carried.values()}
    homes: dict[Buffer, Buffer] = {}
    for k, x in enumerate(left):  # an argument that is returned as it was is copied before its home is written
        if k not in carried and isinstance(x, Traced) and trace.view(x).buffer in becoming:
            left[k] = trace.copy(x, np.empty_like(x.view(np.ndarray)))
    for k, i in carried.items():
        view = trace.view(left[k])
        taken = view.buffer in homes or any(view.buffer is x.buffer for x in outside)
        if view.buffer.fixed or taken or not view.lies_like(outside[i]):
            left[k] = trace.copy(left[k], laid_out_like(outside[i].like))
        homes[trace.view(left[k]).buffer] = outside[i].buffer
    return trace.calls, outside, [trace.view(x) if isinstance(x, Traced) else x for x in left], homes
