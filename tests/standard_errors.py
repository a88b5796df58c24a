"""How a statistical test compares, and the distributions that it compares.

The distance to the truth is measured in standard errors, which come from the same draws.
"""

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.core import trees

ALLOWED = 4.5
"""By chance one honest comparison in 150 000 is further off; seeds are fixed all the same."""


def assert_agrees(draws, truth, rounding=1e-10):
    """Assert that the mean of ``draws`` over their first axis is the truth, within its standard errors."""
    draws = np.asarray(draws, np.float64)
    error = np.abs(draws.mean(0) - truth)
    allowed = ALLOWED * draws.std(0, ddof=1) / np.sqrt(len(draws)) + rounding
    assert np.all(error <= allowed), f"off by {error}, allowed are {allowed} around {truth}"


def assert_variance_agrees(draws, truth):
    """Assert that the variance of ``draws`` over their first axis is ``truth``, within its standard errors."""
    draws = np.asarray(draws, np.float64)
    assert_agrees((draws - draws.mean(0)) ** 2 * len(draws) / (len(draws) - 1), truth)


DISTRIBUTIONS = [family for family in tg.DISTRIBUTIONS.values() if family.__module__.startswith("tinygrad_vae.")]
"""Those of the library itself: a test may register more."""

CALM = {
    tg.FisherSnedecor: tg.FisherSnedecor(np.array(5.0), np.array(14.0)),
    tg.InverseGamma: tg.InverseGamma(np.array(9.0), np.array(2.0)),
    tg.LogNormal: tg.LogNormal(np.array(0.3), np.array(0.4)),
    tg.Pareto: tg.Pareto(concentration=np.array(9.0), scale=np.array(2.0)),
    tg.StudentT: tg.StudentT(np.array(9.0), np.array(0.5), np.array(2.0)),
    tg.Weibull: tg.Weibull(concentration=np.array(2.0), scale=np.array(1.5)),
}


def calm(family):
    """Return an example of a distribution without a heavy tail, so that draws tell how precise their mean is."""
    return CALM.get(family) or family.example(np.random.default_rng(5))


def neighbours(pair, seed=0, shape=()):
    """Return two distributions of the pair that are not far apart, q with the wider support."""
    p, q = (family.example(np.random.default_rng(seed + i), shape) for i, family in enumerate(pair))
    narrow = np.full(shape, 0.2), np.full(shape, 0.7)
    if pair in [(tg.Uniform, tg.Beta), (tg.Uniform, tg.Exponential)]:
        return tg.Uniform(*narrow), q
    if pair == (tg.TruncatedNormal, tg.Exponential):
        return tg.TruncatedNormal(p.loc, p.scale, *narrow), q
    if tg.Independent in pair and pair != (tg.Independent, tg.Independent):
        independent = tg.Independent(tg.Normal.example(np.random.default_rng(seed), (*shape, 3)), 1)
        return (independent, q) if pair[0] is tg.Independent else (p, independent)
    if pair[0] is tg.Binomial:
        p = tg.Binomial(p.total + 1, logits=p.logits)
    low, high = p.support.bounds
    if pair[1] is tg.Uniform:
        return p, tg.Uniform(np.full(shape, low - 0.5), np.full(shape, high + 1.0))
    if pair[0] is not pair[1]:
        return p, q
    changed = {
        tg.TruncatedNormal: lambda path, x: x + {"low": -0.5, "high": 1.0}.get(path, 0.1),
        tg.Pareto: lambda path, x: 0.8 * x,
        tg.Binomial: lambda path, x: x if path == "total" else 1.2 * x,
        tg.NegativeBinomial: lambda path, x: x if path == "successes" else 1.2 * x,
    }.get(pair[0], lambda path, x: 1.2 * x)
    return p, trees.replace_leaves(p, [changed(path, x) for path, x in trees.paths(p)])
