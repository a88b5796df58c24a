"""Costs that another process can import."""

import numpy as np

import tinygrad_vae as tg

PARAMETERS = {"p": np.float64(0.3), "mu": np.float64(0.5)}


def tosses(parameters, rng):
    b = tg.Bernoulli(probs=parameters["p"] + np.zeros(3)).sample(rng=rng, name="b")
    return (b - 0.45) ** 2 * (1 + parameters["mu"])


def nested(parameters, rng):
    b = tg.Bernoulli(probs=parameters["p"]).sample(rng=rng, name="b")
    x = tg.Normal(parameters["mu"] + b, 1.0).sample(rng=rng, name="x")
    return x**2 * (1 + b)


def refused(parameters, rng):
    """A cost that changes its mind after the first runs."""
    if rng.path[-1] >= 30:
        raise ZeroDivisionError("in run 30")
    return nested(parameters, rng)
