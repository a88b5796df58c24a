"""The score function estimator, or REINFORCE: the gradient goes through the probability of the draw.

``d/dtheta E f(z) = E [(f(z) - b) d log p(z; theta) / dtheta]`` for any baseline b that does not depend on z, where the
support of p does not move with theta. Neither f nor z need be continuous.

Aleksandrov, Sysoev and Shemeneva 1968, Rubinstein 1969, Glynn 1990, Williams 1992. The form that is right at every
order, a factor of value 1 with the derivative of log p: Foerster et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..core import NoiseStream, Sample, Tensor, Value, rewrite, trees, value_of
from ..distributions.support import lost_to_rounding
from ..guard.axes import (
    Labels,
    along,
    carried_axes,
    counts_draws,
    has_examples,
    less_noisy,
    price_of_mixing,
    surviving_axes,
    weigh_terms,
)
from ..ops import exp, stop_gradient, sum
from ..refusals import refuse_gradient
from .baselines import check_baseline
from .elements import JOINED, check_independent, has_dependent_draws
from .estimator import Estimator, Rest, closed_at, zero

Draw = tuple[Sample, Tensor, Labels]
"""A random node, the same closed to gradients, and which of its axes each axis of the cost carries."""


class ScoreFunction(Estimator):
    """``magic(log p(z; theta)) K(z)``, where ``magic(l) = exp(l - stop(l))`` is 1 and has the derivative of l.

    With a baseline b it is ``magic K + (1 - magic) b``, whose expectation is the same and whose variance is smaller
    where b is near the expectation of K. Valid for every cost, continuous or not, and in every parameter that does not
    move the support; not where the dtype rounds more than a thousandth of the draws to the edge of the support, as
    float32 does for Beta(0.3, 0.1). Both are refused. Williams 1992; Foerster et al. 2018.

    Args:
        baseline: a number, or an array or Tensor that broadcasts to the cost and does not depend on the draw. Compute
            it on Tensors, whose graph tells. Of an array it can be seen only where it is a value of the cost's graph, a
            view of one, or its mean, sum, median or extreme: other numbers made of ``cost.value`` bias the gradient. An
            earlier draw in it needs no estimator there.
        credit: ``"auto"`` weighs each element of the cost with the log-probability of its own draws where the graph
            shows that it depends on no others, and else with the joint one. ``"downstream"`` weighs each term that sums
            and means have added up with the log-probability of the draws that it depends on: the least noisy, for a
            larger graph. The baseline is then a number, subtracted from each term. Schulman et al. 2015.

    >>> mu = tg.Tensor(np.zeros(3), "mu")
    >>> x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
    >>> cost = tg.ScoreFunction(credit="downstream")(tg.sum(x**2))
    >>> bool(np.allclose(tg.gradients(cost, mu), x.value**2 * x.value))
    True
    """

    name: ClassVar[str] = "score-function"
    needs_score: ClassVar[bool] = True

    def __init__(self, baseline: Value | None = None, *, credit: str = "auto") -> None:
        if credit not in ("auto", "downstream"):
            raise ValueError(f'score_function: credit must be "auto" or "downstream", found {credit!r}')
        if credit == "downstream" and np.ndim(value_of(0 if baseline is None else baseline)):
            raise ValueError('score_function(credit="downstream"): the baseline of each term must be a number')
        self.baseline, self.credit = baseline, credit

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        check_baseline(cost, self.baseline, [z])
        labels = surviving_axes(cost, z)
        return lambda k: self._weighed(k, [(z, stopped, labels)])

    def together(self, samples: Sequence[Sample], cost: Tensor) -> Tensor | None:
        """The weights multiply, ``magic(l1) magic(l2) = magic(l1 + l2)``, so that one walk does for all draws."""
        if type(self) is not ScoreFunction:  # each draw with a baseline of its own
            return None
        check_baseline(cost, self.baseline, samples)
        closed = closed_at(cost, samples)
        draws = [(closed[id(z)].inputs[0], closed[id(z)], surviving_axes(cost, z)) for z in samples]
        return self._weighed(closed[id(cost)], draws)

    def _weighed(self, k: Tensor, draws: list[Draw]) -> Tensor:
        """Return k, the cost with these draws closed, weighed with their log-probabilities."""
        known: dict[Any, Any] = {}  # terms that begin with the same draws share the product of their weights

        def weigh(term: Tensor, numbered: Iterable[tuple[int, Labels]]) -> Tensor:
            w: Any = 1.0
            for n, labels in numbered:
                own, key = (n, labels), (id(w), n, labels)
                if own not in known:
                    known[own] = self.weight(draws[n][0], term, draws[n][1], labels)
                if key not in known:
                    known[key] = w * known[own]
                w = known[key]
            return w * term if self.baseline is None else w * term + (1 - w) * _cut_at_draws(self.baseline)

        def weigh_term(term: Tensor, numbers: list[int]) -> Tensor:
            axes = carried_axes(term) if term.ndim else {}
            return weigh(term, [(n, axes.get(id(draws[n][1]), ())) for n in numbers])

        if self.credit == "downstream":
            return weigh_terms(k, [stopped for _, stopped, _ in draws], weigh_term)
        return weigh(k, [(n, labels) for n, (_, _, labels) in enumerate(draws)])

    def weight(self, z: Sample, cost: Tensor, stopped: Tensor, labels: Labels | None = None) -> Tensor:
        """Return ``magic(log p(stopped))``, for z closed to gradients, along the axes of the cost.

        ``labels`` tell which axis of z each axis of the cost carries; by default the graph does.
        """
        labels = surviving_axes(cost, z) if labels is None else labels
        check_independent(z, labels)
        log_prob = weighable(z).log_density(stopped)
        return exp(zero(self.noted(along(log_prob, labels), z, _credit_note(z, cost, labels, log_prob.shape))))


class LeaveOneOut(ScoreFunction):
    """The score function whose baseline is, for each of n draws along the first axis, the mean cost of the others.

    ``b_i = (sum of K - K_i) / (n - 1)`` does not depend on draw i, and costs nothing. The mean over *all* draws would
    contain the draw itself and shrink the gradient by the factor 1 - 1/n.
    Salimans and Knowles 2014; Mnih and Rezende 2016; Kool, van Hoof and Welling 2019.

    >>> mu = tg.Tensor(2.0, "mu")
    >>> z = tg.Normal(mu, 1.0).sample((10,), rng=tg.noise(0), name="z")
    >>> cost = tg.mean(tg.estimate(z * z, {"z": "leave-one-out"}))
    >>> bool(cost.value == np.mean(z.value**2))
    True
    """

    name: ClassVar[str] = "leave-one-out"

    def __init__(self) -> None:
        super().__init__()

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        if not cost.ndim or cost.shape[0] < 2:
            return "it needs several draws: draw with sample((n,), ...), and average the cost afterwards"
        if not counts_draws(cost, z, len(z.dist.event_shape)):
            return "the first axis of the cost must count the draws, and cost i must depend on draw i alone"
        return JOINED if has_dependent_draws(z) else None

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        weight = self.weight(z, cost, stopped)

        def opened(k: Tensor) -> Tensor:
            others = stop_gradient((sum(k, axis=0, keepdims=True) - k) / (k.shape[0] - 1))
            return weight * k + (1 - weight) * others

        return opened


class SecondDraw(ScoreFunction):
    """The score function with the cost of an independent second draw for a baseline: ``magic (K(z) - K(z')) + K(z')``.

    Valid where the score function is; takes a second copy of the cost. Kool, van Hoof and Welling 2019, for two draws
    of which only the first has a gradient.

    Args:
        rng: a stream from ``tg.noise(seed)`` for the second draw; the cost must be drawn from another one.

    >>> mu = tg.Tensor(2.0, "mu")
    >>> z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    >>> cost = tg.estimate(z**2, {"z": tg.SecondDraw(tg.noise(1))})
    >>> again = tg.Normal(2.0, 1.0).sample(rng=tg.noise(1))
    >>> bool(np.isclose(tg.gradients(cost, mu), (z.value**2 - again**2) * (z.value - 2.0)))
    True
    """

    name: ClassVar[str] = "second-draw"

    def __init__(self, rng: NoiseStream) -> None:
        super().__init__()
        self.rng = rng

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        weight, dist = self.weight(z, cost, stopped), z.dist
        again = dist.sample(z.shape[: z.ndim - len(dist.batch_shape) - len(dist.event_shape)], rng=self.rng)
        return lambda k: weight * k + (1 - weight) * rest.number(stop_gradient(again))


def score_function(cost: Tensor, baseline: Value | None = None, *, credit: str = "auto") -> Tensor:
    """Let the gradient of every random node of the cost go through its log-probability.

    Each element of the cost is weighed with ``exp(l - stop(l))``, which is 1 and has the derivative of l, the
    log-probability of the draws that it depends on. The value stays bit for bit; where no random node is left, the very
    same object is returned.

    Args:
        cost: a Tensor; best with one element for each example or sample, and averaged afterwards.
        baseline: what to subtract from the cost in the gradient, to lower its variance; see ``ScoreFunction``.
        credit: which log-probability weighs which part of the cost; see ``ScoreFunction``.

    Raises:
        TypeError: the cost is no Tensor.
        ValueError: the baseline depends on a draw or has another shape.

    >>> mu = tg.Tensor(2.0, "mu")
    >>> x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    >>> gradient, = tg.gradients(tg.score_function(x * x), [mu])
    >>> bool(np.isclose(gradient, x.value**2 * (x.value - 2.0)))
    True
    """
    return ScoreFunction(baseline, credit=credit)(cost)


def weighable(z: Sample, what: str = "score_function") -> Any:
    """Return the distribution of z, closed to gradients where the derivative of its log-probability would be wrong.

    It is wrong in parameters that move the support, and in all of them if many draws were rounded to its edge: each
    then stands for all numbers that the dtype rounds to it, and has the density of one. The error begins with ``what``.
    """
    dist, paths = z.dist, trees.paths(z.dist)
    parameters = {path for path, leaf in paths if isinstance(leaf, Tensor)}
    reasons = {}
    if parameters and (lost := lost_to_rounding(dist, z.value)):
        reason = (
            f"{what}: {lost}. Use reparameterize(cost), float64 where these are float32, or a distribution on the "
            "real line with the map to this support in the cost"
        )
        reasons = dict.fromkeys(parameters, reason)
    if moving := parameters.intersection(dist.moving()):
        reason = (
            f"{what}: the support of {type(dist).__name__} moves with {', '.join(sorted(moving))}, and the derivative "
            "of its probabilities would lose what happens at its edge; use reparameterize(cost)"
        )
        reasons |= dict.fromkeys(moving, reason)
    new = [refuse_gradient(leaf, reason=reasons[path]) if path in reasons else leaf for path, leaf in paths]
    return trees.replace_leaves(dist, new) if reasons else dist


def _cut_at_draws(baseline: Value) -> Value:
    """Return the baseline with its draws closed: no gradient goes through them, so they need no estimator."""
    if not isinstance(baseline, Tensor):
        return baseline
    return rewrite(baseline, lambda node, inputs: stop_gradient(node) if isinstance(node, Sample) else None)


def _credit_note(z: Sample, cost: Tensor, labels: Labels, shape: tuple[int, ...]) -> str:
    if all(a in labels or n == 1 for a, n in enumerate(shape)):
        return ""  # no draws are joined
    if not cost.ndim:
        other = less_noisy(cost).get(id(z), "a cost for each example")
        return f"one cost for all draws of shape {shape}: unbiased, and noisier than {other}"
    if all(label is None for label in labels):
        price = f"; {price_of_mixing(cost, z)}" if has_examples(cost, z) else ""
        return f"joint log-probability: the cost of one example depends on the draws of others{price}"
    return ""
