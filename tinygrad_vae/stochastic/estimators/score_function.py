"""The score function estimator, or REINFORCE: the gradient goes through the probability of the draw.

``d/dtheta E f(z) = E [(f(z) - b) d log p(z; theta) / dtheta]`` for any baseline b that does not depend on z, where the
support of p does not move with theta. f need not be continuous, nor z.

Aleksandrov, Sysoev and Shemeneva 1968, Rubinstein 1969, Glynn 1990, Williams 1992. The form that is right at every
order, a factor of value 1 with the derivative of log p: Foerster et al. 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import trees
from ...arrays import Value
from ...graph import Tensor, make_node, rewrite, value_of
from ...ops import exp, stop_gradient, surrogate
from ..credit import aligned_log_prob, mixing_op, surviving_axes
from ..distribution import law_in_words
from ..nodes import SCORE_FUNCTION, Drawn, Noise, Sample, name_of_draw, taken_care_of
from ..verdict import depends_on, live_samples, refuse_gradient
from .pathwise import _tensor


def score_function(cost: Tensor, baseline: Value | None = None, *, credit: str = "auto") -> Tensor:
    """Let the gradient of every random node of the cost go through its log-probability.

    The new graph has the same value bit for bit; the old one is left alone. Each element of the cost is weighed with
    ``exp(l - stop(l))``, whose value is 1 and whose derivative is that of l, the log-probability of the draws
    that it depends on.

    Args:
        cost: a Tensor; best with one element for each example or sample, and averaged afterwards.
        baseline: what to subtract from the cost in the gradient, to lower its variance: a number, or an array or
            Tensor that broadcasts to the cost. It must not depend on the draws.
        credit: ``"auto"`` weighs each element of the cost with the log-probability of its own draws where the graph
            shows that it depends on no others, and with that of all draws where it does not; ``"example"`` insists on
            the former, ``"joint"`` on the latter.

    Returns:
        The cost with the new gradient; the very same object where no random node is left.

    Raises:
        TypeError: the cost is no Tensor.
        ValueError: the baseline depends on a draw or has another shape; or ``credit="example"`` would be wrong.

    >>> import tinygrad_vae as tg
    >>> mu = tg.Tensor(2.0, "mu")
    >>> x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    >>> gradient, = tg.gradients(tg.score_function(x * x), [mu])
    >>> bool(np.isclose(gradient, x.value**2 * (x.value - 2.0)))
    True
    """
    if credit not in ("auto", "example", "joint"):
        raise ValueError(f'score_function: credit must be "auto", "example" or "joint", found {credit!r}')
    samples = live_samples(_tensor(cost))
    if not samples:
        return cost
    _check_baseline(cost, baseline, samples)
    _check_independent(samples)
    log_probs: dict[int, Tensor] = {}

    def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        if not any(node is z for z in samples):
            return None
        z = make_node(node.value, node.op, inputs, node.attrs, node.name, Sample)  # type: ignore[arg-type]
        stopped = stop_gradient(z)
        log_probs[id(node)] = _without_moving(z).log_density(stopped)
        return stopped

    path = rewrite(cost, rule)
    total: Any = 0.0
    for z in samples:
        labels = (None,) * cost.ndim if credit == "joint" else surviving_axes(cost, z)
        if credit == "example" and (cost.ndim == 0 or labels[0] is None):
            raise ValueError(
                'score_function(credit="example"): the cost of one example depends on the draws of others '
                f"({mixing_op(cost, z) or 'an op'} mixes the axis of the examples), so that its own log-probability "
                'is not enough; use credit="auto" or "joint"'
            )
        log_prob, gone = aligned_log_prob(log_probs[id(z)], labels)
        note = _credit_note(cost, labels, log_probs[id(z)].shape, gone)
        total = total + taken_care_of(
            log_prob, drawn=Drawn(z.name, law_in_words(z.dist), z.place, SCORE_FUNCTION, note)
        )
    weight = exp(total - stop_gradient(total))
    weighed = weight * path if baseline is None else weight * path + (1 - weight) * baseline
    return surrogate(path, weighed)


def _without_moving(z: Tensor) -> Any:
    """Return the law of z with every parameter that moves its support closed to gradients."""
    assert isinstance(z, Sample)
    dist = z.dist
    moving = set(dist.moving())
    if not moving:
        return dist
    reason = (
        f"score_function: the support of {type(dist).__name__} moves with {', '.join(sorted(moving))}, and the score "
        "function would lose what happens at its edge; use reparameterize(cost)"
    )
    new = [
        refuse_gradient(leaf, reason=reason) if path in moving and isinstance(leaf, Tensor) else leaf
        for path, leaf in trees.paths(dist)
    ]
    return trees.replace_leaves(dist, new)


def _check_baseline(cost: Tensor, baseline: Value | None, samples: list[Sample]) -> None:
    if baseline is None:
        return
    shape = np.shape(value_of(baseline))
    try:
        fits = np.broadcast_shapes(shape, cost.shape) == cost.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"score_function: the baseline has shape {shape}, which does not broadcast to the cost's, {cost.shape}"
        )
    for z in samples:
        if isinstance(baseline, Tensor) and depends_on(baseline, z.inputs[0]):
            raise ValueError(
                f"score_function: the baseline depends on {name_of_draw(z.name, z.place)} ({z.place}), the draw whose "
                "gradient it is to steady. That biases the gradient: the mean over a batch of K draws shrinks it by "
                "the factor 1 - 1/K. Use a number from earlier steps, read before it is updated, or a function of "
                "the inputs alone"
            )


def _check_independent(samples: list[Sample]) -> None:
    """Refuse draws from one noise, such as an antithetic pair: their joint probability is not the product."""
    drawn: dict[object, Sample] = {}
    for z in samples:
        other = drawn.setdefault(z.noise.origin, z) if isinstance(z.noise, Noise) else z
        if other is not z:
            first, second = name_of_draw(other.name, other.place), name_of_draw(z.name, z.place)
            raise ValueError(
                f"score_function: {first} ({other.place}) and {second} ({z.place}) were made from one noise, so that "
                "they are not independent; apply score_function to the cost of each, and then combine the results"
            )


def _credit_note(cost: Tensor, labels: tuple[int | None, ...], shape: tuple[int, ...], gone: list[int]) -> str:
    summed = [shape[a] for a in gone if shape[a] > 1]
    if not cost.ndim and summed:
        return f"one cost for all draws of shape {shape}: unbiased, and noisier than a cost for each example"
    if cost.ndim and all(label is None for label in labels) and summed:
        return "joint log-probability: the cost of one example depends on the draws of others"
    return ""
