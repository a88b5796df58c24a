"""One call tests all that a declaration promises: of an op, a distribution or an estimator."""

from .ops import CheckError, check_case, check_op, check_second_order, check_vjp
from .stochastic import check_distribution, check_estimator
