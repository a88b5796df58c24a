"""A step on a GPU as a CUDA graph: what a recording of CuPy arrays is compiled to.

It knows graphs and CuPy, and nothing of derivatives.

Run eagerly, a step on a GPU is mostly Python that launches small kernels. A stream that is captured takes down the
kernels instead of running them; the graph that this gives runs them all at one launch, on the memory that they were
captured with. That memory is a pool of its own, so that nobody else is given a part of it. Inputs, noise among them,
are copied to fixed places before the launch, and what is carried from step to step is copied to its place at the end.

Not all can be captured: what waits for the device (a mask as an index, a number read off an array), sorts, and what
CuPy calls of cuSOLVER. Each node is tried by itself; what fails is called as it is, between two graphs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..arrays import Array, is_array, namespace
from ..graph import Tensor, value_of
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
            self.results = capture.take_down(order, places, [value_of(x) for x in results])
            capture.begin()
            for k, place in enumerate(self.results):
                if _memory(place) in self._own:  # what is carried is about to overwrite it
                    self.results[k] = place.copy()
            for k, i in carried.items():
                xp.copyto(self._outside[i], self.results[k])
                self.results[k] = self._outside[i]
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

    def take_down(self, order: Iterable[Tensor], places: dict[int, Any], results: Sequence[Any]) -> list[Any]:
        """Take down the nodes, and return the places of the results.

        What was computed before is not computed again, and a place is given back once it was read for the last time.

        Args:
            order: the nodes, each after those that it is made from.
            places: for the id of an array of the recording, the place that stands for it now.
            results: arrays of the recording, and others.
        """
        steps, same = self._different(order, set(places))
        constants = [x for node in steps for x in node.inputs] + list(results)
        computed = {id(node.value) for node in steps}
        for x in map(value_of, constants):
            key = same.get(id(x), id(x))
            if is_array(x) and key not in places and key not in computed:
                places[key] = x if isinstance(x, np.generic) else self.xp.asarray(x)

        def of(x: Any) -> Any:
            value = value_of(x)
            return places[same.get(id(value), id(value))] if is_array(value) else value

        ways = [self._way(node) for node in steps]
        last = {same.get(id(value_of(x)), id(value_of(x))): i for i, node in enumerate(steps) for x in node.inputs}
        kept = {same.get(id(x), id(x)) for x in results}
        for i, (node, (function, is_captured)) in enumerate(zip(steps, ways, strict=True)):
            inputs = [of(x) for x in node.inputs]
            if is_captured:
                self.begin()
                places[id(node.value)] = function(*inputs)
            else:
                self.end()
                places[id(node.value)] = place = self.xp.empty(node.value.shape, node.value.dtype)
                self.calls.append(functools.partial(_write, node.op.name, place, function, inputs))  # type: ignore[union-attr]
            del inputs
            for key in {same.get(id(value_of(x)), id(value_of(x))) for x in node.inputs} & computed - kept:
                if last[key] == i:
                    del places[key]
        return [of(x) for x in results]

    def _different(self, order: Iterable[Tensor], known: set[int]) -> tuple[list[Tensor], dict[int, int]]:
        """Return the nodes to compute, and for the id of an array that is left out the id of the one that is equal."""
        steps: list[Tensor] = []
        same: dict[int, int] = {}
        made: dict[Any, int] = {}
        for node in order:
            if node.op is None or id(node.value) in known:
                continue
            given = [value_of(x) for x in node.inputs]
            words = (same.get(id(x), id(x)) if is_array(x) else repr(x) for x in given)
            first = made.setdefault((node.op.name, repr(node.attrs), *words), id(node.value))
            known.add(id(node.value))
            if first == id(node.value):
                steps.append(node)
            else:
                same[id(node.value)] = first
        return steps, same

    def _way(self, node: Tensor) -> tuple[Callable[..., Array], bool]:
        """Return the function to compute a node with, and whether it can be captured: it is tried out."""
        op, xp = node.op, self.xp
        assert op is not None
        attrs = {name: _on_device(xp, x) if name == "key" else x for name, x in node.attrs.items()}
        functions: list[Callable[..., Array]] = [functools.partial(op.forward, **attrs)]
        if self.products is not None and op.name in _WITH_PRODUCTS:
            functions.insert(0, functools.partial(_WITH_PRODUCTS[op.name], self.products.matmul))
        given = [value_of(x) for x in node.inputs]
        given = [xp.asarray(x) if isinstance(x, np.ndarray) else x for x in given]
        for function in functions:
            with contextlib.suppress(Exception):
                function(*given)  # so that its kernels are compiled and loaded before they are captured
                self.stream.begin_capture()
                try:
                    function(*given)
                except BaseException:
                    with contextlib.suppress(Exception):
                        self.stream.end_capture()
                    raise
                self.stream.end_capture()
                return function, True
        return functions[-1], False


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
