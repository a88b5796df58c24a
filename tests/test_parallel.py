"""A step on several ranks gives the bits of a step on one."""

import re

import mpi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_vae as tg

X = tg.noise(0).normal((23, 3))


def moments(w, batch, rng):
    """Means over examples: exact, of a batch of several arrays, and one with noise, in two dtypes."""
    x, y = batch
    draws = rng.normal(x.shape).mean(0)
    return {"x": (x * w).mean(0), "y": y.mean(0).astype(np.float32), "draws": draws}


@settings(deadline=None)
@given(blocks=st.integers(1, 23), n=st.integers(1, 23))
def test_blocks_add_up_to_the_batch(blocks, n):
    batch = X[:n], X[:n, :2]
    average = tg.parallel(moments, blocks=blocks)
    if n < blocks:
        with pytest.raises(ValueError, match=f"a batch of {n} examples cannot be cut into {blocks} blocks"):
            average(2.0, batch, tg.noise(1))
        return
    found = average(2.0, batch, tg.noise(1))
    np.testing.assert_allclose(found["x"], 2 * X[:n].mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found["y"], X[:n, :2].mean(0), rtol=1e-5, atol=1e-6)
    assert found["y"].dtype == np.float32
    edges = [k * n // blocks for k in range(blocks + 1)]
    sizes = np.diff(edges)
    noise = [tg.noise(1).at("block", k).normal((size, 3)).sum(0) for k, size in enumerate(sizes)]
    np.testing.assert_allclose(found["draws"], sum(noise) / n, rtol=1e-12, atol=1e-14)


def test_a_plan_gives_the_bits_of_the_function():
    def slope(w, x, rng):
        return tg.value_and_grad(lambda w: tg.mean(tg.Normal(x @ w, 1.0).rsample(rng=rng) ** 2))(w)

    plain, planned = (tg.parallel(slope, blocks=4, compiled=compiled) for compiled in (False, True))
    w = v = np.ones(3)
    for step in range(5):
        expected, found = (f(x, X, tg.noise(2).at(step)) for f, x in ((plain, w), (planned, v)))
        assert expected[0] == found[0]
        w, v = w - 0.1 * expected[1], v - 0.1 * found[1]
        assert (w == v).all()


@pytest.mark.parametrize(("f", "words"), [(lambda *_: np.arange(3), "int64"), (print, "")])
def test_what_is_no_mean_of_floats_is_refused(f, words):
    with pytest.raises(TypeError, match=f"f must return a tree of float arrays.*found.*{words}"):
        tg.parallel(f, blocks=2)(None, X, tg.noise(0))


@pytest.mark.parametrize("blocks", [0, 2.0, True, "8"])
def test_a_number_of_blocks_that_is_none_is_refused(blocks):
    with pytest.raises(ValueError, match="blocks must be a whole number"):
        tg.parallel(moments, blocks=blocks)


PROGRAM = """
import hashlib, sys
import numpy as np
import tinygrad_vae as tg
from tinygrad_vae.parallel import world

X = tg.noise(0).normal((64, 300)).astype(np.float32)

def slope(w, x, rng):
    return tg.value_and_grad(lambda w: tg.mean(tg.tanh(x @ w + rng.normal((len(x), 50), np.float32)) ** 2))(w)

digest = hashlib.sha256()
for blocks in range(world().size, 18):
    if blocks >= 8:
        value, gradient = tg.parallel(slope, blocks=blocks)(np.ones((300, 50), np.float32), X, tg.noise(blocks))
        digest.update(value.tobytes() + gradient.tobytes())

def fails_on_the_last(w, x, rng):
    if world().rank == world().size - 1:
        raise KeyError(f"of rank {world().rank}")
    return np.zeros(1)

try:
    tg.parallel(fails_on_the_last, blocks=8)(None, X, tg.noise(0))
except KeyError as error:
    found = str(error)
try:
    tg.parallel(slope, blocks=world().size - 1)
except ValueError as error:
    found += str(error)
sys.stdout.write(f"{world().rank} {digest.hexdigest()} {found}\\n")
"""


@mpi.needs_mpi
@pytest.mark.parametrize("ranks", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (3, 4, 8))])
def test_all_ranks_hold_the_bits_of_one_and_the_error_of_any(ranks):
    alone, together = (mpi.run(n, "-c", PROGRAM)[0].splitlines() for n in (1, ranks))
    expected = alone[0].split()[1]
    rows = sorted(together)
    assert [row.split()[:2] for row in rows] == [[str(rank), expected] for rank in range(ranks)]
    for row in rows:
        assert f"of rank {ranks - 1}" in row
        assert re.search(f"no less than the number of ranks, {ranks}; found {ranks - 1}.*start fewer ranks", row)
