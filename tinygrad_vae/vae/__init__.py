"""The variational autoencoder: the model, its objectives, and how good it is on held-out images."""

from typing import Any

from ..optional import require
from .bounds import (
    DIVERGENCES,
    doubly_reparameterized_bound,
    elbo,
    importance_weighted_bound,
    kl_of_each_latent,
    sticking_the_landing,
)
from .evaluate import evaluate, measure, summary
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
from .interchange import from_state_dict, to_state_dict
from .model import VAE
from .objective import BOUNDS, Objective, warm_up


def __getattr__(name: str) -> Any:
    """Return ``VAEEstimator``; scikit-learn is imported only when it is used."""
    if name != "VAEEstimator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("sklearn")
    from .scikit_learn import VAEEstimator

    return VAEEstimator
