"""The estimators: each turns a graph into one of the same value in which the gradient has somewhere to go."""

from .pathwise import reparameterize
from .score_function import score_function

ESTIMATORS = {"pathwise": reparameterize, "score-function": score_function}
"""The rewrites by name. The tests and the command run over it."""

__all__ = ["ESTIMATORS", "reparameterize", "score_function"]
