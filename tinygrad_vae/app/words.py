"""What the command says of a run, before it begins and when it has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..parallel import Ranks
from .report import COMPARED
from .run import Run, State


def introduction(run: Run, state: State, ranks: Ranks) -> str:
    """Return what a run is about to do."""
    config = run.config
    layers = " - ".join(map(str, (run.images.size, *config.hidden, config.latent)))
    begun = f", going on after step {state.step}" if state.step else ""
    draws = f", {config.samples} draws" if config.samples > 1 else ""
    blocks = f", {config.blocks} blocks a batch on {ranks.size} ranks" if ranks.size > 1 else ""
    return (
        f"{len(run.images)} images of {' x '.join(map(str, run.images.shape))} pixels to train on, "
        f"{len(run.held_out)} held out\n"
        f"VAE {layers} ({config.activation}), {config.objective}{draws}, {config.estimator} estimator, {config.epochs} "
        f"epochs of {run.steps_per_epoch} steps{blocks}{begun}"
    )


def table(title: str, rows: Mapping[str, tuple[float, float]], sign: str = "-", digits: int = 2) -> str:
    """Return a table of the numbers in ``COMPARED``, each with its standard error."""
    lines = [f"{title:<44}{'nats per image':>16}{'standard error':>18}"]
    for name, label in COMPARED.items():
        value, error = rows[name]
        lines.append(f"  {label:<42}{value:>{sign}16.{digits}f}{error:>18.{digits}f}")
    return "\n".join(lines)


def measures(metrics: dict[str, Any]) -> str:
    """Return a table of the metrics of a run, and what they say of its latents."""
    found = metrics["held_out"]
    rows = {name: (found[name], found[f"{name}_standard_error"]) for name in COMPARED}
    lines = [table(f"{found['images']} held-out images, {found['samples']} draws each", rows)]
    each = found["kl_per_latent"]
    nats = "" if each is None else f"; rate of each: {' '.join(f'{x:.2f}' for x in sorted(each, reverse=True))}"
    lines.append(f"  {found['active_units']} of {metrics['config']['latent']} latents are active{nats}")
    if found["effective_samples"] < 2 <= found["samples"]:
        lines.append(
            f"  the log-likelihood hangs on {found['effective_samples']:.2g} of {found['samples']} draws on average "
            "and is too low; evaluate with more --samples"
        )
    return "\n".join(lines)


def in_plain_words(run: Run, state: State, found: dict[str, Any]) -> str:
    """Say what was reached: in bits, if the likelihood is a probability of whole grey levels, else in nats."""
    once = state.history[0]["bound_held_out"] if state.history else math.nan
    if run.config.likelihood not in ("bernoulli", "categorical"):
        began = f", after {once:.1f} in the first epoch" if state.history else ""
        return f"What was reached: a bound of {found['bound']:.1f} nats per held-out image{began}."
    pixels = run.images.size * math.log2(max(2, run.levels))
    began = f", and after the first epoch it needed {-once / math.log(2):.0f}" if state.history else ""
    whole, rate, distortion = (f"{abs(found[k]) / math.log(2):.1f} bits" for k in ("bound", "rate", "distortion"))
    return (
        f"What was reached: the model needs {whole} on average to write down an image that it has not seen; the pixels "
        f"alone take {pixels:.0f}{began}. {rate} of them say which z, and {distortion} correct the image that the "
        "decoder makes of it."
    )
