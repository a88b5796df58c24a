"""How good a model is on held-out examples, in nats, with standard errors.

It computes with arrays and records nothing, a few draws of one batch at a time, so that neither more examples nor more
draws take more memory.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..calculus import values
from ..core import Array, NoiseStream, trees
from ..devices import beside, to_host
from ..distributions.distribution import Distribution
from ..distributions.divergences import kl_divergence
from ..executors import in_order
from .bounds import LatentVariableModel, check_count, in_dtype_of, kl_of_each_latent

ROWS = 1000
"""About the number of draws decoded at a time."""

ACTIVE = 0.01
"""The least variance over images of the posterior mean of a latent that is in use."""


def evaluate(
    model: LatentVariableModel,
    images: Array,
    *,
    rng: NoiseStream,
    samples: int = 100,
    batch: int = 250,
    progress: Callable[[int, int], None] | None = None,
    executor: Any = None,
) -> dict[str, Any]:
    """Return the mean bound, log-likelihood, rate and distortion of the images, and which latents are in use.

    For each image, with K draws ``z_k ~ q(z|x)`` and ``w_k = p(x|z_k) p(z_k) / q(z_k|x)``:

    - ``rate``: ``KL(q(z|x) || p(z))``, how much z says about x; from the draws where it has no closed form;
    - ``distortion``: the mean of ``-log p(x|z_k)``, how much z leaves open (Alemi et al. 2018);
    - ``bound``: the evidence lower bound, -(rate + distortion);
    - ``log_likelihood``: the importance weighted bound, ``log 1/K sum_k w_k``, which is below log p(x) on average and
      close to it for large K (Burda et al. 2016 take K = 5000).

    Args:
        model, images, rng, samples, batch, progress, executor: as in ``measure``.

    Returns:
        A dict that JSON can hold. The four means in nats; a ``<name>_standard_error`` for each, of the mean over
        images, which includes the noise of the draws; the numbers of ``images`` and ``samples``; and

        - ``effective_samples``: the mean over images of ``(sum w)^2 / sum w^2``, from 1 to K. Near 1, the
          log-likelihood depends on single draws and is too low;
        - ``kl_per_latent``: the rate of each latent, ``None`` if the latents depend on each other;
        - ``active_units``: how many latents have a posterior mean whose variance over the images is above 0.01;
        - ``warning``: what is wrong and what to try if no latent is active; else ``None``.

    Raises:
        TypeError, ValueError: an image does not fit the model, there are fewer than two, or a number is less than 1.

    >>> model = tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0))
    >>> found = evaluate(model, np.zeros((5, 64), np.float32), rng=tg.noise(1), samples=10)
    >>> found["bound"] <= found["log_likelihood"]
    True
    >>> found["active_units"]  # all images are the same
    0
    """
    measured = measure(model, images, rng=rng, samples=samples, batch=batch, progress=progress, executor=executor)
    return summary(measured, samples)


def measure(
    model: LatentVariableModel,
    images: Array,
    *,
    rng: NoiseStream,
    samples: int = 100,
    batch: int = 250,
    progress: Callable[[int, int], None] | None = None,
    executor: Any = None,
) -> dict[str, Array]:
    """Return the numbers of ``evaluate`` for each image, so that two models can be compared image by image.

    Args:
        model: a ``VAE``, or anything that encodes, decodes and has a prior.
        images: examples of shape (n, ...), two at least. A batch at a time is moved to where the model is.
        rng: a stream from ``tg.noise(seed)``.
        samples: K, the number of draws for each image.
        batch: the number of images in a batch; it changes which noise an image gets.
        progress: called as ``progress(done, n)`` after each batch.
        executor: a ``concurrent.futures.Executor`` for the batches after the first; the numbers are the same.

    Returns:
        ``bound``, ``log_likelihood``, ``rate``, ``distortion`` and ``effective_samples`` of shape (n,), ``means`` of
        shape (n, latent, ...), and ``kl_per_latent`` of shape (n, latent) if the latents are independent; in float64.

    Raises:
        TypeError, ValueError: as in ``evaluate``.

    >>> model = tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0))
    >>> measure(model, np.zeros((5, 64), np.float32), rng=tg.noise(1), samples=10)["bound"].shape
    (5,)
    """
    check_count("evaluate: samples", samples)
    check_count("evaluate: batch", batch)
    n = len(images)
    if n < 2:
        raise ValueError(f"evaluate: a standard error takes two images at least, found {n}")
    model = values(model)
    before = rng.drawn
    parts = [_measure(model, images[:batch], rng, samples)[0]]
    each = rng.drawn - before  # noise has a fixed size: all batches but the last one draw as often as the first
    tasks = (
        (model, images[start : start + batch], dataclasses.replace(rng, drawn=before + each * k), samples)
        for k, start in enumerate(range(batch, n, batch), 1)
    )
    progress = progress or (lambda done, n: None)
    progress(min(batch, n), n)
    for found, rng.drawn in in_order("evaluate", executor, _measure, tasks):
        parts.append(found)
        progress(min(len(parts) * batch, n), n)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def summary(measured: dict[str, Array], samples: int) -> dict[str, Any]:
    """Return the report of ``evaluate`` from the numbers that ``measure`` found with ``samples`` draws."""
    n = len(measured["bound"])
    report: dict[str, Any] = {"images": n, "samples": samples}
    for name in ("bound", "log_likelihood", "rate", "distortion"):
        report[name] = float(measured[name].mean())
        report[f"{name}_standard_error"] = float(measured[name].std(ddof=1)) / math.sqrt(n)
    report["effective_samples"] = float(measured["effective_samples"].mean())
    each = measured.get("kl_per_latent")
    report["kl_per_latent"] = None if each is None else [float(x) for x in each.mean(axis=0)]
    variance = measured["means"].var(axis=0)
    variance = variance.sum(axis=tuple(range(1, variance.ndim)))  # a one-hot latent has several numbers
    report["active_units"] = int((variance > ACTIVE).sum())
    report["warning"] = None if report["active_units"] else _collapse(len(variance), report["rate"])
    return report


def _collapse(latents: int, rate: float) -> str:
    return (
        f"posterior collapse: none of the {latents} latents is active, and z says {rate:.3g} nats about x. The decoder "
        "does without z. Let the divergence rise slowly (warm_up of the Objective, --beta-warm-up of the command), "
        "give each latent some nats for nothing (free_bits, --free-bits), take a smaller decoder, or a likelihood with "
        "less noise; and ask tg.explain whether the gradient of the encoder is cut"
    )


def _measure(model: LatentVariableModel, x: Array, rng: NoiseStream, samples: int) -> tuple[dict[str, Array], int]:
    """Return the numbers of each example, in float64, with the examples along the first axis, and ``rng.drawn``."""
    x = beside(x, *trees.leaves(model))
    q, prior = model.encode(x), model.prior()
    fit, log_ratio = np.zeros(len(x)), np.zeros(len(x))
    log_sum, log_squares = np.full(len(x), -np.inf), np.full(len(x), -np.inf)  # of the weights
    for start in range(0, samples, at_once := max(1, ROWS // len(x))):
        z = q.sample((min(at_once, samples - start),), rng=rng)
        fits = to_host(model.decode(z).log_prob(in_dtype_of(z, x))).astype(np.float64)
        ratios = to_host(q.log_prob(z) - prior.log_prob(z)).astype(np.float64)
        log_sum = np.logaddexp(log_sum, np.logaddexp.reduce(fits - ratios, axis=0))
        log_squares = np.logaddexp(log_squares, np.logaddexp.reduce(2 * (fits - ratios), axis=0))
        fit += fits.sum(axis=0) / samples
        log_ratio += ratios.sum(axis=0) / samples
    rate = _in_closed_form(kl_divergence, q, prior)
    rate = log_ratio if rate is None else rate
    means = to_host(q.mean).astype(np.float64)
    found = {
        "bound": fit - rate,
        "log_likelihood": log_sum - math.log(samples),
        "rate": rate,
        "distortion": -fit,
        "effective_samples": np.exp(2 * log_sum - log_squares),
        "means": means if q.event_shape else means[:, None],
    }
    each = _in_closed_form(kl_of_each_latent, q, prior)
    return (found if each is None else found | {"kl_per_latent": each}), rng.drawn


def _in_closed_form(divergence: Callable[..., Any], q: Distribution, prior: Distribution) -> Array | None:
    try:
        return to_host(divergence(q, prior)).astype(np.float64)
    except (NotImplementedError, ValueError):
        return None
