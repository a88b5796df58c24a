"""Heads: from the last hidden layer of a network to a distribution, one small declaration each.

The same head may stand at the end of an encoder, as q(z|x), or of a decoder, as p(x|z).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..core import Array, NoiseStream, Value, namespace, trees, value_of
from ..distributions import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)
from ..distributions.distribution import Distribution
from ..nn import Layer, Linear
from ..ops import exp, expand_dims, reshape, softmax, sum, tril

H = TypeVar("H", bound="Head")


class Head(Layer):
    """A map from a hidden vector h to a distribution; the first field of a subclass is a ``Linear`` layer.

    A subclass is a ``@dataclass(frozen=True, eq=False)`` with ``__call__``; with ``init`` unless all its fields are
    layers of the same size; and with ``standard`` if it can stand at the end of an encoder.
    """

    event_ndim: ClassVar[int] = 1
    """The number of axes of one draw."""
    bounded: ClassVar[bool] = False
    """Whether pixels lie from 0 to ``white``."""

    @property
    def first(self) -> Linear:
        """The layer that gives the location or the logits."""
        layer: Linear = getattr(self, dataclasses.fields(self)[0].name)  # type: ignore[arg-type]
        return layer

    @property
    def n_in(self) -> int:
        """The length of h."""
        return self.first.n_in

    @property
    def n_out(self) -> int:
        """The number of variables: pixels, or latents."""
        return self.first.n_out

    @property
    def width(self) -> int:
        """The number of numbers in a draw: with one-hot vectors, more than variables."""
        return self.n_out

    @property
    def white(self) -> float:
        """The value of a white pixel; an encoder sees pixels divided by it."""
        return 1.0

    @classmethod
    def init(cls: type[H], n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32) -> H:
        """Return a head with random weights: one layer for each field, from h of length n_in to n_out numbers."""
        layers = [f for f in dataclasses.fields(cls) if not f.metadata.get("static")]  # type: ignore[arg-type]
        return cls(*(Linear.init(n_in, n_out, rng=rng, dtype=dtype) for _ in layers))

    def __call__(self, h: Value) -> Distribution:
        """Return the distribution for hidden vectors of shape (..., n_in)."""
        raise NotImplementedError(f"{type(self).__name__} declares no __call__(h)")

    def standard(self) -> Distribution:
        """Return the standard distribution of the same family: the prior for this posterior."""
        raise TypeError(
            f"{type(self).__name__} is a likelihood and has no standard distribution; for a posterior take one of "
            f"{', '.join(sorted(POSTERIORS))}"
        )

    def _constant(self, value: float, shape: tuple[int, ...]) -> Array:
        """Return an array that lives where the weights do, in their dtype."""
        weight = value_of(self.first.weight)
        return namespace(weight).full(shape, value, weight.dtype)


@dataclass(frozen=True, eq=False)
class GaussianHead(Head):
    """``N(mean(h), exp(log_variance(h)))``, each variable by itself.

    The network gives the logarithm of the variance, which may be any number, so that ``sigma = exp(log_variance / 2)``
    is positive. The half turns a variance into a standard deviation; without it the distribution is another one, which
    trains just as quietly.

    >>> GaussianHead.init(16, 2, rng=tg.noise(0))(np.zeros((5, 16), np.float32)).event_shape
    (2,)
    """

    mean: Linear
    log_variance: Linear

    def __call__(self, h: Value) -> Independent:
        return Independent(Normal(self.mean(h), exp(self.log_variance(h) / 2)), 1)

    def standard(self) -> Independent:
        return Independent(Normal(self._constant(0.0, (self.n_out,)), self._constant(1.0, (self.n_out,))), 1)


@dataclass(frozen=True, eq=False)
class FullGaussianHead(Head):
    """``N(mean(h), L L^T)``: L has the diagonal ``exp(log_scale(h))``, and the numbers of ``below(h)`` below it.

    >>> head = FullGaussianHead.init(16, 2, rng=tg.noise(0))
    >>> head(np.zeros((5, 16), np.float32)).scale_tril.shape
    (5, 2, 2)
    """

    mean: Linear
    log_scale: Linear
    below: Linear

    @classmethod
    def init(cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32) -> FullGaussianHead:
        mean, log_scale = (Linear.init(n_in, n_out, rng=rng, dtype=dtype) for _ in range(2))
        gain = 1 / n_out  # a whole row of L then begins with a length of about 1
        return cls(mean, log_scale, Linear.init(n_in, n_out * n_out, rng=rng, gain=gain, dtype=dtype))

    def __call__(self, h: Value) -> MultivariateNormal:
        d = self.n_out
        below = tril(reshape(self.below(h), (*h.shape[:-1], d, d)), k=-1)
        return MultivariateNormal(self.mean(h), below + expand_dims(exp(self.log_scale(h)), axis=-1) * self._identity())

    def _identity(self) -> Array:
        weight = value_of(self.mean.weight)
        return namespace(weight).eye(self.n_out, dtype=weight.dtype)

    def standard(self) -> MultivariateNormal:
        return MultivariateNormal(self._constant(0.0, (self.n_out,)), self._identity())


@dataclass(frozen=True, eq=False)
class FixedGaussianHead(Head):
    """``N(mean(h), scale^2)`` with a fixed scale: ``-log p`` is the squared error over 2 scale^2, and a constant."""

    mean: Linear
    scale: float = trees.static(default=1.0)

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"FixedGaussianHead: scale must be a positive number, found {self.scale!r}")

    @classmethod
    def init(
        cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32, scale: float = 1.0
    ) -> FixedGaussianHead:
        return cls(Linear.init(n_in, n_out, rng=rng, dtype=dtype), scale)

    def __call__(self, h: Value) -> Independent:
        return Independent(Normal(self.mean(h), self._constant(self.scale, ())), 1)


@dataclass(frozen=True, eq=False)
class SharedGaussianHead(Head):
    """``N(mean(h), exp(2 log_scale))`` with a learned log_scale that does not depend on h.

    It has shape (), if all pixels share it, or (n_out,).
    """

    mean: Linear
    log_scale: Value

    @classmethod
    def init(cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32) -> SharedGaussianHead:
        return cls(Linear.init(n_in, n_out, rng=rng, dtype=dtype), np.zeros((), dtype))

    def __call__(self, h: Value) -> Independent:
        return Independent(Normal(self.mean(h), exp(self.log_scale)), 1)


@dataclass(frozen=True, eq=False)
class BernoulliHead(Head):
    """``Bernoulli(sigmoid(logits(h)))``: black and white pixels, or bits for latents.

    >>> bool((BernoulliHead.init(16, 3, rng=tg.noise(0)).standard().mean == 0.5).all())
    True
    """

    logits: Linear
    bounded = True

    def __call__(self, h: Value) -> Independent:
        return Independent(Bernoulli(logits=self.logits(h)), 1)

    def standard(self) -> Independent:
        return Independent(Bernoulli(logits=self._constant(0.0, (self.n_out,))), 1)


@dataclass(frozen=True, eq=False)
class ContinuousBernoulliHead(Head):
    """``ContinuousBernoulli(logits(h))``: grey pixels from 0 to 1."""

    logits: Linear
    bounded = True

    def __call__(self, h: Value) -> Independent:
        return Independent(ContinuousBernoulli(logits=self.logits(h)), 1)


@dataclass(frozen=True, eq=False)
class CategoricalHead(Head):
    """``Categorical(softmax(logits(h)))``: grey levels that are whole numbers from 0 to levels - 1."""

    logits: Linear
    levels: int = trees.static(default=256)
    bounded = True

    def __post_init__(self) -> None:
        _check_divides("CategoricalHead", "levels", self.levels, self.logits)

    @classmethod
    def init(
        cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32, levels: int = 256
    ) -> CategoricalHead:
        return cls(Linear.init(n_in, n_out * levels, rng=rng, dtype=dtype), levels)

    @property
    def n_out(self) -> int:
        return self.logits.n_out // self.levels

    @property
    def white(self) -> float:
        return float(self.levels - 1)

    def __call__(self, h: Value) -> Independent:
        return Independent(Categorical(logits=reshape(self.logits(h), (*h.shape[:-1], self.n_out, self.levels))), 1)


@dataclass(frozen=True, eq=False)
class OneHotHead(Head):
    """``OneHotCategorical(softmax(logits(h)))``: each latent is one of some classes, as a one-hot vector.

    >>> OneHotHead.init(16, 3, rng=tg.noise(0), classes=4)(np.zeros((5, 16), np.float32)).event_shape
    (3, 4)
    """

    logits: Linear
    classes: int = trees.static(default=10)
    event_ndim = 2

    def __post_init__(self) -> None:
        _check_divides("OneHotHead", "classes", self.classes, self.logits)

    @classmethod
    def init(cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32, classes: int = 10) -> OneHotHead:
        return cls(Linear.init(n_in, n_out * classes, rng=rng, dtype=dtype), classes)

    @property
    def n_out(self) -> int:
        return self.logits.n_out // self.classes

    @property
    def width(self) -> int:
        return self.logits.n_out

    def __call__(self, h: Value) -> Independent:
        logits = reshape(self.logits(h), (*h.shape[:-1], self.n_out, self.classes))
        return Independent(OneHotCategorical(logits=logits), 1)

    def standard(self) -> Independent:
        return Independent(OneHotCategorical(logits=self._constant(0.0, (self.n_out, self.classes))), 1)


@dataclass(frozen=True, eq=False)
class MixturePrior(Layer):
    """A learned prior, ``p(z) = sum_k softmax(logits)_k N(mean_k, exp(2 log_scale_k))``.

    ``logits`` has shape (components,), ``mean`` and ``log_scale`` have shape (components, latent).

    >>> MixturePrior.init(5, 2, rng=tg.noise(0))().event_shape
    (2,)
    """

    logits: Value
    mean: Value
    log_scale: Value

    @classmethod
    def init(cls, components: int, latent: int, *, rng: NoiseStream, dtype: Any = np.float32) -> MixturePrior:
        """Return components of equal weight and scale 1, with means drawn from N(0, I)."""
        mean = rng.normal((components, latent), dtype)
        return cls(np.zeros(components, dtype), mean, np.zeros((components, latent), dtype))

    def __call__(self) -> MixtureSameFamily:
        """Return p(z)."""
        return MixtureSameFamily(self.logits, Independent(Normal(self.mean, exp(self.log_scale)), 1))

    def marginals(self, z: Array) -> Array:
        """Return the density of each latent by itself at the numbers z of shape (n,), of shape (n, latent).

        >>> MixturePrior.init(5, 2, rng=tg.noise(0)).marginals(np.zeros(3)).shape
        (3, 2)
        """
        each = Normal(self.mean, exp(self.log_scale)).log_prob(z[:, None, None])
        return sum(expand_dims(softmax(self.logits), axis=-1) * exp(each), axis=1)


def _check_divides(what: str, name: str, count: int, layer: Linear) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 2 or layer.n_out % count:
        raise ValueError(
            f"{what}: {name} must be a whole number from 2 on that divides the {layer.n_out} logits, found {count!r}"
        )


HeadInit = Callable[..., Head]
"""A function that makes a head, called as ``init(n_in, n_out, rng=, dtype=)``."""

LIKELIHOODS: dict[str, HeadInit] = {
    "bernoulli": BernoulliHead.init,
    "continuous-bernoulli": ContinuousBernoulliHead.init,
    "gaussian": SharedGaussianHead.init,
    "gaussian-fixed": FixedGaussianHead.init,
    "gaussian-per-pixel": GaussianHead.init,
    "categorical": CategoricalHead.init,
}
"""The distributions p(x|z) that ``VAE.init`` knows by name."""

POSTERIORS: dict[str, HeadInit] = {
    "gaussian": GaussianHead.init,
    "full-gaussian": FullGaussianHead.init,
    "bernoulli": BernoulliHead.init,
    "one-hot": OneHotHead.init,
}
"""The distributions q(z|x) that ``VAE.init`` knows by name."""
