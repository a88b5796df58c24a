"""Steps, models and comparisons that the tests of compiled steps share."""

import functools

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.core import trees

CALLS = 5
"""Two that record, and three that run."""

ADAM = tg.optim.Adam(1e-2)


def assert_same_bits(planned, eager):
    for (path, a), b in zip(trees.paths(planned), trees.leaves(eager), strict=True):
        a, b = np.asarray(a), np.asarray(tg.values(b))
        assert (a.shape, a.dtype) == (b.shape, b.dtype), path
        assert one_nan(a).tobytes() == one_nan(b).tobytes(), path


def one_nan(x):
    """Which of two NaN comes out of an operation is nobody's promise."""
    return np.where(np.isnan(x), np.nan, x) if x.dtype.kind == "f" else x


def agrees(step, *calls, **options):
    """Assert that a plan gives what its step gives, in each of these calls, and return the plan."""
    run = tg.plan(step, **options)
    for call in calls:
        assert_same_bits(run(*call), step(*call))
    return run


def program_of(run):
    (planned,) = (known for known in run._known.values() if hasattr(known, "program"))
    return planned.program


def training_step(estimator=tg.reparameterize):
    def step(model, state, images, rng):
        def loss(model):
            return -tg.mean(estimator(tg.elbo(model, images, rng=rng)))

        value, gradient = tg.value_and_grad(loss)(model)
        return *ADAM.update(model, gradient, state), value

    return step


@functools.cache
def new_model():
    return tg.VAE.init(64, hidden=(32,), latent=4, rng=tg.noise(0))


def binary_images(n, seed):
    return (np.random.default_rng(seed).random((n, 64)) < 0.3).astype(np.float32)
