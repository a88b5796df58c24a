"""Evaluation: against closed-form evidence, by hand, and in memory that does not grow."""

import json
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from small_models import binary_images, small_vae
from standard_errors import assert_agrees

import tinygrad_vae as tg
from tinygrad_vae import vae
from tinygrad_vae.core import trees
from tinygrad_vae.nn import MLP, Linear
from tinygrad_vae.vae.evaluate import evaluate

PIXELS, LATENT, NOISE = 6, 2, 0.5


def principal_components(widening=1.0):
    """Return probabilistic PCA, its exact posterior (or one that is too wide), and the distribution of its images.

    ``x ~ N(W z + b, s^2 I)``, z ~ N(0, I): then ``x ~ N(b, W W^T + s^2 I)``, and z given x has the covariance
    ``C = (I + W^T W / s^2)^-1`` and the mean ``C W^T (x - b) / s^2``. Tipping and Bishop 1999.
    """
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(LATENT, PIXELS)), rng.normal(size=PIXELS)
    covariance = np.linalg.inv(np.eye(LATENT) + w @ w.T / NOISE**2)
    factor = np.linalg.cholesky(covariance) * widening
    to_mean = w.T @ covariance / NOISE**2

    def constant(row):
        return Linear(np.zeros((PIXELS, len(row))), row)

    posterior = vae.FullGaussianHead(
        Linear(to_mean, -b @ to_mean), constant(np.log(np.diag(factor))), constant(np.tril(factor, -1).ravel())
    )
    likelihood = vae.FixedGaussianHead(Linear(w, b), NOISE)
    model = tg.VAE(MLP(()), posterior, MLP(()), likelihood)
    return model, scipy.stats.multivariate_normal(b, w.T @ w + NOISE**2 * np.eye(PIXELS))


def test_with_the_exact_posterior_every_draw_gives_the_evidence():
    model, dist = principal_components()
    x = dist.rvs(40, random_state=1)
    found = evaluate(model, x, rng=tg.noise(0), samples=7)
    assert found["log_likelihood"] == pytest.approx(dist.logpdf(x).mean(), rel=1e-10)
    assert found["log_likelihood_standard_error"] == pytest.approx(dist.logpdf(x).std(ddof=1) / 40**0.5, rel=1e-10)
    assert found["effective_samples"] == pytest.approx(7, rel=1e-10)


def test_with_another_posterior_the_log_likelihood_comes_close_and_the_bound_stays_below():
    model, dist = principal_components(widening=1.3)
    x = dist.rvs(20, random_state=1)
    found = [evaluate(model, x, rng=tg.noise(0).at(i), samples=1000) for i in range(12)]
    assert_agrees([f["log_likelihood"] for f in found], dist.logpdf(x).mean())
    exact, _ = principal_components()
    gap = tg.kl_divergence(model.encode(x), exact.encode(x)).mean()
    assert_agrees([f["bound"] for f in found], dist.logpdf(x).mean() - gap)
    assert gap > 0.1
    assert 1 < found[0]["effective_samples"] < 1000


def test_the_report_is_plain_and_adds_up():
    model, x = small_vae(), binary_images(10)
    found = evaluate(model, x, rng=tg.noise(0), samples=5)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["bound"] == pytest.approx(-found["rate"] - found["distortion"], rel=1e-12)
    assert sum(found["kl_per_latent"]) == pytest.approx(found["rate"], rel=1e-12)
    q = model.encode(x)
    each = tg.kl_divergence(q.base, tg.Normal(0.0, 1.0)).mean(axis=0)
    np.testing.assert_allclose(found["kl_per_latent"], each, rtol=1e-12)
    assert found["active_units"] == (q.mean.var(axis=0) > 0.01).sum()


def test_draws_in_chunks_are_the_same_estimate(monkeypatch):
    model, x = small_vae(), binary_images(4)
    q, prior = model.encode(x), model.prior()
    rng = tg.noise(0)
    z = np.concatenate([q.sample((n,), rng=rng) for n in (2, 2, 1)])
    log_weights = model.decode(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
    monkeypatch.setitem(evaluate.__globals__, "ROWS", 8)
    found = evaluate(model, x, rng=tg.noise(0), samples=5)
    assert found["log_likelihood"] == pytest.approx(np.log(np.exp(log_weights).mean(axis=0)).mean(), rel=1e-12)
    weights = np.exp(log_weights)
    effective = (weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0)).mean()
    assert found["effective_samples"] == pytest.approx(effective, rel=1e-12)


def test_weights_of_any_size_neither_overflow_nor_vanish():
    model, dist = principal_components()
    x = 1e3 * dist.rvs(5, random_state=1)  # log p(x) around -10^6
    found = evaluate(model, x, rng=tg.noise(0), samples=3)
    assert found["log_likelihood"] == pytest.approx(dist.logpdf(x).mean(), rel=1e-10)


def test_more_draws_take_no_more_memory():
    model, x = small_vae(), binary_images(50)

    def peak(samples):
        tracemalloc.start()
        evaluate(model, x, rng=tg.noise(0), samples=samples)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)
    few = peak(100)
    assert peak(1000) < few + 50 * 1000 * 8 / 4  # a quarter of what one float64 for each draw would take


@pytest.mark.parametrize(
    ("options", "latents_have_their_own"),
    [
        ({"posterior": "bernoulli"}, True),
        ({"posterior": "one-hot"}, True),
        ({"posterior": "full-gaussian"}, False),
        ({"components": 3}, False),
    ],
)
def test_every_model_can_be_evaluated(options, latents_have_their_own):
    model, x = small_vae(**options), binary_images(10)
    found = evaluate(model, x, rng=tg.noise(0), samples=5)
    assert found["bound"] == pytest.approx(-found["rate"] - found["distortion"], rel=1e-12)
    assert found["bound"] < found["log_likelihood"] <= 0
    assert 0 <= found["active_units"] <= 3
    assert (found["kl_per_latent"] is not None) == latents_have_their_own


def test_a_collapsed_posterior_is_called_one_and_a_living_one_is_not():
    model, x = small_vae(), binary_images(20)
    living = evaluate(model, x, rng=tg.noise(0), samples=2)
    assert living["active_units"] == 3
    assert living["warning"] is None
    posterior = trees.map_leaves(np.zeros_like, model.posterior)
    dead = tg.VAE(model.encoder, posterior, model.decoder, model.likelihood)
    found = evaluate(dead, x, rng=tg.noise(0), samples=2)
    assert found["active_units"] == 0
    assert found["rate"] == 0
    for word in ("none of the 3 latents is active", "warm_up", "free_bits", "tg.explain"):
        assert word in found["warning"]
