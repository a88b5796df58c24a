"""The second pass of a plan: the ops of a graph, written down as calls of NumPy.

The forward function of each op runs on arrays that write down every ufunc called on them. They have shapes, dtypes and
layouts, and no numbers: their memory is never written to, so that the system need not provide it. It knows ops and
calls, and nothing of derivatives or of where arrays will lie.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Array, Tensor
from .calls import Buffer, Call, View, word


class _NotWritten(Exception):  # noqa: N818  it is no error: the op is called whole
    """A function did something else than to call ufuncs."""


class Writer(np.ndarray):
    """An array that writes every ufunc called on it to a tape, and refuses to tell its values."""

    tape: Tape

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, Writer):
            self.tape = source.tape

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return self.tape.write(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.broadcast_to:  # which would return a plain array
            options = {**options, "subok": True}
        found = super().__array_function__(function, types, args, options)
        alone = found if isinstance(found, (list, tuple)) else [found]
        return found if function in _OF_SHAPES or all(isinstance(x, Writer) for x in alone) else self._refuse()

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return part if isinstance(part, Writer) else self._refuse()  # an element

    def astype(self, dtype: Any) -> Any:  # type: ignore[override]
        return self.tape.copy(self, np.empty_like(self.view(np.ndarray), dtype))

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise _NotWritten

    __bool__ = __int__ = __float__ = __index__ = __setitem__ = __contains__ = item = tolist = tobytes = _refuse
    fill = sort = argmax = argmin = argsort = nonzero = searchsorted = _refuse


_OF_SHAPES = frozenset({np.shape, np.ndim, np.size, np.result_type})
"""Functions of NumPy that look at no number, and return no array."""


class Tape:
    """The calls that were written, and the memory that they work on."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.buffers: dict[int, Buffer] = {}  # what memory holds now, by the id of its owner
        self.replaced: list[tuple[int, Buffer]] = []  # what it held before, to go back
        self.fresh: set[Buffer] = set()  # what the op that is running has made, and nobody else has been given
        self.made: dict[Hashable, tuple[Writer, Buffer]] = {}  # what was computed, and the buffer that it was put in

    def hold(self, array: Array, fixed: bool = False) -> Writer:
        """Return an array as one that writes, with its memory known from now on."""
        owner = _owner(array)
        self.buffers.setdefault(id(owner), Buffer(owner, fixed))
        writer = array.view(Writer)
        writer.flags.writeable = False  # but by ufuncs, which are written down
        writer.tape = self
        return writer

    def view(self, x: Any) -> View:
        """Return where an array lies."""
        buffer = self.buffers.get(id(_owner(x))) if isinstance(x, Writer) else None
        if buffer is None:  # something else than a ufunc made it
            raise _NotWritten
        return View(buffer, x.view(np.ndarray))

    def argument(self, x: Any) -> Any:
        """Return where an array lies, and a number of Python as it is."""
        return x if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic) else self.view(x)

    def known(self, what: Hashable) -> Writer | None:
        """Return what was computed before, unless another number was put in its place."""
        writer, buffer = self.made.get(what, (None, None))
        if writer is None or buffer is None or self.view(writer).buffer is not buffer:
            return None
        self.fresh.discard(buffer)
        return writer

    def keep(self, what: Hashable, writer: Writer) -> Writer:
        """Remember what was computed, and return it."""
        self.made[what] = writer, self.view(writer).buffer
        return writer

    def write(self, ufunc: Any, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Writer:
        """Make a call, write it down, and return its result. Where the same was computed before, return that."""
        (out,) = options.pop("out", (None,))
        if method not in ("__call__", "reduce") or ufunc.nout != 1 or options.get("where", True) is not True:
            raise _NotWritten
        args = tuple(self.argument(x) for x in inputs)
        what = (ufunc, method, repr(options), *_keys(args))
        if out is None and (known := self.known(what)) is not None:
            return known
        plain = [x.like if isinstance(x, View) else x for x in args]
        function = ufunc if method == "__call__" else ufunc.reduce
        if options:
            function = functools.partial(function, **options)
        if out is None:
            out = self.hold(np.empty_like(function(*plain)))
        else:
            old = self.view(out)
            if old.buffer not in self.fresh or not old.is_whole:  # another node may hold it
                raise _NotWritten
            self.replaced.append((id(_owner(out)), old.buffer))
            self.buffers[id(_owner(out))] = Buffer(old.buffer.like, False)  # every buffer is written once
        elementwise = method == "__call__" and ufunc.signature is None
        dtypes = {x.dtype for x in plain if isinstance(x, np.ndarray)}
        if elementwise and len(dtypes) == 1:
            (dtype,) = dtypes  # in which NumPy takes Python's numbers, too, and reads arrays without axes faster
            if dtype.char * ufunc.nin in _inputs_of(ufunc) and (out.dtype == dtype or dtype.kind == "f"):
                args = tuple(x if isinstance(x, View) else np.asarray(x, dtype) for x in args)
        self.calls.append(Call(function, args, self.view(out), elementwise))
        self.fresh.add(self.view(out).buffer)
        return self.keep(what, out)

    def run(self, node: Tensor, inputs: Sequence[Any]) -> Writer:
        """Run a node's op on arrays that write, unless the same was run before, and return its value."""
        op = node.op
        assert op is not None
        args = [self.argument(x) for x in inputs]
        what = (op, word(dict(node.attrs)), *_keys(args))
        if (known := self.known(what)) is not None:
            return known
        calls, replaced = len(self.calls), len(self.replaced)
        self.fresh.clear()
        try:
            value = op.forward(*inputs, **node.attrs)
            self.view(value)
        except Exception:  # it does something else than to call ufuncs, which without numbers may fail in any way
            self._go_back(calls, replaced)
            value = self.hold(np.empty_like(node.value))
            function = functools.partial(_whole, op.forward, dict(node.attrs))
            self.calls.append(Call(function, tuple(args), self.view(value), elementwise=False))
        return self.keep(what, value)

    def _go_back(self, calls: int, replaced: int) -> None:
        """Forget all but the first so many calls, and what they wrote."""
        gone = {call.out.buffer for call in self.calls[calls:]}
        self.made = {what: (x, buffer) for what, (x, buffer) in self.made.items() if buffer not in gone}
        while len(self.replaced) > replaced:
            owner, buffer = self.replaced.pop()
            self.buffers[owner] = buffer
        del self.calls[calls:]

    def copy(self, x: Writer, into: Array | None = None) -> Writer:
        """Write down a copy of an array, row after row or into a new one that looks otherwise, and return it."""
        new = self.hold(np.empty(x.shape, x.dtype) if into is None else into)
        self.calls.append(Call(_copy, (self.view(x),), self.view(new), elementwise=True))
        self.fresh.add(self.view(new).buffer)
        return new


@functools.cache
def _inputs_of(ufunc: Any) -> frozenset[str]:
    """Return the kinds of inputs that a ufunc takes, a letter for each."""
    return frozenset(kind.partition("->")[0] for kind in ufunc.types)


def _keys(args: Sequence[Any]) -> list[Hashable]:
    return [x.key if isinstance(x, View) else repr(x) for x in args]


def _owner(array: Array) -> Array:
    """Return the array whose memory this one looks at."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _whole(forward: Callable[..., Array], attrs: Mapping[str, Any], *args: Any, out: Array) -> None:
    np.copyto(out, forward(*args, **attrs))


def _copy(x: Array, out: Array) -> None:
    np.copyto(out, x, casting="unsafe")
