"""Record a step once, and run it again in its own memory: a compiler small enough to read.

Recorded gradients are ordinary nodes, so loss, gradients and update are one graph. A few passes turn it into a list of
calls of NumPy, which each run makes one after the other:

1. **Record** (``recording``). The step is called with a Tensor for each array, which gives its graph.
2. **Trace** (``trace``). The function of each op runs on arrays that write down every ufunc called on them:
   ``softplus`` becomes ``absolute, negative, exp, log1p, clip, add``. Nothing is computed twice.
3. **Fuse** (``loops``). Where numba is installed, elementwise calls that belong together become one compiled loop.
4. **Assign memory** (``arena``). All arrays lie in one piece of memory, and share parts of it where they can.

``program`` puts the passes together. Arrays on a GPU are captured as a CUDA graph instead (``gpu``).
"""

from __future__ import annotations

import dataclasses
import operator
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ..core import Array, NoiseStream, Tensor, describe, is_array, namespace, trees, value_of
from ..numerics import is_watching
from ..optional import has_compiler, require
from .arena import give_back_freed_memory
from .gpu.graph import CapturedProgram, is_close
from .program import NumPyProgram
from .recording import PlanError, Recording, check_same, check_unused, identity, name_of_result, record

MOST_KINDS = 16  # of arguments; more are likely a number that changes in every call


def plan(step: Callable[..., Any], *, carry: int = 0, compiled: bool | None = None) -> Plan:
    """Return a function of the same arguments, by position, that does what ``step`` does, bit for bit, but faster.

    The first two calls are recorded; from then on the plan runs. Arguments of other shapes, dtypes or layouts get a
    plan of their own, up to 16. Arrays may change from call to call, and streams give fresh noise. Everything else must
    stay what it was: a branch that depends on a value, or a number read off an array, would be frozen. If the first two
    recordings differ, that is an error; a difference that comes later cannot be seen. Values are checked (a parameter
    in its domain, a finite gradient) while recording only. Threads take turns. Inside ``tg.watch_numerics()``, and for
    arrays that are not aligned or not in the machine's byte order, the step runs op by op.

    On a GPU the step is one CUDA graph, with the same numbers to rounding; ops that cannot be captured run between two
    graphs. This has never been tried on hardware. If the capture fails, the step runs op by op, with one warning.

    Args:
        step: a function of trees of arrays and of noise streams, in the library's functions; differentiate inside it
            with ``tg.value_and_grad`` or ``tg.grad``.
        carry: how many of the first arguments are, in the same order, the first results: what a loop hands from one
            call to the next, such as model and optimizer state. They live in the plan, which changes them in place:
            copy what you want to keep, and make a plan for each state. All other results are copies.
        compiled: whether elementwise calls are fused into loops that numba compiles; by default if numba is installed.
            That takes a second or two, and half a second in later processes, which find the loops in the folder
            NUMBA_CACHE_DIR, by default ``~/.cache``. The numbers are the same, bit for bit.

    Raises:
        MissingExtraError: ``compiled`` is true, and numba is not installed.
        ValueError: ``carry`` is negative.
        PlanError: from a call: the two recordings differ, a draw is read outside the graph, a carried result is not
            like its argument, an op gives another shape than when it was recorded, an argument is a carried result
            that was overwritten since, or there are too many kinds of arguments.

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
        raise ValueError(f"plan: carry is how many results become arguments, a non-negative number; found {carry}")
    if compiled:
        require("numba", extra="fast")
    return Plan(step, carry, has_compiler() if compiled is None else compiled)


_OP_BY_OP = object()


class Plan:
    """A step that is recorded in its first two calls, and then runs in its own memory; see ``plan``."""

    def __init__(self, step: Callable[..., Any], carry: int, compiled: bool) -> None:
        self._step, self._carry, self._compiled = step, carry, compiled
        self._known: dict[Hashable, Any] = {}  # for each kind of arguments: an account, then a program or _OP_BY_OP
        self._latest: _Planned | None = None
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan, (self._step, self._carry, self._compiled)  # a copy records anew, since each plan has its memory

    def __call__(self, *args: Any) -> Any:
        with self._lock:  # all threads share one piece of memory
            if is_watching():
                return self._op_by_op(args)
            found, arrays, latest = [], [], self._latest
            handed_out = latest.handed_out if latest else []
            for i, arg in enumerate(args):
                is_known = i < len(handed_out) and handed_out[i].is_untouched(arg)  # so that no leaf needs a look
                kind, leaves = (handed_out[i].kind, handed_out[i].arrays) if is_known else _kind_of(arg)
                found.append(kind)
                arrays += leaves
            kinds = tuple(found)
            known = latest if latest is not None and latest.kinds == kinds else self._known.get(kinds)
            if isinstance(known, _Planned):
                self._latest = known
                return known.run(args, [*arrays, *(draw.again(args) for draw in known.draws)])
            if known is _OP_BY_OP or not all(map(_is_plain, arrays)):
                return self._op_by_op(args)
            if known is None and len(self._known) == MOST_KINDS:
                raise PlanError(
                    f"plan: this is the {MOST_KINDS + 1}th kind of arguments, and each takes a plan of its own; "
                    "pass a number that changes from call to call as an array, and give arrays few different shapes"
                )
            return self._record(kinds, known, args)

    def _op_by_op(self, args: Sequence[Any]) -> Any:
        return _copied(record(self._step, args).results)

    def _record(self, kinds: Hashable, known: Any, args: Sequence[Any]) -> Any:
        """Record a call: the first one to compare the second one with, the second one to plan it."""
        recording = record(self._step, args, self._carry)
        account, carried = recording.account(), _carried(recording.results, args, self._carry)
        if known is None:
            check_unused(self._step, args, self._carry, recording)
            self._known[kinds] = account
            return _copied(recording.results)
        check_same(known, account)
        given, expected = recording.given, trees.map_leaves(value_of, recording.results)
        try:
            planned = _Planned(kinds, recording, carried, self._carry, self._compiled)
            del recording  # the graph is freed before the plan's memory is touched
            give_back_freed_memory()
            results = planned.first_run(given, expected)
        except Exception as error:
            if namespace(*given) is np:
                raise
            warnings.warn(f"plan: capturing a CUDA graph failed, so the step runs op by op ({error})", stacklevel=4)
            self._known[kinds] = _OP_BY_OP
            return _copied(expected)
        self._known[kinds] = planned
        del given, expected
        give_back_freed_memory()  # of the comparison, and of the compiler
        return results

    @property
    def is_compiled(self) -> bool:
        """Whether there is a program by now, for one kind of arguments at least."""
        return any(isinstance(known, _Planned) for known in self._known.values())

    def in_words(self) -> str:
        """Return what the step was compiled to, for each kind of arguments."""
        programs = [str(known.program) for known in self._known.values() if isinstance(known, _Planned)]
        return "; ".join(programs) or "nothing compiled yet"

    def __repr__(self) -> str:
        return f"<plan of {getattr(self._step, '__name__', 'a step')}: {self.in_words()}>"


class _Planned:
    """A program, the draws that it needs, and the trees that it returns."""

    def __init__(
        self, kinds: Hashable, recording: Recording, carried: dict[int, int], carry: int, compiled: bool
    ) -> None:
        on_host = namespace(*recording.given) is np
        self.program = NumPyProgram(recording, carried, compiled) if on_host else CapturedProgram(recording, carried)
        self.kinds = kinds
        self.draws = [dataclasses.replace(draw, array=None) for draw in recording.draws]
        self._carry = carry if carried else 0
        self._structure = trees.map_leaves(lambda _: ..., recording.results)
        self._hand_out()

    def _hand_out(self) -> None:
        results = trees.replace_leaves(self._structure, self.program.results)
        self.handed_out = [_HandedOut(tree) for tree in results[: self._carry]] if self._carry else []
        self._others = results[self._carry :] if self._carry else results

    def run(self, args: Sequence[Any], given: Sequence[Array]) -> Any:
        """Run the step once on the arrays of its arguments and its draws, and return its results."""
        self.program.run(given)
        if not all(handed.is_untouched(arg) for handed, arg in zip(self.handed_out, args, strict=False)):
            self._hand_out()
        others = _copied(self._others)
        return (*(handed.tree for handed in self.handed_out), *others) if self._carry else others

    def first_run(self, given: Sequence[Array], expected: Any) -> Any:
        """Run the program on what was recorded, and return its results.

        Raises:
            PlanError: they are not the recorded ones, bit for bit.
        """
        results = self.run([None] * self._carry, given)
        for (path, x), y in zip(trees.paths(results), trees.leaves(expected), strict=True):
            if is_array(y) and not (_is_same(x, y) if namespace(y) is np else is_close(x, y)):
                raise PlanError(
                    f"plan: run again, the step gives another {name_of_result(path)} than when it was recorded; the "
                    "function of an op has a state, or edits its inputs"
                )
        return results


class _HandedOut:
    """A carried tree as it was handed out, to recognise it quickly when it comes back."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.kind, self.arrays = _kind_of(tree)
        self._editable = [(x, _contents(x)) for x in _editable_in(tree)]

    def is_untouched(self, tree: Any) -> bool:
        """Return whether this is the very tree, and no dict, list or open dataclass inside was edited."""
        if tree is not self.tree:
            return False
        for x, then in self._editable:
            now = _contents(x)
            if len(now) != len(then) or not all(map(operator.is_, now, then)):
                return False
        return True


def _editable_in(tree: Any) -> list[Any]:
    is_open = dataclasses.is_dataclass(tree) and not getattr(tree, "__dataclass_params__").frozen  # noqa: B009
    below = [x for _, part in trees.children(tree) or () for x in _editable_in(part)]
    return [tree, *below] if is_open or isinstance(tree, (dict, list)) else below


def _contents(x: Any) -> list[Any]:
    if isinstance(x, dict):
        return [*x, *x.values()]
    return [*x] if isinstance(x, list) else [getattr(x, f.name) for f in dataclasses.fields(x)]


def _copied(tree: Any) -> Any:
    def copy(x: Any) -> Any:
        value = value_of(x)
        return namespace(value).array(value) if is_array(value) else value

    return trees.map_leaves(copy, tree)


def _is_same(x: Array, y: Array) -> bool:
    same = x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True)
    return same and np.array_equal(np.signbit(x[x == 0]), np.signbit(y[y == 0]))


def _kind_of(arg: Any) -> tuple[Hashable, list[Array]]:
    """Return what arguments must have in common to share a plan, and the arrays, which may differ."""
    if isinstance(arg, NoiseStream):
        return NoiseStream, []
    leaves = trees.leaves(arg)
    arrays = [x for x in leaves if is_array(x)]
    for x in leaves:
        if isinstance(x, Tensor):
            raise PlanError(f"plan: a plan takes arrays, found {describe(x)}; take them out with tg.values(tree)")
    structure = identity(trees.replace_leaves(arg, [... if is_array(x) else x for x in leaves]))
    looks = ((namespace(x).__name__, x.shape, x.dtype.char, x.strides, _is_plain(x)) for x in arrays)
    return (structure, *looks), arrays


def _is_plain(x: Array) -> bool:
    """Return whether the elements lie as the machine reads them."""
    return namespace(x) is not np or (x.flags.aligned and x.dtype.isnative)


def _carried(results: Any, args: Sequence[Any], carry: int) -> dict[int, int]:
    """Return for the index of each carried leaf of the results the index of the input that it becomes.

    It is empty if one of them has another layout: then NumPy adds up in another order, and the next call needs another
    plan.
    """
    if not carry:
        return {}
    if not isinstance(results, tuple) or len(results) < carry or len(args) < carry:
        found = len(results) if isinstance(results, tuple) else 1
        raise PlanError(
            f"plan(carry={carry}): the step has {len(args)} arguments and {found} results, too few to carry"
        )
    for number, (arg, result) in enumerate(zip(args[:carry], results, strict=False)):
        if [path for path, _ in trees.paths(arg)] != [path for path, _ in trees.paths(result)]:
            raise PlanError(f"plan(carry={carry}): result {number} is not a tree like argument {number}")
    before, after = trees.paths(tuple(args[:carry])), trees.leaves(tuple(results[:carry]))
    arrays = [
        (k, path, a, value_of(b)) for k, ((path, a), b) in enumerate(zip(before, after, strict=True)) if is_array(a)
    ]
    for _, path, a, b in arrays:
        if not is_array(b) or (a.shape, a.dtype) != (b.shape, b.dtype):
            raise PlanError(f"plan(carry={carry}): result {path} is {describe(b)}, the argument {describe(a)}")
    same_layout = all(namespace(a, b) is not np or np.empty_like(b).strides == a.strides for _, _, a, b in arrays)
    return {k: i for i, (k, *_) in enumerate(arrays)} if same_layout else {}
