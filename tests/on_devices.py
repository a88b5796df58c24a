"""What is run on a pretended GPU (test_device.py), and on a real one where there is one (test_gpu.py)."""

import numpy as np

import tinygrad_vae as tg

BETWEEN = {"nonzero_positions", "unique_part", "sort", "argsort", "einsum_arrays"}
"""Ops that cannot be part of a graph: they wait for the device, sort, or call a library that CuPy does not capture."""

IMAGES = (np.random.default_rng(0).uniform(size=(6, 16)) < 0.5).astype(np.float32)

OPTIMIZERS = [
    tg.optim.SGD(0.1),
    tg.optim.SGD(0.1, momentum=0.9),
    tg.optim.Adam(0.01),
    tg.optim.AdamW(0.01, weight_decay=0.1),
]


def small_model(**options):
    return tg.VAE.init(16, hidden=(8,), latent=2, rng=tg.noise(0), **options)


def training_step(optimizer):
    def step(model, state, x, rng):
        loss, gradient = tg.value_and_grad(lambda m: tg.reparameterize(-tg.mean(tg.elbo(m, x, rng=rng))))(model)
        model, state = optimizer.update(model, gradient, state)
        return model, state, loss

    return step


def declared(family, dist, x):
    """Return all that a distribution tells of itself and of one draw."""
    found = {"log_prob": dist.log_prob(x)}
    for name in ("mean", "variance", "entropy", "cdf"):
        try:
            part = getattr(dist, name)
            found[name] = part(x) if name == "cdf" else part() if callable(part) else part
        except NotImplementedError:
            pass
    return found


def _programs():
    """Return parameters and a distribution of them, for each kind of random node that the estimators know."""
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0.2, 0.8, (2, 3))
    return {
        "normal": ({"a": a, "b": b}, lambda t: tg.Normal(t["a"], t["b"])),
        "bernoulli": ({"a": a}, lambda t: tg.Bernoulli(logits=t["a"])),
        "categorical": ({"a": rng.normal(size=(3, 4))}, lambda t: tg.Categorical(logits=t["a"])),
        "one-hot": ({"a": rng.normal(size=(3, 4))}, lambda t: tg.OneHotCategorical(logits=t["a"])),
        "gamma": ({"a": a + 1, "b": b}, lambda t: tg.Gamma(t["a"], t["b"])),
        "poisson": ({"a": a}, lambda t: tg.Poisson(t["a"])),
        "two": ({"a": a, "b": b}, lambda t: tg.Normal(tg.Normal(t["a"], 1.0).sample(rng=tg.noise(7)), t["b"])),
    }


PROGRAMS = _programs()


def _opened(name, program, parameters):
    """Return the parameters as Tensors, and the cost as an estimator opens it; None where it cannot."""
    theta = tg.wrap(parameters)
    z = PROGRAMS[program][1](theta).sample((2,), rng=tg.noise(1), name="z")
    cost = tg.sum(tg.sin(z), axis=-1) if program == "one-hot" else tg.sin(z)
    estimator = tg.ESTIMATORS[name].example(tg.noise(5))
    if estimator.objection(z, cost):
        return theta, None
    return theta, lambda: tg.mean(tg.reparameterize(tg.estimate(cost, {"z": estimator})))


def estimated(name, program, parameters):
    """Return the value of a program's cost and its gradient by an estimator."""
    theta, opened = _opened(name, program, parameters)
    cost = opened()
    return cost.value, tg.gradients(cost, theta)


ESTIMATED = [
    (name, program)
    for name in tg.ESTIMATORS
    for program in PROGRAMS
    if _opened(name, program, PROGRAMS[program][0])[1] is not None
]
"""Estimators, and the programs that they are valid for."""
