"""Measure the memory of training steps, here and in PyTorch, and of the importance-weighted evaluation.

Each row is of a process of its own: the most memory that it held while it made its contender of training_step.py and
ran some steps, and what it holds after them, both above what it held before, with its library imported. That is what
the system sees (VmHWM and VmRSS in /proc/self/status, so on Linux alone), with all that allocators keep, and not what
an allocator says of itself. Where numba will compile something it has compiled a function already, since the compiler's
own memory is part of its import.

A plan records two steps before it runs in its own buffers, and is at its largest while it is made from the second.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_memory.py --batch 128 512 --out memory.png
"""

from __future__ import annotations

import argparse
import gc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from training_step import CONTENDERS, AbsentError, images, new_model

import tinygrad_vae as tg

STEPS = (
    "PyTorch eager",
    "tinygrad_vae eager, NumPy alone",
    "tinygrad_vae eager",
    "tinygrad_vae plan, NumPy alone",
    "tinygrad_vae plan",
)
DRAWS = (50, 500, 5000)
"""For how many draws an image the evaluation is measured: it goes through them in parts."""


def _status(name: str) -> float:
    """Return a line of what the system says of this process, in MiB."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def _begin() -> float:
    """Forget the peak so far, and return what the process holds."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def growth_of_steps(name: str, batch: int, steps: int = 120) -> tuple[float, float]:
    """Return by how many MiB this process grows at most while it trains, and what remains of that afterwards."""
    model, x = new_model(), images(batch)
    if "PyTorch" in name:
        import torch
        import torch._dynamo  # which the first step of an optimizer would import

        torch.ones(2).sum()
    elif name in ("tinygrad_vae eager", "tinygrad_vae plan"):
        import numba

        numba.njit(lambda x: x + 1)(1.0)
    held = _begin()
    step, _ = CONTENDERS[name](model)
    for _ in range(steps):
        step(x, None)
    return _status("VmHWM") - held, _status("VmRSS") - held


def growth_of_evaluation(draws: int, batch: int) -> tuple[float, float]:
    """Return the same of a process that estimates log-likelihoods by importance weighting."""
    model, x = new_model(), images(batch)
    held = _begin()
    tg.vae.measure(model, x, rng=tg.noise(0), samples=draws)
    return _status("VmHWM") - held, _status("VmRSS") - held


def in_a_process(*arguments: str) -> tuple[float, float] | None:
    """Return what this script prints when it is run with ``--one``, nothing where the contender is not there."""
    command = [sys.executable, str(Path(__file__)), "--one", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"left out: {arguments[0]} ({found.stderr.strip().splitlines()[-1]})", file=sys.stderr)
        return None
    peak, held = map(float, found.stdout.split())
    return peak, held


def picture(rows: dict[str, dict[int, tuple[float, float]]], path: Path) -> None:
    """Draw the peaks, a group of bars for each batch."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    plt.style.use("tinygrad_vae.course")
    figure, panel = plt.subplots(figsize=(8, 1.5 + 0.55 * len(rows)))
    batches = sorted({batch for row in rows.values() for batch in row})
    height = 0.8 / len(batches)
    for k, batch in enumerate(batches):
        places = np.arange(len(rows)) + (k - (len(batches) - 1) / 2) * height
        bars = panel.barh(
            places, [row[batch][0] if batch in row else np.nan for row in rows.values()], height, label=f"batch {batch}"
        )
        panel.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    panel.set_yticks(range(len(rows)), list(rows))
    panel.invert_yaxis()
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("peak memory of training above that of the import, in MiB")
    panel.legend()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Read the options, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512], help="images a step (default: 128 512)")
    parser.add_argument("--out", type=Path, help="draw the peaks into this file")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "BATCH"), help="measure one thing in this very process")
    options = parser.parse_args()

    if options.one:
        what, batch = options.one
        try:
            print(*growth_of_steps(what, int(batch)) if what in STEPS else growth_of_evaluation(int(what), int(batch)))
        except (ImportError, AbsentError) as error:
            sys.exit(str(error))
        return
    rows: dict[str, dict[int, tuple[float, float]]] = {}
    print("| MiB: peak / held after it | " + " | ".join(f"batch {batch}" for batch in options.batch) + " |")
    print("|---|" + "---|" * len(options.batch))
    for name in (*STEPS, *map(str, DRAWS)):
        found = {batch: in_a_process(name, str(batch)) for batch in options.batch}
        row = {batch: both for batch, both in found.items() if both is not None}
        shown = " | ".join("{:.1f} / {:.1f}".format(*both) for both in row.values())
        print(f"| {name if name in STEPS else f'evaluation, {name} draws an image'} | {shown} |", flush=True)
        if name in STEPS:
            rows[name] = row
    if options.out:
        picture(rows, options.out)


if __name__ == "__main__":
    main()
