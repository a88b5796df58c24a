"""Train a VAE with bits for latents by several estimators for the same time, and draw how far each comes.

The 8 x 8 digits of scikit-learn, 64-100-32 bits and back, tanh, batches of 100, Adam. Every run has the same CPU time,
counted for the steps alone, and every seed begins each estimator at the same weights. The bound of the held-out images
is taken at equal times with the divergence in closed form; the table shows its mean over the seeds at the end with the
standard error, and the difference from the plain score function, paired by seed. The picture shows the way there.

    python tests/benchmarks/discrete_latents.py --seconds 20 --seeds 4 --out figures/discrete_latents.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.data import load
from tinygrad_vae.vae import Objective

HIDDEN, LATENT, BATCH, RATE = (100,), 32, 100, 3e-3

OBJECTIVES = {
    "score function": Objective(estimator="score-function"),
    "with a running baseline": Objective(estimator="score-function"),
    "leave-one-out, 2 draws": Objective(estimator="leave-one-out", samples=2),
    "ARM": Objective(estimator="arm"),
    "DisARM": Objective(estimator="disarm"),
    "REBAR": Objective(estimator="rebar"),
}


def run(name: str, train: np.ndarray, test: np.ndarray, seed: int, seconds: float, points: int) -> tuple[list, int]:
    """Return the held-out bound at equally spaced times, and the number of steps made in all."""
    objective = OBJECTIVES[name]
    rng = tg.noise(seed)
    model = tg.VAE.init(
        train.shape[1], hidden=HIDDEN, latent=LATENT, activation="tanh", posterior="bernoulli", rng=rng.at("weights")
    )
    optimizer = tg.optim.Adam(RATE)
    state = optimizer.init(model)
    baseline = None
    spent, step, curve = 0.0, 0, []
    for point in range(points + 1):
        while spent < seconds * point / points:
            start = time.process_time()
            epoch, position = divmod(step * BATCH, len(train) - len(train) % BATCH)
            order = rng.at("order", epoch).permutation(len(train))
            x = train[order[position : position + BATCH]]
            recorded = tg.wrap(model)
            bound = tg.mean(objective(recorded, x, rng=rng.at("noise", step), baseline=baseline))
            model, state = optimizer.update(model, tg.gradients(-bound, recorded), state)
            if name == "with a running baseline":
                value = float(bound.value)
                baseline = value if baseline is None else 0.9 * baseline + 0.1 * value
            step += 1
            spent += time.process_time() - start
        curve.append(float(np.mean(tg.elbo(model, test, rng=tg.noise(5), samples=20))))
    return curve, step


def draw(curves: dict[str, np.ndarray], seconds: float, path: Path) -> None:
    """Draw the mean over seeds of each curve, with a band of one standard error."""
    import matplotlib.pyplot as plt

    plt.style.use("tinygrad_vae.course")
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    colours = ["C1", "C3", "C4", "0.75", "C0", "C2"]
    ends = []
    for colour, (name, rows) in zip(colours, curves.items(), strict=True):
        times = np.linspace(0, seconds, rows.shape[1])
        middle, error = rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        axes.plot(times, middle, color=colour)
        axes.fill_between(times, middle - error, middle + error, color=colour, alpha=0.2, linewidth=0)
        ends.append((middle[-1], name, colour))
    low = min(rows[:, rows.shape[1] // 4].min() for rows in curves.values())
    high = max(rows.max() for rows in curves.values())
    axes.set_ylim(low, high + 0.05 * (high - low))
    gap = 0.055 * (high - low)
    place = -np.inf
    for value, name, colour in sorted(ends):  # from below, each name clear of the one under it
        place = max(value, place + gap)
        axes.annotate(
            name, (seconds, place), (6, 0), textcoords="offset points", color=colour, va="center", annotation_clip=False
        )
    axes.set_xlim(0, seconds)
    axes.set_xlabel("CPU seconds of training")
    axes.set_ylabel("held-out bound (nats per image)")
    axes.set_title(f"{LATENT} bits for latents: the same time, other estimators")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    """Read the options, train every estimator from every seed, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="CPU seconds of training a run (default: 20)")
    parser.add_argument("--seeds", type=int, default=4, help="how many runs of each, two at least (default: 4)")
    parser.add_argument("--points", type=int, default=20, help="how often the bound is taken (default: 20)")
    parser.add_argument("--out", type=Path, default=Path("figures/discrete_latents.png"), help="where to draw")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("a standard error takes two seeds at least")

    images, held_out = load("digits")
    train, test = np.asarray(images.pixels), np.asarray(held_out.pixels)
    curves: dict[str, np.ndarray] = {}
    print(f"{'':<26}{'steps':>7}{'held-out bound':>20}{'more than the score function':>32}")
    for name in OBJECTIVES:
        runs = [run(name, train, test, seed, options.seconds, options.points) for seed in range(options.seeds)]
        curves[name] = np.array([curve for curve, _ in runs])
        last = curves[name][:, -1]
        gain = last - curves["score function"][:, -1]
        error, gain_error = (x.std(ddof=1) / np.sqrt(options.seeds) for x in (last, gain))
        more = "" if name == "score function" else f"{gain.mean():>22.2f} +- {gain_error:.2f}"
        print(f"{name:<26}{np.mean([n for _, n in runs]):>7.0f}{last.mean():>12.2f} +- {error:.2f}{more}", flush=True)
    draw(curves, options.seconds, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
