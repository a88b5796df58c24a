"""The library of ops: one declaration each, in files by kind."""

# fmt: off
from . import linalg, operators
from .choices import astype, identity, stop_gradient, surrogate, where
from .cumulative import cumulative_prod, cumulative_sum
from .elementwise import (
    abs, add, clip, copysign, divide, divide_or_zero, exp, expm1, hypot, log, log1p, log2, log10, log_sigmoid,
    logaddexp, maximum, minimum, multiply, negative, positive, pow, reciprocal, relu, remainder, sigmoid, softplus,
    sqrt, square, subtract,
)
from .fused import adaptive_step, bernoulli_log_prob, moving_average, normal_kl, normal_log_prob
from .incomplete import betainc, betaincinv, gammainc, gammaincc, gammaincinv
from .indexing import argsort, diagonal, diff, getitem, put, searchsorted, sort, take, take_along_axis, tril, triu
from .jumps import (
    ceil, equal, floor, floor_divide, greater, greater_equal, isfinite, isinf, isnan, less, less_equal, logical_and,
    logical_not, logical_or, logical_xor, not_equal, round, sign, signbit, trunc,
)
from .matrix import einsum, linear, matmul, outer, tensordot, vecdot
from .reductions import (
    all, any, argmax, argmin, count_nonzero, log_softmax, logsumexp, max, mean, min, prod, softmax, std, sum, var,
)
from .sets import nonzero, unique_all, unique_counts, unique_inverse, unique_values
from .shaping import (
    broadcast_arrays, broadcast_to, concat, expand_dims, flip, full_like, matrix_transpose, meshgrid, moveaxis,
    ones_like, permute_dims, repeat, reshape, roll, squeeze, stack, sum_to, tile, unstack, zeros_like,
)
from .special import (
    betaln, digamma, erf, erfc, erfcx, erfinv, gammaln, i0e, i1e, inverse_mills, lgamma, log_ndtr, logit,
    ndtr, ndtri, ndtri_exp, polygamma, xlog1py, xlogy,
)
from .trigonometric import acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, sin, sinh, tan, tanh

__all__ = ["linalg", *(name for name, function in vars().items() if callable(function))]
