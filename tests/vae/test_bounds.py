"""What a VAE climbs: values by hand, gradients against closed forms and against each other, and how noisy they are."""

import itertools

import numpy as np
import pytest
from small_models import LinearGaussian, binary_images, small_vae
from standard_errors import ALLOWED, assert_agrees, assert_variance_agrees

import tinygrad_vae as tg
from tinygrad_vae import vae
from tinygrad_vae.core import topological_order, trees
from tinygrad_vae.vae import Objective


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in trees.leaves(tree)])


def gradient_of(bound, model):
    return flat(tg.gradients(tg.mean(bound), model))


# values ------------------------------------------------------------------------------------------------


def by_hand(model, x, rng):
    """Return fit and divergence, of shapes (batch,) and (batch, latent), of the draw that the stream gives."""
    q = model.encode(x)
    mean, variance = q.mean, q.variance
    z = mean + np.sqrt(variance) * rng.normal(mean.shape)
    p = model.decode(z).mean
    fit = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1)
    return fit, (mean**2 + variance - 1 - np.log(variance)) / 2


def test_beta_weighs_the_divergence():
    model, x = small_vae(), binary_images(5)
    fit, each = by_hand(model, x, tg.noise(1))
    for beta in (0.0, 0.3, 1.0, 4.0):
        found = tg.elbo(model, x, rng=tg.noise(1), beta=beta)
        np.testing.assert_allclose(found, fit - beta * each.sum(axis=1), rtol=1e-12)


def test_free_bits_hold_up_the_batch_mean_of_each_latent():
    model, x = small_vae(), binary_images(5)
    fit, each = by_hand(model, x, tg.noise(1))
    free = float(np.sort(each.mean(axis=0))[1])  # the smallest of three latents lies below
    found = tg.elbo(model, x, rng=tg.noise(1), free_bits=free, beta=2.0)
    np.testing.assert_allclose(found, fit - 2 * np.maximum(each.mean(axis=0), free).sum(), rtol=1e-12)


def test_free_bits_leave_a_latent_below_them_alone():
    model, x = small_vae(), binary_images(5)
    _, each = by_hand(model, x, tg.noise(1))
    recorded = tg.wrap(model)
    draws = tg.noise(1)
    free = tg.gradients(tg.mean(tg.reparameterize(tg.elbo(recorded, x, rng=draws, free_bits=9.0))), recorded)
    without = tg.gradients(tg.mean(tg.reparameterize(tg.elbo(recorded, x, rng=tg.noise(1), beta=0.0))), recorded)
    assert each.mean(axis=0).max() < 9
    np.testing.assert_allclose(flat(free), flat(without), rtol=1e-12, atol=1e-15)


def test_warm_up_rises_in_a_straight_line_to_its_end():
    assert [vae.warm_up(step, 4, 2.0) for step in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    model, x = small_vae(), binary_images(3)
    objective = Objective(warm_up=10, beta=2.0)
    for step, beta in ((0, 0.0), (5, 1.0), (10, 2.0), (1000, 2.0)):
        found = objective(model, x, rng=tg.noise(1), step=step)
        np.testing.assert_array_equal(found, tg.elbo(model, x, rng=tg.noise(1), beta=beta))


def test_the_gradients_with_less_noise_are_of_the_same_values():
    model, x = small_vae(), binary_images(4)
    expected = tg.elbo(model, x, rng=tg.noise(1), kl="monte-carlo", samples=3)
    np.testing.assert_array_equal(vae.sticking_the_landing(model, x, rng=tg.noise(1), samples=3), expected)
    expected = tg.importance_weighted_bound(model, x, rng=tg.noise(1), samples=3)
    found = vae.doubly_reparameterized_bound(tg.wrap(model), x, rng=tg.noise(1), samples=3)
    np.testing.assert_array_equal(found.value, expected)


def test_without_the_average_the_draws_stay_apart():
    model, x = small_vae(), binary_images(4)
    for bound in (tg.elbo, vae.sticking_the_landing):
        apart = bound(model, x, rng=tg.noise(1), samples=3, average=False)
        assert apart.shape == (3, 4)
        np.testing.assert_array_equal(apart.mean(axis=0), bound(model, x, rng=tg.noise(1), samples=3))


# gradients ---------------------------------------------------------------------------------------------


def replicas(n, offset=0.0, widening=1.0):
    """Return n copies of the linear Gaussian model, each with parameters of its own, and a 1 for each to see.

    With ``x = 1`` the slope is the mean of q. The posterior itself, where nothing is added or widened.
    """
    posterior = LinearGaussian(0.0, 0.0).posterior(1.0)
    slope, sd = float(posterior.loc) + offset, float(posterior.scale) * widening
    return LinearGaussian(np.full(n, slope), np.full(n, np.log(sd))), np.ones(n), sd


def gradients_of_replicas(bound, model, x, **options):
    recorded = tg.wrap(model)
    g = tg.gradients(tg.sum(tg.reparameterize(bound(recorded, x, rng=tg.noise(0), **options))), recorded)
    return g.slope, g.log_sd


def test_at_the_posterior_sticking_the_landing_has_no_variance_and_the_total_derivative_has():
    model, x, s = replicas(20_000)
    in_mean, in_log_sd = gradients_of_replicas(tg.elbo, model, x, kl="monte-carlo")
    assert_agrees(in_mean, 0.0)
    assert_agrees(in_log_sd, 0.0)
    assert_variance_agrees(in_mean, 1 / s**2)
    assert_variance_agrees(in_log_sd / s, 2 / s**2)
    for stuck in gradients_of_replicas(vae.sticking_the_landing, model, x):
        np.testing.assert_allclose(stuck, 0.0, atol=1e-12)


@pytest.mark.parametrize("opened", [tg.reparameterize, tg.score_function])
def test_sticking_the_landing_has_the_gradient_of_the_bound(opened):
    model, x, _ = replicas(50_000, offset=0.2, widening=1.4)
    recorded = tg.wrap(model)
    bound = vae.sticking_the_landing(recorded, x, rng=tg.noise(0))
    found = tg.gradients(tg.sum(opened(bound)), recorded)
    truth = exact_gradient(float(model.slope[0]), float(model.log_sd[0]))
    assert_agrees(found.slope, truth[0])
    assert_agrees(found.log_sd, truth[1])


def exact_bound(slope, log_sd):
    """Return the bound for x = 1, in closed form."""
    model = LinearGaussian(slope, log_sd)
    gap = tg.kl_divergence(model.encode(np.ones(())), model.posterior(1.0))
    return model.evidence(np.ones(())) - gap


def exact_gradient(slope, log_sd):
    return tg.grad(exact_bound)(slope, log_sd), tg.grad(exact_bound, 1)(slope, log_sd)


@pytest.mark.parametrize("opened", [tg.reparameterize, tg.score_function])
@pytest.mark.parametrize("kl", ["closed-form", "monte-carlo"])
def test_second_derivatives_of_the_bound_are_unbiased(opened, kl):
    model, x, _ = replicas(100_000, offset=0.2, widening=1.4)
    recorded = tg.wrap(model)
    bound = opened(tg.elbo(recorded, x, rng=tg.noise(0), kl=kl))
    first = tg.gradients(tg.sum(bound), recorded.slope, record=True)
    second = tg.gradients(tg.sum(first), recorded.slope)
    assert_agrees(second, tg.grad(tg.grad(exact_bound))(float(model.slope[0]), float(model.log_sd[0])))


class OneLatent:
    """z ~ N(0, 2^2), x ~ N(z + shift, 1), with whatever posterior it is given."""

    def __init__(self, posterior, shift=0.0):
        self.posterior, self.shift = posterior, shift

    def encode(self, x):
        return self.posterior

    def decode(self, z):
        return tg.Normal(z + self.shift, 1.0)

    def prior(self):
        return tg.Normal(0.0, 2.0)


WITH_PARTS_LEFT_OUT = {
    "sticking-the-landing": lambda model, n: tg.reparameterize(
        vae.sticking_the_landing(model, np.ones(n), rng=tg.noise(1))
    ),
    "sticking-the-landing by the score function": lambda model, n: tg.score_function(
        vae.sticking_the_landing(model, np.ones(n), rng=tg.noise(1))
    ),
    "an objective": lambda model, n: Objective("sticking-the-landing")(model, np.ones(n), rng=tg.noise(1)),
    "dreg": lambda model, n: vae.doubly_reparameterized_bound(model, np.ones(n), rng=tg.noise(1), samples=2),
}


@pytest.mark.parametrize("name", [name for name in WITH_PARTS_LEFT_OUT if "score" not in name])
def test_where_the_support_of_the_posterior_moves_the_derivative_of_its_density_is_not_left_out(name):
    high, shift = tg.Tensor(np.full(3, 2.0), "high"), tg.Tensor(np.zeros(3), "shift")
    bound = tg.sum(WITH_PARTS_LEFT_OUT[name](OneLatent(tg.Uniform(0.0, high), shift), 3))
    with pytest.raises(tg.InvalidGradientError, match=r"the support of Uniform moves with high, .*; use "):
        tg.gradients(bound, high)
    assert tg.gradients(bound, shift).shape == (3,)


def test_the_plain_bound_is_right_where_the_support_of_the_posterior_moves():
    """For z = h u and x = 1 it is -(1 - h + h^2 / 3) / 2 - h^2 / 24 + log h, up to a constant."""
    high = tg.Tensor(np.full(20_000, 2.0), "high")
    bound = tg.reparameterize(vae.elbo(OneLatent(tg.Uniform(0.0, high)), np.ones(20_000), rng=tg.noise(1)))
    assert_agrees(tg.gradients(tg.sum(bound), high), (1 - 2 * 2 / 3) / 2 - 2 / 12 + 1 / 2)


@pytest.mark.parametrize("name", WITH_PARTS_LEFT_OUT)
def test_a_second_derivative_that_would_lack_what_was_left_out_is_refused(name):
    mu, shift = tg.Tensor(np.full(3, 0.3), "mu"), tg.Tensor(np.full(3, 0.2), "shift")
    bound = tg.sum(WITH_PARTS_LEFT_OUT[name](OneLatent(tg.Normal(mu, 0.8), shift), 3))
    first = tg.gradients(bound, [mu, shift], record=True)
    refused = [(0, mu)] if name != "dreg" else [(0, mu), (0, shift), (1, mu)]
    for i, by in itertools.product(range(2), (mu, shift)):
        if any(i == j and by is x for j, x in refused):
            with pytest.raises(tg.InvalidGradientError, match=r"gives? first (derivatives|ones) only; for second ones"):
                tg.gradients(tg.sum(first[i]), by)
        else:
            tg.gradients(tg.sum(first[i]), by)


def test_a_derivative_along_a_direction_is_a_first_one_whose_next_would_lack_what_was_left_out():
    mu = tg.Tensor(np.full(3, 0.3), "mu")
    bound = WITH_PARTS_LEFT_OUT["sticking-the-landing"]
    _, along = tg.jvp(lambda m: bound(OneLatent(tg.Normal(m, 0.8)), 3), (mu,), (np.ones(3),))
    with pytest.raises(tg.InvalidGradientError, match="first derivatives only"):
        tg.gradients(tg.sum(along), mu)


def test_double_reparameterization_has_the_gradient_of_the_importance_weighted_bound():
    model = tg.wrap(tg.VAE.init(4, hidden=(3,), latent=2, activation="tanh", rng=tg.noise(0), dtype=np.float64))
    x = np.tile(binary_images(3, pixels=4), (200, 1))
    differences = []
    for i in range(60):
        plain = tg.reparameterize(tg.importance_weighted_bound(model, x, rng=tg.noise(0).at(i), samples=4))
        doubly = vae.doubly_reparameterized_bound(model, x, rng=tg.noise(0).at(i), samples=4)
        differences.append(gradient_of(doubly, model) - gradient_of(plain, model))
    assert_agrees(differences, 0.0)
    names = np.concatenate([np.full(leaf.size, path.split(".")[0]) for path, leaf in trees.paths(model)])
    differs = np.abs(differences).max(axis=0) > 1e-12
    assert differs[(names == "encoder") | (names == "posterior")].any()
    assert not differs[(names == "decoder") | (names == "likelihood")].any()  # the decoder's is the very same


def signal_to_noise_slope(bound, draws, counts=(16, 64, 256), groups=20):
    """Return d log SNR / d log K of the gradient in the mean of q, and its jackknife standard error over groups."""
    estimates = []
    for k in counts:
        model, x, _ = replicas(draws // k, offset=0.3, widening=1.3)
        g, _ = gradients_of_replicas(bound, model, x, samples=k)
        parts = np.array_split(np.asarray(g), groups)
        left = [np.concatenate(parts[:i] + parts[i + 1 :]) for i in range(groups)]
        estimates.append([np.log(abs(part.mean()) / part.std(ddof=1)) for part in (np.asarray(g), *left)])
    slopes = np.polyfit(np.log(counts), np.array(estimates), 1)[0]
    deviation = slopes[1:] - slopes[1:].mean()
    return slopes[0], np.sqrt((groups - 1) / groups * (deviation**2).sum())


def test_an_estimator_with_noise_of_its_own_draws_it_anew_in_every_step():
    """Also where one stream runs through all steps: the same conditional draw each time would bias their mean."""
    model = tg.wrap(tg.VAE.init(16, hidden=(8,), latent=3, posterior="bernoulli", rng=tg.noise(0), dtype=np.float64))
    rng, seen = tg.noise(5), set()
    for _ in range(3):
        bound = Objective(estimator="rebar")(model, np.ones((2, 16)), rng=rng)
        seen |= {x.value.tobytes() for x in topological_order([bound]) if isinstance(x, tg.Noise)}
    assert len(seen) == 6


def test_with_more_draws_the_signal_falls_in_the_plain_gradient_and_rises_in_the_doubly_reparameterized_one():
    falling, error = signal_to_noise_slope(tg.importance_weighted_bound, 4_000_000)
    assert abs(falling + 0.5) < ALLOWED * error
    assert error < 0.1  # so that no slope from 0 on would pass
    rising, error = signal_to_noise_slope(vae.doubly_reparameterized_bound, 1_000_000)
    assert abs(rising - 0.5) < ALLOWED * error
    assert error < 0.1


# any valid estimator -----------------------------------------------------------------------------------


def discrete_vae(posterior="bernoulli"):
    return tg.VAE.init(
        4, hidden=(3,), latent=2, posterior=posterior, activation="tanh", rng=tg.noise(0), dtype=np.float64
    )


UNBIASED_FOR_BITS = ("score-function", "leave-one-out", "second-draw", "arm", "disarm", "rebar")


@pytest.mark.parametrize("estimator", UNBIASED_FOR_BITS)
def test_every_estimator_has_the_gradient_that_enumeration_gives(estimator):
    model = tg.wrap(discrete_vae())
    x = np.tile(binary_images(3, pixels=4), (200, 1))
    truth = gradient_of(Objective(estimator="enumeration")(model, x[:3], rng=tg.noise(0)), model)
    objective = Objective(samples=2 if estimator == "leave-one-out" else 1, estimator=estimator)
    found = [gradient_of(objective(model, x, rng=tg.noise(0).at(i)), model) for i in range(40)]
    assert_agrees(found, truth)


@pytest.mark.parametrize("estimator", ["score-function", "second-draw", "rebar", "vimco"])
def test_the_importance_weighted_bound_has_one_gradient_whatever_the_estimator(estimator):
    model = tg.wrap(discrete_vae())
    x = np.tile(binary_images(3, pixels=4), (200, 1))
    bound = tg.importance_weighted_bound(model, x[:3], rng=tg.noise(0), samples=2)
    truth = gradient_of(tg.estimate(bound, default="enumeration"), model)
    objective = Objective("iwae", samples=2, estimator=estimator)
    found = [gradient_of(objective(model, x, rng=tg.noise(0).at(i)), model) for i in range(40)]
    assert_agrees(found, truth)


@pytest.mark.parametrize("estimator", ["score-function", "arsm"])
def test_one_hot_latents_train_by_the_score_function_too(estimator):
    model = tg.wrap(discrete_vae(lambda n, m, **o: vae.OneHotHead.init(n, m, classes=3, **o)))
    x = np.tile(binary_images(3, pixels=4), (200, 1))
    truth = gradient_of(Objective(estimator="enumeration")(model, x[:3], rng=tg.noise(0)), model)
    objective = Objective(estimator=estimator)
    found = [gradient_of(objective(model, x, rng=tg.noise(0).at(i)), model) for i in range(40)]
    assert_agrees(found, truth)


def test_a_baseline_changes_the_noise_and_not_the_gradient():
    model = tg.wrap(discrete_vae())
    x = np.tile(binary_images(3, pixels=4), (200, 1))
    objective = Objective(estimator="score-function")
    plain, steadied = (
        np.array([gradient_of(objective(model, x, rng=tg.noise(0).at(i), baseline=b), model) for i in range(40)])
        for b in (None, -3.0)
    )
    assert_agrees(plain - steadied, 0.0)
    assert steadied.var(axis=0).sum() < plain.var(axis=0).sum()


@pytest.mark.parametrize("bound", vae.BOUNDS)
def test_an_objective_computes_with_arrays_and_is_open_with_tensors(bound):
    model, x = small_vae(), binary_images(4)
    objective = Objective(bound, samples=3)
    computed, recorded = objective(model, x, rng=tg.noise(1)), objective(tg.wrap(model), x, rng=tg.noise(1))
    assert isinstance(computed, np.ndarray)
    assert computed.shape == (4,)
    np.testing.assert_array_equal(computed, recorded.value)


# bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bound": "vae"}, "bound must be one of elbo, sticking-the-landing, iwae, dreg; found 'vae'"),
        ({"estimator": "reinforce"}, "no estimator 'reinforce'; choose one of"),
        ({"samples": 0}, "samples must be a positive integer, found 0"),
        ({"beta": -1.0}, "beta must be a non-negative number, found -1.0"),
        ({"beta": np.nan}, "beta must be a non-negative number, found nan"),
        ({"free_bits": -0.1}, "free_bits must be a non-negative number"),
        ({"warm_up": -5}, "warm_up must be a positive integer, found -5"),
        ({"bound": "iwae", "beta": 0.5}, "beta is for elbo and sticking-the-landing, found iwae"),
        ({"bound": "dreg", "warm_up": 5}, "warm_up is for elbo and sticking-the-landing, found dreg"),
        ({"bound": "iwae", "free_bits": 0.5}, "free_bits is for elbo, found iwae"),
        ({"bound": "dreg", "estimator": "score-function"}, "dreg is pathwise by construction"),
        ({"estimator": "leave-one-out"}, "at least 2 samples"),
        ({"bound": "iwae", "samples": 5, "estimator": "leave-one-out"}, "it takes elbo"),
        ({"estimator": "vimco", "samples": 5}, "it takes iwae"),
    ],
)
def test_an_objective_that_cannot_be_is_refused_before_anything_runs(options, message):
    with pytest.raises(ValueError, match=message):
        Objective(**options)


def test_what_does_not_fit_the_model_is_refused():
    x = binary_images(3, pixels=4)
    bits = tg.wrap(discrete_vae())
    with pytest.raises(tg.InvalidGradientError, match="discrete"):
        Objective()(bits, x, rng=tg.noise(0))
    with pytest.raises(TypeError, match="discrete"):
        Objective("dreg", samples=3)(bits, x, rng=tg.noise(0))
    with pytest.raises(ValueError, match="a baseline is for the score function"):
        Objective()(small_vae(), binary_images(3), rng=tg.noise(0), baseline=1.0)
    with pytest.raises(ValueError, match="closed form"):
        tg.elbo(small_vae(), binary_images(3), rng=tg.noise(0), kl="monte-carlo", free_bits=0.1)
    full = small_vae(posterior="full-gaussian")
    with pytest.raises(ValueError, match="is not a sum over latents"):
        tg.elbo(full, binary_images(3), rng=tg.noise(0), free_bits=0.1)


def test_objectives_agree_on_the_gradient_of_a_tight_bound():
    """At the exact posterior the bounds for all K are the evidence, and so are their gradients in expectation."""
    model, x, _ = replicas(20_000)
    for samples in (1, 8):
        for bound in (
            tg.elbo,
            vae.sticking_the_landing,
            tg.importance_weighted_bound,
            vae.doubly_reparameterized_bound,
        ):
            for found in gradients_of_replicas(bound, model, x, samples=samples):
                assert_agrees(found, 0.0)
