"""Checks of what a distribution and an estimator promise: ``check_distribution(Law)`` and ``check_estimator(Kind)``.

It knows the declarations of laws and estimators, and how to measure them. For whoever declares one: each is its whole
test. They compare with truths that follow from other parts of the declarations, by standard errors from the same draws
and a fixed seed.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..calculus import wrap
from ..core import Array, Tensor, gradients, noise, trees
from ..distributions import Bernoulli, Exponential, Gamma, Independent, Normal, OneHotCategorical, Poisson, Uniform
from ..distributions.distribution import Distribution, domain_of, parameters
from ..estimators import Estimator
from ..estimators.compare import ALLOWED, Program, audit
from ..guard.verdict import BiasedGradientWarning, GradientRefusedError, explain
from ..ops import astype, exp, sum, where
from .ops import CheckError, check_vjp

DRAWS = 4000
"""How many draws a statistical check takes."""


def _check_agrees(what: str, draws: Array, truth: Array, rounding: float = 1e-9) -> None:
    """Raise where the mean of draws over their first axis is further from the truth than its standard errors allow."""
    draws, truth = np.asarray(draws, np.float64), np.asarray(truth, np.float64)
    off = np.abs(draws.mean(0) - truth)
    allowed = ALLOWED * draws.std(0, ddof=1) / math.sqrt(len(draws)) + rounding * (1 + np.abs(truth))
    if not np.all(off <= allowed):
        k = np.unravel_index(int(np.argmax(np.where(np.isfinite(off), off / allowed, np.inf))), off.shape)
        raise CheckError(
            f"{what}: the mean of {len(draws)} draws is {draws.mean(0)[k]:.6g}, and {truth[k]:.6g} was expected; "
            f"{off[k] / allowed[k] * ALLOWED:.1f} standard errors lie between them, {ALLOWED} are allowed"
        )


# -------------------------------------------------------------------------------------- distributions


def check_distribution(law: type[Distribution], *, seed: int = 0) -> None:
    """Check everything that the declaration of a distribution promises.

    - Draws, log-probabilities and moments have the shapes of batch and event, and float32 stays float32.
    - A draw is the transform of its noise bit for bit, lies in the support, and has a finite log-probability.
    - The density is that of the draws: the score ``dlog p / dtheta`` has mean 0; mean, variance and entropy are those
      of the draws; the cdf is uniform on them, ``icdf`` undoes it, and the density is its slope.
    - The gradient of ``E z^2`` by the path, where there is one, is that of ``mean^2 + variance``.
    - The log-density has the right derivative in every parameter, and a parameter outside its domain is refused.

    Moments, entropy, cdf and icdf that are not declared are left out. Parameters come from ``law.example(rng)``.

    Args:
        law: a subclass of ``Distribution``.
        seed: of the parameters and the draws.

    Raises:
        TypeError: it is none.
        CheckError: says what was promised and what was found.

    >>> tg.check_distribution(tg.Laplace)
    """
    if not (isinstance(law, type) and issubclass(law, Distribution)):
        raise TypeError(f"check_distribution takes a subclass of Distribution, found {law!r}")
    rng = np.random.default_rng(seed)
    for batch in ((), (2,), (3, 2)):
        _check_shapes(law.example(rng, batch), batch)
    d = law.example(rng)
    _check_draws(d, seed)
    _check_density(d, seed)
    _check_path(d, seed)
    _check_refusals(law, rng)


def _name(d: Any) -> str:
    return type(d).__name__


def _declared(d: Distribution, name: str, *args: Any) -> Any:
    """Return what a method or property gives, or ``None`` where it is not declared."""
    try:
        found = getattr(d, name)
        return found(*args) if callable(found) else found
    except NotImplementedError:
        return None


def _check_shapes(d: Distribution, batch: tuple[int, ...]) -> None:
    event = d.event_shape
    for dtype in (np.float64, np.float32):
        cast: Distribution = trees.map_leaves(lambda x, dtype=dtype: np.asarray(x).astype(dtype), d)
        x = cast.sample((5,), rng=noise(0))
        found = {
            "batch_shape": (np.empty(cast.batch_shape, dtype), batch),
            "a draw": (x, (5, *batch, *event)),
            "log_prob": (cast.log_prob(x), (5, *batch)),
            "mean": (_declared(cast, "mean"), (*batch, *event)),
            "variance": (_declared(cast, "variance"), (*batch, *event)),
            "entropy": (_declared(cast, "entropy"), batch),
        }
        for what, (value, shape) in found.items():
            if value is None:
                continue
            if np.shape(value) != shape:
                raise CheckError(f"{_name(d)}: {what} has shape {np.shape(value)}, expected {shape}")
            if np.asarray(value).dtype.kind == "f" and np.asarray(value).dtype != dtype:
                raise CheckError(
                    f"{_name(d)}: {what} is {np.asarray(value).dtype} for parameters of {np.dtype(dtype)}; look for an "
                    "array of another dtype in its formula (numbers of Python keep the dtype)"
                )


def _check_draws(d: Distribution, seed: int) -> None:
    x = d.sample((DRAWS,), rng=noise(seed))
    z = wrap(d).sample((DRAWS,), rng=noise(seed))
    if z.value.tobytes() != x.tobytes() or np.asarray(d.transform(z.noise.value)).tobytes() != x.tobytes():
        raise CheckError(f"{_name(d)}: a recorded draw is another one than on arrays, from the same noise")
    if d.path is not None and np.asarray(d.rsample((DRAWS,), rng=noise(seed))).tobytes() != x.tobytes():
        raise CheckError(f"{_name(d)}: rsample gives other numbers than sample, from the same noise")
    if not bool(np.all(d.support.contains(x))):
        raise CheckError(f"{_name(d)}: a draw lies outside its support, {d.support}")
    log_prob = d.log_prob(x)
    if not np.all(np.isfinite(log_prob)):
        raise CheckError(f"{_name(d)}: the log-probability of a draw is not finite")
    mean, variance, entropy = (_declared(d, name) for name in ("mean", "variance", "entropy"))
    if mean is not None and np.all(np.isfinite(mean)):
        _check_agrees(f"{_name(d)}: mean", x, mean)
        if variance is not None and np.all(np.isfinite(variance)):
            _check_agrees(f"{_name(d)}: variance", (x - mean) ** 2, variance)
    if entropy is not None:
        _check_agrees(f"{_name(d)}: entropy", -log_prob, entropy)


def _check_density(d: Distribution, seed: int) -> None:
    whole = {f.name for f in parameters(d) if domain_of(d, f).discrete}
    fixed = whole | set(d.moving())
    names = [path for path, _ in trees.paths(d)]
    x = d.sample((DRAWS,), rng=noise(seed))
    copies = wrap(trees.map_leaves(lambda leaf: np.broadcast_to(leaf, (DRAWS, *np.shape(leaf))).copy(), d))
    scores = trees.leaves(gradients(sum(copies.log_density(x)), copies))
    for name, score in zip(names, scores, strict=True):
        if name not in fixed:
            _check_agrees(f"{_name(d)}: the score in {name}, whose mean is 0", score, np.zeros(score.shape[1:]))
    few = d.sample((5,), rng=noise(seed))
    for k, (name, leaf) in enumerate(trees.paths(d)):
        if name not in fixed:
            rest = trees.leaves(d)
            try:
                check_vjp(lambda x, k=k, rest=rest: _with_leaf(d, rest, k, x).log_density(few), leaf)
            except CheckError as error:
                raise CheckError(f"{_name(d)}: log_density in {name}: {error}") from None
    if d.event_shape or d.path is None or d.support.discrete or _declared(d, "cdf", few) is None:
        return
    u = np.sort(np.asarray(d.cdf(x)))
    distance = max(np.max(np.arange(1, DRAWS + 1) / DRAWS - u), np.max(u - np.arange(DRAWS) / DRAWS))
    if distance > math.sqrt(-0.5 * math.log(0.5 * 6.8e-6) / DRAWS):  # as unlikely as 4.5 standard errors
        raise CheckError(f"{_name(d)}: the draws do not follow the cdf; it is {distance:.3f} away from theirs")
    at = Tensor(few)
    slope = gradients(sum(d.cdf(at)), at)
    if not np.allclose(slope, np.exp(d.log_density(few)), rtol=1e-6):
        raise CheckError(f"{_name(d)}: the slope of the cdf is {slope}, the density {np.exp(d.log_density(few))}")
    p = np.asarray(d.cdf(few))
    if _declared(d, "icdf", p) is not None and not np.allclose(d.icdf(p), few, rtol=1e-6, atol=1e-9):
        raise CheckError(f"{_name(d)}: icdf(cdf(x)) is {d.icdf(p)} for x = {few}")


def _with_leaf(d: Distribution, leaves: list[Any], k: int, x: Any) -> Distribution:
    return trees.replace_leaves(d, [*leaves[:k], x, *leaves[k + 1 :]])


def _check_path(d: Distribution, seed: int) -> None:
    mean, variance = _declared(d, "mean"), _declared(d, "variance")
    if d.path is None or mean is None or variance is None or not np.all(np.isfinite(variance)):
        return
    copies = wrap(trees.map_leaves(lambda leaf: np.broadcast_to(leaf, (DRAWS, *np.shape(leaf))).copy(), d))
    z = copies.rsample(rng=noise(seed + 1))
    found = trees.leaves(gradients(sum(z * z), copies))
    exact = wrap(d)
    truth = trees.leaves(gradients(sum(exact.mean * exact.mean + exact.variance), exact))
    for (name, _), draws, expected in zip(trees.paths(d), found, truth, strict=True):
        _check_agrees(f"{_name(d)}: the pathwise gradient of E z^2 in {name}", draws, expected)


def _check_refusals(law: type[Distribution], rng: np.random.Generator) -> None:
    d = law.example(rng, (2,))
    for f in parameters(d):
        given = {g.name: getattr(d, g.name) for g in dataclasses.fields(d)}  # type: ignore[arg-type]
        given[f.name] = np.full(np.shape(given[f.name]), np.nan)
        if bool(np.any(domain_of(d, f).contains(given[f.name]))):
            continue
        try:
            law(**given)
        except ValueError:
            continue
        raise CheckError(
            f"{law.__name__}: {f.name} = nan is outside of its domain, {domain_of(d, f)}, and is not refused"
        )


# ----------------------------------------------------------------------------------------- estimators


@dataclass(frozen=True)
class _Trial:
    """A cost of one number for each draw, its parameters, a copy for each, and the gradient of its expectation."""

    what: str
    cost: Tensor
    parameters: Any
    truth: Any


def check_estimator(
    kind: type[Estimator] | Estimator, *, program: Program | None = None, at: Any = None, seed: int = 0
) -> None:
    """Check everything that the declaration of an estimator promises.

    It is tried on draws of several laws, in costs that are smooth, that jump, and that mix several draws, alone and
    below another draw. Wherever it raises no objection:

    - the cost keeps its value bit for bit, unless ``keeps_value`` is false, and the old graph is left alone;
    - no random node is left, and ``explain`` names the estimator;
    - the gradient is that of the expectation, within its standard errors (within a hundredth where there is a
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
    if estimator.keeps_value and new.value.tobytes() != before.tobytes():
        raise CheckError(f"{where_}: the value of the cost has changed; put keeps_value = False where that is meant")
    if trial.cost.value.tobytes() != before.tobytes():
        raise CheckError(f"{where_}: the old graph has changed")
    report = explain(sum(new), trial.parameters)
    named = [node.estimator for node in report.nodes]
    if None in named:
        raise CheckError(f"{where_}: a random node is left\n{report}")
    if estimator.name not in named:
        raise CheckError(f"{where_}: explain does not name it; pass what carries the gradient through self.noted(x, z)")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = gradients(sum(new), trial.parameters)
    warned = any(issubclass(w.category, BiasedGradientWarning) for w in caught)
    if estimator.biased:
        if not warned:
            raise CheckError(f"{where_}: it is declared biased, and gradients does not warn")
        return
    for (path, draws), expected in zip(trees.paths(found), trees.leaves(trial.truth), strict=True):
        rounding = 0.01 if estimator.caveat else 1e-9
        _check_agrees(f"{where_}, the gradient in {path or 'the parameter'}", draws, expected, rounding)


def _trials(seed: int) -> Iterator[_Trial]:
    laws: list[Distribution] = [
        Normal(np.array(0.6), np.array(0.8)),
        Exponential(np.array(1.4)),
        Gamma(np.array(2.2), np.array(1.3)),
        Uniform(np.array(0.2), np.array(1.7)),
        Poisson(np.array(1.5)),
        Bernoulli(logits=np.array(0.4)),
    ]
    for law in laws:
        yield _trial(law, "the square of a draw", seed, lambda z: z * z, lambda d: d.mean * d.mean + d.variance)
        yield _trial(
            Independent(trees.map_leaves(lambda x: np.stack([x, 0.9 * x]), law), 1),
            "the square of a sum of two draws",
            seed,
            lambda z: sum(z, axis=-1) * sum(z, axis=-1),
            lambda d: sum(d.mean) * sum(d.mean) + sum(d.variance),
        )
        if not isinstance(law, Bernoulli):
            yield _trial(
                law, "whether a draw is above 0.7", seed, lambda z: where(z > 0.7, 1.0, 0.0), lambda d: 1 - d.cdf(0.7)
            )
    worth = np.array([0.5, -1.0, 2.0])
    choice = OneHotCategorical(logits=np.array([0.3, -0.2, 0.6]))
    yield _trial(
        choice,
        "the worth of a choice",
        seed,
        lambda z: exp(0.5 * sum(z * worth, axis=-1)),
        lambda d: sum(d.mean * np.exp(0.5 * worth)),
    )
    yield _nested(seed)


def _trial(
    law: Distribution,
    what: str,
    seed: int,
    cost: Callable[[Any], Any],
    expectation: Callable[[Any], Any],
) -> _Trial:
    copies = wrap(trees.map_leaves(lambda leaf: np.broadcast_to(leaf, (DRAWS, *np.shape(leaf))).copy(), law))
    exact = wrap(law)
    z = copies.sample(rng=noise(seed).at("trial"), name="z")
    truth = gradients(expectation(exact), exact)
    return _Trial(f"{what} of {_name(getattr(law, 'base', law))}", astype(cost(z), np.float64), copies, truth)


def _nested(seed: int) -> _Trial:
    """x^2 (1 + b) with b ~ Bernoulli(p), x ~ N(mu + b, 1): the smallest graph that breaks a careless nesting."""

    def drawn(p: Any, mu: Any) -> Any:
        rng = noise(seed).at("nested")
        b = Bernoulli(probs=p).sample(rng=rng, name="b")
        x = Normal(mu + b, 1.0).sample(rng=rng, name="x")
        return x * x * (1 + b)

    at = {"p": np.array(0.3), "mu": np.array(0.5)}
    copies, exact = wrap({name: np.full(DRAWS, x) for name, x in at.items()}), wrap(at)
    p, mu = exact["p"], exact["mu"]
    expectation = (1 - p) * (mu * mu + 1) + 2 * p * ((mu + 1) * (mu + 1) + 1)
    return _Trial("a draw below another draw", drawn(**copies), copies, gradients(expectation, exact))
