"""Draws that the dtype rounds so far that the density is no longer theirs."""

import numpy as np
import pytest
from standard_errors import DISTRIBUTIONS

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.distributions.support import lost_to_rounding

DRAWS = 20_000


def weighed(make, value, dtype):
    p = tg.Tensor(np.full(DRAWS, value, dtype), "p")
    z = make(p).sample(rng=tg.noise(0), name="z")
    return p, tg.score_function(tg.log(1 + tg.abs(z)))


@pytest.mark.parametrize(
    ("make", "value", "dtype", "words"),
    [
        (lambda p: tg.Pareto(concentration=p, scale=1.0), 0.05, np.float32, "most extreme"),
        (lambda p: tg.StudentT(p, 0.0, 1.0), 0.1, np.float32, "most extreme"),
        (lambda p: tg.StudentT(p, 0.0, 1.0), 0.01, np.float64, "most extreme"),
        (lambda p: tg.InverseGamma(p, 1.0), 0.05, np.float32, "most extreme"),
        (lambda p: tg.Normal(p, 0.03), 1e6, np.float32, "coarse grid"),
        (lambda p: tg.Normal(p, 1.0), 1e16, np.float64, "coarse grid"),
        (lambda p: tg.Laplace(p, 0.03), 1e6, np.float32, "coarse grid"),
        (lambda p: tg.Beta(0.3, p), 0.1, np.float32, "edge"),
    ],
)
def test_a_score_function_of_rounded_draws_is_refused(make, value, dtype, words):
    p, cost = weighed(make, value, dtype)
    with pytest.raises(tg.InvalidGradientError, match=words):
        tg.gradients(tg.sum(cost), p)


def test_a_heavy_tail_that_the_dtype_can_hold_is_weighed():
    p = tg.Tensor(np.full(DRAWS, 0.05), "p")
    z = tg.Pareto(concentration=p, scale=1.0).sample(rng=tg.noise(0), name="z")
    g = tg.gradients(tg.sum(tg.score_function(tg.log(z))), p)
    assert abs(g.mean() + 400) < 4.5 * g.std() / np.sqrt(DRAWS)  # E log z = 1 / p


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "family", [family for family in DISTRIBUTIONS if family is not tg.Delta], ids=lambda family: family.__name__
)
def test_ordinary_draws_are_no_false_alarm(family, dtype):
    d = trees.map_leaves(lambda x: np.asarray(x, dtype), family.example(np.random.default_rng(1), (3,)))
    assert lost_to_rounding(d, np.asarray(d.sample((2000,), rng=tg.noise(0)))) == ""


@pytest.mark.parametrize("shape", [(5, 2), (8, 3), (50, 20)])
def test_a_few_vectors_are_no_false_alarm(shape):
    loc = tg.Tensor(np.zeros(shape, np.float32), "loc")
    z = tg.Independent(tg.Normal(loc, 1.0), 1).sample(rng=tg.noise(0), name="z")
    g = tg.gradients(tg.sum(tg.score_function(tg.sum(z**2, axis=-1))), loc)
    assert np.allclose(g, np.sum(z.value**2, axis=-1, keepdims=True) * z.value, rtol=1e-5)
