"""Names, formulas and values of nodes, short enough for a box of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Tensor, as_array, describe
from ..devices import to_host
from ..ops import add, divide, multiply, negative, pow, subtract
from .folding import kept_input

SYMBOLS = {add: "+", subtract: "−", multiply: "×", divide: "÷", pow: "^"}  # noqa: RUF001

LONGEST_LABEL, LONGEST_DETAIL = 60, 400
"""The number of characters that are shown of a label or a heading, and of a tooltip."""

LONGEST_FORMULA = 3
"""A box of at most this many ops shows their formula; a larger one shows the last op and how many there are."""


def one_line(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return a text that any of the formats can hold: without control characters, and not too long.

    >>> one_line("a\\nb", 40), one_line("encoder.layers.0.weight", 10)
    ('a b', 'encoder.l…')
    """
    if not isinstance(text, str):
        raise TypeError(f"draw: a title is text, found {describe(text)}")
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"


def innermost(dist: Any) -> Any:
    """Return the distribution that others are wrapped around."""
    while hasattr(dist, "base"):
        dist = dist.base
    return dist


def label_of_ops(head: Tensor, made: Sequence[Tensor]) -> str:
    """Return the sign of one op with its numbers, the formula of a few, and the sign of the last of many."""
    if 1 < len(made) <= LONGEST_FORMULA:
        return _bare(_formula(head, made))
    assert head.op is not None
    name = SYMBOLS.get(head.op, head.op.name)
    numbers = [f"{as_array(x).item():.4g}" if _is_number(x) else "·" for x in head.inputs]
    if not any(map(_is_number, head.inputs)):
        return name
    if head.op in SYMBOLS:
        return f"{name} {numbers[1]}" if numbers[0] == "·" else f"{numbers[0]} {name}"
    return f"{name}({', '.join(numbers)})"


def _is_number(x: Any) -> bool:
    return not isinstance(x, Tensor) and not np.ndim(x)


def _formula(node: Any, made: Sequence[Tensor]) -> str:
    """Return the formula of some ops, with a dot for each value from elsewhere: ``exp(0.5 × ·)``."""
    while isinstance(node, Tensor) and kept_input(node) is not None:
        node = kept_input(node)
    if not any(node is x for x in made):
        return f"{as_array(node).item():.4g}" if _is_number(node) else "·"
    parts = [_formula(x, made) for x in node.inputs]
    if node.op is negative:
        return f"−{parts[0]}"  # noqa: RUF001
    if node.op in SYMBOLS:
        return f"({parts[0]} {SYMBOLS[node.op]} {parts[1]})"
    return f"{node.op.name}({', '.join(map(_bare, parts))})"


def _bare(formula: str) -> str:
    """Return a formula without parentheses around the whole of it."""
    return formula[1:-1] if formula.startswith("(") else formula


def value_in_short(value: Any) -> list[str]:
    """Return a number as it is, an array as its shape and mean, or the one number that it is full of.

    >>> value_in_short(np.ones((2, 3))), value_in_short(np.arange(3.0))
    (['(2, 3)', 'all 1'], ['(3,)', 'mean 1'])
    """
    array = to_host(value)
    if array.ndim == 0:
        return [str(array.item()) if array.dtype.kind in "b" else f"{array.item():.4g}"]
    if not array.size:
        return [str(array.shape)]
    if array.size > 1 and (array == array.flat[0]).all():
        return [str(array.shape), f"all {array.flat[0]:.3g}"]
    with np.errstate(all="ignore"):
        return [str(array.shape), f"mean {np.mean(array):.3g}"]


def gradient_in_short(g: Any) -> str:
    """Return a number as it is, and the norm of an array."""
    g = to_host(g)
    return f"{g.item():.4g}" if g.ndim == 0 else f"of norm {np.linalg.norm(g):.3g}"
