"""Distributions and their parameters in a few words, for messages and drawings."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..core import Tensor, is_array, value_of
from ..devices import to_host


def with_numbers(dist: Any) -> str:
    """Return a distribution or a bijection with its parameters: ``Normal(loc=mu, scale=<float64 (40,)>)``."""
    given = {f.name: getattr(dist, f.name) for f in dataclasses.fields(dist)}
    shown = ", ".join(f"{name}={_in_short(value)}" for name, value in given.items() if value is not None)
    return f"{type(dist).__name__}({shown})"


def _in_short(value: Any) -> str:
    if isinstance(value, Tensor) and value.name:
        return value.name
    value = value_of(value)
    if not is_array(value):
        return repr(value)
    if value.size <= 4:
        return np.array2string(to_host(value), precision=4, separator=", ")
    return f"<{value.dtype} {value.shape}>"


def with_names(dist: Any) -> str:
    """Return a distribution with the names of its parameters: ``Normal(mu, sigma)``."""
    given = [(f, getattr(dist, f.name)) for f in dataclasses.fields(dist)]
    return f"{type(dist).__name__}({', '.join(_in_words(f, part) for f, part in given if part is not None)})"


def _in_words(f: dataclasses.Field[Any], part: Any) -> str:
    if dataclasses.is_dataclass(part):
        return str(part)
    called = "probs=" if f.name == "probs" else ""
    if isinstance(part, Tensor):
        return called + (part.name or _origin(part) or f.name)
    if "domain" in f.metadata and np.ndim(part) > 0:
        return f.name
    return called + repr(part.item() if is_array(part) else part)


def _origin(x: Tensor) -> str:
    """Return the op that x was made by, if its inputs are numbers and named Tensors: ``logit(p)``."""
    shown = []
    for part in x.inputs:
        if isinstance(part, Tensor) and part.name:
            shown.append(part.name)
        elif isinstance(part, (int, float)):
            shown.append(repr(part))
        else:
            return ""
    named = any(isinstance(part, Tensor) for part in x.inputs)
    return f"{x.op.name}({', '.join(shown)})" if x.op is not None and named and not x.attrs else ""
