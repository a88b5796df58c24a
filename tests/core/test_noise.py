"""Noise from outside: streams, and graphs that are run again with the same, with new and with mirrored noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standard_errors import DISTRIBUTIONS, calm
from strategies import shapes

import tinygrad_vae as tg
from tinygrad_vae.core import trees

SEEDS = st.integers(0, 2**64)
every_distribution = pytest.mark.parametrize("family", DISTRIBUTIONS, ids=lambda family: family.__name__)


def drawn(family, seed=0, shape=(4,)):
    """Return a draw from a distribution with Tensors for parameters."""
    return tg.wrap(family.example(np.random.default_rng(seed))).sample(shape, rng=tg.noise(seed), name="z")


# ------------------------------------------------------------------------------------------- streams


@given(seed=SEEDS, shape=shapes())
def test_a_stream_is_a_function_of_its_seed_and_of_where_it_stands(seed, shape):
    a, b = tg.noise(seed), tg.noise(seed)
    a.normal((100,))  # how much was drawn before does not matter, only how often
    b.uniform(())
    np.testing.assert_array_equal(a.normal(shape), b.normal(shape))
    np.testing.assert_array_equal(a.at("step", 7).uniform(shape), b.at("step", 7).uniform(shape))


def test_places_and_seeds_have_streams_of_their_own():
    stream = tg.noise(0)
    streams = [stream, tg.noise(1), stream.at("a"), stream.at("b"), stream.at(0), stream.at(1), stream.at("a", 0)]
    assert len({float(s.normal()) for s in streams}) == len(streams)
    assert len({float(stream.normal()) for _ in range(10)}) == 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_noise_is_never_0_or_1_and_its_mirror_is_exact(dtype):
    u = tg.noise(0).uniform((300_000,), dtype)
    steps = 2.0 ** (23 if dtype == np.float32 else 52)
    assert u.dtype == dtype
    assert u.min() >= 0.5 / steps
    assert u.max() <= 1 - 0.5 / steps
    np.testing.assert_array_equal(1 - (1 - u), u)


@pytest.mark.parametrize("seed", [1.5, "0", None, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(TypeError, match=r"noise\(seed\) takes a whole number, found"):
        tg.noise(seed)


# -------------------------------------------------------------------------------------------- replay


@every_distribution
def test_the_same_noise_gives_the_very_same_node(family):
    z = drawn(family)
    assert tg.replay(z, {}) is z
    np.testing.assert_array_equal(tg.replay(z, {z.noise: z.noise.value.copy()}).value, z.value)


@every_distribution
def test_new_noise_gives_the_draw_that_belongs_to_it(family):
    z = drawn(family)
    other = (
        tg.noise(99).uniform(z.noise.shape) if z.noise.dist.name == "U(0, 1)" else tg.noise(99).normal(z.noise.shape)
    )
    again = tg.replay(z * 2.0, {z.noise: other})
    np.testing.assert_array_equal(again.value, 2.0 * z.dist.transform(other).value)
    assert isinstance(again.inputs[0], tg.Sample)
    assert again.inputs[0].line == z.line


@every_distribution
def test_other_parameters_with_the_same_noise_give_the_draw_of_that_distribution(family):
    z = drawn(family)
    other = family.example(np.random.default_rng(1))
    swaps = dict(zip(trees.leaves(z.dist), tg.trees.leaves(other), strict=True))
    np.testing.assert_array_equal(tg.replay(z, swaps).value, other.transform(z.noise.value))


@every_distribution
def test_mirrored_noise_follows_the_same_distribution_and_its_mirror_is_where_one_started(family):
    z = drawn(family)
    mirrored = z.noise.mirrored()
    assert mirrored.dist is z.noise.dist
    np.testing.assert_array_equal(mirrored.mirrored().value, z.noise.value)
    assert not np.array_equal(mirrored.value, z.noise.value)


@pytest.mark.parametrize("family", [tg.Normal, tg.Laplace, tg.Logistic], ids=lambda family: family.__name__)
def test_an_antithetic_pair_of_a_symmetric_distribution_lies_around_its_mean(family):
    z = drawn(family)
    pair = [z.value, tg.replay(z, {z.noise: z.noise.mirrored()}).value]
    np.testing.assert_allclose(np.mean(pair, 0), np.full(4, z.dist.mean.value), rtol=1e-9)


def test_noise_keeps_its_shape_and_a_node_of_another_graph_is_refused():
    z = drawn(tg.Normal)
    with pytest.raises(ValueError, match=r"this noise has shape \(4,\), found numbers of shape \(5,\)"):
        tg.replay(z, {z.noise: np.zeros(5)})
    with pytest.raises(ValueError, match="is not part of the graph"):
        tg.replay(z, {drawn(tg.Normal).noise: np.zeros(4)})


# ------------------------------------------------------------- the choices on the noise, for every distribution

SCRAMBLES, POINTS = 40, 64
CHOICES = {
    "redrawn": lambda cost, noise, rng: tg.replay(cost, {noise: noise.redrawn(rng)}),
    "antithetic": lambda cost, noise, rng: (
        lambda fresh: 0.5 * (tg.replay(cost, {noise: fresh}) + tg.replay(cost, {noise: fresh.mirrored()}))
    )(noise.redrawn(rng)),
    "sobol": lambda cost, noise, rng: tg.replay(cost, {noise: noise.sobol(rng)}),
    "sobol, antithetic": lambda cost, noise, rng: tg.replay(cost, {noise: noise.sobol(rng).mirrored()}),
}


def bounded_mean(family, points=POINTS):
    """Return a cost whose mean every distribution has, tails or not, and the noise that it is a function of."""
    z = tg.wrap(calm(family)).sample((points,), rng=tg.noise(7), name="z")
    x = tg.astype(z, np.float64)
    weights = np.linspace(1.0, 2.0, int(np.prod(x.shape[1:]))).reshape(x.shape[1:])
    return tg.mean(tg.tanh(0.5 * (x * weights))), z.noise


@every_distribution
def test_every_choice_of_noise_leaves_the_expectation_of_every_distribution_where_it_is(family):
    cost, noise = bounded_mean(family)
    rng = tg.noise(3)
    values = {
        name: [choice(cost, noise, rng.at(name, k)).value for k in range(SCRAMBLES)] for name, choice in CHOICES.items()
    }
    reference = values.pop("redrawn")
    for name, found in values.items():
        spread = np.hypot(np.std(found), np.std(reference)) / np.sqrt(SCRAMBLES - 1)
        assert abs(np.mean(found) - np.mean(reference)) <= 4.5 * spread + 1e-12, name
    assert np.var(values["sobol"]) <= 0.5 * np.var(reference), "a Sobol sequence spreads more evenly than chance"
    fresh = noise.redrawn(rng)
    assert tg.replay(cost, {noise: fresh.value}).value == tg.replay(cost, {noise: fresh}).value


def test_the_points_of_a_sobol_sequence_fill_every_interval_and_have_independent_coordinates():
    u = tg.noise(0).sobol((256, 3))
    for k in range(3):
        np.testing.assert_array_equal(np.sort((u[:, k] * 256).astype(int)), np.arange(256))
    for dtype in (np.float32, np.float64):
        points = tg.noise(1).sobol((100, 2), dtype)
        assert points.dtype == dtype
        assert points.shape == (100, 2)
        assert 0 < points.min() < points.max() < 1
        np.testing.assert_array_equal(1 - (1 - points), points)
        assert np.isfinite(tg.noise(1).sobol((100, 2), dtype, normal=True)).all()
    assert tg.noise(0).sobol((0, 2)).shape == (0, 2)
    assert not np.array_equal(tg.noise(0).sobol((8,)), tg.noise(1).sobol((8,)))
    np.testing.assert_array_equal(tg.noise(0).sobol((8,)), tg.noise(0).sobol((8,)))


def test_a_single_draw_is_no_sequence_and_a_vector_is_a_single_draw():
    for dist in (tg.Normal(tg.Tensor(0.0), 1.0), tg.MultivariateNormal(tg.Tensor(np.zeros(3)), np.eye(3))):
        z = dist.sample(rng=tg.noise(0), name="z")
        with pytest.raises(ValueError, match=r"noise of z of shape \(3?,?\) has no axis that counts draws"):
            z.noise.sobol(tg.noise(1))


def test_draws_that_are_not_independent_are_not_weighed_together():
    mu = tg.Tensor(np.full((2048, 1), 2.0), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")  # a sequence of 2048 points
    cost = tg.replay(z * z, {z.noise: z.noise.sobol(tg.noise(1))})
    with pytest.raises(tg.InvalidGradientError, match=r"not independent of each other \(a Sobol sequence"):
        tg.score_function(tg.mean(cost))
    with pytest.raises(tg.InvalidGradientError, match="not independent of each other"):
        tg.estimate(tg.mean(cost), {"z": tg.MeasureValued(tg.noise(2))})
    with pytest.raises(tg.InvalidGradientError, match="the others are no baseline"):
        tg.estimate(cost, {"z": "leave-one-out"})
    exact = tg.gradients(tg.mean(tg.reparameterize(cost)), mu).sum()
    assert abs(exact - 4) < 1e-3
    for weighed in (tg.mean(tg.score_function(cost)), tg.ScoreFunction(credit="downstream")(tg.mean(cost))):
        assert abs(tg.gradients(weighed, mu).sum() - 4) < 0.3


def test_a_sobol_sequence_is_drawn_anew_in_every_run_of_a_plan():
    def step(mu, rng):
        z = tg.Normal(mu, 1.0).sample((8,), rng=rng, name="z")
        even = tg.replay(z, {z.noise: z.noise.sobol(rng)})
        return tg.gradients(tg.reparameterize(tg.mean(z * even)), mu, record=True)

    run, mu = tg.plan(step), np.array(1.5)
    planned, eager = tg.noise(3), tg.noise(3)
    for _ in range(4):
        np.testing.assert_array_equal(run(mu, planned), step(tg.Tensor(mu), eager).value)


def test_a_draw_whose_noise_was_swapped_for_a_constant_still_blocks():
    z = drawn(tg.Normal)
    fixed = tg.replay(tg.sum(z), {z.noise: tg.Tensor(np.zeros(4))})
    with pytest.raises(tg.BlockedGradientError):
        tg.gradients(fixed, trees.leaves(z.dist))


PARTS = st.one_of(
    st.integers(0, 2**70),
    st.integers(2**31 - 3, 2**31 + 3),
    st.text(max_size=12),
)


@given(a=st.lists(PARTS, max_size=4), b=st.lists(PARTS, max_size=4))
def test_different_places_have_different_numbers(a, b):
    if a != b:
        assert not (tg.noise(0).at(*a).uniform((2,)) == tg.noise(0).at(*b).uniform((2,))).any()


@pytest.mark.parametrize(
    ("a", "b"),
    [(("step", 114), ("steps",)), (("step1",), ("step", 1)), (("1",), (1,)), ((11,), (1, 1)), (("a\0",), ("a",))],
)
def test_places_that_look_alike_have_different_numbers(a, b):
    assert not (tg.noise(0).at(*a).uniform((2,)) == tg.noise(0).at(*b).uniform((2,))).any()


@pytest.mark.parametrize("seed", [0, 2**32, 2**128, 2**128 + 1, 10**60])
def test_a_seed_may_be_of_any_length(seed):
    one, other = tg.noise(seed).uniform((2,)), tg.noise(seed + 2**128).uniform((2,))
    assert not (one == other).any()
    np.testing.assert_array_equal(one, tg.noise(seed).uniform((2,)))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.str_])
def test_a_place_named_by_numpy_is_the_same_as_one_named_by_python(kind):
    np.testing.assert_array_equal(tg.noise(0).at(kind(7)).normal((2,)), tg.noise(0).at(kind(7).item()).normal((2,)))


def test_what_counts_from_zero_is_not_negative():
    with pytest.raises(ValueError, match="from 0 on, found -1"):
        tg.noise(-1)
    with pytest.raises(ValueError, match="from 0 on, found -1"):
        tg.noise(0).at("step", -1)
