"""The variational autoencoder: the model, its objectives, and how good it is on held-out images."""

from .evaluate import evaluate
from .model import VAE
from .objectives import elbo, importance_weighted_bound

__all__ = ["VAE", "elbo", "evaluate", "importance_weighted_bound"]
