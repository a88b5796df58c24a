"""The two nodes of randomness: ``Noise``, a leaf that comes from outside, and ``Sample``, a draw made from it.

They know the engine, and no law and no estimator. A ``Sample`` has a value and no vjp: that is why backprop stops at
it. Whatever depends on a ``Noise`` is looked over by ``verdict`` before a gradient of it is taken.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import trees
from .arrays import Array, NoiseStream, Value, as_array, namespace, to_host
from .graph import Tensor, op
from .source import Place

if TYPE_CHECKING:
    from ..distributions.distribution import Distribution

Labels = tuple[int | None, ...]


@dataclass(frozen=True)
class NoiseLaw:
    """A law that external noise may follow: how to draw it, also evenly, and which noise is its mirror image."""

    name: str
    draw: Callable[[NoiseStream, tuple[int, ...], Any], Array]
    draw_evenly: Callable[[NoiseStream, tuple[int, ...], Any], Array]
    mirror: Callable[[Array], Array]


NORMAL = NoiseLaw(
    "N(0, 1)",
    lambda stream, shape, dtype: stream.normal(shape, dtype),
    lambda stream, shape, dtype: stream.sobol(shape, dtype, normal=True),
    lambda e: -e,
)
UNIFORM = NoiseLaw(
    "U(0, 1)",
    lambda stream, shape, dtype: stream.uniform(shape, dtype),
    lambda stream, shape, dtype: stream.sobol(shape, dtype),
    lambda u: 1 - u,
)


class Noise(Tensor):
    """A leaf of external noise: every draw is a deterministic function of one.

    What stands in its place is a choice, and the same for every distribution. ``replay`` a graph with

    - other parameters and the noise as it is: common random numbers;
    - ``noise.redrawn(rng)``: a new draw;
    - ``noise.mirrored()``: the other half of an antithetic pair;
    - ``noise.sobol(rng)``: points of a scrambled Sobol sequence, in place of independent draws;
    - an array of its shape: whatever numbers you want. Whether they follow the law is then up to you.
    - a Tensor computed from noise and parameters: a gradient then goes through it too. Only the pathwise estimator
      follows it there; the others take noise for independent of all else, and refuse.

    Args:
        value: the numbers that were drawn.
        law: the law that they follow, ``NORMAL`` or ``UNIFORM``.
        name: what to call it in messages and drawings.
        origin: noises of one origin are not independent. By default nothing shares it; the origin of what is
            ``drawn_from`` a stream is the place there, so that two streams of one seed are one source of noise.

    >>> z = tg.Normal(tg.Tensor(2.0, "mu"), 1.0).sample(rng=tg.noise(0))
    >>> other = tg.replay(z, {z.noise: z.noise.mirrored()})
    >>> bool(np.isclose(z.value + other.value, 2 * 2.0))
    True
    """

    __slots__ = ("counting", "coupled", "law", "origin")
    law: NoiseLaw
    counting: int
    """How many of its first axes count draws of one law, before those that one draw takes."""
    coupled: bool
    """Whether the draws along the first axis are not independent of each other."""
    origin: Hashable
    """Equal for the noises that came from one another or from one place of a stream."""

    def __init__(self, value: Array, law: NoiseLaw, name: str | None = None, *, origin: Hashable = None) -> None:
        super().__init__(value, name)
        self.law, self.origin = law, object() if origin is None else origin
        self.counting, self.coupled = 0, False

    @classmethod
    def drawn_from(
        cls,
        rng: NoiseStream,
        law: NoiseLaw,
        shape: tuple[int, ...],
        dtype: Any,
        others: Sequence[Value] = (),
        name: str | None = None,
        *,
        counting: int = 0,
        coupled: bool = False,
    ) -> Noise:
        """Return new noise of a law, evenly spread if it is coupled; on the GPU if one of the other arrays is there."""
        origin = rng.place
        value = (law.draw_evenly if coupled else law.draw)(rng, shape, dtype)
        noise = cls(namespace(*others).asarray(value), law, name, origin=origin)
        noise.counting, noise.coupled = counting, coupled
        return noise

    def with_value(self, value: Array) -> Noise:
        """Return noise of the same law with other numbers, which are not taken for independent of these."""
        value = as_array(value)
        if value.shape != self.shape:
            raise ValueError(f"this noise has shape {self.shape}, found numbers of shape {value.shape}")
        noise = Noise(value, self.law, self.name, origin=self.origin)
        noise.counting, noise.coupled = self.counting, self.coupled
        return noise

    def mirrored(self) -> Noise:
        """Return the mirror image of this noise, of the same law: with it, the other half of an antithetic pair."""
        return self.with_value(self.law.mirror(self.value))

    def redrawn(self, rng: NoiseStream) -> Noise:
        """Return noise of the same law and shape, drawn anew; points of a Sobol sequence with another scramble."""
        return self._drawn_again(rng, self.coupled)

    def sobol(self, rng: NoiseStream) -> Noise:
        """Return noise of the same law and shape, with draws along the first axis that are spread more evenly.

        They are the points of a scrambled Sobol sequence, one coordinate for each number that a draw takes: each draw
        by itself follows the law, and a mean over n of them has an error that falls faster than n^(-1/2) for smooth
        costs. They are not independent of each other, so that the error does not show in their spread: repeat the
        estimate with other scrambles. An estimator that would take them for independent is refused. Sobol 1967,
        Matousek 1998.

        Args:
            rng: a stream from ``tg.noise(seed)`` for the scramble.

        Raises:
            ValueError: no axis counts draws, so that there is only one.

        >>> z = tg.Normal(tg.Tensor(2.0, "mu"), 1.0).sample((1024,), rng=tg.noise(0))
        >>> cost = tg.mean(z**2)
        >>> even = tg.replay(cost, {z.noise: z.noise.sobol(tg.noise(1))})
        >>> bool(abs(even.value - 5) < abs(cost.value - 5))
        True
        """
        if self.counting < 1:
            raise ValueError(
                f"{self.name or 'this noise'} of shape {self.shape} has no axis that counts draws; "
                "draw with sample((n,), ...)"
            )
        return self._drawn_again(rng, True)

    def _drawn_again(self, rng: NoiseStream, coupled: bool) -> Noise:
        options = (rng, self.law, self.shape, self.dtype, (self.value,), self.name)
        return Noise.drawn_from(*options, counting=self.counting, coupled=coupled)

    @staticmethod
    def guard(order: list[Tensor], wrt: Sequence[Tensor]) -> Callable[[list[Tensor]], list[Tensor]] | None:
        """Raise where a gradient through this randomness would be wrong."""
        from ..guard.verdict import refuse_wrong_gradients

        return refuse_wrong_gradients(order, wrt)


class Sample(Tensor):
    """A random node: the value that its distribution's transform gave for its noise, and no vjp.

    Made by ``distribution.sample(rng=...)``. Rewrites such as ``reparameterize`` and ``score_function`` say
    where the gradient is to go instead.
    """

    __slots__ = ()

    guard = staticmethod(Noise.guard)  # the noise itself may have been swapped for something else

    def __repr__(self) -> str:
        shown = np.array2string(to_host(self.value), threshold=10, precision=6)
        name = f", name={self.name!r}" if self.name else ""
        return f"Sample({shown}{name}, drawn from {self.dist!r} at {self.place})"

    @property
    def dist(self) -> Distribution:
        """The distribution that was drawn from, with its parameters as they stand in the graph."""
        dist: Distribution = trees.replace_leaves(self.attrs["dist"], self.inputs[1:])
        return dist

    @property
    def noise(self) -> Noise:
        """The noise that the draw is a function of."""
        noise: Noise = self.inputs[0]
        return noise

    @property
    def place(self) -> Place:
        """The line of the user's code where it was drawn."""
        place: Place = self.attrs["place"]
        return place


def axes_kept_apart(labels: Labels, x: Value, shape: tuple[int, ...], own: int, after: int) -> Labels:
    """Return the labels of the axes of an output that has the batch axes of ``x``, broadcast, in front of others.

    Args:
        labels: those of the axes of x.
        x: an input.
        shape: that of the output.
        own: how many of the last axes of x are no batch axes.
        after: how many of the last axes of the output are none.
    """
    batch = labels[: max(0, len(labels) - own)]
    offset = len(shape) - after - len(batch)
    kept = tuple(label if x.shape[a] == shape[offset + a] else None for a, label in enumerate(batch))
    return (None,) * offset + kept + (None,) * after


def _batch_axes(
    i: int, labels: Labels, z: Value, noise: Value, *parameters: Value, dist: Distribution, **_: Any
) -> Labels:
    """A draw works element by element over its batch axes: those of a parameter stay apart, its event axes do not.

    Nor does an axis that was broadcast: several draws share what stands there.
    """
    if i == 0:
        return (None,) * len(z.shape)
    law: Distribution = trees.replace_leaves(dist, parameters).element
    return axes_kept_apart(labels, parameters[i - 1], z.shape, law.parameter_event_ndims()[i - 1], len(law.event_shape))


@op(None, smoothness="blocked", axes=_batch_axes)
def draw_sample(*noise_and_parameters: Value, dist: Distribution, place: Place, estimator: Any = None) -> Value:
    """A draw: ``dist.transform(noise)``, run on arrays. Its derivative is blocked, which is what ``Sample`` shows."""
    noise, *parameters = noise_and_parameters
    return trees.replace_leaves(dist, parameters).transform(noise)


draw_sample.node = Sample


class Guarded(Tensor):
    """A node that says something of a gradient through it, also where no noise is left beside it."""

    __slots__ = ()

    guard = staticmethod(Noise.guard)


@dataclass(frozen=True)
class Drawn:
    """What is remembered of a random node once an estimator has taken care of it.

    ``weighs`` where the estimator weighs the whole cost that follows, so that the cost may only be summed afterwards;
    ``biased`` is the reason where the gradient is not that of the expectation; ``origin`` is shared by all that was
    made of one draw.
    """

    name: str | None
    law: str
    place: Place
    estimator: str
    note: str = ""
    weighs: bool = False
    biased: str = ""
    origin: Hashable = None

    def __repr__(self) -> str:
        return f"{self.estimator} for {self.name or 'a draw'} at {self.place}"


@op(lambda g, y, x, *, drawn: g, axes=lambda i, labels, y, x, *, drawn: labels)
def taken_care_of(x: Value, /, *, drawn: Drawn) -> Value:
    """``x``, with a note of the random node that it stands for and of the estimator that was chosen for it.

    Derivative 1. For the pathwise estimator x is the opened draw, for the score function its log-probability.
    """
    return x


taken_care_of.node = Guarded


def name_of_draw(name: str | None, place: Place) -> str:
    """Return the name that was given to a draw, or that of the variable that it was assigned to."""
    if name:
        return name
    try:
        (statement,) = ast.parse(linecache.getline(place.file, place.line).strip()).body
    except (SyntaxError, ValueError):  # only a part of a statement stands on the line
        return "a draw"
    match statement:
        case ast.Assign([ast.Name(variable)], ast.Call(ast.Attribute(attr="sample" | "rsample"))):
            return variable
    return "a draw"


def structure_of(dist: Distribution) -> Distribution:
    """Return the distribution with ``...`` in the place of each parameter, for the attributes of a node."""
    return trees.map_leaves(lambda _: ..., dist)


def noise_dtype(parameters: Sequence[Value]) -> Any:
    """Return the dtype to draw in: float32 where every array among the parameters is, float64 otherwise."""
    dtypes = {p.dtype for p in parameters if hasattr(p, "dtype") and p.dtype.kind == "f"}
    dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"draws are made in float32 or float64, found parameters of {dtype}; convert them with astype")
    return dtype
