"""``python -m tinygrad_vae.ops`` prints a table of all ops; followed by names, only these ops, with their examples.

A derivative is shown by running the op's vjp on named Tensors and writing out the graph that it records.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Op, Tensor, is_array
from .cases import cases_of, draw_inputs
from .declare import DIFFERENTIABLE, OPS
from .elementwise import add, divide, multiply, negative, pow, subtract

_SIGNS = {add: ("+", 1), subtract: ("-", 1), multiply: ("*", 2), divide: ("/", 2), pow: ("**", 4)}
_NEGATION, _ATOM = 3, 5
LONG = "(too long to be shown)"
"""Stands for the formula of a cotangent that is taken by quadrature."""


def expression(node: Any, *, attrs: bool = True) -> str:
    """Return the formula that a graph was recorded from, in the names of its leaves, with ``axis=0`` where ``attrs``.

    >>> x = Tensor(2.0, "x")
    >>> expression(x * (x + 1) ** 2)
    'x * (x + 1) ** 2'
    """
    return _written(node, attrs)[0]


def _written(node: Any, attrs: bool) -> tuple[str, int]:
    """Return the formula, and how strongly its outermost operator binds."""
    if not isinstance(node, Tensor):
        return ("..." if is_array(node) and node.ndim else f"{float(node):g}"), _ATOM
    if node.op is None:
        return node.name or "...", _ATOM
    if node.op in _SIGNS:
        sign, strength = _SIGNS[node.op]
        left, right = (_written(x, attrs) for x in node.inputs)
        right_binds_more = strength if node.op in (add, multiply, pow) else strength + 1
        text = f"{_bracketed(left, strength + (node.op is pow))} {sign} {_bracketed(right, right_binds_more)}"
        return text, strength
    if node.op is negative:
        return "-" + _bracketed(_written(node.inputs[0], attrs), _NEGATION), _NEGATION
    inputs = [_written(x, attrs)[0] for x in node.inputs]
    named = [f"{key}={value!r}" for key, value in node.attrs.items() if attrs and value != node.op.defaults.get(key)]
    return f"{node.op.name}({', '.join(inputs + named)})", _ATOM


def _bracketed(written: tuple[str, int], at_least: int) -> str:
    text, strength = written
    return text if strength >= at_least else f"({text})"


def cotangent(op: Op[..., Any], i: int) -> str:
    """Return the cotangent of input ``i``, for a cotangent g of the output; ``-`` where nothing flows.

    The output is called y, or z where an input is called y. For an op that is not elementwise, attributes are left out:
    they depend on the shapes.

    >>> cotangent(OPS["sin"], 0), cotangent(OPS["divide"], 1)
    ('g * cos(x)', '-g * z / y')
    """
    if op.declared.smoothness_in(i) not in DIFFERENTIABLE:
        return "-"
    trial = next(cases_of(op))
    drawn = draw_inputs(op, trial, np.random.default_rng(0))
    leaves: list[Any] = [Tensor(x, op.input_name(k)) for k, x in enumerate(drawn)]
    result = op(*leaves, **trial.attrs)
    output = Tensor(result.value, "z" if "y" in op.input_names else "y")
    g = Tensor(np.ones_like(result.value), "g")
    rule = op.vjps[0 if op.variadic else i]
    arguments = (i, g, output, *leaves) if op.variadic else (g, output, *leaves)
    text = expression(rule(*arguments, **result.attrs), attrs=op.elementwise)  # type: ignore[misc]
    return text if len(text) < 200 else LONG


def summary(op: Op[..., Any]) -> str:
    """Return the op's rows of the table: its formula, then each input with smoothness, domain and cotangent.

    >>> print(summary(OPS["sin"]))
    sin(x)                        Sine of an angle in radians
        x            smooth  real                            g * cos(x)
    """
    first = re.split(r"(?<!\.)\.(?=\s|$)|:\s|\n", inspect.getdoc(op) or "", maxsplit=1)[0].replace("``", "")
    names = [f"*{n}" if op.variadic and n == op.input_names[-1] else n for n in op.input_names]
    rows = [f"{op.name}({', '.join(names)})".ljust(30) + first]
    for i, name in enumerate(names):
        domain = str(op.declared.domain_of(i))
        rows.append(f"    {name:<12} {op.declared.smoothness_in(i):<9} {domain:<31} {cotangent(op, i)}")
    return "\n".join(rows)


def main(names: Sequence[str]) -> int:
    """Print the table, or the ops that are named."""
    package = __package__ or "tinygrad_vae.ops"
    ops = [op for op in OPS.values() if op.__module__.startswith(package + ".")]
    ops = sorted(ops, key=lambda op: (op.__module__, op.name))
    known = {op.name: op for op in ops}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known)
            meant = f"; did you mean {' or '.join(close)}?" if close else "; call it without a name for the table"
            print(f"there is no op named {name}{meant}", file=sys.stderr)
            return 2
        print(f"{summary(known[name])}\n\n{inspect.getdoc(known[name])}\n")
    if not names:
        for module, group in itertools.groupby(ops, lambda op: op.__module__):
            head = (inspect.getdoc(sys.modules[module]) or "").partition("\n")[0]
            print(f"\n{module.rpartition('.')[2]}: {head}\n", *map(summary, group), sep="\n")
        print(f"\n{len(ops)} ops. g is the cotangent of the output; an input with - has no derivative.")
    return 0


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end in silence where the reader, such as head, has seen enough
    sys.exit(main(sys.argv[1:]))
