"""Time what the library adds to each op: on arrays against NumPy, recorded and differentiated against PyTorch.

A chain of ops on a small array, so that next to nothing of the time goes into computing. On arrays it is the call of an
op beside that of the NumPy function in it; recorded it is the forward and the backward pass of a graph as long as the
chain. The two take turns; a round gives one ratio, and the table shows the medians over rounds with the quartiles.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_ops.py
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import time
from collections.abc import Callable
from functools import partial

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


def compare(title: str, run: Callable[[], None], reference: Callable[[], None], n: int, rounds: int) -> None:
    """Time two functions in turns, and print a line of the table."""
    seconds = np.empty((rounds, 2))
    for row in seconds:
        for k, function in enumerate((run, reference)):
            function()
            start = time.process_time()
            function()
            row[k] = time.process_time() - start
    own, other = np.median(seconds, axis=0) / n * 1e6
    low, middle, high = np.quantile(seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75])
    print(f"{title:<44}{own:>8.2f}{other:>12.2f}{middle:>9.2f}   {low:.2f} to {high:.2f}")


def main() -> None:
    """Read the options, time, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=1000, help="how many ops in the chain (default: 1000)")
    parser.add_argument("--rounds", type=int, default=25, help="how many ratios to take the median of (default: 25)")
    options = parser.parse_args()

    n, rounds = options.length, options.rounds
    numpy, arrays, recorded = (partial(chain, n) for chain in (chain_in_numpy, chain_on_arrays, chain_recorded))
    planned = chain_planned(n)
    print(f"{platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}, a chain of {n} ops on 4 numbers")
    print(f"{'microseconds of CPU an op':<44}{'own':>8}{'reference':>12}{'ratio':>9}   quartiles of {rounds} rounds")
    compare("on arrays, to NumPy", arrays, numpy, n, rounds)
    compare("recorded, forward and backward, to NumPy", recorded, numpy, n, rounds)
    compare("planned, forward and backward, to NumPy", planned, numpy, n, rounds)
    if importlib.util.find_spec("torch"):
        torch = partial(chain_in_torch, n)
        compare("recorded, forward and backward, to PyTorch", recorded, torch, n, rounds)
        compare("planned, forward and backward, to PyTorch", planned, torch, n, rounds)


if __name__ == "__main__":
    main()
