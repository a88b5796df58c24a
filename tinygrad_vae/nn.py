"""Layers: frozen dataclasses of arrays that are called like functions, and how their weights begin.

A layer is a tree: ``tg.wrap`` puts a Tensor around each of its arrays, and an optimizer returns a new one. It knows
ops and noise streams, and nothing of losses.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .core import NoiseStream, Value, describe, trees, value_of
from .ops import linear, relu, sigmoid, softplus, tanh

ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "relu": relu,
    "tanh": tanh,
    "softplus": softplus,
    "sigmoid": sigmoid,
}
"""The activation functions of an ``MLP``, by name."""

GAINS = {"relu": 2.0}
"""The variance of a weight times the number of inputs, where it is not 1: relu passes on half of the variance."""


@dataclass(frozen=True, eq=False)
class Linear:
    """An affine map, ``y = x W + b``.

    Args:
        weight: W, of shape (n_in, n_out).
        bias: b, of shape (n_out,).

    Raises:
        ValueError: the shapes do not belong together.

    >>> Linear(np.ones((2, 3)), np.zeros(3))(np.array([1.0, 2.0]))
    array([3., 3., 3.])
    """

    weight: Value
    bias: Value

    def __post_init__(self) -> None:
        if len(np.shape(value_of(self.weight))) != 2 or np.shape(value_of(self.bias)) != (self.n_out,):
            raise ValueError(
                "Linear(weight, bias): expected shapes (n_in, n_out) and (n_out,), "
                f"found {describe(value_of(self.weight))} and {describe(value_of(self.bias))}"
            )

    @classmethod
    def init(cls, n_in: int, n_out: int, *, rng: NoiseStream, gain: float = 1.0, dtype: Any = np.float32) -> Linear:
        """Return a layer with uniform weights of mean 0 and variance ``gain / n_in``, and biases 0.

        With x of mean square 1 the outputs then have variance ``gain``: signals keep their size from layer to layer,
        with gain 1 where nothing follows (LeCun et al. 1998, section 4.6) and 2 before a relu, which halves the mean
        square (He et al. 2015, equation 10).

        Args:
            n_in: the number of inputs.
            n_out: the number of outputs.
            rng: a stream from ``tg.noise(seed)``.
            gain: the variance of an output, where the inputs have mean square 1.
            dtype: float32 or float64.

        Raises:
            TypeError, ValueError: a size is no whole number from 1 on, rng is no stream, or the dtype is another.

        >>> Linear.init(784, 400, rng=tg.noise(0)).weight.shape
        (784, 400)
        """
        _check_init("Linear.init", (n_in, n_out), rng, dtype)
        bound = math.sqrt(3 * gain / n_in)  # the variance of U(-b, b) is b^2 / 3
        return cls(bound * (2 * rng.uniform((n_in, n_out), dtype) - 1), np.zeros(n_out, dtype))

    @property
    def n_in(self) -> int:
        """The number of inputs."""
        return int(self.weight.shape[0])

    @property
    def n_out(self) -> int:
        """The number of outputs."""
        return int(self.weight.shape[1])

    def __call__(self, x: Value) -> Value:
        """Return ``x W + b``.

        Args:
            x: inputs of shape (..., n_in).

        Returns:
            Outputs of shape (..., n_out).

        Raises:
            ValueError: the last axis of x has another length.
        """
        found = value_of(x)
        if getattr(found, "shape", ())[-1:] != (self.n_in,):
            raise ValueError(f"Linear: expected inputs of shape (..., {self.n_in}), found {describe(found)}")
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class MLP:
    """A chain of linear layers with an activation after each of them: the trunk in front of a linear head.

    Args:
        layers: the layers, each with as many inputs as the one before it has outputs; without any it is the identity.
        activation: one of ``"relu"``, ``"tanh"``, ``"softplus"``, ``"sigmoid"``.

    Raises:
        ValueError: the layers do not fit together, or the activation has another name.

    >>> MLP((Linear(np.eye(2), np.zeros(2)),), "relu")(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    layers: tuple[Linear, ...]
    activation: str = trees.static(default="relu")

    def __post_init__(self) -> None:
        _check_activation(self.activation)
        for i in range(1, len(self.layers)):
            if self.layers[i].n_in != self.layers[i - 1].n_out:
                raise ValueError(
                    f"MLP: layer {i - 1} has {self.layers[i - 1].n_out} outputs, layer {i} takes {self.layers[i].n_in}"
                )

    @classmethod
    def init(
        cls, sizes: tuple[int, ...], *, rng: NoiseStream, activation: str = "relu", dtype: Any = np.float32
    ) -> MLP:
        """Return layers between the given sizes, with weights as ``Linear.init`` draws them.

        Args:
            sizes: the number of inputs, then the number of outputs of each layer.
            rng: a stream from ``tg.noise(seed)``.
            activation: one of ``"relu"``, ``"tanh"``, ``"softplus"``, ``"sigmoid"``.
            dtype: float32 or float64.

        >>> [layer.n_out for layer in MLP.init((784, 400, 100), rng=tg.noise(0)).layers]
        [400, 100]
        """
        _check_activation(activation)
        _check_init("MLP.init", sizes, rng, dtype)
        gain = GAINS.get(activation, 1.0)
        pairs = itertools.pairwise(sizes)
        return cls(tuple(Linear.init(n, m, rng=rng, gain=gain, dtype=dtype) for n, m in pairs), activation)

    def __call__(self, x: Value) -> Value:
        """Return the outputs of the last layer, of shape (..., n_out), for inputs of shape (..., n_in)."""
        for layer in self.layers:
            x = ACTIVATIONS[self.activation](layer(x))
        return x


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"MLP: activation must be one of {', '.join(ACTIVATIONS)}; found {name!r}")


def _check_init(what: str, sizes: tuple[int, ...], rng: NoiseStream, dtype: Any) -> None:
    """Raise before anything is drawn where weights of these sizes cannot be."""
    for n in sizes:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"{what}: a size is a whole number, found {describe(n)}")
        if n < 1:
            raise ValueError(f"{what}: a size is a whole number from 1 on, found {n}")
    if not isinstance(rng, NoiseStream):
        raise TypeError(f"{what}: rng takes a stream from tg.noise(seed), found {describe(rng)}")
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"{what}: dtype must be float32 or float64, found {np.dtype(dtype)}")
