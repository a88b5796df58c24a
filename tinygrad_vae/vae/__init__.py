"""The variational autoencoder: the model, its objectives, and how good it is on held-out images."""

from .evaluate import evaluate
from .heads import (
    LIKELIHOODS,
    POSTERIORS,
    BernoulliHead,
    CategoricalHead,
    ContinuousBernoulliHead,
    FixedGaussianHead,
    FullGaussianHead,
    GaussianHead,
    Head,
    MixturePrior,
    OneHotHead,
    SharedGaussianHead,
)
from .model import VAE
from .objectives import (
    BOUNDS,
    Objective,
    doubly_reparameterized_bound,
    elbo,
    importance_weighted_bound,
    kl_of_each_latent,
    sticking_the_landing,
    warm_up,
)

__all__ = [
    "BOUNDS",
    "LIKELIHOODS",
    "POSTERIORS",
    "VAE",
    "BernoulliHead",
    "CategoricalHead",
    "ContinuousBernoulliHead",
    "FixedGaussianHead",
    "FullGaussianHead",
    "GaussianHead",
    "Head",
    "MixturePrior",
    "Objective",
    "OneHotHead",
    "SharedGaussianHead",
    "doubly_reparameterized_bound",
    "elbo",
    "evaluate",
    "importance_weighted_bound",
    "kl_of_each_latent",
    "sticking_the_landing",
    "warm_up",
]
