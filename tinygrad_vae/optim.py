"""Optimizers: pure functions from parameters, gradients and a state to new parameters and a new state.

They know trees of arrays, and nothing of graphs or models. What is passed in is never edited.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from . import trees
from .arrays import Array, as_array, describe, namespace

Tree = TypeVar("Tree")
State = dict[str, Any]

_BLOCK = 16_384
"""How many elements are updated at a time: all that an update reads and writes of them stays in the cache."""


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum.

    ``v = momentum v + g`` and ``p = p - learning_rate v``, from v = 0 (Polyak 1964).

    Args:
        learning_rate: positive.
        momentum: from 0 to below 1.

    Raises:
        ValueError: a number lies outside its range.

    >>> sgd = SGD(learning_rate=0.1)
    >>> parameters, state = sgd.update({"x": np.array(1.0)}, {"x": np.array(2.0)}, {})
    >>> float(parameters["x"])
    0.8
    """

    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_positive("SGD: learning_rate", self.learning_rate)
        _check_fraction("SGD: momentum", self.momentum)

    def init(self, parameters: Any) -> State:
        """Return the state before the first step: a velocity of zeros, or nothing where momentum is 0."""
        _check_parameters("SGD.init", parameters)
        return {"velocity": _zeros(parameters)} if self.momentum else {}

    def update(self, parameters: Tree, gradients: Tree, state: State) -> tuple[Tree, State]:
        """Return the parameters and the state after one step.

        Args:
            parameters: a tree of float arrays.
            gradients: what ``tg.gradients`` gave for it.
            state: from ``init``, or from the step before.

        Raises:
            TypeError, ValueError: the trees do not match, or a gradient is not finite.
        """
        _check_gradients("SGD.update", parameters, gradients)
        if not self.momentum:
            _check_state("SGD.update", parameters, state, ())
            return trees.map_leaves(lambda p, g: p - self.learning_rate * g, parameters, gradients), {}
        _check_state("SGD.update", parameters, state, ("velocity",))
        velocity = trees.map_leaves(lambda v, g: self.momentum * v + g, state["velocity"], gradients)
        new = trees.map_leaves(lambda p, v: p - self.learning_rate * v, parameters, velocity)
        return new, {"velocity": velocity}


@dataclass(frozen=True)
class Adam:
    """Adaptive moments (Kingma and Ba 2015, algorithm 1).

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2`` and, at step t,
    ``p = p - learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)``, from m = v = 0.

    Args:
        learning_rate: positive; about how far a parameter moves in a step.
        beta1: from 0 to below 1; the mean of the gradient is taken over about 1 / (1 - beta1) steps.
        beta2: from 0 to below 1; the same for the mean of its square.
        epsilon: positive; bounds the step where the gradient vanishes.

    Raises:
        ValueError: a number lies outside its range.

    >>> adam = Adam(learning_rate=0.1)
    >>> start = {"x": np.array(1.0)}
    >>> parameters, state = adam.update(start, {"x": np.array(5.0)}, adam.init(start))
    >>> round(float(parameters["x"]), 6)
    0.9
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_positive("Adam: learning_rate", self.learning_rate)
        _check_fraction("Adam: beta1", self.beta1)
        _check_fraction("Adam: beta2", self.beta2)
        _check_positive("Adam: epsilon", self.epsilon)

    def init(self, parameters: Any) -> State:
        """Return the state before the first step: step 0, and zeros for the mean gradient and the mean square."""
        _check_parameters("Adam.init", parameters)
        return {"step": np.zeros((), np.int64), "mean": _zeros(parameters), "square": _zeros(parameters)}

    def update(self, parameters: Tree, gradients: Tree, state: State) -> tuple[Tree, State]:
        """Return the parameters and the state after one step.

        Args:
            parameters: a tree of float arrays.
            gradients: what ``tg.gradients`` gave for it.
            state: from ``init``, or from the step before.

        Raises:
            TypeError, ValueError: the trees do not match, or a gradient is not finite.
        """
        _check_gradients("Adam.update", parameters, gradients)
        _check_state("Adam.update", parameters, state, ("mean", "square"), ("step",))
        step = int(state["step"]) + 1
        rows = [
            self._step(step, *map(as_array, leaves))
            for leaves in zip(
                trees.leaves(parameters),
                trees.leaves(gradients),
                trees.leaves(state["mean"]),
                trees.leaves(state["square"]),
                strict=True,
            )
        ]
        new, mean, square = ([row[k] for row in rows] for k in range(3))
        return trees.replace_leaves(parameters, new), {
            "step": np.asarray(step, np.int64),
            "mean": trees.replace_leaves(parameters, mean),
            "square": trees.replace_leaves(parameters, square),
        }

    def _step(self, step: int, p: Array, g: Array, mean: Array, square: Array) -> tuple[Array, Array, Array]:
        """Return parameter, mean and square of one array after a step, filled in block by block."""
        rate = self.learning_rate / (1 - self.beta1**step)
        correction = 1 / math.sqrt(1 - self.beta2**step)
        xp = namespace(p)
        new, new_mean, new_square = (xp.empty(p.shape, p.dtype) for _ in range(3))
        flat = [a.reshape(-1) for a in (p, g, mean, square, new, new_mean, new_square)]
        work = xp.empty(min(_BLOCK, p.size), p.dtype)
        for p_, g_, mean_, square_, to, to_mean, to_square in _blocks(flat):
            scratch = work[: p_.size]
            xp.multiply(g_, 1 - self.beta1, out=to_mean)
            xp.multiply(mean_, self.beta1, out=scratch)
            to_mean += scratch
            xp.multiply(g_, g_, out=to_square)
            to_square *= 1 - self.beta2
            xp.multiply(square_, self.beta2, out=scratch)
            to_square += scratch
            xp.sqrt(to_square, out=scratch)
            scratch *= correction
            scratch += self.epsilon
            xp.divide(to_mean, scratch, out=scratch)
            scratch *= rate
            xp.subtract(p_, scratch, out=to)
        return new, new_mean, new_square


def _blocks(flat: list[Array]) -> Iterator[list[Array]]:
    """Yield the same part of each array, one part after the other."""
    for start in range(0, flat[0].size, _BLOCK):
        yield [a[start : start + _BLOCK] for a in flat]


def _zeros(tree: Tree) -> Tree:
    return trees.map_leaves(lambda p: namespace(p).zeros_like(as_array(p)), tree)


def _check_positive(what: str, x: Any) -> None:
    if isinstance(x, bool) or not isinstance(x, (int, float, np.integer, np.floating)) or not 0 < x < math.inf:
        raise ValueError(f"{what} must be a positive number, found {x!r}")


def _check_fraction(what: str, x: Any) -> None:
    if isinstance(x, bool) or not isinstance(x, (int, float, np.integer, np.floating)) or not 0 <= x < 1:
        raise ValueError(f"{what} must be a number from 0 to below 1, found {x!r}")


def _check_parameters(what: str, parameters: Any) -> None:
    for path, p in trees.paths(parameters):
        if not hasattr(p, "dtype") or p.dtype.kind != "f" or hasattr(p, "op"):
            raise TypeError(
                f"{what}: a parameter is an array of floats, found {describe(p)}{_at(path)}; "
                "take arrays out of Tensors with tg.values(tree)"
            )


def _check_gradients(what: str, parameters: Any, gradients: Any) -> None:
    _check_parameters(what, parameters)
    _check_match(what, "gradients", parameters, gradients)
    for path, g in trees.paths(gradients):
        finite = namespace(g).isfinite(g)
        if not bool(finite.all()):
            count = g.size - int(finite.sum())
            raise ValueError(
                f"{what}: {count} of {g.size} elements of the gradient{_at(path)} are not finite; "
                "the parameters are unchanged. Look at the loss of this step, or lower the learning rate"
            )


def _check_state(what: str, parameters: Any, state: Any, names: tuple[str, ...], numbers: tuple[str, ...] = ()) -> None:
    expected = {*names, *numbers}
    if not isinstance(state, dict) or set(state) != expected:
        found = f"a dict of {', '.join(map(str, state)) or 'nothing'}" if isinstance(state, dict) else describe(state)
        raise ValueError(
            f"{what}: the state must be a dict of {', '.join(sorted(expected)) or 'nothing'}, found {found}; "
            "begin with optimizer.init(parameters)"
        )
    for name in names:
        _check_match(what, f"state[{name!r}]", parameters, state[name])


def _check_match(what: str, name: str, parameters: Any, other: Any) -> None:
    """Raise where ``other`` is no tree of arrays of the paths, shapes and dtypes of the parameters."""
    expected, found = dict(trees.paths(parameters)), dict(trees.paths(other))
    if expected.keys() != found.keys():
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        raise ValueError(
            f"{what}: {name} must be a tree like the parameters; "
            f"missing: {', '.join(missing) or 'none'}; not known: {', '.join(extra) or 'none'}"
        )
    for path, p in expected.items():
        x = found[path]
        if hasattr(x, "op") or getattr(x, "shape", None) != p.shape or getattr(x, "dtype", None) != p.dtype:
            raise ValueError(f"{what}: {name}{_at(path)} must be {describe(p)} like the parameter, found {describe(x)}")


def _at(path: str) -> str:
    return f" at {path}" if path else ""
