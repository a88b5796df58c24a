"""A step on a GPU as a CUDA graph: what a recording of CuPy arrays is compiled to.

It knows graphs and how CuPy captures, and nothing of derivatives.

Run eagerly, a step on a GPU is mostly Python that launches small kernels. A stream that is captured takes down the
kernels instead of running them; the graph that this gives runs them all at one launch, on the memory that they were
captured with. That memory is a pool of its own, so that nobody else is given a part of it. Inputs, noise among them,
are copied to fixed places before the launch, and what is carried from step to step is written to its own place.
Elementwise nodes are compiled to common kernels (``kernels``), and products are called of cuBLAS itself (``products``).

Not all can be captured: what waits for the device (a mask as an index, a number read off an array), sorts, and what
CuPy calls of cuSOLVER. Each piece is tried by itself; what fails is called as it is, between two graphs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..core import Array, Tensor, is_array, namespace, to_host, value_of
from .calls import word
from .kernels import Kernel, in_kernels
from .products import ProductError, Products


class Captured:
    """The calls of a step: CUDA graphs, and what runs between them.

    Args:
        order: the nodes, each after those that it is made from.
        filled: the arrays that a run is given.
        results: the nodes, arrays and numbers that a run leaves behind.
        carried: for the number of a result, that of the array of ``filled`` that it becomes.

    Attributes:
        results: the places of the results, and what is no array as it is.
        calls: what a run calls, one after the other.
        pool: the memory.
    """

    def __init__(
        self, order: Iterable[Tensor], filled: Sequence[Array], results: Sequence[Any], carried: Mapping[int, int]
    ) -> None:
        self.xp = xp = namespace(*filled)
        self.pool, stream = xp.cuda.MemoryPool(), xp.cuda.Stream(non_blocking=True)
        xp.cuda.get_current_stream().synchronize()  # another stream will read what was recorded on this one
        with xp.cuda.using_allocator(self.pool.malloc), stream, _Capture(xp, stream) as capture:
            self._outside = [xp.array(x) for x in filled]
            self._own = {id(place) for place in self._outside}
            places = {id(x): place for x, place in zip(filled, self._outside, strict=True)}
            homes = {k: self._outside[i] for k, i in carried.items()}
            self.results = capture.take_down(order, places, [value_of(x) for x in results], homes)
            capture.begin()
            for k, place in enumerate(self.results):
                if _memory(place) in self._own and place is not homes.get(k):  # which is about to be overwritten
                    self.results[k] = place.copy()
            for k, home in homes.items():
                if self.results[k] is not home:
                    xp.copyto(home, self.results[k])
                    self.results[k] = home
            capture.end()
            self.calls, self._kept = capture.calls, capture.products
            stream.synchronize()

    def run(self, given: Sequence[Array]) -> None:
        """Fill the places with what is given, and run the step once on the current stream."""
        xp = self.xp
        new = [
            x.copy() if x is not place and _memory(x) in self._own else x  # before another one is filled in there
            for place, x in zip(self._outside, given, strict=True)
        ]
        for place, x in zip(self._outside, new, strict=True):
            if x is not place:
                xp.copyto(place, xp.asarray(x))
        for call in self.calls:
            call()

    def __str__(self) -> str:
        graphs = sum(not isinstance(call, functools.partial) for call in self.calls)
        between = len(self.calls) - graphs
        return f"{graphs} CUDA graphs and {between} calls in {self.pool.total_bytes() / 2**20:.1f} MiB"


class _Capture:
    """A capture that is going on: calls that are finished, and a graph that kernels are added to."""

    def __init__(self, xp: ModuleType, stream: Any) -> None:
        self.xp, self.stream = xp, stream
        self.calls: list[Callable[[], None]] = []
        self.is_open = False
        self.products: Products | None = None
        with contextlib.suppress(ProductError):  # without them products run between graphs
            self.products = Products(xp, stream)

    def __enter__(self) -> _Capture:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_open:  # there was an error
            with contextlib.suppress(Exception):
                self.stream.end_capture()
        if self.products is not None:
            self.products.close()

    def begin(self) -> None:
        """Take down from now on, if that is not so already."""
        if not self.is_open:
            self.stream.begin_capture()
            self.is_open = True

    def end(self) -> None:
        """Make a graph of what was taken down."""
        if self.is_open:
            self.is_open = False
            self.calls.append(self.stream.end_capture().launch)

    def take_down(
        self, order: Iterable[Tensor], places: dict[int, Any], results: Sequence[Any], homes: Mapping[int, Array]
    ) -> list[Any]:
        """Take down the nodes, and return the places of the results.

        What was computed before is not computed again, and a place is given back once it was read for the last time.

        Args:
            order: the nodes, each after those that it is made from.
            places: for the id of an array of the recording, the place that stands for it now.
            results: arrays of the recording, and others.
            homes: for the number of a result, the place of an input where it may be written once that was read.
        """
        steps, same = self._different(order, set(places))

        def key_of(x: Any) -> int:
            key = id(value_of(x))
            return same.get(key, key)

        computed = {key_of(node) for node in steps}
        for x in map(value_of, [*(x for node in steps for x in node.inputs), *results]):
            if is_array(x) and key_of(x) not in places and key_of(x) not in computed:  # a constant
                places[key_of(x)] = x if isinstance(x, np.generic) else self.xp.asarray(x)
        kept = {key_of(x) for x in results}
        pieces = [piece for part in in_kernels(steps, key_of) for piece in self._pieces(part, key_of, steps, kept)]
        last = {key: i for i, piece in enumerate(pieces) for key in piece.reads}
        home_of = {key_of(results[k]): home for k, home in homes.items()}

        def is_free(home: Array | None, i: int) -> bool:
            """Return whether nobody needs what lies in a home, once piece i has read it element by element."""
            if home is None:
                return False
            there = [(key, last.get(key, -1), x) for key, x in places.items() if _memory(x) == id(home)]
            return not any(key in kept or read > i or (read == i and x is not home) for key, read, x in there)

        for i, piece in enumerate(pieces):
            given = [places[key_of(x)] if is_array(x) else x for x in piece.given]
            if piece.is_captured:
                self.begin()
                if piece.is_kernel:
                    ends = [(home_of.get(key_of(node)), node.value) for node in piece.ends]
                    given += [x if is_free(x, i) else self.xp.empty(y.shape, y.dtype) for x, y in ends]
                made = piece.function(*given)
            else:
                self.end()
                (node,) = piece.ends
                made = self.xp.empty(node.value.shape, node.value.dtype)
                self.calls.append(functools.partial(_write, node.op.name, made, piece.function, given))  # type: ignore[union-attr]
            places.update(zip(map(key_of, piece.ends), made if isinstance(made, tuple) else (made,), strict=True))
            del given, made
            for key in piece.reads & computed - kept:
                if last[key] == i:
                    del places[key]
        return [places[key_of(x)] if is_array(x) else x for x in results]

    def _different(self, order: Iterable[Tensor], known: set[int]) -> tuple[list[Tensor], dict[int, int]]:
        """Return the nodes to compute, and for the id of an array that is left out the id of the one that is equal."""
        steps: list[Tensor] = []
        same: dict[int, int] = {}
        made: dict[Any, int] = {}
        for node in order:
            given = [value_of(x) for x in node.inputs]
            if node.op is None or id(node.value) in known or any(x is node.value for x in given):
                continue  # a leaf, or an op that hands on what it was given
            words = (same.get(id(x), id(x)) if is_array(x) else repr(x) for x in given)
            first = made.setdefault((node.op, word(dict(node.attrs)), *words), id(node.value))
            known.add(id(node.value))
            if first == id(node.value):
                steps.append(node)
            else:
                same[id(node.value)] = first
        return steps, same

    def _pieces(
        self, part: Tensor | Kernel, key_of: Callable[[Any], int], steps: Sequence[Tensor], kept: set[int]
    ) -> list[_Piece]:
        """Return a node, or the nodes of a kernel, as what is computed by one call; the ways to do so are tried out."""
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
        arrays = {key_of(x): value_of(x) for node in part.nodes for x in node.inputs}
        given = [arrays[key] for key in part.keys]  # type: ignore[index]
        with contextlib.suppress(Exception):  # what cannot be compiled is computed node by node
            function = part.compiled(self.xp, [key_of(node) for node in ends])
            if self._can_capture(function, given, ends):
                return [_Piece(ends, given, set(map(key_of, given)), function, is_kernel=True)]
        return [piece for node in part.nodes for piece in self._pieces(node, key_of, steps, kept)]

    def _ways(self, node: Tensor) -> list[Callable[..., Array]]:
        """Return the functions that compute a node, the best one first."""
        op = node.op
        assert op is not None
        attrs = {name: _on_device(self.xp, x) if name == "key" else x for name, x in node.attrs.items()}
        ways: list[Callable[..., Array]] = [functools.partial(op.forward, **attrs)]
        if self.products is not None and op.name in _WITH_PRODUCTS:
            ways.insert(0, functools.partial(_WITH_PRODUCTS[op.name], self.products.matmul))
        return ways

    def _can_capture(self, function: Callable[..., Any], given: Sequence[Any], nodes: Sequence[Tensor]) -> bool:
        """Return whether a function can be captured, and gives the values of these nodes."""
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
        except Exception:  # of whatever kind, from here, from CuPy or from CUDA
            return False
        return True


@dataclass(frozen=True)
class _Piece:
    """What one call computes: nodes, from arrays and numbers of the recording. A kernel may be told where to write."""

    ends: Sequence[Tensor]
    given: Sequence[Any]
    reads: set[int]
    function: Callable[..., Any]
    is_captured: bool = True
    is_kernel: bool = False


def is_close(found: Array, expected: Array) -> bool:
    """Return whether two arrays are alike, to rounding: on a GPU sums have no fixed order."""
    x, y = to_host(found), to_host(expected)
    if (x.shape, x.dtype) != (y.shape, y.dtype):
        return False
    if x.dtype.kind != "f":
        return bool((x == y).all())
    tolerance = float(np.finfo(x.dtype).eps) ** 0.5
    scale = float(np.abs(y[np.isfinite(y)]).max(initial=0.0))
    return bool(np.allclose(x, y, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


_WITH_PRODUCTS: dict[str, Callable[..., Array]] = {
    "matmul": lambda product, x, y: product(x, y),
    "linear": lambda product, x, weight, bias: product(x, weight) + bias,
}
"""The ops that are matrix products, by functions of a product that can be captured and of their inputs."""


def _on_device(xp: ModuleType, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an index without lists, which are copied to the device at each use."""
    return tuple(xp.asarray(part) if isinstance(part, (list, np.ndarray)) else part for part in key)


def _write(name: str, place: Array, function: Callable[..., Array], inputs: Sequence[Any]) -> None:
    """Call a function between two graphs, and put its result in its place."""
    out = function(*inputs)
    if out.shape != place.shape:
        raise ValueError(
            f"plan: {name} gave shape {out.shape}, and {place.shape} when it was recorded; a plan holds for one shape. "
            "A mask as an index takes as many elements as it holds: write tg.where"
        )
    place[...] = out


def _memory(x: Any) -> int:
    """Return what tells the memory that an array lies in from other memory."""
    base = getattr(x, "base", None)
    return id(x if base is None else base)
