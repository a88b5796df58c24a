"""The variational autoencoder: the model, its objectives, and how good it is on held-out images.

It knows layers, laws and estimators, and nothing of files or of training.
"""

from typing import Any

from ..optional import require
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
from .objectives import (
    BOUNDS,
    DIVERGENCES,
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
    "DIVERGENCES",
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
    "from_state_dict",
    "importance_weighted_bound",
    "kl_of_each_latent",
    "measure",
    "sticking_the_landing",
    "summary",
    "to_state_dict",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    """Return ``VAEEstimator``, for which scikit-learn is imported only where it is asked for."""
    if name != "VAEEstimator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("sklearn")
    from .estimator import VAEEstimator

    return VAEEstimator
