"""Every op keeps what it declares, on shapes that hypothesis draws too, and has the values of NumPy and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_vae as tg
from tinygrad_vae.checks import check_case, check_op
from tinygrad_vae.testing import cases_for

OWN = [op for op in tg.OPS.values() if op.__module__.startswith("tinygrad_vae.ops.")]
ELEMENTWISE = [op for op in OWN if op.elementwise]


@pytest.mark.parametrize("op", OWN, ids=lambda op: op.name)
def test_op_keeps_its_promises(op):
    check_op(op)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_elementwise_op_on_drawn_shapes(op):
    @settings(max_examples=5, deadline=None, derandomize=True, database=None)
    @given(cases_for(op), st.integers(0, 1000))
    def holds(trial, seed):
        check_case(op, trial, np.random.default_rng(seed))

    holds()
