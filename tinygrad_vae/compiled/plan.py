"""Record a step once, and run it again in its own buffers: a compiler small enough to read.

It knows graphs, noise streams and how NumPy is called, and nothing of derivatives: recorded gradients are ordinary
nodes, so that loss, gradients and update are one graph. A few passes turn a step into a list of calls, which a run
makes one after the other:

1. **Record.** The step is called with a Tensor for each array, which gives its graph.
2. **Lower** (``tape``). The forward function of each node runs on arrays that write down every ufunc called on them:
   ``softplus`` becomes ``absolute, negative, exp, log1p, clip, add``. What moves no element (a reshape, a slice) writes
   nothing. An op that does anything else is called whole, and its result copied. What was computed before is not
   computed again.
3. **Turn** (``turned``). A matrix product with few rows is computed as its transpose where that is faster.
4. **Fuse** (``loops``). Where numba is installed, elementwise calls that belong together become one compiled loop.
5. **Place** (``place``). Every array gets a place in one piece of memory, the arena. Two share it where the last use of
   one comes before the first use of the other; a call that works element by element may write over what it reads last.
6. **Ask** (``lines``). What a product left in the caches of two processors is asked for before it is written.

``host`` puts the passes together. Arrays on a GPU take another way after the first pass: the nodes are captured as a
CUDA graph (``capture``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import sys
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..core import (
    Array,
    NoiseStream,
    Tensor,
    describe,
    give_back_memory,
    is_array,
    namespace,
    owned,
    to_host,
    topological_order,
    trees,
    value_of,
)
from ..optional import require
from .calls import word
from .capture import Captured, is_close
from .host import Calls, lowered
from .loops import has_compiler

MOST_PLANS = 16
"""How many kinds of arguments a step may be planned for, before it is likelier that a number changes every time."""


class PlanError(ValueError):
    """A step cannot be planned, or not be run with these arguments."""


def plan(step: Callable[..., Any], *, carry: int = 0, compiled: bool | None = None) -> Plan:
    """Return a function that does what ``step`` does, bit for bit, faster and without allocating.

    On a GPU it is one CUDA graph, which a run launches without waiting for it, and the numbers are the same to
    rounding; what cannot be captured runs between two graphs. Arrays on the host are moved where others are on a GPU.

    It records the first two calls and runs its plan from then on; arguments of other shapes, dtypes or layouts get
    a plan of their own, and those whose elements do not lie side by side are copied first. Arrays may change from call
    to call, and streams give fresh noise. Everything else must stay what it was: a branch, or a number read off an
    array, would be frozen. Where the first two recordings differ, that is an error; what only changes later cannot be
    seen. Checks of values (a parameter in its domain, a finite gradient) are made while recording alone. Threads take
    turns.

    Args:
        step: a function of trees of arrays and of noise streams, in the library's functions; differentiate inside it
            with ``tg.value_and_grad`` or ``tg.grad``.
        carry: how many of its first arguments are, in the same order, its first results: what a loop hands from one
            call to the next, such as model and optimizer state. They live in the plan, which changes them in place:
            copy what you want to keep. All other results are copies.
        compiled: whether elementwise calls are fused to loops that numba compiles, which takes a second or two; by
            default where numba is installed. The numbers are the same, bit for bit.

    Returns:
        A function of the same arguments, by position.

    Raises:
        MissingExtraError: ``compiled`` is true, and numba is not installed.
        ValueError: ``carry`` is negative.
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
    if carry < 0:
        raise ValueError(f"plan: carry is how many results become arguments, from 0 on, found {carry}")
    if compiled:
        require("numba", extra="fast")
    return Plan(step, carry, has_compiler() if compiled is None else compiled)


# ------------------------------------------------------------------------------------------ record


@dataclass(frozen=True)
class _Draw:
    """What the step drew: from the stream of which argument, where below it, after how many draws, and the numbers."""

    argument: int
    where: tuple[int | str, ...]
    before: int
    law: str
    options: tuple[Any, ...]
    named: Mapping[str, Any]
    array: Array

    def again(self, streams: Mapping[int, NoiseStream]) -> Array:
        """Return the same draw from the streams of another call."""
        stream = streams[self.argument]
        if self.where:
            stream = stream.at(*self.where)
            stream.drawn = self.before
        return getattr(stream, self.law)(*self.options, **self.named)


class _WatchedStream(NoiseStream):
    """A noise stream that draws from another one, and keeps what was drawn."""

    def __init__(
        self, stream: NoiseStream, argument: int, draws: list[_Draw], where: tuple[int | str, ...], xp: ModuleType
    ) -> None:
        super().__init__(stream.seed, stream.path, stream.drawn)
        self._stream, self._argument, self._draws, self._where, self._xp = stream, argument, draws, where, xp

    def at(self, *where: int | str) -> NoiseStream:
        return _WatchedStream(self._stream.at(*where), self._argument, self._draws, (*self._where, *where), self._xp)

    @property
    def place(self) -> tuple[int, tuple[int | str, ...], int]:
        return self._stream.place

    def generator(self) -> np.random.Generator:
        raise PlanError("plan: what is drawn from a generator is not seen; draw with the methods of the noise stream")

    def normal(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> Array:
        return self._keep("normal", shape, dtype)

    def uniform(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> Array:
        return self._keep("uniform", shape, dtype)

    def sobol(self, shape: tuple[int, ...], dtype: Any = np.float64, *, normal: bool = False) -> Array:
        return self._keep("sobol", shape, dtype, normal=normal)

    def permutation(self, n: int) -> Array:
        return self._keep("permutation", n)

    def _keep(self, law: str, *options: Any, **named: Any) -> Array:
        before = self._stream.drawn
        array = self._xp.asarray(getattr(self._stream, law)(*options, **named))
        self._draws.append(_Draw(self._argument, self._where, before, law, options, named, array))
        return array


@dataclass(frozen=True)
class _Word:
    """What stands somewhere in a recording: in words, and what tells an array from every other one."""

    text: str
    content: Any = None


def _said(x: Any) -> _Word:
    if not is_array(x):
        return _Word(repr(x))
    return _Word(describe(x), _digest(x))


@dataclass(frozen=True)
class _Recording:
    """What a call of the step left behind."""

    inputs: list[Tensor]
    draws: list[_Draw]
    results: Any
    order: list[Tensor]

    def account(self) -> list[tuple[str, _Word]]:
        """Return what stands where, in words, to compare with another recording.

        Raises:
            PlanError: an array that a run is given was taken for an attribute of an op.
        """
        words = {id(x.value): f"input {i}" for i, x in enumerate(self.inputs)}
        words |= {id(draw.array): f"draw {i}" for i, draw in enumerate(self.draws)}
        words |= {id(node): f"node {i}" for i, node in enumerate(self.order) if node.op is not None}

        def of(x: Any) -> _Word:
            value = value_of(x)
            known = words.get(id(x), words.get(id(value)))
            return _said(value) if known is None else _Word(known)

        def of_attribute(op: str, name: str, x: Any) -> _Word:
            if id(x) in words:
                raise PlanError(
                    f"plan: {op}: {name} is the array of {words[id(x)]}, and a plan would keep the numbers that it has "
                    "now; only what is an input of an op may change from call to call"
                )
            return _said(x)

        rows: list[tuple[str, _Word]] = []
        with np.printoptions(threshold=sys.maxsize):  # or else an array in a tuple is written down in part
            for node in self.order:
                if node.op is not None:
                    name = node.op.name
                    rows.append(("an op", _Word(name)))
                    rows += [(f"{name}: {node.op.input_name(i)}", of(x)) for i, x in enumerate(node.inputs)]
                    rows += [(f"{name}: {attr}", of_attribute(name, attr, x)) for attr, x in node.attrs.items()]
            return [*rows, *((_result(path), of(x)) for path, x in trees.paths(self.results))]

    @property
    def filled(self) -> list[Array]:
        """The arrays that a run is given: arguments, then draws."""
        return [*(x.value for x in self.inputs), *(draw.array for draw in self.draws)]

    def handed_out(self) -> Any:
        """Return the results as arrays that belong to the caller."""
        leaves = trees.leaves(self.results)
        others = {id(node.value) for node in self.order if node.op is None}
        others |= {id(x) for node in self.order for x in (*node.inputs, *node.attrs.values())}
        others |= {id(x) for x in leaves if not isinstance(x, Tensor)}
        arrays = iter(owned([value_of(x) for x in leaves if is_array(value_of(x))], others))
        return trees.replace_leaves(self.results, [next(arrays) if is_array(value_of(x)) else x for x in leaves])


def _record(step: Callable[..., Any], args: Sequence[Any], carry: int) -> _Recording:
    """Call the step with a Tensor for each array, and return what that left behind."""
    inputs: list[Tensor] = []
    draws: list[_Draw] = []
    given = []
    xp = namespace(*trees.leaves([arg for arg in args if not isinstance(arg, NoiseStream)]))
    for i, arg in enumerate(args):
        if isinstance(arg, NoiseStream):
            given.append(_WatchedStream(arg, i, draws, (), xp))
        else:
            _check_no_stream(arg)
            leaves = [Tensor(_alias(xp, x), path or None) if is_array(x) else x for path, x in trees.paths(arg)]
            inputs += [x for x in leaves if isinstance(x, Tensor)]
            given.append(trees.replace_leaves(arg, leaves))
    results = step(*given)
    first = results[carry:] if isinstance(results, tuple) else results
    tops = [x for x in trees.leaves((first, results)) if isinstance(x, Tensor)]
    order = topological_order(tops[::-1])  # a loss before what is carried: its parts are at hand as long as it is made
    in_graph = {id(value_of(x)) for node in order for x in (node, *node.inputs)}
    for draw in draws:
        if id(draw.array) not in in_graph:
            raise PlanError(
                f"plan: the step draws {draw.law}{draw.options}, and no result depends on that through the graph; a "
                "plan would repeat whatever was made from it. Sample from a law with Tensors for parameters, or draw "
                "outside and pass the draw as an argument"
            )
    return _Recording(inputs, draws, results, order)


def _check_no_stream(tree: Any) -> None:
    """Raise where a noise stream stands inside a tree, where no draw of it would be seen."""
    if isinstance(tree, NoiseStream):
        raise PlanError("plan: a noise stream stands inside an argument; pass it as an argument of its own")
    for _, part in trees.children(tree) or ():
        _check_no_stream(part)


def _alias(xp: ModuleType, x: Array) -> Array:
    """Return an array that can be told from all others, also where a constant of the step is the very same array."""
    is_dense = isinstance(x, np.ndarray) and (x.flags.c_contiguous or x.flags.f_contiguous)
    return x.view() if xp is np and is_dense else xp.array(x)


def _check_same(first: list[tuple[str, _Word]], second: list[tuple[str, _Word]]) -> None:
    """Raise where two recordings differ."""
    pairs = zip(first, second, strict=False)
    different = next(((where, a.text, b.text) for (where, a), (_, b) in pairs if a != b), None)
    if different is None and len(first) == len(second):
        return
    where, was, now = different or ("the length of the graph", len(first), len(second))
    raise PlanError(
        f"plan: the step did not do the same when it was called again; {where} was {was}, and then {now}. A plan would "
        "freeze a branch that hangs on a value (write tg.where), a number read off an array (compute with the array), "
        "and a number that changes (pass it as an array)"
    )


def _remembered(x: Any) -> Any:
    """Return what is kept of a result to compare a run with: of an array on the host little more than a digest."""
    value = value_of(x)
    if not is_array(value) or namespace(value) is not np or value.dtype.char == "g":  # some of whose bits mean nothing
        return value
    return _digest(_one_nan(value))


def _is_result(found: Array, expected: Any) -> bool:
    """Return whether a run gave what is remembered: bit for bit; on a GPU to rounding."""
    if namespace(found) is not np:
        return is_close(found, expected)
    if is_array(expected):
        return bool(found.shape == expected.shape and np.array_equal(found, expected, equal_nan=True))
    return bool(_remembered(found) == expected)


def _one_nan(x: Array) -> Array:
    """Return an array with one NaN for all: which of many an operation on two of them gives is nobody's promise."""
    return np.where(np.isnan(x), np.nan, x) if x.dtype.kind == "f" else x


def _result(path: str) -> str:
    return f"result {path}" if path else "the result"


def _digest(x: Array) -> tuple[Any, ...]:
    """Return what tells an array from every one that differs in a bit, in little memory."""
    return x.shape, x.dtype.char, hashlib.sha256(np.ascontiguousarray(to_host(x)).data).digest()


# --------------------------------------------------------------------------------------------- run


class _Program:
    """What a recording is compiled to: calls of NumPy, or on a GPU a CUDA graph; and the results as they are given.

    Args:
        kinds: what its arguments have in common.
        runner: what is run.
        draws: what it is given beside the arguments.
        structure: a tree like the results.
        carry: how many results are carried.
    """

    def __init__(
        self, kinds: Hashable, runner: Calls | Captured, draws: list[_Draw], structure: Any, carry: int
    ) -> None:
        self.kinds, self.runner, self.draws = kinds, runner, draws
        whole = trees.replace_leaves(structure, runner.results)
        self.carried: tuple[Any, ...] = whole[:carry] if carry else ()
        self.others = whole[carry:] if carry else whole
        self._others = trees.leaves(self.others)
        self.handed_out = [(None if _hides_editable(tree) else tree, *_kind_of(tree)) for tree in self.carried]

    def run(self, inputs: Sequence[Array], draws: Sequence[Array]) -> Any:
        """Run the step once and return its results."""
        self.runner.run((*inputs, *draws))
        others = trees.replace_leaves(self.others, list(map(_copied, self._others)))
        if not self.carried:
            return others
        mine = zip(self.carried, self.handed_out, strict=True)
        return (*(_own(tree) if given is None else _own_dicts(given) for tree, (given, *_) in mine), *others)


def _own_dicts(tree: Any) -> Any:
    """Return the tree with dicts and lists that may be edited; a frozen dataclass is handed out as it is."""
    if isinstance(tree, dict):
        return {key: _own_dicts(part) for key, part in tree.items()}
    return [_own_dicts(part) for part in tree] if isinstance(tree, list) else tree


def _own(tree: Any) -> Any:
    """Return a tree of the same arrays, in which nothing that could be edited is that of another."""
    return trees.replace_leaves(tree, trees.leaves(tree))


def _hides_editable(tree: Any, inside: bool = False) -> bool:
    """Return whether ``_own_dicts`` leaves something that can be edited: a dict in a tuple, a dataclass not frozen."""
    if dataclasses.is_dataclass(tree) and not getattr(tree, "__dataclass_params__").frozen:  # noqa: B009  it is Python's
        return True
    is_plain = isinstance(tree, (dict, list))
    inside = inside or not is_plain
    return (is_plain and inside) or any(_hides_editable(part, inside) for _, part in trees.children(tree) or ())


def _is_untouched(tree: Any, given: Any) -> bool:
    """Return whether the tree is what ``_own_dicts`` gave out for another, with the very same parts."""
    if given is None:
        return False
    if isinstance(given, dict):
        alike = isinstance(tree, dict) and list(tree) == list(given)
        return alike and all(_is_untouched(tree[key], given[key]) for key in given)
    if isinstance(given, list):
        return isinstance(tree, list) and len(tree) == len(given) and all(map(_is_untouched, tree, given))
    return tree is given


class Plan:
    """A step that is recorded in its first two calls, and run in its own buffers from then on; see ``plan``."""

    def __init__(self, step: Callable[..., Any], carry: int, compiled: bool) -> None:
        self._step, self._carry, self._compiled = step, carry, compiled
        self._known: dict[Hashable, list[tuple[str, _Word]] | _Program] = {}
        self._latest: _Program | None = None
        self._lock = threading.RLock()

    def __call__(self, *args: Any) -> Any:
        with self._lock:  # there is one arena for all threads
            return self._call(*args)

    def _call(self, *args: Any) -> Any:
        kinds, arrays = zip(*(self._look_at(i, arg) for i, arg in enumerate(args)), strict=True) if args else ((), ())
        known = self._known.get(kinds) if self._latest is None or self._latest.kinds != kinds else self._latest
        if isinstance(known, _Program):
            streams = {i: x for i, x in enumerate(args) if isinstance(x, NoiseStream)}
            inputs = list(itertools.chain.from_iterable(arrays))
            self._latest = known
            return known.run(inputs, [draw.again(streams) for draw in known.draws])
        if known is None and len(self._known) == MOST_PLANS:
            raise PlanError(
                f"plan: this is the {MOST_PLANS + 1}th kind of arguments, and each takes a plan of its own; "
                "pass a number that changes from call to call as an array, and give arrays few different shapes"
            )
        recording = _record(self._step, args, self._carry)
        account, carried = recording.account(), _carried(recording.results, args, self._carry)
        results = recording.handed_out()
        if known is None:
            self._known[kinds] = account
            return results
        _check_same(known, account)
        filled, draws = recording.filled, recording.draws
        expected = list(map(_remembered, trees.leaves(results)))
        structure = trees.map_leaves(lambda _: ..., results)
        runner: Calls | Captured
        if namespace(*filled) is np:
            calls = lowered(recording.order, filled, trees.leaves(recording.results), carried)
            del recording, results  # the graph is let go before as much memory is taken for the arena
            give_back_memory()
            runner = Calls(calls, self._compiled)
        else:
            runner = Captured(recording.order, filled, trees.leaves(recording.results), carried)
        program = _Program(kinds, runner, draws, structure, self._carry)
        found = _first_run(program, filled, expected)
        self._known[kinds] = program
        return found

    @property
    def is_compiled(self) -> bool:
        """Whether there is a plan by now, for one kind of arguments at least."""
        return any(isinstance(known, _Program) for known in self._known.values())

    def _look_at(self, i: int, arg: Any) -> tuple[Hashable, list[Array]]:
        """Return ``_kind_of(arg)``, without looking at every leaf of what was handed out and comes back untouched."""
        if i < self._carry and self._latest is not None:
            tree, kind, arrays = self._latest.handed_out[i]
            if _is_untouched(arg, tree):
                return kind, arrays
        return _kind_of(arg)

    def in_words(self) -> str:
        """Return what the step was compiled to, for each kind of arguments."""
        programs = [str(known.runner) for known in self._known.values() if isinstance(known, _Program)]
        return "; ".join(programs) or "nothing compiled yet"

    def __repr__(self) -> str:
        return f"<plan of {getattr(self._step, '__name__', 'a step')}: {self.in_words()}>"


def _copied(x: Any) -> Any:
    value = value_of(x)
    return namespace(value).array(value) if is_array(value) else value


def _kind_of(arg: Any) -> tuple[Hashable, list[Array]]:
    """Return what arguments must have in common to share a plan, and the arrays, which may differ."""
    if isinstance(arg, NoiseStream):
        return NoiseStream, []
    leaves = trees.leaves(arg)
    arrays = [x for x in leaves if is_array(x)]
    for x in leaves:
        if isinstance(x, Tensor):
            raise PlanError(f"plan: a plan takes arrays, found {describe(x)}; take them out with tg.values(tree)")
    structure = word(trees.replace_leaves(arg, [... if is_array(x) else x for x in leaves]))
    return (structure, *map(_look_of, arrays)), arrays


def _look_of(x: Array) -> tuple[Any, ...]:
    """Return where an array is and what it looks like; in another layout NumPy would add up in another order."""
    return namespace(x).__name__, x.shape, x.dtype.char, x.flags.c_contiguous, x.flags.f_contiguous


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


def _first_run(program: _Program, filled: Sequence[Array], expected: Sequence[Any]) -> Any:
    """Run the program on what was recorded, and return its results.

    Raises:
        PlanError: they are not the recorded ones, bit for bit.
    """
    inputs = len(filled) - len(program.draws)
    found = program.run(filled[:inputs], filled[inputs:])
    for (path, x), y in zip(trees.paths(found), expected, strict=True):
        if is_array(x) and not _is_result(x, y):
            raise PlanError(
                f"plan: run again, the step gives {_result(path)} otherwise than when it was recorded; the function of "
                "an op has a state, or edits what it is given"
            )
    return found
