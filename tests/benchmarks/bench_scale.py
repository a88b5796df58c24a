"""Measure how a training step scales: with the model on one core, and with processes that share it; and model the rest.

The step is that of the VAE 784-H-(20, 20)-H-784 of bench_step.py, compiled, with Adam. Four questions:

1. How many images a second does one core train, by the size of the model?
2. What does it cost to cut a batch into blocks, and to add these in a tree, in one process? The contenders take turns.
3. How long do 2 and 4 processes of this machine take for a step, and for adding the gradients alone?
4. When does another machine help? A step of R processes takes, at G bytes of gradients,

       overhead + images / R / speed + update + 2 G (R - 1) / (R bandwidth) + 2 (R - 1) latency

   since each process sends every other one a share of its subtrees, and then a share of the sum. Overhead, speed and
   update are those measured in 1 and 2; bandwidth and latency are those of a network.

What is found is put into a results file in the current folder, and the picture beside it. ``--table`` prints the tables
of the page on scale and draws its picture from the results file beside this program.

    python tests/benchmarks/bench_scale.py
    python tests/benchmarks/bench_scale.py --table
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_step import hardware

import tinygrad_vae as tg
from tinygrad_vae.parallel import Ranks, world

RESULTS = Path(__file__).with_suffix(".json")
"""What was found when the page was written."""

FOUND = Path("bench_scale_found.json")
"""Where a run puts what it finds, unless another file is named."""

SIZES = (50, 100, 200, 400, 800, 1600)
BATCHES = (128, 512, 2048)
BLOCKS = (2, 4, 8)
RANKS = (1, 2, 4)
MODELLED = (2, 8, 64, 1000)
NETWORKS = {
    "1 Gbit/s, 50 us": (1e9 / 8, 50e-6),
    "10 Gbit/s, 20 us": (1e10 / 8, 20e-6),
    "100 Gbit/s, 2 us": (1e11 / 8, 2e-6),
}
"""Bytes a second, and seconds before the first byte."""

Step = Callable[[], Any]


def slope(model: tg.VAE, x: np.ndarray, rng: Any) -> Any:
    """Minus the mean bound of a batch, and its gradient."""
    return tg.value_and_grad(lambda model: -tg.mean(tg.reparameterize(tg.elbo(model, x, rng=rng))))(model)


def in_blocks(blocks: int, **options: Any) -> Callable[..., Any]:
    """Return the compiled gradient of a batch in blocks, or of the whole batch."""
    return tg.parallel(slope, blocks=blocks, compiled=True, **options) if blocks > 1 else tg.plan(slope)


def in_a_row(blocks: int) -> Callable[..., Any]:
    """Return what ``in_blocks`` returns, but for the tree: the blocks are added one after the other."""
    planned = tg.plan(lambda model, _, *rest: (model, slope(model, *rest)), carry=2)
    kept: list[Any] = []

    def averaged(model: tg.VAE, x: np.ndarray, rng: Any) -> Any:
        whole: list[np.ndarray] = []
        kept[:1] = [model]
        for k, part in enumerate(np.split(x, blocks)):
            rest = part, rng.at("block", k)
            kept[:] = planned(*kept, *rest) if len(kept) > 1 else (model, slope(model, *rest))
            weighed = [np.array(leaf * np.float32(1 / blocks)) for leaf in tg.trees.leaves(kept[1])]
            whole = [np.add(a, b, out=a) for a, b in zip(whole, weighed, strict=True)] if whole else weighed
        return tg.trees.replace_leaves(kept[1], whole)

    return averaged


def step_of(hidden: int, batch: int, gradient: Callable[..., Any]) -> Step:
    """Return a training step on one batch, given what computes loss and gradient."""
    model = tg.VAE.init(784, hidden=(hidden,), latent=20, rng=tg.noise(0))
    adam = tg.optim.Adam(1e-3)
    state, x, rng = adam.init(model), (tg.noise(1).uniform((batch, 784)) < 0.2).astype(np.float32), tg.noise(2)
    update = tg.plan(lambda m, s, g: adam.update(m, g, s), carry=2)

    def step() -> None:
        nonlocal model, state
        _, found = gradient(model, x, rng)
        model, state = update(model, state, found)

    for _ in range(4):  # the first calls are recorded
        step()
    return step


def in_turns(steps: dict[str, Step], rounds: int, seconds: float = 0.03) -> dict[str, list[float]]:
    """Return the CPU seconds of each step in each round; in a round each has a turn of some steps."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            step()
            begun, count = time.process_time(), 0
            while time.process_time() - begun < seconds:
                step()
                count += 1
            found[name].append((time.process_time() - begun) / count)
    return found


def of_one(rounds: int) -> dict[str, Any]:
    """Return what one process reaches: by size of the model, and by number of blocks."""
    found: dict[str, Any] = {"sizes": {}, "blocks": {}}
    for hidden in SIZES:
        turns = in_turns({str(batch): step_of(hidden, batch, in_blocks(1)) for batch in BATCHES[:2]}, rounds)
        found["sizes"][hidden] = {batch: float(np.median(of)) for batch, of in turns.items()}
    for batch in BATCHES:
        steps = {"whole": step_of(400, batch, in_blocks(1))}
        for blocks in BLOCKS:
            steps[f"{blocks}, tree"] = step_of(400, batch, in_blocks(blocks, comm=Ranks()))
            steps[f"{blocks}, row"] = step_of(400, batch, in_a_row(blocks))
        found["blocks"][batch] = in_turns(steps, rounds)
    return found


def of_ranks(rounds: int, realtime: bool) -> dict[str, Any]:
    """Return what several processes reach: seconds of a step, and of adding the gradients alone."""
    ranks = world()
    found: dict[str, Any] = {"steps": {}, "adding": {}}
    for batch in BATCHES[:2]:
        for blocks in (ranks.size, 8):
            step = step_of(400, batch, in_blocks(blocks))
            found["steps"][f"{batch}, {blocks}"] = timed(step, rounds, ranks, realtime)
    for hidden in SIZES if ranks.comm else ():
        size = sum(x.size for x in tg.trees.leaves(tg.VAE.init(784, hidden=(hidden,), latent=20, rng=tg.noise(0))))
        mine, spans = [np.zeros(size, np.float32)], [[(rank, rank + 1)] for rank in range(ranks.size)]
        found["adding"][size] = timed(lambda mine=mine, spans=spans: ranks.added(spans, mine), rounds, ranks, realtime)
    return found


def timed(step: Step, rounds: int, ranks: Ranks, realtime: bool) -> list[float]:
    """Return the seconds of a step in each of some turns that all ranks begin together."""
    found = []
    step()
    for _ in range(rounds):
        time.sleep(0.1)
        with undisturbed(realtime):
            if ranks.comm:
                ranks.comm.Barrier()
            begun = time.perf_counter()
            step()
            step()
            found.append((time.perf_counter() - begun) / 2)
    return found


@contextlib.contextmanager
def undisturbed(realtime: bool) -> Iterator[None]:
    """Let no other process have the core meanwhile."""
    threads = [int(name) for name in os.listdir("/proc/self/task")] if realtime else []
    for thread in threads:
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def job(words: list[str], options: argparse.Namespace, *, ranks: int = 0, threads: int = 1) -> dict[str, Any]:
    """Return what a process, or ranks under mpiexec, found."""
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    realtime = ["--realtime"] if options.realtime and ranks <= (os.cpu_count() or 1) else []
    program = [sys.executable, __file__, "--rounds", str(options.rounds), *realtime, "--job", *words]
    command = [str(mpiexec), "-n", str(ranks), *program] if ranks else program
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    print(" ".join(words), ranks or "", file=sys.stderr)
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return all that is measured."""
    cores = os.cpu_count() or 1
    found = (f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba", "mpi4py", "mpich"))
    versions = ", ".join((f"Python {platform.python_version()}", *found))
    return {
        "machine": f"{hardware().partition(',')[0]}, {cores} cores, {versions}",
        "cores": cores,
        "one": job(["one"], options),
        "threads": job(["ranks"], options, ranks=1, threads=cores)["steps"],
        "ranks": {str(ranks): job(["ranks"], options, ranks=ranks) for ranks in RANKS},
    }


def middle(times: list[float]) -> float:
    """Return the median."""
    return float(np.median(times))


def adding(size: int, ranks: int, network: tuple[float, float]) -> float:
    """Return the seconds that a network takes to add gradients of so many float32."""
    bandwidth, latency = network
    return 2 * 4 * size * (ranks - 1) / (ranks * bandwidth) + 2 * (ranks - 1) * latency


def weights(hidden: int) -> int:
    """Return how many weights the model has."""
    return 2 * 784 * hidden + 3 * 20 * hidden + 2 * hidden + 2 * 20 + 784


def efficiency(results: dict[str, Any], hidden: int, ranks: int, network: tuple[float, float]) -> float:
    """Return the modelled speed of each rank as a share of the speed alone, at 512 images a rank."""
    alone = results["one"]["sizes"][str(hidden)]["512"]
    return alone / (alone + adding(weights(hidden), ranks, network))


def table(results: dict[str, Any]) -> str:
    """Return the results as sentences and tables in Markdown."""
    one, ranks = results["one"], results["ranks"]
    lines = [
        f"{results['machine']}. Medians over turns.",
        "",
        "| hidden units | weights | one core, batch 128 | one core, batch 512 |",
        "|---|---|---|---|",
    ]
    for hidden, of in one["sizes"].items():
        speeds = (f"{float(batch) / of[batch]:,.0f}" for batch in ("128", "512"))
        lines.append(f"| {hidden} | {weights(int(hidden)):,} | {' | '.join(speeds)} |")
    lines += [
        "",
        "| one process, 400 hidden units, as a ratio to the whole batch | "
        + " | ".join(f"batch {batch}" for batch in one["blocks"])
        + " |",
        "|---" * (1 + len(one["blocks"])) + "|",
    ]
    for name in next(iter(one["blocks"].values())):
        if name != "whole":
            ratios = [middle(np.divide(of[name], of["whole"]).tolist()) for of in one["blocks"].values()]
            lines.append(
                f"| {name.replace(', ', ' blocks, added in a ')} | " + " | ".join(f"{x:.2f}" for x in ratios) + " |"
            )
    largest = {
        batch: max(middle(np.divide(of[f"{n}, tree"], of[f"{n}, row"]).tolist()) for n in BLOCKS)
        for batch, of in one["blocks"].items()
    }
    lines += [
        "",
        f"- {'Met' if max(largest.values()) <= 1.05 else 'Missed'}: the tree beside the same blocks added in a row, at "
        "most 1.05: " + ", ".join(f"{x:.2f} at batch {batch}" for batch, x in largest.items()) + ".",
    ]
    eight = {batch: middle(np.divide(of["8, tree"], of["whole"]).tolist()) for batch, of in one["blocks"].items()}
    lines += [
        f"- {'Met' if max(eight.values()) <= 1.05 else 'Missed'}: 8 blocks beside the whole batch, at most 1.05: "
        + ", ".join(f"{x:.2f} at batch {batch}" for batch, x in eight.items())
        + ".",
        "",
        "| images a second, 400 hidden units | batch 128 | batch 512 | adding the gradients alone |",
        "|---|---|---|---|",
    ]

    def row(name: str, steps: dict[str, list[float]], blocks: int, alone: list[float] | None) -> str:
        speeds = (f"{batch / middle(steps[f'{batch}, {blocks}']):,.0f}" for batch in BATCHES[:2])
        return f"| {name} | {' | '.join(speeds)} | {f'{middle(alone) * 1000:.1f} ms' if alone else ''} |"

    lines.append(row(f"1 process, {results['cores']} threads, no blocks", results["threads"], 1, None))
    for count, of in ranks.items():
        for blocks in dict.fromkeys((int(count), 8)):
            words = f"{blocks} block{'s' if blocks > 1 else ''}" if blocks > 1 else "no blocks"
            alone = of["adding"].get(str(weights(400))) if blocks == int(count) else None
            lines.append(
                row(f"{count} process{'es' if int(count) > 1 else ''} of 1 thread, {words}", of["steps"], blocks, alone)
            )
    lines += [
        "",
        "| modelled: speed of each process beside one alone, 512 images each | "
        + " | ".join(f"{n:,} processes" for n in MODELLED)
        + " |",
        "|---" * (1 + len(MODELLED)) + "|",
    ]
    for hidden in (400, 1600):
        for name, network in NETWORKS.items():
            shares = (f"{efficiency(results, hidden, n, network):.0%}" for n in MODELLED)
            lines.append(f"| {hidden} hidden units, {name} | {' | '.join(shares)} |")
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the speed of each process beside one alone, modelled and measured, over the number of processes."""
    import matplotlib.pyplot as plt

    plt.style.use("tinygrad_vae.course")
    plt.rcParams["svg.hashsalt"] = "scale"
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    counts = np.unique(np.geomspace(1, 1000, 60).round().astype(int))
    for colour, (name, network) in zip(("C3", "C1", "C0"), NETWORKS.items(), strict=True):
        for hidden, style in ((400, "-"), (1600, "--")):
            shares = [100 * efficiency(results, hidden, int(n), network) for n in counts]
            label = f"{name}, {weights(hidden) / 1e6:.1f} million weights"
            axes.plot(counts, shares, color=colour, linestyle=style, label=label)
    alone, pair = (
        batch / middle(results["ranks"][n]["steps"][f"{batch}, {n}"]) for n, batch in (("1", 512), ("2", 512))
    )
    axes.plot(2, 50 * pair / alone, "o", color="black", label="measured: 2 processes here, 256 images each")
    axes.set_xscale("log")
    axes.set_ylim(0, 105)
    axes.set_xlabel("processes, with 512 images each")
    axes.set_ylabel("speed of each beside one alone (%)")
    axes.set_title("What adding the gradients leaves of the speed")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    """Measure, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each (default: 9)")
    parser.add_argument("--results", type=Path, help=f"the results file ({FOUND}; for --table that of the page)")
    parser.add_argument("--table", action="store_true", help="only print the results file as tables, and draw")
    parser.add_argument("--realtime", action="store_true", help="on a busy machine, as root: let nobody else in a turn")
    parser.add_argument("--job", choices=["one", "ranks"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        found = of_one(options.rounds) if options.job == "one" else of_ranks(options.rounds, options.realtime)
        if world().rank == 0:
            print(json.dumps(found))
        return
    path = options.results or (RESULTS if options.table else FOUND)
    if not options.table:
        path.write_text(json.dumps(measured(options)) + "\n")
    results = json.loads(path.read_text())
    draw(results, path.with_suffix(".svg"))
    print(table(results))


if __name__ == "__main__":
    main()
