"""Second derivatives along the path of every distribution are allowed, and agree with differences of first ones."""

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.distributions.distribution import DISTRIBUTIONS

WITH_PATH = [d for d in DISTRIBUTIONS.values() if d.path is not None and d.__module__.startswith("tinygrad_vae")]


@pytest.mark.parametrize("family", WITH_PATH, ids=lambda family: family.__name__)
def test_the_second_derivative_of_a_path_is_the_slope_of_the_first(family):
    rng = np.random.default_rng(2)
    dist = family.example(rng, (3,))
    if dist.path is None:
        pytest.skip("these have no path")
    values = [np.asarray(x, np.float64) for x in trees.leaves(dist)]
    direction = [x * rng.uniform(0.2, 1.0, x.shape) for x in values]  # zeros stay, and so does the sign

    def first(step, record=False):
        theta = [tg.Tensor(x + step * v) for x, v in zip(values, direction, strict=True)]
        z = trees.replace_leaves(dist, theta).rsample(rng=tg.noise(4), name="z")
        g = tg.gradients(tg.sum(tg.atan(z)), theta, record=record)  # heavy tails
        return theta, g

    theta, g = first(0.0, record=True)
    found = tg.gradients(sum(tg.sum(a * v) for a, v in zip(g, direction, strict=True)), theta)
    h = 1e-5
    for exact, up, down in zip(found, first(h)[1], first(-h)[1], strict=True):
        np.testing.assert_allclose(exact, (up - down) / (2 * h), rtol=1e-4, atol=1e-4 * (1 + np.max(abs(exact))))
