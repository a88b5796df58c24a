"""Small models: one whose evidence, posterior and gradients are known, and a VAE with images for it."""

from dataclasses import dataclass

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.core import trees


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """z ~ N(0, 1), x ~ N(w z, s2), and a posterior of the form N(slope x, exp(log_sd)^2); all of it is known."""

    slope: object
    log_sd: object
    w: float = trees.static(default=1.5)
    s2: float = trees.static(default=0.25)

    def encode(self, x):
        return tg.Normal(self.slope * x, tg.exp(self.log_sd) * np.ones_like(x))

    def decode(self, z):
        return tg.Normal(self.w * z, np.sqrt(self.s2))

    def prior(self):
        return tg.Normal(0.0, 1.0)

    @property
    def precision(self):
        """The precision of the posterior: 1 of the prior and w^2 / s2 of the likelihood."""
        return 1 + self.w**2 / self.s2

    def posterior(self, x):
        return tg.Normal(self.w / self.s2 / self.precision * x, self.precision**-0.5)

    def evidence(self, x):
        return tg.Normal(0.0, np.sqrt(self.w**2 + self.s2)).log_prob(x)


def small_vae(**options):
    return tg.VAE.init(12, hidden=(8,), latent=3, rng=tg.noise(0), dtype=np.float64, **options)


def binary_images(n, pixels=12, dtype=np.float64):
    return (np.random.default_rng(1).random((n, pixels)) < 0.4).astype(dtype)
