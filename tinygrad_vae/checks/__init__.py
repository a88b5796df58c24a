"""One call tests everything that a declaration promises: of an op, a distribution or an estimator."""

from .derivatives import CheckError, check_second_order, check_vjp
from .distributions import check_distribution
from .estimators import check_estimator
from .ops import check_case, check_op
