"""The door of every op that is defined on real numbers: integers and booleans become floats there."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..core import Op, Value, astype, is_array, namespace
from .declare import elementwise, example

P = ParamSpec("P")
R = TypeVar("R")


def on_reals(forward: Callable[P, R]) -> Callable[P, R]:
    """Let integers and booleans into the function of an op as floats.

    Beside float arrays they take the dtype that NumPy gives the two together, and float64 elsewhere. NumPy alone
    would compute ``exp`` of bytes in float16, and ``1 - 2 * x`` of bytes in bytes. Python's numbers take the dtype of
    the arrays beside them: SciPy's functions would make float64 of float32 and a number.

    Raises:
        TypeError: an input holds float16.

    >>> on_reals(lambda x: 1 - 2 * x)(np.ones(1, np.uint8))
    array([-1.])
    """

    @functools.wraps(forward)
    def on_floats(*inputs: P.args, **attrs: P.kwargs) -> R:
        for x in inputs:
            if x.__class__ is not np.ndarray or x.dtype.char not in "df":
                return forward(*_floats(inputs), **attrs)
        return forward(*inputs, **attrs)

    return on_floats


def real(*vjps: Callable[..., Any] | None, **words: Any) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Declare an elementwise op on real numbers: ``elementwise`` of a function ``on_reals``, and of vjps on floats."""
    made = [_vjp_on_floats(vjp) if vjp and len(vjps) > 1 else vjp for vjp in vjps]
    return lambda forward: elementwise(*made, **words)(on_reals(forward))


def unary(printed: str, doc: str, declare: Any = real) -> Callable[..., Op[[Value], Value]]:
    """Return what declares, from its vjp, the function of one array that NumPy has under the name in the example.

    ``sin = unary("sin(0.0) = 0.0", "Sine of an angle in radians.")(lambda g, y, x: g * cos(x), range=...)``
    """
    name = printed.partition("(")[0]
    function = getattr(np, name)

    def on_reals(x: Value, /) -> Value:  # as the decorator does, in one call instead of two
        return function(x if x.__class__ is np.ndarray and x.dtype.char in "df" else _floats((x,))[0])

    def on_all(x: Value, /) -> Value:
        return function(x)

    forward = on_reals if declare is real else on_all
    forward.__name__ = forward.__qualname__ = name
    forward.__module__, forward.__doc__ = sys._getframe(1).f_globals["__name__"], doc
    return lambda *vjps, **words: elementwise(*vjps, **words)(example(printed)(forward))


def _vjp_on_floats(vjp: Callable[..., Any]) -> Callable[..., Any]:
    """Let constants of integers into a vjp as floats too: ``1 - 2 * x`` of bytes is 255 for x = 1."""

    @functools.wraps(vjp)
    def on_floats(g: Value, y: Value, *inputs: Value, **attrs: Any) -> Value:
        exact = [astype(x, y.dtype) if getattr(x, "dtype", y.dtype).kind in "iub" else x for x in inputs]
        return vjp(g, y, *exact, **attrs)

    return on_floats


def in_place(x: Value) -> Value | None:
    """Return where a ufunc may write over ``x``, a temporary of the caller's: there, if it is an array of NumPy.

    In an array of 1.6 MB that saves a third of the time: new memory is not in the cache.
    """
    return x if x.__class__ is np.ndarray else None


def _floats(inputs: tuple[Any, ...]) -> list[Value]:
    dtypes = [x.dtype for x in inputs if is_array(x)]
    if any(dtype.char == "e" for dtype in dtypes):
        raise TypeError("float16 has too few digits to compute with; convert it with tg.astype(x, numpy.float32)")
    dtype = np.result_type(*dtypes) if any(dtype.kind == "f" for dtype in dtypes) else np.dtype(np.float64)
    xp = namespace(*inputs)
    number = dtype.type if xp is np else lambda x: xp.full((), x, dtype)  # a choice between numbers stays on the GPU
    return [
        number(x)
        if isinstance(x, (bool, int, float)) and not is_array(x)
        else x.astype(dtype)
        if is_array(x) and x.dtype.kind in "iub"
        else x
        for x in inputs
    ]
