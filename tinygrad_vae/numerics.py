"""Find the op that made the first NaN or infinity, and the nodes that hold a graph's memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .core import Array, Op, Tensor, calling_line, describe, namespace, topological_order, trees, value_of

_watchers = 0
_lock = threading.Lock()


@contextmanager
def watch_numerics() -> Iterator[None]:
    """Stop at the first op whose result holds a NaN or an infinity, forwards or in a gradient.

    While such a block runs, in any thread, every call of an op looks at its result, and a compiled step (``tg.plan``)
    runs op by op. Outside of it nothing is looked at, and nothing is slower.

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
    if getattr(getattr(result, "dtype", None), "kind", "") != "f" or bool(namespace(result).isfinite(result).all()):
        return
    lines = [f"{op.name} gave {_nonfinite_count(result)} of {result.size} elements, at {calling_line()}"]
    for i, x in enumerate(args):
        if i < len(op.input_names) or op.variadic:
            lines.append(f"  {op.input_name(i)}: {_with_range(value_of(x))}")
    raise FloatingPointError("\n".join(lines))


def _nonfinite_count(x: Array) -> str:
    nan, infinite = int(np.isnan(x).sum()), int(np.isinf(x).sum())
    return " and ".join(f"{n} {word}" for n, word in ((nan, "NaN"), (infinite, "infinite")) if n)


def _with_range(x: Any) -> str:
    if getattr(getattr(x, "dtype", None), "kind", "") != "f" or not x.size:
        return describe(x)
    finite = x[np.isfinite(x)]
    held = [] if finite.size == x.size else [f"{_nonfinite_count(x)} already"]
    ranged = [f"from {float(finite.min()):.6g} to {float(finite.max()):.6g}"] if finite.size else []
    return ", ".join([describe(x), *ranged, *held])


@dataclass(frozen=True)
class GraphMemory:
    """What a graph holds in memory; print it.

    ``nodes`` counts the nodes, ``bytes`` the distinct memory of their values (a view shares that of its base);
    ``by_op`` says how many nodes and bytes each op made, the largest first.
    """

    nodes: int
    bytes: int
    by_op: list[tuple[str, int, int]]

    def __str__(self) -> str:
        lines = [f"{self.nodes} nodes hold {_readable(self.bytes)}"]
        lines += [f"  {_readable(size):>10}  {name} ({count})" for name, count, size in self.by_op if size]
        return "\n".join(lines)


def graph_memory(roots: Any) -> GraphMemory:
    """Return how much memory the graph below some Tensors holds, and which ops' values hold it.

    All of it is freed when the last reference to the roots goes: a Tensor points to its inputs only.

    Args:
        roots: a Tensor or a tree of them.

    >>> x = tg.Tensor(np.ones(1000), "x")
    >>> print(tg.graph_memory(tg.sum(tg.exp(x) * 2)))
    4 nodes hold 23.4 KiB
        7.8 KiB  x (1)
        7.8 KiB  exp (1)
        7.8 KiB  multiply (1)
            8 B  sum (1)
    """
    seen: set[int] = set()
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    order = topological_order([root for root in trees.leaves(roots) if isinstance(root, Tensor)])
    for node in order:
        name = node.op.name if node.op else node.name or "unnamed leaves"
        owner = node.value
        while getattr(owner, "base", None) is not None and hasattr(owner.base, "nbytes"):
            owner = owner.base
        counts[name] += 1
        sizes[name] += 0 if id(owner) in seen else owner.nbytes
        seen.add(id(owner))
    by_op = sorted(((name, counts[name], sizes[name]) for name in counts), key=lambda row: -row[2])
    return GraphMemory(len(order), sizes.total(), by_op)


def _readable(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1024
    return f"{size:.1f} GiB"
