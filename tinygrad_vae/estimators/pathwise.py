"""The pathwise estimator, or reparameterization trick: the draw becomes a function of its parameters.

It knows random nodes, and the mechanism of all estimators. For ``z = g(noise, theta)`` with noise that does not depend
on theta, ``d/dtheta E f(z) = E [f'(z) dg/dtheta]``, where f is continuous. A rewrite puts the transform, which sampling
ran on arrays, into the graph; the value of every node stays what it was.

Price 1958 and Bonnet 1964 (Gaussian), Ho and Cao 1983 and Glasserman 1991 (perturbation analysis), Kingma and
Welling 2014, Rezende, Mohamed and Wierstra 2014, Titsias and Lazaro-Gredilla 2014.
"""

from __future__ import annotations

from typing import ClassVar

from ..core import Sample, Tensor, make_node
from ..guard.verdict import live_samples
from .estimate import Estimator, Rest, check_tensor, taken_care


class Pathwise(Estimator):
    """``K(transform(noise, theta))``: one copy of the cost, with the transform of the draw in the graph.

    Valid where the draw has a path and every live way from it to the cost is continuous; ``gradients`` looks at that.
    Where the transform solves ``F(z; theta) = u``, its derivative is the implicit one, ``-(dF/dtheta) / density``.
    Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014; implicit: Figurnov, Mohamed and Mnih 2018.

    >>> a = tg.Tensor(np.full(4, 2.0), "a")
    >>> z = tg.Gamma(a, 1.0).sample(rng=tg.noise(0), name="z")
    >>> cost = tg.sum(tg.estimate(z**2, {"z": "pathwise"}))
    >>> bool(cost.value == np.sum(z.value**2)), tg.gradients(cost, a).shape
    (True, (4,))
    """

    name: ClassVar[str] = "pathwise"
    weighs: ClassVar[bool] = False
    follows_noise: ClassVar[bool] = True

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        return None if z.dist.path is not None else z.dist.why_no_path

    def instead(self, z: Sample) -> Tensor:
        new = self.noted(z.dist.transform(z.noise), z)
        return make_node(z.value, new.op, new.inputs, new.attrs, z.name)  # type: ignore[arg-type]

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        return rest(self.instead(z))


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

    >>> mu = tg.Tensor(2.0, "mu")
    >>> x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    >>> gradient, = tg.gradients(tg.reparameterize(x * x), [mu])
    >>> bool(gradient == 2 * x.value)
    True
    """
    check_tensor(cost)
    samples = live_samples(cost)
    return taken_care(cost, {id(z.noise): Pathwise() for z in samples if z.dist.path is not None}, samples)
