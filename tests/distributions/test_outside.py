"""log_prob(x, outside=-inf): probability 0 outside the support, without nan, in graphs that run again too."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standard_errors import DISTRIBUTIONS

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.distributions.outside import reachable

INF = math.inf
BATCH, DRAWS = (3,), 8
every_distribution = pytest.mark.parametrize("family", DISTRIBUTIONS, ids=lambda family: family.__name__)


def points(family, seed):
    """Return a distribution, values of which some lie outside, which do not, and draws in the place of the others."""
    rng = np.random.default_rng(seed)
    d = family.example(rng, BATCH)
    draws = np.asarray(d.sample((DRAWS,), rng=tg.noise(seed)), float)
    x = draws.reshape(DRAWS * BATCH[0], -1).copy()
    for row in x:
        row[rng.integers(row.size)] = rng.choice([row[0], row[0] - 100.0, row[0] + 0.25, -row[0] - 0.1, INF, -INF])
    x = x.reshape(draws.shape)
    inside = reachable(d, x)
    return d, x, inside, np.where(inside.reshape(inside.shape + (1,) * len(d.event_shape)), x, draws)


@every_distribution
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_it_is_log_prob_inside_and_minus_infinity_outside(family, seed):
    d, x, inside, near = points(family, seed)
    assert not inside.all()
    np.testing.assert_array_equal(d.log_prob(x, outside=-INF), np.where(inside, d.log_prob(near), -INF))
    leaf, wrapped = tg.Tensor(x, "x"), tg.wrap(d)
    found = tg.gradients(tg.sum(wrapped.log_prob(leaf, outside=-INF)), [leaf, wrapped])
    leaf, wrapped = tg.Tensor(near, "x"), tg.wrap(d)
    truth = tg.gradients(tg.sum(tg.where(inside, wrapped.log_prob(leaf), 0.0)), [leaf, wrapped])
    for ours, expected in zip(trees.leaves(found), trees.leaves(truth), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


@every_distribution
def test_a_graph_that_runs_again_finds_anew_what_lies_outside(family):
    (d, x, *_), (e, y, *_) = points(family, 0), points(family, 1)

    def function(x, *leaves):
        return trees.replace_leaves(d, leaves).log_prob(x, outside=-INF) + 0.0

    def at(x, d):
        return [tg.Tensor(np.asarray(value, float), "t") for value in (x, *trees.leaves(d))]

    old, new = at(x, d), at(y, e)
    found = tg.replay(function(*old), dict(zip(old, new, strict=True)))
    np.testing.assert_array_equal(found.value, e.log_prob(y, outside=-INF))
    step = tg.plan(function, compiled=False)
    for dist, at_ in ((d, x), (d, x), (e, y)):
        arguments = at_, *(np.asarray(leaf, float) for leaf in trees.leaves(dist))
        np.testing.assert_array_equal(step(*arguments), function(*arguments))


@every_distribution
def test_nan_stays_nan_and_float32_stays_float32(family):
    d = trees.map_leaves(lambda leaf: leaf.astype(np.float32), family.example(np.random.default_rng(5), BATCH))
    x = np.asarray(d.sample(rng=tg.noise(0)), np.float32)
    x[1] = np.nan
    found = d.log_prob(x, outside=-INF)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])


def test_a_random_value_that_may_leave_the_support_has_no_path():
    """E exp(log p(z)) moves as z crosses the end of the support, and the recorded derivative of the step is 0."""
    h, mu = tg.Tensor(1.0, "h"), tg.Tensor(0.5, "mu")
    z = tg.Normal(mu, 1.0).rsample(rng=tg.noise(0))
    for parameter in (mu, h):
        with pytest.raises(tg.InvalidGradientError, match="may_draw jumps"):
            tg.gradients(tg.exp(tg.Uniform(0.0, h).log_prob(z, outside=-INF)), parameter)
    everywhere = tg.Laplace(h, 1.0).log_prob(z, outside=-INF)
    assert tg.gradients(everywhere, mu) == -tg.gradients(everywhere, h)


def test_any_number_may_stand_for_what_lies_outside():
    assert tg.Exponential(2.0).log_prob(-1.0, outside=-1e9) == -1e9
    with pytest.raises(TypeError, match=r"Exponential\.log_prob: x: expected an array or a number"):
        tg.Exponential(2.0).log_prob([1.0], outside=-INF)
    with pytest.raises(ValueError, match="which does not broadcast"):
        tg.Normal(np.zeros(3)).log_prob(np.zeros(4), outside=-INF)
    with pytest.raises(ValueError, match=r"found -1.0; outside=-np\.inf gives it probability 0"):
        tg.Exponential(2.0).log_prob(-1.0)
