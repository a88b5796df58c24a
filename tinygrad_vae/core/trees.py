"""Trees: nested dicts, lists, tuples and dataclasses with arrays at their leaves, such as models and distributions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def static(**options: Any) -> Any:
    """Declare a dataclass field that belongs to the structure of a tree and holds no leaves."""
    return dataclasses.field(metadata={"static": True}, **options)


@functools.cache
def _dataclass_fields(kind: type) -> tuple[tuple[str, bool], ...] | None:
    """Return the fields of a dataclass, each with whether it is a part of the tree; ``None`` for any other class."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else None
    return None if fields is None else tuple((f.name, not f.metadata.get("static")) for f in fields)


def leaves(tree: Any, found: list[Any] | None = None) -> list[Any]:
    """Return the leaves in order, appended to ``found`` if it is given. ``None`` is an empty tree."""
    found = [] if found is None else found
    if isinstance(tree, (dict, list, tuple)):
        for part in tree.values() if isinstance(tree, dict) else tree:
            leaves(part, found)
    elif tree is not None:
        fields = _dataclass_fields(tree.__class__)
        if fields is None:
            found.append(tree)
        else:
            for name, is_part in fields:
                if is_part:
                    leaves(getattr(tree, name), found)
    return found


def children(tree: Any) -> list[tuple[str, Any]] | None:
    """Return the named parts of a container, or ``None`` for a leaf."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [(str(key), part) for key, part in tree.items()]
    if isinstance(tree, (list, tuple)):
        return list(zip(getattr(tree, "_fields", map(str, range(len(tree)))), tree, strict=True))
    fields = _dataclass_fields(tree.__class__)
    return None if fields is None else [(name, getattr(tree, name)) for name, is_part in fields if is_part]


def paths(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return ``(path, leaf)`` for each leaf in order, such as ``encoder.0.weight``."""
    parts = children(tree)
    if parts is None:
        return [(prefix, tree)]
    return [pair for name, part in parts for pair in paths(part, f"{prefix}.{name}" if prefix else name)]


def replace_leaves(tree: T, new: Sequence[Any]) -> T:
    """Return a tree of the same structure with other leaves. A dataclass skips its ``__init__`` and checks."""
    remaining, end = iter(new), object()
    try:
        made = _rebuild(tree, remaining)
        if next(remaining, end) is end:
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
    fields = () if tree is None else _dataclass_fields(tree.__class__)
    if fields is None:
        return next(remaining)
    if tree is None:
        return None
    copy = object.__new__(type(tree))
    for name, is_part in fields:
        part = getattr(tree, name)
        object.__setattr__(copy, name, _rebuild(part, remaining) if is_part else part)
    return copy


def map_leaves(function: Callable[..., Any], tree: T, *others: Any) -> T:
    """Return the tree with ``function`` applied to each leaf, and to the leaves of ``others`` at the same position."""
    rows = [leaves(x) for x in (tree, *others)]
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            raise ValueError(f"the first tree has {len(rows[0])} leaves, another has {len(row)}")
    return replace_leaves(tree, [function(*group) for group in zip(*rows, strict=True)])
