"""Derivatives of functions, in function style, over trees of arrays.

``grad(f)`` is a function again: its arguments may be arrays, or Tensors, whose derivative is then recorded. It
knows the engine and trees, and nothing of randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from . import trees
from .arrays import Value, is_array, namespace
from .graph import Tensor, gradients, value_of
from .ops import identity, reshape, stack, sum

Tree = TypeVar("Tree")


def wrap(tree: Tree) -> Tree:
    """Return the tree with a Tensor around each array, named by its path: from here on, what is computed is recorded.

    >>> wrap({"w": np.ones(2)})["w"].name
    'w'
    """
    return trees.replace_leaves(
        tree, [x if isinstance(x, Tensor) else Tensor(x, path) for path, x in trees.paths(tree)]
    )


def values(tree: Tree) -> Tree:
    """Return the tree with each Tensor replaced by its array.

    >>> values([Tensor(1.0)])
    [array(1.)]
    """
    return trees.map_leaves(value_of, tree)


def _opened(tree: Tree) -> tuple[Tree, bool]:
    """Return fresh nodes to differentiate by, and whether the derivative is itself to be recorded.

    An argument that is a Tensor already belongs to an outer derivative. An identity in front of it gives the inner
    derivative a node of its own, so that the two are never confused.
    """
    recorded = any(isinstance(x, Tensor) for x in trees.leaves(tree))
    fresh = [identity(x) if isinstance(x, Tensor) else Tensor(x, path) for path, x in trees.paths(tree)]
    return trees.replace_leaves(tree, fresh), recorded


def value_and_grad(f: Callable[..., Any], argument: int = 0) -> Callable[..., tuple[Value, Any]]:
    """Return a function that gives ``f(...)`` and its gradient in one of the arguments.

    Args:
        f: a function with a number for a result.
        argument: which argument to differentiate by; it may be a tree (a model, a dict, a list).

    Returns:
        A function of the same arguments. Its gradient has the structure of that argument. Called with arrays it
        gives arrays; called with Tensors, Tensors.

    Raises:
        TypeError, ValueError: the result is not a number that depends on the argument.

    >>> value_and_grad(lambda p: p["x"] ** 2)({"x": 3.0})
    (array(9.), {'x': array(6.)})
    """

    def evaluate(*args: Any, **options: Any) -> tuple[Value, Any]:
        inner, recorded = _opened(args[argument])
        output = f(*args[:argument], inner, *args[argument + 1 :], **options)
        output = _number(output, "value_and_grad")
        found = gradients(output, inner, record=recorded) if isinstance(output, Tensor) else _zeros(inner)
        outer_recorded = recorded or _recorded(args, options)
        if outer_recorded and not recorded and isinstance(output, Tensor):
            found = gradients(output, inner, record=True)
        return (output if outer_recorded else value_of(output)), found

    return evaluate


def _recorded(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return any(isinstance(x, Tensor) for x in trees.leaves([list(args), options]))


def _zeros(tree: Tree) -> Tree:
    return trees.map_leaves(lambda x: namespace(value_of(x)).zeros_like(value_of(x)), tree)


def _number(output: Any, what: str) -> Any:
    if not (isinstance(output, (Tensor, int, float)) or is_array(output)):
        raise TypeError(f"{what}: the function returned an object of type {type(output).__name__}, not a number")
    shape = np.shape(value_of(output))
    if shape != ():
        raise ValueError(
            f"{what}: the function returned shape {shape}, and only a number has a gradient; reduce it with tg.mean or tg.sum, "
            "or use tg.jacobian for all derivatives and tg.vjp for a weighted sum of them"
        )
    return output


def grad(f: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """Return the gradient of ``f`` in one of its arguments, as a function; see ``value_and_grad``.

    >>> grad(grad(lambda x: x**3))(2.0)
    array(12.)
    """
    both = value_and_grad(f, argument)
    return lambda *args, **options: both(*args, **options)[1]
