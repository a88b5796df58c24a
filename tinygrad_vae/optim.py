"""Optimizers: pure functions from parameters, gradients and a state to new parameters and a new state.

Nothing that is passed in is edited; where parameters and gradients are Tensors, the update is recorded like anything
else. Schedules are factors of the learning rate; an optimizer is made anew with the rate of each step.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from . import adam_loop
from .core import Array, Tensor, Value, as_array, describe, is_array, namespace, trees, value_of
from .devices import to_host
from .ops import adaptive_step, astype, clip, isfinite, logical_and, moving_average, sqrt, square, where
from .ops import sum as total

Tree = TypeVar("Tree")
State = dict[str, Any]


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum.

    ``v = momentum v + g`` and ``p = p - learning_rate v``, from v = 0 (Polyak 1964).

    Args:
        learning_rate: positive; a number, or an array of shape () if a plan should see it change.
        momentum: from 0 to below 1.

    >>> sgd = SGD(learning_rate=0.1)
    >>> parameters, state = sgd.update({"x": np.array(1.0)}, {"x": np.array(2.0)}, {})
    >>> float(parameters["x"])
    0.8
    """

    learning_rate: float | Value
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_rate("SGD", self.learning_rate)
        _check_number("SGD: momentum", self.momentum, "a number from 0 to below 1")

    def init(self, parameters: Any) -> State:
        """Return the state before the first step: a velocity of zeros, or nothing if momentum is 0."""
        velocity = _zeros("SGD.init", parameters)
        return {"velocity": velocity} if self.momentum else {}

    def update(self, parameters: Tree, gradients: Tree, state: State) -> tuple[Tree, State]:
        """Return the parameters and the state after one step.

        Args:
            parameters: a tree of float arrays.
            gradients: a tree of the same structure, as ``tg.gradients`` returns it.
            state: from ``init``, or from the step before.

        Raises:
            TypeError, ValueError: the trees do not match, or a gradient is not finite.
        """
        rate, momentum = _rate(self.learning_rate), float(self.momentum)  # a NumPy number would widen float32
        _check_state("SGD.update", state, *(["velocity"] if momentum else []))
        rows = _rows("SGD.update", parameters, gradients=gradients, **state)
        _check_finite("SGD.update", gradients)
        velocity = [momentum * v[0] + g if momentum else g for _, g, *v in rows]
        new = _tree(parameters, [p - _as(rate, p) * v for (p, *_), v in zip(rows, velocity, strict=True)])
        return new, {"velocity": _tree(parameters, velocity)} if momentum else {}


@dataclass(frozen=True)
class Adam:
    """Adaptive moments (Kingma and Ba 2015, algorithm 1).

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2`` and, at step t,
    ``p = p - learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)``, from m = v = 0.

    Args:
        learning_rate: as in ``SGD``; about how far a parameter moves in a step.
        beta1, beta2: from 0 to below 1; the mean of the gradient is taken over about 1 / (1 - beta1) steps, the mean of
            its square over about 1 / (1 - beta2).
        epsilon: positive; bounds the step where the gradient vanishes.

    >>> adam = Adam(learning_rate=0.1)
    >>> start = {"x": np.array(1.0)}
    >>> parameters, state = adam.update(start, {"x": np.array(5.0)}, adam.init(start))
    >>> round(float(parameters["x"]), 6)
    0.9
    """

    learning_rate: float | Value = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        name = type(self).__name__
        _check_rate(name, self.learning_rate)
        _check_number(f"{name}: beta1", self.beta1, "a number from 0 to below 1")
        _check_number(f"{name}: beta2", self.beta2, "a number from 0 to below 1")
        _check_number(f"{name}: epsilon", self.epsilon, "a positive number")

    def init(self, parameters: Any) -> State:
        """Return the state before the first step: step 0, and zeros for the mean gradient and the mean square."""
        mean, square = (_zeros(f"{type(self).__name__}.init", parameters) for _ in range(2))
        step = namespace(*trees.leaves(parameters)).zeros((), np.int64)
        return {"step": step, "mean": mean, "square": square}

    def update(self, parameters: Tree, gradients: Tree, state: State) -> tuple[Tree, State]:
        """Return the parameters and the state after one step; see ``SGD.update``."""
        what = f"{type(self).__name__}.update"
        _check_state(what, state, "step", "mean", "square")
        rows = _rows(what, parameters, gradients=gradients, mean=state["mean"], square=state["square"])
        if not _check_finite(what, gradients, 4 / (1 - self.beta2)):
            # a square that became infinite would stay so, and the parameter would not move any more
            limits = {g.dtype: math.sqrt(np.finfo(g.dtype).max * (1 - self.beta2)) / 2 for _, g, *_ in rows}
            rows = [(p, clip(g, -limits[g.dtype], limits[g.dtype]), *others) for p, g, *others in rows]
        step = state["step"] + 1
        # with both corrections for the start from zero, the step is mean / (scale sqrt(square) + shift)
        rate = _rate(self.learning_rate) / (1 - float(self.beta1) ** step)
        scale, shift = 1 / (rate * sqrt(1 - float(self.beta2) ** step)), float(self.epsilon) / rate
        dtypes = {p.dtype for p, *_ in rows}
        factors = {dtype: (astype(scale, dtype), astype(shift, dtype)) for dtype in dtypes}
        loop = adam_loop.loop_from(step)
        after = []
        for p, g, m, v in rows:
            if loop and adam_loop.fits((p, g, m, v)):
                after.append(adam_loop.run(loop, (p, g, m, v), self.beta1, self.beta2, *factors[p.dtype]))
                continue
            m, v = moving_average(m, g, decay=float(self.beta1)), moving_average(v, g * g, decay=float(self.beta2))
            after.append((adaptive_step(p, m, v, *factors[p.dtype]), m, v))
        new, m, v = (_tree(parameters, [row[k] for row in after]) for k in range(3))
        return new, {"step": _array(step), "mean": m, "square": v}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    The step of ``Adam`` from p, and ``-learning_rate weight_decay p`` beside it. The decay does not pass through the
    moments, as the gradient of a penalty would: every parameter shrinks at the same rate.

    Args:
        learning_rate, beta1, beta2, epsilon: as in ``Adam``.
        weight_decay: a non-negative number; with 0 it is ``Adam``.

    >>> start = {"x": np.array(1.0)}
    >>> adam = AdamW(learning_rate=0.1, weight_decay=0.5)
    >>> parameters, state = adam.update(start, {"x": np.array(0.0)}, adam.init(start))
    >>> round(float(parameters["x"]), 6)
    0.95
    """

    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_number("AdamW: weight_decay", self.weight_decay, "a non-negative number")

    def update(self, parameters: Tree, gradients: Tree, state: State) -> tuple[Tree, State]:
        """Return the parameters and the state after one step; see ``Adam.update``."""
        new, state = super().update(parameters, gradients, state)
        if not self.weight_decay:
            return new, state
        shrunk = _rate(self.learning_rate) * float(self.weight_decay)
        return trees.map_leaves(lambda after, p: _array(after - _as(shrunk, p) * p), new, parameters), state


def clip_by_global_norm(gradients: Tree, limit: float) -> tuple[Tree, float | Value]:
    """Return the gradients scaled down to a norm of at most ``limit``, and the norm that they had.

    ``g min(1, limit / |g|)`` with ``|g|^2 = sum of the squares of all elements of all arrays``: the direction stays
    (Pascanu, Mikolov and Bengio 2013). If the norm is not finite, the gradients are returned as they are, and the
    optimizer refuses them. The norm of Tensors is a Tensor.

    >>> clipped, norm = clip_by_global_norm({"x": np.array([3.0, 0.0]), "y": np.array(4.0)}, 1.0)
    >>> norm, clipped["x"]
    (5.0, array([0.6, 0. ]))
    """
    _check_number("clip_by_global_norm: limit", limit, "a positive number")
    squares = [total(square(astype(g, np.float64))) for g in trees.leaves(gradients)]
    norm = sqrt(functools.reduce(operator.add, squares, 0.0))
    if isinstance(norm, Tensor):
        factor = where(logical_and(norm > limit, isfinite(norm)), limit / norm, 1.0)
    elif limit < norm < math.inf:
        factor = limit / norm
    else:
        return gradients, float(norm)
    clipped = trees.map_leaves(lambda g: _array(g * astype(factor, g.dtype)), gradients)
    return clipped, norm if isinstance(norm, Tensor) else float(norm)


def warm_up(step: int, steps: int) -> float:
    """Return the factor of a learning rate that rises in equal parts: ``min(1, (step + 1) / steps)``.

    >>> [warm_up(step, 4) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / steps) if steps else 1.0


def cosine(step: int, steps: int) -> float:
    """Return the factor of a learning rate that falls from 1 to 0: ``(1 + cos(pi step / steps)) / 2``.

    Loshchilov and Hutter 2017, equation 5, without restarts.

    >>> [round(cosine(step, 4), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return (1 + math.cos(math.pi * min(step, steps) / steps)) / 2


def stages(epoch: int) -> float:
    """Return the factor of a learning rate that falls in stages, the i-th of ``3^i`` epochs: ``10^(-i / 7)``.

    Burda, Grosse and Salakhutdinov 2016, section 5.1, who train for the eight stages i = 0, ..., 7: 3280 epochs.

    >>> [round(stages(epoch), 3) for epoch in (0, 1, 3, 4, 12, 13)]
    [1.0, 0.72, 0.72, 0.518, 0.518, 0.373]
    """
    i = 0
    while epoch >= 3**i:
        epoch -= 3**i
        i += 1
    return 10 ** (-i / 7)


def _tree(parameters: Tree, new: list[Array]) -> Tree:
    return trees.replace_leaves(parameters, [_array(x) for x in new])


def _array(x: Value) -> Value:
    return x if isinstance(x, Tensor) else as_array(x)


def _zeros(what: str, parameters: Tree) -> Tree:
    # Training begins. Once an array as large as this was freed, glibc keeps the memory that a step frees for the next
    # one, which would else get it page by page (M_MMAP_THRESHOLD, mallopt(3)): 6 % of an eager step. Nothing is written
    np.empty(2**25 - 2**16, np.uint8)
    return _tree(parameters, [namespace(p).zeros_like(p) for (p,) in _rows(what, parameters)])


def _rate(x: float | Value) -> float | Value:
    """Return a learning rate in float64."""
    return float(x) if isinstance(x, _NUMBERS) else astype(x, np.dtype(np.float64))


def _as(x: float | Value, like: Value) -> float | Value:
    """Return a factor that does not change the dtype of an array."""
    return x if type(x) is float else astype(x, like.dtype)


_NUMBERS = int, float, np.integer, np.floating

_RANGES: dict[str, Callable[[Any], bool]] = {
    "a positive number": lambda x: 0 < x < math.inf,
    "a non-negative number": lambda x: 0 <= x < math.inf,
    "a number from 0 to below 1": lambda x: 0 <= x < 1,
}


def _check_number(what: str, x: Any, expected: str) -> None:
    if isinstance(x, bool) or not isinstance(x, _NUMBERS) or not _RANGES[expected](x):
        raise ValueError(f"{what} must be {expected}, found {x!r}")


def _check_rate(optimizer: str, rate: Any) -> None:
    x = value_of(rate)
    x = to_host(x)[()] if is_array(x) and x.shape == () else x
    _check_number(f"{optimizer}: learning_rate", x, "a positive number")


def _check_state(what: str, state: Any, *names: str) -> None:
    if not isinstance(state, dict) or state.keys() != set(names):
        found = f"a dict of {_listed(state)}" if isinstance(state, dict) else describe(state)
        raise ValueError(
            f"{what}: the state must be a dict of {_listed(names)}, found {found}; "
            "begin with optimizer.init(parameters)"
        )


def _rows(what: str, parameters: Any, **others: Any) -> list[tuple[Array, ...]]:
    """Return each parameter with the arrays at its path in the other trees.

    The update is recorded if all parameters are Tensors, and gradients; a gradient may still be a constant array.
    """
    expected, *columns = (dict(trees.paths(tree)) for tree in (parameters, *others.values()))
    is_recorded = all(isinstance(p, Tensor) for p in expected.values()) and any(
        isinstance(g, Tensor) for g in trees.leaves(others.get("gradients"))
    )
    arrays = {path: value_of(p) if is_recorded else p for path, p in expected.items()}
    for path, p in arrays.items():
        if not is_array(p) or p.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{what}: a parameter is an array of float32 or float64, found {describe(p)}{_at(path)}; "
                "take arrays out of Tensors with tg.values(tree), or, in a plan, take gradients with tg.grad"
            )
    for name, found in zip(others, columns, strict=True):
        if found.keys() != arrays.keys():
            raise ValueError(
                f"{what}: {name} must be a tree like the parameters; missing: "
                f"{_listed(arrays.keys() - found.keys())}; not known: {_listed(found.keys() - arrays.keys())}"
            )
        for path, p in arrays.items():
            x = value_of(found[path]) if is_recorded else found[path]
            if not is_array(x) or x.shape != p.shape or x.dtype != p.dtype:
                raise ValueError(
                    f"{what}: {name}{_at(path)} must be {describe(p)} like the parameter, found {describe(x)}"
                )
    return [(p, *(column[path] for column in columns)) for path, p in expected.items()]


def _check_finite(what: str, gradients: Any, times: float = 1.0) -> bool:
    """Raise where a gradient is not finite; return whether a number of times the sum of its squares is finite too."""
    with np.errstate(all="ignore"):
        # one number for all: a GPU has to be waited for, and a product takes less time than to ask each element
        sums = [namespace(g).vdot(g, g) / np.finfo(g.dtype).max for g in map(value_of, trees.leaves(gradients))]
        if functools.reduce(operator.add, sums, 0.0) * times < 1:
            return True
    for path, g in trees.paths(gradients):
        broken = int((~namespace(g).isfinite(value_of(g))).sum())
        if broken:
            raise ValueError(
                f"{what}: {broken} of {g.size} elements of the gradient{_at(path)} are not finite; "
                "the parameters are unchanged. Look at the loss of this step, or lower the learning rate"
            )
    return False


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "nothing"


def _at(path: str) -> str:
    return f" at {path}" if path else ""
