"""``check_distribution(Mine)`` is the whole test of a distribution, and of a bijection in a ``Transformed`` one.

Truths follow from other parts of the declaration; draws are compared with them by their own standard errors, with a
fixed seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Set
from typing import Any

import numpy as np

from ..calculus import wrap
from ..core import Array, Tensor, Value, describe, gradients, noise, trees, value_of
from ..distributions.distribution import Distribution, domain_of, parameters
from ..domains import REAL, VECTOR
from ..estimators.measurement import ALLOWED
from ..ops import sum
from .derivatives import CheckError, check_vjp, require

DRAWS = 4000
"""The number of draws of a statistical check."""


def check_agrees(what: str, draws: Array, truth: Array, rounding: float = 1e-9, advice: str = "") -> None:
    """Raise if the mean of draws over their first axis is farther from the truth than its standard errors allow.

    ``advice`` says what to look at then.
    """
    draws, truth = np.asarray(draws, np.float64), np.asarray(truth, np.float64)
    off = np.abs(draws.mean(0) - truth)
    allowed = ALLOWED * draws.std(0, ddof=1) / math.sqrt(len(draws)) + rounding * (1 + np.abs(truth))
    if not np.all(off <= allowed):
        k = np.unravel_index(int(np.argmax(np.where(np.isfinite(off), off / allowed, np.inf))), off.shape)
        raise CheckError(
            f"{what}: the mean of {len(draws)} draws is {draws.mean(0)[k]:.6g}, and {truth[k]:.6g} was expected; "
            f"{off[k] / allowed[k] * ALLOWED:.3g} standard errors lie between them, {ALLOWED} are allowed"
            + (advice and f"; {advice}")
        )


def a_copy_for_each_draw(parameters: Any) -> Any:
    """Return the parameters as Tensors with ``DRAWS`` copies of each, for one gradient a draw."""
    return wrap(trees.map_leaves(lambda leaf: np.broadcast_to(leaf, (DRAWS, *np.shape(leaf))).copy(), parameters))


def check_gradients(what: str, found: Any, truth: Any, fixed: Set[str] = frozenset(), **options: Any) -> None:
    """Compare gradients of each draw with the true ones, for each parameter that is not fixed."""
    for (path, draws), (_, expected) in zip(trees.paths(found), trees.paths(truth), strict=True):
        if path not in fixed:
            check_agrees(what + (path or "the parameter"), draws, expected, **options)


def check_distribution(kind: type[Distribution] | Distribution, *, seed: int = 0) -> None:
    """Check everything that the declaration of a distribution promises.

    - Draws, log-probabilities and moments have the shapes of batch and event, and float32 stays float32.
    - A discrete draw has no path, unless a parameter moves its values.
    - A draw is the transform of its noise bit for bit, lies in the support, and has a finite log-probability.
    - The density is the density of the draws: its integral over a range, or the probability of a value, is how often
      they fall there; the score ``dlog p / dtheta`` has mean 0; mean, variance and entropy agree with the draws; the
      cdf is uniform on them, ``icdf`` inverts it, and the density is its slope.
    - The derivative of an explicit transform in each parameter agrees with differences.
    - The pathwise gradient of ``E z^2``, where there is a path, is the gradient of ``mean^2 + variance``; so is the one
      from an ``alternative`` to each draw, where one is declared.
    - The log-density has the right derivative in every parameter, and a parameter outside its domain is refused.

    Moments, entropy, cdf and icdf that are not declared are left out. A bijection of your own is checked in a
    transformed distribution.

    Args:
        kind: a subclass of ``Distribution``, of which ``example(rng)`` makes one, or one distribution.
        seed: of the parameters and the draws.

    Raises:
        TypeError: ``kind`` is something else.
        CheckError: says what was promised and what was found.

    >>> tg.check_distribution(tg.Laplace)
    >>> tg.check_distribution(tg.Transformed(tg.Normal(), tg.bijections.Affine(1.0, 2.0)))
    """
    family: Any = kind if isinstance(kind, type) else type(kind)
    if not issubclass(family, Distribution) or (family is not kind and kind.batch_shape != ()):
        raise TypeError(f"check_distribution takes a subclass of Distribution or one distribution, found {kind!r}")
    rng = np.random.default_rng(seed)

    def make(batch: tuple[int, ...]) -> Distribution:
        if family is kind:
            return family.example(rng, batch)
        wide = lambda x: np.broadcast_to(np.asarray(value_of(x), np.float64), (*batch, *np.shape(x)))  # noqa: E731
        return trees.map_leaves(wide, kind)

    said = "it declares no support; say where its draws lie: support = tg.domains.POSITIVE"
    try:
        require(hasattr(family, "support"), said)
        for batch in ((), (2,), (3, 2)):
            _check_shapes(make(batch), batch)
        d = make(())
        smooth = d.path is None or not d.support.discrete or bool(d.moving())
        require(smooth, f"a draw from its support, {d.support}, jumps as the parameters move; declare path = None")
        for check in (_check_draws, _check_total, _check_density, _check_path, _check_alternative):
            check(d, seed)
        _check_refusals(make((2,)))
    except CheckError as error:
        raise CheckError(f"{family.__name__}: {error}") from error.__cause__


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
            array = np.empty(shape, dtype) if value is None else np.asarray(value)
            require(array.shape == shape, f"{what} has shape {array.shape}, expected {shape}")
            require(
                array.dtype.kind != "f" or array.dtype == dtype,
                f"{what} is {array.dtype} for parameters of {np.dtype(dtype)}; look in its formula for an array or a "
                "NumPy number of another dtype (float(number) keeps the dtype)",
            )


def _check_draws(d: Distribution, seed: int) -> None:
    x = d.sample((DRAWS,), rng=noise(seed))
    z = wrap(d).sample((DRAWS,), rng=noise(seed))
    same = z.value.tobytes() == x.tobytes() == np.asarray(d.transform(z.noise.value)).tobytes()
    require(same, "a recorded draw is another one than on arrays, from the same noise")
    same = d.path is None or np.asarray(d.rsample((DRAWS,), rng=noise(seed))).tobytes() == x.tobytes()
    require(same, "rsample gives other numbers than sample, from the same noise")
    require(d.support.contains(x), f"a draw lies outside its support, {d.support}")
    log_prob = d.log_prob(x)
    require(np.isfinite(log_prob), "the log-probability of a draw is not finite")
    mean, variance, entropy = (_declared(d, name) for name in ("mean", "variance", "entropy"))
    if mean is not None and np.all(np.isfinite(mean)):
        check_agrees("mean", x, mean, advice="look at mean, or at how it is drawn")
        if variance is not None and np.all(np.isfinite(variance)):
            check_agrees("variance", (x - mean) ** 2, variance, advice="look at variance")
    if entropy is not None:
        check_agrees("entropy", -log_prob, entropy, advice="look at entropy, and at log_density")


def _check_total(d: Distribution, seed: int) -> None:
    """Compare probabilities with how often draws fall there: a density that lacks its constant gives others."""
    x = np.asarray(d.sample((DRAWS,), rng=noise(seed + 2)))
    first, rest = x[: DRAWS // 2], x[DRAWS // 2 :]
    if d.support.discrete:
        found, counts = np.unique(first, axis=0, return_counts=True)
        likely = found[int(np.argmax(counts))]
        hits = np.all(rest.reshape(len(rest), -1) == likely.ravel(), axis=1)
        check_agrees(f"the probability of {likely}", hits, np.exp(d.log_prob(likely)))
    elif not d.event_shape:
        low, high = np.quantile(first, [0.3, 0.7])
        nodes, weights = np.polynomial.legendre.leggauss(8)
        edges = np.linspace(low, high, 201)
        at = edges[:-1, None] + (high - low) / 400 * (nodes + 1)
        total = np.sum(np.exp(d.log_prob(at)) * weights) * (high - low) / 400
        what = f"how often a draw lies between {low:.4g} and {high:.4g}, beside the integral of the density"
        advice = "look at log_density, and at icdf, or transform and noise_distribution"
        check_agrees(what, (rest > low) & (rest < high), total, 1e-6, advice)
    elif d.support in (REAL, VECTOR) and len(d.event_shape) == 1:
        scale = 0.7 * np.linalg.cholesky(np.cov(first.T).reshape(first.shape[1], -1))
        e = np.linalg.solve(scale, (rest - first.mean(0)).T).T
        log_normal = -0.5 * np.sum(e * e, axis=1) - np.sum(np.log(np.sqrt(2 * np.pi) * np.diag(scale)))
        ratio = np.exp(log_normal - d.log_prob(rest))
        check_agrees("the mean of q(x) / p(x), for q a narrower normal density", ratio, np.ones(()))


def _check_density(d: Distribution, seed: int) -> None:
    fixed = {f.name for f in parameters(d) if domain_of(d, f).discrete} | set(d.moving())
    x, copies = d.sample((DRAWS,), rng=noise(seed)), a_copy_for_each_draw(d)
    for name, score in trees.paths(gradients(sum(copies.log_density(x)), copies)):
        if name not in fixed:
            what = f"the score d log_density / d {name}, whose expectation is 0"
            advice = f"look at log_density; if {name} moves the support, declare {name} with moves_support=True"
            check_agrees(what, score, np.zeros(score.shape[1:]), advice=advice)
    few = d.sample((5,), rng=noise(seed))
    _check_derivatives(d, "log_density", lambda other: other.log_density(few), fixed)
    if d.event_shape or d.path is None or d.support.discrete or _declared(d, "cdf", few) is None:
        return
    u = np.sort(np.asarray(d.cdf(x)))
    distance = max(np.max(np.arange(1, DRAWS + 1) / DRAWS - u), np.max(u - np.arange(DRAWS) / DRAWS))
    allowed = math.sqrt(-0.5 * math.log(0.5 * 6.8e-6) / DRAWS)  # as unlikely as 4.5 standard errors
    require(distance <= allowed, f"the draws do not follow the cdf; it is {distance:.3f} away from theirs")
    at, density = Tensor(few), np.exp(d.log_density(few))
    slope = gradients(sum(d.cdf(at)), at)
    require(np.isclose(slope, density, rtol=1e-6), f"the slope of the cdf is {slope}, the density {density}")
    back = _declared(d, "icdf", np.asarray(d.cdf(few)))
    if back is not None:
        require(np.isclose(back, few, rtol=1e-6, atol=1e-9), f"icdf(cdf(x)) is {back} for x = {few}")


def _check_derivatives(d: Distribution, what: str, function: Callable[[Distribution], Value], fixed: Set[str]) -> None:
    """Compare the derivatives of a function of the distribution with differences, in each parameter not fixed."""
    leaves = trees.leaves(d)
    for k, (name, leaf) in enumerate(trees.paths(d)):
        if name in fixed:
            continue

        def of_one(x: Value, k: int = k) -> Value:
            return function(trees.replace_leaves(d, [*leaves[:k], x, *leaves[k + 1 :]]))

        of_one.__name__ = f"{what} in {name}"
        try:
            check_vjp(of_one, leaf)
        except TypeError as error:
            raise CheckError(f"{of_one.__name__}: {error}") from None


def _check_path(d: Distribution, seed: int) -> None:
    if d.path is None:
        return
    if d.path == "explicit":
        drawn = wrap(d).sample((5,), rng=noise(seed)).noise.value
        _check_derivatives(d, "transform", lambda other: other.transform(drawn), set())
    copies = a_copy_for_each_draw(d)
    z = copies.rsample(rng=noise(seed + 1))
    _check_square(d, "the pathwise gradient of E z^2", sum(z * z), copies)


def _check_alternative(d: Distribution, seed: int) -> None:
    copies = a_copy_for_each_draw(d)
    z = copies.sample(rng=noise(seed + 3))
    found = copies.alternative(z.value, z.noise.value)
    if found is None:
        return
    other, size = np.asarray(value_of(found[0])), value_of(found[2])
    fits = other.shape == z.shape and other.dtype == z.dtype and np.all(d.support.contains(other))
    require(fits, f"alternative gives {describe(other)} for draws of shape {z.shape}")
    require(size >= 0, f"the size of an alternative must not be negative, found {np.min(size):.6g}")
    weights = 1 + np.arange(math.prod(d.event_shape)).reshape(d.event_shape)
    difference = ((other**2 - z.value**2) * weights).sum(tuple(range(z.ndim - len(d.event_shape), z.ndim)))
    what = "the gradient of E z^2 by alternatives"
    _check_square(d, what, sum(found[1] * difference), copies, weights, set(d.moving()))


def _check_square(
    d: Distribution, what: str, cost: Tensor, copies: Distribution, weights: Any = 1.0, fixed: Set[str] = frozenset()
) -> None:
    """Compare the gradient of the weighted squares of the draws with the gradient of their expectation."""
    exact = wrap(d)
    mean, variance = _declared(exact, "mean"), _declared(exact, "variance")
    if mean is None or variance is None or not np.all(np.isfinite(variance.value)):
        return
    truth = gradients(sum((mean * mean + variance) * weights), exact)
    check_gradients(f"{what} in ", gradients(cost, copies), truth, fixed)


def _check_refusals(d: Distribution) -> None:
    for f in parameters(d):
        given = {g.name: getattr(d, g.name) for g in dataclasses.fields(d)}  # type: ignore[arg-type]
        given[f.name], domain = np.full(np.shape(given[f.name]), np.nan), domain_of(d, f)
        if not np.any(domain.contains(given[f.name])):
            with contextlib.suppress(ValueError):
                type(d)(**given)
                raise CheckError(f"{f.name} = nan is outside of its domain, {domain}, and is not refused")
