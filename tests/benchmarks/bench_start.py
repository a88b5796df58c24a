"""Time how long a process takes to start: to import the library, to print the help, to begin to train.

Each number is the median over processes, with the quartiles; the programs take turns. Bytecode is cached, as after an
installation. Training ends after its first step, which is recorded, or after the third one, the first that runs
compiled. With numba, the loops of that step are compiled, or found in the cache, where a process before left them.

    python tests/benchmarks/bench_start.py --rounds 15
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
from bench_step import hardware

TRAIN = """
import os, sys
from tinygrad_vae.app import cli, loop

def counted(*args, made=loop.stepper, left=[{steps}]):
    make_step = made(*args)
    def step(state):
        state = make_step(state)
        left[0] -= 1
        if not left[0]:
            os._exit(0)
        return state
    return step

loop.stepper = counted
cli.main(["train", "--out", sys.argv[1]])
"""

NUMPY = "import numpy"
COLD = "tinygrad-vae train, three steps, nothing in the cache"
PROGRAMS = {
    NUMPY: NUMPY,
    "import tinygrad_vae": "import tinygrad_vae",
    "import torch": "import torch",
    "tinygrad-vae --help": "from tinygrad_vae.app.cli import main; main(['--help'])",
    "tinygrad-vae train, one step": TRAIN.format(steps=1),
    "tinygrad-vae train, three steps": TRAIN.format(steps=3),
    COLD: TRAIN.format(steps=3),
}
NEEDS = {"import torch": "torch", COLD: "numba"}


def seconds_of(program: str, environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the processor time and the wall time of a program in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.times()
        command = [sys.executable, "-c", program, f"{folder}/run"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, after.elapsed - before.elapsed


def measured(names: Sequence[str], rounds: int) -> dict[str, np.ndarray]:
    """Return for each program an array of shape (rounds, 2): its processor time and its wall time, in seconds."""
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode", "NUMBA_CACHE_DIR": f"{folder}/loops"}
        for number in range(rounds + 1):
            for name in names:
                print(f"round {number} of {rounds}, {name:<60}", end="\r", file=sys.stderr, flush=True)
                with tempfile.TemporaryDirectory() as empty:
                    cache = {"NUMBA_CACHE_DIR": empty} if name == COLD else {}
                    found = seconds_of(PROGRAMS[name], environment | cache)
                if number:  # the first round fills the caches
                    rows[name].append(found)
    return {name: np.array(found) for name, found in rows.items()}


def table(found: Mapping[str, np.ndarray]) -> str:
    """Return the medians and quartiles in Markdown."""
    lines = ["| seconds | processor time | beyond NumPy's import | wall time |", "|---|---|---|---|"]
    numpy = np.median(found[NUMPY][:, 0])
    for name, rows in found.items():
        cpu, wall = (np.quantile(column, [0.5, 0.25, 0.75]) for column in rows.T)
        shown = ("{:.2f} ({:.2f} to {:.2f})".format(*numbers) for numbers in (cpu, wall))
        lines.append(f"| {name} | {next(shown)} | {cpu[0] - numpy:.2f} | {next(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=9, help="processes of each kind (default: %(default)s)")
    names = [name for name in PROGRAMS if importlib.util.find_spec(NEEDS.get(name, "numpy"))]
    found = measured(names, words.parse_args().rounds)
    print(f"\n{hardware()}\n\n{table(found)}")


if __name__ == "__main__":
    main()
