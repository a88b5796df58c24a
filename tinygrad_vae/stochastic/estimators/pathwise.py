"""The pathwise estimator, or reparameterization trick: the draw becomes a function of its parameters.

For ``z = g(noise, theta)`` with noise that does not depend on theta,
``d/dtheta E f(z) = E [f'(z) dg/dtheta]``, where f is continuous. A rewrite puts the transform, which sampling ran on
arrays, into the graph; the value of every node stays what it was.

Price 1958 and Bonnet 1964 (Gaussian), Ho and Cao 1983 and Glasserman 1991 (perturbation analysis), Kingma and
Welling 2014, Rezende, Mohamed and Wierstra 2014, Titsias and Lazaro-Gredilla 2014.
"""

from __future__ import annotations

from typing import Any

from ... import trees
from ...graph import Tensor, make_node, rewrite
from ..distribution import law_in_words, opened
from ..nodes import PATHWISE, Drawn, Sample
from ..verdict import live_samples


def reparameterize(cost: Tensor) -> Tensor:
    """Open every random node of the cost that has a differentiable transform.

    The new graph has the same values bit for bit; the old one is left alone. Draws without a transform that can be
    differentiated (discrete ones) stay blocked: ``score_function`` of the result takes care of them.

    Args:
        cost: a Tensor of any shape.

    Returns:
        The cost, with the transform of each draw in the graph; the very same object where there is nothing to open.

    Raises:
        TypeError: the cost is no Tensor.

    >>> import tinygrad_vae as tg
    >>> mu = tg.Tensor(2.0, "mu")
    >>> x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    >>> gradient, = tg.gradients(tg.reparameterize(x * x), [mu])
    >>> bool(gradient == 2 * x.value)
    True
    """
    to_open = {id(z) for z in live_samples(_tensor(cost)) if z.dist.path is not None}
    if not to_open:
        return cost

    def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        if not isinstance(node, Sample) or id(node) not in to_open:
            return None
        noise, *parameters = inputs
        dist = trees.replace_leaves(node.attrs["dist"], parameters)
        new = opened(dist, noise, Drawn(node.name, law_in_words(node.dist), node.place, PATHWISE))
        return make_node(node.value, new.op, new.inputs, new.attrs, node.name)  # type: ignore[arg-type]

    return rewrite(cost, rule)


def _tensor(cost: Any) -> Tensor:
    if not isinstance(cost, Tensor):
        raise TypeError(f"an estimator rewrites the graph of a Tensor, found an object of type {type(cost).__name__}")
    return cost
