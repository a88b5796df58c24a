"""Random nodes. A draw is a deterministic function of its parameters and of noise from outside, z = g(noise, theta).

Sampling runs g on plain arrays. What comes out is a number with a value and no derivative, for there was no graph while
it was computed. That is why backprop stops at a random node; nothing about randomness as such forbids a derivative.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISpawnableSeedSequence

from . import trees
from .arrays import Array, Value, as_array, describe, namespace
from .tensor import BLOCKED, Op, Tensor

# -------------------------------------------------------------------------------------------- noise from outside


@dataclass
class NoiseStream:
    """A stream of external noise, made by ``noise(seed)``.

    The numbers are a function of ``(seed, path, how many draws came before on this stream)`` and of nothing else: not
    of how large the earlier draws were, nor of what ran elsewhere. ``at`` gives the stream of a step or a worker, so a
    run that resumes at step 700 draws what an undisturbed one would have drawn there. Each draw has a generator of its
    own, Philox 4x64, whose key is a hash of those three.

    >>> stream = noise(0)
    >>> a, b = stream.at("step", 700).normal((2,)), stream.at("step", 700).normal((2,))
    >>> bool((a == b).all())
    True
    """

    seed: int
    path: tuple[int | str, ...] = ()
    drawn: int = field(default=0)

    def at(self, *where: int | str) -> NoiseStream:
        """Return the stream that stands at ``where`` below this one, at its beginning."""
        return NoiseStream(self.seed, (*self.path, *map(_part, where)))

    @property
    def key(self) -> tuple[int, tuple[int | str, ...], int]:
        """What the numbers of the next draw depend on: seed, path, and how many came before."""
        return self.seed, self.path, self.drawn

    def generator(self) -> np.random.Generator:
        """Return the generator of the next draw, and count the draw."""
        key: Any = _Key(*self.key)
        self.drawn += 1
        return np.random.Generator(np.random.Philox(key))

    def normal(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> Array:
        """Return draws of N(0, 1)."""
        return np.asarray(self.generator().standard_normal(shape, dtype=dtype))

    def uniform(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> Array:
        """Return uniform draws from the *open* interval (0, 1).

        They are the midpoints ``(k + 1/2) / 2^n``, with n = 23 for float32 and 52 for float64: never 0 or 1, so that
        an inverse cdf stays finite, and ``1 - u`` is exact, so that a pair is antithetic.
        """
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


def _part(part: int | str) -> int | str:
    """Return a part of a path as Python's own number or text: its ``repr`` becomes part of a key."""
    if isinstance(part, str):
        return str(part)
    if isinstance(part, bool) or not isinstance(part, (int, np.integer)):
        raise TypeError(f"a noise stream is found at whole numbers and names, found {describe(part)}")
    if part < 0:
        raise ValueError(f"a path in a noise stream is counted from 0, found {part}")
    return int(part)


def noise(seed: int) -> NoiseStream:
    """Return a stream of external noise: the only source of randomness of the library.

    Args:
        seed: a whole number from 0 on; the same seed gives the same draws on every machine.

    Raises:
        TypeError, ValueError: the seed is no such number.

    >>> noise(1).normal((2,)).shape
    (2,)
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"noise(seed) takes a whole number, found {describe(seed)}")
    if seed < 0:
        raise ValueError(f"noise(seed) takes a whole number from 0 on, found {seed}")
    return NoiseStream(int(seed))


@dataclass(frozen=True)
class NoiseLaw:
    """A distribution of external noise: how to draw it, and which noise is its mirror image."""

    name: str
    draw: Callable[[NoiseStream, tuple[int, ...], Any], Array]
    mirror: Callable[[Array], Array]


NORMAL = NoiseLaw("N(0, 1)", lambda stream, shape, dtype: stream.normal(shape, dtype), lambda e: -e)
UNIFORM = NoiseLaw("U(0, 1)", lambda stream, shape, dtype: stream.uniform(shape, dtype), lambda u: 1 - u)


class Noise(Tensor):
    """A leaf of external noise: every draw is a deterministic function of one.

    ``replay`` a graph with another leaf in its place: the same noise beside other parameters gives common random
    numbers, ``redrawn`` noise a new draw, ``mirrored`` noise the other half of an antithetic pair. An array of its
    shape may stand there too; whether its numbers follow the distribution is then up to you.

    Args:
        value: the numbers that were drawn.
        law: the distribution that they follow, ``NORMAL`` or ``UNIFORM``.
        name: what to call it in messages and drawings.
        origin: noises of one origin are not independent of each other. That of noise from a stream is the key there,
            so two streams of one seed are one source of noise.
        counting: how many of its first axes count draws, before those that one draw takes.

    >>> z = tg.Normal(tg.Tensor(2.0, "mu"), 1.0).sample(rng=tg.noise(0))
    >>> other = tg.replay(z, {z.noise: z.noise.mirrored()})
    >>> bool(np.isclose(z.value + other.value, 2 * 2.0))
    True
    """

    __slots__ = ("counting", "law", "origin")
    law: NoiseLaw
    origin: Hashable
    counting: int
    coupled = False
    """Whether the draws along the first axis depend on each other."""

    def __init__(
        self, value: Array, law: NoiseLaw, name: str | None = None, *, origin: Hashable = None, counting: int = 0
    ) -> None:
        super().__init__(value, name)
        self.law, self.origin, self.counting = law, object() if origin is None else origin, counting

    def with_value(self, value: Array) -> Noise:
        """Return noise of the same distribution and origin with other numbers."""
        value = as_array(value)
        if value.shape != self.shape:
            raise ValueError(f"this noise has shape {self.shape}, found numbers of shape {value.shape}")
        return type(self)(value, self.law, self.name, origin=self.origin, counting=self.counting)

    def mirrored(self) -> Noise:
        """Return the mirror image of this noise, which follows the same distribution."""
        return self.with_value(self.law.mirror(self.value))

    def redrawn(self, rng: NoiseStream) -> Noise:
        """Return noise of the same distribution and shape, drawn anew."""
        return Noise.drawn_from(rng, self.law, self.shape, self.dtype, (self.value,), self.name, counting=self.counting)

    @staticmethod
    def drawn_from(
        rng: NoiseStream,
        law: NoiseLaw,
        shape: tuple[int, ...],
        dtype: Any,
        others: Sequence[Value] = (),
        name: str | None = None,
        *,
        counting: int = 0,
    ) -> Noise:
        """Return new noise of a distribution, on the GPU if one of the other arrays is there."""
        origin, value = rng.key, law.draw(rng, shape, dtype)
        return Noise(namespace(*others).asarray(value), law, name, origin=origin, counting=counting)


# ------------------------------------------------------------------------------------------------- random nodes


class Sample(Tensor):
    """A random node: the value that a distribution's transform gave for its noise, and no vjp.

    Made by ``distribution.sample(rng=...)``. Rewrites such as ``reparameterize`` and ``score_function`` say where the
    gradient goes instead.
    """

    __slots__ = ()

    dist = property(lambda self: trees.replace_leaves(self.attrs["dist"], self.inputs[1:]))
    """The distribution that was drawn from, with its parameters as they stand in the graph."""
    noise = property(lambda self: self.inputs[0])
    """The noise that the draw is a function of."""
    line = property(lambda self: self.attrs["line"])
    """The line of the user's code that drew it."""

    def __repr__(self) -> str:
        shown = Tensor(self.value, self.name)
        return f"Sample({repr(shown)[7:-1]}, drawn from {self.dist!r} at {self.line})"


def _draw_sample(*noise_and_parameters: Value, dist: Any, line: SourceLine, estimator: Any = None) -> Value:
    """A draw: ``dist.transform(noise)``, run on arrays. Its derivative is blocked."""
    noise, *parameters = noise_and_parameters
    return trees.replace_leaves(dist, parameters).transform(noise)


draw_sample = Op(_draw_sample, [BLOCKED])
draw_sample.name, draw_sample.node = "draw_sample", Sample


def draw(dist: Any, noise: Noise, name: str | None = None, estimator: Any = None) -> Value:
    """Return the draw of a distribution that belongs to this noise: an array, or a ``Sample`` if it has Tensors.

    Args:
        dist: any tree of parameters with a ``transform(noise)``.
        noise: the noise.
        name: what to call the node.
        estimator: what to take care of it with, where nothing else is said.
    """
    parameters = trees.leaves(dist)
    if not any(isinstance(x, Tensor) for x in parameters):
        return dist.transform(noise.value)
    structure = trees.replace_leaves(dist, [...] * len(parameters))
    attrs = {"dist": structure, "line": calling_line(), "estimator": estimator}
    return draw_sample.record((noise, *parameters), attrs, name)


@dataclass(frozen=True)
class SourceLine:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_USER = _LIBRARY + "app" + os.sep  # the command uses the library as anybody would


def calling_line() -> SourceLine:
    """Return the line outside the library that the running call came from."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (file := frame.f_code.co_filename).startswith(_LIBRARY):
        if file.startswith(_USER):
            break
        frame = frame.f_back
    return SourceLine(frame.f_code.co_filename, frame.f_lineno)
