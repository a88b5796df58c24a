"""Derivatives of functions, in function style, over trees of arrays.

Called with arrays, they give arrays. Where the function depends on a Tensor from outside, as an argument or by its
closure, they give Tensors, so that derivatives nest to any depth. This file knows the engine and trees only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .core import Array, Tensor, Value, as_array, gradients, is_array, namespace, topological_order, trees, value_of
from .ops import identity, reshape, stack, sum
from .ops.declare import SMOOTH, STOP, op

Tree = TypeVar("Tree")


def wrap(tree: Tree) -> Tree:
    """Return the tree with a Tensor around each array, named by its path: from here on, what is computed is recorded.

    >>> tg.wrap({"w": np.ones(2)})
    {'w': Tensor([1. 1.], name='w')}
    """
    return trees.replace_leaves(
        tree, [x if isinstance(x, Tensor) else Tensor(x, path) for path, x in trees.paths(tree)]
    )


def values(tree: Tree) -> Tree:
    """Return the tree with the array in the place of each Tensor.

    >>> tg.values([tg.Tensor(1.0)])
    [array(1.)]
    """
    return trees.map_leaves(value_of, tree)


def value_and_grad(f: Callable[..., Any], argument: int = 0) -> Callable[..., tuple[Value, Any]]:
    """Return a function that gives ``f(...)`` together with its gradient in one of the arguments.

    Args:
        f: a function whose result is a number.
        argument: the place of the argument to differentiate by; it may be a tree (a model, a dict, a list).

    Returns:
        A function of the same arguments; the gradient has the structure of that argument, and is zero where the
        result does not depend on it.

    Raises:
        TypeError, ValueError: the result is not a number, or the argument holds something else than floats.
        BlockedGradientError: a random node stands in between.

    >>> tg.value_and_grad(lambda p: p["x"] ** 2)({"x": 3.0})
    (array(9.), {'x': array(6.)})
    """

    def evaluate(*args: Any, **options: Any) -> tuple[Value, Any]:
        inner, born = _fresh(args[argument])
        output = f(*args[:argument], inner, *args[argument + 1 :], **options)
        _check_number(output)
        if not isinstance(output, Tensor):
            return output, _zeros(inner)
        outside = _outside([output], born)
        return _released((output, gradients(output, inner, record=bool(outside))), outside)

    return evaluate


def grad(f: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """Return the gradient of ``f`` in one of its arguments, as a function; see ``value_and_grad``.

    >>> tg.grad(tg.grad(lambda x: x**3))(2.0)
    array(12.)
    """
    both = value_and_grad(f, argument)
    return lambda *args, **options: both(*args, **options)[1]


def vjp(f: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return ``f(*args)`` and its vector-Jacobian product, ``g -> g^T J``, one part for each argument.

    Args:
        f: a function from trees to a tree of arrays.
        args: where to take the derivative.

    Returns:
        The value, and a function of a cotangent with the structure and shapes of the value.

    >>> value, pull = tg.vjp(lambda x: x**2, np.array([1.0, 3.0]))
    >>> pull(np.array([1.0, 10.0]))
    (array([ 2., 60.]),)
    """
    inner, born = _fresh(args)
    output = f(*inner)

    def pull(cotangent: Any) -> tuple[Any, ...]:
        weighted = _inner_product(output, cotangent)
        if not isinstance(weighted, Tensor):
            return _zeros(inner)
        outside = _outside([output, cotangent], born)
        return _released(gradients(weighted, inner, record=bool(outside)), outside)

    return _released(output, _outside([output], born)), pull


def jvp(f: Callable[..., Any], args: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return ``f(*args)`` and its Jacobian-vector product, ``J t``: how it moves as the arguments move along t.

    The derivative of ``u -> (u^T J) t`` in u, which is linear in u: reverse mode run twice.

    Args:
        f: a function from trees to a tree of arrays.
        args: where to take the derivative.
        tangents: the direction, with the structure and shapes of ``args``.

    Raises:
        ValueError: a direction has another shape.
        BlockedGradientError, InvalidGradientError: as of ``vjp`` with a cotangent that depends on what ``tangents``
            does: a random node stands in between, or an estimator has weighed the value for a draw that they depend on.

    >>> tg.jvp(lambda x: x**2, (np.array([1.0, 3.0]),), (np.array([1.0, 10.0]),))
    (array([1., 9.]), array([ 2., 60.]))
    """
    inner, born = _fresh(args)
    output = f(*inner)
    outside = _outside([output, tangents], born)
    weights = trees.map_leaves(lambda x: Tensor(np.zeros_like(value_of(x))), output)
    beside = weights  # u, of which J is asked for beside the tangents: they may depend on the same noise as J
    for t in trees.leaves(tangents):
        if isinstance(t, Tensor):
            beside = trees.map_leaves(lambda u: asked_beside(u, t), beside)  # noqa: B023
    weighted = _inner_product(output, beside)
    along = _inner_product(gradients(weighted, inner, record=True), tangents)
    tangent = gradients(along, weights, record=bool(outside))
    return _released((output, tangent), outside)


@op(
    lambda g, y, u, tangent: g,
    None,
    smoothness=(SMOOTH, STOP),
    axes=lambda i, labels, y, u, tangent: (None,) * len(y.shape) if i else labels,
)
def asked_beside(u: Value, tangent: Value, /) -> Value:
    """``u``, with the tangent beside it: what looks after randomness then sees all that a product is made of."""
    return u


def hvp(f: Callable[..., Any], x: Tree, direction: Tree) -> Tree:
    """Return the Hessian-vector product ``H(x) v`` of a function with a number for a result: grad of (grad f)^T v.

    Args:
        f: a function of one tree.
        x: where to take the derivative.
        direction: v, with the structure and shapes of ``x``.

    >>> tg.hvp(lambda x: tg.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    return grad(lambda y: _inner_product(grad(f)(y), direction))(x)


def jacobian(f: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """Return the function that gives every derivative of an array-valued ``f`` in one of its arguments.

    One reverse pass for each element of the result.

    Args:
        f: a function with an array for a result.
        argument: the place of the argument to differentiate by; it may be a tree.

    Returns:
        A function of the same arguments, with the structure of that argument; each part has the shape of the result
        followed by the shape of the part.

    >>> tg.jacobian(lambda x: x**2)(np.array([1.0, 3.0]))
    array([[2., 0.],
           [0., 6.]])
    """

    def evaluate(*args: Any, **options: Any) -> Any:
        output, pull = vjp(lambda x: f(*args[:argument], x, *args[argument + 1 :], **options), args[argument])
        if not (isinstance(output, Tensor) or is_array(output) or isinstance(output, (int, float))):
            raise TypeError(f"jacobian: the function returned an object of type {type(output).__name__}, not an array")
        shape, dtype = np.shape(value_of(output)), as_array(value_of(output)).dtype
        rows = [pull(one)[0] for one in _unit_vectors(value_of(output), shape, dtype)]
        structure = args[argument]
        if not rows:
            return trees.map_leaves(lambda x: np.zeros((*shape, *np.shape(value_of(x))), dtype), structure)
        return trees.map_leaves(lambda *parts: reshape(stack(parts), (*shape, *parts[0].shape)), *rows)

    return evaluate


def hessian(f: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """Return the function that gives every second derivative of ``f``, whose result is a number.

    For an array x the result has shape ``x.shape + x.shape``; for a tree it is a tree of trees.

    >>> tg.hessian(lambda x: x[0] * x[1])(np.array([1.0, 3.0]))
    array([[0., 1.],
           [1., 0.]])
    """

    def evaluate(*args: Any, **options: Any) -> Any:
        x = args[argument]
        count = len(trees.leaves(x))

        def one_gradient(k: int) -> Callable[..., Any]:
            return lambda *a, **o: trees.leaves(grad(f, argument)(*a, **o))[k]

        return trees.replace_leaves(x, [jacobian(one_gradient(k), argument)(*args, **options) for k in range(count)])

    return evaluate


_calls = itertools.count()


class _Argument(Tensor):
    """A leaf that stands for an array that a derivative is taken by; ``born`` tells calls of this file apart."""

    __slots__ = ("born",)
    born: int

    def __init__(self, value: Array, name: str, born: int) -> None:
        super().__init__(value, name or None)
        self.born = born


def _fresh(tree: Tree) -> tuple[Tree, int]:
    """Return the tree with a node of its own for each leaf, to differentiate by, and the number of this call.

    A Tensor belongs to somebody else's derivative: an identity in front of it keeps the two apart.
    """
    born = next(_calls)
    fresh = [identity(x) if isinstance(x, Tensor) else _Argument(x, path, born) for path, x in trees.paths(tree)]
    return trees.replace_leaves(tree, fresh), born


def _outside(tree: Any, born: int) -> set[int]:
    """Return the leaves, by id, that a tree depends on and that were there before this call; noise is none of them."""
    tops = [x for x in trees.leaves(tree) if isinstance(x, Tensor)]
    leaves = [x for x in topological_order(tops) if x.op is None and x.guard is None]
    return {id(x) for x in leaves if not isinstance(x, _Argument) or x.born < born}


def _released(tree: Tree, outside: set[int]) -> Tree:
    """Return the tree with an array for each Tensor that depends on none of the leaves ``outside``."""

    def release(x: Any) -> Any:
        if isinstance(x, Tensor) and not any(id(node) in outside for node in topological_order([x])):
            return x.value
        return x

    return trees.map_leaves(release, tree)


def _inner_product(a: Any, b: Any) -> Any:
    """Return the sum over all elements of two trees of their products."""
    pairs = list(zip(trees.leaves(a), trees.leaves(b), strict=True))
    for x, y in pairs:
        if np.shape(value_of(x)) != np.shape(value_of(y)):
            raise ValueError(
                f"a direction or cotangent has shape {np.shape(value_of(y))} where {np.shape(value_of(x))} is needed"
            )
    total: Any = 0.0
    for x, y in pairs:
        total = sum(x * y) + total
    return total


def _unit_vectors(output: Any, shape: tuple[int, ...], dtype: Any) -> list[Array]:
    xp = namespace(output)
    rows = xp.eye(int(np.prod(shape)), dtype=dtype)
    return [xp.reshape(row, shape) for row in rows]


def _zeros(tree: Tree) -> Tree:
    return trees.map_leaves(lambda x: namespace(value_of(x)).zeros_like(value_of(x)), tree)


def _check_number(output: Any) -> None:
    if not (isinstance(output, (Tensor, int, float)) or is_array(output)):
        raise TypeError(
            f"the function to differentiate returned an object of type {type(output).__name__}, not a number"
        )
    shape = np.shape(value_of(output))
    if shape != ():
        raise ValueError(
            f"the function to differentiate returned shape {shape}, and only a number has a gradient; reduce it with "
            "tg.mean or tg.sum, use tg.jacobian for all its derivatives, or tg.vjp for a weighted sum of them"
        )
