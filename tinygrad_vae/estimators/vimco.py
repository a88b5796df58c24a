"""VIMCO: the score function of a bound on several draws, with a baseline for each draw made of all others.

``L = log (1/n sum_k w_k)`` is one cost of n draws. The score function would weigh the log-probability of each draw with
all of it. VIMCO weighs it with the difference that this draw made, which the other draws tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ..core import Sample, Tensor, Value, namespace, topological_order, value_of
from ..guard.axes import along, counts_draws, surviving_axes
from ..guard.paths import downstream, remembered
from ..ops import add, expand_dims, logsumexp, negative, subtract, sum, where
from ..ops.reductions import reduced
from .elements import JOINED, has_dependent_draws
from .estimator import Estimator, Rest, slope, zero
from .score_function import weighable


class VIMCO(Estimator):
    """For ``logsumexp(log_weights, axis=0)`` or its negative, plus any terms: ``(L - L_-k) dlog q(z_k)``.

    ``L_-k`` is L with the mean of the other log-weights in the place of the k-th, so that it does not depend on draw k.
    The derivative of L at given draws is added. Mnih and Rezende 2016, equations 7 to 10.

    >>> logits = tg.Tensor(np.zeros(4), "logits")
    >>> b = tg.Independent(tg.Bernoulli(logits=logits), 1).sample((5,), rng=tg.noise(0), name="b")
    >>> log_weights = -tg.sum((b - 0.3) ** 2, axis=1)
    >>> bound = tg.estimate(tg.logsumexp(log_weights, axis=0) - np.log(5), {"b": "vimco"})
    >>> tg.gradients(bound, logits).shape
    (4,)
    """

    name: ClassVar[str] = "vimco"

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        found = _log_weights(z, cost)
        if found is None:
            return "the cost must be logsumexp(log_weights, axis=0), its negative, or one of them and something added"
        if found[0].shape[0] < 2 or not counts_draws(found[0], z, len(z.dist.event_shape)):
            return "the first axis of the log-weights must count the draws, at least two, and each depend on its own"
        return JOINED if has_dependent_draws(z) else None

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        log_weights, sign = _log_weights(z, cost)  # type: ignore[misc]
        n = log_weights.shape[0]
        log_prob = along(weighable(z).log_density(stopped), surviving_axes(log_weights, z))
        others = (sum(log_weights, axis=0) - log_weights) / (n - 1)
        own = namespace(value_of(log_weights)).eye(n, dtype=bool).reshape((n, n) + (1,) * (log_weights.ndim - 1))
        rows = where(own, expand_dims(others, axis=1), expand_dims(log_weights, axis=0))
        added: Value = sign * (logsumexp(log_weights, axis=0) - logsumexp(rows, axis=1))
        path = slope(zero(self.noted(log_prob, z)), added, log_weights)
        return lambda k: k + sum(path, axis=0)


@remembered
def _adds_a_bound(cost: Tensor) -> bool:
    """Return whether a logsumexp is among the terms that the cost is added up from."""
    terms = {id(cost)}
    for node in reversed(topological_order([cost])):
        if id(node) in terms and node.op is logsumexp:
            return True
        if id(node) in terms and node.op in (add, subtract, negative):
            terms.update(map(id, node.inputs))
    return False


def _log_weights(z: Sample, cost: Tensor) -> tuple[Tensor, float] | None:
    """Return the log-weights that the cost is a logsumexp of, and its sign, or ``None`` where it is none."""
    if not _adds_a_bound(cost):
        return None
    below = {id(z), *(id(node) for node, _ in downstream(topological_order([cost]), z, ends=()))}
    node, sign = cost, 1.0
    while node.op is not None and id(node) in below:
        ways = [i for i, x in enumerate(node.inputs) if id(x) in below]
        if node.op is logsumexp:
            x = node.inputs[0]
            found = reduced(node.attrs["axis"], x.ndim) == (0,) and not node.attrs["keepdims"]
            return (x, sign) if found and x.shape[1:] == cost.shape else None
        if len(ways) != 1 or node.op not in (add, subtract, negative):
            return None
        if node.op is negative or (node.op is subtract and ways[0] == 1):
            sign = -sign
        node = node.inputs[ways[0]]
    return None
