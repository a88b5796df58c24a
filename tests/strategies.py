"""Hypothesis strategies for shapes, arrays and the inputs of ops."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from tinygrad_vae.domains import REAL
from tinygrad_vae.ops.declare import case


def shapes(max_dims=3, max_side=4):
    """Return a strategy for shapes, those without axes and those without elements included."""
    return st.lists(st.integers(0, max_side), max_size=max_dims).map(tuple)


def broadcastable_shapes(count, max_dims=3, max_side=3):
    """Return a strategy for ``count`` shapes that broadcast together."""
    drawn = mutually_broadcastable_shapes(num_shapes=count, max_dims=max_dims, max_side=max_side)
    return drawn.map(lambda found: tuple(found.input_shapes))


def arrays(domain=REAL, shape=None, dtype=np.float64):
    """Return a strategy for arrays in a domain: floats in this dtype, integers and booleans as they are."""
    if shape is None:
        shape = shapes().map(lambda drawn: drawn + (3,) * domain.event_ndim)
    chosen = st.just(shape) if isinstance(shape, tuple) else shape

    def draw(drawn, seed):
        x = np.asarray(domain.draw(np.random.default_rng(seed), drawn))
        return x.astype(dtype) if x.dtype.kind == "f" else x

    return st.builds(draw, chosen, st.integers(0, 2**32 - 1))


@st.composite
def cases_for(draw, op):
    """Draw a case for an op: broadcasting shapes for an elementwise one, else one of those that it declares."""
    if op.elementwise:
        return case(*draw(broadcastable_shapes(len(op.input_names), max_dims=2)))
    return draw(st.sampled_from(op.declared.cases))
