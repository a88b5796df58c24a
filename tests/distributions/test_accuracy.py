"""Digits: large parameters, small tails, the ends of supports, float32, arguments that make no sense."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from standard_errors import DISTRIBUTIONS, assert_agrees

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.distributions.distribution import Distribution

exponents = st.floats(6, 15)
with_cdf = [family for family in DISTRIBUTIONS if family.cdf is not Distribution.cdf]
with_icdf = [family for family in DISTRIBUTIONS if family.icdf is not Distribution.icdf]
with_path = [family for family in DISTRIBUTIONS if family.example(np.random.default_rng(0)).path]


def every(distributions):
    return pytest.mark.parametrize("family", distributions, ids=lambda family: family.__name__)


def example(family, seed=0):
    return family.example(np.random.default_rng(seed))


# ------------------------------------------------------------------------------------ large parameters

ALMOST_NORMAL = {
    "Gamma": lambda n: tg.Gamma(n),
    "Chi2": lambda n: tg.Chi2(n),
    "InverseGamma": lambda n: tg.InverseGamma(n + 3, n),
    "Beta": lambda n: tg.Beta(n, 2 * n),
    "Dirichlet": lambda n: tg.Dirichlet(np.array([n, 2 * n])),
    "Poisson": lambda n: tg.Poisson(n),
    "Binomial": lambda n: tg.Binomial(np.floor(n), probs=0.3),
    "NegativeBinomial": lambda n: tg.NegativeBinomial(successes=n, probs=0.3),
    "StudentT": lambda n: tg.StudentT(n),
    "VonMises": lambda n: tg.VonMises(0.0, n),
}


@pytest.mark.parametrize("name", ALMOST_NORMAL)
@given(exponent=exponents)
@settings(max_examples=10, deadline=None)
def test_entropies_at_large_parameters_are_gaussian(name, exponent):
    """The difference to log(2 pi e variance) / 2 falls at least as fast as the inverse of the parameter."""
    d = ALMOST_NORMAL[name](10.0**exponent)
    variance = np.ravel(d.variance)[0]
    assert d.entropy() == pytest.approx(0.5 * np.log(2 * np.pi * np.e * variance), abs=20 * 10.0**-exponent + 1e-8)


@pytest.mark.parametrize("name", [name for name in ALMOST_NORMAL if name not in ("Dirichlet", "StudentT", "VonMises")])
@given(exponent=exponents, distance=st.floats(-3, 3))
@settings(max_examples=10, deadline=None)
def test_log_densities_at_large_parameters_are_gaussian(name, exponent, distance):
    d = ALMOST_NORMAL[name](10.0**exponent)
    x = d.mean + distance * np.sqrt(d.variance)
    x = np.floor(x) if d.support.discrete else x
    truth = tg.Normal(d.mean, np.sqrt(d.variance)).log_prob(x)
    rounding = 1e-15 * d.mean / np.sqrt(d.variance)  # of x, in standard deviations
    assert d.log_prob(x) == pytest.approx(truth, abs=50 * 10.0 ** (-exponent / 2) + 10 * rounding)


@pytest.mark.parametrize("name", [name for name in ALMOST_NORMAL if name not in ("Dirichlet", "StudentT", "VonMises")])
@given(exponent=st.floats(0, 7), distance=st.floats(-2, 2))
@settings(max_examples=20, deadline=None)
def test_float32_log_densities_are_those_of_float64(name, exponent, distance):
    narrow = trees.map_leaves(lambda x: np.asarray(x, np.float32), ALMOST_NORMAL[name](10.0**exponent))
    wide = trees.map_leaves(lambda x: x.astype(np.float64), narrow)
    x = np.clip(wide.mean + distance * np.sqrt(wide.variance), *(1e-3, 0.999) if name == "Beta" else (1e-3, None))
    x = np.float32(np.floor(x) if wide.support.discrete else x)
    slope = abs(distance) * 4e-7 * float(np.abs(wide.mean) / np.sqrt(wide.variance))  # of what rounding does to x
    assert narrow.log_prob(x) == pytest.approx(float(wide.log_prob(np.float64(x))), rel=2e-5, abs=1e-4 + slope)


@given(exponent=st.floats(1, 12))
@settings(max_examples=20, deadline=None)
def test_variances_of_narrow_distributions_keep_their_digits(exponent):
    n = 10.0**exponent
    tail = 2 / n
    assert tg.Weibull(concentration=n).variance * n**2 == pytest.approx(np.pi**2 / 6, rel=2 * tail)
    assert tg.Kumaraswamy(n, 1.0).variance * n**2 == pytest.approx(1.0, rel=4 * tail)
    narrow = tg.TruncatedNormal(0.3, 2.0, 0.0, 1 / n)
    assert narrow.variance * 12 * n**2 == pytest.approx(1.0, rel=tail)
    assert narrow.mean * n == pytest.approx(0.5, rel=tail)
    assert narrow.entropy() == pytest.approx(-np.log(n), abs=tail)
    uniform = tg.kl_divergence(narrow, tg.Uniform(0.0, 2 / n))
    assert uniform == pytest.approx(np.log(2), abs=tail)


@pytest.mark.parametrize(
    ("found", "truth"),
    [  # mpmath, 50 digits
        (tg.Poisson(1e12).entropy(), 15.2344490912),
        (tg.NegativeBinomial(successes=2.0, probs=1e-4).entropy(), 10.7875060259),
        (tg.Binomial(1e6, probs=1e-5).entropy(), 2.56140519542),
        (tg.TruncatedNormal(0.0, 1.0, 30.0, 31.0).variance, 0.0011037715118352825),
        (tg.kl_divergence(tg.Gamma(1e15), tg.Gamma(1e15 + 1e8)), 5.0),
    ],
)
def test_some_known_numbers(found, truth):
    assert found == pytest.approx(truth, rel=1e-6)


# ------------------------------------------------------------------------------- tails and arguments


@given(size=st.floats(0.5, 300), part=st.floats(0.02, 0.9))
@settings(max_examples=30, deadline=None)
def test_lower_tails_keep_their_digits(size, part):
    k, near, normal = np.floor(part * size), -1 + 1e-9 * part, scipy.stats.norm()
    pairs = [
        (tg.Poisson(size).cdf(k), scipy.stats.poisson(size).cdf(k)),
        (tg.InverseGamma(size).cdf(part / size), scipy.special.gammaincc(size, size / part)),
        (tg.StudentT(size).cdf(-10 * part), scipy.stats.t(size).cdf(-10 * part)),
        (tg.StudentT(10 * size).cdf(-30.0), scipy.stats.t(10 * size).cdf(-30.0)),
        (
            tg.TruncatedNormal(0.0, 1.0, -1.0, 3.0).cdf(near),
            (near + 1) * normal.pdf(-1) / (normal.cdf(3) - normal.cdf(-1)),
        ),
    ]
    for found, truth in pairs:
        assert found == pytest.approx(truth, rel=1e-7, abs=1e-300)


@every(with_cdf)
def test_a_cdf_of_nan_is_nan(family):
    assert np.isnan(example(family).cdf(np.array(np.nan)))


@every(with_cdf)
def test_a_cdf_is_0_below_the_support_and_1_above(family):
    for seed in range(5):
        d = example(family, seed)
        low, high = d.support.bounds if family is not tg.Delta else (d.value, d.value)
        if np.isfinite(low):
            edge = [low - 1e-6, low - 1.0] if d.support.discrete else [low, low - 1e-6, low - 1.0]
            np.testing.assert_array_equal([d.cdf(np.asarray(x, float)) for x in edge], np.zeros(len(edge)))
        if np.isfinite(high):
            np.testing.assert_array_equal([d.cdf(np.asarray(x, float)) for x in (high, high + 1.0)], np.ones(2))


@pytest.mark.parametrize("base", [tg.Cauchy(), tg.Logistic(0.0, 100.0), tg.Normal(-700.0, 10.0)])
@pytest.mark.parametrize(("f", "low", "high"), [("Exp", 0.0, None), ("Sigmoid", 0.0, 1.0), ("Tanh", -1.0, 1.0)])
def test_a_transformed_cdf_ends_where_the_image_does(base, f, low, high):
    d = tg.Transformed(base, getattr(tg.bijections, f)())
    assert (d.cdf(low), d.cdf(low - 1.0)) == (0.0, 0.0)
    assert high is None or (d.cdf(high), d.cdf(high + 1.0)) == (1.0, 1.0)


@every(with_icdf)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_there_is_no_quantile_of_what_is_no_probability(family):
    for p in (-0.1, 1.1, np.nan):
        assert np.isnan(example(family).icdf(p)).all()


@every([family for family in with_icdf if example(family).support.discrete])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_a_quantile_of_counts_is_the_smallest_count_that_reaches_the_probability(family, seed):
    d, p = example(family, seed), np.random.default_rng(seed).uniform(0.01, 0.99, 20)
    k = d.icdf(p)
    assert np.all((d.cdf(k) >= p) & (d.cdf(k - 1) < p))
    np.testing.assert_array_equal(d.icdf(d.cdf(k)), k)


# ------------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize(
    "d",
    [tg.Beta(1000.0, 10_000.0), tg.Beta(10.0, 1e5), tg.Gamma(1e6), tg.Binomial(1e6, probs=0.3), tg.StudentT(0.5)],
    ids=repr,
)
def test_float32_draws_are_those_of_float64(d):
    narrow = trees.map_leaves(lambda x: np.asarray(x, np.float32), d)
    x = narrow.sample((5000,), rng=tg.noise(0))
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert scipy.stats.kstest(d.cdf(x.astype(float)), "uniform").pvalue > 1e-3
    np.testing.assert_allclose(narrow.cdf(x), d.cdf(x.astype(float)), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_path_of_a_large_gamma_draw_moves_with_its_mean(dtype):
    a = tg.Tensor(np.full(5000, 1e6, dtype), "a")
    draws = tg.reparameterize(tg.Gamma(a, dtype(1)).sample(rng=tg.noise(0)))
    assert_agrees(tg.gradients(tg.sum(draws), a), 1.0, rounding=1e-4)


def test_a_rate_of_0_gives_no_event():
    rate = tg.Tensor(np.zeros(3), "rate")
    d = tg.Poisson(rate)
    np.testing.assert_array_equal(d.sample((4,), rng=tg.noise(0)).value, np.zeros((4, 3)))
    with np.errstate(divide="ignore"):
        log_p = d.log_prob(np.array([0.0, 0.0, 2.0]))
    np.testing.assert_array_equal(log_p.value, [0.0, 0.0, -np.inf])
    np.testing.assert_array_equal(tg.gradients(tg.sum(log_p[:2]), rate), [-1.0, -1.0, 0.0])


@every(with_path)
def test_a_path_can_be_differentiated_twice(family):
    d = tg.wrap(family.example(np.random.default_rng(0), (3,)))
    leaves = trees.leaves(d)
    z = d.rsample(rng=tg.noise(0), name="z")
    first = tg.gradients(tg.sum(z**3), leaves, record=True)
    second = tg.gradients(tg.sum(tg.concat([tg.reshape(g, (-1,)) for g in first]) ** 2), leaves)
    assert all(np.isfinite(g).all() for g in second)
