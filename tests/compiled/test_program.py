"""Arguments and results of a compiled step: layouts, shapes, types, and arrays that it handed out itself."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from steps import CALLS, agrees, assert_same_bits

import tinygrad_vae as tg
from tinygrad_vae.compiled.plan import PlanError


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


LAYOUTS = {
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "reversed": lambda x: x[::-1],
    "Fortran": np.asfortranarray,
    "half of each row": lambda x: x[:, : x.shape[1] // 2],
    "every other column": lambda x: x[:, ::2],
    "permuted": lambda x: np.moveaxis(x.reshape(19, 3, -1), 0, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_arguments_keep_their_layout_in_which_numpy_adds_them_up(layout):
    def step(w, x):
        return w - 0.1 * tg.mean(x), tg.sum(w), tg.sum(x), tg.mean(x, axis=0), tg.sum(x * x + x)

    rng = np.random.default_rng(0)
    run = tg.plan(step, carry=1)
    mine = theirs = layout(rng.normal(size=(57, 66)))
    for _ in range(8):
        x = layout(rng.normal(size=(57, 66)))
        (mine, *found), (theirs, *expected) = run(mine, x), step(theirs, x)
        assert_same_bits([mine, *found], [theirs, *expected])


# ------------------------------------------------------------------- shapes that depend on values

CHANGING = {
    "mask": lambda x: tg.sum(x[x > 0]),
    "gradient of a mask": lambda x: tg.grad(lambda x: tg.sum(tg.square(x[x > 0])))(x),
    "nonzero": lambda x: tg.nonzero(x > 0)[0],
    "unique": lambda x: tg.unique_values(tg.sign(x)),
    "counts": lambda x: tg.unique_counts(tg.sign(x)).counts,
}


@pytest.mark.parametrize("step", CHANGING.values(), ids=CHANGING)
def test_a_shape_that_depends_on_values_is_right_or_refused(step):
    run, refused = tg.plan(step), 0
    for x in ((1, -1, 2), (3, -1, 2), (3, -2, 5), (5, -1, -3), (1, 2, 3), (1, -1, 2)):
        x = np.array(x, np.float64)
        try:
            found = run(x)
        except PlanError as error:
            assert re.search(r"plan: \w+ gave \w+ of shape \(.*\), and .* when it was recorded", str(error))  # noqa: PT017
            refused += 1
        else:
            assert_same_bits(found, step(x))
    assert refused


# --------------------------------------------------------------------- numbers beside booleans


@pytest.mark.parametrize(
    "step",
    [
        lambda m: tg.where(m > 0.5, 1.0, 2.0),
        lambda m: m == 2,
        lambda m: m < 2,
        lambda m: m <= 0.5,
        lambda m: (m * 3 + 1, m + 0.25, m - 2),
        lambda m: tg.maximum(m, 2),
    ],
)
def test_a_number_beside_a_boolean_array_stays_a_number(step):
    agrees(step, *[(m,) for m in np.random.default_rng(0).random((CALLS, 7)) < 0.5])


def test_products_of_three_axes_beside_a_permuted_array():
    def step(x, w):
        return tg.permute_dims(x, (1, 0, 2)) * tg.mean(tg.matmul(x, w))

    rng = np.random.default_rng(0)
    agrees(step, *[(rng.normal(size=(16, 64, 128)), rng.normal(size=(16, 128, 128))) for _ in range(3)])


# --------------------------------------------------------------------------------- two states


def _total(total, x):
    return (total + x,)


def test_two_states_through_one_step_are_refused_and_not_mixed():
    run = tg.plan(_total, carry=1)
    a, b = np.array(0.0), np.array(100.0)
    with pytest.raises(PlanError, match="overwritten since, by a run on another state"):
        for _ in range(CALLS):
            (a,), (b,) = run(a, np.array(1.0)), run(b, np.array(10.0))
    (c,) = run(np.array(5.0), np.array(1.0))  # a new state is fine
    assert c == 6
    (c,) = run(c, np.array(1.0))
    assert c == 7


def test_a_view_of_a_state_that_was_overwritten_is_refused():
    run = tg.plan(_total, carry=1)
    for start in (0.0, 0.0, 0.0):
        (old,) = run(np.full(3, start), np.ones(3))
    (new,) = run(np.full(3, 9.0), np.ones(3))
    for stale in (old, old[:], old[::-1][::-1]):
        with pytest.raises(PlanError, match="keep a copy"):
            run(stale, np.ones(3))
        with pytest.raises(PlanError, match="keep a copy"):
            run(np.zeros(3), stale)
    assert_same_bits(run(new[:], np.ones(3)), [np.full(3, 11.0)])


def test_states_of_several_threads_are_refused_or_right():
    run, steps = tg.plan(_total, carry=1), 50

    def go(start):
        total = np.array(float(start))
        try:
            for _ in range(steps):
                (total,) = run(total, np.array(1.0))
                total = total.copy() if start % 2 else total
        except PlanError:
            return None
        return float(total)

    starts = [1000, 3001, 2000, 5001]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(go, starts))
    assert all(x == start + steps or (x is None and start % 2 == 0) for x, start in zip(found, starts, strict=True))


def test_after_an_error_inside_a_call_its_state_is_refused_and_a_new_one_is_fine():
    def step(state, x):
        new = {"a": state["a"] + 1.0, "b": state["b"] + tg.sum(x)}
        return new, tg.linalg.cholesky(x) + tg.sum(new["a"])

    run, good, bad = tg.plan(step, carry=1), np.eye(2), -np.eye(2)
    state = {"a": np.zeros(2), "b": np.zeros(2)}
    for _ in range(3):
        state, _ = run(state, good)
    kept = tg.trees.map_leaves(np.copy, state)
    with pytest.raises(np.linalg.LinAlgError):
        run(state, bad)
    with pytest.raises(PlanError, match="a run that ended in an error"):
        run(state, good)
    assert_same_bits(run(kept, good), step({"a": np.full(2, 3.0), "b": np.full(2, 6.0)}, good))


def test_a_refused_argument_leaves_the_state_as_it_was():
    run = tg.plan(_total, carry=1)
    for _ in range(3):
        (old,) = run(np.zeros(3), np.ones(3))
    (state,) = run(np.zeros(3), np.ones(3))
    with pytest.raises(PlanError, match="keep a copy"):
        run(state, old)
    assert_same_bits(run(state, np.ones(3)), [np.full(3, 2.0)])
