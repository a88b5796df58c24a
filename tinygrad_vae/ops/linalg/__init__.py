"""Linear algebra on the last two axes of batches of matrices: ``tg.linalg``, by the names of the array API standard."""

from ..indexing import diagonal
from ..matrix import matmul, outer, tensordot, vecdot
from ..shaping import matrix_transpose
from .decompositions import cholesky, eigh, eigvalsh, matrix_rank, pinv, qr, svd, svdvals
from .determinants import det, slogdet
from .norms import cross, matrix_norm, trace, vector_norm
from .square import inv, matrix_power, solve
