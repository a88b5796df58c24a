"""Every distribution in the registry against what it declares, against its own draws, and against scipy."""

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from standard_errors import DISTRIBUTIONS, assert_agrees, assert_variance_agrees, calm
from strategies import shapes

import tinygrad_vae as tg
from tinygrad_vae.checks.ops import check_vjp
from tinygrad_vae.core import trees
from tinygrad_vae.distributions.distribution import Distribution, domain_of, parameters
from tinygrad_vae.distributions.divergences import CLOSED_FORMS
from tinygrad_vae.domains import REAL

SCIPY = {
    "Bernoulli": lambda d: scipy.stats.bernoulli(expit(d.logits)),
    "Beta": lambda d: scipy.stats.beta(d.a, d.b),
    "Binomial": lambda d: scipy.stats.binom(d.total, expit(d.logits)),
    "Cauchy": lambda d: scipy.stats.cauchy(d.loc, d.scale),
    "Chi2": lambda d: scipy.stats.chi2(d.df),
    "Exponential": lambda d: scipy.stats.expon(scale=1 / d.rate),
    "FisherSnedecor": lambda d: scipy.stats.f(d.df1, d.df2),
    "Gamma": lambda d: scipy.stats.gamma(d.concentration, scale=1 / d.rate),
    "Geometric": lambda d: scipy.stats.geom(expit(d.logits), loc=-1),
    "Gumbel": lambda d: scipy.stats.gumbel_r(d.loc, d.scale),
    "HalfNormal": lambda d: scipy.stats.halfnorm(scale=d.scale),
    "InverseGamma": lambda d: scipy.stats.invgamma(d.concentration, scale=d.scale),
    "Laplace": lambda d: scipy.stats.laplace(d.loc, d.scale),
    "LogNormal": lambda d: scipy.stats.lognorm(d.scale, scale=np.exp(d.loc)),
    "Logistic": lambda d: scipy.stats.logistic(d.loc, d.scale),
    "NegativeBinomial": lambda d: scipy.stats.nbinom(d.successes, expit(d.logits)),
    "Normal": lambda d: scipy.stats.norm(d.loc, d.scale),
    "Pareto": lambda d: scipy.stats.pareto(d.concentration, scale=d.scale),
    "Poisson": lambda d: scipy.stats.poisson(d.rate),
    "StudentT": lambda d: scipy.stats.t(d.df, d.loc, d.scale),
    "Uniform": lambda d: scipy.stats.uniform(d.low, d.high - d.low),
    "Weibull": lambda d: scipy.stats.weibull_min(d.concentration, scale=d.scale),
}
SEEDS = st.integers(0, 2**32 - 1)


def declares(family, method):
    return getattr(family, method) is not getattr(Distribution, method)


def every(distributions):
    return pytest.mark.parametrize("family", distributions, ids=lambda family: family.__name__)


def example(family, seed=5, shape=()):
    return family.example(np.random.default_rng(seed), shape)


def is_discrete(family):
    return example(family).support.discrete


def has_density_of_numbers(family):
    return declares(family, "cdf") and not is_discrete(family)


every_distribution = every(DISTRIBUTIONS)
every_discrete_distribution = every(
    [family for family in DISTRIBUTIONS if is_discrete(family) and family is not tg.Delta]
)
every_density_of_numbers = every([family for family in DISTRIBUTIONS if has_density_of_numbers(family)])
every_distribution_in_scipy = every([family for family in DISTRIBUTIONS if family.__name__ in SCIPY])


def values_of(d):
    """Return the values that a discrete distribution may take, without those that it practically never takes."""
    if isinstance(d, tg.Multinomial):
        return [np.array(v) for v in itertools.product(range(8), repeat=d.classes) if sum(v) < 8]
    finitely_many = d.enumerate_support()
    return [np.asarray(v) for v in (range(400) if finitely_many is None else finitely_many)]


def probability(d, value):
    """Return the probability of a value by each discrete distribution of a batch, 0 outside the support."""
    x = np.broadcast_to(value, d.batch_shape + d.event_shape)
    inside = d.support.contains(x)
    return np.where(inside, np.exp(d.log_density(np.where(inside, x, 0) if not d.event_shape else x)), 0)


# ---------------------------------------------------------------------------------------- the draws


@every_density_of_numbers
def test_draws_follow_the_cdf(family):
    d = example(family)
    assert scipy.stats.kstest(d.sample((5000,), rng=tg.noise(1)), d.cdf).pvalue > 1e-3


@every_discrete_distribution
def test_draws_of_a_discrete_distribution_come_as_often_as_it_says(family):
    d, count = example(family), 5000
    draws = d.sample((count,), rng=tg.noise(1)).reshape(count, -1)
    expected = np.array([count * probability(d, v) for v in values_of(d)])
    found = np.array([np.sum((draws == v).all(-1)) for v in values_of(d)])
    often = expected > 5
    if not often.all():  # the others are one value more
        expected = np.append(expected[often], count - expected[often].sum())
        found = np.append(found[often], count - found[often].sum())
    assert scipy.stats.chisquare(found, expected).pvalue > 1e-3


@every_discrete_distribution
def test_the_cdf_of_a_discrete_distribution_adds_its_probabilities_up(family):
    if declares(family, "cdf"):
        d = example(family, shape=(3,))
        values = np.sort(np.unique(values_of(d)))
        total = np.cumsum([probability(d, v) for v in values], axis=0)
        np.testing.assert_allclose([d.cdf(v) for v in values], total, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose([d.cdf(v + 0.5) for v in values[:5]], total[:5], rtol=1e-9, atol=1e-12)
        assert (d.cdf(values[0] - 0.5) == 0).all()


@every_distribution
def test_mean_variance_and_entropy_are_those_of_the_draws(family):
    d = calm(family)
    draws = d.sample((20_000,), rng=tg.noise(2))
    if declares(family, "mean") and np.isfinite(d.mean).all():
        assert_agrees(draws, d.mean)
        assert_variance_agrees(draws, d.variance)
    if declares(family, "entropy"):
        assert_agrees(-d.log_prob(draws), d.entropy())


@every_distribution
@given(seed=SEEDS, batch=shapes(2), shape=shapes(2), recorded=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_draw_is_the_transform_of_its_noise_bit_for_bit(family, seed, batch, shape, recorded):
    d = example(family, seed, batch)
    shape = tuple(shape)
    drawn = d.sample(shape, rng=tg.noise(seed))
    z = tg.wrap(d).sample(shape, rng=tg.noise(seed))
    assert isinstance(z, tg.Sample)
    np.testing.assert_array_equal(z.value, drawn)
    np.testing.assert_array_equal(d.transform(z.noise.value), drawn)
    if d.path is not None:
        np.testing.assert_array_equal(d.rsample(shape, rng=tg.noise(seed)), drawn)
        np.testing.assert_array_equal(tg.wrap(d).rsample(shape, rng=tg.noise(seed)).value, drawn)


@every_distribution
@given(seed=SEEDS, batch=shapes(2), shape=shapes(2))
@settings(max_examples=25, deadline=None)
def test_shapes_are_those_of_sample_batch_and_event(family, seed, batch, shape):
    d = example(family, seed, batch)
    x = d.sample(shape, rng=tg.noise(seed))
    assert d.batch_shape == batch
    assert x.shape == shape + batch + d.event_shape
    assert np.shape(d.log_prob(x)) == shape + batch
    if declares(family, "entropy"):
        assert np.shape(d.entropy()) == batch
    if declares(family, "mean"):
        assert np.shape(d.mean) == np.shape(d.variance) == batch + d.event_shape


@every_distribution
def test_float32_stays_float32(family):
    d = trees.map_leaves(lambda x: x.astype(np.float32), example(family, shape=(4,)))
    x = d.sample((3,), rng=tg.noise(0))
    assert x.dtype == (np.float32 if x.dtype.kind == "f" else np.int64)
    found = {"log_prob": d.log_prob(x)}
    if declares(family, "mean"):
        found |= {"mean": d.mean, "variance": d.variance}
    if declares(family, "entropy"):
        found["entropy"] = d.entropy()
    if declares(family, "cdf"):
        found["cdf"] = d.cdf(x)
    if declares(family, "icdf"):
        found["icdf"] = d.icdf(np.full(4, 0.3, np.float32))
    assert {name: value.dtype for name, value in found.items()} == dict.fromkeys(found, np.dtype(np.float32))


# -------------------------------------------------------------------------------------- the formulas


@every_distribution_in_scipy
@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_formulas_are_those_of_scipy(family, seed):
    d = example(family, seed, (4,))
    twin, x = SCIPY[family.__name__](d), d.sample(rng=tg.noise(seed))
    log_prob = twin.logpmf if is_discrete(family) else twin.logpdf
    np.testing.assert_allclose(d.log_prob(x), log_prob(x), rtol=1e-9, atol=1e-9)
    exists = np.isfinite(d.variance)
    np.testing.assert_allclose(d.mean[exists], twin.mean()[exists], rtol=1e-12)
    np.testing.assert_allclose(d.variance[exists], twin.var()[exists], rtol=1e-9)
    np.testing.assert_allclose(d.entropy(), twin.entropy(), rtol=1e-9, atol=1e-12)
    if declares(family, "cdf"):
        np.testing.assert_allclose(d.cdf(x), twin.cdf(x), rtol=1e-9, atol=1e-12)


@every_density_of_numbers
@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_icdf_undoes_cdf_and_the_density_is_its_slope(family, seed):
    d = example(family, seed, (5,))
    p = np.random.default_rng(seed).uniform(0.001, 0.999, 5)
    np.testing.assert_allclose(d.cdf(d.icdf(p)), p, rtol=1e-9)
    np.testing.assert_allclose(d.icdf(d.cdf(d.icdf(p))), d.icdf(p), rtol=1e-6)
    x = tg.Tensor(d.icdf(p))
    np.testing.assert_allclose(tg.gradients(tg.sum(d.cdf(x)), x), np.exp(d.log_prob(x.value)), rtol=1e-9)


@every_density_of_numbers
def test_the_density_integrates_to_one_and_has_the_entropy_that_it_says(family):
    d = example(family)
    tail = 10.0 ** np.arange(-14, 0)
    ends = d.icdf(np.concatenate([tail, [0.25, 0.5, 0.75], 1 - tail[::-1]]))

    def integral(f):
        return sum(scipy.integrate.quad(lambda x: f(d.log_prob(x)), a, b)[0] for a, b in itertools.pairwise(ends))

    assert abs(integral(np.exp) - 1) < 1e-9
    if declares(family, "entropy"):
        assert abs(integral(lambda log_p: -np.exp(log_p) * log_p) - d.entropy()) < 1e-9


@every_density_of_numbers
def test_the_cdf_is_zero_below_the_support_and_one_above(family):
    d = calm(family)
    assert (float(d.cdf(-1e15)), float(d.cdf(1e15))) == (pytest.approx(0, abs=1e-12), pytest.approx(1, abs=1e-9))


@every_discrete_distribution
@given(seed=SEEDS, batch=shapes(2))
@settings(max_examples=8, deadline=None)
def test_probabilities_sum_to_one(family, seed, batch):
    d = example(family, seed, batch)
    total = sum(probability(d, v) for v in values_of(d))
    np.testing.assert_allclose(total, np.ones(batch), rtol=1e-12)


@every_distribution
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_the_log_probability_has_the_right_gradient_in_every_parameter(family, seed):
    d = example(family, seed, (2,))
    noise = np.linspace(0.7, 0.9, int(np.prod(d.noise_shape()))).reshape(d.noise_shape())
    x = d.transform(noise)  # away from the median, where the density of Laplace has a kink
    leaves = trees.leaves(d)
    jumps = [d.support.discrete and path in d.moving() for path, _ in trees.paths(d)]  # there it has no derivative

    def log_density(*smooth):
        remaining = iter(smooth)
        chosen = [x if jump else next(remaining) for x, jump in zip(leaves, jumps, strict=True)]
        return trees.replace_leaves(d, chosen).log_density(x)

    if not all(jumps):
        check_vjp(log_density, *(x for x, jump in zip(leaves, jumps, strict=True) if not jump))


def test_independent_sums_over_its_event_axes():
    base = example(tg.Normal, shape=(4, 3, 2))
    joint = tg.Independent(base, 2)
    x = joint.sample((5,), rng=tg.noise(0))
    assert (joint.batch_shape, joint.event_shape) == ((4,), (3, 2))
    np.testing.assert_array_equal(joint.log_prob(x), base.log_prob(x).sum((-1, -2)))
    np.testing.assert_array_equal(joint.entropy(), base.entropy().sum((-1, -2)))
    np.testing.assert_array_equal(x, base.sample((5,), rng=tg.noise(0)))
    assert tg.Independent(base, 0).log_prob(x).shape == (5, 4, 3, 2)
    assert tg.Independent(tg.Independent(base, 1), 1).event_shape == (3, 2)
    assert tg.Independent(example(tg.Categorical, shape=(4, 3)), 1).sample(rng=tg.noise(0)).shape == (4, 3)


# -------------------------------------------------------------------------------------- the extremes


@every_distribution
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_most_extreme_noise_gives_finite_draws_of_finite_probability(family, dtype):
    d = trees.map_leaves(lambda x: x.astype(dtype), calm(family))
    steps = 2.0 ** (23 if dtype == np.float32 else 52)
    extremes = {"U(0, 1)": [0.5 / steps, 1 - 0.5 / steps], "N(0, 1)": [-9.0, 9.0]}[d.noise_distribution.name]
    for extreme in extremes:
        noise = np.full(d.noise_shape(), extreme, dtype)
        x = d.transform(noise)
        assert np.isfinite(x).all()
        assert np.isfinite(d.log_prob(x)).all()


@pytest.mark.parametrize(
    "dist", [tg.Bernoulli(logits=np.array([np.inf, -np.inf])), tg.Bernoulli(probs=np.array([1.0, 0.0]))]
)
def test_a_certain_toss_is_a_distribution_like_any_other(dist):
    np.testing.assert_array_equal(dist.sample((50,), rng=tg.noise(0)), np.tile([1.0, 0.0], (50, 1)))
    np.testing.assert_array_equal(dist.log_prob(np.array([1.0, 0.0])), [0, 0])
    np.testing.assert_array_equal(dist.log_prob(np.array([0.0, 1.0])), [-np.inf, -np.inf])
    for value in (dist.variance, dist.entropy()):
        np.testing.assert_array_equal(value, [0, 0])


WITH_PROBS = [family for family in DISTRIBUTIONS if "probs" in {f.name for f in parameters(family)}]
CHOICES = (tg.Categorical, tg.Multinomial, tg.OneHotCategorical, tg.RelaxedOneHotCategorical)


def from_probs(family, probs, others):
    """Return the distribution made from probabilities, and the one made from their logits."""
    logits = np.log(probs) if family in CHOICES else logit(probs)
    return family(**others, probs=probs), family(**others, logits=logits)


@every(WITH_PROBS)
def test_probabilities_and_their_logits_give_one_distribution(family):
    others = {f.name: getattr(example(family), f.name) for f in parameters(example(family)) if f.name != "logits"}
    probs = np.array([[0.2, 0.5, 0.3], [0.01, 0.001, 0.989]]) if family in CHOICES else np.array([1e-3, 0.4, 0.97])
    a, b = from_probs(family, probs, others)
    draws = a.sample((40,), rng=tg.noise(0))
    np.testing.assert_allclose(draws, b.sample((40,), rng=tg.noise(0)), rtol=1e-9)
    np.testing.assert_allclose(a.log_prob(draws), b.log_prob(draws), rtol=1e-9, atol=1e-12)
    for name in ("mean", "variance", "entropy", "cdf"):
        if declares(family, name):
            args = {"entropy": (), "cdf": (draws,)}.get(name)
            found = [getattr(d, name) if args is None else getattr(d, name)(*args) for d in (a, b)]
            np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)
    if (family, family) in CLOSED_FORMS:
        np.testing.assert_allclose(tg.kl_divergence(a, b), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("family", "p", "x", "slope"),
    [
        (lambda p: tg.Bernoulli(probs=p), 0.0, 0.0, -1.0),
        (lambda p: tg.Bernoulli(probs=p), 1.0, 1.0, 1.0),
        (lambda p: tg.Binomial(3, probs=p), 0.0, 0.0, -3.0),
        (lambda p: tg.Binomial(3, probs=p), 1.0, 3.0, 3.0),
        (lambda p: tg.Geometric(probs=p), 1.0, 0.0, 1.0),
        (lambda p: tg.NegativeBinomial(successes=2.5, probs=p), 1.0, 0.0, 2.5),
        (lambda p: tg.Categorical(probs=tg.stack([p, 1 - p])), 0.0, 1, -1.0),
        (lambda p: tg.OneHotCategorical(probs=tg.stack([p, 1 - p])), 1.0, np.array([1.0, 0.0]), 1.0),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_score_at_probability_0_and_1_is_the_one_of_the_formula_in_p(family, p, x, slope, dtype):
    """By logits it was 0 times infinity."""
    p = tg.Tensor(np.asarray(p, dtype), "p")
    np.testing.assert_allclose(tg.gradients(family(p).log_prob(x), p), slope, rtol=1e-6)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_mean_of_a_toss_that_is_certain_has_the_derivative_1(p):
    p = tg.Tensor(p, "p")
    assert tg.gradients(tg.Bernoulli(probs=p).mean, p) == 1
    assert tg.gradients(tg.Binomial(7, probs=p).mean, p) == 7


@pytest.mark.parametrize("options", [{"logits": np.array([0.0, -np.inf, 0.0])}, {"probs": np.array([0.5, 0.0, 0.5])}])
def test_an_impossible_class_is_never_drawn_and_costs_nothing(options):
    dist = tg.Categorical(**options)
    assert set(dist.sample((200,), rng=tg.noise(0))) == {0, 2}
    assert dist.log_prob(1) == -np.inf
    np.testing.assert_allclose([dist.entropy(), dist.mean, dist.variance], [np.log(2), 1, 1])


@pytest.mark.parametrize(
    ("family", "certain", "x"),
    [
        (tg.Bernoulli, [np.inf, -np.inf], [1.0, 0.0]),
        (tg.Categorical, [0.0, -np.inf], 0),
        (tg.OneHotCategorical, [0.0, -np.inf], [1.0, 0.0]),
    ],
)
def test_certainty_has_a_gradient_without_nan(family, certain, x):
    logits = tg.Tensor(np.array(certain), "logits")
    d = family(logits=logits)
    for output in (d.entropy(), d.mean, d.log_prob(np.array(x))):
        assert np.isfinite(tg.gradients(tg.sum(output), logits)).all()


def test_far_tails_are_accurate():
    assert tg.Normal().cdf(-30.0) == pytest.approx(scipy.stats.norm.cdf(-30), rel=1e-12)
    assert tg.Logistic().log_prob(1000.0) == -1000.0
    assert tg.Exponential(1.0).cdf(1e-20) == 1e-20
    assert tg.Laplace().cdf(-700.0) == pytest.approx(scipy.stats.laplace.cdf(-700), rel=1e-12)
    assert tg.Bernoulli(logits=-700.0).mean == pytest.approx(np.exp(-700.0), rel=1e-12)
    assert tg.Bernoulli(logits=1000.0).log_prob(0.0) == -1000.0


# ---------------------------------------------------------------------------------------- the errors


PARAMETERS = [(family, f.name) for family in DISTRIBUTIONS for f in parameters(example(family))]
every_parameter = pytest.mark.parametrize(
    ("family", "name"), PARAMETERS, ids=lambda part: getattr(part, "__name__", part)
)


def with_parameter(d, name, value):
    return type(d)(**{f.name: getattr(d, f.name) for f in dataclasses.fields(d)} | {name: value})


@every_parameter
def test_a_wrong_parameter_is_named_with_its_constraint_value_place_and_shape(family, name):
    d = example(family, shape=(2, 3))
    value = getattr(d, name).copy()
    value[1, 2] = np.nan
    with pytest.raises(ValueError, match="found") as caught:
        with_parameter(d, name, value)
    (f,) = (f for f in parameters(family) if f.name == name)
    for part in (family.__name__, name, str(domain_of(d, f)), "nan", "(1, 2)", "(1 of 6)", str(value.shape)):
        assert part in str(caught.value)


@every_parameter
@pytest.mark.parametrize("wrong", ["one", [1.0], 1j, object(), True])
def test_a_parameter_must_be_numbers(family, name, wrong):
    with pytest.raises(TypeError, match=name):
        with_parameter(example(family), name, wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tg.Normal(0.0, -1.0), "Normal: scale must be positive, found -1.0"),
        (lambda: tg.Normal(0.0, 0.0), "Normal: scale must be positive, found 0.0"),
        (lambda: tg.Normal(np.inf, 1.0), "Normal: loc must be real, found inf"),
        (lambda: tg.Uniform(1.0, 1.0), "Uniform: high must be greater than 1, found 1.0"),
        (lambda: tg.Bernoulli(probs=1.5), "Bernoulli: probs must be between 0 and 1, found 1.5"),
        (lambda: tg.Bernoulli(), "Bernoulli takes either logits= or probs=, found neither"),
        (lambda: tg.Bernoulli(probs=0.5, logits=0.0), "Bernoulli takes either logits= or probs=, found both"),
        (lambda: tg.Categorical(probs=np.array([0.5, 0.6])), "sum 1, found \\[0.5 0.6\\]"),
        (lambda: tg.Categorical(logits=0.0), "no last axis"),
        (lambda: tg.Normal(np.zeros(2), np.ones(3)), "do not broadcast together: loc \\(2,\\), scale \\(3,\\)"),
        (lambda: tg.Independent(tg.Normal(), 1), "batch shape \\(\\), which has fewer axes"),
        (lambda: tg.Normal(np.zeros(3)).log_prob(np.zeros(4)), "x has shape \\(4,\\).* draw, \\(3,\\)"),
        (lambda: tg.Independent(tg.Normal(np.zeros(1)), 1).log_prob(np.zeros(4)), "x has shape \\(4,\\).*\\(1,\\)"),
        (lambda: tg.Uniform(0.0, 2.0).log_prob(3.0), "Uniform.log_prob: x must be \\[0, 2\\], found 3.0"),
        (lambda: tg.Bernoulli(probs=0.5).log_prob(0.5), "Bernoulli.log_prob: x must be 0 or 1, found 0.5"),
        (lambda: tg.Categorical(logits=np.zeros(3)).log_prob(3), "whole numbers from 0 to 2, found 3"),
    ],
)
def test_a_wrong_value_gets_one_clear_error(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@every_distribution
def test_a_value_outside_the_support_is_refused(family):
    d = example(family, shape=(2,))
    x = np.asarray(d.sample(rng=tg.noise(0)), np.float64)
    x[1] = np.nan
    with pytest.raises(ValueError, match=rf"(?s){family.__name__}.log_prob: x must be .* found .*nan.* at index \(1"):
        d.log_prob(x)


@pytest.mark.parametrize("shape", [(-1,), (2.5,), "ab"])
def test_a_wrong_shape_is_refused_before_the_stream_moves_on(shape):
    rng = tg.noise(0)
    with pytest.raises(ValueError, match="Normal: a shape is made of whole numbers from 0 on"):
        tg.Normal().sample(shape, rng=rng)
    assert rng.drawn == 0


@pytest.mark.parametrize("rng", [0, None, np.random.default_rng(0)])
def test_noise_comes_from_a_stream_only(rng):
    with pytest.raises(TypeError, match=r"Normal: rng takes a stream from tg.noise\(seed\), found"):
        tg.Normal().sample(rng=rng)


def test_draws_are_made_in_float32_or_float64_only():
    with pytest.raises(TypeError, match="found parameters of float16"):
        tg.Normal(np.zeros(3, np.float16)).sample(rng=tg.noise(0))


def test_a_distribution_prints_on_one_line():
    mu = tg.Tensor(np.zeros((30, 40)), "mu")
    assert repr(tg.Normal(mu, np.ones(40))) == "Normal(loc=mu, scale=<float64 (40,)>)"
    assert (
        repr(tg.Independent(tg.Normal(np.zeros(2), 1.0), 1)) == "Independent(base=Normal(loc=[0., 0.], scale=1.0), n=1)"
    )
    z = tg.Normal(tg.Tensor(2.0, "mu"), 1.0).sample(rng=tg.noise(0), name="z")
    assert "name='z', drawn from Normal(loc=mu, scale=1.0) at test_distributions.py:" in repr(z)


def test_a_new_distribution_is_one_declaration():
    @dataclass(frozen=True, eq=False)
    class Shifted(tg.Distribution):
        """Uniform noise, moved."""

        by: object = tg.parameter(REAL, moves_support=True)
        support = REAL

        def icdf(self, p):
            return self.by + p

    del tg.DISTRIBUTIONS["Shifted"]
    by = tg.Tensor(2.0, "by")
    z = Shifted(by).sample(rng=tg.noise(0))
    assert tg.gradients(tg.reparameterize(z * z), by) == pytest.approx(2 * z.value)
    assert repr(Shifted(by)) == "Shifted(by=by)"
    with pytest.raises(NotImplementedError, match="Shifted declares no entropy"):
        Shifted(by).entropy()
