"""Names for messages: of draws, of ops as the user wrote them, and of lists of parameters."""

from __future__ import annotations

import ast
import linecache
from typing import Any

from ..core import Drawn, Sample, Tensor
from ..ops import equal, less, less_equal, not_equal

_COMPARISONS = {less: "<", less_equal: "<=", equal: "==", not_equal: "!="}
_MIRRORED = {"<": ">", "<=": ">=", "==": "==", "!=": "!="}


def name_of_draw(z: Sample | Drawn) -> str:
    """Return the name that was given to a draw, or the variable that it was assigned to."""
    if z.name:
        return str(z.name)
    try:
        (statement,) = ast.parse(linecache.getline(z.line.file, z.line.line).strip()).body
    except (SyntaxError, ValueError):  # only a part of a statement stands on the line
        return "a draw"
    match statement:
        case ast.Assign([ast.Name(variable)], ast.Call(ast.Attribute(attr="sample" | "rsample"))):
            return variable
    return "a draw"


def name_and_line(z: Sample | Drawn) -> str:
    """Return a draw as messages name it: ``z (train.py:41)``."""
    return f"{name_of_draw(z)} ({z.line})"


def op_in_words(node: Tensor) -> str:
    """Return the name of the op that made a node, a comparison as one writes it: ``z > 0``."""
    sign = _COMPARISONS.get(node.op)  # type: ignore[arg-type]
    if sign is None:
        return node.op.name  # type: ignore[union-attr]
    left, right = (_operand(x) for x in node.inputs)
    constant_first = not isinstance(node.inputs[0], Tensor)
    return f"{right} {_MIRRORED[sign]} {left}" if constant_first else f"{left} {sign} {right}"


def _operand(x: Any) -> str:
    if isinstance(x, Tensor):
        return x.name or "..."
    return f"{x:g}" if getattr(x, "size", 1) == 1 else "..."


def wrapped(names: list[str]) -> str:
    """Return the names on one line, as many as it holds."""
    if not names:
        return "-"
    kept = 1
    while kept < len(names) and len(" ".join(names[: kept + 1])) <= 90:
        kept += 1
    rest = len(names) - kept
    return " ".join(names[:kept]) + (f" ... and {rest} more" if rest else "")
