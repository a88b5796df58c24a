"""Trees: dicts, lists, tuples and dataclasses that hold arrays at their leaves.

Models, optimizer states and distributions are such trees. This file takes a tree apart into its
leaves and puts it together again, and knows nothing of what the leaves are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


def static(**options: Any) -> Any:
    """Declare a dataclass field that belongs to the structure of a tree and is not a leaf of it.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Scaled:
    ...     weight: object
    ...     power: int = static(default=2)
    >>> leaves(Scaled(weight=3.0))
    [3.0]
    """
    return dataclasses.field(metadata={"static": True}, **options)


def children(tree: Any) -> list[tuple[str, Any]] | None:
    """Return the named parts of a container, or ``None`` for a leaf."""
    if isinstance(tree, dict):
        return [(str(key), tree[key]) for key in tree]
    if isinstance(tree, (list, tuple)):
        return list(zip(getattr(tree, "_fields", map(str, range(len(tree)))), tree, strict=True))
    if tree is None:
        return []
    fields = _fields(tree.__class__)
    return None if fields is None else [(name, getattr(tree, name)) for name, is_part in fields if is_part]


@functools.cache
def _fields(kind: type) -> tuple[tuple[str, bool], ...] | None:
    """Return the fields of a dataclass, each with whether it is a part of the tree; ``None`` for any other class."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple((f.name, not f.metadata.get("static")) for f in dataclasses.fields(kind))


def paths(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return ``(path, leaf)`` for each leaf in order; a path is the names on the way, joined by dots.

    >>> paths({"encoder": [1.0, 2.0]})
    [('encoder.0', 1.0), ('encoder.1', 2.0)]
    """
    found: list[tuple[str, Any]] = []
    _gather(tree, prefix, found)
    return found


def _gather(tree: Any, path: str, found: list[tuple[str, Any]]) -> None:
    parts = children(tree)
    if parts is None:
        found.append((path, tree))
        return
    for name, part in parts:
        _gather(part, f"{path}.{name}" if path else name, found)


def leaves(tree: Any) -> list[Any]:
    """Return the leaves in order. ``None`` is an empty tree."""
    found: list[Any] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Any]) -> None:
    """Add the leaves, without the names that ``children`` makes: a step of training asks for leaves a dozen times."""
    if isinstance(tree, dict):
        for key in tree:
            _collect(tree[key], found)
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            _collect(part, found)
    elif tree is not None:
        fields = _fields(tree.__class__)
        if fields is None:
            found.append(tree)
        else:
            for name, is_part in fields:
                if is_part:
                    _collect(getattr(tree, name), found)


def replace_leaves(tree: T, new: Sequence[Any]) -> T:
    """Return a tree of the same structure with other leaves.

    A dataclass is put together without its ``__init__``, so that leaves of any kind may stand in it.

    Raises:
        ValueError: the number of leaves differs.
    """
    remaining = iter(new)
    try:
        made = _rebuild(tree, remaining)
        if next(remaining, _END) is _END:
            return made
    except StopIteration:  # there are too few
        pass
    raise ValueError(f"the tree has {len(leaves(tree))} leaves, found {len(new)} new ones")


def _rebuild(tree: Any, remaining: Iterator[Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _rebuild(part, remaining) for key, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [_rebuild(part, remaining) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if tree is None:
        return None
    fields = _fields(tree.__class__)
    if fields is None:
        return next(remaining)
    copy = object.__new__(type(tree))
    for name, is_part in fields:
        part = getattr(tree, name)
        object.__setattr__(copy, name, _rebuild(part, remaining) if is_part else part)
    return copy


def map_leaves(function: Callable[..., Any], tree: T, *others: Any) -> T:
    """Return the tree with ``function`` applied to each leaf, and to those that stand there in ``others``.

    >>> map_leaves(lambda a, b: a + b, {"x": 1, "y": 2}, {"x": 10, "y": 20})
    {'x': 11, 'y': 22}
    """
    rows = [leaves(tree), *(leaves(other) for other in others)]
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            raise ValueError(f"the first tree has {len(rows[0])} leaves, another has {len(row)}")
    return replace_leaves(tree, [function(*group) for group in zip(*rows, strict=True)])
