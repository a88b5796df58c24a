"""The door of every op that is defined on real numbers: integers and booleans become floats there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..core import Op, Value, is_array, namespace
from .declare import elementwise

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
    """Declare an elementwise op on real numbers: ``elementwise`` of a function ``on_reals``."""
    return lambda forward: elementwise(*vjps, **words)(on_reals(forward))


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
