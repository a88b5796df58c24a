"""``check_estimator(Mine)`` is the whole test of a gradient estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..calculus import wrap
from ..core import GradientRefusedError, Tensor, gradients, noise, trees
from ..distributions import Bernoulli, Exponential, Gamma, Independent, Normal, OneHotCategorical, Poisson, Uniform
from ..distributions.distribution import Distribution
from ..estimators import Estimator
from ..estimators.audit import audit
from ..estimators.compare import Program
from ..guard.report import explain
from ..guard.verdict import BiasedGradientWarning
from ..ops import astype, exp, sum, where
from .derivatives import CheckError, require
from .distributions import a_copy_for_each_draw, check_gradients


class _Trial(NamedTuple):
    """A cost of one number for each draw, its parameters, a copy for each, and the gradient of its expectation."""

    what: str
    cost: Tensor
    parameters: Any
    truth: Any


def check_estimator(
    kind: type[Estimator] | Estimator, *, program: Program | None = None, at: Any = None, seed: int = 0
) -> None:
    """Check everything that the declaration of an estimator promises.

    It is tried on draws of several distributions, in costs that are smooth, that jump, and that mix several draws,
    alone and below another draw. Wherever it raises no objection:

    - the cost keeps its value bit for bit, unless ``keeps_value`` is false, and the old graph is left alone;
    - no random node is left, and ``explain`` names the estimator;
    - the gradient is the gradient of the expectation, within its standard errors (a hundredth if there is a
      ``caveat``); or ``gradients`` refuses it; or ``biased`` says why it is not, and ``gradients`` warns.

    Args:
        kind: a subclass of ``Estimator``, of which ``example(rng)`` makes one, or an instance.
        program, at: a cost of your own, ``f(parameters, rng)``, and the parameters, for an estimator that is valid for
            special costs; there it is held against the score function.
        seed: of the draws.

    Raises:
        TypeError: it is none.
        CheckError: says what was promised and what was found; or that it was valid nowhere.

    >>> tg.check_estimator(tg.DisARM)
    """
    if isinstance(kind, type) and issubclass(kind, Estimator):
        estimator = kind.example(noise(seed).at("estimator"))
    elif isinstance(kind, Estimator):
        estimator = kind
    else:
        raise TypeError(f"check_estimator takes a subclass of Estimator or an instance of one, found {kind!r}")
    accepted, reasons = False, {}
    for trial in _trials(seed):
        try:
            _check_trial(estimator, trial)
        except GradientRefusedError as error:
            reasons[str(error).splitlines()[-1].partition("): ")[2]] = trial.what
        else:
            accepted = True
    if program is not None:
        result = audit(program, at, estimator, "score-function", rng=noise(seed).at("program"), runs=400)
        if not result.passed and not estimator.biased:
            raise CheckError(f"{estimator.name} on the program: {result}")
    elif not accepted:
        said = "\n".join(f"  {what}: {reason}" for reason, what in reasons.items())
        raise CheckError(f"{estimator.name} is valid nowhere here; give program= and at= where it is. It said\n{said}")


def _check_trial(estimator: Estimator, trial: _Trial) -> None:
    before = trial.cost.value.copy()
    new = estimator(trial.cost)
    where_ = f"{estimator.name} on {trial.what}"
    require(
        not estimator.keeps_value or new.value.tobytes() == before.tobytes(),
        f"{where_}: the value of the cost has changed; put keeps_value = False where that is meant",
    )
    require(trial.cost.value.tobytes() == before.tobytes(), f"{where_}: the old graph has changed")
    report = explain(sum(new), trial.parameters)
    named = [node.estimator for node in report.nodes]
    left = f"{where_}: a random node is left; close it, tg.stop_gradient(z), or replace it\n{report}"
    require(None not in named, left)
    require(
        estimator.name in named,
        f"{where_}: explain does not name it; multiply by self.weight(z, cost, draw), or pass what carries the "
        "gradient through self.noted(x, z)",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = gradients(sum(new), trial.parameters)
    if estimator.biased:
        warned = any(issubclass(w.category, BiasedGradientWarning) for w in caught)
        require(warned, f"{where_}: it is declared biased, and gradients does not warn")
    else:
        rounding, advice = 0.01 if estimator.caveat else 1e-9, "the estimator is biased"
        check_gradients(f"{where_}, the gradient in ", found, trial.truth, rounding=rounding, advice=advice)


def _trials(seed: int) -> Iterator[_Trial]:
    distributions: list[Distribution] = [
        Normal(np.array(0.6), np.array(0.8)),
        Exponential(np.array(1.4)),
        Gamma(np.array(2.2), np.array(1.3)),
        Uniform(np.array(0.2), np.array(1.7)),
        Poisson(np.array(1.5)),
        Bernoulli(logits=np.array(0.4)),
    ]
    square = (lambda z: z * z, lambda d: d.mean * d.mean + d.variance)
    of_two = (lambda z: sum(z, axis=-1) * sum(z, axis=-1), lambda d: sum(d.mean) * sum(d.mean) + sum(d.variance))
    above = (lambda z: where(z > 0.7, 1.0, 0.0), lambda d: 1 - d.cdf(0.7))
    for dist in distributions:
        pair = Independent(trees.map_leaves(lambda x: np.stack([x, 0.9 * x]), dist), 1)
        yield _trial(dist, "the square of a draw", seed, *square)
        yield _trial(pair, "the square of a sum of two draws", seed, *of_two)
        if not isinstance(dist, Bernoulli):
            yield _trial(dist, "whether a draw is above 0.7", seed, *above)
    worth = np.array([0.5, -1.0, 2.0])
    choice = OneHotCategorical(logits=np.array([0.3, -0.2, 0.6]))
    worth_of = (lambda z: exp(0.5 * sum(z * worth, axis=-1)), lambda d: sum(d.mean * np.exp(0.5 * worth)))
    yield _trial(choice, "the worth of a choice", seed, *worth_of)
    yield _nested(seed)


def _trial(dist: Any, what: str, seed: int, cost: Callable[[Any], Any], expectation: Callable[[Any], Any]) -> _Trial:
    copies, exact = a_copy_for_each_draw(dist), wrap(dist)
    z = copies.sample(rng=noise(seed).at("trial"), name="z")
    truth = gradients(expectation(exact), exact)
    return _Trial(f"{what} of {dist.family}", astype(cost(z), np.float64), copies, truth)


def _nested(seed: int) -> _Trial:
    """x^2 (1 + b) with b ~ Bernoulli(p), x ~ N(mu + b, 1): the smallest graph that breaks a careless nesting."""

    def drawn(p: Any, mu: Any) -> Any:
        rng = noise(seed).at("nested")
        b = Bernoulli(probs=p).sample(rng=rng, name="b")
        x = Normal(mu + b, 1.0).sample(rng=rng, name="x")
        return x * x * (1 + b)

    at = {"p": np.array(0.3), "mu": np.array(0.5)}
    copies, exact = a_copy_for_each_draw(at), wrap(at)
    p, mu = exact["p"], exact["mu"]
    expectation = (1 - p) * (mu * mu + 1) + 2 * p * ((mu + 1) * (mu + 1) + 1)
    return _Trial("a draw below another draw", drawn(**copies), copies, gradients(expectation, exact))
