"""What single families promise beyond the tests of all distributions: implicit derivatives, relatives, extremes."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from standard_errors import assert_agrees

import tinygrad_vae as tg
from tinygrad_vae.checks.ops import check_second_order, check_vjp
from tinygrad_vae.core import trees
from tinygrad_vae.guard.axes import surviving_axes

RNG = np.random.default_rng
INF = np.inf


def example(family, seed=5, shape=()):
    return family.example(RNG(seed), shape)


def draws(dist, count=20_000, seed=1):
    return dist.sample((count,), rng=tg.noise(seed))


# ------------------------------------------------------------------------------ implicit derivatives

IMPLICIT = [family for family in tg.DISTRIBUTIONS.values() if example(family).path == "implicit"]
implicit = pytest.mark.parametrize("family", IMPLICIT, ids=lambda family: family.__name__)


def test_these_distributions_have_an_implicit_path():
    names = (
        "Beta Chi2 ContinuousBernoulli Dirichlet FisherSnedecor Gamma InverseGamma LKJCholesky MixtureSameFamily "
        "StudentT VonMises Wishart"
    )
    assert sorted(family.__name__ for family in IMPLICIT) == names.split()


@implicit
@pytest.mark.parametrize("check", [check_vjp, check_second_order])
def test_implicit_derivatives_are_differences_of_the_inverse_cdf(family, check):
    d = example(family, shape=(2,))
    u = RNG(0).uniform(0.05, 0.95, d.noise_shape())
    check(lambda *leaves: trees.replace_leaves(d, leaves).transform(u), *trees.leaves(d))


@implicit
def test_far_out_in_the_tails_they_are_right_too(family):
    if family.icdf is not tg.Distribution.icdf and family is not tg.MixtureSameFamily:
        d = example(family)
        for p in (1e-9, 1e-4, 1 - 1e-4):
            check_vjp(lambda *leaves, p=p: trees.replace_leaves(d, leaves).icdf(np.array(p)), *trees.leaves(d))


def pathwise_gradients(cost, *parameters, count=20_000):
    """Return the gradient of each draw's cost in each parameter, from one backward pass over a row of copies."""
    rows = [tg.Tensor(np.full(count, x), f"parameter {i}") for i, x in enumerate(parameters)]
    return tg.gradients(tg.sum(tg.reparameterize(cost(*rows))), rows)


@pytest.mark.parametrize("a", [0.3, 1.0, 4.5])
def test_gamma_gradients_are_the_known_ones(a):
    for f, truth in [
        (lambda x: x, 1.0),
        (lambda x: x * x, 2 * a + 1),
        (tg.log, scipy.special.polygamma(1, a)),
    ]:
        (found,) = pathwise_gradients(lambda a, f=f: f(tg.Gamma(a, 1.0).sample(rng=tg.noise(3))), a)
        assert_agrees(found, truth)


def test_dirichlet_gradients_are_the_known_ones():
    a = np.array([0.4, 1.0, 2.5])
    rows = tg.Tensor(np.tile(a, (20_000, 1)), "a")
    log_x = tg.log(tg.Dirichlet(rows).sample(rng=tg.noise(3)))
    found = tg.gradients(tg.sum(tg.reparameterize(log_x[:, 0])), rows)
    truth = -scipy.special.polygamma(1, a.sum()) + np.array([scipy.special.polygamma(1, a[0]), 0.0, 0.0])
    assert_agrees(found, truth)


@pytest.mark.parametrize("k", [0.5, 3.0, 40.0])
def test_von_mises_gradients_are_the_known_ones(k):
    (found,) = pathwise_gradients(lambda k: tg.cos(tg.VonMises(0.0, k).sample(rng=tg.noise(3))), k)
    ratio = scipy.special.i1e(k) / scipy.special.i0e(k)
    assert_agrees(found, 1 - ratio / k - ratio**2)


@pytest.mark.parametrize(
    ("loc", "k", "cost"), [(0.4, 0.0, lambda x: x**3), (3.0, 1.5, lambda x: tg.exp(0.3 * x)), (-10.0, 6.0, tg.sin)]
)
def test_a_path_of_von_mises_is_right_for_costs_that_are_not_periodic(loc, k, cost):
    """A draw lies within pi of loc and moves along with it, so that nothing wraps. The truth is an integral."""
    found = pathwise_gradients(lambda m, k: cost(tg.VonMises(m, k).sample(rng=tg.noise(3))), loc, k)
    t = np.linspace(-np.pi, np.pi, 20_001)
    step = 1e-4

    def mean(m, k):
        density = np.exp(k * (np.cos(t) - 1))
        return np.trapezoid(density * cost(m + t), t) / np.trapezoid(density, t)

    assert_agrees(found[0], (mean(loc + step, k) - mean(loc - step, k)) / (2 * step), rounding=1e-6)
    assert_agrees(found[1], (mean(loc, k + step) - mean(loc, k - step)) / (2 * step), rounding=1e-6)


def test_the_weights_of_a_mixture_have_a_pathwise_gradient():
    locs, scales = np.array([-2.0, 1.0]), np.array([0.5, 1.5])
    logits = tg.Tensor(np.tile([0.3, -0.2], (20_000, 1)), "logits")
    z = tg.MixtureSameFamily(logits, tg.Normal(locs, scales)).sample(rng=tg.noise(3))
    found = tg.gradients(tg.sum(tg.reparameterize(z * z)), logits)
    w, squares = scipy.special.softmax([0.3, -0.2]), locs**2 + scales**2
    assert_agrees(found, w * (squares - w @ squares))


# ---------------------------------------------------------------------------------------- the verdict


def boxes(*ends):
    return tg.MixtureSameFamily(np.array([0.0, 1.0]), tg.Uniform(np.array([0.0, 1.0]), *ends))


def test_a_mixture_jumps_at_the_ends_of_its_components():
    """The density of two boxes steps at 1 and at 2, and E log p(z) moves with how many z lie beyond a step."""
    h, ends = tg.Tensor(2.9, "h"), tg.Tensor(np.array([2.0, 3.0]), "ends")
    z = tg.Uniform(0.0, h).rsample(rng=tg.noise(1))
    for d, parameter in ((boxes(np.array([2.0, 3.0])), h), (boxes(ends), h), (boxes(ends), ends)):
        with pytest.raises(tg.InvalidGradientError, match="may_draw jumps"):
            tg.gradients(d.log_prob(z), parameter)
    estimate = tg.monte_carlo_kl(tg.Uniform(0.0, h), boxes(ends), rng=tg.noise(0), samples=50)
    with pytest.raises(tg.InvalidGradientError, match="may_draw jumps"):
        tg.gradients(estimate.value, ends)


def test_the_ends_of_a_mixture_have_a_gradient_where_nothing_jumps_over_them():
    ends, x = tg.Tensor(np.array([2.0, 3.0]), "ends"), np.array([0.5, 1.5, 2.5])
    check_vjp(lambda high: boxes(high).log_prob(x), ends.value)
    logits = tg.Normal(tg.Tensor(np.zeros(2), "mu"), 1.0).rsample(rng=tg.noise(0))
    counts = tg.MixtureSameFamily(np.zeros(2), tg.Binomial(np.array([2.0, 5.0]), logits=logits))
    assert np.isfinite(tg.gradients(counts.log_prob(4.0), logits)).all()
    loc = tg.Tensor(np.full(20_000, 0.2), "loc")
    z = tg.TruncatedNormal(loc, 1.0, -1.0, 1.0).rsample(rng=tg.noise(0))
    shared = tg.MixtureSameFamily(np.zeros(2), tg.TruncatedNormal(np.array([0.0, 0.5]), 1.0, -1.0, np.ones(2)))
    assert_agrees(tg.gradients(tg.sum(shared.log_prob(z)), loc), _slope_of_mean_log_prob(shared, 0.2))


def _slope_of_mean_log_prob(d, loc):
    x = np.linspace(-1.0, 1.0, 2001)
    means = [
        np.trapezoid(np.exp(tg.TruncatedNormal(at).log_prob(x)) * d.log_prob(x), x) for at in (loc - 1e-4, loc + 1e-4)
    ]
    return (means[1] - means[0]) / 2e-4


def test_a_score_function_of_two_boxes_keeps_each_draw_to_itself():
    ends = tg.Tensor(np.full((4, 2), [2.0, 3.0]), "ends")
    z = tg.Normal(tg.Tensor(np.zeros(4), "mu"), 1.0).sample(rng=tg.noise(0))
    assert surviving_axes(boxes(ends).log_density(z), z) == (0,)
    assert surviving_axes(boxes(ends).log_density(z), ends) == (0,)


@pytest.mark.parametrize(
    ("family", "moved"),
    [
        (lambda t: tg.Pareto(concentration=3.0, scale=t), "scale"),
        (lambda t: tg.TruncatedNormal(0.0, 1.0, t - 1, 2.0), "low"),
        (lambda t: tg.TruncatedNormal(0.0, 1.0, -1.0, t), "high"),
        (lambda t: tg.VonMises(t, 1.0), "loc"),
        (lambda t: tg.Transformed(tg.Exponential(1.0), tg.bijections.Affine(t, 1.0)), "loc"),
        (lambda t: tg.Transformed(tg.Beta(2.0, 3.0), tg.bijections.Affine(0.0, t)), "scale"),
        (lambda t: tg.Delta(t), "value"),
        (lambda t: tg.Transformed(tg.Logistic(), (tg.bijections.Sigmoid(), tg.bijections.Affine(0.0, t))), "1.scale"),
        (lambda t: tg.Transformed(tg.Logistic(), (tg.bijections.Exp(), tg.bijections.Affine(t, 1.0))), "1.loc"),
        (lambda t: tg.Transformed(tg.Normal(), (tg.bijections.Tanh(), tg.bijections.Affine(t, 1.0))), "1.loc"),
        (
            lambda t: tg.Transformed(
                tg.Transformed(tg.Laplace(), tg.bijections.Sigmoid()), tg.bijections.Affine(t, 1.0)
            ),
            "bijections.loc",
        ),
        (lambda t: tg.Transformed(tg.VonMises(0.0, 1.0), tg.bijections.Affine(t, 1.0)), "bijections.loc"),
    ],
)
def test_where_the_support_moves_only_the_path_is_valid(family, moved):
    t = tg.Tensor(1.5, "t")
    z = family(t).sample(rng=tg.noise(0), name="z")
    with pytest.raises(tg.InvalidGradientError, match=f"moves with .*{moved}"):
        tg.gradients(tg.score_function(z * z), t)
    assert np.isfinite(tg.gradients(tg.reparameterize(z * z), t))


def test_a_scale_after_a_sigmoid_has_a_path_where_the_score_function_is_wrong():
    """Sigmoid of a logistic number, times h, is uniform on [0, h]: the mean moves by 1/2, and the score says -1/2."""
    h = tg.Tensor(np.full(20_000, 2.0), "h")
    dist = tg.Transformed(tg.Logistic(), (tg.bijections.Sigmoid(), tg.bijections.Affine(0.0, h)))
    x = tg.Independent(dist, 1).sample(rng=tg.noise(1), name="x")
    assert_agrees(x.value * tg.gradients(tg.sum(dist.log_density(x.value)), h), -0.5)
    for estimator in (tg.ScoreFunction(), tg.SecondDraw(rng=tg.noise(2))):
        with pytest.raises(tg.InvalidGradientError, match=r"moves with base\.bijections\.1\.scale"):
            tg.gradients(tg.sum(estimator(tg.sum(x))), h)
    assert_agrees(tg.gradients(tg.reparameterize(tg.sum(x)), h), 0.5)


def test_what_comes_before_the_end_of_the_numbers_moves_no_support():
    t = tg.Tensor(np.full(20_000, 0.1), "t")
    dist = tg.Transformed(tg.Normal(), (tg.bijections.Affine(t, 0.5), tg.bijections.Exp()))
    z = dist.sample(rng=tg.noise(1))
    assert_agrees(tg.gradients(tg.sum(tg.score_function(z)), t), np.exp(0.1 + 0.5 * 0.5**2))


@implicit
def test_the_verdict_says_that_the_path_is_implicit(family):
    d = tg.wrap(example(family))
    report = tg.explain(tg.sum(d.sample(rng=tg.noise(0), name="z") ** 2), d)
    assert "continuous; implicit, by the derivatives of the cdf" in str(report)


def test_where_the_base_may_be_any_number_a_bijection_moves_no_support():
    t = tg.Tensor(np.full((20_000, 1), 1.5), "t")
    for base in (tg.Independent(tg.Normal(np.zeros(2)), 1), tg.MultivariateNormal(np.zeros(2), np.eye(2))):
        z = tg.Transformed(base, tg.bijections.Affine(t, 1.0)).sample(rng=tg.noise(0))
        assert_agrees(tg.gradients(tg.sum(tg.score_function(tg.sum(z, axis=-1))), t), 2.0)


@pytest.mark.parametrize(
    "family",
    [
        lambda t: tg.Geometric(logits=t),
        lambda t: tg.Poisson(tg.exp(t)),
        lambda t: tg.Binomial(5.0, logits=t),
        lambda t: tg.NegativeBinomial(successes=2.5, logits=t),
        lambda t: tg.Independent(tg.Poisson(tg.exp(t)), 1),
    ],
)
def test_counts_have_no_path_and_an_unbiased_score_function(family):
    t = tg.Tensor(np.full(20_000, 0.4), "t")
    z = family(t).sample(rng=tg.noise(2), name="z")
    assert tg.reparameterize(z) is z
    with pytest.raises(tg.BlockedGradientError, match="is discrete, so it jumps"):
        tg.gradients(tg.sum(z), t)
    one = tg.Tensor(np.array([0.4]), "t")
    truth = tg.gradients(tg.sum(family(one).mean), one)
    assert_agrees(tg.gradients(tg.sum(tg.score_function(z)), t), truth)


def test_enumeration_refuses_the_total_of_a_binomial_which_moves_the_support():
    """The derivative of the probabilities in n, at a support that stays where it is, is that of nothing."""
    total, p = tg.Tensor(4.0, "n"), tg.Tensor(0.3, "p")
    for dist in (tg.Binomial(total, probs=p), tg.Independent(tg.Binomial(total + np.zeros(2), probs=p), 1)):
        cost = tg.sum(tg.Enumeration()(dist.sample(rng=tg.noise(0), name="k") ** 2))
        assert np.isfinite(tg.gradients(cost, p))
        with pytest.raises(tg.InvalidGradientError, match=r"enumeration: the support of \w+ moves with (base\.)?total"):
            tg.gradients(cost, total)


def test_totals_that_differ_are_the_reason_why_a_binomial_is_not_enumerated():
    p = tg.Tensor(np.array([0.3, 0.4]), "p")
    for dist in (tg.Binomial(np.array([2, 5]), probs=p), tg.Independent(tg.Binomial(np.array([2, 5]), probs=p), 1)):
        k = dist.sample(rng=tg.noise(0), name="k")
        with pytest.raises(tg.InvalidGradientError, match=r"the totals differ \(2 to 5\).*Draw the counts of"):
            tg.estimate(tg.sum(k), {"k": "enumeration"})


def test_a_binomial_is_enumerated_exactly():
    p = tg.Tensor(0.3, "p")
    k = tg.Binomial(4, probs=p).sample(rng=tg.noise(0), name="k")
    cost = tg.estimate(k * k, {"k": "enumeration"})
    np.testing.assert_allclose([cost.value, tg.gradients(cost, p)], [4 * 0.3 * 0.7 + 1.2**2, 4 * (1 - 0.6) + 32 * 0.3])


# --------------------------------------------------------------------------------------- the relatives


@pytest.mark.parametrize(
    ("dist", "twin"),
    [
        (tg.NegativeBinomial(successes=1.0, probs=0.3), tg.Geometric(probs=0.3)),
        (tg.Chi2(3.0), tg.Gamma(1.5, 0.5)),
        (tg.Gamma(1.0, 2.0), tg.Exponential(2.0)),
        (tg.Weibull(concentration=1.0, scale=0.5), tg.Exponential(2.0)),
        (tg.Kumaraswamy(2.5, 1.0), tg.Beta(2.5, 1.0)),
        (tg.Beta(1.0, 1.0), tg.Uniform(0.0, 1.0)),
        (tg.ContinuousBernoulli(logits=0.0), tg.Uniform(0.0, 1.0)),
        (tg.StudentT(1.0, 0.5, 2.0), tg.Cauchy(0.5, 2.0)),
        (tg.TruncatedNormal(0.5, 2.0, -INF, INF), tg.Normal(0.5, 2.0)),
        (tg.TruncatedNormal(0.0, 2.0, 0.0, INF), tg.HalfNormal(2.0)),
        (tg.Binomial(1.0, probs=0.3), tg.Bernoulli(probs=0.3)),
        (tg.Transformed(tg.Normal(0.5, 2.0), tg.bijections.Exp()), tg.LogNormal(0.5, 2.0)),
        (tg.Transformed(tg.Normal(), tg.bijections.Affine(0.5, 2.0)), tg.Normal(0.5, 2.0)),
        (tg.Transformed(tg.Logistic(), tg.bijections.Sigmoid()), tg.Uniform(0.0, 1.0)),
        (tg.Transformed(tg.Logistic(2.0, 2.0), tg.bijections.Sigmoid()), tg.RelaxedBernoulli(0.5, logits=1.0)),
        (tg.MixtureSameFamily(np.zeros(2), tg.Normal(np.ones(2), 2.0)), tg.Normal(1.0, 2.0)),
    ],
    ids=lambda dist: type(dist).__name__,
)
def test_distributions_that_are_the_same_agree(dist, twin):
    x = np.unique(twin.sample((50,), rng=tg.noise(0)))
    np.testing.assert_allclose(dist.log_prob(x), twin.log_prob(x), rtol=1e-10, atol=1e-10)
    if "cdf" in dir(type(twin)) and type(twin).cdf is not tg.Distribution.cdf:
        np.testing.assert_allclose(dist.cdf(x), twin.cdf(x), rtol=1e-10, atol=1e-12)
    if not twin.support.discrete and twin.noise_distribution is dist.noise_distribution:
        np.testing.assert_allclose(
            dist.sample((50,), rng=tg.noise(1)), twin.sample((50,), rng=tg.noise(1)), rtol=1e-9, atol=1e-9
        )


def test_one_hot_draws_are_those_of_the_categorical_distribution():
    logits = RNG(0).normal(size=(4, 3))
    chosen = tg.Categorical(logits=logits).sample((50,), rng=tg.noise(0))
    one_hot = tg.OneHotCategorical(logits=logits)
    x = one_hot.sample((50,), rng=tg.noise(0))
    np.testing.assert_array_equal(x, np.eye(3)[chosen])
    np.testing.assert_array_equal(one_hot.log_prob(x), tg.Categorical(logits=logits).log_prob(chosen))


def test_the_largest_element_of_a_relaxed_choice_is_the_choice():
    logits = RNG(0).normal(size=3)
    relaxed = tg.RelaxedOneHotCategorical(0.3, logits=logits).sample((500,), rng=tg.noise(0))
    chosen = tg.Categorical(logits=logits).sample((500,), rng=tg.noise(0))
    np.testing.assert_array_equal(relaxed.argmax(-1), chosen)
    tossed = tg.RelaxedBernoulli(0.3, logits=0.7).sample((500,), rng=tg.noise(0))
    np.testing.assert_array_equal(tossed > 0.5, tg.Bernoulli(logits=0.7).sample((500,), rng=tg.noise(0)) == 1)


def test_a_relaxed_choice_between_two_is_a_relaxed_toss():
    x = np.array([0.1, 0.4, 0.9])
    pair = tg.RelaxedOneHotCategorical(0.7, logits=np.array([0.0, 0.8]))
    np.testing.assert_allclose(
        pair.log_prob(np.stack([1 - x, x], -1)), tg.RelaxedBernoulli(0.7, logits=0.8).log_prob(x)
    )


@pytest.mark.parametrize("family", [tg.MultivariateNormal, tg.LowRankNormal])
def test_gaussian_vectors_have_the_covariance_and_density_that_they_say(family):
    d = example(family)
    x, twin = draws(d), scipy.stats.multivariate_normal(d.mean, d.covariance)
    np.testing.assert_allclose(d.log_prob(x[:50]), twin.logpdf(x[:50]), rtol=1e-10)
    np.testing.assert_allclose(d.entropy(), twin.entropy(), rtol=1e-12)
    np.testing.assert_allclose(d.variance, np.diag(d.covariance))
    away = x - d.mean
    assert_agrees(away[:, :, None] * away[:, None, :], d.covariance)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_densities_of_matrices_and_vectors_of_counts_are_those_of_scipy(size):
    root = np.tril(RNG(size).normal(size=(size, size)), -1) + np.diag(RNG(size).uniform(0.1, 3, size))
    wishart, twin = tg.Wishart(df=size + 1.5, scale_tril=root), scipy.stats.wishart(size + 1.5, root @ root.T)
    x = draws(wishart, 30)
    np.testing.assert_allclose(wishart.log_prob(x), [twin.logpdf(each) for each in x], rtol=1e-9)
    np.testing.assert_allclose(wishart.variance, np.reshape(twin.var(), (size, size)), rtol=1e-12)
    np.testing.assert_allclose([wishart.entropy()], [twin.entropy()], rtol=1e-10)
    probs = RNG(size).dirichlet(np.ones(size))
    for total in (0, 1, 9, 1000):
        counts = tg.Multinomial(total, probs=probs)
        x = draws(counts, 30)
        np.testing.assert_allclose(
            counts.log_prob(x), scipy.stats.multinomial(total, probs).logpmf(x), rtol=1e-9, atol=1e-9
        )
        assert_agrees(
            (draws(counts) - counts.mean)[:, :, None] * (draws(counts) - counts.mean)[:, None, :],
            total * (np.diag(probs) - np.outer(probs, probs)),
        )


def test_correlations_are_uniform_by_lkj_with_concentration_1():
    """For d = 2 each is uniform, for any d each is a Beta(eta + d / 2 - 1, same) number on [-1, 1]."""
    for dim, eta in ((2, 1.0), (4, 1.0), (4, 2.5)):
        root = draws(tg.LKJCholesky(dim, eta), 5000)
        correlations = root @ np.swapaxes(root, -1, -2)
        np.testing.assert_allclose(np.diagonal(correlations, axis1=1, axis2=2), 1, rtol=1e-12)
        b = eta + dim / 2 - 1
        for i, j in zip(*np.tril_indices(dim, -1), strict=True):
            assert scipy.stats.kstest((1 + correlations[:, i, j]) / 2, scipy.stats.beta(b, b).cdf).pvalue > 1e-3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_draws_and_densities_of_vectors_and_matrices_are_those_of_torch():
    torch = pytest.importorskip("torch")
    twins, array = torch.distributions, lambda x: torch.tensor(np.asarray(x), dtype=torch.float64)
    loc, scale, root = np.array([0.3, -0.5, 1.0]), np.array([0.5, 1.0, 2.0]), np.array([[2.0, 0.0], [0.5, 0.3]])
    logits = np.array([0.1, -0.4, 1.0])
    for ours, theirs in [
        (tg.FisherSnedecor(3.0, 7.5), twins.FisherSnedecor(array(3.0), array(7.5))),
        (tg.LogisticNormal(loc, scale), twins.LogisticNormal(array(loc), array(scale))),
        (tg.Multinomial(6, logits=logits), twins.Multinomial(6, logits=array(logits))),
        (tg.Wishart(df=3.5, scale_tril=root), twins.Wishart(array(3.5), scale_tril=array(root))),
        (tg.LKJCholesky(2, 0.7), twins.LKJCholesky(2, array(0.7))),
        (tg.LKJCholesky(5, 1.7), twins.LKJCholesky(5, array(1.7))),
    ]:
        x = draws(ours, 20)
        np.testing.assert_allclose(ours.log_prob(x), theirs.log_prob(array(x)), rtol=1e-5, atol=1e-6)
    noise = RNG(0).normal(size=(20, 3))
    pieces = twins.StickBreakingTransform()(array(loc + scale * noise))
    np.testing.assert_allclose(tg.LogisticNormal(loc, scale).transform(noise), pieces, rtol=1e-10)
    small = tg.NegativeBinomial(successes=2.0, probs=0.75)
    np.testing.assert_allclose(small.mean, twins.NegativeBinomial(array(2.0), probs=array(0.25)).mean)


def test_dirichlet_density_and_entropy_are_those_of_scipy():
    d = example(tg.Dirichlet)
    x, twin = draws(d, 50), scipy.stats.dirichlet(d.concentration)
    np.testing.assert_allclose(d.log_prob(x), [twin.logpdf(row / row.sum()) for row in x], rtol=1e-10)
    np.testing.assert_allclose([d.entropy()], [twin.entropy()])


@pytest.mark.parametrize(
    "components",
    [
        tg.Independent(tg.Normal(RNG(0).normal(size=(3, 2)), np.full((3, 2), 0.3)), 1),
        tg.Poisson(np.array([1.0, 5.0, 20.0])),
        tg.Dirichlet(np.array([[1.0, 2.0], [3.0, 1.0], [5.0, 5.0]])),
    ],
    ids=lambda dist: type(dist).__name__,
)
def test_a_mixture_of_vectors_or_counts_chooses_a_component_first(components):
    d = tg.MixtureSameFamily(np.array([0.5, -0.5, 0.0]), components)
    assert d.path is None
    x = draws(d)
    assert_agrees(x, d.mean)
    assert_agrees((x - d.mean) ** 2, d.variance)
    w = scipy.special.softmax(d.logits)
    each = np.stack([np.exp(components.log_prob(np.repeat(v[None], 3, 0))) @ w for v in x[:20]])
    np.testing.assert_allclose(np.exp(d.log_prob(x[:20])), each)


def test_a_mixture_with_a_gap_has_no_path_because_its_draw_jumps_over_the_gap():
    logits = tg.Tensor(np.zeros((20_000, 2)), "logits")
    z = tg.MixtureSameFamily(logits, tg.Uniform(np.array([0.0, 5.0]), np.array([1.0, 7.0]))).sample(rng=tg.noise(0))
    with pytest.raises(tg.BlockedGradientError, match="which component a draw comes from jumps"):
        tg.gradients(tg.sum(z), logits)
    assert_agrees(tg.gradients(tg.sum(tg.score_function(z)), logits), 0.25 * np.array([0.5 - 6.0, 6.0 - 0.5]))


def test_a_component_draws_nothing_outside_its_own_support():
    boxes = tg.Uniform(np.array([[0.0, 0.0], [5.0, 5.0]]), np.array([[1.0, 1.0], [7.0, 7.0]]))
    squares = tg.MixtureSameFamily(np.zeros(2), tg.Independent(boxes, 1))
    np.testing.assert_allclose(squares.log_prob(np.array([[0.5, 0.5], [6.0, 6.0]])), np.log([0.5, 0.125]))
    with pytest.raises(ValueError, match="in the support of a component"):
        squares.log_prob(np.array([0.5, 6.0]))
    d = tg.MixtureSameFamily(np.zeros(2), tg.Uniform(np.array([0.0, 5.0]), np.array([1.0, 7.0])))
    np.testing.assert_allclose(d.log_prob(np.array([0.5, 6.0])), np.log([0.5, 0.25]))
    with pytest.raises(ValueError, match="in the support of a component"):
        d.log_prob(3.0)


@pytest.mark.parametrize(
    "f", [tg.bijections.Exp(), tg.bijections.Sigmoid(), tg.bijections.Tanh(), tg.bijections.Affine(1.0, 0.5)]
)
def test_a_bijection_is_undone_and_has_the_slope_that_it_says(f):
    x = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(f.inverse(f.forward(x)), x, rtol=1e-9, atol=1e-12)
    leaf = tg.Tensor(x)
    np.testing.assert_allclose(
        np.log(tg.gradients(tg.sum(f.forward(leaf)), leaf)), f.log_slope(x), rtol=1e-9, atol=1e-9
    )
    assert f.image.contains(f.forward(np.array([-30.0, 30.0]))).all()


# --------------------------------------------------------------------------------------- the extremes

EXTREMES = [
    tg.Pareto(concentration=0.05, scale=1.0),
    tg.Weibull(concentration=0.1, scale=1.0),
    tg.Kumaraswamy(0.05, 0.05),
    tg.Kumaraswamy(100.0, 0.01),
    *(tg.StudentT(df) for df in (0.3, 1e8)),
    *(tg.Gamma(a, 1.0) for a in (1e-3, 0.01, 1e6)),
    *(tg.InverseGamma(a, 1.0) for a in (0.01, 1e6)),
    *(tg.Beta(a, b) for a, b in [(0.01, 0.01), (1e-3, 1.0), (1.0, 1e-3), (1e5, 1e5)]),
    *(tg.FisherSnedecor(a, b) for a, b in [(0.01, 0.3), (0.3, 0.05), (1e6, 1e6), (1e-3, 1e5)]),
    tg.LogisticNormal(np.array([50.0, -50.0]), np.array([1.0, 0.1])),
    *(tg.Multinomial(n, logits=np.array([0.0, l])) for n, l in [(0.0, 0.0), (1e5, -30.0), (3.0, 50.0)]),
    *(tg.LKJCholesky(3, eta) for eta in (0.01, 1e5)),
    tg.Wishart(df=2.5, scale_tril=np.array([[1e-6, 0.0, 0.0], [1.0, 1e3, 0.0], [0.0, 1.0, 1e-3]])),
    *(tg.TruncatedNormal(0.0, 1.0, *ends) for ends in [(30.0, 31.0), (500.0, INF), (-INF, -30.0), (0.0, 1e-3)]),
    *(tg.ContinuousBernoulli(logits=l) for l in (1e-8, -1e-8, 1000.0, -1000.0)),
    *(tg.VonMises(1.0, k) for k in (0.0, 1e-9, 1e6)),
    *(tg.RelaxedBernoulli(0.01, logits=l) for l in (0.0, 50.0)),
    tg.RelaxedOneHotCategorical(0.01, logits=np.array([0.0, 30.0])),
    *(tg.Dirichlet(np.array(a)) for a in ([1e-3, 1e-3, 1e-3], [1e5, 1e-3, 1.0])),
    tg.Geometric(logits=INF),
    tg.Geometric(logits=-12.0),
    *(tg.Binomial(n, logits=l) for n, l in [(0.0, 0.0), (5.0, INF), (5.0, -INF), (1e5, 0.0)]),
    *(tg.NegativeBinomial(successes=n, logits=l) for n, l in [(1e-3, 0.0), (2.0, INF), (2.0, -7.0)]),
    *(tg.Poisson(rate) for rate in (1e-3, 1e5)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dist", EXTREMES, ids=repr)
def test_extreme_parameters_give_finite_draws_probabilities_and_gradients(dist, dtype):
    d = trees.map_leaves(lambda x: np.asarray(x, dtype), dist)
    steps = 2.0 ** (23 if dtype == np.float32 else 52)
    levels = np.array([0.5 / steps, 0.01, 0.5 - 0.5 / steps, 0.75, 1 - 0.5 / steps], dtype)
    noise = np.broadcast_to(levels.reshape((-1,) + (1,) * len(d.noise_shape())), (5, *d.noise_shape()))
    wrapped = tg.wrap(d)
    x = d.transform(noise)
    log_p = wrapped.log_prob(x)
    assert x.dtype == log_p.dtype == dtype
    assert np.isfinite(x).all()
    assert np.isfinite(log_p.value).all()
    outputs = [log_p] if d.path is None else [log_p, wrapped.transform(noise)]
    floats = [leaf for leaf in trees.leaves(wrapped) if np.isfinite(leaf.value).all()]
    for output in outputs:
        assert all(np.isfinite(g).all() for g in tg.gradients(tg.sum(output), floats))


@pytest.mark.parametrize("ends", [(-1.0, 2.0), (0.5, INF), (-INF, -3.0), (30.0, 31.0), (-31.0, -30.0)])
def test_the_truncated_normal_distribution_is_that_of_scipy(ends):
    d = tg.TruncatedNormal(np.array(0.5), np.array(2.0), *(np.array(0.5 + 2.0 * end) for end in ends))
    twin = scipy.stats.truncnorm(*ends, 0.5, 2.0)
    x = d.icdf(np.array([0.01, 0.5, 0.99]))
    np.testing.assert_allclose(d.log_prob(x), twin.logpdf(x), rtol=1e-10)
    np.testing.assert_allclose(d.cdf(x), [0.01, 0.5, 0.99], rtol=1e-10)
    a, b = (e if np.isfinite(e) else math.copysign(12.0, e) for e in ends)  # scipy's own moments lose 7 digits at 30
    e = np.linspace(a, b, 200_001)
    density = np.exp(-0.5 * (e - a) * (e + a)) if abs(a) < abs(b) else np.exp(-0.5 * (e - b) * (e + b))
    weights = density / np.trapezoid(density, e)
    first = np.trapezoid(weights * e, e)
    second = np.trapezoid(weights * (e - first) ** 2, e)
    np.testing.assert_allclose([d.mean, d.variance], [0.5 + 2 * first, 4 * second], rtol=1e-8)


@pytest.mark.parametrize("k", [0.0, 0.1, 3.0, 40.0, 1e5])
def test_the_von_mises_distribution_is_that_of_scipy(k):
    d, twin = tg.VonMises(0.5, k), scipy.stats.vonmises(k, 0.5)
    x = d.icdf(np.array([1e-6, 0.01, 0.5, 0.9]))
    np.testing.assert_allclose(d.log_prob(x), twin.logpdf(x), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(d.log_prob(x + 2 * np.pi), d.log_prob(x), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(d.cdf(x), [1e-6, 0.01, 0.5, 0.9], rtol=1e-10)
    np.testing.assert_allclose(d.entropy(), twin.entropy(), rtol=1e-8)


def test_far_tails_are_accurate():
    assert tg.Cauchy().icdf(1e-300) == pytest.approx(-1e300 / np.pi)
    assert tg.Cauchy().cdf(-1e200) == pytest.approx(1e-200 / np.pi)
    assert tg.StudentT(3.0).cdf(-1e50) == pytest.approx(scipy.stats.t(3).cdf(-1e50), rel=1e-10)
    assert tg.HalfNormal().cdf(1e-20) == pytest.approx(1e-20 * np.sqrt(2 / np.pi))
    assert tg.Weibull(concentration=2.0).cdf(1e-20) == pytest.approx(1e-40)
    rare = [np.float32(x) for x in (2.5, 2e-6, 1e6)]
    truth = scipy.stats.nbinom(2.5, float(rare[1])).logpmf(1e6)
    assert tg.NegativeBinomial(successes=rare[0], probs=rare[1]).log_prob(rare[2]) == pytest.approx(truth, rel=1e-5)
    assert np.isfinite(tg.NegativeBinomial(successes=rare[0], probs=rare[1]).log_prob(np.float32(1e37)))
    assert tg.VonMises(0.0, 50.0).cdf(-2.0) == pytest.approx(scipy.stats.vonmises(50).cdf(-2.0), rel=1e-9)


@pytest.mark.parametrize("logit", [0.9999999, 1.0, 1.0000001, 1e-5])
def test_the_continuous_bernoulli_distribution_is_smooth_where_its_formula_changes(logit):
    l = np.array(logit)
    whole, first, second = (scipy.integrate.quad(lambda x, n=n: x**n * np.exp(l * x), 0, 1)[0] for n in range(3))
    d = tg.ContinuousBernoulli(logits=l)
    np.testing.assert_allclose(d.mean, first / whole, rtol=1e-12)
    np.testing.assert_allclose(d.variance, second / whole - (first / whole) ** 2, rtol=1e-12)
    np.testing.assert_allclose(d.log_prob(0.3), 0.3 * l - np.log(whole), rtol=1e-9, atol=1e-15)
    leaf = tg.Tensor(l, "logits")
    wrapped = tg.ContinuousBernoulli(logits=leaf)
    assert tg.gradients(wrapped.mean, leaf) == pytest.approx(wrapped.variance.value, rel=1e-10)
    assert tg.gradients(wrapped.log_prob(0.3), leaf) == pytest.approx(0.3 - d.mean, rel=1e-10)


# ------------------------------------------------------------------------------------- the precision

F = np.full(3, 0.7, np.float32)


@pytest.mark.parametrize(
    "dist",
    [
        tg.Normal(F, 1.0),
        tg.Gamma(2.0, F),
        tg.StudentT(F),
        tg.Pareto(concentration=F),
        tg.TruncatedNormal(F, high=2),
        tg.VonMises(F, 2),
        tg.Binomial(3, logits=F),
        tg.RelaxedOneHotCategorical(0.5, logits=F),
        tg.MixtureSameFamily(F, tg.Normal(F, 1.0)),
    ],
    ids=repr,
)
def test_numbers_among_float32_parameters_leave_everything_float32(dist):
    x = dist.sample(rng=tg.noise(0))
    assert x.dtype == dist.log_prob(x).dtype == tg.wrap(dist).log_prob(x).dtype == np.float32
    assert all(leaf.dtype == np.float32 for leaf in trees.leaves(tg.wrap(dist)))


def test_a_distribution_of_numbers_takes_the_precision_of_its_values():
    for dist in (tg.Normal(0.5, 2.0), tg.Gamma(2.0), tg.StudentT(3.0)):
        assert dist.log_prob(F).dtype == np.float32
        assert dist.log_prob(F.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize(
    "dist", [tg.Poisson(F), tg.Binomial(5, logits=F), tg.Geometric(logits=F), tg.Bernoulli(logits=F)]
)
def test_whole_numbers_are_read_in_the_precision_of_the_parameters(dist):
    x = np.array([0, 1, 1])
    assert dist.log_prob(x).dtype == tg.wrap(dist).log_prob(x).dtype == np.float32


# ----------------------------------------------------------------------------------------- the errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tg.TruncatedNormal(0.0, 1.0, 2.0, 1.0), "TruncatedNormal: high must be greater than low, found 1.0"),
        (
            lambda: tg.Pareto(concentration=1.0, scale=2.0).log_prob(1.0),
            "Pareto.log_prob: x must be at least 2, found 1.0",
        ),
        (lambda: tg.Poisson(2.0).log_prob(1.5), "Poisson.log_prob: x must be a whole number from 0 on, found 1.5"),
        (lambda: tg.Binomial(2.5, probs=0.5), "Binomial: total must be a whole number from 0 on, found 2.5"),
        (lambda: tg.Binomial(2, probs=0.5).log_prob(3), "x must be a whole number from 0 to total, found 3"),
        (lambda: tg.Geometric(probs=0.0), "Geometric: probs must be above 0, up to 1, found 0.0"),
        (lambda: tg.Dirichlet(np.array([1.0, 0.0])), "concentration must be a vector of positive numbers"),
        (
            lambda: tg.MultivariateNormal(np.zeros(2), np.ones((2, 2))),
            "lower triangular matrix with a positive diagonal",
        ),
        (lambda: tg.MultivariateNormal(np.zeros(2), np.eye(3)), "different lengths: loc 2, rows 3, columns 3"),
        (lambda: tg.LowRankNormal(np.zeros(2), np.ones((3, 1)), np.ones(2)), "loc 2, factor 3, scale 2"),
        (lambda: tg.OneHotCategorical(logits=np.zeros(2)).log_prob(np.ones(2)), "zeros with a single 1"),
        (lambda: tg.MixtureSameFamily(np.zeros(2), tg.Normal(np.zeros(3))), r"logits for 2 components .* shape \(3,\)"),
        (lambda: tg.MixtureSameFamily(np.zeros(2), 3.0), "components must be a distribution, found the float 3.0"),
        (lambda: tg.Transformed(tg.Normal(), tg.exp), r"takes bijections such as tg.bijections.Exp\(\), found"),
        (lambda: tg.Transformed(3.0, tg.bijections.Exp()), "base must be a distribution, found the float 3.0"),
        (lambda: tg.Transformed(tg.Normal(), tg.bijections.Exp()).log_prob(-1.0), "what Exp makes of real, found -1.0"),
        (lambda: tg.bijections.Affine(0.0, -1.0), "Affine: scale must be positive, found -1.0"),
        (lambda: tg.Multinomial(3, probs=np.array([0.5, 0.5])).log_prob(np.ones(2)), "from 0 on with sum total, found"),
        (lambda: tg.Wishart(df=1.0, scale_tril=np.eye(2)), "Wishart: df must be greater than 1, found 1.0"),
        (lambda: tg.LKJCholesky(1), "LKJCholesky: dim must be a whole number from 2 on, found 1"),
        (lambda: tg.LogisticNormal(np.zeros(3), np.ones(2)), "different lengths: loc 3, scale 2"),
        (lambda: tg.NegativeBinomial(2.0, probs=0.25), "positional argument"),
        (lambda: tg.Delta(1.0).log_prob(2.0), "equal to the value of Delta, found 2.0"),
    ],
)
def test_a_wrong_value_gets_one_clear_error(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_all_of_delta_lies_at_its_value():
    d = tg.Delta(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(d.sample((3,), rng=tg.noise(0)), np.tile([1.0, 2.0], (3, 1)))
    np.testing.assert_array_equal(d.log_prob(np.array([1.0, 2.0])), [0.0, 0.0])
    np.testing.assert_array_equal(d.cdf(np.array(1.5)), [1.0, 0.0])
    assert (tg.Delta(1.0).cdf(0.5), tg.Delta(1.0).cdf(1.0)) == (0.0, 1.0)
    assert tg.Delta(np.float32(1.0)).cdf(np.float32(2.0)).dtype == np.float32


def test_the_step_of_delta_is_a_jump_for_a_random_value():
    """E 1(x >= l) has the derivative -density(l) in l, and that of the recorded step is 0."""
    mu, step = tg.Tensor(0.0, "mu"), tg.Tensor(0.0, "l")
    x = tg.Normal(mu, 1.0).rsample(rng=tg.noise(0))
    for parameter in (mu, step):
        with pytest.raises(tg.InvalidGradientError, match=r"l <= \.\.\. jumps"):
            tg.gradients(tg.Delta(step).cdf(x), parameter)


@pytest.mark.parametrize(
    ("dist", "mean", "variance"),
    [
        (tg.Cauchy(0.0, 1.0), np.nan, np.nan),
        (tg.Pareto(concentration=1.0), INF, INF),
        (tg.Pareto(concentration=1.5), 3.0, INF),
        (tg.StudentT(1.0), np.nan, np.nan),
        (tg.StudentT(2.0), 0.0, INF),
        (tg.InverseGamma(1.0), INF, INF),
        (tg.InverseGamma(2.0), 1.0, INF),
    ],
    ids=repr,
)
def test_moments_that_do_not_exist_are_nan_or_infinite(dist, mean, variance):
    np.testing.assert_array_equal([dist.mean, dist.variance], [mean, variance])
