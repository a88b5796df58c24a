"""Checks of the input, and error messages in the words of the caller. Skip this file on a first reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .arrays import as_array, describe, is_array


def check_constant(op: Any, x: Any, args: Sequence[Any], attrs: Mapping[str, Any]) -> None:
    """Refuse an input that is neither a Tensor nor an array nor a number: a list, text, an object."""
    try:
        as_array(x)
    except TypeError as error:
        raise of_failed_call(op, error, args, attrs) from None


def check_not_widened(op: Any, values: Sequence[Any]) -> None:
    """Refuse a float64 result of float32 arrays, which NumPy makes silently of float32 and integers."""
    dtypes = [x.dtype for x in values if hasattr(x, "dtype")]
    if not any(d.char == "d" for d in dtypes):
        found = " and ".join(map(str, dtypes))
        raise TypeError(f"{op.name}: {found} would give float64; convert integers with tg.astype(x, numpy.float32)")


def of_failed_call(op: Any, error: Exception, args: Sequence[Any], attrs: Mapping[str, Any]) -> Exception:
    """Return the error of an op's function with the op and its arguments named."""
    lines = [f"{op.name}: {error}"]
    for i, x in enumerate(args):
        if op.variadic or i < len(op.input_names):
            lines.append(f"  {op.input_name(i)}: {describe(getattr(x, 'value', x))}")
        else:
            names = op.attr_names[i - len(op.input_names) :] or op.attr_names[-1:] or [f"argument {i + 1}"]
            lines.append(f"  {names[0]}: {x!r}")
    lines += [f"  {key}: {describe(value) if is_array(value) else repr(value)}" for key, value in attrs.items()]
    kinds = (np.linalg.LinAlgError, IndexError, TypeError, ValueError)
    return next(kind for kind in kinds if isinstance(error, kind))("\n".join(lines))


def check_request(output: Any, targets: Sequence[Any], cotangent: Any, tensor: Any) -> None:
    """Raise if a gradient makes no sense as asked for; ``tensor`` is the class, whose file imports this one."""
    call = "gradients(output, wrt)"
    if not isinstance(output, tensor):
        advice = "wrap the parameters with Tensor(array) before computing it"
        raise TypeError(f"{call}: the output is {describe(output)}, which records nothing; {advice}")
    for t in targets:
        if not isinstance(t, tensor):
            raise TypeError(f"{call}: wrt holds {describe(t)}; pass the Tensors that the output was computed from")
        if t.dtype.kind != "f":
            raise TypeError(f"{call}: {t.name or 'a Tensor'} of wrt holds {t.dtype}; only floats have a gradient")
    if output.dtype.kind != "f":
        raise TypeError(f"{call}: the output holds {output.dtype}; only floats have a gradient")
    if cotangent is None and output.shape != ():
        raise ValueError(
            f"{call}: the output has shape {output.shape}, and only a number has a gradient; "
            "reduce it with tg.mean or tg.sum, give cotangent= for a vector-Jacobian product, or use tg.jacobian"
        )
    if cotangent is not None and cotangent.shape != output.shape:
        raise ValueError(f"{call}: the cotangent has shape {cotangent.shape}, the output has {output.shape}")


def check_reached(targets: Sequence[Any], order: Sequence[Any]) -> None:
    """Raise if the output depends on no target, but on another leaf with the array or the name of one."""
    keys = {id(t.value) for t in targets} | {(t.name, t.shape) for t in targets if t.name}
    twins = [x.name or "unnamed" for x in order if x.op is None and keys & {id(x.value), (x.name, x.shape)}]
    if twins and not any(x is t for x in order for t in targets):
        raise ValueError(
            "gradients(output, wrt): the output does not depend on wrt, but on other Tensors of the same array or name "
            f"({', '.join(twins[:3])}). Was a tree wrapped twice? Pass the Tensors that the output was computed from"
        )
