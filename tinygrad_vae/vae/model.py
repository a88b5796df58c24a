"""The variational autoencoder of Kingma and Welling 2014: three distributions, two of them given by networks.

``encode``, ``decode`` and ``prior`` return distributions; ``bounds`` draws from them and adds up the terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import NoiseStream, Value, as_array, describe, value_of
from ..devices import to_host
from ..distributions.distribution import Distribution
from ..domains import interval
from ..nn import MLP, Layer
from ..ops import astype, reshape
from .heads import LIKELIHOODS, POSTERIORS, Head, HeadInit, MixturePrior


@dataclass(frozen=True, eq=False)
class VAE(Layer):
    """A model of images x with latent variables z behind each.

    ``p(z) = prior()``, ``p(x|z) = likelihood(decoder(z))``, and ``q(z|x) = posterior(encoder(x))`` approximates the
    posterior. With arrays for weights it computes; ``tg.wrap(model)`` has Tensors for weights, and records.

    Args:
        encoder: the trunk from pixels to the last hidden layer, an ``MLP`` with ``trunk=True``.
        posterior: the head from there to q(z|x).
        decoder: the trunk from z to the last hidden layer.
        likelihood: the head from there to p(x|z).
        learned_prior: p(z); without it ``posterior.standard()``: N(0, I), or fair tosses.

    Raises:
        ValueError: the parts do not fit together.

    >>> model = VAE.init(784, rng=tg.noise(0))
    >>> model.reconstruct(np.zeros((5, 784))).shape
    (5, 784)
    """

    encoder: MLP
    posterior: Head
    decoder: MLP
    likelihood: Head
    learned_prior: MixturePrior | None = None

    def __post_init__(self) -> None:
        parts = (
            ("encoder", self.encoder, "posterior", self.posterior),
            ("decoder", self.decoder, "likelihood", self.likelihood),
        )
        for name, trunk, head_name, head in parts:
            if trunk.layers and trunk.layers[-1].n_out != head.n_in:
                raise ValueError(
                    f"VAE: the {name} gives {trunk.layers[-1].n_out} numbers, the {head_name} takes {head.n_in}"
                )
        pixels, code = ((trunk.layers[0] if trunk.layers else head).n_in for _, trunk, _, head in parts)
        if code != self.posterior.width:
            raise ValueError(f"VAE: a draw of z has {self.posterior.width} numbers, the decoder takes {code}")
        if pixels != self.likelihood.n_out:
            raise ValueError(f"VAE: the encoder takes {pixels} pixels, the likelihood gives {self.likelihood.n_out}")

    @classmethod
    def init(
        cls,
        pixels: int,
        *,
        hidden: tuple[int, ...] = (400,),
        latent: int = 20,
        activation: str = "relu",
        posterior: str | HeadInit = "gaussian",
        likelihood: str | HeadInit = "bernoulli",
        components: int = 0,
        rng: NoiseStream,
        dtype: Any = np.float32,
    ) -> VAE:
        """Return a model with random weights and zero biases.

        Args:
            pixels: the number of pixels of an image.
            hidden: the sizes of the hidden layers of the encoder; the decoder has them in reverse.
            latent: the number of latent variables.
            activation: one of ``"relu"``, ``"tanh"``, ``"softplus"``, ``"sigmoid"``.
            posterior: a name in ``vae.POSTERIORS``, or a function that makes such a head.
            likelihood: a name in ``vae.LIKELIHOODS``, or a function that makes such a head, as
                ``functools.partial(vae.CategoricalHead.init, levels=16)``.
            components: the number of Gaussians to mix for a learned prior; 0 for the standard prior.
            rng: a stream from ``tg.noise(seed)``.
            dtype: float32 or float64.

        Raises:
            TypeError, ValueError: a size is no positive integer, or a name is not known.

        >>> VAE.init(64, hidden=(32, 16), latent=2, rng=tg.noise(0)).latent
        2
        >>> bits = VAE.init(64, latent=8, posterior="bernoulli", rng=tg.noise(0))
        >>> bits.prior().sample(rng=tg.noise(1)).shape
        (8,)
        """
        make_posterior = _head("posterior", posterior, POSTERIORS)
        make_likelihood = _head("likelihood", likelihood, LIKELIHOODS)
        if isinstance(components, bool) or not isinstance(components, (int, np.integer)) or components < 0:
            raise ValueError(f"VAE.init: components must be a non-negative integer, found {components!r}")
        if components and posterior in ("bernoulli", "one-hot"):
            raise ValueError(
                f"VAE.init: a mixture of Gaussians is no prior for a {posterior} posterior; use components=0"
            )
        sizes = (pixels, *hidden)
        encoder = MLP.init(sizes, rng=rng, activation=activation, trunk=True, dtype=dtype)
        q = make_posterior(sizes[-1], latent, rng=rng, dtype=dtype)
        decoder = MLP.init((q.width, *reversed(hidden)), rng=rng, activation=activation, trunk=True, dtype=dtype)
        p = make_likelihood(hidden[0] if hidden else q.width, pixels, rng=rng, dtype=dtype)
        mixture = MixturePrior.init(components, latent, rng=rng, dtype=dtype) if components else None
        return cls(encoder, q, decoder, p, mixture)

    @property
    def latent(self) -> int:
        """The number of latent variables."""
        return self.posterior.n_out

    @property
    def data_size(self) -> int:
        """The number of pixels of an image."""
        return self.likelihood.n_out

    def encode(self, x: Value) -> Distribution:
        """Return ``q(z|x)``, the approximate posterior, for images of shape (..., pixels) and any dtype.

        Raises:
            TypeError, ValueError: x is not an array of numbers, has another number of pixels, or pixels that the
                likelihood cannot have.
        """
        x = self._images(x)
        white = self.likelihood.white
        return self.posterior(self.encoder(x if white == 1 else x / white))

    def decode(self, z: Value) -> Distribution:
        """Return ``p(x|z)``, for z of shape (..., latent), or (..., latent, classes) if latents are one-hot vectors."""
        if self.posterior.width != self.latent:
            z = reshape(z, (*z.shape[:-2], self.posterior.width))
        p = self.likelihood(self.decoder(z))
        head, example = type(self.likelihood).__name__, "such as tg.Independent(tg.Normal(...), 1)"
        if not isinstance(p, Distribution):
            raise TypeError(f"{head} gave {describe(p)}; a head returns a distribution, {example}")
        if not p.event_shape:
            raise ValueError(f"{head} gave single pixels; a head returns the distribution of an image, {example}")
        return p

    def prior(self) -> Distribution:
        """Return ``p(z)``."""
        return self.posterior.standard() if self.learned_prior is None else self.learned_prior()

    def generate(self, n: int, *, rng: NoiseStream) -> Value:
        """Return the expected pixels of n images from the prior, of shape (n, pixels)."""
        return self.decode(self.prior().sample((n,), rng=rng, name="z")).mean

    def reconstruct(self, x: Value, *, rng: NoiseStream | None = None) -> Value:
        """Return the expected pixels of x once encoded and decoded, in the shape of x, which is (..., pixels).

        With a stream, z is drawn from the posterior; without one it is the posterior's mean.
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
        white = self.likelihood.white
        allowed = interval(0, white)
        if self.likelihood.bounded and not bool(allowed.holds(found)):
            host = to_host(found)
            index = tuple(int(k) for k in np.argwhere(~allowed.contains(host))[0])
            raise ValueError(
                f"VAE: {type(self.likelihood).__name__} takes pixels from 0 to {white:g}, found {host[index]} at index "
                f"{index} of {describe(found)}; divide grey levels by their largest value, and make pixels of 0 or 1 "
                "with images > images.max() / 2"
            )
        dtype = self.posterior.first.weight.dtype
        return x if found.dtype == dtype else astype(x, dtype)


def _head(what: str, choice: str | HeadInit, known: dict[str, HeadInit]) -> HeadInit:
    if isinstance(choice, type):
        raise TypeError(f"VAE.init: {what}: found the class {choice.__name__}; pass {choice.__name__}.init")
    if callable(choice):
        return choice
    if choice not in known:
        names = ", ".join(known)
        raise ValueError(f"VAE.init: {what} must be one of {names}, or a function that makes a head; found {choice!r}")
    return known[choice]
