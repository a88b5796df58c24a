"""Textbook costs of one random draw, with the gradient and the variance of every estimator whose theory is known.

Each is a program to measure and a curve to measure it against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import dawsn, gamma, hyp1f1

from ..core import NoiseStream, Tensor
from ..distributions import Bernoulli, Normal
from ..estimators.compare import compare_estimators
from ..estimators.measurement import Comparison
from ..ops import abs, cos, exp, square

Formula = Callable[[float], float]


@dataclass(frozen=True)
class TextbookCost:
    """A cost with one parameter and one knob, and what is known of it.

    Args:
        title: the cost in words and signs.
        knob: the name of the number that is varied, on the horizontal axis of a picture.
        settings: its values in a picture.
        shown: the value at which there is most to see.
        parameter: where the gradient is taken, for a setting of the knob.
        draw: ``draw(parameter, knob, rng)`` draws the cost.
        gradient: of the expectation, for a setting of the knob.
        variances: by the name of an estimator, the variance of one draw of its gradient.
        lesson: what there is to see.

    >>> cost = COSTS["square"]
    >>> cost.gradient(2.0), cost.variances["score-function"](2.0), cost.variances["pathwise"](2.0)
    (4.0, 87.0, 4.0)
    """

    title: str
    knob: str
    settings: tuple[float, ...]
    shown: float
    parameter: Formula
    draw: Callable[[Any, float, NoiseStream], Tensor]
    gradient: Formula
    variances: Mapping[str, Formula]
    lesson: str

    def program(self, knob: float) -> Callable[[Any, NoiseStream], Tensor]:
        """Return the cost as a function of the parameter and of noise, as ``compare_estimators`` takes it."""
        return lambda parameter, rng: self.draw(parameter, knob, rng)


def _normal(cost: Callable[[Tensor, float], Tensor]) -> Callable[[Any, float, NoiseStream], Tensor]:
    """Return the program that draws x from N(parameter, 1)."""
    return lambda mu, knob, rng: cost(Normal(mu, 1.0).sample(rng=rng, name="x"), knob)


def _square() -> TextbookCost:
    return TextbookCost(
        "x², x ~ N(θ, 1)",
        "θ",
        (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0),
        shown=2.0,
        parameter=lambda theta: theta,
        draw=_normal(lambda x, _: square(x)),
        gradient=lambda theta: 2 * theta,
        variances={
            "score-function": lambda theta: theta**4 + 14 * theta**2 + 15,
            "pathwise": lambda theta: 4.0,
            "measure-valued": lambda theta: (16 / math.pi - 4) * theta**2,
        },
        lesson="The reparameterization trick does not mind a large cost; the score function does, without a baseline. "
        "Near θ = 0 the measure-valued derivative is calmer than both.",
    )


def _cos() -> TextbookCost:
    def gradient(k: float) -> float:
        return -k * math.sin(k) * math.exp(-(k**2) / 2)

    def decay(k: float) -> float:
        return math.cos(2 * k) * math.exp(-2 * k**2)

    def folded(k: float) -> float:
        """E sin^2(k r), r Rayleigh: the two draws of the measure-valued derivative are 1 + r and 1 - r."""
        return math.sqrt(2) * k * float(dawsn(math.sqrt(2) * k))

    return TextbookCost(
        "cos(kx), x ~ N(1, 1)",
        "k",
        (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0),
        shown=2.0,
        parameter=lambda k: 1.0,
        draw=_normal(lambda x, k: cos(k * x)),
        gradient=gradient,
        variances={
            "score-function": lambda k: (1 + (1 - 4 * k**2) * decay(k)) / 2 - gradient(k) ** 2,
            "pathwise": lambda k: k**2 / 2 * (1 - decay(k)) - gradient(k) ** 2,
            "measure-valued": lambda k: 2 / math.pi * math.sin(k) ** 2 * folded(k) - gradient(k) ** 2,
        },
        lesson="The trick is not always the best: a path follows the slope of the cost, which grows with k, and the "
        "score function only sees the cost, which stays between -1 and 1. They cross at k = 1.0638.",
    )


def _bump() -> TextbookCost:
    def gradient(k: float) -> float:
        d = 1 + 2 * k
        return -2 * k / d * math.exp(-k / d) / math.sqrt(d)

    def second_moments(k: float) -> tuple[float, float]:
        d = 1 + 4 * k
        z = math.exp(-2 * k / d) / math.sqrt(d)
        return z * (16 * k**2 / d**2 + 1 / d), 4 * k**2 * z * (1 / d**2 + 1 / d)

    return TextbookCost(
        "exp(-kx²), x ~ N(1, 1)",
        "k",
        (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
        shown=4.0,
        parameter=lambda k: 1.0,
        draw=_normal(lambda x, k: exp(-k * square(x))),
        gradient=gradient,
        variances={
            "score-function": lambda k: second_moments(k)[0] - gradient(k) ** 2,
            "pathwise": lambda k: second_moments(k)[1] - gradient(k) ** 2,
        },
        lesson="A bump that gets narrower: its slope gets steeper and is met more rarely, so that the path gets "
        "noisier while the score function gets calmer.",
    )


POWER_AT = 0.5
"""Where the gradient of |x|^a is taken."""


def _moment(a: float, mu: float) -> float:
    """Return E |x|^a for x ~ N(mu, 1), a > -1."""
    return float(2 ** (a / 2) * gamma((a + 1) / 2) / math.sqrt(math.pi) * hyp1f1(-a / 2, 0.5, -(mu**2) / 2))


def _moment_slope(a: float, mu: float) -> float:
    """Return d/dmu E |x|^a."""
    scale = a * mu * 2 ** (a / 2) * gamma((a + 1) / 2) / math.sqrt(math.pi)
    return float(scale * hyp1f1(1 - a / 2, 1.5, -(mu**2) / 2))


def _power() -> TextbookCost:
    mu = POWER_AT

    def gradient(a: float) -> float:
        return _moment_slope(a, mu)

    def score(a: float) -> float:
        """E |x|^2a (x - mu)^2 minus the squared mean; E |x|^b x = mu E |x|^b + d/dmu E |x|^b."""
        b = 2 * a
        return _moment(b + 2, mu) - mu**2 * _moment(b, mu) - 2 * mu * _moment_slope(b, mu) - gradient(a) ** 2

    def path(a: float) -> float:
        return a**2 * _moment(2 * a - 2, mu) - gradient(a) ** 2 if a > 0.5 else math.inf

    return TextbookCost(
        f"|x|^a, x ~ N({mu:g}, 1)",
        "a",
        (0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0),
        shown=0.25,
        parameter=lambda a: mu,
        draw=_normal(lambda x, a: abs(x) ** a),
        gradient=gradient,
        variances={"score-function": score, "pathwise": path},
        lesson="The trick at its worst: for a up to 1/2 the variance of the path is infinite, since the slope is at "
        "x = 0, and a measurement of it is a number that never settles. That of the score function is near 1.",
    )


def _bernoulli() -> TextbookCost:
    t = 0.45
    slope = 1 - 2 * t

    def rarer(p: float) -> float:
        return min(p, 1 - p)

    def arm(p: float) -> float:
        return slope**2 * (2 / 3 * (1 / 8 - math.fabs(0.5 - p) ** 3) / (p * (1 - p)) ** 2 - 1)

    return TextbookCost(
        f"(b - {t})², b ~ Bernoulli(p)",
        "p",
        (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
        shown=0.3,
        parameter=lambda p: p,
        draw=lambda p, _, rng: square(Bernoulli(probs=p).sample(rng=rng, name="b") - t),
        gradient=lambda p: slope,
        variances={
            "score-function": lambda p: (1 - t) ** 4 / p + t**4 / (1 - p) - slope**2,
            "second-draw": lambda p: slope**2 * ((1 - p) / p + p / (1 - p) - 1),
            "arm": arm,
            "disarm": lambda p: slope**2 * (1 / (2 * rarer(p)) - 1),
            "straight-through": lambda p: 4 * p * (1 - p),
            "enumeration": lambda p: 0.0,
        },
        lesson="There is no path through a toss. What takes the difference of the cost at 0 and at 1 is far calmer "
        "than the score function; what pretends that there is a path may be calm too, and is wrong.",
    )


COSTS: dict[str, TextbookCost] = {
    "square": _square(),
    "cos": _cos(),
    "exp": _bump(),
    "power": _power(),
    "bernoulli": _bernoulli(),
}
"""The textbook costs, by the name that the command gives them."""


def sweep(
    cost: TextbookCost,
    *,
    rng: NoiseStream,
    runs: int = 1000,
    estimators: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Comparison]:
    """Return a comparison of estimators, by default all valid ones, at each setting of a cost's knob.

    It takes ``runs`` gradients at each, and calls ``progress(done, total)`` after every run.

    >>> found = sweep(COSTS["bernoulli"], rng=tg.noise(0), runs=20, estimators=["disarm"])
    >>> len(found) == len(COSTS["bernoulli"].settings)
    True
    """
    total, found = runs * len(cost.settings), []
    for k, setting in enumerate(cost.settings):

        def report(done: int, runs: int, before: int = k * runs) -> None:
            if progress:
                progress(before + done, total)

        parameter = np.float64(cost.parameter(setting))
        stream = rng.at("setting", k)
        found.append(
            compare_estimators(
                cost.program(setting), parameter, rng=stream, runs=runs, estimators=estimators, progress=report
            )
        )
    return found
