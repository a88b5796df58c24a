"""Textbook costs of one random draw, with the gradient and the variance of every estimator whose theory is known.

Each is a program to measure and a curve to measure it against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import NoiseStream, Tensor, special
from ..distributions import Bernoulli, Normal
from ..estimators.compare import compare_estimators
from ..estimators.measurement import Comparison
from ..ops import abs, cos, exp, square

Formula = Callable[[float], float]
Program = Callable[[Any, NoiseStream], Tensor]


@dataclass(frozen=True)
class TextbookCost:
    """A cost with one parameter and one knob, and its theory.

    Args:
        title: the cost in words and signs.
        knob: the name of the number that is varied, on the horizontal axis of a picture.
        settings: its values in a picture.
        shown: the value at which there is most to see.
        parameter: where the gradient is taken, for a setting of the knob.
        program: the cost as a function of the parameter and of noise, for a setting of the knob.
        gradient: of the expectation, for a setting of the knob.
        variances: by the name of an estimator, the variance of one draw of its gradient.
        lesson: what to see.

    >>> cost = COSTS["square"]
    >>> cost.gradient(2.0), cost.variances["score-function"](2.0), cost.variances["pathwise"](2.0)
    (4.0, 87.0, 4.0)
    """

    title: str
    knob: str
    settings: tuple[float, ...]
    shown: float
    parameter: Formula
    program: Callable[[float], Program]
    gradient: Formula
    variances: Mapping[str, Formula]
    lesson: str


def _of_normal(cost: Callable[[Tensor, float], Tensor]) -> Callable[[float], Program]:
    """Return the programs that draw x from N(parameter, 1)."""
    return lambda knob: lambda mu, rng: cost(Normal(mu, 1.0).sample(rng=rng, name="x"), knob)


SQUARE = TextbookCost(
    "x², x ~ N(θ, 1)",
    "θ",
    (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0),
    shown=2.0,
    parameter=lambda theta: theta,
    program=_of_normal(lambda x, _: square(x)),
    gradient=lambda theta: 2 * theta,
    variances={
        "score-function": lambda theta: theta**4 + 14 * theta**2 + 15,
        "pathwise": lambda theta: 4.0,
        "measure-valued": lambda theta: (16 / math.pi - 4) * theta**2,
    },
    lesson="The reparameterization trick does not mind a large cost; the score function does, without a baseline. "
    "Near θ = 0 the measure-valued derivative is calmer than both.",
)


def _slope_of_cos(k: float) -> float:
    return -k * math.sin(k) * math.exp(-(k**2) / 2)


def _decay(k: float) -> float:
    return math.cos(2 * k) * math.exp(-2 * k**2)


def _folded(k: float) -> float:
    """E sin^2(k r), r Rayleigh: the two draws of the measure-valued derivative are 1 + r and 1 - r."""
    return math.sqrt(2) * k * float(special().dawsn(math.sqrt(2) * k))


COS = TextbookCost(
    "cos(kx), x ~ N(1, 1)",
    "k",
    (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0),
    shown=2.0,
    parameter=lambda k: 1.0,
    program=_of_normal(lambda x, k: cos(k * x)),
    gradient=_slope_of_cos,
    variances={
        "score-function": lambda k: (1 + (1 - 4 * k**2) * _decay(k)) / 2 - _slope_of_cos(k) ** 2,
        "pathwise": lambda k: k**2 / 2 * (1 - _decay(k)) - _slope_of_cos(k) ** 2,
        "measure-valued": lambda k: 2 / math.pi * math.sin(k) ** 2 * _folded(k) - _slope_of_cos(k) ** 2,
    },
    lesson="The trick is not always the best: a path follows the slope of the cost, which grows with k, and the "
    "score function only sees the cost, which stays between -1 and 1. They cross at k = 1.0638.",
)


def _slope_of_bump(k: float) -> float:
    d = 1 + 2 * k
    return -2 * k / d * math.exp(-k / d) / math.sqrt(d)


def _squared_bump(k: float) -> float:
    """E exp(-2 k x^2)."""
    d = 1 + 4 * k
    return math.exp(-2 * k / d) / math.sqrt(d)


BUMP = TextbookCost(
    "exp(-kx²), x ~ N(1, 1)",
    "k",
    (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    shown=4.0,
    parameter=lambda k: 1.0,
    program=_of_normal(lambda x, k: exp(-k * square(x))),
    gradient=_slope_of_bump,
    variances={
        "score-function": lambda k: (
            _squared_bump(k) * (16 * k**2 / (1 + 4 * k) ** 2 + 1 / (1 + 4 * k)) - _slope_of_bump(k) ** 2
        ),
        "pathwise": lambda k: (
            4 * k**2 * _squared_bump(k) * (1 / (1 + 4 * k) ** 2 + 1 / (1 + 4 * k)) - _slope_of_bump(k) ** 2
        ),
    },
    lesson="A bump that gets narrower: its slope gets steeper and is met more rarely, so that the path gets "
    "noisier while the score function gets calmer.",
)

MU = 0.5
"""Where the gradient of |x|^a is taken."""


def _moment(a: float) -> float:
    """E |x|^a for x ~ N(MU, 1), a > -1."""
    scale = 2 ** (a / 2) * math.gamma((a + 1) / 2) / math.sqrt(math.pi)
    return float(scale * special().hyp1f1(-a / 2, 0.5, -(MU**2) / 2))


def _slope_of_power(a: float) -> float:
    """d/dmu E |x|^a."""
    scale = a * MU * 2 ** (a / 2) * math.gamma((a + 1) / 2) / math.sqrt(math.pi)
    return float(scale * special().hyp1f1(1 - a / 2, 1.5, -(MU**2) / 2))


def _score_of_power(a: float) -> float:
    """E |x|^2a (x - mu)^2 minus the squared mean; E |x|^b x = mu E |x|^b + d/dmu E |x|^b."""
    b = 2 * a
    return _moment(b + 2) - MU**2 * _moment(b) - 2 * MU * _slope_of_power(b) - _slope_of_power(a) ** 2


POWER = TextbookCost(
    f"|x|^a, x ~ N({MU:g}, 1)",
    "a",
    (0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0),
    shown=0.25,
    parameter=lambda a: MU,
    program=_of_normal(lambda x, a: abs(x) ** a),
    gradient=_slope_of_power,
    variances={
        "score-function": _score_of_power,
        "pathwise": lambda a: a**2 * _moment(2 * a - 2) - _slope_of_power(a) ** 2 if a > 0.5 else math.inf,
    },
    lesson="The trick at its worst: for a up to 1/2 the variance of the path is infinite, since the slope is at "
    "x = 0, and a measurement of it is a number that never settles. The score function's variance is near 1.",
)

T = 0.45
SLOPE = 1 - 2 * T

BERNOULLI = TextbookCost(
    f"(b - {T})², b ~ Bernoulli(p)",
    "p",
    (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    shown=0.3,
    parameter=lambda p: p,
    program=lambda _: lambda p, rng: square(Bernoulli(probs=p).sample(rng=rng, name="b") - T),
    gradient=lambda p: SLOPE,
    variances={
        "score-function": lambda p: (1 - T) ** 4 / p + T**4 / (1 - p) - SLOPE**2,
        "second-draw": lambda p: SLOPE**2 * ((1 - p) / p + p / (1 - p) - 1),
        "arm": lambda p: SLOPE**2 * (2 / 3 * (1 / 8 - math.fabs(0.5 - p) ** 3) / (p * (1 - p)) ** 2 - 1),
        "disarm": lambda p: SLOPE**2 * (1 / (2 * min(p, 1 - p)) - 1),
        "straight-through": lambda p: 4 * p * (1 - p),
        "enumeration": lambda p: 0.0,
    },
    lesson="There is no path through a toss. Estimators that take the difference of the cost at 0 and at 1 are far "
    "calmer than the score function; one that pretends that there is a path may be calm too, and is wrong.",
)

COSTS = {"square": SQUARE, "cos": COS, "exp": BUMP, "power": POWER, "bernoulli": BERNOULLI}
"""The textbook costs, by the name that the command gives them."""


def sweep(
    cost: TextbookCost,
    *,
    rng: NoiseStream,
    runs: int = 1000,
    estimators: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Comparison]:
    """Return a comparison of estimators, by default all valid ones, at each setting of a cost's knob.

    It takes ``runs`` gradients at each, and calls ``progress(done, total)`` after every run.

    >>> found = sweep(COSTS["bernoulli"], rng=tg.noise(0), runs=20, estimators=["disarm"])
    >>> len(found) == len(COSTS["bernoulli"].settings)
    True
    """

    def compared(k: int, setting: float) -> Comparison:
        return compare_estimators(
            cost.program(setting),
            np.float64(cost.parameter(setting)),
            rng=rng.at("setting", k),
            runs=runs,
            estimators=estimators,
            progress=lambda done, _: progress(k * runs + done, runs * len(cost.settings)),
        )

    return [compared(k, setting) for k, setting in enumerate(cost.settings)]
