"""The objective of a training run: a bound, its options, and the estimator that opens its draws to the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core import NoiseStream, Tensor, Value
from ..estimators import ESTIMATORS, ScoreFunction, estimate, estimator_named
from ..ops import mean, minimum
from .bounds import (
    LatentVariableModel,
    check_count,
    check_kl,
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


BOUNDS = ("elbo", "sticking-the-landing", "iwae", "dreg")
"""The bounds that an ``Objective`` may climb."""


@dataclass(frozen=True)
class Objective:
    """A bound to climb, and how the gradient gets past its draws; its options are checked before anything runs.

    Args:
        bound: ``"elbo"``, ``"sticking-the-landing"``, ``"iwae"`` or ``"dreg"``.
        samples: how many draws for each example.
        estimator: a name in ``tg.ESTIMATORS``.
        beta: a weight of the divergence; not for ``"iwae"`` and ``"dreg"``.
        warm_up: over how many steps that weight rises from 0; 0 for none.
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
        if self.bound not in BOUNDS:
            raise ValueError(f"Objective: bound must be one of {', '.join(BOUNDS)}; found {self.bound!r}")
        estimator_named(self.estimator, "Objective")
        check_count("Objective: samples", self.samples)
        check_nonnegative("Objective: beta", self.beta)
        check_nonnegative("Objective: free_bits", self.free_bits)
        if self.warm_up:
            check_count("Objective: warm_up", self.warm_up)
        weighted = self.bound in ("iwae", "dreg")
        if weighted and (self.beta != 1 or self.warm_up):
            raise ValueError(f"Objective: {self.bound} has no divergence for beta or warm_up to weigh; use elbo")
        if self.free_bits and self.bound != "elbo":
            raise ValueError(f"Objective: free_bits is for elbo, found {self.bound}")
        check_kl("Objective", self.kl, self.free_bits)
        if self.kl != "auto" and self.bound != "elbo":
            raise ValueError(f"Objective: kl is for elbo, found {self.bound}, which draws it")
        if self.bound == "dreg" and self.estimator != "pathwise":
            raise ValueError(f"Objective: dreg is pathwise by construction, found the estimator {self.estimator}")
        if self.estimator == "leave-one-out" and (weighted or self.samples < 2):
            raise ValueError("Objective: leave-one-out compares draws: it takes elbo and samples from 2 on")
        if self.estimator == "vimco" and (self.bound != "iwae" or self.samples < 2):
            raise ValueError(
                "Objective: vimco is for the importance weighted bound: it takes iwae and samples from 2 on"
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
            model, x, rng: as ``elbo`` takes them.
            step: the number of steps made before, for ``warm_up``; an array of shape () if a plan should see it change.
            baseline: what the score function subtracts from the bound.

        Raises:
            ValueError: a baseline was given for another estimator.
            InvalidGradientError: the estimator would be wrong for this model.
        """
        if baseline is not None and self.estimator != "score-function":
            raise ValueError(f"Objective: a baseline is for the score function, found {self.estimator}")
        beta = warm_up(step, self.warm_up, self.beta)
        average = self.estimator != "leave-one-out"
        if self.bound == "elbo":
            options: dict[str, Any] = {"kl": self.kl, "beta": beta, "free_bits": self.free_bits}
            bound = elbo(model, x, rng=rng, samples=self.samples, average=average, **options)
        elif self.bound == "sticking-the-landing":
            bound = sticking_the_landing(model, x, rng=rng, samples=self.samples, beta=beta, average=average)
        elif self.bound == "iwae":
            bound = importance_weighted_bound(model, x, rng=rng, samples=self.samples)
        else:
            bound = doubly_reparameterized_bound(model, x, rng=rng, samples=self.samples)
        if isinstance(bound, Tensor):
            opener = ESTIMATORS[self.estimator].example(rng) if baseline is None else ScoreFunction(baseline)
            bound = estimate(bound, default=opener)
        return bound if average else mean(bound, axis=0)
