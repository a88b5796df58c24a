"""KL(p || q) estimated from draws, for pairs of families without a closed form."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import Array, NoiseStream, Value, value_of
from ..devices import to_host
from ..ops import mean
from .distribution import Distribution
from .divergences import check_same_event
from .support import check_inside, lost_to_rounding


class MonteCarloKL(NamedTuple):
    """An estimate of a divergence, and how far off it may be; it unpacks as ``value, standard_error``.

    Args:
        value: the estimate for each distribution of the batch; it may enter a cost.
        standard_error: its standard error, an array; nan where there was a single draw.
    """

    value: Value
    standard_error: Array

    def __str__(self) -> str:
        pairs = zip(np.ravel(to_host(value_of(self.value))), np.ravel(self.standard_error), strict=True)
        return f"{', '.join(f'{value:.4g} ± {error:.2g}' for value, error in pairs)} (Monte Carlo)"


def monte_carlo_kl(p: Distribution, q: Distribution, *, rng: NoiseStream, samples: int = 1) -> MonteCarloKL:
    """Return an unbiased estimate of ``KL(p || q)``, the mean of ``log p(x) - log q(x)`` over draws, and its error.

    The draws are reparameterized where p allows it, so that the gradient is unbiased too. Draws of a discrete p
    are blocked: apply ``score_function`` to the cost that the estimate enters.

    Args:
        p, q: two distributions with draws of one shape.
        rng: a stream from ``tg.noise(seed)``.
        samples: how many draws to average over.

    Raises:
        ValueError: ``samples`` is below 1; or p draws a value outside the support of q, where the divergence is
            infinite; or the dtype rounds more than a thousandth of the draws to the edge of the support of p.

    >>> estimate = monte_carlo_kl(tg.Normal(1.0, 1.0), tg.Normal(0.0, 1.0), rng=tg.noise(0), samples=10_000)
    >>> print(estimate)
    0.513... ± 0.01 (Monte Carlo)
    """
    if samples < 1:
        raise ValueError(f"monte_carlo_kl: samples must be at least 1, found {samples}")
    check_same_event(p, q)
    if p.support.discrete != q.support.discrete:
        raise ValueError(
            f"monte_carlo_kl: KL({type(p).__name__} || {type(q).__name__}) is infinite: one is discrete and the other "
            "continuous, so that a density would be compared with a probability"
        )
    x = (p.sample if p.path is None else p.rsample)((samples,), rng=rng)
    check_inside(f"monte_carlo_kl: KL({type(p).__name__} || q) is infinite; a draw of p", q.support, value_of(x))
    if lost := lost_to_rounding(p, value_of(x)):
        raise ValueError(
            f"monte_carlo_kl: {lost}. Use float64 where these are float32, or kl_divergence where there is a "
            "closed form"
        )
    log_ratio = p.log_density(x) - q.log_density(x)
    ratios = to_host(value_of(log_ratio))
    error = np.std(ratios, axis=0, ddof=1) / math.sqrt(samples) if samples > 1 else np.full(ratios.shape[1:], np.nan)
    return MonteCarloKL(mean(log_ratio, axis=0), np.asarray(error))
