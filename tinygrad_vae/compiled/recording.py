"""Record what a step does: its graph, the noise it draws, and whether two recordings are the same."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, NoiseStream, Tensor, describe, is_array, namespace, topological_order, trees, value_of
from ..devices import to_host

_Change = Callable[[bool, Array], Array]  # makes another draw of one: is its distribution normal, and the draw


class PlanError(ValueError):
    """A step cannot be planned, or its plan cannot run with these arguments."""


OVERWRITTEN = (
    "plan: an argument is a carried result that this plan has overwritten since, by a run on another state or by a run "
    "that ended in an error. Make a plan for each state, or keep a copy: tg.trees.map_leaves(np.copy, state)"
)


@dataclass(frozen=True)
class Draw:
    """A draw of the step: from the stream of which argument, where below it, after how many draws, and its numbers."""

    argument: int
    where: tuple[int | str, ...]
    before: int
    method: str
    options: tuple[Any, ...]
    named: Mapping[str, Any]
    array: Array

    def again(self, args: Sequence[Any]) -> Array:
        """Return the same draw from the streams among the arguments of another call."""
        stream = args[self.argument]
        if self.where:
            stream = stream.at(*self.where)
            stream.drawn = self.before
        found: Array = getattr(stream, self.method)(*self.options, **self.named)
        return found


class _WatchedStream(NoiseStream):
    """Draws from another stream and keeps each draw; ``change`` makes another draw of it."""

    def __init__(self, stream: NoiseStream, where: tuple[int | str, ...], *rest: Any) -> None:
        super().__init__(stream.seed, stream.path, stream.drawn)
        self._stream, self._where, self._rest = stream, where, rest
        self._argument, self._draws, self._xp, self._change = rest

    def at(self, *where: int | str) -> NoiseStream:
        return _WatchedStream(self._stream.at(*where), (*self._where, *where), *self._rest)

    @property
    def key(self) -> tuple[int, tuple[int | str, ...], int]:
        return self._stream.key

    def generator(self) -> np.random.Generator:
        raise PlanError("plan: a plan cannot see draws from a generator; draw with the methods of the noise stream")

    def _keep(self, method: str, *options: Any, **named: Any) -> Array:
        before = self._stream.drawn
        array = getattr(self._stream, method)(*options, **named)
        if self._change is not None:
            array = self._change(method == "normal" or named.get("normal", False), array)
        array = self._xp.asarray(array)
        self._draws.append(Draw(self._argument, self._where, before, method, options, named, array))
        return array

    normal = functools.partialmethod(_keep, "normal")
    uniform = functools.partialmethod(_keep, "uniform")
    permutation = functools.partialmethod(_keep, "permutation")
    sobol = functools.partialmethod(_keep, "sobol")


@dataclass(frozen=True)
class Recording:
    """The graph of a call of the step."""

    inputs: list[Tensor]
    draws: list[Draw]
    results: Any
    order: list[Tensor]

    @property
    def given(self) -> list[Array]:
        """The arrays that each run replaces: arguments, then draws."""
        return [*(x.value for x in self.inputs), *(draw.array for draw in self.draws)]

    def account(self) -> list[tuple[str, str, Hashable]]:
        """Return each op, input, attribute and result as (where it stands, in words, what identifies it).

        Raises:
            PlanError: an array that each run replaces was taken for an attribute of an op.
        """
        names = {id(x.value): f"input {i}" for i, x in enumerate(self.inputs)}
        names |= {id(draw.array): f"draw {i}" for i, draw in enumerate(self.draws)}
        names |= {id(node): f"node {i}" for i, node in enumerate(self.order) if node.op is not None}

        def row(where: str, x: Any) -> tuple[str, str, Hashable]:
            value = value_of(x)
            name = names.get(id(x), names.get(id(value)))
            if name is not None:
                return where, name, name
            return (where, describe(value), identity(value)) if is_array(value) else (where, repr(value), repr(value))

        rows: list[tuple[str, str, Hashable]] = []
        with np.printoptions(threshold=sys.maxsize, floatmode="unique"):  # arrays in a tuple tell all their bits
            for node in self.order:
                if (op := node.op) is None:
                    continue
                rows.append(("an op", op.name, op))
                rows += [row(f"{op.name}: {op.input_name(i)}", x) for i, x in enumerate(node.inputs)]
                for name, x in node.attrs.items():
                    if id(x) in names:
                        raise PlanError(
                            f"plan: {op.name}: {name} is the array of {names[id(x)]}, and a plan would keep the "
                            "numbers that it has now; only the inputs of an op may change from call to call"
                        )
                    rows.append(row(f"{op.name}: {name}", x))
            return [*rows, *(row(name_of_result(path), x) for path, x in trees.paths(self.results))]


def record(step: Callable[..., Any], args: Sequence[Any], carry: int = 0, change: _Change | None = None) -> Recording:
    """Call the step with a Tensor for each array, and return its graph and its draws, each of them changed."""
    inputs: list[Tensor] = []
    draws: list[Draw] = []
    given = []
    xp = namespace(*trees.leaves([arg for arg in args if not isinstance(arg, NoiseStream)]))

    def alias(x: Array) -> Array:  # another object, so that it is told from a constant that is the very same array
        return x.view() if xp is np and isinstance(x, np.ndarray) else xp.array(x)

    for i, arg in enumerate(args):
        if isinstance(arg, NoiseStream):
            given.append(_WatchedStream(arg, (), i, draws, xp, change))
        else:
            _check_no_stream(arg)
            leaves = [Tensor(alias(x), path or None) if is_array(x) else x for path, x in trees.paths(arg)]
            inputs += [x for x in leaves if isinstance(x, Tensor)]
            given.append(trees.replace_leaves(arg, leaves))
    results = step(*given)
    first = results[carry:] if isinstance(results, tuple) else results
    tops = [x for x in trees.leaves((first, results)) if isinstance(x, Tensor)]
    return Recording(inputs, draws, results, topological_order(tops[::-1]))  # the loss before the update


def check_same(first: list[tuple[str, str, Hashable]], second: list[tuple[str, str, Hashable]]) -> None:
    """Raise where two accounts differ."""
    pairs = zip(first, second, strict=False)
    different = next(((a[0], a[1], b[1]) for a, b in pairs if a != b), None)
    if different is None and len(first) == len(second):
        return
    where, was, now = different or ("the length of the graph", len(first), len(second))
    raise PlanError(
        f"plan: the step did something else when it was called again; {where} was {was}, and then {now}. A plan would "
        "freeze a branch that depends on a value (write tg.where), a number read off an array (compute with the "
        "array), and a number that changes (pass it as an array)"
    )


def check_unused(step: Callable[..., Any], args: Sequence[Any], carry: int, recording: Recording) -> None:
    """Raise if the step reads the numbers of a draw that no result depends on through its graph.

    Such a draw does no harm if an estimator puts something else in its place (enumeration) or keeps its derivative
    alone (measure-valued). So the step is recorded again with mirrored, low and high draws, and must do the same.
    """
    in_graph = {id(value_of(x)) for node in recording.order for x in (node, *node.inputs)}
    unused = [draw for draw in recording.draws if id(draw.array) not in in_graph]
    if not unused:
        return
    draw, account = unused[0], recording.account()
    for extreme in (0, -1, 1):
        copies = [copy.copy(arg) if isinstance(arg, NoiseStream) else arg for arg in args]
        try:
            with np.errstate(all="ignore"):
                check_same(account, record(step, copies, carry, functools.partial(_other_draw, extreme)).account())
        except Exception as error:
            raise PlanError(
                f"plan: the step draws {draw.method}{draw.options}, and no result depends on that through the graph; a "
                "plan would repeat whatever was made from its numbers. Sample from a distribution with Tensors for "
                "parameters, or draw outside and pass the draw as an argument"
            ) from error


def _other_draw(extreme: int, normal: bool, x: Array) -> Array:
    if x.dtype.kind != "f":
        return np.sort(x)[:: extreme or -1]
    if extreme:  # and no two alike, which would count as a pair of draws that depend on each other
        apart = np.arange(x.size, dtype=x.dtype).reshape(x.shape) * (1e-3 / max(1, x.size))
        return apart + np.asarray(3.0 * extreme if normal else 0.5 + 0.498 * extreme, x.dtype)
    return -x if normal else 1 - x


def _check_no_stream(tree: Any) -> None:
    """Raise if a noise stream stands inside a tree, where its draws would not be seen."""
    if isinstance(tree, NoiseStream):
        raise PlanError("plan: a noise stream stands inside an argument; pass it as an argument of its own")
    for _, part in trees.children(tree) or ():
        _check_no_stream(part)


def name_of_result(path: str) -> str:
    """Return what an error message calls a result."""
    return f"result {path}" if path else "the result"


def identity(x: Any) -> Hashable:
    """Return a key that is equal only for equal numbers, arrays and trees of them; other things equal themselves."""
    if isinstance(x, dict):
        return dict, *((key, identity(part)) for key, part in x.items())
    if isinstance(x, (list, tuple)):
        return type(x), *(identity(part) for part in x)
    if isinstance(x, slice):
        return slice, x.start, x.stop, x.step
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return type(x), *(identity(getattr(x, field.name)) for field in dataclasses.fields(x))
    if is_array(x):
        return type(x), x.shape, x.dtype.str, hashlib.sha256(np.ascontiguousarray(to_host(x)).data).digest()
    if isinstance(x, (bool, int, float, str)):
        return type(x), repr(x)  # 1, 1.0 and True are equal, and so are 0.0 and -0.0
    return x if isinstance(x, Hashable) else _Itself(x)


class _Itself:
    """Stands for something without a hash; equal to itself alone."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)
