"""The commands that teach: what blocks the gradient of a step, and which estimators there are."""

from __future__ import annotations

import argparse
from typing import Any

from ..optional import require
from .progress import progress_bar

STEP = """\
import tinygrad_vae as tg

model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
images = tg.Tensor(tg.noise(1).uniform((8, 64)) < 0.3, "images")
bound = tg.elbo(model, images, rng=tg.noise(2))
loss = -tg.mean(bound)
"""
"""The training step that ``explain`` shows, runs and explains."""


def explain_command(arguments: argparse.Namespace) -> int:
    """Print and draw what blocks the gradient of a training step, and what opens it."""
    from ..core import reparameterize
    from ..draw import draw, draw_side_by_side
    from ..guard.report import explain

    step: dict[str, Any] = {}
    exec(compile(STEP, "step.py", "exec"), step)
    model, loss = step["model"], step["loss"]
    opened = reparameterize(loss)
    titles = ("z is drawn: the gradient is cut", "reparameterized: the gradient gets through")
    if arguments.out.suffix == ".html":  # on which one is to find that out
        titles = ("z is drawn", "reparameterized")
    draw_side_by_side(loss, opened, arguments.out, titles=titles, wrt=model)
    print("A training step (step.py):\n")
    print("\n".join(f"  {i}  {line}" for i, line in enumerate(STEP.splitlines(), 1)))
    print(f"\nIts loss, {float(loss.value):.4f}, and what stands between it and the weights:\n")
    print(explain(loss, model))
    print("\n" + draw(loss, wrt=model, title="The graph of the loss"))
    print(f"\nAfter tg.reparameterize(loss), with the same value, {float(opened.value):.4f}:\n")
    print(explain(opened, model))
    print("\n" + draw(opened, wrt=model, title="The graph of the reparameterized loss"))
    print(f"\nBoth graphs: {arguments.out}")
    return 0


def estimators_command(arguments: argparse.Namespace) -> int:
    """Compare estimators of one gradient."""
    require("matplotlib.figure")
    from .estimator_report import measure

    with progress_bar("measuring", 1) as advance:
        report = measure(
            arguments.cost, arguments.runs, arguments.seed, arguments.out, lambda done, total: advance(done / total)
        )
    print(f"{report}\n\nThe picture: {arguments.out}")
    return 0
