"""Train the VAE of Burda et al. 2016 on binarised MNIST by several objectives, here and in PyTorch, and compare.

784-200-200-50 and back, tanh, one stochastic layer, batches of 20, Adam with beta2 = 0.999 and epsilon = 1e-4, and
their schedule: eight stages, the i-th of 3^i epochs with the learning rate 0.001 * 10^(-i/7). The full schedule has
3280 epochs of 2500 steps; ``--epochs`` says how many of them are made, from the first on. Both libraries begin with the
same weights, see the same images in the same order, and take turns, so that the machine's noise meets both.

First both make ten steps with the same noise, and must agree to rounding. In the runs each draws its own z, which moves
a run by a nat or so, as another seed does. PyTorch's weights come back at the end, and one evaluation measures both on
the same held-out images with the same noise: the log-likelihood, estimated by importance weighting. The results file
holds the difference of the libraries twice over, with the standard error of paired numbers over the images for each
seed, and one number for each seed. The table gives the latter: their standard deviation is pooled over the objectives.

The data is an .npz file with the arrays train and test, each image of 784 bits packed in 98 bytes, or one byte for each
pixel. What is found is put into a results file in the current folder. ``--table`` prints the table of the README, or
with ``--results`` that of another file.

    python tests/benchmarks/mnist_bounds.py --data binarized_mnist.npz --images 500 --seeds 12 --only VAE
    python tests/benchmarks/mnist_bounds.py --results mnist_bounds_found.json --table
    python tests/benchmarks/mnist_bounds.py --table
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae import vae
from tinygrad_vae.core import NoiseStream
from tinygrad_vae.executors import in_order
from tinygrad_vae.vae import Objective

PIXELS, HIDDEN, LATENT, BATCH, PER_EPOCH = 784, (200, 200), 50, 20, 2500
RATE, EPSILON = 1e-3, 1e-4
FULL = 3280
"""How many epochs the schedule has."""

TURN = 250
"""After how many steps the other library takes its turn."""

RESULTS = Path(__file__).with_suffix(".json")
"""What was found when the README was written."""

FOUND = Path("mnist_bounds_found.json")
"""Where a run puts what it finds, unless another file is named."""

OBJECTIVES = {
    "VAE": Objective("elbo"),
    "IWAE k=5": Objective("iwae", samples=5),
    "IWAE k=50": Objective("iwae", samples=50),
    "DReG k=50": Objective("dreg", samples=50),
}

Step = Callable[[np.ndarray, float], None]
"""One step up the bound of a batch, with a learning rate."""


@dataclass
class Contender:
    """A step, and the model as it stands."""

    step: Step
    model: Callable[[], tg.VAE]


def images_of(path: str, name: str) -> np.ndarray:
    """Return one array of images of the file, a byte for each pixel."""
    with np.load(path) as file:
        found = file[name]
    return np.unpackbits(found, axis=1)[:, :PIXELS] if found.shape[1] == PIXELS // 8 else found


def batches(images: np.ndarray, steps: int, rng: NoiseStream) -> Iterator[np.ndarray]:
    """Yield the images of each step, every one once before any comes again."""
    order, start = np.empty(0, int), 0
    for step in range(steps):
        if start + BATCH > len(order):
            order, start = rng.at("order", step).permutation(len(images)), 0
        yield images[order[start : start + BATCH]].astype(np.float32)
        start += BATCH


def ours(model: tg.VAE, objective: Objective, seed: int, *, planned: bool = True) -> Contender:
    """Return the library's step, run by a plan or not: the same numbers, bit for bit."""

    def update(model: tg.VAE, state: Any, x: np.ndarray, rate: np.ndarray, rng: NoiseStream) -> Any:
        gradient = tg.grad(lambda model: -tg.mean(objective(model, x, rng=rng)))(model)
        return tg.optim.Adam(rate, epsilon=EPSILON).update(model, gradient, state)

    state = tg.optim.Adam().init(model)
    stream = tg.noise(seed).at("draws")
    run = tg.plan(update, carry=2) if planned else update

    def step(x: np.ndarray, rate: float) -> None:
        nonlocal model, state
        model, state = run(model, state, x, np.asarray(rate), stream)

    return Contender(step, lambda: tg.trees.map_leaves(np.copy, model))


def in_torch(model: tg.VAE, objective: Objective, seed: int) -> Contender:
    """Return the same step in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)

    def trunk(*sizes: int) -> nn.Sequential:
        pairs = itertools.pairwise(sizes)
        return nn.Sequential(*(layer for n, m in pairs for layer in (nn.Linear(n, m), nn.Tanh())))

    net = nn.ModuleDict(
        {
            "encoder": trunk(PIXELS, *HIDDEN),
            "posterior": nn.ModuleDict({name: nn.Linear(HIDDEN[-1], LATENT) for name in ("mean", "log_variance")}),
            "decoder": trunk(LATENT, *reversed(HIDDEN)),
            "likelihood": nn.ModuleDict({"logits": nn.Linear(HIDDEN[0], PIXELS)}),
        }
    )
    net.load_state_dict({name: torch.from_numpy(array) for name, array in vae.to_state_dict(model).items()})
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, eps=EPSILON)
    k, doubly = objective.samples, objective.bound == "dreg"

    def step(images: np.ndarray, rate: float) -> None:
        x = torch.from_numpy(images)
        h = net["encoder"](x)
        mu, log_variance = net["posterior"]["mean"](h), net["posterior"]["log_variance"](h)
        sigma = torch.exp(0.5 * log_variance)
        z = mu + sigma * torch.randn(k, *mu.shape)
        logits = net["likelihood"]["logits"](net["decoder"](z))
        fit = -nn.functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        if objective.bound == "elbo":
            bound = (fit - 0.5 * (mu**2 + sigma**2 - 1 - log_variance).sum(-1)).mean(0)
        else:
            centre, width = (mu.detach(), sigma.detach()) if doubly else (mu, sigma)
            log_w = fit - 0.5 * (z**2).sum(-1) + (0.5 * ((z - centre) / width) ** 2 + torch.log(width)).sum(-1)
            if doubly:
                weights = torch.softmax(log_w.detach(), 0).unsqueeze(-1)
                z.register_hook(lambda g: weights * g)
            bound = torch.logsumexp(log_w, 0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        (-bound.mean()).backward()
        optimizer.step()

    return Contender(step, lambda: vae.from_state_dict(model, {name: p.detach() for name, p in net.named_parameters()}))


CONTENDERS = {"tinygrad_vae": ours, "PyTorch": in_torch}


def of_a_seed(
    objective: Objective, train: np.ndarray, test: np.ndarray, options: argparse.Namespace, seed: int
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, list[float]]]:
    """Return what each library measures after its training, and the seconds of its turns."""
    steps = round(options.epochs * PER_EPOCH)
    turns: dict[str, list[float]] = {library: [] for library in CONTENDERS}
    first = tg.VAE.init(PIXELS, hidden=HIDDEN, latent=LATENT, activation="tanh", rng=tg.noise(seed).at("weights"))
    check_agreement(first, objective, train)
    contenders = {library: make(first, objective, seed) for library, make in CONTENDERS.items()}
    feeds = {library: batches(train, steps, tg.noise(seed)) for library in CONTENDERS}
    for start in range(0, steps, TURN):
        rate = RATE * tg.optim.stages(start // PER_EPOCH)
        for library, contender in contenders.items():
            begun = time.perf_counter()
            for x in itertools.islice(feeds[library], TURN):
                contender.step(x, rate)
            turns[library].append(time.perf_counter() - begun)
        told(f"seed {seed}: step {min(start + TURN, steps)} of {steps}, " + seconds_an_epoch(turns))
    found = {}
    for library, contender in contenders.items():
        found[library] = vae.measure(
            contender.model(),
            test.astype(np.float32),
            rng=tg.noise(seed).at("evaluate"),
            samples=options.draws,
            progress=lambda done, n, library=library: told(f"evaluate {library}: image {done} of {n}"),
        )
    return found, turns


def compared(
    objective: Objective, train: np.ndarray, test: np.ndarray, options: argparse.Namespace, executor: Executor | None
) -> dict[str, Any]:
    """Return what one objective gives in both libraries, over the seeds."""
    tasks = [(objective, train, test, options, seed) for seed in range(options.seeds)]
    each = list(in_order("compared", executor, of_a_seed, tasks))
    found = {library: [measured[library] for measured, _ in each] for library in CONTENDERS}
    turns = {library: [seconds for _, of in each for seconds in of[library]] for library in CONTENDERS}
    log_likelihood = {library: np.stack([m["log_likelihood"] for m in of]) for library, of in found.items()}
    here, there = (log_likelihood[library] for library in CONTENDERS)
    row: dict[str, Any] = {
        "epochs": options.epochs,
        "seeds": options.seeds,
        "images": len(test),
        "draws": options.draws,
        "difference": mean_and_error((here - there).mean(axis=0)),
        "difference_of_each_seed": [mean_and_error(a - b) for a, b in zip(here, there, strict=True)],
        "between_seeds": [mean_and_error(of[0] - of[1]) for of in (here, there)] if options.seeds > 1 else None,
    }
    for library, of in found.items():
        summaries = [vae.summary(measured, options.draws) for measured in of]
        row[library] = {
            "log_likelihood": mean_and_error(log_likelihood[library].mean(axis=0)),
            "bound": mean_and_error(np.mean([measured["bound"] for measured in of], axis=0)),
            "active_units": float(np.mean([s["active_units"] for s in summaries])),
            "effective_samples": float(np.mean([s["effective_samples"] for s in summaries])),
            "seconds_an_epoch": float(np.median(turns[library])) * PER_EPOCH / TURN,
        }
    return row


def check_agreement(first: tg.VAE, objective: Objective, train: np.ndarray, steps: int = 10) -> None:
    """Raise where a few steps with the same noise do not take both libraries to the same weights."""
    import torch

    stream, randn = tg.noise(0).at("draws"), torch.randn
    here, there = (make(first, objective, 0) for make in CONTENDERS.values())
    try:
        torch.randn = lambda *shape: torch.from_numpy(stream.normal(shape, np.float32))
        for x in batches(train, steps, tg.noise(0)):
            for contender in (here, there):
                contender.step(x, RATE)
    finally:
        torch.randn = randn
    for (path, a), (_, b) in zip(tg.trees.paths(here.model()), tg.trees.paths(there.model()), strict=True):
        np.testing.assert_allclose(a, b, atol=steps * RATE / 100, err_msg=path)  # they moved a hundred times as far


def timed(objective: Objective, train: np.ndarray, rounds: int = 10, steps: int = 25) -> dict[str, float]:
    """Return the seconds that an epoch takes each library: the median over short turns."""
    first = tg.VAE.init(PIXELS, hidden=HIDDEN, latent=LATENT, activation="tanh", rng=tg.noise(0))
    contenders = {library: make(first, objective, 0) for library, make in CONTENDERS.items()}
    turns: dict[str, list[float]] = {library: [] for library in CONTENDERS}
    images = list(batches(train, steps, tg.noise(0)))
    for k in range(rounds + 1):
        for library, contender in contenders.items():
            begun = time.perf_counter()
            for x in images:
                contender.step(x, RATE)
            if k:  # in the first round things are recorded and caches filled
                turns[library].append(time.perf_counter() - begun)
    return {library: float(np.median(of)) * PER_EPOCH / steps for library, of in turns.items()}


def mean_and_error(x: np.ndarray) -> list[float]:
    """Return the mean over images, and its standard error."""
    return [float(x.mean()), float(x.std(ddof=1)) / math.sqrt(len(x))]


def seconds_an_epoch(turns: dict[str, list[float]]) -> str:
    """Say how long an epoch takes each library."""
    each = (f"{library} {np.median(of) * PER_EPOCH / TURN:.1f}" for library, of in turns.items())
    return "seconds an epoch: " + ", ".join(each)


def told(text: str) -> None:
    """Show where a long computation stands."""
    print(f"\r{text:<100}", end="", file=sys.stderr, flush=True)


def table(results: dict[str, Any]) -> str:
    """Return the results as a sentence and a table in Markdown."""
    rows = [results["objectives"][name] for name in OBJECTIVES if name in results["objectives"]]
    each = [np.array([seed[0] for seed in row["difference_of_each_seed"]]) for row in rows]
    freedom = sum(len(differences) - 1 for differences in each)
    deviation = math.sqrt(sum(((d - d.mean()) ** 2).sum() for d in each) / freedom) if freedom else math.nan
    epochs, images, draws = ({row[name] for row in rows} for name in ("epochs", "images", "draws"))
    if not len(epochs) == len(images) == len(draws) == 1:
        raise ValueError("the objectives were trained or measured differently; a table of them would not compare")
    length, count, drawn = epochs.pop(), images.pop(), draws.pop()
    lines = [
        f"{length:g} of {FULL} epochs, {length * PER_EPOCH:.0f} steps; {count} held-out images, {drawn} draws of each; "
        "nats, with the standard error over seeds, from one deviation pooled over the objectives. "
        f"Options: `--epochs {length:g} --images {count} --draws {drawn}`, with `--only` and `--seeds` for each row.",
        "",
        "| objective | seeds | tinygrad_vae | PyTorch | difference | active latents | s an epoch, here / PyTorch |"
        f" {FULL} epochs, here |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in OBJECTIVES:
        if name in results["objectives"]:
            row = results["objectives"][name]
            here, there = (row[library] for library in CONTENDERS)
            seconds, others = here["seconds_an_epoch"], there["seconds_an_epoch"]
            lines.append(
                f"| {name} | {row['seeds']} | {here['log_likelihood'][0]:.2f} | {there['log_likelihood'][0]:.2f} "
                f"| {row['difference'][0]:+.2f} ± {deviation / math.sqrt(row['seeds']):.2f} "
                f"| {here['active_units']:g} / {there['active_units']:g} "
                f"| {seconds:.1f} / {others:.1f} | {seconds * FULL / 3600:.0f} h |"
            )
    return "\n".join(lines)


def main() -> None:
    """Read the options, train, and put what is found into the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="an .npz file with train and test")
    parser.add_argument("--epochs", type=float, default=4.0, help="of 2500 steps, for each run (default: 4)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each objective and library (default: 2)")
    parser.add_argument("--images", type=int, default=1000, help="how many held-out images (default: 1000)")
    parser.add_argument("--draws", type=int, default=5000, help="draws an image for the log-likelihood (default: 5000)")
    parser.add_argument("--workers", type=int, default=1, help="how many seeds side by side (default: 1)")
    parser.add_argument("--only", choices=list(OBJECTIVES), help="one objective instead of all")
    parser.add_argument(
        "--results", type=Path, help=f"the results file, made or added to ({FOUND}; for --table that of the README)"
    )
    parser.add_argument("--time", action="store_true", help="only measure anew how long an epoch takes")
    parser.add_argument("--table", action="store_true", help="only print the results file as a table")
    options = parser.parse_args()

    path = options.results or (RESULTS if options.table else FOUND)
    if options.table and not path.exists():
        parser.error(f"--results: there is no {path}")
    results = json.loads(path.read_text()) if path.exists() else {"objectives": {}}
    if not options.table:
        names = [options.only] if options.only else list(OBJECTIVES)
        if options.time and (missing := [name for name in names if name not in results["objectives"]]):
            parser.error(f"--time: {path} does not hold {', '.join(missing)}; measure them first")
        if options.data is None:
            parser.error("--data: an .npz file with train and test is needed")
        train, test = images_of(options.data, "train"), images_of(options.data, "test")[: options.images]
        import torch

        with ProcessPoolExecutor(options.workers) if options.workers > 1 else contextlib.nullcontext() as executor:
            for name in names:
                told(f"{name}: begins")
                if options.time:
                    row = results["objectives"][name]
                    for library, seconds in timed(OBJECTIVES[name], train).items():
                        row[library]["seconds_an_epoch"] = seconds
                else:
                    row = compared(OBJECTIVES[name], train, test, options, executor)
                versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
                versions["numba"] = importlib.metadata.version("numba") if importlib.util.find_spec("numba") else None
                results["objectives"][name] = row | {"versions": versions}
                path.write_text(json.dumps(results, indent=2) + "\n")
                told("")
    print(table(results))


if __name__ == "__main__":
    main()
