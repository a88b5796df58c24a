"""Sets of numbers: the domains of ops and parameters, and the supports of distributions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .core import Array, as_array, value_of
from .devices import to_host

Test = Callable[[Array], Array]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Domain:
    """A set of numbers, or of vectors where ``event_ndim`` is 1.

    ``contains(x)`` gives a boolean for each element (for each vector where ``event_ndim`` is 1);
    ``draw(rng, shape)`` gives values inside, away from the edge, from a ``numpy.random.Generator``; ``bounds`` are
    two numbers or arrays between which all elements lie. An ``interval`` contains all that lies between two of its
    elements, so that it is enough to look at the smallest and the largest of an array. ``name`` may be a function: it
    is called only when a message is printed, since it looks at the numbers of an array.
    """

    name: str | Callable[[], str]
    contains: Test
    draw: Draw
    event_ndim: int = 0
    discrete: bool = False
    bounds: tuple[Any, Any] = (-np.inf, np.inf)
    interval: bool = False

    def holds(self, x: Array) -> Any:
        """Return whether all elements lie inside, as one boolean that may still be on its way on a GPU."""
        if self.interval and x.size > 1000:  # few are looked at faster one by one
            return self.contains(x.min()) & self.contains(x.max())  # a NaN is the smallest and the largest
        return self.contains(x).all()

    def __repr__(self) -> str:
        return self.name if isinstance(self.name, str) else self.name()


def between(low: float, high: float) -> Draw:
    """Return a function that draws numbers between two bounds."""
    return lambda rng, shape: rng.uniform(low, high, shape)


def _above(low: Any, spread: float) -> Draw:
    return lambda rng, shape: low + np.exp(rng.uniform(-spread, spread, shape))


def greater_than(bound: Any) -> Domain:
    """Return the numbers above ``bound``, which may be an array or a Tensor."""
    return _from("greater than", operator.gt, value_of(bound))


def at_least(bound: Any) -> Domain:
    """Return the numbers from ``bound`` on, which is included and may be an array or a Tensor."""
    return _from("at least", operator.ge, value_of(bound))


def _from(words: str, compare: Callable[[Any, Any], Any], low: Any) -> Domain:
    name = lambda: f"{words} {_short(low)}"  # noqa: E731
    return Domain(name, lambda x: compare(x, low) & (x < np.inf), _above(low, 1), bounds=(low, np.inf))


def interval(low: Any, high: Any) -> Domain:
    """Return the numbers from ``low`` to ``high``, both included; they may be arrays or Tensors."""
    low, high = value_of(low), value_of(high)
    return Domain(
        lambda: f"[{_short(low)}, {_short(high)}]",
        lambda x: (x >= low) & (x <= high),
        lambda rng, shape: low + (high - low) * rng.uniform(0.1, 0.9, shape),
        bounds=(low, high),
        interval=np.ndim(low) == np.ndim(high) == 0,
    )


def whole_numbers(low: int, high: int) -> Domain:
    """Return the whole numbers from ``low`` to ``high``, both included."""
    return Domain(
        f"whole numbers from {low} to {high}",
        lambda x: (x >= low) & (x <= high) & (np.floor(x) == x),
        lambda rng, shape: rng.integers(low, high + 1, shape),
        discrete=True,
        bounds=(low, high),
    )


def _short(bound: Any) -> str:
    values = to_host(as_array(bound))
    if not values.size:
        return "no numbers"
    return f"{values.item():g}" if values.size == 1 else f"{values.min():g}..{values.max():g}"


def _numbers(name: str, contains: Test, draw: Draw, low: float = -np.inf, high: float = np.inf) -> Domain:
    return Domain(name, contains, draw, bounds=(low, high), interval=True)


REAL = _numbers("real", lambda x: np.isfinite(x), between(-3, 3))
POSITIVE = _numbers("positive", lambda x: (x > 0) & (x < np.inf), _above(0, 1.2), 0)
NONNEGATIVE = _numbers("nonnegative", lambda x: (x >= 0) & (x < np.inf), _above(0, 1.2), 0)
UNIT = _numbers("between 0 and 1", lambda x: (x >= 0) & (x <= 1), between(0.1, 0.9), 0, 1)
OPEN_UNIT = _numbers("between 0 and 1, both excluded", lambda x: (x > 0) & (x < 1), between(0.1, 0.9), 0, 1)
ABOVE_MINUS_ONE = _numbers("greater than -1", lambda x: (x > -1) & (x < np.inf), between(-0.7, 3))
LOGIT = _numbers("real or infinite", lambda x: ~np.isnan(x), between(-3, 3))
NONZERO = Domain(
    "nonzero",
    lambda x: np.isfinite(x) & (x != 0),
    lambda rng, shape: np.exp(rng.uniform(-1, 1, shape)) * rng.choice([-1.0, 1.0], shape),
)
COUNT = Domain(
    "a whole number from 0 on",
    lambda x: (x >= 0) & (x < np.inf) & (np.floor(x) == x),
    lambda rng, shape: rng.integers(0, 8, shape),
    discrete=True,
    bounds=(0, np.inf),
)
BOOLEAN = Domain(
    "0 or 1",
    lambda x: (x == 0) | (x == 1),
    lambda rng, shape: rng.integers(0, 2, shape).astype(np.float64),
    discrete=True,
    bounds=(0, 1),
)
TRUTH = Domain("true or false", BOOLEAN.contains, lambda rng, shape: rng.random(shape) < 0.5, discrete=True)
LOGITS = Domain(
    "a vector of numbers below infinity, at least one of them finite",
    lambda x: (~np.isnan(x) & (x < np.inf)).all(-1) & np.isfinite(x).any(-1),
    between(-2, 2),
    event_ndim=1,
)
SIMPLEX = Domain(
    "a vector of nonnegative numbers with sum 1",
    lambda x: (
        (x >= 0).all(-1) & (abs(x.sum(-1) - 1) <= 1e-6 * x.shape[-1] ** 0.5 + 8 * np.finfo(x.dtype).eps * x.shape[-1])
    ),
    lambda rng, shape: rng.dirichlet(np.full(shape[-1], 3.0), shape[:-1]),
    event_ndim=1,
    bounds=(0, 1),
)
POSITIVE_SIMPLEX = replace(
    SIMPLEX, name="a vector of positive numbers with sum 1", contains=lambda x: SIMPLEX.contains(x) & (x > 0).all(-1)
)
ONE_HOT = Domain(
    "a vector of zeros with a single 1",
    lambda x: BOOLEAN.contains(x).all(-1) & (x.sum(-1) == 1),
    lambda rng, shape: np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])],
    event_ndim=1,
    discrete=True,
    bounds=(0, 1),
)
VECTOR = Domain("a vector of real numbers", lambda x: np.isfinite(x).all(-1), REAL.draw, event_ndim=1)
POSITIVE_VECTOR = replace(
    POSITIVE,
    name="a vector of positive numbers",
    contains=lambda x: POSITIVE.contains(x).all(-1),
    event_ndim=1,
    interval=False,
)
MATRIX = Domain("a matrix of real numbers", lambda x: np.isfinite(x).all((-2, -1)), REAL.draw, event_ndim=2)
LOWER_TRIANGULAR = Domain(
    "a lower triangular matrix with a positive diagonal",
    lambda x: MATRIX.contains(x) & (np.triu(x, 1) == 0).all((-2, -1)) & (np.diagonal(x, 0, -2, -1) > 0).all(-1),
    lambda rng, shape: np.tril(rng.uniform(-1, 1, shape), -1) + np.eye(shape[-1]) * POSITIVE.draw(rng, shape),
    event_ndim=2,
)
