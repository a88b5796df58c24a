"""Randomness comes from outside: streams of numbers fixed by seed, path and count, and leaves that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISpawnableSeedSequence

from .arrays import Array, as_array, describe, namespace
from .tensor import Tensor

Shape = tuple[int, ...]


@dataclass
class NoiseStream:
    """A stream of external noise, made by ``noise(seed)``.

    The numbers are a function of ``(seed, path, how many draws came before on this stream)`` and of nothing else. A run
    that resumes at step 700 draws what an undisturbed one would have drawn there.

    >>> stream = noise(0)
    >>> a, b = stream.at("step", 700).normal((2,)), stream.at("step", 700).normal((2,))
    >>> bool((a == b).all())
    True
    """

    seed: int
    path: tuple[int | str, ...] = ()
    drawn: int = 0

    def at(self, *where: int | str) -> NoiseStream:
        """Return a new stream, from its beginning, whose path is the path of this one followed by ``where``."""
        parts = [str(part) if isinstance(part, str) else _whole("a path in a noise stream", part) for part in where]
        return NoiseStream(self.seed, (*self.path, *parts))

    @property
    def key(self) -> tuple[int, tuple[int | str, ...], int]:
        """What the numbers of the next draw depend on: seed, path, and how many came before."""
        return self.seed, self.path, self.drawn

    def generator(self) -> np.random.Generator:
        """Return the generator of the next draw, and count the draw: Philox 4x64, whose key is a hash of ``key``."""
        key: Any = _Key(*self.key)
        self.drawn += 1
        return np.random.Generator(np.random.Philox(key))

    def normal(self, shape: Shape = (), dtype: Any = np.float64) -> Array:
        """Return draws of N(0, 1)."""
        return np.asarray(self.generator().standard_normal(shape, dtype=dtype))

    def uniform(self, shape: Shape = (), dtype: Any = np.float64) -> Array:
        """Return uniform draws from the *open* interval (0, 1): midpoints ``(k + 1/2) / 2^n``, so 1 - u is exact."""
        steps = np.asarray(2.0**23 if np.dtype(dtype) == np.float32 else 2.0**52, dtype)
        k = np.floor(self.generator().random(shape, dtype=dtype) * steps)
        return np.asarray((k + np.asarray(0.5, dtype)) / steps)

    def permutation(self, n: int) -> Array:
        """Return the numbers 0 to n - 1 in a random order."""
        return self.generator().permutation(n)


class _Key(ISpawnableSeedSequence):
    """As many bytes for a generator's key as it asks for: a hash of what the draw depends on (SHAKE128, FIPS 202)."""

    def __init__(self, *key: Any) -> None:
        self._key, self._spawned = key, 0

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Array:
        dtype = np.dtype(dtype)
        found = hashlib.shake_128(repr(self._key).encode()).digest(n_words * dtype.itemsize)
        return np.frombuffer(found, dtype.newbyteorder("<")).astype(dtype, copy=False)

    def spawn(self, n_children: int) -> list[_Key]:
        first, self._spawned = self._spawned, self._spawned + n_children
        return [_Key(*self._key, child) for child in range(first, self._spawned)]


def _whole(what: str, x: Any) -> int:
    """Return a whole number from 0 on as Python's own: its ``repr`` becomes part of a key."""
    if isinstance(x, bool) or not isinstance(x, (int, np.integer)):
        raise TypeError(f"{what} takes a whole number, found {describe(x)}")
    if x < 0:
        raise ValueError(f"{what} takes a whole number from 0 on, found {x}")
    return int(x)


def noise(seed: int) -> NoiseStream:
    """Return a stream of external noise: the only source of randomness of the library.

    The seed is a whole number from 0 on; the same seed gives the same draws on every machine.

    >>> noise(1).normal((2,)).shape
    (2,)
    """
    return NoiseStream(_whole("noise(seed)", seed))


@dataclass(frozen=True)
class NoiseDistribution:
    """A distribution of external noise: how to draw it, and which noise is its mirror image."""

    name: str
    draw: Callable[[NoiseStream, Shape, Any], Array]
    mirror: Callable[[Array], Array]


NORMAL = NoiseDistribution("N(0, 1)", lambda stream, shape, dtype: stream.normal(shape, dtype), lambda e: -e)
UNIFORM = NoiseDistribution("U(0, 1)", lambda stream, shape, dtype: stream.uniform(shape, dtype), lambda u: 1 - u)


class Noise(Tensor):
    """A leaf of external noise: every draw is a deterministic function of one.

    ``replay`` (in ``rewrite``) computes a graph again with another leaf in its place: the same noise beside other
    parameters gives common random numbers, ``redrawn`` noise a new draw, ``mirrored`` noise an antithetic one.

    Args:
        value: the numbers that were drawn.
        dist: the distribution that they follow, ``NORMAL`` or ``UNIFORM``.
        name: what to call it in messages and drawings.
        origin: noise of the same origin is not independent. Noise from a stream has the stream's key for it.
        draw_axes: how many leading axes number the draws; the axes after them belong to one draw.

    >>> z = tg.Normal(tg.Tensor(2.0, "mu"), 1.0).sample(rng=tg.noise(0))
    >>> other = tg.replay(z, {z.noise: z.noise.mirrored()})
    >>> bool(np.isclose(z.value + other.value, 2 * 2.0))
    True
    """

    __slots__ = ("dist", "draw_axes", "origin")
    dependent_draws = False  # true for Sobol noise, whose draws along the first axis depend on each other

    def __init__(
        self, value: Array, dist: NoiseDistribution, name: Any = None, *, origin: Hashable = None, draw_axes: int = 0
    ) -> None:
        super().__init__(value, name)
        self.dist, self.origin, self.draw_axes = dist, object() if origin is None else origin, draw_axes

    def with_value(self, value: Array) -> Noise:
        """Return noise of the same distribution and origin with other numbers."""
        value = as_array(value)
        if value.shape != self.shape:
            raise ValueError(f"this noise has shape {self.shape}, found numbers of shape {value.shape}")
        return type(self)(value, self.dist, self.name, origin=self.origin, draw_axes=self.draw_axes)

    def mirrored(self) -> Noise:
        """Return the mirror image of this noise, which follows the same distribution."""
        return self.with_value(self.dist.mirror(self.value))

    def redrawn(self, rng: NoiseStream) -> Noise:
        """Return noise of the same distribution and shape, drawn anew."""
        return new_noise(rng, self.dist, self.shape, self.dtype, (self.value,), self.name, self.draw_axes)


def new_noise(
    rng: NoiseStream, dist: NoiseDistribution, shape: Shape, dtype: Any, near: Any, name: Any = None, draw_axes: int = 0
) -> Noise:
    """Return new noise of a distribution, on the GPU if one of the arrays ``near`` it is there."""
    origin, value = rng.key, namespace(*near).asarray(dist.draw(rng, shape, dtype))
    return Noise(value, dist, name, origin=origin, draw_axes=draw_axes)
