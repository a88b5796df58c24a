"""The distributions that a VAE is made of: each head against its formula, and every combination trained a little."""

import dataclasses
import functools

import numpy as np
import pytest
from small_models import binary_images, small_vae

import tinygrad_vae as tg
from tinygrad_vae import vae
from tinygrad_vae.core import trees
from tinygrad_vae.nn import MLP, Linear


def hidden(n=5, width=6, dtype=np.float64):
    return np.random.default_rng(0).normal(size=(n, width)).astype(dtype)


def head_of(kind, n_out=3, **options):
    return kind.init(6, n_out, rng=tg.noise(0), dtype=np.float64, **options)


@pytest.mark.parametrize("name", [*vae.LIKELIHOODS, *vae.POSTERIORS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_head_gives_a_distribution_over_vectors_in_its_own_dtype(name, dtype):
    head = (vae.LIKELIHOODS | vae.POSTERIORS)[name](6, 3, rng=tg.noise(0), dtype=dtype)
    dist = head(hidden(dtype=dtype))
    assert (head.n_in, head.n_out) == (6, 3)
    assert dist.batch_shape == (5,)
    assert (len(dist.event_shape), np.prod(dist.event_shape)) == (2 if name == "one-hot" else 1, head.width)
    draw = dist.sample((2,), rng=tg.noise(1))
    assert draw.shape == (2, 5, *dist.event_shape)
    if draw.dtype.kind == "f":
        assert draw.dtype == dtype
    assert dist.log_prob(draw).shape == (2, 5)
    assert dist.log_prob(draw).dtype == dtype


@pytest.mark.parametrize("name", [*vae.LIKELIHOODS, *vae.POSTERIORS])
def test_a_head_records_the_same_bits(name):
    head = (vae.LIKELIHOODS | vae.POSTERIORS)[name](6, 3, rng=tg.noise(0), dtype=np.float64)
    draw = head(hidden()).sample(rng=tg.noise(1))
    wrapped = tg.wrap(head)
    recorded = wrapped(hidden()).log_prob(draw)
    np.testing.assert_array_equal(recorded.value, head(hidden()).log_prob(draw))
    gradient = tg.gradients(tg.sum(recorded), wrapped)
    assert len(trees.leaves(gradient)) == len(trees.leaves(head))


def test_the_gaussian_heads_differ_in_their_variance_alone():
    h, n = hidden(), 3
    full = head_of(vae.FullGaussianHead)
    dist = full(h)
    np.testing.assert_allclose(dist.mean, full.mean(h))
    factor = np.tril(full.below(h).reshape(5, n, n), -1)
    factor[:, range(n), range(n)] = np.exp(full.log_scale(h))
    np.testing.assert_allclose(dist.covariance, factor @ factor.swapaxes(1, 2), rtol=1e-12)

    fixed = vae.FixedGaussianHead(full.mean, scale=0.3)
    np.testing.assert_allclose(fixed(h).variance, np.full((5, n), 0.09))
    for log_scale in (np.array(-1.0), np.array([-1.0, 0.0, 1.0])):
        shared = vae.SharedGaussianHead(full.mean, log_scale)
        np.testing.assert_allclose(shared(h).variance, np.broadcast_to(np.exp(2 * log_scale), (5, n)))
    each = head_of(vae.GaussianHead)
    np.testing.assert_allclose(each(h).variance, np.exp(each.log_variance(h)))


def test_a_full_covariance_begins_about_as_wide_as_the_prior():
    head = vae.FullGaussianHead.init(200, 40, rng=tg.noise(0))
    dist = head(hidden(100, 200, np.float32))
    lengths = np.square(np.tril(dist.scale_tril, -1)).sum(axis=-1)
    assert lengths.mean() < 1


def test_classes_of_a_pixel_stand_together():
    head = head_of(vae.CategoricalHead, levels=4)
    h = hidden()
    logits = head.logits(h).reshape(5, 3, 4)
    np.testing.assert_allclose(head(h).base.logits, logits)
    np.testing.assert_allclose(
        head(h).mean, np.exp(logits) @ np.arange(4) / np.exp(logits).sum(-1), rtol=1e-12
    )  # the expected grey level


@pytest.mark.parametrize("name", vae.POSTERIORS)
def test_the_standard_distribution_favours_nothing(name):
    model = small_vae(posterior=name)
    prior = model.prior()
    assert prior.batch_shape == ()
    entropies = {"gaussian": 3 * 0.5 * np.log(2 * np.pi * np.e), "bernoulli": 3 * np.log(2), "one-hot": 3 * np.log(10)}
    entropies["full-gaussian"] = entropies["gaussian"]
    np.testing.assert_allclose(prior.entropy(), entropies[name], rtol=1e-12)


def test_a_mixture_is_a_weighted_sum_of_gaussians():
    prior = vae.MixturePrior(np.log([0.2, 0.8]), np.array([[0.0, 1.0], [2.0, 3.0]]), np.log([[1.0, 2.0], [0.5, 1.0]]))
    z = np.array([0.7, 1.1])
    parts = [
        weight * np.exp(-((z - m) ** 2 / (2 * s**2)).sum()) / (2 * np.pi * s.prod())
        for weight, m, s in zip([0.2, 0.8], prior.mean, np.exp(prior.log_scale), strict=True)
    ]
    np.testing.assert_allclose(prior().log_prob(z), np.log(sum(parts)), rtol=1e-12)


# models ------------------------------------------------------------------------------------------------


def images_for(likelihood, n=6):
    grey = np.random.default_rng(2).integers(0, 4, (n, 12))
    return {"categorical": grey, "bernoulli": binary_images(n)}.get(likelihood, grey / 3)


@pytest.mark.parametrize("posterior", vae.POSTERIORS)
@pytest.mark.parametrize("likelihood", vae.LIKELIHOODS)
@pytest.mark.parametrize("layers", [(), (8,), (8, 5)])
def test_every_model_has_a_bound_with_a_gradient_for_each_of_its_weights(posterior, likelihood, layers):
    levels = functools.partial(vae.CategoricalHead.init, levels=4)
    model = tg.VAE.init(
        12,
        hidden=layers,
        latent=3,
        activation="tanh",
        posterior=posterior,
        likelihood=levels if likelihood == "categorical" else likelihood,
        rng=tg.noise(0),
        dtype=np.float64,
    )
    x = images_for(likelihood)
    assert (model.latent, model.data_size) == (3, 12)
    assert model.reconstruct(x).shape == model.reconstruct(x, rng=tg.noise(1)).shape == x.shape
    assert model.generate(4, rng=tg.noise(1)).shape == (4, 12)
    recorded = tg.wrap(model)
    discrete = model.encode(x).path is None
    bound = (tg.score_function if discrete else tg.reparameterize)(tg.elbo(recorded, x, rng=tg.noise(1)))
    np.testing.assert_array_equal(bound.value, tg.elbo(model, x, rng=tg.noise(1)))
    gradient = tg.gradients(tg.mean(bound), recorded)
    assert all(np.abs(leaf).max() > 0 for leaf in trees.leaves(gradient))


def test_a_learned_prior_is_trained_and_its_divergence_is_estimated_from_the_draws():
    model, x = small_vae(components=4), binary_images(6)
    assert len(trees.leaves(model)) == len(trees.leaves(small_vae())) + 3
    found = tg.elbo(model, x, rng=tg.noise(1))
    np.testing.assert_array_equal(found, tg.elbo(model, x, rng=tg.noise(1), kl="monte-carlo"))
    with pytest.raises(NotImplementedError, match="no closed form"):
        tg.elbo(model, x, rng=tg.noise(1), kl="closed-form")
    recorded = tg.wrap(model)
    bound = tg.reparameterize(tg.elbo(recorded, x, rng=tg.noise(1)))
    gradient = tg.gradients(tg.mean(bound), recorded).learned_prior
    assert all(np.abs(leaf).max() > 0 for leaf in trees.leaves(gradient))


def test_an_encoder_sees_grey_levels_as_fractions_of_white():
    levels = functools.partial(vae.CategoricalHead.init, levels=4)
    grey = small_vae(likelihood=levels)
    fractions = small_vae()
    x = images_for("categorical")
    np.testing.assert_allclose(grey.encode(x).mean, fractions.encode(x / 3).mean, rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: small_vae(posterior="laplace"), "posterior must be one of gaussian, .*found 'laplace'"),
        (lambda: small_vae(likelihood="poisson"), "likelihood must be one of bernoulli, .*found 'poisson'"),
        (lambda: small_vae(components=-1), "components must be a non-negative integer, found -1"),
        (lambda: small_vae(components=2, posterior="bernoulli"), "no prior for a bernoulli posterior"),
        (lambda: head_of(vae.FixedGaussianHead, scale=0.0), "scale must be a positive number, found 0.0"),
        (lambda: head_of(vae.OneHotHead, classes=1), "classes must be an integer of at least 2 .*found 1"),
        (lambda: vae.CategoricalHead(Linear(np.ones((2, 9)), np.ones(9)), 4), "divides the 9 logits, found 4"),
        (lambda: put_together(code=4), "a draw of z has 3 numbers, the decoder takes 4"),
        (lambda: put_together(pixels=7), "the encoder takes 6 pixels, the likelihood gives 7"),
        (lambda: put_together(last=9), "the encoder gives 9 numbers, the posterior takes 5"),
    ],
)
def test_parts_that_do_not_fit_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def put_together(code=3, pixels=6, last=5):
    rng = tg.noise(0)
    return tg.VAE(
        MLP.init((6, last), rng=rng, trunk=True),
        vae.GaussianHead.init(5, 3, rng=rng),
        MLP.init((code, 5), rng=rng, trunk=True),
        vae.BernoulliHead.init(5, pixels, rng=rng),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda self, h: tg.Normal(self.loc(h), 1.0), "Pixels gave single pixels; a head returns"),
        (lambda self, h: self.loc(h), "Pixels gave a float64 array of shape"),
    ],
)
def test_a_head_that_gives_no_distribution_of_images_is_told_so(call, message):
    kind = type("Pixels", (vae.Head,), {"__call__": call, "__annotations__": {"loc": Linear}})
    with pytest.raises(TypeError, match="Pixels is no dataclass; write @dataclass"):
        kind(None)
    with pytest.raises(TypeError, match=r"pass Pixels\.init"):
        small_vae(likelihood=kind)
    model = small_vae(likelihood=dataclasses.dataclass(frozen=True, eq=False)(kind).init)
    with pytest.raises((TypeError, ValueError), match=message):
        tg.elbo(model, binary_images(3), rng=tg.noise(0))
