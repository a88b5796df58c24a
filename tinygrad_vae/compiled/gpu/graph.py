"""A step on a GPU as CUDA graphs: the kernels of its ops, taken down once and run again at one launch.

Never tried on hardware: tested on an imitation of CuPy only (``tests/device_array.py``).

Run op by op, a step on a GPU is mostly Python that launches small kernels. A stream that is captured takes down the
kernels instead of running them; the resulting graph runs them all at one launch, on the memory that they were captured
with. That memory is a pool of its own, so that nobody else is given a part of it. Inputs and noise are copied to fixed
places before the launch. Matrix products call cuBLAS directly (``cublas``).

Not everything can be captured: ops that wait for the device (a mask as an index, a number read off an array), sorts,
and the calls of CuPy to cuSOLVER. Each op is tried by itself; an op that fails is called between two graphs.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ...core import Array, Op, Tensor, is_array, namespace, trees, value_of
from ...devices import to_host
from ...ops.matrix import linear, matmul
from ..program import Program
from ..recording import Recording
from ..trace import check_shape
from .cublas import CuBLAS, CuBLASError


class CapturedProgram(Program):
    """The calls of a step on a GPU, in memory of a pool of its own: CUDA graphs, and the ops that run between them."""

    def __init__(self, recording: Recording, carried: Mapping[int, int]) -> None:
        given, results = recording.given, trees.leaves(recording.results)
        self.xp = xp = namespace(*given)
        self.pool, stream = xp.cuda.MemoryPool(), xp.cuda.Stream(non_blocking=True)
        xp.cuda.get_current_stream().synchronize()  # another stream will read what was recorded on this one
        with xp.cuda.using_allocator(self.pool.malloc), stream, _Capture(xp, stream) as capture:
            outside = [xp.array(x) for x in given]
            self._own = {id(x) for x in outside}
            arrays = {id(x): mine for x, mine in zip(given, outside, strict=True)}
            found = capture.take_down(recording.order, arrays, [value_of(x) for x in results])
            capture.begin()
            for k, x in enumerate(found):
                if self._lies_here(x):  # which the carried results and the next arguments overwrite
                    found[k] = x.copy()
            for k, i in carried.items():
                xp.copyto(outside[i], found[k])
            capture.end()
            self._cublas = capture.cublas  # its workspace is needed as long as the graphs
            stream.synchronize()
        super().__init__(outside, found, carried, capture.calls)

    def _renewed(self, home: Array) -> Array:
        return home[...]

    def _lies_here(self, x: Any) -> bool:
        """Return whether one of the arrays that are filled owns the memory of x."""
        base = getattr(x, "base", None)
        return id(x if base is None else base) in self._own

    def _is_current(self, x: Array) -> bool:
        return any(x is mine for mine in self._arguments)

    def _fill(self, i: int, x: Array) -> None:
        self.xp.copyto(self._outside[i], self.xp.asarray(x))

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

    def take_down(self, order: Iterable[Tensor], arrays: dict[int, Any], results: Sequence[Any]) -> list[Any]:
        """Take down the nodes, and return the arrays of the results. Memory is given back after its last use.

        Args:
            order: the nodes, each after its inputs.
            arrays: for the id of a recorded array, the array that stands for it now.
            results: recorded arrays, and other things.
        """
        steps: dict[int, Tensor] = {}
        for node in order:
            returns_input = any(value_of(x) is node.value for x in node.inputs)
            if node.op is not None and not returns_input and id(node.value) not in arrays:
                steps[id(node.value)] = node
        reads = {key: [value_of(x) for x in node.inputs] for key, node in steps.items()}
        for x in [*itertools.chain.from_iterable(reads.values()), *results]:
            if is_array(x) and id(x) not in arrays and id(x) not in steps:  # a constant
                arrays[id(x)] = x if isinstance(x, np.generic) else self.xp.asarray(x)
        last = {id(x): key for key, inputs in reads.items() for x in inputs}
        functions = {key: self._function(node) for key, node in steps.items()}  # tried before anything is captured
        for key, node in steps.items():
            given = [arrays[id(x)] if is_array(x) else x for x in reads[key]]
            function, can_capture = functions[key]
            if can_capture:
                self.begin()
                made = function(*given)
            else:
                self.end()
                made = self.xp.empty(node.value.shape, node.value.dtype)
                self.calls.append(functools.partial(_call_between, node.op, function, given, made))
            arrays[key] = made
            del given, made
            for x in reads[key]:
                if id(x) in steps and last[id(x)] == key and not any(x is y for y in results):
                    arrays.pop(id(x), None)
        return [arrays[id(x)] if is_array(x) else x for x in results]

    def _function(self, node: Tensor) -> tuple[Callable[..., Array], bool]:
        """Return a function that computes a node, and whether it can be captured."""
        assert node.op is not None
        attrs = {name: _on_device(self.xp, x) for name, x in node.attrs.items()}
        whole = functools.partial(node.op.forward, **attrs)
        if self.cublas is not None and node.op in _WITH_PRODUCTS:
            product = functools.partial(_WITH_PRODUCTS[node.op], self.cublas.matmul)
            if self._can_capture(product, node):
                return product, True
        return whole, self._can_capture(whole, node)

    def _can_capture(self, function: Callable[..., Any], node: Tensor) -> bool:
        """Return whether a function can be captured and gives the value of the node."""
        given = [self.xp.asarray(x) if isinstance(x, np.ndarray) else x for x in map(value_of, node.inputs)]
        try:
            if not is_close(function(*given), node.value):  # its kernels are compiled and loaded before the capture
                return False
            self.stream.begin_capture()
            try:
                function(*given)
            finally:
                self.stream.end_capture()
        except Exception:  # of any kind: from here, from CuPy or from CUDA
            return False
        return True


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


def _call_between(op: Any, function: Callable[..., Array], inputs: Sequence[Any], out: Array) -> None:
    """Call a function between two graphs, and copy its result."""
    check_shape(op, found := function(*inputs), out)
    out[...] = found
