"""Turn the ops of a graph into calls of NumPy: their functions run on arrays that write down each ufunc they meet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ..core import Array, Op, Tensor
from .buffers import Buffer, Call, View, laid_out_like
from .recording import PlanError, identity


class _CannotTraceError(Exception):
    """A function does something else than to call ufuncs, so its op is called whole."""


class Traced(np.ndarray):
    """An array without numbers that writes down every ufunc called on it, and refuses to tell its values."""

    owner: Trace

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, Traced):
            self.owner = source.owner

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return self.owner.call(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.broadcast_to:  # which would return a plain array
            options = {**options, "subok": True}
        found = super().__array_function__(function, types, args, options)
        parts = found if isinstance(found, (list, tuple)) else [found]
        return found if function in _OF_SHAPES or all(isinstance(x, Traced) for x in parts) else self._refuse()

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return part if isinstance(part, Traced) else self._refuse()  # an element

    def astype(self, dtype: Any) -> Any:  # type: ignore[override]
        return self.owner.copy(self, np.empty_like(self.view(np.ndarray), dtype))

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise _CannotTraceError

    __bool__ = __int__ = __float__ = __index__ = __setitem__ = __contains__ = item = tolist = tobytes = _refuse
    fill = sort = argmax = argmin = argsort = nonzero = searchsorted = _refuse


_OF_SHAPES = frozenset({np.shape, np.ndim, np.size, np.result_type})
"""Functions of NumPy that read no element and return no array."""


class Trace:
    """The calls written down so far, and the buffers that they read and write."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.buffers: dict[int, Buffer] = {}  # the buffer that memory holds now, by the id of the array that owns it
        self.fresh: set[Buffer] = set()  # written by the op that is running, so that nobody else holds them yet
        self.made: dict[Hashable, tuple[Traced, Buffer]] = {}  # what was computed, so that it is computed once

    def hold(self, array: Array, fixed: bool = False) -> Traced:
        """Return an array as a traced one, with its memory known from now on."""
        owner = _owner(array)
        self.buffers.setdefault(id(owner), Buffer(owner, fixed))
        traced = array.view(Traced)
        traced.flags.writeable = False  # for all but ufuncs, which are written down
        traced.owner = self
        return traced

    def view(self, x: Any) -> View:
        """Return where a traced array lies."""
        buffer = self.buffers.get(id(_owner(x))) if isinstance(x, Traced) else None
        if buffer is None:  # something else than a ufunc made it
            raise _CannotTraceError
        return View(buffer, x.view(np.ndarray))

    def argument(self, x: Any) -> Any:
        """Return where an array lies, or a Python number as it is."""
        return x if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic) else self.view(x)

    def call(self, ufunc: Any, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Traced:
        """Write down a call and return its result, or the result of the same call made before."""
        (out,) = options.pop("out", (None,))
        if method not in ("__call__", "reduce") or ufunc.nout != 1 or options.get("where", True) is not True:
            raise _CannotTraceError
        args = tuple(self.argument(x) for x in inputs)
        what = (ufunc, method, repr(options), *_keys(args))
        if out is None and (known := self._known(what)) is not None:
            return known
        plain = [x.like if isinstance(x, View) else x for x in args]
        function = ufunc if method == "__call__" else ufunc.reduce
        if options:
            function = functools.partial(function, **options)
        if out is None:
            out = self.hold(np.empty_like(function(*plain)))
        else:
            old = self.view(out)
            if old.buffer not in self.fresh or not old.is_whole:
                raise _CannotTraceError  # another node may hold it
            self.buffers[id(_owner(out))] = Buffer(old.buffer.like, False)  # every buffer is written once
        elementwise = method == "__call__" and ufunc.signature is None
        dtype, *others = {x.dtype for x in plain if isinstance(x, np.ndarray)}
        if elementwise and not others and dtype.kind == "f" and dtype.char * ufunc.nin in _input_types(ufunc):
            args = tuple(x if isinstance(x, View) else np.asarray(x, dtype) for x in args)  # as NumPy would do it
        return self._keep(what, self._write(function, args, out, elementwise))

    def run(self, node: Tensor, inputs: Sequence[Any]) -> Traced:
        """Run a node's op on traced arrays, unless the same was run before, and return its value."""
        op, args = node.op, tuple(self.argument(x) for x in inputs)
        assert op is not None
        what = (op, identity(dict(node.attrs)), *_keys(args))
        if (known := self._known(what)) is not None:
            return known
        before = len(self.calls)
        self.fresh.clear()
        try:
            value = op.forward(*inputs, **node.attrs)
            self.view(value)
        except Exception:  # without numbers, a function that reads them may fail in any way
            gone = {call.out.buffer for call in self.calls[before:]}
            self.made = {what: (x, buffer) for what, (x, buffer) in self.made.items() if buffer not in gone}
            del self.calls[before:]
            function = functools.partial(_call_whole, op, dict(node.attrs))
            value = self._write(function, args, self.hold(laid_out_like(node.value)), elementwise=False)
        return self._keep(what, value)

    def copy(self, x: Traced, into: Array) -> Traced:
        """Write down a copy of an array into a new one, and return that."""
        return self._write(_copy, (self.view(x),), self.hold(into), elementwise=True)

    def _write(self, function: Callable[..., Any], args: tuple[Any, ...], out: Traced, elementwise: bool) -> Traced:
        view = self.view(out)
        self.calls.append(Call(function, args, view, elementwise))
        self.fresh.add(view.buffer)
        return out

    def _known(self, what: Hashable) -> Traced | None:
        """Return what was computed before, unless it was overwritten since."""
        traced, buffer = self.made.get(what, (None, None))
        if traced is None or buffer is None or self.view(traced).buffer is not buffer:
            return None
        self.fresh.discard(buffer)
        return traced

    def _keep(self, what: Hashable, traced: Traced) -> Traced:
        self.made[what] = traced, self.view(traced).buffer
        return traced


@functools.cache
def _input_types(ufunc: Any) -> frozenset[str]:
    """Return the types of inputs that a ufunc takes, a letter for each."""
    return frozenset(types.partition("->")[0] for types in ufunc.types)


def _keys(args: Sequence[Any]) -> list[Hashable]:
    return [x.key if isinstance(x, View) else repr(x) for x in args]


def _owner(array: Array) -> Array:
    """Return the array whose memory this one looks at."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _call_whole(op: Op[..., Any], attrs: dict[str, Any], *args: Any, out: Array) -> None:
    check_shape(op, found := op.forward(*args, **attrs), out)
    np.copyto(out, found)


def check_shape(op: Op[..., Any], found: Array, recorded: Array) -> None:
    """Raise if an op gives another shape or dtype than when it was recorded."""
    if (found.shape, found.dtype) != (recorded.shape, recorded.dtype):
        raise PlanError(
            f"plan: {op.name} gave {found.dtype} of shape {found.shape}, and {recorded.dtype} of shape "
            f"{recorded.shape} when it was recorded. A plan holds for one shape: where the shape depends on values "
            "(x[x > 0], nonzero, unique_values), keep all elements and write tg.where(x > 0, x, 0.0)"
        )


def _copy(x: Array, out: Array) -> None:
    np.copyto(out, x, casting="unsafe")
