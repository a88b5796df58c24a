"""Hold an estimator against a reference, and say how small a bias would have been seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Array, InvalidGradientError, NoiseStream, trees
from ..devices import to_host
from .compare import Program, check_comparison, compare_estimators
from .estimator import Estimator
from .measurement import ALLOWED, Measurement


@dataclass(frozen=True)
class Audit:
    """How far an estimator's mean is from a reference, in standard errors."""

    z: Array  # for each element of the gradient, the distance in standard errors of both
    visible_bias: Array  # for each element, nine standard errors: a bias that is missed once in 300 000 audits
    passed: bool  # whether all distances are at most 4.5

    def __str__(self) -> str:
        verdict = "no bias seen" if self.passed else "BIASED"
        return (
            f"{verdict}: the largest of {self.z.size} distances is {np.abs(self.z).max():.2f} standard errors; "
            f"a bias of {self.visible_bias.max():.2g} would have been seen"
        )


def audit(
    f: Program,
    parameters: Any,
    estimator: str | Estimator,
    reference: Any,
    *,
    rng: NoiseStream,
    runs: int = 2000,
    executor: Any = None,
) -> Audit:
    """Hold an estimator against a reference that does not share its draws.

    Args:
        f, parameters, executor: as for ``compare_estimators``.
        estimator: the one to look at.
        reference: the true gradient, in the structure of the parameters; or another estimator, which gets noise of
            its own (``"enumeration"`` and ``"quadrature"`` are exact where they are valid).
        rng: a stream from ``tg.noise(seed)``.
        runs: how many gradients.

    Raises:
        InvalidGradientError: the estimator or the reference is not valid here.
        TypeError, ValueError: as for ``compare_estimators``, or the reference has another structure.

    >>> def cost(theta, rng):
    ...     return tg.Normal(theta, 1.0).sample(rng=rng) ** 2
    >>> print(tg.audit(cost, np.float64(2.0), "score-function", np.float64(4.0), rng=tg.noise(0)))
    no bias seen: the largest of 1 distances is ... standard errors; a bias of ... would have been seen
    """
    check_comparison(f, rng, runs)

    def measured(one: str | Estimator, stream: NoiseStream) -> Measurement:
        (row,) = compare_estimators(f, parameters, estimators=[one], rng=stream, runs=runs, executor=executor).rows
        if row.refused:
            raise InvalidGradientError(f"audit: {row.name} is refused: {row.refused}")
        return row

    found = measured(estimator, rng.at("audited"))
    if isinstance(reference, (str, Estimator)):
        other = measured(reference, rng.at("reference"))
        truth, error = other.mean, np.hypot(found.standard_error, other.standard_error)
    else:
        shapes, expected = ([np.shape(x) for x in trees.leaves(tree)] for tree in (reference, parameters))
        if shapes != expected:
            raise ValueError(f"audit: the reference has the shapes {shapes}, the parameters have {expected}")
        truth, error = np.concatenate([np.ravel(to_host(x)) for x in trees.leaves(reference)]), found.standard_error
    allowed = ALLOWED * error + 1e-9 * (1 + np.abs(truth))  # and rounding
    z = ALLOWED * (found.mean - truth) / allowed
    return Audit(z, 2 * allowed, bool(np.all(np.abs(z) <= ALLOWED)))
