"""A step on a GPU as CUDA graphs: the kernels of its ops, taken down once and run again at one launch.

Never tried on hardware: tested on an imitation of CuPy only (``tests/device_array.py``).

Run op by op, a step on a GPU is mostly Python that launches small kernels. A stream that is captured takes down the
kernels instead of running them; the resulting graph runs them all at one launch, on the memory that they were captured
with. That memory is a pool of its own, so that nobody else is given a part of it. Inputs and noise are copied to fixed
places before the launch. Elementwise nodes are compiled to common kernels (``kernels``), and matrix products call
cuBLAS directly (``cublas``).

Not everything can be captured: ops that wait for the device (a mask as an index, a number read off an array), sorts,
and the calls of CuPy to cuSOLVER. Each piece is tried by itself; a piece that fails is called between two graphs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ...core import Array, Op, Tensor, is_array, namespace, value_of
from ...devices import to_host
from ...ops.matrix import linear, matmul
from ..recording import identity
from ..trace import check_shape
from .cublas import CuBLAS, CuBLASError
from .kernels import Kernel, in_kernels


class CapturedProgram:
    """The calls of a step: CUDA graphs, and the ops that run between them.

    Args:
        order: the nodes of the recorded graph, each after its inputs.
        given: the recorded arrays that each run replaces: arguments and draws.
        results: nodes, arrays and other things that a run returns.
        carried: for the index of a result, the index in ``given`` of the argument that it becomes.

    Attributes:
        results: arrays that hold the results after a run, and whatever is no array as it is.
        calls: the calls of a run, in order.
        pool: the memory.
    """

    def __init__(
        self, order: Iterable[Tensor], given: Sequence[Array], results: Sequence[Any], carried: Mapping[int, int]
    ) -> None:
        self.xp = xp = namespace(*given)
        self.pool, stream = xp.cuda.MemoryPool(), xp.cuda.Stream(non_blocking=True)
        xp.cuda.get_current_stream().synchronize()  # another stream will read what was recorded on this one
        with xp.cuda.using_allocator(self.pool.malloc), stream, _Capture(xp, stream) as capture:
            self._outside = [xp.array(x) for x in given]
            self._own = {id(x) for x in self._outside}
            arrays = {id(x): mine for x, mine in zip(given, self._outside, strict=True)}
            homes = {k: self._outside[i] for k, i in carried.items()}
            self.results = capture.take_down(order, arrays, [value_of(x) for x in results], homes)
            capture.begin()
            for k, x in enumerate(self.results):
                if _memory(x) in self._own and x is not homes.get(k):  # which is about to be overwritten
                    self.results[k] = x.copy()
            for k, home in homes.items():
                if self.results[k] is not home:
                    xp.copyto(home, self.results[k])
                    self.results[k] = home
            capture.end()
            self.calls, self._kept = capture.calls, capture.cublas
            stream.synchronize()

    def run(self, given: Sequence[Array]) -> None:
        """Copy the given arrays to where the graphs read them, and run the step once on the current stream."""
        xp = self.xp
        new = [(mine, x) for mine, x in zip(self._outside, given, strict=True) if x is not mine]
        new = [(mine, x.copy() if _memory(x) in self._own else x) for mine, x in new]  # before others are written there
        for mine, x in new:
            xp.copyto(mine, xp.asarray(x))
        for call in self.calls:
            call()

    def __str__(self) -> str:
        graphs = sum(not isinstance(call, functools.partial) for call in self.calls)
        between = len(self.calls) - graphs
        return f"{graphs} CUDA graphs and {between} calls in {self.pool.total_bytes() / 2**20:.1f} MiB"


class _Capture:
    """A capture that is going on: finished calls, and a graph that kernels are added to."""

    def __init__(self, xp: ModuleType, stream: Any) -> None:
        self.xp, self.stream = xp, stream
        self.calls: list[Callable[[], None]] = []
        self.is_open = False
        self.cublas: CuBLAS | None = None
        with contextlib.suppress(CuBLASError):  # without it products run between graphs
            self.cublas = CuBLAS(xp, stream)

    def __enter__(self) -> _Capture:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_open:  # there was an error
            with contextlib.suppress(Exception):
                self.stream.end_capture()
        if self.cublas is not None:
            self.cublas.close()

    def begin(self) -> None:
        """Capture from now on."""
        if not self.is_open:
            self.stream.begin_capture()
            self.is_open = True

    def end(self) -> None:
        """Make a graph of the kernels captured so far."""
        if self.is_open:
            self.is_open = False
            self.calls.append(self.stream.end_capture().launch)

    def take_down(
        self, order: Iterable[Tensor], arrays: dict[int, Any], results: Sequence[Any], homes: Mapping[int, Array]
    ) -> list[Any]:
        """Take down the nodes, and return the arrays of the results.

        What was computed before is not computed again, and memory is given back after its last use.

        Args:
            order: the nodes, each after its inputs.
            arrays: for the id of a recorded array, the array that stands for it now.
            results: recorded arrays, and other things.
            homes: for the index of a carried result, the array of the argument that it becomes. A kernel writes it
                there if nothing else needs the old numbers.
        """
        steps, same = self._different(order, set(arrays))

        def key_of(x: Any) -> int:
            key = id(value_of(x))
            return same.get(key, key)

        computed = {key_of(node) for node in steps}
        for x in map(value_of, [*(x for node in steps for x in node.inputs), *results]):
            if is_array(x) and key_of(x) not in arrays and key_of(x) not in computed:  # a constant
                arrays[key_of(x)] = x if isinstance(x, np.generic) else self.xp.asarray(x)
        kept = {key_of(x) for x in results}
        pieces = [piece for part in in_kernels(steps, key_of) for piece in self._pieces(part, key_of, steps, kept)]
        last = {key: i for i, piece in enumerate(pieces) for key in piece.reads}
        home_of = {key_of(results[k]): home for k, home in homes.items()}

        def is_free(home: Array | None, i: int) -> bool:
            """Return whether piece i may write to a home, which it reads element by element if at all."""
            there = [(key, last.get(key, -1), x) for key, x in arrays.items() if _memory(x) == id(home)]
            return not any(key in kept or read > i or (read == i and x is not home) for key, read, x in there)

        for i, piece in enumerate(pieces):
            given = [arrays[key_of(x)] if is_array(x) else x for x in piece.given]
            if piece.is_captured:
                self.begin()
                if piece.is_kernel:
                    ends = [(home_of.get(key_of(node)), node.value) for node in piece.nodes]
                    given += [
                        home if home is not None and is_free(home, i) else self.xp.empty(y.shape, y.dtype)
                        for home, y in ends
                    ]
                made = piece.function(*given)
                made = made if isinstance(made, tuple) else (made,)
            else:
                self.end()
                (node,) = piece.nodes
                assert node.op is not None
                made = (self.xp.empty(node.value.shape, node.value.dtype),)
                self.calls.append(functools.partial(_call_between, node.op, piece.function, given, *made))
            arrays.update(zip(map(key_of, piece.nodes), made, strict=True))
            del given, made
            for key in piece.reads & computed - kept:
                if last[key] == i:
                    del arrays[key]
        return [arrays[key_of(x)] if is_array(x) else x for x in results]

    def _different(self, order: Iterable[Tensor], known: set[int]) -> tuple[list[Tensor], dict[int, int]]:
        """Return the nodes to compute, and for the id of each array left out the id of its equal."""
        steps: list[Tensor] = []
        same: dict[int, int] = {}
        made: dict[Any, int] = {}
        for node in order:
            given = [value_of(x) for x in node.inputs]
            if node.op is None or id(node.value) in known or any(x is node.value for x in given):
                continue  # a leaf, or an op that returns its input
            keys = (same.get(id(x), id(x)) if is_array(x) else repr(x) for x in given)
            first = made.setdefault((node.op, identity(dict(node.attrs)), *keys), id(node.value))
            known.add(id(node.value))
            if first == id(node.value):
                steps.append(node)
            else:
                same[id(node.value)] = first
        return steps, same

    def _pieces(
        self, part: Tensor | Kernel, key_of: Callable[[Any], int], steps: Sequence[Tensor], kept: set[int]
    ) -> list[_Piece]:
        """Return a node, or the nodes of a kernel, as pieces that one call computes each; each way is tried."""
        if isinstance(part, Tensor):
            given = [value_of(x) for x in part.inputs]
            reads = {key_of(x) for x in given if is_array(x)}
            ways = self._ways(part)
            for function in ways:
                if self._can_capture(function, given, [part]):
                    return [_Piece([part], given, reads, function)]
            return [_Piece([part], given, reads, ways[-1], is_captured=False)]
        inside = {id(node) for node in part.nodes}
        read = kept.union(*({key_of(x) for x in node.inputs} for node in steps if id(node) not in inside))
        ends = [node for node in part.nodes if key_of(node) in read]
        inputs = {key_of(x): value_of(x) for node in part.nodes for x in node.inputs}
        given = [inputs[key] for key in part.keys]  # type: ignore[index]
        with contextlib.suppress(Exception):  # a kernel that does not compile is computed node by node
            function = part.compiled(self.xp, [key_of(node) for node in ends])
            if self._can_capture(function, given, ends):
                return [_Piece(ends, given, set(map(key_of, given)), function, is_kernel=True)]
        return [piece for node in part.nodes for piece in self._pieces(node, key_of, steps, kept)]

    def _ways(self, node: Tensor) -> list[Callable[..., Array]]:
        """Return the functions that compute a node, the best one first."""
        op = node.op
        assert op is not None
        attrs = {name: _on_device(self.xp, x) for name, x in node.attrs.items()}
        ways: list[Callable[..., Array]] = [functools.partial(op.forward, **attrs)]
        if self.cublas is not None and op in _WITH_PRODUCTS:
            ways.insert(0, functools.partial(_WITH_PRODUCTS[op], self.cublas.matmul))
        return ways

    def _can_capture(self, function: Callable[..., Any], given: Sequence[Any], nodes: Sequence[Tensor]) -> bool:
        """Return whether a function can be captured and gives the values of these nodes."""
        given = [self.xp.asarray(x) if isinstance(x, np.ndarray) else x for x in given]
        try:
            found = function(*given)  # so that its kernels are compiled and loaded before they are captured
            found = found if isinstance(found, tuple) else (found,)
            if not all(is_close(x, node.value) for x, node in zip(found, nodes, strict=True)):
                return False
            self.stream.begin_capture()
            try:
                function(*given)
            finally:
                self.stream.end_capture()
        except Exception:  # of any kind: from here, from CuPy or from CUDA
            return False
        return True


@dataclass(frozen=True)
class _Piece:
    """Nodes that one call computes from recorded arrays and numbers."""

    nodes: Sequence[Tensor]
    given: Sequence[Any]
    reads: set[int]
    function: Callable[..., Any]
    is_captured: bool = True
    is_kernel: bool = False
    """Whether the function may be told where to write."""


def is_close(found: Array, expected: Array) -> bool:
    """Return whether two arrays are equal to rounding: on a GPU sums have no fixed order."""
    x, y = to_host(found), to_host(expected)
    if (x.shape, x.dtype) != (y.shape, y.dtype):
        return False
    if x.dtype.kind != "f":
        return bool((x == y).all())
    tolerance = float(np.finfo(x.dtype).eps) ** 0.5
    scale = float(np.abs(y[np.isfinite(y)]).max(initial=0.0))
    return bool(np.allclose(x, y, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


_WITH_PRODUCTS: dict[Op[..., Any], Callable[..., Array]] = {
    matmul: lambda product, x, y: product(x, y),
    linear: lambda product, x, weight, bias: product(x, weight) + bias,
}
"""Ops that are matrix products, as functions of a product that can be captured and of their inputs."""


def _on_device(xp: ModuleType, key: Any) -> Any:
    """Return an index without lists, which are copied to the device at each use."""
    if not isinstance(key, tuple):
        return key
    return tuple(xp.asarray(part) if isinstance(part, (list, np.ndarray)) else part for part in key)


def _call_between(op: Op[..., Any], function: Callable[..., Array], inputs: Sequence[Any], out: Array) -> None:
    """Call a function between two graphs, and copy its result."""
    check_shape(op, found := function(*inputs), out)
    out[...] = found


def _memory(x: Any) -> int:
    """Return the id of the array that owns the memory of x."""
    base = getattr(x, "base", None)
    return id(x if base is None else base)
