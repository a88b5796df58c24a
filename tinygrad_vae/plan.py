"""Record a step once, and run it again in its own buffers: a compiler small enough to read.

It knows graphs, noise streams and how NumPy is called, and nothing of derivatives: recorded gradients are ordinary
nodes, so that loss, gradients and update are one graph. Three passes turn a step into a list of NumPy calls, which a
run makes one after the other:

1. **Record.** The step is called with a Tensor for each array, which gives its graph.
2. **Lower.** The forward function of each node runs on arrays that write down every ufunc called on them: ``softplus``
   becomes ``abs, negative, exp, log1p, maximum, add``. What moves no element (a reshape, a slice) writes nothing. An op
   that does anything else is called whole, and its result copied. What was computed before is not computed again.
3. **Place.** Every array gets a place in one piece of memory, the arena. Two share it where the last use of one comes
   before the first use of the other; a call that works element by element may write over what it reads last.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import trees
from .arrays import Array, NoiseStream, describe, is_array, namespace
from .graph import Tensor, topological_order, value_of

ALIGNMENT = 64
"""Every array in an arena begins at a multiple of so many bytes, the line of a cache."""

MOST_PLANS = 16
"""How many kinds of arguments a step may be planned for, before it is likelier that a number changes every time."""


class PlanError(ValueError):
    """A step cannot be planned, or not be run with these arguments."""


def plan(step: Callable[..., Any], *, carry: int = 0) -> Plan:
    """Return a function that does what ``step`` does, bit for bit, faster and without allocating.

    It records the first two calls and runs its plan from the third on; arguments of other shapes or dtypes get a plan
    of their own. Arrays may change from call to call, and streams give fresh noise. Everything else must stay what it
    was: a branch, or a number read off an array, would be frozen. Where the first two recordings differ, that is an
    error; what only changes later cannot be seen. Checks of values (a parameter in its domain, a finite gradient) are
    made while recording alone.

    Args:
        step: a function of trees of arrays and of noise streams, in the library's functions; differentiate inside it
            with ``tg.value_and_grad`` or ``tg.grad``.
        carry: how many of its first arguments are, in the same order, its first results: what a loop hands from one
            call to the next, such as model and optimizer state. They live in the plan, which changes them in place:
            copy what you want to keep. All other results are copies.

    Returns:
        A function of the same arguments.

    Raises:
        PlanError: from a call: the two recordings differ, a draw is lost to the graph, a carried result is not like
            its argument, or there are too many kinds of arguments.

    >>> def step(w, x):
    ...     loss, gradient = tg.value_and_grad(lambda w: tg.mean((x @ w) ** 2))(w)
    ...     return w - 0.1 * gradient, loss
    >>> run, w, x = tg.plan(step, carry=1), np.ones(2), np.eye(2)
    >>> for _ in range(5):
    ...     w, loss = run(w, x)
    >>> w
    array([0.59049, 0.59049])
    """
    return Plan(step, carry)


# ------------------------------------------------------------------------------------------ record


@dataclass(frozen=True)
class _Draw:
    """What the step drew: from the stream of which argument, where below it, after how many draws, and the numbers."""

    argument: int
    where: tuple[int | str, ...]
    before: int
    law: str
    options: tuple[Any, ...]
    array: Array

    def again(self, streams: Mapping[int, NoiseStream]) -> Array:
        """Return the same draw from the streams of another call."""
        stream = streams[self.argument]
        if self.where:
            stream = stream.at(*self.where)
            stream.drawn = self.before
        return getattr(stream, self.law)(*self.options)


class _WatchedStream(NoiseStream):
    """A noise stream that draws from another one, and keeps what was drawn."""

    def __init__(self, stream: NoiseStream, argument: int, draws: list[_Draw], where: tuple[int | str, ...]) -> None:
        super().__init__(stream.seed, stream.path, stream.drawn)
        self._stream, self._argument, self._draws, self._where = stream, argument, draws, where

    def at(self, *where: int | str) -> NoiseStream:
        return _WatchedStream(self._stream.at(*where), self._argument, self._draws, (*self._where, *where))

    @property
    def place(self) -> tuple[int, tuple[int, ...], int]:
        return self._stream.place

    def generator(self) -> np.random.Generator:
        return self._stream.generator()

    def normal(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> Array:
        return self._keep("normal", shape, dtype)

    def uniform(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> Array:
        return self._keep("uniform", shape, dtype)

    def permutation(self, n: int) -> Array:
        return self._keep("permutation", n)

    def _keep(self, law: str, *options: Any) -> Array:
        before = self._stream.drawn
        array = getattr(self._stream, law)(*options)
        self._draws.append(_Draw(self._argument, self._where, before, law, options, array))
        return array


@dataclass(frozen=True)
class _Recording:
    """What a call of the step left behind."""

    inputs: list[Tensor]
    draws: list[_Draw]
    results: Any
    order: list[Tensor]

    def account(self) -> list[tuple[str, Any]]:
        """Return what stands where, in numbers, words and constant arrays, to compare with another recording."""
        words = {id(x.value): f"input {i}" for i, x in enumerate(self.inputs)}
        words |= {id(draw.array): f"draw {i}" for i, draw in enumerate(self.draws)}
        words |= {id(node): f"node {i}" for i, node in enumerate(self.order) if node.op is not None}

        def of(x: Any) -> Any:
            value = value_of(x)
            return words.get(id(x)) or words.get(id(value)) or (value if is_array(value) else repr(value))

        rows: list[tuple[str, Any]] = []
        for node in self.order:
            if node.op is not None:
                rows.append(("an op", node.op.name))
                rows += [(f"{node.op.name}: {node.op.input_name(i)}", of(x)) for i, x in enumerate(node.inputs)]
                rows += [(f"{node.op.name}: {name}", of(x)) for name, x in node.attrs.items()]
        return [*rows, *((_result(path), of(x)) for path, x in trees.paths(self.results))]


def _record(step: Callable[..., Any], args: Sequence[Any]) -> _Recording:
    """Call the step with a Tensor for each array, and return what that left behind."""
    inputs: list[Tensor] = []
    draws: list[_Draw] = []
    given = []
    for i, arg in enumerate(args):
        if isinstance(arg, NoiseStream):
            given.append(_WatchedStream(arg, i, draws, ()))
        else:
            leaves = [Tensor(np.array(x), path or None) if is_array(x) else x for path, x in trees.paths(arg)]
            inputs += [x for x in leaves if isinstance(x, Tensor)]
            given.append(trees.replace_leaves(arg, leaves))
    results = step(*given)
    tops = [x for x in trees.leaves(results) if isinstance(x, Tensor)]
    order = topological_order(tops[::-1])  # the first result with all that it needs, then what the second needs beside
    in_graph = {id(value_of(x)) for node in order for x in (node, *node.inputs)}
    for draw in draws:
        if id(draw.array) not in in_graph:
            raise PlanError(
                f"plan: the step draws {draw.law}{draw.options}, and no result depends on that through the graph; a "
                "plan would repeat whatever was made from it. Sample from a law with Tensors for parameters, or draw "
                "outside and pass the draw as an argument"
            )
    return _Recording(inputs, draws, results, order)


def _check_same(first: list[tuple[str, Any]], second: list[tuple[str, Any]]) -> None:
    """Raise where two recordings differ."""
    pairs = zip(first, second, strict=False)
    different = next(((where, a, b) for (where, a), (_, b) in pairs if not _is_same(a, b)), None)
    if different is None and len(first) == len(second):
        return
    where, was, now = different or ("the length of the graph", len(first), len(second))
    was, now = (describe(x) if is_array(x) else x for x in (was, now))
    raise PlanError(
        f"plan: the step did not do the same when it was called again; {where} was {was}, and then {now}. A plan would "
        "freeze a branch that hangs on a value (write tg.where), a number read off an array (compute with the array), "
        "and a number that changes (pass it as an array)"
    )


def _is_same(a: Any, b: Any) -> bool:
    """Return whether two words are equal, or two arrays bit for bit."""
    if is_array(a) and is_array(b):
        return a is b or _bits(a) == _bits(b)
    return isinstance(a, str) and isinstance(b, str) and a == b


def _result(path: str) -> str:
    return f"result {path}" if path else "the result"


def _bits(x: Array) -> tuple[Any, ...]:
    return x.shape, x.dtype.char, np.asarray(x).tobytes()


# ------------------------------------------------------------------------------------------- lower


@dataclass(eq=False)
class _Buffer:
    """Memory that calls read and write."""

    like: Array
    fixed: bool
    """Whether it is a constant, which stays where it is."""
    start: int | None = None
    """Where it begins in the arena, once that is decided."""


@dataclass(eq=False)
class _View:
    """An array that lies in a buffer."""

    buffer: _Buffer
    like: Array

    @property
    def key(self) -> Hashable:
        """What tells it from every array with other numbers."""
        return self.buffer, _address(self.like), self.like.shape, self.like.strides, self.like.dtype.char

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its buffer, row after row."""
        return self.like.nbytes == self.buffer.like.nbytes and self.like.flags.c_contiguous

    def within(self, arena: Array) -> Array:
        """Return the array at its place in the arena."""
        if self.buffer.start is None:
            return self.like
        offset = self.buffer.start + _address(self.like) - _address(self.buffer.like)
        return np.ndarray(self.like.shape, self.like.dtype, arena, offset, self.like.strides)


def _address(x: Array) -> int:
    address: int = x.__array_interface__["data"][0]
    return address


@dataclass(eq=False)
class _Call:
    """One call of NumPy, ``function(*args, out=out)``."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    out: _View
    elementwise: bool

    @property
    def views(self) -> Iterator[_View]:
        return (x for x in (*self.args, self.out) if isinstance(x, _View))


class _NotWritten(Exception):  # noqa: N818  it is no error: the op is called whole
    """A function did something else than to call ufuncs."""


class _Writer(np.ndarray):
    """An array that writes every ufunc called on it to a tape, and refuses to tell its values."""

    tape: _Tape

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, _Writer):
            self.tape = source.tape

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return self.tape.write(ufunc, method, inputs, options)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise _NotWritten

    __bool__ = __int__ = __float__ = __index__ = __setitem__ = item = tolist = fill = sort = _refuse


class _Tape:
    """The calls that were written, and the memory that they work on."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.buffers: dict[int, _Buffer] = {}  # by the id of the array that owns the memory
        self.made: dict[Hashable, _Writer] = {}

    def hold(self, array: Array, fixed: bool = False) -> _Writer:
        """Return an array as one that writes, with its memory known from now on."""
        owner = _owner(array)
        self.buffers.setdefault(id(owner), _Buffer(owner, fixed))
        writer = array.view(_Writer)
        writer.tape = self
        return writer

    def view(self, x: Any) -> _View:
        """Return where an array lies."""
        buffer = self.buffers.get(id(_owner(x))) if isinstance(x, _Writer) else None
        if buffer is None:  # something else than a ufunc made it
            raise _NotWritten
        return _View(buffer, x.view(np.ndarray))

    def argument(self, x: Any) -> Any:
        """Return where an array lies, and a number of Python as it is."""
        return x if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic) else self.view(x)

    def write(self, ufunc: Any, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> _Writer:
        """Make a call, write it down, and return its result."""
        (out,) = options.pop("out", (None,))
        if method not in ("__call__", "reduce") or ufunc.nout != 1 or options.get("where", True) is not True:
            raise _NotWritten
        args = tuple(self.argument(x) for x in inputs)
        plain = [x.like if isinstance(x, _View) else x for x in args]
        function = ufunc if method == "__call__" else ufunc.reduce
        if options:
            function = functools.partial(function, **options)
        if out is None:
            out = self.hold(np.asarray(function(*plain)))
        else:
            function(*plain, out=self.view(out).like)
        elementwise = method == "__call__" and ufunc.signature is None
        if elementwise and all(x.dtype == out.dtype for x in plain if isinstance(x, np.ndarray)):
            args = tuple(x if isinstance(x, _View) else np.asarray(x, out.dtype) for x in args)  # NumPy reads it faster
        self.calls.append(_Call(function, args, self.view(out), elementwise))
        return out

    def run(self, node: Tensor, inputs: Sequence[Any]) -> _Writer:
        """Run a node's op on arrays that write, unless the same was run before, and return its value."""
        op = node.op
        assert op is not None
        views = [self.argument(x) for x in inputs]
        what = (op.name, repr(node.attrs), *(x.key if isinstance(x, _View) else repr(x) for x in views))
        if what in self.made:
            return self.made[what]
        mark = len(self.calls)
        try:
            value = op.forward(*inputs, **node.attrs)
            self.view(value)
        except _NotWritten:
            del self.calls[mark:]
            value = self.hold(np.array(node.value))
            function = functools.partial(_whole, op.forward, dict(node.attrs))
            self.calls.append(_Call(function, tuple(views), self.view(value), elementwise=False))
        self.made[what] = value
        return value

    def copy(self, x: _Writer) -> _Writer:
        """Write down a copy of an array, and return it."""
        new = self.hold(np.array(x.view(np.ndarray), order="C"))
        self.calls.append(_Call(_copy, (self.view(x),), self.view(new), elementwise=True))
        return new


def _owner(array: Array) -> Array:
    """Return the array whose memory this one looks at."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _whole(forward: Callable[..., Array], attrs: Mapping[str, Any], *args: Any, out: Array) -> None:
    np.copyto(out, forward(*args, **attrs))


def _copy(x: Array, out: Array) -> None:
    np.copyto(out, x)


# ------------------------------------------------------------------------------------------- place


class _Arena:
    """Which parts of a piece of memory are free, while its size is being found out."""

    def __init__(self) -> None:
        self.size = 0
        self.free: list[tuple[int, int]] = []  # length and start

    def take(self, nbytes: int) -> int:
        """Return the start of a part: the shortest free one that is long enough, or a new one at the end."""
        nbytes = _rounded(nbytes)
        part = min((part for part in self.free if part[0] >= nbytes), default=None)
        if part is None:
            self.size += nbytes
            return self.size - nbytes
        self.free.remove(part)
        length, start = part
        if length > nbytes:
            self.free.append((length - nbytes, start + nbytes))
        return start

    def give(self, start: int, nbytes: int) -> None:
        """Free a part, joined with its free neighbours."""
        end = start + _rounded(nbytes)
        for length, other in list(self.free):
            if other + length == start or other == end:
                self.free.remove((length, other))
                start, end = min(start, other), max(end, other + length)
        self.free.append((end - start, start))


def _rounded(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _place(calls: list[_Call], outside: list[_Buffer], kept: set[_Buffer], homes: Mapping[_Buffer, _Buffer]) -> int:
    """Give each buffer its start in the arena, and return the arena's size.

    Args:
        calls: in the order in which they are made.
        outside: what is filled before the first call; nothing else takes its place.
        kept: what is read after the last call.
        homes: for a carried result, the buffer of the argument that it becomes: its place, where that is free by then.
    """
    arena = _Arena()
    for buffer in outside:
        buffer.start = arena.take(buffer.like.nbytes)
    last = {x.buffer: i for i, call in enumerate(calls) for x in call.views}
    staying = {*outside, *kept, *(buffer for buffer in last if buffer.fixed)}
    for i, call in enumerate(calls):
        out = call.out.buffer
        ending = {x.buffer for x in call.views if last[x.buffer] == i}
        if out.start is None and not out.fixed:
            home = homes.get(out)
            if home is not None and home not in kept and _is_free(home, last.get(home, -1), i, call):
                out.start = home.start
            else:
                old = next((b for b in ending - staying if b is not out and _may_overwrite(call, b)), None)
                out.start = arena.take(out.like.nbytes) if old is None else old.start
                ending.discard(old)
        for buffer in ending - staying:
            arena.give(buffer.start, buffer.like.nbytes)  # type: ignore[arg-type]
    return arena.size


def _is_free(home: _Buffer, last: int, i: int, call: _Call) -> bool:
    """Return whether call number i may write its result where an argument lies that is read last by call ``last``."""
    return last < i or (last == i and _may_overwrite(call, home))


def _may_overwrite(call: _Call, buffer: _Buffer) -> bool:
    """Return whether a call that reads a buffer last may write its result there, each element after it was read."""
    reads = [x for x in call.views if x.buffer is buffer]
    alike = all(x.is_whole and x.like.shape == call.out.like.shape for x in (*reads, call.out))
    return call.elementwise and alike and buffer.like.nbytes == call.out.buffer.like.nbytes


# --------------------------------------------------------------------------------------------- run


class _Program:
    """The calls of a step at their places: what a recording is compiled to.

    ``carried`` tells, for the number of a leaf of the results, the number of the input that it becomes.
    """

    def __init__(self, recording: _Recording, carried: Mapping[int, int]) -> None:
        tape = _Tape()
        self.draws = recording.draws
        self.structure = trees.map_leaves(lambda _: ..., recording.results)  # without the graph, which is let go
        filled = [*(x.value for x in recording.inputs), *(draw.array for draw in recording.draws)]
        outside = [tape.view(tape.hold(x)) for x in filled]
        computed: dict[int, _Writer] = {}

        def of(x: Any) -> Any:
            if id(x) in computed:
                return computed[id(x)]
            value = value_of(x)
            return tape.hold(np.asarray(value), fixed=True) if is_array(value) else value

        for node in recording.order:
            if node.op is not None:
                computed[id(node)] = tape.run(node, [of(x) for x in node.inputs])
        results = [of(x) for x in trees.leaves(recording.results)]
        homes: dict[_Buffer, _Buffer] = {}
        for k, i in carried.items():
            taken = {*homes, *(x.buffer for x in outside)}
            view = tape.view(results[k])
            if view.buffer.fixed or view.buffer in taken or not view.is_whole:
                results[k] = tape.copy(results[k])
            homes[tape.view(results[k]).buffer] = outside[i].buffer
        views = [tape.view(x) if isinstance(x, _Writer) else x for x in results]
        kept = {x.buffer for x in views if isinstance(x, _View)}
        size = _place(tape.calls, [x.buffer for x in outside], kept, homes)

        memory = np.zeros(size + ALIGNMENT, np.uint8)
        start = -_address(memory) % ALIGNMENT
        self.arena = arena = memory[start : start + size]

        def at_its_place(x: Any) -> Any:
            return x.within(arena) if isinstance(x, _View) else x

        self.outside = [x.within(arena) for x in outside]
        self.results = [at_its_place(x) for x in views]
        self.carried = {k: self.outside[i] for k, i in carried.items()}
        self.calls = [
            (call.function, tuple(at_its_place(x) for x in call.args), at_its_place(call.out)) for call in tape.calls
        ]
        for k, home in self.carried.items():
            if _address(self.results[k]) != _address(home):
                self.calls.append((_copy, (self.results[k],), home))

    def run(self, inputs: Sequence[Array], draws: Sequence[Array]) -> Any:
        """Run the step once and return its results."""
        given = [
            x.copy() if x is not place and np.may_share_memory(x, self.arena) else x  # before others are filled in
            for place, x in zip(self.outside, inputs, strict=False)
        ]
        for place, x in zip(self.outside, (*given, *draws), strict=True):
            if x is not place:
                np.copyto(place, x)
        with np.errstate(all="ignore"):  # NumPy gave its warnings while recording
            for function, args, out in self.calls:
                function(*args, out=out)
        found = [
            self.carried[k] if k in self.carried else np.array(x) if isinstance(x, np.ndarray) else x
            for k, x in enumerate(self.results)
        ]
        return trees.replace_leaves(self.structure, found)


class Plan:
    """A step that is recorded in its first two calls, and run in its own buffers from then on; see ``plan``."""

    def __init__(self, step: Callable[..., Any], carry: int = 0) -> None:
        self._step, self._carry = step, carry
        self._known: dict[Hashable, list[tuple[str, Any]] | _Program] = {}

    def __call__(self, *args: Any) -> Any:
        key, inputs = _signature(args)
        known = self._known.get(key)
        if isinstance(known, _Program):
            streams = {i: x for i, x in enumerate(args) if isinstance(x, NoiseStream)}
            return known.run(inputs, [draw.again(streams) for draw in known.draws])
        if known is None and len(self._known) == MOST_PLANS:
            raise PlanError(
                f"plan: this is the {MOST_PLANS + 1}th kind of arguments, and each takes a plan of its own; "
                "pass a number that changes from call to call as an array, and give arrays few different shapes"
            )
        recording = _record(self._step, args)
        account, carried = recording.account(), _carried(recording.results, args, self._carry)
        if known is None:
            self._known[key] = account
        else:
            _check_same(known, account)
            self._known[key] = _checked(_Program(recording, carried), recording)
        return trees.map_leaves(_copied, recording.results)

    def __repr__(self) -> str:
        programs = [known for known in self._known.values() if isinstance(known, _Program)]
        sizes = ", ".join(f"{len(p.calls)} calls in {p.arena.size / 2**20:.1f} MiB" for p in programs)
        return f"<plan of {getattr(self._step, '__name__', 'a step')}: {sizes or 'nothing compiled yet'}>"


def _copied(x: Any) -> Any:
    value = value_of(x)
    return np.array(value) if is_array(value) else value


def _signature(args: Sequence[Any]) -> tuple[Hashable, list[Array]]:
    """Return all that two calls must have in common to share a plan, and the arrays, which may differ."""
    key: list[Hashable] = []
    inputs: list[Array] = []
    for arg in args:
        if isinstance(arg, NoiseStream):
            key.append(NoiseStream)
            continue
        leaves = trees.leaves(arg)
        arrays = [x for x in leaves if is_array(x)]
        key.append(repr(trees.replace_leaves(arg, [... if is_array(x) else x for x in leaves])))
        key += [(x.shape, x.dtype.char) for x in arrays]
        inputs += arrays
        for x in leaves:
            if isinstance(x, Tensor) or (is_array(x) and namespace(x) is not np):
                raise PlanError(
                    f"plan: a plan runs on arrays of NumPy, found {describe(x)} of {type(x).__module__}; "
                    "take arrays out of Tensors with tg.values(tree), and off a GPU with tg.to_host"
                )
    return tuple(key), inputs


def _carried(results: Any, args: Sequence[Any], carry: int) -> dict[int, int]:
    """Return which leaf of the results becomes which input, by their numbers.

    Raises:
        PlanError: a carried result is not like its argument.
    """
    if not carry:
        return {}
    if not isinstance(results, tuple) or len(results) < carry or len(args) < carry:
        found = len(results) if isinstance(results, tuple) else 1
        raise PlanError(
            f"plan(carry={carry}): the step has {len(args)} arguments and {found} results, too few to carry"
        )
    carried: dict[int, int] = {}
    k = i = 0
    for number, (arg, result) in enumerate(zip(args[:carry], results, strict=False)):
        before, after = trees.paths(arg), trees.paths(result)
        if [path for path, _ in before] != [path for path, _ in after]:
            raise PlanError(f"plan(carry={carry}): result {number} is not a tree like argument {number}")
        for (path, a), (_, b) in zip(before, after, strict=True):
            b = value_of(b)
            if is_array(a):
                if not is_array(b) or (a.shape, a.dtype) != (b.shape, b.dtype):
                    where = f"{number}.{path}" if path else str(number)
                    raise PlanError(f"plan(carry={carry}): result {where} is {describe(b)}, the argument {describe(a)}")
                carried[k] = i
                i += 1
            k += 1
    return carried


def _checked(program: _Program, recording: _Recording) -> _Program:
    """Return the program, once it has given what was recorded, bit for bit.

    Raises:
        PlanError: it did not.
    """
    found = program.run([x.value for x in recording.inputs], [draw.array for draw in recording.draws])
    for (path, x), y in zip(trees.paths(recording.results), trees.leaves(found), strict=True):
        if is_array(y) and _bits(y) != _bits(value_of(x)):
            raise PlanError(
                f"plan: run again, the step gives {_result(path)} otherwise than when it was recorded; the function of "
                "an op has a state, or edits what it is given"
            )
    return program
