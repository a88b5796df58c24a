"""The variational autoencoder of Kingma and Welling 2014: three laws, two of them given by networks.

It knows layers and distributions, and nothing of objectives: ``encode``, ``decode`` and ``prior`` return laws, and
what to draw from them and what to add up is written in ``objectives``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import NoiseStream, Value, as_array, describe, namespace
from ..graph import value_of
from ..nn import MLP, Linear
from ..ops import astype, exp
from ..stochastic.distributions import Bernoulli, Independent, Normal


@dataclass(frozen=True, eq=False)
class VAE:
    """A model of binary images x with a latent vector z behind each.

    ``p(z) = N(0, I)``, ``p(x|z) = Bernoulli(decoder(z))`` for each pixel, and
    ``q(z|x) = N(mean(h), exp(log_variance(h)))`` with h = encoder(x) in place of the posterior. Called with arrays for
    its weights it computes; ``tg.wrap(model)`` is the same model with Tensors for weights, and records.

    Args:
        encoder: the trunk from pixels to the last hidden layer.
        mean: from there to the mean of z.
        log_variance: from there to the logarithm of its variance.
        decoder: the trunk from z to the last hidden layer.
        pixels: from there to the logit of each pixel.

    >>> model = VAE.init(784, rng=tg.noise(0))
    >>> model.reconstruct(np.zeros((5, 784))).shape
    (5, 784)
    """

    encoder: MLP
    mean: Linear
    log_variance: Linear
    decoder: MLP
    pixels: Linear

    @classmethod
    def init(
        cls,
        pixels: int,
        *,
        hidden: tuple[int, ...] = (400,),
        latent: int = 20,
        activation: str = "relu",
        rng: NoiseStream,
        dtype: Any = np.float32,
    ) -> VAE:
        """Return a model with random weights and zero biases.

        Args:
            pixels: the number of pixels of an image.
            hidden: the sizes of the hidden layers of the encoder; the decoder has them in reverse.
            latent: the length of z.
            activation: one of ``"relu"``, ``"tanh"``, ``"softplus"``, ``"sigmoid"``.
            rng: a stream from ``tg.noise(seed)``.
            dtype: float32 or float64.

        Raises:
            TypeError, ValueError: a size is no whole number from 1 on, or the activation has another name.

        >>> VAE.init(64, hidden=(32, 16), latent=2, rng=tg.noise(0)).latent
        2
        """
        sizes = (pixels, *hidden)
        encoder = MLP.init(sizes, rng=rng, activation=activation, dtype=dtype)
        mean = Linear.init(sizes[-1], latent, rng=rng, dtype=dtype)
        log_variance = Linear.init(sizes[-1], latent, rng=rng, dtype=dtype)
        decoder = MLP.init((latent, *reversed(hidden)), rng=rng, activation=activation, dtype=dtype)
        head = Linear.init(hidden[0] if hidden else latent, pixels, rng=rng, dtype=dtype)
        return cls(encoder, mean, log_variance, decoder, head)

    @property
    def latent(self) -> int:
        """The length of z."""
        return self.mean.n_out

    @property
    def data_size(self) -> int:
        """The number of pixels of an image."""
        return self.pixels.n_out

    def encode(self, x: Value) -> Independent:
        """Return ``q(z|x) = N(mu, sigma^2)``, the approximate posterior.

        The network gives the logarithm of the variance, which may be any number, and ``sigma = exp(log_variance / 2)``
        is then positive. The half turns a variance into a standard deviation; without it the law is another one, which
        trains just as quietly.

        Args:
            x: images of shape (..., pixels), of any dtype; they are read in that of the model.

        Raises:
            TypeError, ValueError: x is no array of numbers, or has another number of pixels.
        """
        h = self.encoder(self._images(x))
        return Independent(Normal(self.mean(h), exp(self.log_variance(h) / 2)), 1)

    def decode(self, z: Value) -> Independent:
        """Return ``p(x|z)``, a Bernoulli law for each pixel.

        Args:
            z: latent vectors of shape (..., latent).
        """
        return Independent(Bernoulli(logits=self.pixels(self.decoder(z))), 1)

    def prior(self) -> Independent:
        """Return ``p(z) = N(0, I)``."""
        weight = value_of(self.mean.weight)
        xp = namespace(weight)
        return Independent(Normal(xp.zeros(self.latent, weight.dtype), xp.ones(self.latent, weight.dtype)), 1)

    def generate(self, n: int, *, rng: NoiseStream) -> Value:
        """Return the pixel probabilities of n images from the prior, of shape (n, pixels).

        Args:
            n: how many.
            rng: a stream from ``tg.noise(seed)``.
        """
        return self.decode(self.prior().sample((n,), rng=rng, name="z")).mean

    def reconstruct(self, x: Value, *, rng: NoiseStream | None = None) -> Value:
        """Return the pixel probabilities of x once encoded and decoded, in the shape of x.

        Args:
            x: images of shape (..., pixels).
            rng: a stream to draw z from the posterior; without it z is the posterior's mean.
        """
        q = self.encode(x)
        return self.decode(q.mean if rng is None else q.sample(rng=rng, name="z")).mean

    def _images(self, x: Value) -> Value:
        found = as_array(value_of(x))
        if found.ndim == 0 or found.shape[-1] != self.data_size:
            raise ValueError(
                f"VAE: expected images of {self.data_size} pixels, of shape (..., {self.data_size}), "
                f"found {describe(found)}; flatten each image with images.reshape(len(images), -1)"
            )
        dtype = self.mean.weight.dtype
        return x if found.dtype == dtype else astype(x, dtype)
