"""The VAE, its bounds and its evaluation: against closed forms where there are any, in standard errors where not."""

import itertools
import re

import numpy as np
import pytest
from small_models import LinearGaussian, binary_images, small_vae
from standard_errors import ALLOWED, assert_agrees

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.vae.evaluate import evaluate


def draws_of_evidence(n):
    return tg.Normal(0.0, np.sqrt(1.5**2 + 0.25)).sample((n,), rng=tg.noise(5)) * np.ones(n)


# the model ---------------------------------------------------------------------------------------------


def test_shapes_and_names():
    model = tg.VAE.init(12, hidden=(8, 5), latent=3, rng=tg.noise(0))
    assert (model.data_size, model.latent) == (12, 3)
    assert [layer.n_out for layer in model.encoder.layers + model.decoder.layers] == [8, 5, 5, 8]
    x = binary_images(6)
    q = model.encode(x)
    assert (q.batch_shape, q.event_shape) == ((6,), (3,))
    assert model.decode(q.mean).event_shape == (12,)
    assert model.prior().event_shape == (3,)
    assert model.generate(4, rng=tg.noise(1)).shape == (4, 12)
    names = [path for path, _ in trees.paths(model)]
    assert {"encoder.layers.0.weight", "posterior.log_variance.bias", "likelihood.logits.weight"} <= set(names)


def test_a_model_without_hidden_layers_is_linear():
    model = tg.VAE.init(12, hidden=(), latent=3, rng=tg.noise(0))
    x = binary_images(2, dtype=np.float32)
    np.testing.assert_array_equal(
        model.encode(x).mean, x @ model.posterior.mean.weight + model.posterior.mean.bias + np.float32(0)
    )


def test_log_variance_is_the_logarithm_of_the_variance():
    model = small_vae()
    x = binary_images(5)
    log_variance = model.posterior.log_variance(model.encoder(x))
    np.testing.assert_allclose(model.encode(x).variance, np.exp(log_variance), rtol=1e-12)


def test_reconstruction_takes_the_mean_or_a_draw_of_the_posterior():
    model, x = small_vae(), binary_images(4)
    np.testing.assert_array_equal(model.reconstruct(x), model.decode(model.encode(x).mean).mean)
    first, again = (model.reconstruct(x, rng=tg.noise(2)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, model.reconstruct(x))
    assert ((first > 0) & (first < 1)).all()


def test_arrays_record_nothing_and_tensors_give_the_same_bits():
    model, x = small_vae(), binary_images(4)
    wrapped = tg.wrap(model)
    for f in (
        lambda m: m.reconstruct(x),
        lambda m: m.generate(3, rng=tg.noise(1)),
        lambda m: tg.elbo(m, x, rng=tg.noise(1)),
        lambda m: tg.elbo(m, x, rng=tg.noise(1), kl="monte-carlo", samples=3),
        lambda m: tg.importance_weighted_bound(m, x, rng=tg.noise(1), samples=3),
    ):
        computed, recorded = f(model), f(wrapped)
        assert isinstance(computed, np.ndarray)
        assert isinstance(recorded, tg.Tensor)
        np.testing.assert_array_equal(computed, recorded.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.bool_, np.uint8, np.int64, np.float32, np.float64])
def test_images_of_any_dtype_are_read_in_that_of_the_model(dtype, given):
    model = tg.VAE.init(12, hidden=(8,), latent=3, rng=tg.noise(0), dtype=dtype)
    x = binary_images(4, dtype=dtype)
    expected = tg.elbo(model, x, rng=tg.noise(1))
    found = tg.elbo(tg.wrap(model), x.astype(given), rng=tg.noise(1)).value
    assert expected.dtype == found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("given", [np.bool_, np.uint8, np.int64])
def test_pixels_stored_in_bytes_have_the_probability_of_those_stored_as_floats(given):
    pixels = tg.Bernoulli(logits=np.array([1.0, 1.0, -2.0], np.float32))
    x = np.array([0, 1, 1], np.float32)
    found = pixels.log_prob(x.astype(given))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, pixels.log_prob(x))


# the bounds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [tg.elbo, lambda model, x, rng: tg.vae.Objective("iwae", 2)(model, x, rng=rng)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli", "categorical"])
@pytest.mark.parametrize(("dtype", "worst"), [(np.uint8, 255), (np.float32, 1e30), (np.float64, -1), (float, np.nan)])
def test_pixels_that_the_likelihood_cannot_have_are_named(bound, likelihood, dtype, worst):
    if likelihood == "categorical" and worst == 255:
        worst, dtype = 256, np.int64
    model = tg.VAE.init(16, hidden=(8,), latent=2, likelihood=likelihood, rng=tg.noise(0))
    images = np.zeros((3, 16), dtype)
    images[1, 2] = worst
    with pytest.raises(ValueError, match=r"takes pixels from 0 to (1|255), found .* at index \(1, 2\) of .*; divide"):
        bound(model, images, rng=tg.noise(1))


def test_bound_and_divergence_from_the_posterior_add_up_to_the_evidence():
    x = draws_of_evidence(500)
    model = LinearGaussian(0.4, np.log(0.5))
    per_draw = np.stack([tg.elbo(model, x, rng=tg.noise(0).at(i)) for i in range(2000)])
    gap = tg.kl_divergence(model.encode(x), model.posterior(x))
    assert gap.min() > 0.1
    assert_agrees(per_draw, model.evidence(x) - gap)
    assert_agrees(per_draw.mean(axis=1), np.mean(model.evidence(x) - gap))


def test_at_the_posterior_every_draw_gives_the_evidence():
    x = draws_of_evidence(20)
    model = LinearGaussian(0.6, -0.5 * np.log(LinearGaussian(0, 0).precision))
    found = tg.elbo(model, x, rng=tg.noise(0), kl="monte-carlo")
    np.testing.assert_allclose(found, model.evidence(x), rtol=1e-12)
    weighted = tg.importance_weighted_bound(model, x, rng=tg.noise(0), samples=5)
    np.testing.assert_allclose(weighted, model.evidence(x), rtol=1e-12)


def test_closed_form_and_monte_carlo_divergence_agree():
    model, x = small_vae(), binary_images(50)
    closed, monte_carlo = (
        np.stack([tg.elbo(model, x, rng=tg.noise(0).at(i), kl=kl) for i in range(500)])
        for kl in ("closed-form", "monte-carlo")
    )
    assert_agrees(closed - monte_carlo, 0.0)  # the draws are the same, so that they differ in the divergence alone
    assert_agrees((closed - monte_carlo).mean(axis=1), 0.0)


def test_more_samples_are_a_mean_of_draws():
    model, x = small_vae(), binary_images(3)
    q, prior = model.encode(x), model.prior()
    z = q.sample((7,), rng=tg.noise(1))
    assert z.shape == (7, 3, 3)
    log_weights = model.decode(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
    found = tg.elbo(model, x, rng=tg.noise(1), samples=7, kl="monte-carlo")
    np.testing.assert_allclose(found, log_weights.mean(axis=0), rtol=1e-12)
    weighted = tg.importance_weighted_bound(model, x, rng=tg.noise(1), samples=7)
    np.testing.assert_allclose(weighted, np.log(np.exp(log_weights).mean(axis=0)), rtol=1e-12)
    assert (weighted >= found).all()  # Jensen's inequality holds for the very same draws


def test_the_importance_weighted_bound_rises_with_samples_towards_the_evidence():
    x = draws_of_evidence(5000)
    model = LinearGaussian(0.4, np.log(0.5))
    evidence = model.evidence(x)
    gaps = [evidence - tg.importance_weighted_bound(model, x, rng=tg.noise(k), samples=k) for k in (1, 4, 16, 512)]
    for fewer, more in itertools.pairwise(gaps):
        error = (fewer - more).std(ddof=1) / np.sqrt(len(x))
        assert fewer.mean() - more.mean() > ALLOWED * error
    assert abs(gaps[-1].mean()) < 0.01 * gaps[0].mean()


# the gradient ------------------------------------------------------------------------------------------


def train_linear_gaussian(bound_of, steps=400):
    """Train slope and log_sd by gradient steps on a bound, and return the model."""
    x = draws_of_evidence(4000)
    model = LinearGaussian(np.asarray(0.0), np.asarray(0.0))
    optimizer = tg.optim.Adam(0.02)
    state = optimizer.init(model)
    for step in range(steps):
        recorded = tg.wrap(model)
        loss = -tg.mean(bound_of(recorded, x, tg.noise(0).at("step", step)))
        model, state = optimizer.update(model, tg.gradients(loss, recorded), state)
    return model, x


def test_the_reparameterized_gradient_finds_the_posterior():
    model, x = train_linear_gaussian(lambda m, x, rng: tg.reparameterize(tg.elbo(m, x, rng=rng)))
    target = model.posterior(1.0)
    assert float(target.loc) == pytest.approx(0.6)
    assert float(target.scale) == pytest.approx(0.1**0.5)
    assert float(model.slope) == pytest.approx(float(target.loc), abs=0.01)
    assert float(np.exp(model.log_sd)) == pytest.approx(float(target.scale), abs=0.01)
    assert float(np.mean(tg.kl_divergence(model.encode(x), model.posterior(x)))) < 1e-3


def test_the_score_function_gradient_finds_the_posterior_too():
    model, _ = train_linear_gaussian(lambda m, x, rng: tg.score_function(tg.elbo(m, x, rng=rng)))
    assert float(model.slope) == pytest.approx(0.6, abs=0.03)
    assert float(np.exp(model.log_sd)) == pytest.approx(0.1**0.5, abs=0.03)


def test_a_plain_gradient_is_refused_because_the_divergence_alone_would_train_the_encoder():
    model = tg.wrap(LinearGaussian(np.asarray(0.5), np.asarray(0.0)))
    loss = -tg.mean(tg.elbo(model, draws_of_evidence(10), rng=tg.noise(0)))
    with pytest.raises(tg.BlockedGradientError) as refused:
        tg.gradients(loss, model)
    text = str(refused.value)
    assert "1 random node stands between the cost and 2 of 2 parameters" in text
    assert re.search(r"partly cut +slope log_sd\n", text)
    assert re.search(r" cut +-\n", text)
    assert "reparameterize(cost)" in text


def test_a_draw_that_is_cut_on_purpose_collapses_the_posterior():
    def cut(model, x, rng):
        q = model.encode(x)
        z = tg.stop_gradient(q.sample(rng=rng, name="z"))
        return model.decode(z).log_prob(x) - tg.kl_divergence(q, model.prior())

    model, x = train_linear_gaussian(cut)
    assert float(np.mean(tg.kl_divergence(model.encode(x), model.prior()))) < 1e-4
    start = LinearGaussian(0.6, 0.0)
    assert float(np.mean(tg.kl_divergence(start.encode(x), start.prior()))) > 0.1  # it is not 0 everywhere


@pytest.mark.parametrize(
    "bound",
    [
        lambda m, x, rng: tg.elbo(m, x, rng=rng),
        lambda m, x, rng: tg.elbo(m, x, rng=rng, kl="monte-carlo", samples=3),
        lambda m, x, rng: tg.importance_weighted_bound(m, x, rng=rng, samples=4),
    ],
    ids=["closed-form", "monte-carlo", "importance-weighted"],
)
def test_score_function_and_reparameterize_agree(bound):
    model = tg.wrap(tg.VAE.init(4, hidden=(3,), latent=1, activation="tanh", rng=tg.noise(0), dtype=np.float64))
    x = np.tile(binary_images(3, pixels=4), (200, 1))
    pathwise, score = [], []
    for i in range(60):
        cost = bound(model, x, tg.noise(0).at(i))
        for rewrite, found in ((tg.reparameterize, pathwise), (tg.score_function, score)):
            opened = rewrite(cost)
            np.testing.assert_array_equal(opened.value, cost.value)
            gradient = tg.gradients(tg.mean(opened), model)
            found.append(np.concatenate([g.ravel() for g in trees.leaves(gradient)]))
    assert_agrees(np.subtract(pathwise, score), 0.0)


def test_training_raises_the_bound_of_a_vae():
    x = np.repeat(binary_images(4, pixels=12, dtype=np.float32), 32, axis=0)
    model = tg.VAE.init(12, hidden=(16,), latent=2, rng=tg.noise(0))
    before = evaluate(model, x, rng=tg.noise(1), samples=5)
    optimizer = tg.optim.Adam(0.01)
    state = optimizer.init(model)
    for step in range(200):
        recorded = tg.wrap(model)
        loss = -tg.mean(tg.reparameterize(tg.elbo(recorded, x, rng=tg.noise(2).at("step", step))))
        model, state = optimizer.update(model, tg.gradients(loss, recorded), state)
    after = evaluate(model, x, rng=tg.noise(1), samples=5)
    assert after["bound"] > before["bound"] + 2
    assert after["log_likelihood"] <= 0
    assert after["rate"] > 1  # four patterns take log 4 nats to tell apart


# evaluation --------------------------------------------------------------------------------------------


def test_evaluation_reports_what_the_closed_forms_say():
    x = draws_of_evidence(3000)
    model = LinearGaussian(0.4, np.log(0.5))
    found = evaluate(model, x, rng=tg.noise(0), samples=200, batch=700)
    evidence, gap = model.evidence(x), tg.kl_divergence(model.encode(x), model.posterior(x))
    assert found["rate"] == pytest.approx(np.mean(tg.kl_divergence(model.encode(x), model.prior())), rel=1e-12)
    assert found["bound"] == pytest.approx(-found["rate"] - found["distortion"], rel=1e-12)
    per_draw = np.stack([tg.elbo(model, x, rng=tg.noise(3).at(i)) for i in range(200)]).mean(axis=1)
    noise_of_draws = per_draw.std(ddof=1) / np.sqrt(200)  # what 200 draws an image leave of it, the images being fixed
    assert abs(found["bound"] - np.mean(evidence - gap)) < ALLOWED * noise_of_draws
    assert found["bound"] < found["log_likelihood"] < np.mean(evidence) + ALLOWED * noise_of_draws
    assert found["log_likelihood"] - found["bound"] > 0.95 * np.mean(gap)  # most of the gap is closed
    spread_of_images = np.std(evidence, ddof=1) / np.sqrt(len(x))
    assert found["log_likelihood_standard_error"] == pytest.approx(spread_of_images, rel=0.05)
    assert (found["images"], found["samples"]) == (3000, 200)


def test_evaluation_reports_its_progress_and_takes_a_wrapped_model():
    model, x, seen = small_vae(), binary_images(10), []
    found = evaluate(model, x, rng=tg.noise(0), samples=2, batch=4, progress=lambda done, n: seen.append((done, n)))
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert evaluate(tg.wrap(model), x, rng=tg.noise(0), samples=2, batch=4) == found


# bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x: m.encode(x[:, :7]), ValueError, r"images of 12 pixels.*found a float64 array of shape \(4, 7\)"),
        (lambda m, x: tg.elbo(m, x.reshape(4, 3, 4), rng=tg.noise(0)), ValueError, r"12 pixels.*\(4, 3, 4\); flatten"),
        (lambda m, x: m.encode(x.tolist()), TypeError, "expected an array or a number, found a list"),
        (lambda m, x: tg.elbo(m, 0.5 * x, rng=tg.noise(0)), ValueError, "x must be 0 or 1, found 0.5 at index"),
        (lambda m, x: tg.elbo(m, x + np.nan, rng=tg.noise(0)), ValueError, "found nan at index"),
        (
            lambda m, x: tg.elbo(m, x, rng=tg.noise(0), kl="exact"),
            ValueError,
            "kl must be one of auto, closed-form, monte-carlo; found",
        ),
        (
            lambda m, x: tg.elbo(m, x, rng=tg.noise(0), samples=0),
            ValueError,
            "samples must be a positive integer, found 0",
        ),
        (lambda m, x: tg.elbo(m, x, rng=tg.noise(0), samples=1.5), TypeError, "samples must be a positive integer"),
        (lambda m, x: tg.elbo(m, x, rng=0), TypeError, r"tg.noise\(seed\), found the int 0"),
        (
            lambda m, x: tg.importance_weighted_bound(m, x, rng=tg.noise(0), samples=0),
            ValueError,
            "samples must be a positive integer, found 0",
        ),
        (lambda m, x: evaluate(m, x, rng=tg.noise(0), samples=0), ValueError, "samples must be a positive integer"),
        (lambda m, x: evaluate(m, x, rng=tg.noise(0), batch=0), ValueError, "batch must be a positive integer"),
        (lambda m, x: evaluate(m, x[:1], rng=tg.noise(0)), ValueError, "two images at least, found 1"),
        (lambda m, x: evaluate(m, 0.5 * x, rng=tg.noise(0)), ValueError, "x must be 0 or 1"),
        (lambda m, x: small_vae(activation="gelu"), ValueError, "activation must be one of relu"),
        (lambda m, x: tg.VAE.init(12, latent=0, rng=tg.noise(0)), ValueError, "positive whole number, found 0"),
    ],
)
def test_bad_input_gets_one_clear_error(call, error, message):
    with pytest.raises(error, match=message):
        call(small_vae(), binary_images(4))
