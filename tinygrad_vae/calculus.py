"""Derivatives of functions, in function style, over trees of arrays.

Called with arrays, they give arrays. Where the function depends on a Tensor from outside, as an argument or by its
closure, they give Tensors, so derivatives nest to any depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .core import (
    Array,
    Noise,
    Tensor,
    Value,
    as_array,
    describe,
    gradients,
    is_array,
    namespace,
    topological_order,
    trees,
    value_of,
)
from .ops import identity, reshape, stack, sum
from .ops.declare import SMOOTH, STOP, op
from .ops.ranges import of_first

Tree = TypeVar("Tree")
Argument = int | tuple[int, ...]


def wrap(tree: Tree) -> Tree:
    """Return the tree with a Tensor around each array, named by its path, so that a graph is recorded from here on.

    >>> tg.wrap({"w": np.ones(2)})
    {'w': Tensor([1. 1.], name='w')}
    """
    return trees.replace_leaves(
        tree, [x if isinstance(x, Tensor) else Tensor(x, path) for path, x in trees.paths(tree)]
    )


def values(tree: Tree) -> Tree:
    """Return the tree with its array in place of each Tensor.

    >>> tg.values([tg.Tensor(1.0)])
    [array(1.)]
    """
    return trees.map_leaves(value_of, tree)


def value_and_grad(
    f: Callable[..., Any], argument: Argument = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """Return a function of the same arguments that gives ``f(...)`` and its gradient in one or several of them.

    The gradient has the structure of the argument, or is a tuple of one for each; it is zero where the result does not
    depend on it.

    Args:
        f: a function whose result is a number or, with ``has_aux``, a pair of a number and anything else, which is
            returned in place of the value.
        argument: the position of the argument, which may be a tree (a model, a dict), or a tuple of positions.
        has_aux: whether ``f`` returns such a pair.

    Raises:
        TypeError, ValueError: the result is not a number, or was computed outside the graph, or the argument holds
            something other than floats.
        BlockedGradientError: a random node stands in between.

    >>> tg.value_and_grad(lambda p: p["x"] ** 2)({"x": 3.0})
    (array(9.), {'x': array(6.)})
    >>> tg.value_and_grad(lambda a, b: (a * b, a + b), (0, 1), has_aux=True)(2.0, 3.0)
    ((array(6.), array(5.)), (array(3.), array(2.)))
    """

    def evaluate(*args: Any, **options: Any) -> tuple[Any, Any]:
        inner, found = _run(f, args, argument, options)
        if has_aux and not (isinstance(found, tuple) and len(found) == 2):
            raise TypeError(f"has_aux=True: the function must return (number, anything), found {describe(found)}")
        output = found[0] if has_aux else found
        _check_number(output)
        if not isinstance(output, Tensor):
            return found, _zeros(inner)
        outside = _outside(found)
        return _released((found, gradients(output, inner, record=bool(outside))), outside)

    return evaluate


def grad(f: Callable[..., Any], argument: Argument = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """Return the gradient of ``f`` as a function, as ``value_and_grad`` does; with ``has_aux``, a pair of both.

    >>> tg.grad(tg.grad(lambda x: x**3))(2.0)
    array(12.)
    >>> tg.grad(lambda a, b: a * b, (0, 1))(2.0, 3.0)
    (array(3.), array(2.))
    """
    both = value_and_grad(f, argument, has_aux=has_aux)

    def evaluate(*args: Any, **options: Any) -> Any:
        found, gradient = both(*args, **options)
        return (gradient, found[1]) if has_aux else gradient

    return evaluate


def vjp(f: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return ``f(*args)`` and its vector-Jacobian product, ``g -> g^T J``, one part for each argument.

    Arguments and value are trees of arrays; the cotangent g has the structure and shapes of the value.

    >>> value, pull = tg.vjp(lambda x: x**2, np.array([1.0, 3.0]))
    >>> pull(np.array([1.0, 10.0]))
    (array([ 2., 60.]),)
    """
    inner, output = _run(f, args, tuple(range(len(args))), {})
    outside = _outside(output)

    def pull(cotangent: Any) -> tuple[Any, ...]:
        weighted = _inner_product(output, cotangent)
        if not isinstance(weighted, Tensor):
            return _zeros(inner)
        around = outside | _outside(cotangent)  # a pullback may be called inside another derivative
        return _released(gradients(weighted, inner, record=bool(around)), around)

    return _released(output, outside), pull


def jvp(f: Callable[..., Any], args: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return ``f(*args)`` and its Jacobian-vector product, ``J t``: how it moves as the arguments move along t.

    The tangents t have the structure and shapes of ``args``. It is the derivative of ``u -> (u^T J) t`` in u: reverse
    mode run twice.

    Raises:
        ValueError: a direction has another shape.
        BlockedGradientError, InvalidGradientError: a random node stands in between, or an estimator has weighed the
            value for a draw that the tangents depend on too.

    >>> tg.jvp(lambda x: x**2, (np.array([1.0, 3.0]),), (np.array([1.0, 10.0]),))
    (array([1., 9.]), array([ 2., 60.]))
    """
    inner, output = _run(f, args, tuple(range(len(args))), {})
    outside = _outside([output, tangents])
    weights = trees.map_leaves(lambda x: Tensor(np.zeros_like(value_of(x))), output)
    beside = weights  # u, marked with the tangents: they may depend on the same noise as J
    for t in trees.leaves(tangents):
        if isinstance(t, Tensor):
            beside = trees.map_leaves(lambda u: asked_beside(u, t), beside)  # noqa: B023
    weighted = _inner_product(output, beside)
    along = _inner_product(gradients(weighted, inner, record=True), tangents)
    return _released((output, gradients(along, weights, record=bool(outside))), outside)


@op(
    lambda g, y, u, tangent: g,
    None,
    smoothness=(SMOOTH, STOP),
    axes=lambda i, labels, y, u, tangent: (None,) * len(y.shape) if i else labels,
    range=of_first,
)
def asked_beside(u: Value, tangent: Value, /) -> Value:
    """``u``, with the tangent as a second input, so that the guard sees all the noise that the product depends on."""
    return u


def hvp(f: Callable[..., Any], x: Tree, direction: Tree) -> Tree:
    """Return the Hessian-vector product ``H(x) v``, grad of (grad f)^T v, of a function of one tree with a number.

    The direction v has the structure and shapes of ``x``.

    >>> tg.hvp(lambda x: tg.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    return grad(lambda y: _inner_product(grad(f)(y), direction))(x)


def jacobian(f: Callable[..., Any], argument: Argument = 0) -> Callable[..., Any]:
    """Return the function that gives every derivative of ``f`` in one or several arguments, named as in ``grad``.

    It has the structure of the result of ``f`` and, for each array in it, of the argument. Each part has the shape of
    the array in the result followed by the shape of the array in the argument. ``f`` runs once; each element of its
    result takes one reverse pass.

    >>> tg.jacobian(lambda x: x**2)(np.array([1.0, 3.0]))
    array([[2., 0.],
           [0., 6.]])
    """

    def evaluate(*args: Any, **options: Any) -> Any:
        inner, output = _run(f, args, argument, options)
        outside = _outside(output)

        def derivatives_of(y: Any) -> Any:
            if not isinstance(y, (Tensor, int, float)) and not is_array(y):
                raise TypeError(f"jacobian: the function returned {describe(y)}, not an array or a tree of arrays")
            value = as_array(value_of(y))
            units = namespace(value).eye(value.size, dtype=value.dtype).reshape(value.size, *value.shape)
            if not isinstance(y, Tensor) or not value.size:
                zeros = namespace(value).zeros
                return trees.map_leaves(lambda x: zeros((*value.shape, *np.shape(value_of(x))), value.dtype), inner)
            rows = [gradients(y, inner, cotangent=unit, record=bool(outside)) for unit in units]
            return trees.map_leaves(lambda *parts: reshape(stack(parts), (*value.shape, *parts[0].shape)), *rows)

        return _released(trees.map_leaves(derivatives_of, output), outside)

    return evaluate


def hessian(f: Callable[..., Any], argument: Argument = 0) -> Callable[..., Any]:
    """Return the function that gives every second derivative of ``f``, whose result is a number.

    For an array x the result has shape ``x.shape + x.shape``; for a tree it is a tree of trees.

    >>> tg.hessian(lambda x: x[0] * x[1])(np.array([1.0, 3.0]))
    array([[0., 1.],
           [1., 0.]])
    """
    return jacobian(grad(f, argument), argument)


class _Argument(Tensor):
    """A leaf for an array that a derivative is taken by; a constant, no longer active, once the function has run."""

    __slots__ = ("active",)

    def __init__(self, value: Array, name: str | None = None, active: bool = False) -> None:
        super().__init__(value, name)
        self.active = active


def _run(f: Callable[..., Any], args: tuple[Any, ...], argument: Argument, options: dict[str, Any]) -> tuple[Any, Any]:
    """Return new nodes for the arguments to differentiate by, and what ``f`` returns for them.

    A Tensor belongs to somebody else's derivative: an identity in front of it keeps the two apart.
    """
    chosen = tuple(args[i] for i in argument) if isinstance(argument, tuple) else args[argument]
    paths = trees.paths(chosen)
    fresh = [identity(x) if isinstance(x, Tensor) else _Argument(x, path or None, True) for path, x in paths]
    inner, called = trees.replace_leaves(chosen, fresh), list(args)
    for i, x in zip(argument, inner, strict=True) if isinstance(argument, tuple) else [(argument, inner)]:
        called[i] = x
    found = f(*called, **options)
    for x in fresh:
        if isinstance(x, _Argument):
            x.active = False
    return inner, found


def _outside(tree: Any) -> set[int]:
    """Return the ids of leaves below that somebody else may differentiate by: then the call is inside a derivative."""
    tops = [x for x in trees.leaves(tree) if isinstance(x, Tensor)]
    leaves = [x for x in topological_order(tops) if x.op is None and not isinstance(x, Noise)]
    return {id(x) for x in leaves if not isinstance(x, _Argument) or x.active}


def _released(tree: Tree, outside: set[int]) -> Tree:
    """Return the tree with an array, or inside another derivative a constant, for what depends on no leaf outside."""

    def release(x: Any) -> Any:
        if isinstance(x, Tensor) and any(id(node) in outside for node in topological_order([x])):
            return x
        return _Argument(value_of(x)) if outside and is_array(value_of(x)) else value_of(x)

    return trees.map_leaves(release, tree)


def _inner_product(a: Any, b: Any) -> Any:
    """Return the sum of the products of the elements of two trees."""
    total: Any = 0.0
    for x, y in zip(trees.leaves(a), trees.leaves(b), strict=True):
        needed, found = np.shape(value_of(x)), np.shape(value_of(y))
        if needed != found:
            raise ValueError(f"a direction or cotangent has shape {found} where {needed} is needed")
        total = sum(x * y) + total
    return total


def _zeros(tree: Tree) -> Tree:
    """Return zeros for each node: Tensors where an argument was a Tensor, and arrays elsewhere."""
    zeros = trees.map_leaves(lambda x: namespace(x.value).zeros_like(x.value), tree)
    return trees.map_leaves(lambda x, zero: zero if isinstance(x, _Argument) else _Argument(zero), tree, zeros)


def _check_number(output: Any) -> None:
    returned = "the function to differentiate returned"
    if isinstance(output, tuple):
        advice = "return the loss alone, or say has_aux=True where it returns (loss, anything)"
        raise TypeError(f"{returned} {len(output)} things; {advice}")
    if not (isinstance(output, (Tensor, int, float)) or is_array(output)):
        raise TypeError(f"{returned} {describe(output)}, not a number")
    if np.shape(value_of(output)) != ():
        raise ValueError(
            f"{returned} shape {np.shape(value_of(output))}, and only a number has a gradient; reduce it with "
            "tg.mean or tg.sum, use tg.jacobian for all its derivatives, or tg.vjp for a weighted sum of them"
        )
    if is_array(output):
        raise TypeError(
            f"{returned} an array and no Tensor: it was computed outside of the graph, from a .value or from "
            "tg.values(...), and its gradient would be 0. Compute it from the argument itself; where it is a constant, "
            "return float(...)"
        )
