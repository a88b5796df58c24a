"""Matrix products."""

from __future__ import annotations

import numpy as np

from ..arrays import Value
from ..graph import case, op
from .shaping import expand_dims, matrix_transpose, squeeze, sum_to, unmixed_by_broadcast

Labels = tuple[int | None, ...]


def _in_left(g: Value, z: Value, x: Value, y: Value) -> Value:
    if len(y.shape) == 1:
        return sum_to(expand_dims(g, axis=-1) * y, x.shape)
    if len(x.shape) == 1:
        return sum_to(squeeze(matmul(y, expand_dims(g, axis=-1)), -1), x.shape)
    return sum_to(matmul(g, matrix_transpose(y)), x.shape)


def _in_right(g: Value, z: Value, x: Value, y: Value) -> Value:
    if len(x.shape) == 1:
        column = expand_dims(x, axis=-1) if len(y.shape) > 1 else x
        return sum_to(column * (expand_dims(g, axis=-2) if len(y.shape) > 1 else g), y.shape)
    if len(y.shape) == 1:
        return sum_to(squeeze(matmul(matrix_transpose(x), expand_dims(g, axis=-1)), -1), y.shape)
    return sum_to(matmul(matrix_transpose(x), g), y.shape)


def _rows_and_columns(i: int, labels: Labels, z: Value, x: Value, y: Value) -> Labels:
    """Batch axes and the rows of x, or the columns of y, stay apart; the axis summed over does not."""
    own = (x, y)[i]
    row = (labels[-2] if i == 0 else None,) if len(x.shape) > 1 else ()
    column = (labels[-1] if i == 1 and len(labels) > 1 else None,) if len(y.shape) > 1 else ()
    batch = z.shape[: len(z.shape) - len(row) - len(column)]
    return unmixed_by_broadcast(labels[:-2], own.shape[:-2], batch) + row + column


@op(
    _in_left,
    _in_right,
    axes=_rows_and_columns,
    cases=[
        case((2, 3), (3, 4)),
        case((3,), (3,)),
        case((3,), (3, 2)),
        case((2, 3), (3,)),
        case((5, 2, 3), (3, 4)),
        case((5, 2, 3), (5, 3, 4)),
        case((5, 1, 2, 3), (4, 3, 2)),
        case((5, 2, 3), (3,)),
        case((3,), (5, 3, 2)),
    ],
)
def matmul(x: Value, y: Value, /) -> Value:
    """Matrix product over the last two axes, the axes before them broadcast. Derivatives g y^T and x^T g.

    >>> matmul(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    return np.matmul(x, y)
