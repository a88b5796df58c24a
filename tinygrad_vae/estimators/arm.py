"""ARM, DisARM and ARSM: the cost at two draws that share their noise, for tosses and for choices.

They give ``K(b) + zero(logit) * w * (K(b) - K(b~))``: the value of the cost, and a derivative made of differences of
costs. No derivative of the cost is needed.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from ..core import Sample, Tensor, Value, trees
from ..distributions import Bernoulli, Categorical, OneHotCategorical
from ..ops import abs, astype, less, log, not_equal, sigmoid, stop_gradient, sum, take
from .elements import aligned
from .estimator import LARGEST, Estimator, Rest, slope, with_slopes, zero


class ARM(Estimator):
    """For Bernoulli draws of logit l: ``(u - 1/2) (K(1[u > sigma(-l)]) - K(1[u < sigma(l)]))`` estimates dE K / dl.

    The same uniform u makes the draw and its mirror image. It takes two copies of the cost, however many draws there
    are. Valid for every cost; first derivatives only. Yin and Zhou 2019.

    >>> logit = tg.Tensor(0.3, "logit")
    >>> b = tg.Bernoulli(logits=logit).sample(rng=tg.noise(0), name="b")
    >>> cost = tg.estimate((b - 0.45) ** 2, {"b": "arm"})
    >>> bool(cost.value == (b.value - 0.45) ** 2), tg.gradients(cost, logit).shape
    (True, ())
    """

    name: ClassVar[str] = "arm"

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        dist = z.dist.element
        choices = "; for choices there is arsm" if isinstance(dist, (Categorical, OneHotCategorical)) else ""
        found = f"it is for Bernoulli draws, found {type(dist).__name__}{choices}"
        return None if isinstance(dist, Bernoulli) else found

    def weights(self, u: Any, b: Any, mirror: Any, logits: Any) -> Any:
        """Return w in ``zero(logits) * w * (K(b) - K(mirror))``."""
        return u - 0.5

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        logits: Any = z.dist.element.as_logits
        u, l = stop_gradient(z.noise), stop_gradient(logits)
        mirror = astype(less(u, sigmoid(l)), z.dtype)
        path = self.noted(aligned(zero(logits) * self.weights(u, stopped, mirror, l), z, cost), z)
        return lambda k: k + slope(path, k - rest.number(mirror), k)


class DisARM(ARM):
    """ARM with its uniform averaged out, given the two draws: never noisier.

    ``w = 1/2 (-1)^mirror 1[b != mirror] sigma(|l|)``. Dong, Mnih and Tucker 2020; Yin et al. 2020.

    >>> logits = tg.Tensor(np.zeros(1000), "logits")
    >>> b = tg.Bernoulli(logits=logits).sample(rng=tg.noise(0), name="b")
    >>> disarm, arm = (tg.gradients(tg.sum(e(b**2 * 3.0)), logits) for e in (tg.DisARM(), tg.ARM()))
    >>> bool(disarm.var() <= arm.var())
    True
    """

    name: ClassVar[str] = "disarm"

    def weights(self, u: Any, b: Any, mirror: Any, logits: Any) -> Any:
        return (0.5 - mirror) * astype(not_equal(b, mirror), mirror.dtype) * sigmoid(abs(logits))


class ARSM(Estimator):
    """For choices among K classes of logits l: ARM, with the noise of two classes swapped instead of mirrored.

    A draw is the class of the largest ``l_k - log e_k``, with exponential numbers e. Let K_ij be the cost at the draw
    that e with e_i and e_j swapped gives, K_ii the cost at the draw itself, and ``w_j = 1 - K e_j / sum(e)``. Then
    ``1/K sum_j (K_ij - 1/K sum_m K_mj) w_j`` estimates dE K / dl_i. It takes K (K - 1) / 2 + 1 copies of the cost,
    however many choices there are, since all of them are swapped at once. For Categorical and OneHotCategorical, every
    cost, and first derivatives only. Yin, Yue and Zhou 2019 (augment, REINFORCE, swap, merge).

    >>> logits = tg.Tensor(np.zeros(3), "logits")
    >>> k = tg.Categorical(logits=logits).sample(rng=tg.noise(0), name="k")
    >>> cost = tg.estimate(tg.take(np.array([1.0, 4.0, 9.0]), k, axis=0), {"k": "arsm"})
    >>> tg.gradients(cost, logits).shape
    (3,)
    """

    name: ClassVar[str] = "arsm"

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        dist = z.dist.element
        if not isinstance(dist, (Categorical, OneHotCategorical)):
            return f"it is for draws of Categorical and OneHotCategorical, found {type(dist).__name__}"
        classes = dist.classes
        copies = classes * (classes - 1) // 2 + 1
        return f"{classes} classes would take {copies} copies of the cost" if copies > LARGEST else None

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        dist: Any = z.dist.element
        logits, classes = dist.as_logits, dist.classes
        closed, u = trees.map_leaves(stop_gradient, dist), stop_gradient(z.noise)
        share = log(u) / sum(log(u), axis=-1, keepdims=True)

        def slopes(k: Tensor) -> Iterator[tuple[Value, Value]]:
            swapped = {(i, i): k for i in range(classes)}
            for i, j in itertools.combinations(range(classes), 2):
                order = np.arange(classes)
                order[[i, j]] = j, i
                swapped[i, j] = swapped[j, i] = rest.number(closed.transform(take(u, order, axis=-1)))
            for j in range(classes):
                mean = functools.reduce(operator.add, [swapped[i, j] for i in range(classes)], 0.0) / classes
                for i in range(classes):
                    path = zero(logits[..., i]) * ((1 / classes) - share[..., j])
                    yield self.noted(aligned(path, z, cost), z), swapped[i, j] - mean

        return lambda k: with_slopes(k, slopes(k))
