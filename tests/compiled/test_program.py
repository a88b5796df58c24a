"""How a compiled step meets its arguments: their layouts, and arrays that it handed out itself."""

import numpy as np
import pytest
from steps import CALLS, assert_same_bits

import tinygrad_vae as tg


def _layouts():
    """The same numbers in arrays that a plan may read where they lie, and in some that it may not."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    locked = x.copy()
    locked.flags.writeable = False
    shifted = np.frombuffer(bytearray(1 + x.nbytes), np.uint8)[1:].view(np.float32).reshape(3, 4)
    shifted[...] = x
    assert not shifted.flags.aligned
    swapped = x.astype(x.dtype.newbyteorder())
    return [x, locked, shifted, swapped, np.arange(24, dtype=np.float32).reshape(3, 8)[:, ::2] / 2, x.copy()]


@pytest.mark.parametrize("compiled", [False, None])
def test_an_argument_is_read_where_it_lies_or_copied_and_the_numbers_are_the_same(compiled):
    def step(w, x):
        return w + tg.mean(x, axis=0), tg.relu(x @ w) * 2.0, x[1:] * 3.0

    run = tg.plan(step, carry=1, compiled=compiled)
    mine = theirs = np.ones(4, np.float32)
    for x in [*_layouts(), *_layouts()[::-1]] * 3:
        kept = x.copy()
        (mine, *found), (theirs, *expected) = run(mine, x), step(theirs, x)
        assert_same_bits([mine, *found], [theirs, *expected])
        np.testing.assert_array_equal(x, kept)
        if x.flags.writeable:
            x[...] = -1  # what the caller does with it afterwards is no matter


def test_an_argument_that_is_handed_out_again_is_a_copy():
    run = tg.plan(lambda x, y: (x, x.T, y * 2.0))
    for seed in range(CALLS):
        x, y = np.random.default_rng(seed).normal(size=(2, 3, 4))
        same, turned_round, _ = run(x, y)
        same[...] = 0
        turned_round[...] = 0
        assert x.all()


def test_an_argument_that_lies_in_what_the_plan_changes_is_read_as_it_was():
    def step(w, x):
        return w * 0.5 + tg.sum(x), x * 2.0

    run = tg.plan(step, carry=1)
    w, eager = np.ones(4), np.ones(4)
    for _ in range(CALLS):
        expected = step(eager, eager[1:])
        found = run(w, w[1:])
        assert_same_bits(found, expected)
        w, eager = found[0], expected[0]
