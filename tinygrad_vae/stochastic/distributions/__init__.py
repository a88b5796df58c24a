"""The distributions, one declaration each."""

from .discrete import Bernoulli, Categorical
from .independent import Independent
from .location_scale import Gumbel, Laplace, Logistic, Normal
from .positive import Exponential, LogNormal
from .uniform import Uniform

__all__ = [
    "Bernoulli",
    "Categorical",
    "Exponential",
    "Gumbel",
    "Independent",
    "Laplace",
    "LogNormal",
    "Logistic",
    "Normal",
    "Uniform",
]
