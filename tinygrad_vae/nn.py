"""Layers: frozen dataclasses of arrays that are called like functions, and how their weights begin.

A layer is a tree: ``tg.wrap`` puts a Tensor around each of its arrays, and an optimizer returns a new one.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .core import NoiseStream, Value, describe, trees, value_of
from .ops import linear, relu, sigmoid, softplus, tanh

ACTIVATIONS: dict[str, Callable[[Value], Value]] = {f.__name__: f for f in (relu, tanh, softplus, sigmoid)}
"""The activation functions of an ``MLP``, by name."""


class Layer:
    """A dataclass of arrays and layers whose ``repr`` says names and shapes, not numbers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        name = type(self).__name__  # a dataclass has an __init__ of its own
        raise TypeError(f"{name} is no dataclass; write @dataclass(frozen=True, eq=False) above it")

    def __init_subclass__(cls) -> None:
        cls.__repr__ = _in_words  # type: ignore[method-assign]  # dataclass would write one with all the numbers


def _in_words(x: Any) -> str:
    """Return a layer with the shapes of its arrays; a tuple of layers goes without parentheses."""
    if isinstance(x, Linear):
        return f"Linear({x.n_in}, {x.n_out})"
    if isinstance(x, tuple):
        return ", ".join(map(_in_words, x))
    if not isinstance(x, Layer):
        return f"{x.dtype} {x.shape}" if hasattr(x, "shape") else repr(x)
    fields = [(f.name, getattr(x, f.name)) for f in dataclasses.fields(x)]  # type: ignore[arg-type]
    parts = [_in_words(part) if isinstance(part, tuple) else f"{name}={_in_words(part)}" for name, part in fields]
    return f"{type(x).__name__}({', '.join(parts)})"


@dataclass(frozen=True, eq=False)
class Linear(Layer):
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
            n_in, n_out: positive whole numbers of inputs and outputs.
            rng: a stream from ``tg.noise(seed)``.
            gain: the variance of an output, where the inputs have mean square 1.
            dtype: float32 or float64.

        Raises:
            TypeError, ValueError: one of them is something else.

        >>> Linear.init(784, 400, rng=tg.noise(0))
        Linear(784, 400)
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
        """Return ``x W + b``, of shape (..., n_out), for inputs of shape (..., n_in)."""
        found = value_of(x)
        if getattr(found, "shape", ())[-1:] != (self.n_in,):
            raise ValueError(f"Linear: expected inputs of shape (..., {self.n_in}), found {describe(found)}")
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class MLP(Layer):
    """A chain of linear layers with an activation between them.

    Args:
        layers: the layers, each with as many inputs as the one before it has outputs; without any it is the identity.
        activation: one of ``"relu"``, ``"tanh"``, ``"softplus"``, ``"sigmoid"``.
        trunk: whether the activation follows the last layer too, as in the trunk of a network in front of its heads.

    Raises:
        ValueError: the layers do not fit together, or the activation has another name.

    >>> layer = Linear(np.eye(2), np.zeros(2))
    >>> MLP((layer, layer), "relu")(np.array([-1.0, 2.0]))
    array([0., 2.])
    >>> MLP((layer,), "relu")(np.array([-1.0, 2.0])), MLP((layer,), "relu", trunk=True)(np.array([-1.0, 2.0]))
    (array([-1.,  2.]), array([0., 2.]))
    """

    layers: tuple[Linear, ...]
    activation: str = trees.static(default="relu")
    trunk: bool = trees.static(default=False)

    def __post_init__(self) -> None:
        _check_activation(self.activation)
        for i, (first, second) in enumerate(itertools.pairwise(self.layers)):
            if second.n_in != first.n_out:
                raise ValueError(f"MLP: layer {i} has {first.n_out} outputs, layer {i + 1} takes {second.n_in}")

    @classmethod
    def init(
        cls,
        sizes: tuple[int, ...],
        *,
        rng: NoiseStream,
        activation: str = "relu",
        trunk: bool = False,
        dtype: Any = np.float32,
    ) -> MLP:
        """Return layers between the given sizes, with weights as ``Linear.init`` draws them.

        Args:
            sizes: the number of inputs, then the number of outputs of each layer.
            rng, dtype: as in ``Linear.init``.
            activation, trunk: as above.

        >>> MLP.init((784, 400, 10), rng=tg.noise(0))
        MLP(Linear(784, 400), Linear(400, 10), activation='relu', trunk=False)
        """
        _check_activation(activation)
        _check_init("MLP.init", sizes, rng, dtype)
        pairs = list(itertools.pairwise(sizes))
        activated = len(pairs) if trunk else len(pairs) - 1
        gains = [2.0 if activation == "relu" and i < activated else 1.0 for i in range(len(pairs))]
        layers = (Linear.init(*pair, rng=rng, gain=gain, dtype=dtype) for pair, gain in zip(pairs, gains, strict=True))
        return cls(tuple(layers), activation, trunk)

    def __call__(self, x: Value) -> Value:
        """Return the outputs of the last layer, of shape (..., n_out), for inputs of shape (..., n_in)."""
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.trunk or i < len(self.layers) - 1:
                x = ACTIVATIONS[self.activation](x)
        return x


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"MLP: activation must be one of {', '.join(ACTIVATIONS)}; found {name!r}")


def _check_init(what: str, sizes: tuple[int, ...], rng: NoiseStream, dtype: Any) -> None:
    """Raise before anything is drawn where weights of these sizes cannot be made."""
    for n in sizes:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"{what}: a size must be a whole number, found {describe(n)}")
        if n < 1:
            raise ValueError(f"{what}: a size must be a positive whole number, found {n}")
    if not isinstance(rng, NoiseStream):
        raise TypeError(f"{what}: rng takes a stream from tg.noise(seed), found {describe(rng)}")
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"{what}: dtype must be float32 or float64, found {np.dtype(dtype)}")
