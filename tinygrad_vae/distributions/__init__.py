"""The distributions, one declaration each."""

from . import bijections
from .bounded import Beta, ContinuousBernoulli, Kumaraswamy, Uniform
from .circular import VonMises
from .counts import Binomial, Geometric, Multinomial, NegativeBinomial, Poisson
from .discrete import Bernoulli, Categorical, Delta, OneHotCategorical
from .gamma import Chi2, Dirichlet, Gamma, InverseGamma
from .heavy_tails import Cauchy, FisherSnedecor, HalfCauchy, Pareto, StudentT
from .location_scale import Gumbel, Laplace, Logistic, Normal
from .matrices import LKJCholesky, Wishart
from .mixture import MixtureSameFamily
from .multivariate import LogisticNormal, LowRankNormal, MultivariateNormal
from .positive import Exponential, HalfNormal, LogNormal, Weibull
from .relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from .transformed import Independent, Transformed
from .truncated import TruncatedNormal
