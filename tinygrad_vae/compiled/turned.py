"""Matrix products that are faster the other way round: ``a @ b`` as the transpose of ``b.T @ a.T``.

It knows the calls of a plan, and nothing of what they are part of. BLAS takes either order, and does not know which is
faster. Where a gradient of few rows goes back through a layer, ``g @ weight.T``, it reads the weights by columns: with
32 rows and 400 x 784 weights that takes 0.2 ms, the other order 0.13. So both are tried on numbers of the same shapes,
and the other one is taken where it is clearly faster and gives the same bits.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Array
from .calls import Call, View

MOST_ROWS = 64
"""Up to how many rows another order may pay: the result is copied from columns to rows."""

LEAST = 2**16
"""From how many elements of the right matrix on it is tried."""

ROUNDS = 7
"""How often each order is timed."""


def with_turned(calls: Sequence[Call]) -> list[Call]:
    """Return the calls, each product in the order that is faster."""
    return [_turned(call) if _may_pay(call) and _pays(*map(_looks, call.reads)) else call for call in calls]


def is_product(call: Any) -> bool:
    """Return whether a call is a matrix product, in one order or the other."""
    return isinstance(call, Call) and call.bare in (np.matmul, product_turned)


def product_turned(scratch: Array, a: Array, b: Array, out: Array) -> None:
    """Put ``a @ b`` into ``out``, by way of its transpose."""
    np.matmul(b.T, a.T, out=scratch)
    np.copyto(out, scratch.T)


def _turned(call: Call) -> Call:
    scratch = np.empty(call.out.like.shape[::-1], call.out.like.dtype)
    return Call(functools.partial(product_turned, scratch), call.args, call.out, elementwise=False)


def _may_pay(call: Call) -> bool:
    if call.function is not np.matmul or not call.out.is_whole or len(call.reads) != 2:
        return False
    a, b = (x.like for x in call.reads)
    by_columns = b.flags.f_contiguous and not b.flags.c_contiguous
    return bool(a.ndim == b.ndim == 2 and by_columns and len(a) <= MOST_ROWS and b.size >= LEAST and a.dtype == b.dtype)


def _looks(x: View) -> tuple[tuple[int, ...], str, str]:
    return x.like.shape, "C" if x.like.flags.c_contiguous else "F", x.like.dtype.char


@functools.lru_cache(maxsize=256)
def _pays(*looks: tuple[tuple[int, ...], Any, str]) -> bool:
    """Return whether the other order takes less time for matrices that look like this, and gives the same bits."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(dtype, order=order) for shape, order, dtype in looks)
    out, other, scratch = a @ b, a @ b, np.empty((b.shape[1], len(a)), a.dtype)
    direct, turned = (
        functools.partial(np.matmul, a, b, out=out),
        functools.partial(product_turned, scratch, a, b, other),
    )
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for product, row in zip((direct, turned), times, strict=True):
            start = time.perf_counter()
            product()
            row.append(time.perf_counter() - start)
    return out.tobytes() == other.tobytes() and min(times[1]) < 0.9 * min(times[0])
