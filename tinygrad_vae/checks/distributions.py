"""``check_distribution(Mine)`` and ``check_bijection(f)`` are the whole tests of a distribution and of a bijection.

Truths follow from other parts of the declaration; draws are compared with them by their own standard errors, with a
fixed seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Set
from typing import Any

import numpy as np

from ..calculus import grad, wrap
from ..core import Array, Tensor, Value, describe, gradients, noise, trees, value_of
from ..distributions.bijections import Bijection
from ..distributions.distribution import Distribution, domain_of, parameters
from ..domains import REAL, VECTOR
from ..estimators.measurement import ALLOWED
from ..ops import sum
from .derivatives import CheckError, check_vjp

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


def check_distribution(family: type[Distribution], *, seed: int = 0) -> None:
    """Check everything that the declaration of a distribution promises.

    - Draws, log-probabilities and moments have the shapes of batch and event, and float32 stays float32.
    - A discrete draw has no path, unless a parameter moves its values.
    - A draw is the transform of its noise bit for bit, lies in the support, and has a finite log-probability.
    - The density is the density of the draws: its integral over a range, or the probability of a value, is how often
      they fall there; the score ``dlog p / dtheta`` has mean 0; mean, variance and entropy agree with the draws; the
      cdf is uniform on them, ``icdf`` inverts it, and the density is its slope.
    - The derivative of an explicit transform in each parameter agrees with differences.
    - The pathwise gradient of ``E z^2``, where there is a path, is the gradient of ``mean^2 + variance``; so is the one
      that comes of an ``alternative`` to each draw, where one is declared.
    - The log-density has the right derivative in every parameter, and a parameter outside its domain is refused.

    Moments, entropy, cdf and icdf that are not declared are left out. Parameters come from ``family.example(rng)``.

    Args:
        family: a subclass of ``Distribution``.
        seed: of the parameters and the draws.

    Raises:
        TypeError: ``family`` is something else.
        CheckError: says what was promised and what was found.

    >>> tg.check_distribution(tg.Laplace)
    """
    if not (isinstance(family, type) and issubclass(family, Distribution)):
        raise TypeError(f"check_distribution takes a subclass of Distribution, found {family!r}")
    if not hasattr(family, "support"):
        raise CheckError(
            f"{family.__name__} declares no support; say where its draws lie: support = tg.domains.POSITIVE"
        )
    rng = np.random.default_rng(seed)
    for batch in ((), (2,), (3, 2)):
        _check_shapes(family.example(rng, batch), batch)
    d = family.example(rng)
    if d.path is not None and d.support.discrete and not d.moving():
        raise CheckError(f"{_name(d)}: a draw from {d.support} jumps as the parameters move; declare path = None")
    _check_draws(d, seed)
    _check_total(d, seed)
    _check_density(d, seed)
    _check_path(d, seed)
    _check_alternative(d, seed)
    _check_refusals(family, rng)


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
                    f"{_name(d)}: {what} is {np.asarray(value).dtype} for parameters of {np.dtype(dtype)}; look in its "
                    "formula for an array or a NumPy number of another dtype (float(number) keeps the dtype)"
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
        check_agrees(f"{_name(d)}: mean", x, mean)
        if variance is not None and np.all(np.isfinite(variance)):
            check_agrees(f"{_name(d)}: variance", (x - mean) ** 2, variance)
    if entropy is not None:
        check_agrees(f"{_name(d)}: entropy", -log_prob, entropy)


def _check_total(d: Distribution, seed: int) -> None:
    """Compare probabilities with how often draws fall there: a density that lacks its constant gives others."""
    x = np.asarray(d.sample((DRAWS,), rng=noise(seed + 2)))
    first, rest = x[: DRAWS // 2], x[DRAWS // 2 :]
    if d.support.discrete:
        found, counts = np.unique(first, axis=0, return_counts=True)
        likely = found[int(np.argmax(counts))]
        hits = np.all(rest.reshape(len(rest), -1) == likely.ravel(), axis=1)
        check_agrees(f"{_name(d)}: the probability of {likely}", hits, np.exp(d.log_prob(likely)))
    elif not d.event_shape:
        low, high = np.quantile(first, [0.3, 0.7])
        nodes, weights = np.polynomial.legendre.leggauss(8)
        edges = np.linspace(low, high, 201)
        at = edges[:-1, None] + (high - low) / 400 * (nodes + 1)
        total = np.sum(np.exp(d.log_prob(at)) * weights) * (high - low) / 400
        what = f"{_name(d)}: how often a draw lies between {low:.4g} and {high:.4g}, beside the integral of the density"
        check_agrees(
            what,
            (rest > low) & (rest < high),
            total,
            1e-6,
            "look at log_density, and at icdf, or transform and noise_distribution",
        )
    elif len(d.event_shape) == 1 and d.support in (REAL, VECTOR):
        scale = 0.7 * np.linalg.cholesky(np.cov(first.T).reshape(first.shape[1], -1))
        e = np.linalg.solve(scale, (rest - first.mean(0)).T).T
        log_normal = -0.5 * np.sum(e * e, axis=1) - np.sum(np.log(np.sqrt(2 * np.pi) * np.diag(scale)))
        ratio = np.exp(log_normal - d.log_prob(rest))
        check_agrees(f"{_name(d)}: the mean of q(x) / p(x), for q a narrower normal density", ratio, np.ones(()))


def _check_density(d: Distribution, seed: int) -> None:
    whole = {f.name for f in parameters(d) if domain_of(d, f).discrete}
    fixed = whole | set(d.moving())
    names = [path for path, _ in trees.paths(d)]
    x = d.sample((DRAWS,), rng=noise(seed))
    copies = wrap(trees.map_leaves(lambda leaf: np.broadcast_to(leaf, (DRAWS, *np.shape(leaf))).copy(), d))
    scores = trees.leaves(gradients(sum(copies.log_density(x)), copies))
    for name, score in zip(names, scores, strict=True):
        if name not in fixed:
            what = f"{_name(d)}: the score d log_density / d {name}, whose expectation is 0"
            advice = f"look at log_density; if {name} moves the support, declare {name} with moves_support=True"
            check_agrees(what, score, np.zeros(score.shape[1:]), advice=advice)
    few = d.sample((5,), rng=noise(seed))
    _check_derivatives(d, "log_density", lambda other: other.log_density(few), fixed)
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


def _check_derivatives(d: Distribution, what: str, function: Callable[[Distribution], Value], fixed: Set[str]) -> None:
    """Compare the derivatives of a function of the distribution with differences, in each parameter not fixed."""
    leaves = trees.leaves(d)
    for k, (name, leaf) in enumerate(trees.paths(d)):
        if name in fixed:
            continue

        def of_one(x: Value, k: int = k) -> Value:
            return function(trees.replace_leaves(d, [*leaves[:k], x, *leaves[k + 1 :]]))

        of_one.__name__ = f"{_name(d)}: {what} in {name}"
        try:
            check_vjp(of_one, leaf)
        except TypeError as error:
            raise CheckError(f"{of_one.__name__}: {error}") from None


def _check_path(d: Distribution, seed: int) -> None:
    mean, variance = _declared(d, "mean"), _declared(d, "variance")
    if d.path == "explicit":
        drawn = wrap(d).sample((5,), rng=noise(seed)).noise.value
        _check_derivatives(d, "transform", lambda other: other.transform(drawn), set())
    if d.path is None or mean is None or variance is None or not np.all(np.isfinite(variance)):
        return
    copies = wrap(trees.map_leaves(lambda leaf: np.broadcast_to(leaf, (DRAWS, *np.shape(leaf))).copy(), d))
    z = copies.rsample(rng=noise(seed + 1))
    found = trees.leaves(gradients(sum(z * z), copies))
    exact = wrap(d)
    truth = trees.leaves(gradients(sum(exact.mean * exact.mean + exact.variance), exact))
    for (name, _), draws, expected in zip(trees.paths(d), found, truth, strict=True):
        check_agrees(f"{_name(d)}: the pathwise gradient of E z^2 in {name}", draws, expected)


def _check_alternative(d: Distribution, seed: int) -> None:
    mean, variance = _declared(d, "mean"), _declared(d, "variance")
    copies = wrap(trees.map_leaves(lambda leaf: np.broadcast_to(leaf, (DRAWS, *np.shape(leaf))).copy(), d))
    z = copies.sample(rng=noise(seed + 3))
    found = copies.alternative(z.value, z.noise.value)
    if found is None or mean is None or variance is None:
        return
    other, size = value_of(found[0]), value_of(found[2])
    if np.shape(other) != z.shape or np.asarray(other).dtype != z.dtype or not np.all(d.support.contains(other)):
        raise CheckError(f"{_name(d)}: alternative gives {describe(other)} for draws of shape {z.shape}")
    if not np.all(size >= 0):
        raise CheckError(f"{_name(d)}: the size of an alternative must not be negative, found {np.min(size):.6g}")
    weights = 1 + np.arange(np.prod(d.event_shape, dtype=int)).reshape(d.event_shape)
    axes = tuple(range(z.ndim - len(d.event_shape), z.ndim))
    difference = ((other**2 - z.value**2) * weights).sum(axes)
    gradient = trees.leaves(gradients(sum(found[1] * difference), copies))
    exact = wrap(d)
    truth = trees.leaves(gradients(sum((exact.mean * exact.mean + exact.variance) * weights), exact))
    for (name, _), draws, expected in zip(trees.paths(d), gradient, truth, strict=True):
        if name not in d.moving():
            check_agrees(f"{_name(d)}: the gradient of E z^2 by alternatives in {name}", draws, expected)


def _check_refusals(family: type[Distribution], rng: np.random.Generator) -> None:
    d = family.example(rng, (2,))
    for f in parameters(d):
        given = {g.name: getattr(d, g.name) for g in dataclasses.fields(d)}  # type: ignore[arg-type]
        given[f.name] = np.full(np.shape(given[f.name]), np.nan)
        if bool(np.any(domain_of(d, f).contains(given[f.name]))):
            continue
        try:
            family(**given)
        except ValueError:
            continue
        raise CheckError(
            f"{family.__name__}: {f.name} = nan is outside of its domain, {domain_of(d, f)}, and is not refused"
        )


def check_bijection(f: Bijection, *, seed: int = 0) -> None:
    """Check everything that a bijection promises, at numbers near 0 and far away.

    ``forward`` increases, everywhere or, if it declares ``increasing = False``, nowhere; its values lie in ``image``;
    ``inverse`` undoes it; ``log_slope`` is the logarithm of the size of its derivative; float32 stays float32, and the
    derivatives in x and in every parameter are right.

    Args:
        f: an instance of a subclass of ``Bijection``.
        seed: of the numbers.

    Raises:
        TypeError: ``f`` is something else.
        CheckError: says what was promised and what was found.

    >>> tg.check_bijection(tg.bijections.Affine(1.0, 2.0))
    """
    if not isinstance(f, Bijection):
        raise TypeError(f"check_bijection takes an instance of a subclass of Bijection, found {describe(f)}")
    f, name = trees.map_leaves(lambda x: np.asarray(value_of(x)), f), _name(f)
    shape = np.broadcast_shapes((), *(np.shape(leaf) for leaf in trees.leaves(f)))
    rng = np.random.default_rng(seed)
    x = np.sort(np.concatenate([rng.uniform(-3, 3, (20, *shape)), rng.uniform(-8, 8, (10, *shape))]), axis=0)
    y = np.asarray(f.forward(x))
    if y.shape != x.shape or not bool(np.all(f.image.contains(y))):
        raise CheckError(f"{name}: forward gives {describe(y)} that lies outside its image, {f.image}, in part")
    increasing = getattr(f, "increasing", True)
    if not bool(np.all(np.diff(y, axis=0) > 0 if increasing else np.diff(y, axis=0) < 0)):
        said = "increases" if increasing else "decreases"
        raise CheckError(f"{name}: it is said that forward {said}, and for some numbers it does not")
    slopes = np.asarray(grad(lambda t: sum(f.forward(t)))(x))
    with np.errstate(all="ignore"):
        rounding = 1e-6 * np.abs(y / slopes)  # a float of y stands for a range of x
        pairs = (("inverse(forward(x))", f.inverse(y), x), ("log_slope(x)", f.log_slope(x), np.log(np.abs(slopes))))
        for what, found, expected in pairs:
            wrong = ~(np.abs(found - expected) <= 1e-7 * (1 + np.abs(expected)) + rounding)
            if wrong.any():
                k = tuple(np.argwhere(wrong)[0])
                raise CheckError(f"{name}: {what} is {found[k]:.8g} at x = {x[k]:.6g}, expected {expected[k]:.8g}")
    narrow, few = trees.map_leaves(lambda leaf: leaf.astype(np.float32), f), x[np.abs(x).reshape(len(x), -1).max(1) < 3]
    for what in ("forward", "inverse", "log_slope"):
        at = f.forward(few) if what == "inverse" else few
        dtype = np.asarray(getattr(narrow, what)(at.astype(np.float32))).dtype
        if dtype != np.float32:
            raise CheckError(f"{name}: {what} gave {dtype} for float32")

        def of(t: Any, *new: Any, what: str = what) -> Any:
            at = f.forward(t) if what == "inverse" else t  # so that differences stay in the image
            return getattr(trees.replace_leaves(f, new), what)(at)

        try:
            check_vjp(of, few, *trees.leaves(f))
        except CheckError as error:
            raise CheckError(f"{name}: {what}: {error}") from None
