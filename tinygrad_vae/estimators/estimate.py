"""``estimate``: an estimator for each random node, by node, by name, or by trying them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import Sample, Tensor
from ..guard.names import name_of_draw
from ..guard.paths import live_samples
from .compare import choose
from .estimator import Estimator, check_tensor, estimator_named, taken_care


def estimate(
    cost: Tensor,
    choices: Mapping[Tensor | str, Estimator | str] | None = None,
    *,
    default: Estimator | str | None = None,
) -> Tensor:
    """Take care of random nodes, each with the estimator that was chosen for it.

    The value of the cost stays bit for bit, unless an estimator says otherwise; where there is nothing to do, the very
    same object is returned.

    Args:
        cost: a Tensor of any shape.
        choices: for a random node, or its name, an estimator or the name of one. They go before the choices that were
            given to ``sample(estimator=...)``.
        default: for all other random nodes; without it they stay blocked. ``"auto"`` tries the cost out with a
            hundred draws, and takes the unbiased estimator with the least variance for the size of its graph;
            ``explain`` says what was found. Choose so once, not in every step.

    Raises:
        TypeError, ValueError: the cost is no Tensor, or a choice names no random node or no estimator.
        InvalidGradientError: an estimator would be wrong at its node; the reason is in the message.

    >>> p, mu = tg.Tensor(0.3, "p"), tg.Tensor(0.5, "mu")
    >>> rng = tg.noise(0)
    >>> b = tg.Bernoulli(probs=p).sample(rng=rng, name="b", estimator="enumeration")
    >>> x = tg.Normal(mu + b, 1.0).sample(rng=rng, name="x")
    >>> cost = tg.estimate(x**2 * (1 + b), {"x": "pathwise"})
    """
    check_tensor(cost)
    if choices is not None and not isinstance(choices, Mapping):
        raise TypeError(
            f"estimate: choices is a mapping from random nodes to estimators, found {choices!r}; "
            f"write default={choices!r} to use it for all of them"
        )
    samples = live_samples(cost)
    by_key: dict[Any, Sample] = {id(z): z for z in samples} | {z.name: z for z in samples if z.name}
    chosen = {id(z.noise): _estimator(z.attrs["estimator"]) for z in samples if z.attrs["estimator"] is not None}
    for key, choice in (choices or {}).items():
        z = by_key.get(key if isinstance(key, str) else id(key))
        if z is None:
            names = ", ".join(name_of_draw(s) for s in samples) or "none"
            raise ValueError(f"estimate: no random node {key!r} blocks the gradient of the cost; these do: {names}")
        chosen[id(z.noise)] = _estimator(choice)
    left = [z for z in samples if id(z.noise) not in chosen]
    if left and default == "auto":
        chosen |= choose(cost, chosen)
    elif default not in (None, "auto"):
        chosen |= dict.fromkeys((id(z.noise) for z in left), _estimator(default))
    return taken_care(cost, chosen, samples)


def _estimator(choice: Estimator | str) -> Estimator:
    if isinstance(choice, Estimator):
        return choice
    if isinstance(choice, type) and issubclass(choice, Estimator):
        raise TypeError(f"estimate: found the class {choice.__name__}; pass an instance, {choice.__name__}(...)")
    kind = estimator_named(choice, "estimate")
    if kind.takes_noise:
        raise ValueError(
            f"estimate: {choice} draws noise of its own, other noise in every step; write "
            f"tg.{kind.__name__}(rng=...) for its name, with a stream from tg.noise(seed)"
        )
    return kind()
