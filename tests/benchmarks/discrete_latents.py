"""Train a VAE with bits for latents by several estimators for the same time, and draw how far each comes.

The 8 x 8 digits of scikit-learn, 64-100-32 bits and back, tanh, batches of 100, Adam. Every run has the same CPU time,
counted for the steps alone, and every seed begins each estimator at the same weights. The bound of the held-out images
is taken at equal times with the divergence in closed form; the table shows its mean over the seeds at the end with the
standard error, and the difference from the plain score function, paired by seed. The picture shows the way there.

What is found is put into a results file in the current folder, and the picture beside it. ``--table`` prints the table
of the README and draws its picture there, or with ``--results`` those of another file, beside that file.

    python tests/benchmarks/discrete_latents.py --seconds 12 --seeds 4 --points 16
    python tests/benchmarks/discrete_latents.py --results discrete_latents_found.json --table
    python tests/benchmarks/discrete_latents.py --table
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.app.data import load
from tinygrad_vae.executors import in_order
from tinygrad_vae.vae import Objective

HIDDEN, LATENT, BATCH, RATE = (100,), 32, 100, 3e-3

RESULTS = Path(__file__).with_suffix(".json")
"""What was found when the README was written."""

FOUND = Path("discrete_latents_found.json")
"""Where a run puts what it finds, unless another file is named; the picture lies beside it."""

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
    plt.rcParams["svg.hashsalt"] = "discrete latents"
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
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def compared(
    names: Sequence[str], seconds: float, seeds: int, points: int, executor: Executor | None = None
) -> dict[str, dict[str, Any]]:
    """Return what each estimator comes to: the curve of each seed, the mean steps, and the gain, paired by seed."""
    images, held_out = load("digits")
    train, test = np.asarray(images.pixels), np.asarray(held_out.pixels)
    runs: dict[str, list[tuple[list, int]]] = {name: [] for name in names}
    turns = [(name, train, test, seed, seconds, points) for seed in range(seeds) for name in names]
    # in turns, so that the noise of the machine meets all
    for (name, _, _, seed, *_), found in zip(turns, in_order("compared", executor, run, turns), strict=True):
        runs[name].append(found)
        print(f"\rseed {seed}: {name:<40}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    curves = {name: np.array([curve for curve, _ in of]) for name, of in runs.items()}
    return {
        name: {
            "steps": float(np.mean([steps for _, steps in of])),
            "bound": mean_and_error(curves[name][:, -1]),
            "gain": mean_and_error(curves[name][:, -1] - curves["score function"][:, -1]),
            "curves": curves[name].round(4).tolist(),
        }
        for name, of in runs.items()
    }


def mean_and_error(x: np.ndarray) -> list[float]:
    """Return the mean over seeds, and its standard error."""
    return [float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x)))]


def table(results: dict[str, Any]) -> str:
    """Return the results as a sentence and a table in Markdown."""
    seconds, seeds = results["seconds"], results["seeds"]
    points = {len(curve) - 1 for row in results["estimators"].values() for curve in row["curves"]}.pop()
    lines = [
        f"{seconds:g} CPU seconds of training each, {seeds} seeds; nats an image, with standard errors, those of the "
        f"gain paired by seed. Options: `--seconds {seconds:g} --seeds {seeds} --points {points}`.",
        "",
        "| estimator | steps | held-out bound | more than the score function |",
        "|---|---|---|---|",
    ]
    for name, row in results["estimators"].items():
        (bound, error), (gain, gain_error) = row["bound"], row["gain"]
        more = "" if name == "score function" else f"{gain:+.2f} ± {gain_error:.2f}"
        lines.append(f"| {name} | {row['steps']:.0f} | {bound:.2f} ± {error:.2f} | {more} |")
    return "\n".join(lines)


def main() -> None:
    """Read the options, train every estimator from every seed, write the results, draw the picture, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="CPU seconds of training a run (default: 20)")
    parser.add_argument("--seeds", type=int, default=4, help="how many runs of each, two at least (default: 4)")
    parser.add_argument("--points", type=int, default=20, help="how often the bound is taken (default: 20)")
    parser.add_argument("--workers", type=int, default=1, help="how many runs side by side (default: 1)")
    parser.add_argument(
        "--results",
        type=Path,
        help=f"the results file; the picture lies beside it ({FOUND}; --table reads that of the README)",
    )
    parser.add_argument("--table", action="store_true", help="only draw and print what is in the results file")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("a standard error takes two seeds at least")
    path = options.results or FOUND
    if not options.table:
        with ProcessPoolExecutor(options.workers) if options.workers > 1 else contextlib.nullcontext() as executor:
            estimators = compared(list(OBJECTIVES), options.seconds, options.seeds, options.points, executor)
        results = {"seconds": options.seconds, "seeds": options.seeds, "estimators": estimators}
        path.write_text(json.dumps(results) + "\n")
    results = json.loads((path if options.results or not options.table else RESULTS).read_text())
    curves = {name: np.array(row["curves"]) for name, row in results["estimators"].items()}
    draw(curves, results["seconds"], path.with_suffix(".svg"))
    print(table(results))


if __name__ == "__main__":
    main()
