"""Distributions and their parameters in a few words, for messages and drawings."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..core import Tensor, is_array, value_of
from ..devices import to_host


def in_short(value: Any) -> str:
    """Return a parameter in a few characters: its name, its numbers where they are few, or its dtype and shape."""
    if isinstance(value, Tensor) and value.name:
        return value.name
    value = value_of(value)
    if not is_array(value):
        return repr(value)
    if value.size <= 4:
        return np.array2string(to_host(value), precision=4, separator=", ")
    return f"<{value.dtype} {value.shape}>"


def with_names(dist: Any) -> str:
    """Return the distribution as text, with the names of its parameters: ``Normal(mu, sigma)``."""
    given = [(f, getattr(dist, f.name)) for f in dataclasses.fields(dist)]
    shown = [_part_in_words(f, part) for f, part in given if part is not None]
    return f"{type(dist).__name__}({', '.join(shown)})"


def _part_in_words(f: dataclasses.Field[Any], part: Any) -> str:
    if dataclasses.is_dataclass(part):
        return str(part)
    called = "probs=" if f.name == "probs" else ""
    if isinstance(part, Tensor):
        return called + (part.name or _in_words(part) or f.name)
    if "domain" in f.metadata and np.ndim(part) > 0:
        return f.name
    return called + repr(part.item() if is_array(part) else part)


def _in_words(x: Tensor) -> str:
    """Return what x was computed by, where it is one op on named leaves: ``logit(p)``."""
    tensors = [leaf for leaf in x.inputs if isinstance(leaf, Tensor)]
    if x.op is None or x.attrs or not tensors or not all(leaf.name for leaf in tensors):
        return ""
    if not all(isinstance(leaf, (Tensor, int, float)) for leaf in x.inputs):
        return ""  # before an array is written out: this is called in every step of training
    shown = [str(leaf.name) if isinstance(leaf, Tensor) else repr(leaf) for leaf in x.inputs]
    return f"{x.op.name}({', '.join(shown)})"
