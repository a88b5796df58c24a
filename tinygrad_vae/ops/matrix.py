"""Products: of matrices and vectors, and over any axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..core import Value
from . import ranges
from .declare import Labels, case, example, op
from .elementwise import multiply
from .indexing import diagonal
from .reductions import sum
from .shaping import (
    axis_of,
    broadcast_to,
    expand_dims,
    matrix_transpose,
    moveaxis,
    permute_dims,
    reshape,
    shape_of,
    squeeze,
    sum_to,
    unmixed_by_broadcast,
)


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
    if len(x.shape) > 2 == len(y.shape):  # one product over all rows, not one for each batch and a sum
        x, g = _rows(x), _rows(g)
    return sum_to(matmul(matrix_transpose(x), g), y.shape)


def _rows_and_columns(i: int, labels: Labels, z: Value, x: Value, y: Value) -> Labels:
    """Batch axes, the rows of x and the columns of y stay apart; the axis summed over does not."""
    own = (x, y)[i]
    row = (labels[-2] if i == 0 else None,) if len(x.shape) > 1 else ()
    column = (labels[-1] if i == 1 and len(labels) > 1 else None,) if len(y.shape) > 1 else ()
    batch = z.shape[: len(z.shape) - len(row) - len(column)]
    return unmixed_by_broadcast(labels[:-2], own.shape[:-2], batch) + row + column


@op(
    _in_left,
    _in_right,
    linear="each",
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
    range=ranges.sums_of_products,
)
@example("matmul(np.ones((2, 3)), np.ones((3, 4))).shape = (2, 4)")
def matmul(x: Value, y: Value, /) -> Value:
    """Matrix product over the last two axes, the axes before them broadcast. Derivatives g y^T and x^T g."""
    if len(x.shape) > 2 == len(y.shape) and x.flags.c_contiguous:  # one product of all rows, not one for each batch
        rows = np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        return np.reshape(np.matmul(rows, y), (*x.shape[:-1], y.shape[-1]))
    return np.matmul(x, y)


def _rows(x: Value) -> Value:
    """Return x with all axes but the last as one."""
    return x if len(x.shape) == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _rows_stay_apart(i: int, labels: Labels, y: Value, *_: Value) -> Labels:
    """The rows of x and the columns of weight and bias stay apart; the axis summed over does not."""
    if i == 0:
        return (*labels[:-1], None)
    return (None,) * (len(y.shape) - 1) + labels[-1:]


@op(
    lambda g, y, x, weight, bias: matmul(g, matrix_transpose(weight)),
    lambda g, y, x, weight, bias: matmul(matrix_transpose(_rows(x)), _rows(g)),
    lambda g, y, x, weight, bias: sum(_rows(g), axis=0),
    linear=((0, 2), (1, 2)),
    axes=_rows_stay_apart,
    cases=[case((2, 3), (3, 4), (4,)), case((3,), (3, 4), (4,)), case((5, 2, 3), (3, 4), (4,))],
)
@example("linear(np.ones(2), np.ones((2, 3)), np.ones(3)) = [3. 3. 3.]")
def linear(x: Value, weight: Value, bias: Value, /) -> Value:
    """``x weight + bias`` for x of shape (..., n), weight (n, m) and bias (m,).

    Derivatives g weight^T, x^T g and g, the last two summed over all axes of x but the last.
    """
    if np.ndim(weight) != 2 or np.shape(bias) != np.shape(weight)[1:] or np.shape(x)[-1:] != np.shape(weight)[:1]:
        raise ValueError("x must have shape (..., n), weight (n, m) and bias (m,)")
    y = np.matmul(x, weight)
    if y.dtype != bias.dtype:
        return y + bias
    y += bias
    return y


@example("vecdot(np.ones(3), np.ones(3)) = 3.0")
def vecdot(x: Value, y: Value, /, *, axis: int = -1) -> Value:
    """``sum(x * y)`` over one axis, counted from the last."""
    lengths = shape_of(x)[axis_of("vecdot", x, axis)], shape_of(y)[axis_of("vecdot", y, axis)]
    if lengths[0] != lengths[1]:
        raise ValueError(f"vecdot: axis {axis} has length {lengths[0]} in x and {lengths[1]} in y; they must agree")
    return sum(multiply(x, y), axis=axis)


@example("outer(np.ones(2), np.ones(3)).shape = (2, 3)")
def outer(x: Value, y: Value, /) -> Value:
    """``x[i] * y[j]`` for two vectors."""
    if len(shape_of(x)) != 1 or len(shape_of(y)) != 1:
        raise ValueError(f"outer: x and y must have one axis each, found shapes {shape_of(x)} and {shape_of(y)}")
    return expand_dims(x, axis=1) * y


@example("tensordot(np.ones((2, 3, 4)), np.ones((3, 4, 5))).shape = (2, 5)")
def tensordot(x: Value, y: Value, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Value:
    """Product summed over pairs of axes: the last n of x with the first n of y, or ``(axes of x, axes of y)``."""
    if isinstance(axes, int):
        axes = (range(-axes, 0), range(axes))
    of_x, of_y = ([axis_of("tensordot", z, a) for a in chosen] for z, chosen in zip((x, y), axes, strict=True))
    lengths = [[z.shape[a] for a in gone] for z, gone in ((x, of_x), (y, of_y))]
    if lengths[0] != lengths[1]:
        found = f"axes {of_x} of x have lengths {lengths[0]}, axes {of_y} of y have {lengths[1]}"
        raise ValueError(f"tensordot: {found}; they must agree")
    kept_x, kept_y = ([a for a in range(len(z.shape)) if a not in gone] for z, gone in ((x, of_x), (y, of_y)))
    rows, columns = ([z.shape[a] for a in kept] for z, kept in ((x, kept_x), (y, kept_y)))
    left = reshape(permute_dims(x, (*kept_x, *of_x)), (math.prod(rows), math.prod(lengths[0])))
    right = reshape(permute_dims(y, (*of_y, *kept_y)), (math.prod(lengths[0]), math.prod(columns)))
    return reshape(matmul(left, right), (*rows, *columns))


@example('einsum("ij,jk->ik", np.ones((2, 3)), np.ones((3, 4))).shape = (2, 4)')
def einsum(subscripts: str, /, *arrays: Value) -> Value:
    """Einstein's summation: ``"ij,jk->ik"`` multiplies matrices, ``"ii->i"`` takes a diagonal, ``...`` are batch axes.

    Letters that are missing behind the arrow are summed over. Without an arrow, the letters that occur once remain,
    in alphabetical order.
    """
    terms, output = _explicit(subscripts, arrays)
    once = [_without_repeats(term, x) for term, x in zip(terms, arrays, strict=True)]
    return einsum_arrays(*(x for _, x in once), subscripts=",".join(term for term, _ in once) + "->" + output)


def _explicit(subscripts: str, arrays: Sequence[Value]) -> tuple[list[str], str]:
    """Return the letters of each array and of the result, with unused ones for the axes of ``...``."""
    before, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = before.split(",")
    if len(terms) != len(arrays):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} arrays, found {len(arrays)}")
    unused = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts]
    lengths = [len(shape_of(x)) - len(term.replace("...", "")) for term, x in zip(terms, arrays, strict=True)]
    for term, x, extra in zip(terms, arrays, lengths, strict=True):
        if extra < 0 or (extra and "..." not in term):
            raise ValueError(f"einsum: {term!r} of {subscripts!r} does not fit an array of shape {x.shape}")
    batch = max([0, *(extra for term, extra in zip(terms, lengths, strict=True) if "..." in term)])
    letters = "".join(unused[:batch])
    terms = [term.replace("...", letters[batch - extra :]) for term, extra in zip(terms, lengths, strict=True)]
    if not arrow:
        joined = "".join(terms)
        return terms, letters + "".join(sorted(c for c in set(joined) - set(letters) if joined.count(c) == 1))
    return terms, output.replace("...", letters)


def _without_repeats(term: str, x: Value) -> tuple[str, Value]:
    """Return the term and the array with every pair of equal letters replaced by their diagonal."""
    while repeated := [c for c in term if term.count(c) > 1]:
        first = term.index(repeated[0])
        second = term.index(repeated[0], first + 1)
        x = diagonal(moveaxis(x, (first, second), (-2, -1)))
        term = term[:first] + term[first + 1 : second] + term[second + 1 :] + repeated[0]
    return term, x


def _through_einsum(i: int, g: Value, y: Value, *arrays: Value, subscripts: str) -> Value:
    """Return the einsum of g and the other arrays, over the letters that array i does not have."""
    before, _, output = subscripts.partition("->")
    terms = before.split(",")
    others = [(term, x) for k, (term, x) in enumerate(zip(terms, arrays, strict=True)) if k != i]
    known = set(output).union(*(term for term, _ in others))
    reached = "".join(c for c in terms[i] if c in known)
    summed = ",".join([output, *(term for term, _ in others)]) + "->" + reached
    gx = einsum_arrays(g, *(x for _, x in others), subscripts=summed)
    spread = reshape(gx, tuple(gx.shape[reached.index(c)] if c in reached else 1 for c in terms[i]))
    full = tuple(m if n == 1 else n for n, m in zip(spread.shape, arrays[i].shape, strict=True))
    return sum_to(broadcast_to(spread, full), arrays[i].shape)


def _letters_kept(i: int, labels: Labels, y: Value, *arrays: Value, subscripts: str) -> Labels:
    before, _, output = subscripts.partition("->")
    term = before.split(",")[i]
    return tuple(
        labels[term.index(c)] if c in term and arrays[i].shape[term.index(c)] == n else None
        for c, n in zip(output, y.shape, strict=True)
    )


@op(
    _through_einsum,
    linear="each",
    axes=_letters_kept,
    cases=[
        case((2, 3), (3, 4), subscripts="ij,jk->ik"),
        case((2, 3), subscripts="ij->i"),
        case((2, 3), (2, 3), subscripts="ij,ij->"),
        case((5, 2, 3), (1, 3), (2,), subscripts="Aij,Aj,i->A"),
    ],
)
@example('einsum_arrays(np.ones(3), np.ones(3), subscripts="i,i->") = 3.0')
def einsum_arrays(*arrays: Value, subscripts: str) -> Value:
    """Einstein's summation with an arrow, without ``...`` or a letter twice in a term: what ``einsum`` records."""
    return np.einsum(subscripts, *arrays, optimize=True)
