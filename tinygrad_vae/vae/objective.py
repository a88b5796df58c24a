"""The objective of a training run: a bound, its options, and the estimator that opens its draws to the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core import NoiseStream, Tensor, Value
from ..estimators import ESTIMATORS, ScoreFunction, estimate, estimator_named
from ..ops import mean, minimum
from .bounds import (
    LatentVariableModel,
    check_count,
    check_kl,
    check_name,
    check_nonnegative,
    doubly_reparameterized_bound,
    elbo,
    importance_weighted_bound,
    sticking_the_landing,
)


def warm_up(step: int | Value, steps: int, beta: float = 1.0) -> float | Value:
    """Return the weight of the divergence at a step: it rises from 0 to ``beta`` over the first ``steps``.

    Bowman et al. 2016; Sonderby et al. 2016: the decoder learns to use z before the divergence empties it.

    >>> [warm_up(step, 100) for step in (0, 50, 100, 200)]
    [0.0, 0.5, 1.0, 1.0]
    """
    if not steps:
        return beta
    return beta * minimum(step / steps, 1.0) if hasattr(step, "dtype") else beta * min(step / steps, 1.0)


BOUNDS: dict[str, Callable[..., Value]] = {
    "elbo": elbo,
    "sticking-the-landing": sticking_the_landing,
    "iwae": importance_weighted_bound,
    "dreg": doubly_reparameterized_bound,
}
"""The bounds that an ``Objective`` may climb, by name."""

WEIGHTED = ("elbo", "sticking-the-landing")
OPTIONS = {"beta": WEIGHTED, "warm_up": WEIGHTED, "free_bits": ("elbo",), "kl": ("elbo",)}
"""Which bounds take an option."""

COMPARING = {"leave-one-out": WEIGHTED, "vimco": ("iwae",)}
"""The estimators that compare the draws of an example, and for which bounds."""


@dataclass(frozen=True)
class Objective:
    """A bound to climb, and how the gradient gets past its draws; its options are checked before anything runs.

    Args:
        bound: ``"elbo"``, ``"sticking-the-landing"``, ``"iwae"`` or ``"dreg"``.
        samples: the number of draws for each example.
        estimator: a name in ``tg.ESTIMATORS``.
        beta: a weight of the divergence; not for ``"iwae"`` and ``"dreg"``.
        warm_up: the number of steps over which that weight rises from 0; 0 for none.
        free_bits: nats that each latent may say at no cost; for ``"elbo"`` alone.
        kl: how ``"elbo"`` computes the divergence, a name in ``DIVERGENCES``.

    Raises:
        TypeError, ValueError: a name is unknown, a number is out of range, or options contradict each other.

    >>> objective = Objective("iwae", samples=5)
    >>> model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
    >>> bound = objective(model, np.zeros((3, 64), np.float32), rng=tg.noise(1))
    >>> tg.gradients(-tg.mean(bound), model).posterior.mean.bias.shape
    (2,)
    """

    bound: str = "elbo"
    samples: int = 1
    estimator: str = "pathwise"
    beta: float = 1.0
    warm_up: int = 0
    free_bits: float = 0.0
    kl: str = "auto"

    def __post_init__(self) -> None:
        check_name("Objective: bound", self.bound, BOUNDS)
        estimator_named(self.estimator, "Objective")
        check_count("Objective: samples", self.samples)
        check_nonnegative("Objective: beta", self.beta)
        if self.warm_up:
            check_count("Objective: warm_up", self.warm_up)
        check_kl("Objective", self.kl, self.free_bits)
        for option, bounds in OPTIONS.items():
            if self.bound not in bounds and getattr(self, option) != self.__dataclass_fields__[option].default:
                those = " and ".join(bounds)
                raise ValueError(
                    f"Objective: {option} is for {those}, found {self.bound}; leave {option} at its default"
                )
        if self.bound == "dreg" and self.estimator != "pathwise":
            raise ValueError(f"Objective: dreg is pathwise by construction, found the estimator {self.estimator}")
        bounds = COMPARING.get(self.estimator, tuple(BOUNDS))
        if self.bound not in bounds or (self.estimator in COMPARING and self.samples < 2):
            raise ValueError(
                f"Objective: {self.estimator} compares draws: it takes {' or '.join(bounds)}, and at least 2 samples"
            )

    def __call__(
        self,
        model: LatentVariableModel,
        x: Value,
        *,
        rng: NoiseStream,
        step: int | Value = 0,
        baseline: Value | None = None,
    ) -> Value:
        """Return the bound of each example, of shape (batch,), open to gradients where the model is wrapped.

        Args:
            model, x, rng: as in ``elbo``.
            step: the number of steps made before, for ``warm_up``; an array of shape () if a plan should see it change.
            baseline: what the score function subtracts from the bound.

        Raises:
            ValueError: a baseline was given for another estimator.
            InvalidGradientError: the estimator would be wrong for this model.
        """
        if baseline is not None and self.estimator != "score-function":
            raise ValueError(f"Objective: a baseline is for the score function, found {self.estimator}")
        average = self.estimator != "leave-one-out"
        options: dict[str, Any] = {"rng": rng, "samples": self.samples}
        if self.bound in WEIGHTED:
            options |= {"beta": warm_up(step, self.warm_up, self.beta), "average": average}
        if self.bound == "elbo":
            options |= {"kl": self.kl, "free_bits": self.free_bits}
        bound = BOUNDS[self.bound](model, x, **options)
        if isinstance(bound, Tensor):
            opener = ESTIMATORS[self.estimator].example(rng) if baseline is None else ScoreFunction(baseline)
            bound = estimate(bound, default=opener)
        return bound if average else mean(bound, axis=0)
