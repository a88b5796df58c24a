"""A value with a past. An ``Op`` is a function and its derivatives; a ``Tensor`` is a value and the op that made it.

Called on arrays, an op computes an array. Called with a Tensor among its inputs it computes the same array and records
a node. That is all there is to a graph: values that remember where they came from.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from . import words
from .arrays import Array, Value, as_array, to_numpy

P = ParamSpec("P")
R = TypeVar("R")

Attached: Any = object  # for the type checker: ops/ attaches operators and methods later (x * y)
NO_ATTRS: Mapping[str, Any] = {}
_PLAIN = frozenset({float, int, np.ndarray})  # constants of these types need no check


class Tensor(Attached):  # type: ignore[misc]
    """A node of the graph: a value, the op that made it, its inputs and attributes (``axis=0``). A leaf has no op.

    A node is never edited once it is made, and it points to its inputs only, so whatever you no longer hold is freed.
    The array is not copied: pass ``array.copy()`` if you will edit it, or the derivatives are computed from other
    numbers than the cost, and nothing can notice. Operators take arrays and numbers on either side.

    Args:
        value: an array or a number. Integers and booleans are constants to every gradient.
        name: what to call it in messages and drawings.

    >>> x = Tensor(3.0, "x")
    >>> tg.gradients(x * x + x, [x])
    [array(7.)]
    """

    __slots__ = ("__weakref__", "attrs", "inputs", "name", "op", "value")

    value: Array
    op: Op[..., Any] | None
    inputs: tuple[Any, ...]
    attrs: Mapping[str, Any]
    name: str | None

    def __init__(self, value: Array, name: str | None = None) -> None:
        if isinstance(value, Tensor):
            raise TypeError("Tensor(value) takes an array, found a Tensor: use it as it is, or stop_gradient(tensor)")
        self.value, self.op, self.inputs, self.attrs, self.name = as_array(value), None, (), NO_ATTRS, name

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)

    def with_value(self, value: Array) -> Tensor:
        """Return a leaf of the same name and kind with another value."""
        return Tensor(value, self.name)

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        made_by = f", made by {self.op.name}" if self.op else ""
        return f"Tensor({np.array2string(to_numpy(self.value), threshold=10, precision=6)}{name}{made_by})"


def make_node(
    value: Array, op: Any, inputs: tuple[Any, ...], attrs: Any = NO_ATTRS, name: Any = None, kind: Any = Tensor
) -> Tensor:
    """Return a node whose value is known already."""
    node: Tensor = kind.__new__(kind)
    node.value, node.op, node.inputs, node.attrs, node.name = value, op, inputs, attrs, name
    return node


def value_of(x: Value) -> Any:
    """Return the array inside a Tensor, and anything else as it is."""
    return x.value if isinstance(x, Tensor) else x


BLOCKED: Any = object()
"""Stands where a vjp would: the value depends on this input and has no derivative in it. Asking for one is an error."""


class Op(Generic[P, R]):
    """A function on arrays with one vjp for each of its inputs, which are its positional-only parameters.

    A vjp (vector-Jacobian product) answers: if the cost changes by ``g`` when the output ``y`` changes by 1, by how
    much does it change when this input does? It is called as ``vjp(g, y, *inputs, **attrs)``, and written with ops, so
    that it can be differentiated again. It is ``None`` where nothing flows (a step, flat between its jumps; a cut on
    purpose), ``BLOCKED`` where it is unknown. An op with ``*inputs`` has one for all, ``vjp(i, g, y, *inputs, ...)``.
    The inputs of an ``elementwise`` op broadcast; ``pull_back`` brings their cotangents back to shape.
    """

    node: type[Tensor] = Tensor  # the kind of node that a call records
    declared: Any = None  # what others need to know of the op (ops/declare.py); the engine never reads it

    def __init__(
        self, forward: Callable[P, R], vjps: Sequence[Callable[..., Any] | None], *, elementwise: bool = False
    ) -> None:
        functools.update_wrapper(self, forward)
        self.forward, self.vjps, self.elementwise = forward, tuple(vjps), elementwise
        self.name = self.__name__ = forward.__name__.removeprefix("_")
        parameters = inspect.signature(forward).parameters.values()
        others = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.input_names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.attr_names = [p.name for p in others]
        self.defaults = {p.name: p.default for p in others if p.default is not p.empty}

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> str:  # an op is one object: copies and pickles refer to it by its name
        return self.name

    def __call__(self, *args: P.args, **attrs: P.kwargs) -> R:
        for x in args:
            if isinstance(x, Tensor):
                return self.record(args, attrs)
        try:
            result: Any = self.forward(*args, **attrs)
            if result.__class__ is np.ndarray and result.dtype.kind == "c":
                raise TypeError("complex numbers are not supported; compute with their real and imaginary parts")
            return result
        except (TypeError, ValueError, IndexError) as error:
            raise words.of_failed_call(self, error, args, attrs) from error

    def record(self, args: tuple[Any, ...], attrs: Mapping[str, Any], name: str | None = None) -> Tensor:
        """Compute the value from the values of the inputs, and return the node that remembers how."""
        if not self.variadic and len(args) > (n := len(self.input_names)):  # attributes that were given by position
            attrs = dict(zip(self.attr_names, args[n:], strict=False)) | dict(attrs)
            args = args[:n] + args[n + len(self.attr_names) :]  # one too many is an error of the function
        values, narrow = [], False
        for x in args:
            if isinstance(x, Tensor):
                x = x.value
                narrow = narrow or x.dtype.char == "f"  # float32; "d" is float64
            elif x.__class__ not in _PLAIN:
                words.check_constant(self, x, args, attrs)
            values.append(x)
        try:
            value: Any = self.forward(*values, **attrs)
        except (TypeError, ValueError, IndexError) as error:
            raise words.of_failed_call(self, error, args, attrs) from error
        if value.__class__ is not np.ndarray or value.dtype.kind not in "fib":
            value = as_array(value)
        if narrow and self.elementwise and value.dtype.char == "d":
            words.check_not_widened(self, values)
        attrs = {**self.defaults, **attrs} if self.defaults or attrs else NO_ATTRS
        return make_node(value, self, args, attrs, name, self.node)

    def vjp_of(self, i: int) -> Callable[..., Any] | None:
        """Return the vjp of input ``i``, None or BLOCKED; an op with ``*inputs`` has one for all of them."""
        return self.vjps[0 if self.variadic else i]

    def input_name(self, i: int) -> str:
        """Return what input ``i`` is called in messages."""
        last = len(self.input_names) - 1
        return f"{self.input_names[last]}[{i - last}]" if self.variadic and i >= last else self.input_names[i]
