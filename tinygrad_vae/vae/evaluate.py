"""How good a model is on held-out examples, in nats, with standard errors.

It computes with arrays and records nothing, one draw of one batch at a time, so that neither more examples nor
more draws take more memory. It knows objectives, and nothing of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..arrays import Array, NoiseStream, as_array, to_host
from ..calculus import values
from ..ops import logsumexp
from ..stochastic.divergences import kl_divergence
from .objectives import LatentVariableModel, check_count, in_dtype_of


def evaluate(
    model: LatentVariableModel,
    images: Array,
    *,
    rng: NoiseStream,
    samples: int = 100,
    batch: int = 250,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Return the mean bound, log-likelihood, rate and distortion of the images, each with its standard error.

    For each image, with K draws ``z_k ~ q(z|x)``:

    - ``rate``: ``KL(q(z|x) || p(z))``, what z says about x;
    - ``distortion``: the mean of ``-log p(x|z_k)``, what z leaves open (Alemi et al. 2018);
    - ``bound``: the evidence lower bound, -(rate + distortion);
    - ``log_likelihood``: the importance weighted bound over the K draws, which is below log p(x) on average and
      close to it for large K.

    Args:
        model: a ``VAE``, or whatever encodes, decodes and has a prior.
        images: examples of shape (n, ...), two at least.
        rng: a stream from ``tg.noise(seed)``.
        samples: K, the number of draws for each image.
        batch: how many images to compute at a time; it changes which noise meets which image.
        progress: called as ``progress(done, n)`` after each batch.

    Returns:
        The four means in nats; ``<name>_standard_error`` for each, of the mean over images, which holds the noise
        of the draws too; and the numbers of ``images`` and ``samples``.

    Raises:
        TypeError, ValueError: an image does not fit the model, there are fewer than two, or a number is less than 1.

    >>> model = tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0))
    >>> found = evaluate(model, np.zeros((5, 64), np.float32), rng=tg.noise(1), samples=10)
    >>> found["bound"] <= found["log_likelihood"]
    True
    """
    check_count("evaluate: samples", samples)
    check_count("evaluate: batch", batch)
    n = len(as_array(images))
    if n < 2:
        raise ValueError(f"evaluate: a standard error takes two images at least, found {n}")
    model = values(model)
    rows = []
    for start in range(0, n, batch):
        rows.append(_measure(model, images[start : start + batch], rng, samples))
        if progress is not None:
            progress(min(start + batch, n), n)
    rate, distortion, log_likelihood = np.concatenate(rows, axis=1)
    measures = {
        "bound": -(rate + distortion),
        "log_likelihood": log_likelihood,
        "rate": rate,
        "distortion": distortion,
    }
    report: dict[str, float] = {"images": n, "samples": samples}
    for name, row in measures.items():
        report[name] = float(row.mean())
        report[f"{name}_standard_error"] = float(row.std(ddof=1)) / math.sqrt(n)
    return report


def _measure(model: LatentVariableModel, x: Array, rng: NoiseStream, samples: int) -> Array:
    """Return rate, distortion and log-likelihood of each example, of shape (3, batch), in float64."""
    q, prior = model.encode(x), model.prior()
    rate = to_host(kl_divergence(q, prior)).astype(np.float64)
    fit = np.empty((samples, len(x)))
    log_weights = np.empty((samples, len(x)))
    for k in range(samples):
        z = q.sample(rng=rng)
        fit[k] = to_host(model.decode(z).log_prob(in_dtype_of(z, x)))
        log_weights[k] = fit[k] + to_host(prior.log_prob(z) - q.log_prob(z))
    return np.stack([rate, -fit.mean(axis=0), logsumexp(log_weights, axis=0) - math.log(samples)])
