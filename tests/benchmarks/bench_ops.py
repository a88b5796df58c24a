"""Time what the library adds to each op, what a long graph costs, and how a step grows with its sizes.

**The cost of an op.** A chain of ops on a small array, so that next to nothing of the time goes into computing. On
arrays it is the call of an op beside that of the NumPy function in it; recorded it is the forward and the backward pass
of a graph as long as the chain, beside PyTorch. The two take turns; a round gives one ratio, and the table shows the
medians over rounds with the quartiles.

**The deep chain.** The same chain with a million ops: the seconds and bytes of each, forward and backward. Both should
stay what they are in a short one; a walk by recursion would have ended near a thousand.

**Growth.** Loss and gradient of a network of dense layers, its batch, its width or its depth doubled again and again,
beside PyTorch: what the library adds for each op is lost in the computing sooner or later, and here one sees when.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_ops.py --out pictures
    python tests/benchmarks/bench_ops.py --parts chain --deepest 100000
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_vae as tg

START = np.full(4, 0.5, np.float32)


def chain_in_numpy(n: int) -> None:
    """The chain in NumPy: a product, a sum and a sine, over and over."""
    x = START
    for _ in range(n // 3):
        x = np.sin(np.add(np.multiply(x, 0.9), 0.1))


def chain_on_arrays(n: int) -> None:
    """The same with the library's functions, on arrays."""
    x = START
    for _ in range(n // 3):
        x = tg.sin(tg.add(tg.multiply(x, 0.9), 0.1))


def chain_recorded(n: int) -> None:
    """The same recorded, and its gradient."""
    x = start = tg.Tensor(START)
    for _ in range(n // 3):
        x = tg.sin(tg.add(tg.multiply(x, 0.9), 0.1))
    tg.gradients(tg.sum(x), start)


def chain_planned(n: int) -> Callable[[], None]:
    """Return a function that runs a plan of the same chain and its gradient."""

    def step(x: np.ndarray) -> tg.Tensor:
        def end(x: tg.Tensor) -> tg.Tensor:
            for _ in range(n // 3):
                x = tg.sin(tg.add(tg.multiply(x, 0.9), 0.1))
            return tg.sum(x)

        return tg.grad(end)(x)

    run = tg.plan(step)
    for _ in range(2):  # recorded
        run(START)
    return lambda: run(START)


def chain_in_torch(n: int) -> None:
    """The same in eager PyTorch."""
    import torch

    x = start = torch.tensor(START, requires_grad=True)
    for _ in range(n // 3):
        x = torch.sin(torch.add(torch.mul(x, 0.9), 0.1))
    torch.autograd.grad(x.sum(), start)


Quartiles = tuple[float, float, float]


def compared(run: Callable[[], None], reference: Callable[[], None], rounds: int) -> tuple[float, float, Quartiles]:
    """Return the median seconds of CPU of two functions that take turns, and the quartiles of their ratio."""
    seconds = np.empty((rounds, 2))
    for row in seconds:
        for k, function in enumerate((run, reference)):
            function()
            start = time.process_time()
            function()
            row[k] = time.process_time() - start
    own, other = np.median(seconds, axis=0)
    low, middle, high = np.quantile(seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75])
    return float(own), float(other), (float(low), float(middle), float(high))


def cost_of_an_op(n: int, rounds: int) -> dict[str, tuple[float, float, Quartiles]]:
    """Print a table of what an op costs, and return its rows: microseconds here and there, and the ratio."""
    numpy, arrays, recorded = (partial(chain, n) for chain in (chain_in_numpy, chain_on_arrays, chain_recorded))
    planned = chain_planned(n)
    pairs = {
        "on arrays, to NumPy": (arrays, numpy),
        "recorded, forward and backward, to NumPy": (recorded, numpy),
        "planned, forward and backward, to NumPy": (planned, numpy),
    }
    if importlib.util.find_spec("torch"):
        torch = partial(chain_in_torch, n)
        pairs["recorded, forward and backward, to PyTorch"] = (recorded, torch)
        pairs["planned, forward and backward, to PyTorch"] = (planned, torch)
    print(f"a chain of {n} ops on 4 numbers")
    print(f"{'microseconds of CPU an op':<44}{'own':>8}{'reference':>12}{'ratio':>9}   quartiles of {rounds} rounds")
    rows = {}
    for title, pair in pairs.items():
        own, other, (low, middle, high) = compared(*pair, rounds)
        rows[title] = (own / n * 1e6, other / n * 1e6, (low, middle, high))
        print(f"{title:<44}{rows[title][0]:>8.2f}{rows[title][1]:>12.2f}{middle:>9.2f}   {low:.2f} to {high:.2f}")
    return rows


def bytes_of_a_node(n: int) -> tuple[float, float]:
    """Return the bytes that each node of a chain keeps, and those at the peak, while the gradient is taken."""
    x = start = tg.Tensor(START)
    gc.collect()
    tracemalloc.start()
    for _ in range(n // 3):
        x = tg.sin(tg.add(tg.multiply(x, 0.9), 0.1))
    kept, _ = tracemalloc.get_traced_memory()
    tg.gradients(tg.sum(x), start)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / n, peak / n


def deep_chain(deepest: int) -> dict[int, tuple[float, float, float]]:
    """Print what longer and longer chains cost, and return it: microseconds, bytes kept and at the peak, an op."""
    print(f"\n{'ops in the chain':>16}{'microseconds an op':>20}{'bytes kept':>12}{'at the peak':>13}")
    rows = {}
    n = 1000
    while n <= deepest:
        print(f"{n} ops; a million take a minute", end="\r", file=sys.stderr, flush=True)
        start = time.process_time()
        chain_recorded(n)
        seconds = time.process_time() - start
        kept, peak = bytes_of_a_node(n)
        rows[n] = (seconds / n * 1e6, kept, peak)
        print(f"{n:>16}{rows[n][0]:>20.2f}{kept:>12.0f}{peak:>13.0f}", flush=True)
        n *= 10
    return rows


def network(batch: int, width: int, depth: int) -> tuple[Callable[[], None], Callable[[], None] | None]:
    """Return loss and gradient of so many dense layers with relu, here and in PyTorch, where that is installed."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((width, width), dtype=np.float32) / width**0.5 for _ in range(depth)]
    x = rng.standard_normal((batch, width), dtype=np.float32)

    def here() -> None:
        recorded = [tg.Tensor(w) for w in weights]
        h = x
        for w in recorded:
            h = tg.relu(h @ w)
        tg.gradients(tg.mean(h), recorded)

    if importlib.util.find_spec("torch") is None:
        return here, None
    import torch

    given, leaves = torch.from_numpy(x), [torch.tensor(w, requires_grad=True) for w in weights]

    def there() -> None:
        h = given
        for w in leaves:
            h = torch.relu(h @ w)
        torch.autograd.grad(h.mean(), leaves)

    return here, there


SIZES = {"batch": (1, 4, 16, 64, 256, 1024), "width": (16, 32, 64, 128, 256, 512), "depth": (1, 2, 4, 8, 16, 32)}
MIDDLE = {"batch": 64, "width": 64, "depth": 4}
"""The sizes that are tried, and what the other two are meanwhile."""

Growth = dict[str, dict[int, tuple[float, float, Quartiles]]]


def growth(rounds: int) -> Growth:
    """Print how long loss and gradient take as one size grows, and return it: seconds here and there, and the ratio."""
    rows: Growth = {}
    for size, steps in SIZES.items():
        others = ", ".join(f"{name} {value}" for name, value in MIDDLE.items() if name != size)
        print(f"\n{f'{size}, at {others}':<34}{'ms':>9}{'PyTorch':>10}{'ratio':>9}   quartiles of {rounds} rounds")
        rows[size] = {}
        for step in steps:
            here, there = network(**{**MIDDLE, size: step})
            own, other, (low, middle, high) = compared(here, there or here, rounds)
            rows[size][step] = own, other, (low, middle, high)
            told = f"{1000 * other:>10.3f}{middle:>9.2f}   {low:.2f} to {high:.2f}" if there else ""
            print(f"{step:<34}{1000 * own:>9.3f}{told}", flush=True)
    return rows


# --------------------------------------------------------------------------------------------- pictures


def draw_ops(plt: Any, rows: dict[str, tuple[float, float, Quartiles]], path: Path) -> None:
    """Draw what an op costs, as a ratio with its quartiles."""
    figure, panel = plt.subplots(figsize=(7.5, 2.8))
    for k, (_, _, (low, middle, high)) in enumerate(rows.values()):
        panel.errorbar(middle, k, xerr=[[middle - low], [high - middle]], fmt="o", color="C1")
        panel.annotate(f"{middle:.2f}", (high, k), (7, -3), textcoords="offset points", fontsize=8)
    panel.axvline(1, color="#22303c", linewidth=1)
    panel.set_yticks(range(len(rows)), list(rows))
    panel.invert_yaxis()
    panel.set_xlim(0, None)
    panel.margins(x=0.12)
    panel.set_xlabel("CPU time of an op, as a ratio; quartiles over rounds")
    figure.savefig(path)
    plt.close(figure)


def draw_chain(plt: Any, rows: dict[int, tuple[float, float, float]], path: Path) -> None:
    """Draw microseconds and bytes an op over the length of the chain."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    left.plot(list(rows), [row[0] for row in rows.values()], "o-")
    left.set_title("microseconds an op, forward and backward")
    right.plot(list(rows), [row[2] for row in rows.values()], "o-", color="C1", label="while the gradient is taken")
    right.plot(list(rows), [row[1] for row in rows.values()], "o-", label="kept")
    right.set_title("bytes an op")
    right.legend()
    for panel in (left, right):
        panel.set_xscale("log")
        panel.set_ylim(0, None)
        panel.set_xlabel("ops in the chain")
    figure.savefig(path)
    plt.close(figure)


def draw_growth(plt: Any, rows: Growth, path: Path) -> None:
    """Draw milliseconds over each of the three sizes, here and in PyTorch."""
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True)
    for panel, (size, row) in zip(panels, rows.items(), strict=True):
        panel.plot(list(row), [1000 * own for own, _, _ in row.values()], "o-", color="C1", label="tinygrad_vae")
        if importlib.util.find_spec("torch"):
            panel.plot(list(row), [1000 * other for _, other, _ in row.values()], "o-", color="C4", label="PyTorch")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(list(row), [str(step) for step in row])
        panel.minorticks_off()
        panel.set_xlabel(f"{size}, at " + ", ".join(f"{k} {v}" for k, v in MIDDLE.items() if k != size))
    panels[0].set_ylabel("ms, loss and gradient")
    panels[0].legend()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Read the options, time, print the tables, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=999, help="how many ops in the short chain (default: 999)")
    parser.add_argument("--deepest", type=int, default=10**6, help="how many in the deepest one (default: a million)")
    parser.add_argument("--rounds", type=int, default=25, help="how many ratios to take the median of (default: 25)")
    parser.add_argument("--parts", nargs="+", choices=["ops", "chain", "growth"], default=["ops", "chain", "growth"])
    parser.add_argument("--out", type=Path, help="draw ops.png, chain.png and growth.png into this folder")
    options = parser.parse_args()

    print(f"{platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}")
    parts: dict[str, tuple[Callable[[], Any], Callable[..., None]]] = {
        "ops": (partial(cost_of_an_op, options.length, options.rounds), draw_ops),
        "chain": (partial(deep_chain, options.deepest), draw_chain),
        "growth": (partial(growth, options.rounds), draw_growth),
    }
    found = {name: parts[name][0]() for name in options.parts}
    if options.out:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot as plt

        plt.style.use("tinygrad_vae.course")
        options.out.mkdir(parents=True, exist_ok=True)
        for name, rows in found.items():
            parts[name][1](plt, rows, options.out / f"{name}.png")


if __name__ == "__main__":
    main()
