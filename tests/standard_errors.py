"""How a statistical test compares: the distance to the truth in standard errors that come from the same draws."""

import numpy as np

import tinygrad_vae as tg

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


LAWS = [law for law in tg.DISTRIBUTIONS.values() if law.__module__.startswith("tinygrad_vae.")]
"""Those of the library itself: a test may register more."""

CALM = {
    tg.InverseGamma: tg.InverseGamma(np.array(9.0), np.array(2.0)),
    tg.LogNormal: tg.LogNormal(np.array(0.3), np.array(0.4)),
    tg.Pareto: tg.Pareto(np.array(9.0), np.array(2.0)),
    tg.StudentT: tg.StudentT(np.array(9.0), np.array(0.5), np.array(2.0)),
    tg.Weibull: tg.Weibull(np.array(2.0), np.array(1.5)),
}


def calm(law):
    """Return an example of a law without a heavy tail, so that the spread of draws tells how precise their mean is."""
    return CALM.get(law) or law.example(np.random.default_rng(5))
