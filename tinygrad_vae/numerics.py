"""Find the op that made the first NaN or infinity."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .core import Array, Op, Tensor, calling_line, describe, is_array, namespace, value_of

_watchers = 0
_lock = threading.Lock()


@contextmanager
def watch_numerics() -> Iterator[None]:
    """Stop at the first op whose result holds a NaN or an infinity, forwards or in a gradient.

    While such a block runs, in any thread, every call of an op looks at its result, and a compiled step (``tg.plan``)
    runs op by op.

    Raises:
        FloatingPointError: names the op, the line of your code that called it, and the ranges of its inputs.

    >>> with tg.watch_numerics(), np.errstate(divide="ignore"):
    ...     tg.exp(np.ones(2))
    ...     tg.log(np.array([1.0, 0.0]))
    Traceback (most recent call last):
    FloatingPointError: log gave 1 infinite of 2 elements, at ...
      x: a float64 array of shape (2,), from 0 to 1
    """
    global _watchers
    with _lock:
        _watchers += 1
        if _watchers == 1:
            Op.__call__, Op.record = _watched_call, _watched_record  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        with _lock:
            _watchers -= 1
            if _watchers == 0:
                Op.__call__, Op.record = _CALL, _RECORD  # type: ignore[method-assign]


def is_watching() -> bool:
    """Return whether a block of ``watch_numerics`` runs."""
    return _watchers > 0


_CALL, _RECORD = Op.__call__, Op.record


def _watched_call(op: Any, *args: Any, **attrs: Any) -> Any:
    result = _CALL(op, *args, **attrs)
    if not isinstance(result, Tensor):
        _refuse_nonfinite(op, result, args)
    return result


def _watched_record(op: Any, args: tuple[Any, ...], attrs: dict[str, Any], name: str | None = None) -> Tensor:
    node = _RECORD(op, args, attrs, name)
    _refuse_nonfinite(op, node.value, args)
    return node


def _refuse_nonfinite(op: Op[..., Any], result: Any, args: Sequence[Any]) -> None:
    if not _is_float(result) or bool(namespace(result).isfinite(result).all()):
        return
    lines = [f"{op.name} gave {_nonfinite_count(result)} of {result.size} elements, at {calling_line()}"]
    for i, x in enumerate(args):
        if i < len(op.input_names) or op.variadic:
            lines.append(f"  {op.input_name(i)}: {_with_range(value_of(x))}")
    raise FloatingPointError("\n".join(lines))


def _is_float(x: Any) -> bool:
    return is_array(x) and x.dtype.kind == "f"


def _nonfinite_count(x: Array) -> str:
    nan, infinite = int(np.isnan(x).sum()), int(np.isinf(x).sum())
    return " and ".join(f"{n} {word}" for n, word in ((nan, "NaN"), (infinite, "infinite")) if n)


def _with_range(x: Any) -> str:
    if not _is_float(x) or not x.size:
        return describe(x)
    finite = x[np.isfinite(x)]
    held = [] if finite.size == x.size else [f"{_nonfinite_count(x)} already"]
    ranged = [f"from {float(finite.min()):.6g} to {float(finite.max()):.6g}"] if finite.size else []
    return ", ".join([describe(x), *ranged, *held])
