"""The VAE as a scikit-learn estimator: ``fit``, ``transform``, ``inverse_transform``, ``sample``, ``score_samples``.

scikit-learn is imported only when ``vae.VAEEstimator`` is used.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, check_random_state, validate_data

from ..calculus import wrap
from ..core import Array, gradients, noise
from ..distributions.distribution import Distribution
from ..ops import logsumexp, mean
from ..optim import Adam
from .bounds import check_count
from .heads import HeadInit
from .model import VAE
from .objective import Objective

ROWS = 2000
"""About the number of draws decoded at a time."""

FLOATS = (np.float64, np.float32)


@dataclass(eq=False, repr=False)
class VAEEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A variational autoencoder that fits wherever scikit-learn expects a transformer or a density.

    It computes in the dtype of X, float64 or float32. Features should have about the size of 1: put a
    ``StandardScaler`` in front, or choose the likelihood that fits them.

    Args:
        latent: the number of latent variables.
        hidden: the sizes of the encoder's hidden layers; the decoder has them in reverse.
        activation: one of ``"relu"``, ``"tanh"``, ``"softplus"``, ``"sigmoid"``.
        posterior, likelihood, components: as in ``VAE.init``; ``"gaussian"`` for any numbers, ``"bernoulli"`` for 0 and
            1, ``"continuous-bernoulli"`` for numbers from 0 to 1.
        bound, samples, estimator, beta, warm_up, free_bits, kl: as in ``vae.Objective``.
        learning_rate: the learning rate of Adam.
        batch, epochs: the number of rows in a step, and how often each row is seen.
        score_draws: the number of draws of z that estimate the log-likelihood of a row.
        random_state: a seed, or ``None`` for another one each time.

    Attributes:
        model_: the fitted ``VAE``.
        history_: the mean bound of each epoch.
        n_features_in_: the number of columns of X.

    >>> x = np.random.default_rng(0).normal(size=(200, 1)) * np.array([1.0, -1.0, 0.5])
    >>> code = tg.vae.VAEEstimator(latent=1, epochs=5, random_state=0).fit_transform(x)
    >>> code.shape
    (200, 1)
    """

    latent: int = 2
    _: KW_ONLY
    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    posterior: str | HeadInit = "gaussian"
    likelihood: str | HeadInit = "gaussian"
    components: int = 0
    bound: str = "elbo"
    samples: int = 1
    estimator: str = "pathwise"
    beta: float = 1.0
    warm_up: int = 0
    free_bits: float = 0.0
    kl: str = "auto"
    learning_rate: float = 5e-3
    batch: int = 50
    epochs: int = 100
    score_draws: int = 100
    random_state: Any = None

    def fit(self, X: Array, y: Any = None) -> VAEEstimator:  # noqa: N803  scikit-learn's name
        """Train on the rows of X, of shape (rows, features), from new weights; y is not used.

        Raises:
            TypeError, ValueError: X does not fit the likelihood, an option is out of range, or training diverged.
        """
        objective = Objective(
            self.bound, self.samples, self.estimator, self.beta, self.warm_up, self.free_bits, self.kl
        )
        optimizer = Adam(self.learning_rate)
        for name in ("batch", "epochs", "score_draws"):
            check_count(f"VAEEstimator: {name}", getattr(self, name))
        x = validate_data(self, X, dtype=FLOATS)
        rng = noise(int(check_random_state(self.random_state).randint(2**31 - 1)))
        model = VAE.init(
            x.shape[1],
            hidden=tuple(self.hidden),
            latent=self.latent,
            activation=self.activation,
            posterior=self.posterior,
            likelihood=self.likelihood,
            components=self.components,
            rng=rng.at("weights"),
            dtype=x.dtype,
        )
        state, step, history = optimizer.init(model), 0, []
        for epoch in range(self.epochs):
            order, total = rng.at("order", epoch).permutation(len(x)), 0.0
            for start in range(0, len(x), self.batch):
                rows = x[order[start : start + self.batch]]
                recorded = wrap(model)
                bound = mean(objective(recorded, rows, rng=rng.at("noise", step), step=step))
                model, state = optimizer.update(model, gradients(-bound, recorded), state)
                total += float(bound.value) * len(rows)
                step += 1
            history.append(total / len(x))
        self.model_, self.history_ = model, history
        return self

    @property
    def _n_features_out(self) -> int:
        return self.model_.posterior.width

    def encode(self, X: Array) -> Distribution:  # noqa: N803
        """Return q(z|x) for each row: its ``mean`` is ``transform(X)``, its ``variance`` says how sure the model is."""
        return self.model_.encode(self._rows(X))

    def transform(self, X: Array) -> Array:  # noqa: N803
        """Return the means of q(z|x), of shape (rows, latent); one-hot latents side by side."""
        means = self.encode(X).mean
        return means.reshape(len(means), -1)

    def inverse_transform(self, X: Array) -> Array:  # noqa: N803
        """Return the expected features for latents of shape (rows, latent), as ``transform`` gives them."""
        return self.decode(X).mean

    def decode(self, X: Array) -> Distribution:  # noqa: N803
        """Return p(x|z) for latents of shape (rows, latent), as ``transform`` gives them."""
        check_is_fitted(self)
        z = check_array(X, dtype=FLOATS)
        if z.shape[1] != self._n_features_out:
            raise ValueError(f"VAEEstimator: expected {self._n_features_out} latents in each row, found {z.shape[1]}")
        event_shape = self.model_.prior().event_shape
        return self.model_.decode(z.reshape(len(z), *event_shape).astype(self._dtype))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Array:
        """Return draws from the model, of shape (n_samples, features): z from the prior, then x given z."""
        check_is_fitted(self)
        check_count("VAEEstimator.sample: n_samples", n_samples)
        rng = noise(int(check_random_state(random_state).randint(2**31 - 1)))
        z = self.model_.prior().sample((n_samples,), rng=rng)
        return self.model_.decode(z).sample(rng=rng)

    def score_samples(self, X: Array) -> Array:  # noqa: N803
        """Return an estimate of log p(x) for each row, the importance weighted bound over ``score_draws`` draws.

        All rows share the same noise, so that the score of a row does not depend on the other rows.
        """
        x = self._rows(X)
        at_once = max(1, ROWS // self.score_draws)
        scores = [self._score(x[start : start + at_once]) for start in range(0, len(x), at_once)]
        return np.concatenate(scores)

    def score(self, X: Array, y: Any = None) -> float:  # noqa: N803
        """Return the mean of ``score_samples``, in nats; the higher the better."""
        return float(np.mean(self.score_samples(X)))

    def _score(self, x: Array) -> Array:
        q, prior = self.model_.encode(x), self.model_.prior()
        shape = list(q.noise_shape((self.score_draws,)))
        shape[1] = 1  # the axis of the rows
        z = q.transform(q.noise_distribution.draw(noise(0), tuple(shape), self._dtype))
        log_weights = self.model_.decode(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
        return logsumexp(log_weights, axis=0) - math.log(self.score_draws)

    @property
    def _dtype(self) -> Any:
        return self.model_.posterior.first.weight.dtype

    def _rows(self, X: Array) -> Array:  # noqa: N803
        check_is_fitted(self)
        return validate_data(self, X, dtype=FLOATS, reset=False).astype(self._dtype, copy=False)
