"""Time one training step of a VAE, in this library and in others, and print the table of the README beside it.

The step and its contenders are in training_step.py; those that are not installed are left out, with a word. Before
anything is timed, all must agree with the one in plain NumPy on the losses and the parameters of the first steps, from
the same weights with the same noise.

The contenders take turns, a few steps each, so that whatever else the machine does meets all of them; each is a
process of its own, so that the threads of one library do not meet those of another. A round of turns gives one ratio to
the first contender, and the table shows the median over rounds with the quartiles. Time on a busy machine says little:
BLAS waits for its threads, and the system gives the core to somebody else meanwhile.

What is found is put into a results file, batch by batch, from which ``--table`` prints the table of the README.

    python tests/benchmarks/bench_step.py --batch 32 128 512 --out step.png
    python tests/benchmarks/bench_step.py --batch 128 --only "PyTorch eager" "tinygrad_vae plan"
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_step.py --cpu     # on a machine that others keep busy
    python tests/benchmarks/bench_step.py --results tests/benchmarks/bench_step.json --table
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from training_step import CONTENDERS, REFERENCE, AbsentError, disagreements, first_steps, images, new_model

RESULTS = Path(__file__).with_suffix(".json")
"""What was found when the README was written."""

FIRST = next(iter(CONTENDERS))
"""The contender that the others are compared with."""

WARM, PAUSE = 0.15, 0.05
"""For how many seconds a contender runs before a turn is timed, and for how many nobody does after it."""

PACKAGES = ("numpy", "numba", "torch", "jax", "autograd", "mygrad")

JAX, COMPILE, EAGER, PLAN = (
    "JAX jit, buffers donated",
    "torch.compile, fused Adam",
    "tinygrad_vae eager",
    "tinygrad_vae plan",
)
OTHERS = ("HIPS autograd", "MyGrad")
"""The other libraries that run NumPy as they go."""


def hardware() -> str:
    """Return what the numbers depend on: the processor, its cores, and the versions of what is compared."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{processor}, {os.cpu_count()} cores, {threads} threads, Python {platform.python_version()}, " + ", ".join(
        versions
    )


class Turns:
    """A contender in a process of its own, which waits for its turns.

    Each library has threads that go on looking for work for a while after a product, and would take the core from the
    next one's; so a contender is alone in its process, and after each turn there is a pause.
    """

    def __init__(self, name: str, batch: int, clock: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, name, batch, clock), daemon=True)
        self.process.start()
        other.close()

    def ask(self, *request: Any) -> Any:
        """Return the answer to a request: where the first steps lead, or the time of so many steps."""
        self.pipe.send(request)
        return self.answer()

    def answer(self) -> Any:
        """Wait for an answer, and stop where the contender failed."""
        try:
            return self.pipe.recv()
        except EOFError:
            sys.exit(f"{self.name} failed")

    def end(self) -> None:
        """Let the process end."""
        self.pipe.send(None)
        self.process.join()


def _serve(pipe: Connection, name: str, batch: int, clock: str) -> None:
    """Make a contender, say whether it is there, and answer requests until there is none."""
    try:
        step, parameters = CONTENDERS[name](new_model())
    except (ImportError, AbsentError) as error:
        return pipe.send(str(error))
    pipe.send("")
    x, now = images(batch), getattr(time, clock)
    while (request := pipe.recv()) is not None:
        what, given = request
        if what == "check":
            pipe.send(first_steps((step, parameters), x))
        else:
            begun = time.perf_counter()
            while time.perf_counter() < begun + WARM:  # its arrays come back into the cache, its threads wake up
                step(x, None)
            times = []
            for _ in range(given):
                start = now()
                step(x, None)
                times.append(now() - start)
            pipe.send(float(np.median(times)))
    return None


def measured(batch: int, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Check and time the contenders on one batch, and return of each the milliseconds and quartiles of the ratio."""
    names = list(CONTENDERS) if options.only is None else [FIRST, *options.only, REFERENCE]
    clock = "process_time" if options.cpu else "perf_counter"
    contenders = {name: Turns(name, batch, clock) for name in dict.fromkeys(names)}
    for name in list(contenders):
        if absent := contenders[name].answer():
            print(f"left out: {name} ({absent})", file=sys.stderr)
            del contenders[name]
    found = {name: contender.ask("check", None) for name, contender in contenders.items()}
    if complaints := disagreements(found):
        sys.exit("\n".join(complaints))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for done in range(options.rounds + 1):
        for name, contender in contenders.items():
            seconds[name].append(contender.ask("time", options.steps))
            time.sleep(PAUSE)
        print(f"\rbatch {batch}: {done} of {options.rounds} rounds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for contender in contenders.values():
        contender.end()
    rows = {name: np.array(times[1:]) for name, times in seconds.items()}  # in the first round all is still cold
    first = rows.get(FIRST, next(iter(rows.values())))
    return {
        name: {"ms": 1000 * float(np.median(row)), "ratio": np.quantile(row / first, [0.25, 0.5, 0.75]).tolist()}
        for name, row in rows.items()
    }


def table(results: dict[str, Any]) -> str:
    """Return the results in Markdown: what they were measured on, the ratios with their quartiles, and the aims."""
    batches = sorted(results["batches"], key=int)
    rows = [results["batches"][batch] for batch in batches]
    lines = [
        f"{results['hardware']}.",
        "",
        f"| a step, as a ratio to {FIRST} | " + " | ".join(f"batch {batch}" for batch in batches) + " |",
        "|---|" + "---|" * len(batches),
        "| *milliseconds of the first* | "
        + " | ".join(f"*{next(iter(row.values()))['ms']:.2f}*" for row in rows)
        + " |",
    ]
    for name in CONTENDERS:
        if any(name in row for row in rows):
            cells = ["{1:.2f} ({0:.2f} to {2:.2f})".format(*row[name]["ratio"]) if name in row else "" for row in rows]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {line}" for line in aims(results))])


def aims(results: dict[str, Any]) -> list[str]:
    """Return, for each aim, a line that says whether it was met, and by how much."""
    middle = {
        batch: {name: found["ratio"][1] for name, found in row.items()} for batch, row in results["batches"].items()
    }
    batches = sorted(middle, key=int)
    lines = []
    for other in (JAX, COMPILE):
        found = {batch: middle[batch][PLAN] / middle[batch][other] for batch in batches if other in middle[batch]}
        if found:
            each = ", ".join(f"{ratio:.2f} at batch {batch}" for batch, ratio in found.items())
            lines.append(
                f"{_met(max(found.values()) <= 1)}: the plan beside {other.partition(',')[0]}, at most 1: {each}."
            )
    if EAGER in middle.get("128", {}):
        eager = middle["128"][EAGER]
        lines.append(f"{_met(eager <= 0.9)}: eager at batch 128, at most 0.9: {eager:.2f}.")
    others = {batch: [middle[batch][name] for name in OTHERS if name in middle[batch]] for batch in batches}
    each = {batch: min(found) / middle[batch][EAGER] for batch, found in others.items() if found}
    if each:
        listed = ", ".join(f"{ratio:.1f} at batch {batch}" for batch, ratio in each.items())
        lines.append(
            f"{_met(min(each.values()) >= 3)}: the next NumPy library beside eager, at least 3 times as long: {listed}."
        )
    return lines


def _met(is_met: bool) -> str:
    return "Met" if is_met else "Missed"


def picture(results: dict[str, Any], path: Path) -> None:
    """Draw the ratios with their quartiles, one panel for each batch."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    plt.style.use("tinygrad_vae.course")
    batches = sorted(results["batches"], key=int)
    names = [name for name in CONTENDERS if any(name in results["batches"][batch] for batch in batches)]
    figure, panels = plt.subplots(1, len(batches), figsize=(3.2 + 2.7 * len(batches), 4.4), sharey=True, squeeze=False)
    for batch, panel in zip(batches, panels[0], strict=True):
        for k, name in enumerate(names):
            if name in results["batches"][batch]:
                low, middle, high = results["batches"][batch][name]["ratio"]
                colour = "C1" if name.startswith("tinygrad_vae") else "C4"
                panel.errorbar(middle, k, xerr=[[middle - low], [high - middle]], fmt="o", color=colour)
                panel.annotate(f"{middle:.2f}", (high, k), (6, -3), textcoords="offset points", fontsize=8)
        panel.axvline(1, color="#22303c", linewidth=1)
        panel.set_xscale("log")
        panel.set_xlim(0.15, 6)
        panel.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
        panel.minorticks_off()
        panel.set_title(f"batch {batch}")
    panels[0][0].set_yticks(range(len(names)), names)
    panels[0][0].invert_yaxis()
    figure.supxlabel(f"time of a training step, as a ratio to {FIRST}; quartiles over rounds", fontsize=10)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Read the options; for each batch: check, time, keep what was found; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128, 512], help="images a step (32 128 512)")
    parser.add_argument("--rounds", type=int, default=15, help="how many ratios to take the median of (default: 15)")
    parser.add_argument("--steps", type=int, default=20, help="steps of each contender in a round (default: 20)")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), help="some contenders instead of all")
    parser.add_argument("--cpu", action="store_true", help="count CPU time, for a machine that others keep busy")
    parser.add_argument("--results", type=Path, help="a results file, made or added to")
    parser.add_argument("--table", action="store_true", help="only print the results file as a table")
    parser.add_argument("--out", type=Path, help="draw the ratios into this file")
    options = parser.parse_args()

    results: dict[str, Any] = {"batches": {}}
    if options.results and options.results.exists():
        results = json.loads(options.results.read_text())
    if not options.table:
        if results.setdefault("hardware", hardware()) != hardware():
            parser.error(f"{options.results} was measured on something else; name a new file")
        for batch in options.batch:
            results["batches"][str(batch)] = measured(batch, options)
            if options.results:
                options.results.write_text(json.dumps(results, indent=2) + "\n")
    if options.out:
        picture(results, options.out)
    print(table(results))


if __name__ == "__main__":
    main()
