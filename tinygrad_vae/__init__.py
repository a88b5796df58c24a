"""Reverse-mode autodiff on NumPy in which random nodes are explicit, with a VAE on top.

``import tinygrad_vae as tg``. A function called on arrays computes an array; with a Tensor among its arguments it
also records a node. A draw is a node that blocks the gradient until a rewrite opens it.

- To begin: ``Tensor``, ``gradients``, ``noise``, ``Normal``, ``reparameterize``, ``score_function``, and
  ``path_and_boundary`` where a cost jumps.
- To look: ``explain(cost, wrt)``, ``draw(cost, wrt=...)``, ``compare_estimators``, ``python -m tinygrad_vae.ops``.
- Functions of arrays: ``grad``, ``value_and_grad``, ``jvp``, ``hessian``, and over trees ``wrap``, ``values``.
- A world that is no graph (a simulator, a game): ``outside(world, *inputs)``.
- Graph to graph: ``rewrite``, ``replay``, ``estimate(cost, {node: estimator})``, ``plan(step)``.
- Models: ``VAE``, ``elbo``, ``nn``, ``optim``. Everything that can be chosen: ``OPS``, ``DISTRIBUTIONS``,
  ``ESTIMATORS``.
- To add: ``op``, ``elementwise``, ``Distribution``, ``Estimator``, each tested by one call: ``check_op``,
  ``check_distribution``, ``check_estimator``.

``help(tinygrad_vae.NAME)`` gives the formula, the shapes, the source and an example that runs.
"""

# fmt: off
from . import interrupted  # first, since the others take long
from . import checks, nn, optim
from .calculus import grad, hessian, hvp, jacobian, jvp, value_and_grad, values, vjp, wrap
from .checks import check_distribution, check_estimator, check_op
from .compiled import plan
from .core import (
    BlockedGradientError, GradientRefusedError, InvalidGradientError, Noise, Op, Sample, Tensor, gradients, noise,
    reparameterize, replay, rewrite, trees,
)
from .devices import to_device, to_host
from .distributions import (
    Bernoulli, Beta, Binomial, Categorical, Cauchy, Chi2, ContinuousBernoulli, Delta, Dirichlet, Exponential,
    FisherSnedecor, Gamma, Geometric, Gumbel, HalfCauchy, HalfNormal, Independent, InverseGamma, Kumaraswamy, Laplace,
    LKJCholesky, Logistic, LogisticNormal, LogNormal, LowRankNormal, MixtureSameFamily, Multinomial, MultivariateNormal,
    NegativeBinomial, Normal, OneHotCategorical, Pareto, Poisson, RelaxedBernoulli, RelaxedOneHotCategorical, StudentT,
    Transformed, TruncatedNormal, Uniform, VonMises, Weibull, Wishart, bijections,
)
from .distributions.distribution import DISTRIBUTIONS, Distribution, parameter
from .distributions.divergences import kl_divergence
from .distributions.monte_carlo_kl import monte_carlo_kl
from .draw import draw, draw_side_by_side
from .estimators import (
    ARM, ARSM, REBAR, RELAX, VIMCO, DisARM, Enumeration, Estimator, GumbelSoftmax, LeaveOneOut, MeasureValued,
    PathAndBoundary, Pathwise, PrunedTriples, Quadrature, RejectionPath, ScoreFunction, SecondDraw,
    StraightThrough, Triples, estimate, path_and_boundary, score_function,
)
from .estimators.audit import audit
from .estimators.compare import compare_estimators
from .estimators.measurement import Comparison, Measurement
from .guard.report import ESTIMATORS, explain
from .guard.verdict import BiasedGradientWarning
from .numerics import watch_numerics
from .ops import *
from .ops.declare import OPS, case, elementwise, op
from .outside import outside
from .parallel import parallel
from .vae import VAE, elbo, importance_weighted_bound

for _error in (BlockedGradientError, GradientRefusedError, InvalidGradientError, BiasedGradientWarning):
    _error.__module__ = __name__  # a traceback says where to import it from
