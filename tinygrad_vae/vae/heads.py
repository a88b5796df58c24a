"""Heads: from the last hidden layer of a network to a distribution, one small declaration each.

The same head may end an encoder, as q(z|x), or a decoder, as p(x|z).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ..calculus import values
from ..core import NoiseStream, Value, namespace, trees, value_of
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
from ..ops import exp, expand_dims, reshape, tril


class Head(Layer):
    """A map from a hidden vector h to a distribution; the first field of a subclass is a ``Linear`` layer.

    A subclass is a ``@dataclass(frozen=True, eq=False)`` with ``__call__``. It inherits ``init`` if its fields are
    layers from h to n_out numbers, and static settings.
    """

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
        """The number of numbers in a draw; more than ``n_out`` if each variable is a one-hot vector."""
        return self.n_out

    @property
    def white(self) -> float:
        """The value of a white pixel; an encoder sees pixels divided by it."""
        return 1.0

    @classmethod
    def init(cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32, **settings: Any) -> Self:
        """Return a head with random weights for n_out variables; ``settings`` are its static fields."""
        layers = [f for f in dataclasses.fields(cls) if not f.metadata.get("static")]  # type: ignore[arg-type]
        return cls(*(Linear.init(n_in, n_out, rng=rng, dtype=dtype) for _ in layers), **settings)

    def __call__(self, h: Value) -> Distribution:
        """Return the distribution for hidden vectors of shape (..., n_in)."""
        raise NotImplementedError(f"{type(self).__name__} declares no __call__(h)")

    def standard(self) -> Distribution:
        """Return the head's distribution where all weights are zero, such as N(0, I): the prior for this posterior."""
        blank = trees.map_leaves(lambda w: namespace(w).zeros_like(w), values(self))
        return blank(blank.first.weight[:, 0])  # a hidden vector of zeros


@dataclass(frozen=True, eq=False)
class GaussianHead(Head):
    """``N(mean(h), exp(log_variance(h)))``, each variable by itself.

    The network gives the logarithm of the variance, which may be any number; ``sigma = exp(log_variance / 2)`` is
    positive. The half turns a variance into a standard deviation: without it the model trains just as quietly, with
    another distribution.

    >>> GaussianHead.init(16, 2, rng=tg.noise(0))(np.zeros((5, 16), np.float32)).event_shape
    (2,)
    """

    mean: Linear
    log_variance: Linear

    def __call__(self, h: Value) -> Independent:
        return Independent(Normal(self.mean(h), exp(self.log_variance(h) / 2)), 1)


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
    def init(  # type: ignore[override]
        cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32
    ) -> FullGaussianHead:
        mean, log_scale = (Linear.init(n_in, n_out, rng=rng, dtype=dtype) for _ in range(2))
        gain = 1 / n_out  # a whole row of L then begins with a length of about 1
        return cls(mean, log_scale, Linear.init(n_in, n_out * n_out, rng=rng, gain=gain, dtype=dtype))

    def __call__(self, h: Value) -> MultivariateNormal:
        d = self.n_out
        below = tril(reshape(self.below(h), (*h.shape[:-1], d, d)), k=-1)
        weight = value_of(self.mean.weight)
        identity = namespace(weight).eye(d, dtype=weight.dtype)
        return MultivariateNormal(self.mean(h), below + expand_dims(exp(self.log_scale(h)), axis=-1) * identity)


@dataclass(frozen=True, eq=False)
class FixedGaussianHead(Head):
    """``N(mean(h), scale^2)`` with a fixed scale: ``-log p`` is the squared error over 2 scale^2, and a constant."""

    mean: Linear
    scale: float = trees.static(default=1.0)

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"FixedGaussianHead: scale must be a positive number, found {self.scale!r}")

    def __call__(self, h: Value) -> Independent:
        weight = value_of(self.mean.weight)
        return Independent(Normal(self.mean(h), namespace(weight).full((), self.scale, weight.dtype)), 1)


@dataclass(frozen=True, eq=False)
class SharedGaussianHead(Head):
    """``N(mean(h), exp(2 log_scale))`` with a learned log_scale of shape (), the same for all pixels, or (n_out,)."""

    mean: Linear
    log_scale: Value

    @classmethod
    def init(  # type: ignore[override]
        cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32
    ) -> SharedGaussianHead:
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


@dataclass(frozen=True, eq=False)
class ContinuousBernoulliHead(Head):
    """``ContinuousBernoulli(logits(h))``: grey pixels from 0 to 1."""

    logits: Linear
    bounded = True

    def __call__(self, h: Value) -> Independent:
        return Independent(ContinuousBernoulli(logits=self.logits(h)), 1)


class ChoiceHead(Head):
    """A head with several logits for each variable; their number is its second field."""

    @property
    def choices(self) -> int:
        """The number of logits of a variable."""
        return int(getattr(self, dataclasses.fields(self)[1].name))  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        _, field = dataclasses.fields(self)  # type: ignore[arg-type]
        n, found = self.first.n_out, getattr(self, field.name)
        if isinstance(found, bool) or not isinstance(found, int) or found < 2 or n % found:
            raise ValueError(
                f"{type(self).__name__}: {field.name} must be an integer of at least 2 that divides the {n} logits, "
                f"found {found!r}"
            )

    @property
    def n_out(self) -> int:
        return self.first.n_out // self.choices

    @classmethod
    def init(cls, n_in: int, n_out: int, *, rng: NoiseStream, dtype: Any = np.float32, **settings: Any) -> Self:
        _, field = dataclasses.fields(cls)  # type: ignore[arg-type]
        choices = settings.get(field.name, field.default)
        return cls(Linear.init(n_in, n_out * choices, rng=rng, dtype=dtype), **settings)

    def _logits(self, h: Value) -> Value:
        """Return the logits, of shape (..., n_out, choices)."""
        return reshape(self.first(h), (*h.shape[:-1], self.n_out, self.choices))


@dataclass(frozen=True, eq=False)
class CategoricalHead(ChoiceHead):
    """``Categorical(softmax(logits(h)))``: grey levels that are integers from 0 to levels - 1."""

    logits: Linear
    levels: int = trees.static(default=256)
    bounded = True

    @property
    def white(self) -> float:
        return float(self.levels - 1)

    def __call__(self, h: Value) -> Independent:
        return Independent(Categorical(logits=self._logits(h)), 1)


@dataclass(frozen=True, eq=False)
class OneHotHead(ChoiceHead):
    """``OneHotCategorical(softmax(logits(h)))``: each latent is one of some classes, as a one-hot vector.

    >>> OneHotHead.init(16, 3, rng=tg.noise(0), classes=4)(np.zeros((5, 16), np.float32)).event_shape
    (3, 4)
    """

    logits: Linear
    classes: int = trees.static(default=10)

    @property
    def width(self) -> int:
        return self.logits.n_out

    def __call__(self, h: Value) -> Independent:
        return Independent(OneHotCategorical(logits=self._logits(h)), 1)


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
