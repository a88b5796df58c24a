"""Reverse-mode autodiff on NumPy in which random nodes are explicit, with a VAE on top.

``import tinygrad_vae as tg``. A function called on arrays computes an array; with a Tensor among its arguments it
also records a node. A draw is a node that blocks the gradient until a rewrite opens it.

- To begin: ``Tensor``, ``gradients``, ``noise``, ``Normal``, ``reparameterize``, ``score_function``.
- To look: ``explain(cost, wrt)``, ``draw(cost, wrt=...)``, ``compare_estimators``, ``python -m tinygrad_vae.ops``.
- Functions of arrays: ``grad``, ``value_and_grad``, ``jvp``, ``hessian``, and over trees ``wrap``, ``values``.
- Graph to graph: ``rewrite``, ``replay``, ``estimate(cost, {node: estimator})``, ``plan(step)``.
- Models: ``VAE``, ``elbo``, ``nn``, ``optim``. Everything that can be chosen: ``OPS``, ``DISTRIBUTIONS``,
  ``ESTIMATORS``.
- To add: ``op``, ``elementwise``, ``Distribution``, ``Estimator``, each tested by one call: ``checks.check_op``,
  ``check_distribution``, ``check_estimator``.

``help(tinygrad_vae.NAME)`` gives the formula, the shapes, the source and an example that runs.
"""

from . import checks, nn, optim
from .arrays import noise, to_device, to_host
from .calculus import grad, hessian, hvp, jacobian, jvp, value_and_grad, values, vjp, wrap
from .checks_stochastic import check_distribution, check_estimator
from .draw import draw, draw_side_by_side
from .graph import OPS, Op, Tensor, case, elementwise, gradients, op, replay, rewrite
from .ops import *  # noqa: F403  the ops, by the names of the array API standard
from .plan import plan
from .stochastic.compare import Comparison, Measurement, audit, compare_estimators, pilot
from .stochastic.distribution import DISTRIBUTIONS, Distribution, parameter
from .stochastic.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Cauchy,
    Chi2,
    ContinuousBernoulli,
    Delta,
    Dirichlet,
    Exponential,
    Gamma,
    Geometric,
    Gumbel,
    HalfNormal,
    Independent,
    InverseGamma,
    Kumaraswamy,
    Laplace,
    Logistic,
    LogNormal,
    LowRankNormal,
    MixtureSameFamily,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Pareto,
    Poisson,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
    StudentT,
    Transformed,
    TruncatedNormal,
    Uniform,
    VonMises,
    Weibull,
    bijections,
)
from .stochastic.divergences import kl_divergence, monte_carlo_kl
from .stochastic.estimators import *  # noqa: F403
from .stochastic.nodes import Noise, Sample
from .stochastic.verdict import (
    BiasedGradientWarning,
    BlockedGradientError,
    GradientRefusedError,
    InvalidGradientError,
    explain,
)
from .trouble import graph_memory, watch_numerics
from .vae import VAE, elbo, importance_weighted_bound
