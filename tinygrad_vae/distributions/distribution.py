"""What a distribution declares, and what every distribution can do with it.

A declaration is a frozen dataclass of parameters with a transform of noise, a log-density and the moments. Sampling,
reparameterizing, the checks of parameters and values, and the tests follow from it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..core import (
    UNIFORM,
    Drawn,
    Noise,
    NoiseDistribution,
    NoiseStream,
    Tensor,
    Value,
    calling_line,
    describe,
    draw,
    handled_draw,
    is_array,
    make_node,
    namespace,
    new_noise,
    trees,
    value_of,
)
from ..domains import Domain
from ..ops import astype, stop_gradient, where
from ..ops.declare import enter
from . import batch_axes, sobol, text  # noqa: F401  the first two declare and attach
from .outside import log_density_or
from .support import check_all_inside, check_inside, check_numbers

DISTRIBUTIONS: dict[str, type[Distribution]] = {}
"""Every distribution that was declared, by name. The tests run over it."""

D = TypeVar("D", bound="Distribution")


def parameter(domain: Domain | Callable[[Any], Domain], *, moves_support: bool = False, **options: Any) -> Any:
    """Declare a parameter of a distribution.

    Args:
        domain: where it may lie; a function of the distribution where that depends on the parameters before it.
        moves_support: whether the support depends on it, which makes the score function invalid for it.
        options: passed on to ``dataclasses.field``.
    """
    return dataclasses.field(metadata={"domain": domain, "moves_support": moves_support}, **options)


def formula(expression: Callable[..., Value]) -> Any:
    """Declare a method that is one expression: ``cdf = formula(lambda self, x: -expm1(-self.rate * x))``."""
    return expression


def undeclared(name: str, words: str, advice: str = "") -> Any:
    """Return a method that a subclass may declare; until then it raises a NotImplementedError that says so."""

    def method(self: Any, *_: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} declares no {name}{advice}")

    method.__doc__ = words
    return method


class Distribution:
    """A probability distribution over numbers, element by element over its batch shape.

    A subclass is a ``@dataclass(frozen=True, eq=False)`` that declares

    - its parameters, ``loc: Value = parameter(REAL)``;
    - ``support``, and ``path``: ``"explicit"`` where the transform can be differentiated, ``"implicit"`` where it
      solves an equation and differentiates that equation, ``None`` where the draw jumps;
    - ``noise_distribution`` and ``transform(noise)``, by default the inverse cdf of a uniform;
    - ``log_density(x)``, ``mean``, ``variance``, and where they exist ``entropy()``, ``cdf(x)``, ``icdf(p)``, and
      ``alternative(z, noise)`` of a discrete one.

    Every formula is written once, in the library's functions: with arrays for parameters it computes, with
    Tensors it records.
    """

    support: ClassVar[Any]
    path: ClassVar[str | None] = "explicit"
    noise_distribution: ClassVar[NoiseDistribution] = UNIFORM
    event_shape: ClassVar[Any] = ()
    """The shape of one draw of one distribution: ``()`` for a number."""

    family = property(lambda self: type(self).__name__)
    """The name of the distribution, or of its elements' where several are taken together."""

    element = property(lambda self: self)
    """The distribution of one element where independent ones are taken together, else this distribution."""

    dtype = property(lambda self: noise_dtype(trees.leaves(self)))
    """The dtype of the noise: float32 where every array among the parameters is, float64 otherwise."""

    def __init__(self, *args: Any, **options: Any) -> None:
        parameters(type(self))  # raises: a dataclass has an __init__ of its own

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        enter(DISTRIBUTIONS, cls.__name__, cls, "a distribution")
        cls.__repr__ = Distribution.__repr__  # type: ignore[method-assign]  # else @dataclass would write one

    def __post_init__(self) -> None:
        """Check every parameter against its domain, and make floats of whole numbers.

        In float32 where all floats are: the logarithm of a number is a float64. Beside arrays on a GPU a number
        becomes one there: a function of a number is an array of NumPy.

        Raises:
            TypeError, ValueError: a parameter is no array of numbers, or lies outside its domain.
        """
        named = {f: value_of(getattr(self, f.name)) for f in parameters(self)}
        for f, value in named.items():
            if not (value.dtype.kind in "fiu" if is_array(value) else type(value) in (int, float)):
                raise TypeError(f"{self.family}: {f.name} must be an array or a number, found {describe(value)}")
        check_all_inside([(f"{self.family}: {f.name}", domain_of(self, f), value) for f, value in named.items()])
        self.batch_shape  # noqa: B018  raises where the parameters do not broadcast
        dtypes = {x.dtype for x in named.values() if is_array(x) and x.dtype.kind == "f"}
        dtype, xp = np.float32 if dtypes == {np.dtype(np.float32)} else np.float64, namespace(*named.values())
        for f, x in named.items():
            if not is_array(x):
                if dtype is np.float32 or xp is not np:
                    object.__setattr__(self, f.name, xp.full((), x, dtype))
            elif x.dtype.kind != "f":
                object.__setattr__(self, f.name, astype(getattr(self, f.name), dtype))

    __repr__, __str__ = text.with_numbers, text.with_names

    @classmethod
    def example(cls: type[D], rng: np.random.Generator, batch_shape: tuple[int, ...] = ()) -> D:
        """Return a distribution with parameters drawn from their domains, for tests."""
        blank, declared = object.__new__(cls), parameters(cls)
        for f in dataclasses.fields(cls):  # type: ignore[arg-type]
            if f in declared and f.name != "probs":  # the logits are given
                domain = domain_of(blank, f)
                drawn = domain.draw(rng, batch_shape + (3,) * domain.event_ndim)
                object.__setattr__(blank, f.name, np.asarray(drawn, np.float64))
            elif f.default is f.default_factory is dataclasses.MISSING:
                raise TypeError(
                    f"{cls.__name__}: declare {f.name} = tg.parameter(domain), or an example(rng, batch_shape)"
                )
        return blank

    # shapes ---------------------------------------------------------------------------------------

    @functools.cached_property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of the independent distributions that the parameters hold."""
        shapes = {}
        for f in parameters(self):
            shape = np.shape(value_of(getattr(self, f.name)))
            shapes[f.name] = shape[: len(shape) - domain_of(self, f).event_ndim]
        if len(set(shapes.values())) == 1:  # 10 microseconds less for each distribution
            return next(iter(shapes.values()))
        try:
            return np.broadcast_shapes(*shapes.values())
        except ValueError:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ValueError(
                f"{type(self).__name__}: the shapes of the parameters do not broadcast together: {found}"
            ) from None

    event_noise_shape = property(lambda self: self.event_shape)
    """The shape of the noise for one draw of one distribution."""

    def noise_shape(self, shape: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the shape of the noise for draws of ``shape``."""
        return (*shape, *self.batch_shape, *self.event_noise_shape)

    # drawing --------------------------------------------------------------------------------------

    def transform(self, noise: Value) -> Value:
        """Return the draw that belongs to this noise: ``z = g(noise, parameters)``. By default the inverse cdf."""
        return self.icdf(noise)

    def sample(
        self, shape: tuple[int, ...] = (), *, rng: NoiseStream, name: str | None = None, estimator: Any = None
    ) -> Value:
        """Draw, and block the gradient.

        With arrays for parameters this is an array. With a Tensor among them it is a ``Sample``: the transform
        ran on arrays, so that there is a value and no derivative, until a rewrite says what to do.

        Args:
            shape: sample axes to put in front of the batch shape.
            rng: a stream from ``tg.noise(seed)``.
            name: what to call the node.
            estimator: the one that ``tg.estimate(cost)`` uses for this draw, unless it is given another.

        Returns:
            Draws of shape ``shape + batch_shape + event_shape``.
        """
        return draw(self, self._noise(shape, rng, name), name, estimator)

    def rsample(self, shape: tuple[int, ...] = (), *, rng: NoiseStream, name: str | None = None) -> Value:
        """Draw, already reparameterized: the same numbers as ``sample``, with the transform in the graph.

        Raises:
            TypeError: there is no differentiable transform, as for every discrete distribution.
        """
        if self.path is None:
            raise TypeError(
                f"{type(self).__name__}.rsample: {self.why_no_path}; "
                "use sample(...) and score_function(cost), which needs no derivative of the draw"
            )
        noise = self._noise(shape, rng, name)
        if not any(isinstance(leaf, Tensor) for leaf in trees.leaves(self)):
            return self.transform(noise.value)
        z, drawn = self.transform(noise), Drawn(name, str(self), calling_line(), "pathwise")
        return make_node(z.value, handled_draw, (z,), {"drawn": drawn}, name)

    def _noise(self, shape: tuple[int, ...], rng: NoiseStream, name: str | None) -> Noise:
        if not isinstance(rng, NoiseStream):
            raise TypeError(f"{type(self).__name__}: rng takes a stream from tg.noise(seed), found {describe(rng)}")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
            raise ValueError(f"{type(self).__name__}: a shape is made of whole numbers from 0 on, found {shape}")
        near = [value_of(leaf) for leaf in trees.leaves(self)]
        called, draw_axes = f"noise of {name}" if name else None, len(shape) + len(self.batch_shape)
        return new_noise(rng, self.noise_distribution, self.noise_shape(shape), self.dtype, near, called, draw_axes)

    # densities ------------------------------------------------------------------------------------

    def log_prob(self, x: Value, *, outside: float | None = None) -> Value:
        """Return the logarithm of the density, or of the probability of a discrete one, at x.

        Args:
            x: values in the support, of a shape that broadcasts with ``batch_shape + event_shape``.
            outside: the result for a value outside the support, for example ``-np.inf``, with gradient 0; by default
                it is an error. A nan stays a nan.

        Raises:
            TypeError: x is no array of numbers.
            ValueError: a value lies outside the support, and ``outside`` is not given; or x has another shape.

        >>> tg.Exponential(2.0).log_prob(-1.0)
        Traceback (most recent call last):
        ValueError: Exponential.log_prob: x must be nonnegative, found -1.0; outside=-np.inf gives it probability 0
        >>> float(tg.Exponential(2.0).log_prob(-1.0, outside=-np.inf))
        -inf
        """
        what = f"{type(self).__name__}.log_prob: x"
        check_numbers(what, self.support, value_of(x))
        found, expected, event_shape = np.shape(value_of(x)), self.batch_shape + self.event_shape, self.event_shape
        try:
            fits = np.broadcast_shapes(found, expected)[-len(event_shape) :] == event_shape or not event_shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{what} has shape {found}, which does not broadcast with the shape of a draw, {expected}")
        if outside is None:
            check_inside(what, self.support, value_of(x), "; outside=-np.inf gives it probability 0")
        dist = self._beside(x)
        if hasattr(x, "dtype") and x.dtype.kind != "f":
            x = astype(x, self.dtype)
        return dist.log_density(x) if outside is None else log_density_or(outside, dist, x)

    def _beside(self: D, x: Value) -> D:
        """Return self with arrays for its numbers, where it has nothing else and x is float32 or on a GPU."""
        xp, dtype = namespace(value_of(x)), getattr(x, "dtype", np.dtype(np.float64))
        if (dtype != np.float32 and xp is np) or any(type(leaf) not in (int, float) for leaf in trees.leaves(self)):
            return self
        dtype = dtype if dtype.kind == "f" else np.float64
        return trees.map_leaves(lambda leaf: xp.full((), leaf, dtype), self)

    log_density = undeclared("log_density(x)", "Return ``log_prob(x)`` without the check that x is in the support.")
    mean = property(undeclared("mean", "The expectation of a draw."))
    variance = property(undeclared("variance", "The variance of a draw."))
    entropy = undeclared("entropy()", "Return ``-E log_prob(x)``.")
    cdf = undeclared("cdf(x)", "Return the probability of a draw up to x.")
    icdf = undeclared(
        "icdf(p)",
        "Return the value that a draw stays below with probability p, for 0 < p < 1.",
        "; to draw, declare it, or transform(noise) and noise_distribution",
    )

    def enumerate_support(self) -> list[Any] | None:
        """Return every value that one draw may have, or ``None`` where they are not finitely many."""
        return None

    def alternative(self, z: Value, noise: Value) -> tuple[Value, Value, Value] | None:
        """Return another value beside the draw z of this noise, a path and its size; ``None`` where none is declared.

        ``dE f(z) = E (f(other) - f(z)) dpath`` for every f. The size is about how far the path moves with the natural
        parameter, such as a logit: of many draws, those with a large size are changed more often.
        """
        return None

    why_no_path = property(lambda self: f"a draw of {self.family} is discrete, so it jumps as the parameters move")
    """Why the draw has no derivative in the parameters, in words."""

    why_not_enumerated = property(lambda self: f"the support of {self.family} is not finite")
    """Why a sum over all values of a draw is not possible, in words, where ``enumerate_support`` gives none."""

    def moving(self) -> list[str]:
        """Return the names of the parameters that move the support."""
        return [f.name for f in parameters(self) if f.metadata["moves_support"]]

    def parameter_event_ndims(self) -> list[int]:
        """Return, for each parameter, how many of its last axes belong to one distribution."""
        return [domain_of(self, f).event_ndim for f in parameters(self)]


def parameters(dist: Any) -> list[dataclasses.Field[Any]]:
    """Return the declared parameters of a class of distributions, or those that one distribution was given."""
    if isinstance(dist, type):
        return _parameters(dist)
    return [f for f in _parameters(dist.__class__) if getattr(dist, f.name) is not None]  # of two alternatives one is


@functools.cache
def _parameters(family: type) -> list[dataclasses.Field[Any]]:
    if not dataclasses.is_dataclass(family):
        raise TypeError(f"{family.__name__} is no dataclass; write @dataclass(frozen=True, eq=False) above it")
    return [f for f in dataclasses.fields(family) if "domain" in f.metadata]


def domain_of(dist: Any, f: dataclasses.Field[Any]) -> Domain:
    """Return the domain of one parameter of ``dist``."""
    domain: Any = f.metadata["domain"]
    return domain if isinstance(domain, Domain) else domain(dist)


def noise_dtype(parameters: Sequence[Value]) -> Any:
    """Return the dtype to draw in: float32 where every array among the parameters is, float64 otherwise."""
    dtypes = {p.dtype for p in parameters if hasattr(p, "dtype") and p.dtype.kind == "f"}
    dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"draws are made in float32 or float64, found parameters of {dtype}; convert them with astype")
    return dtype


def times_log(p: Value, log_ratio: Value) -> Value:
    """Return ``p * log_ratio``, and its limit 0 where p is 0 and the logarithm infinite."""
    vanishes = stop_gradient(p == 0)
    return where(vanishes, 0.0, p * where(vanishes, 0.0, log_ratio))
