"""REBAR and RELAX: score functions with a relaxed draw for a control variate.

A relaxed draw s(z) of the same noise follows the discrete one closely, and has a path. Its score function gradient is
subtracted, and its pathwise gradient added: the same expectation, and less variance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..core import UNIFORM, InvalidGradientError, NoiseStream, Sample, Tensor, Value, new_noise, topological_order
from ..guard.axes import surviving_axes
from ..guard.names import name_and_line
from ..ops import exp, sigmoid, sum
from .elements import aligned, batch_ndim
from .estimator import Estimator, Rest, zero
from .relaxed import check_temperature, no_relaxed_draw, noisy_logits, noisy_logits_given, relaxed
from .score_function import ScoreFunction


class RELAX(Estimator):
    """For Bernoulli and OneHotCategorical, with a control variate c of the noisy logits that decide the draw.

    ``(K(b) - c(s~)) dlog p(b) + dc(s) - dc(s~)``, where s are the noisy logits, and s~ others from their distribution
    given b. Any c leaves the gradient unbiased; train its parameters to lower the variance. Grathwohl et al. 2018.

    Args:
        control: a function of noisy logits, which have the shape of the draw. The result has the shape of the cost, or
            of the draw; then it is added up over what the cost mixes. If each element of the cost depends on draws of
            its own, so must each element of the result, or it is an ``InvalidGradientError``.
        rng: a stream from ``tg.noise(seed)`` for the conditional draw.

    >>> logits = tg.Tensor(np.zeros(3), "logits")
    >>> b = tg.OneHotCategorical(logits=logits).sample(rng=tg.noise(0), name="b")
    >>> cost = tg.RELAX(tg.sigmoid, tg.noise(1))(tg.sum(b * np.arange(3.0)))
    >>> tg.gradients(cost, logits).shape
    (3,)
    """

    name: ClassVar[str] = "relax"

    def __init__(self, control: Callable[[Value], Value], rng: NoiseStream) -> None:
        self.control, self.rng = control, rng

    @classmethod
    def example(cls, rng: NoiseStream) -> RELAX:
        return cls(sigmoid, rng)

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        return no_relaxed_draw(z.dist.element)

    def controlled(self, noisy: Value, z: Sample, cost: Tensor, rest: Rest) -> Value:
        """Return c at noisy logits, in the shape of the cost."""
        c: Any = self.control(noisy)
        batch = z.shape[: batch_ndim(z)]
        apart = [(a, label) for a, label in enumerate(surviving_axes(cost, z)) if label is not None]
        apart = [(a, label) for a, label in apart if label < len(batch)]
        if c.shape not in (cost.shape, z.shape, batch):
            raise ValueError(
                f"RELAX: the control gave shape {c.shape}; the cost has shape {cost.shape}, and a draw {z.shape}"
            )
        if c.shape == cost.shape and _keeps_apart(c, noisy, apart):
            return c
        if c.shape not in (z.shape, batch) or not _keeps_apart(c, noisy, [(label, label) for _, label in apart]):
            raise InvalidGradientError(
                f"RELAX for {name_and_line(z)}: each element of the cost, of shape "
                f"{cost.shape}, depends on draws of its own. The control, which gave shape {c.shape}, joins the draws "
                "of others; give one that works on each draw by itself, or a cost that is one number"
            )
        joined = c if c.shape == batch else sum(c, axis=tuple(range(len(batch), z.ndim)))
        return aligned(joined, z, cost)

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        dist = z.dist.element
        v = new_noise(self.rng, UNIFORM, z.shape, z.dtype, (z.value,))
        c = self.controlled(noisy_logits(dist, z.noise), z, cost, rest)
        c_again = self.controlled(noisy_logits_given(dist, stopped, v), z, cost, rest)
        weight = exp(zero(self.noted(aligned(dist.log_density(stopped), z, cost), z)))
        return lambda k: weight * k + (1 - weight) * c_again + zero(c) - zero(c_again)


def _keeps_apart(c: Value, noisy: Any, axes: list[tuple[int, int]]) -> bool:
    """Return whether c carries axes of the noisy logits unmixed, given as pairs of its own axis and theirs."""
    if not isinstance(c, Tensor) or not any(x is noisy for x in topological_order([c])):
        return True
    found = surviving_axes(c, noisy)
    return all(found[a] == label or noisy.shape[label] == 1 for a, label in axes)


_SCORE = ScoreFunction()


class REBAR(RELAX):
    """RELAX whose control variate is the cost itself at a relaxed draw, ``c = eta K(softmax(s / temperature))``.

    The cost must be a smooth function of relaxed draws too. A softmax beside masks of -1e9 is a step, and REBAR is calm
    and wrong there; ``compare_estimators`` shows it. Inside the control variate, later draws of this estimator have the
    score function: relaxed again in each copy, n draws in a row would take 3^n copies. Tucker et al. 2017.

    Args:
        rng: a stream from ``tg.noise(seed)`` for the conditional draw.
        temperature: of the relaxed draw, above 0.
        eta: how much of the control variate to use; a Tensor where it is to be trained.

    >>> logits = tg.Tensor(np.zeros(1000), "logits")
    >>> b = tg.Bernoulli(logits=logits).sample(rng=tg.noise(0), name="b")
    >>> calm, plain = (
    ...     tg.gradients(tg.sum(tg.estimate((b + 1.0) ** 2, {"b": e})), logits)
    ...     for e in (tg.REBAR(tg.noise(1)), "score-function")
    ... )
    >>> bool(calm.var() < plain.var())
    True
    """

    name: ClassVar[str] = "rebar"

    def __init__(self, rng: NoiseStream, *, temperature: float = 0.5, eta: Value = 1.0) -> None:
        check_temperature("REBAR", temperature)
        self.rng, self.temperature, self.eta = rng, temperature, eta

    @classmethod
    def example(cls, rng: NoiseStream) -> REBAR:
        return cls(rng)

    def controlled(self, noisy: Value, z: Sample, cost: Tensor, rest: Rest) -> Value:
        later = {key: _SCORE if isinstance(e, REBAR) else e for key, e in rest.later.items()}
        return self.eta * rest(relaxed(z.dist.element, noisy, self.temperature), later)
