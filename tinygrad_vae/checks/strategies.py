"""Hypothesis strategies for shapes, arrays and the inputs of ops: for tests of the library and of what is built on it.

The only file that imports hypothesis.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Array, Op
from ..domains import REAL, Domain
from ..ops.declare import Case, case
from ..optional import require

require("hypothesis", extra="test")
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import mutually_broadcastable_shapes  # noqa: E402

Shape = tuple[int, ...]


def shapes(max_dims: int = 3, max_side: int = 4) -> st.SearchStrategy[Shape]:
    """Return a strategy for shapes, those without axes and those without elements included.

    >>> shapes().example()  # doctest: +SKIP
    (2, 0, 3)
    """
    return st.lists(st.integers(0, max_side), max_size=max_dims).map(tuple)


def broadcastable_shapes(count: int, max_dims: int = 3, max_side: int = 3) -> st.SearchStrategy[tuple[Shape, ...]]:
    """Return a strategy for ``count`` shapes that broadcast together."""
    drawn = mutually_broadcastable_shapes(num_shapes=count, max_dims=max_dims, max_side=max_side)
    return drawn.map(lambda found: tuple(found.input_shapes))


def arrays(
    domain: Domain = REAL, shape: Shape | st.SearchStrategy[Shape] | None = None, dtype: Any = np.float64
) -> st.SearchStrategy[Array]:
    """Return a strategy for arrays whose elements lie well inside a domain.

    Args:
        domain: where the elements lie.
        shape: a shape or a strategy for it; any shape by default. A domain of vectors needs a last axis.
        dtype: of floats; integers and booleans stay what they are.
    """
    if shape is None:
        shape = shapes().map(lambda drawn: drawn + (3,) * domain.event_ndim)
    chosen = st.just(shape) if isinstance(shape, tuple) else shape

    def draw(drawn: Shape, seed: int) -> Array:
        x = np.asarray(domain.draw(np.random.default_rng(seed), drawn))
        return x.astype(dtype) if x.dtype.kind == "f" else x

    return st.builds(draw, chosen, st.integers(0, 2**32 - 1))


@st.composite
def cases_for(draw: st.DrawFn, op: Op[..., Any]) -> Case:
    """Draw a case for an op: broadcasting shapes for an elementwise one, else one of those that it declares."""
    if op.elementwise:
        return case(*draw(broadcastable_shapes(len(op.input_names), max_dims=2)))
    return draw(st.sampled_from(op.declared.cases))
