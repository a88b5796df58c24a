"""Time one training step of a VAE, in this library, in others, and by hand, and print the tables of the README.

The step and its contenders are in training_step.py; those that are not installed are left out, with a word. Before
anything is timed, all must agree with the one in plain NumPy on the losses and the parameters of the first steps, from
the same weights with the same noise.

The contenders take turns, a few steps each, so that whatever else the machine does meets all of them; each is a
process of its own, so that the threads of one library do not meet those of another. A round of turns gives one ratio to
the first contender, and the table shows the median over rounds with the quartiles. There are two tables: wall time with
as many threads as there are cores (at most two), and processor time with one thread, which also a busy machine tells.

What is found is put into a results file, table by table and batch by batch, from which ``--table`` prints the tables of
the README. An older version of the library takes part where ``--before`` names a checkout of it.

    git worktree add ../before 7ae14a2
    python tests/benchmarks/bench_step.py --before ../before --out step.svg
    python tests/benchmarks/bench_step.py --batch 128 --only "PyTorch eager" "tinygrad_vae plan"
    python tests/benchmarks/bench_step.py --clock processor     # on a machine that others keep busy
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

SETTLED = 110
"""After how many steps a contender has compiled what it compiles: eager Adam does so at its hundredth step."""

CLOCKS = {"wall": ("perf_counter", min(2, os.cpu_count() or 1)), "processor": ("process_time", 1)}
"""The tables: the function of ``time`` that reads the clock, and the number of threads."""

PACKAGES = ("numpy", "numba", "torch", "jax", "autograd", "mygrad")

JAX, COMPILE, EAGER, PLAN = (
    "JAX jit, buffers donated",
    "torch.compile, fused Adam",
    "tinygrad_vae eager",
    "tinygrad_vae plan",
)

BEFORE = {f"{name}, version before": name for name in (EAGER, PLAN)}
"""Contenders of an older version of the library, and what they are called there."""


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
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, " + ", ".join(versions)


class Turns:
    """A contender in a process of its own, which waits for its turns.

    Each library has threads that go on looking for work for a while after a product, and would take the core from the
    next one's; so a contender is alone in its process, and after each turn there is a pause.
    """

    def __init__(self, name: str, batch: int, clock: str, before: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.pipe, other = context.Pipe()
        args = other, BEFORE.get(name, name), batch, clock
        self.process = context.Process(target=_serve, args=args, daemon=True)
        path = sys.path.copy()
        if name in BEFORE:  # a new process imports from where this one would
            sys.path[:] = [str(before), *(place for place in path if not (Path(place) / "tinygrad_vae").is_dir())]
        self.process.start()
        sys.path[:] = path
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
    x, now, made = images(batch), getattr(time, clock), 0
    while (request := pipe.recv()) is not None:
        what, given = request
        if what == "check":
            pipe.send(first_steps((step, parameters), x))
        else:
            begun = time.perf_counter()
            while time.perf_counter() < begun + WARM or made < SETTLED:  # its arrays come back into the cache
                step(x, None)
                made += 1
            times = []
            for _ in range(given):
                start = now()
                step(x, None)
                times.append(now() - start)
            pipe.send(float(np.median(times)))
    return None


def measured(batch: int, clock: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Check and time the contenders on one batch, and return of each the milliseconds and quartiles of the ratio."""
    names = [*CONTENDERS, *BEFORE] if options.only is None else [FIRST, *options.only, REFERENCE]
    reading, threads = CLOCKS[clock]
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ["XLA_FLAGS"] = (
        "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else ""
    )
    wanted = [name for name in dict.fromkeys(names) if options.before or name not in BEFORE]
    contenders = {name: Turns(name, batch, reading, options.before) for name in wanted}
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
        progress = f"\r{clock} time, batch {batch}: {done} of {options.rounds} rounds"
        print(progress, end="", file=sys.stderr, flush=True)
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
    lines = [f"{results['hardware']}."]
    for clock, batches in results["clocks"].items():
        threads = results["threads"][clock]
        sizes = sorted(batches, key=int)
        title = f"{clock} time of a step, {threads} thread{'s' * (threads > 1)}, as a ratio to {FIRST}"
        cells = " | ".join(f"batch {size}" for size in sizes)
        milliseconds = " | ".join(f"*{batches[size][FIRST]['ms']:.2f}*" for size in sizes)
        lines += ["", f"| {title} | {cells} |", "|---|" + "---|" * len(sizes)]
        lines.append(f"| *milliseconds of the first* | {milliseconds} |")
        for name in _contenders(batches):
            ratios = [batches[size].get(name, {}).get("ratio") for size in sizes]
            shown = [f"{x[1]:.2f} ({x[0]:.2f} to {x[2]:.2f})" if x else "" for x in ratios]
            lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, "", *(f"- {line}" for line in aims(results))])


def _contenders(batches: dict[str, Any]) -> list[str]:
    return [name for name in (*CONTENDERS, *BEFORE) if any(name in row for row in batches.values())]


def aims(results: dict[str, Any]) -> list[str]:
    """Return, for each aim, a line that says whether it was met, and by how much."""
    lines = []
    for ours, other, most in ((EAGER, REFERENCE, 1.15), (PLAN, JAX, 1.0), (PLAN, COMPILE, 1.0)):
        for clock, batches in results["clocks"].items():
            rows = {size: batches[size] for size in sorted(batches, key=int) if {ours, other} <= batches[size].keys()}
            found = {size: row[ours]["ratio"][1] / row[other]["ratio"][1] for size, row in rows.items()}
            if found:
                met = "Met" if max(found.values()) <= most else "Missed"
                each = ", ".join(f"{ratio:.2f} at batch {size}" for size, ratio in found.items())
                lines.append(f"{met}: {ours} beside {other}, {clock} time, at most {most:g}: {each}.")
    return lines


def picture(results: dict[str, Any], path: Path) -> None:
    """Draw the ratios with their quartiles: a row of panels for each clock, one for each batch."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    plt.style.use(["tinygrad_vae.course", {"svg.fonttype": "none"}])
    clocks = results["clocks"]
    sizes = sorted({size for batches in clocks.values() for size in batches}, key=int)
    names = _contenders({f"{clock} {size}": row for clock in clocks for size, row in clocks[clock].items()})
    shape = {"figsize": (3.4 + 2.7 * len(sizes), 1 + 0.24 * len(names) * len(clocks)), "squeeze": False}
    figure, panels = plt.subplots(len(clocks), len(sizes), sharex=True, sharey=True, **shape)
    for row, (clock, batches) in zip(panels, clocks.items(), strict=True):
        for panel, size in zip(row, sizes, strict=True):
            for k, name in enumerate(names):
                if name in batches.get(size, {}):
                    low, middle, high = batches[size][name]["ratio"]
                    colour = "C1" if name.startswith("tinygrad_vae") else "C4"
                    panel.errorbar(middle, k, xerr=[[middle - low], [high - middle]], fmt="o", color=colour)
                    panel.annotate(f"{middle:.2f}", (high, k), (6, -3), textcoords="offset points", fontsize=8)
            panel.axvline(1, color="#22303c", linewidth=1)
            panel.set_xscale("log")
            panel.set_xlim(0.15, 6)
            panel.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
            panel.minorticks_off()
            threads = results["threads"][clock]
            panel.set_title(f"batch {size}, {clock} time, {threads} thread{'s' * (threads > 1)}", fontsize=10)
    panels[0][0].set_yticks(range(len(names)), names)
    panels[0][0].invert_yaxis()
    figure.supxlabel(f"time of a training step, as a ratio to {FIRST}; quartiles over rounds", fontsize=10)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Read the options; for each clock and batch: check, time, keep what was found; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128, 512], help="images a step (32 128 512)")
    parser.add_argument("--rounds", type=int, default=15, help="how many ratios to take the median of (default: 15)")
    parser.add_argument("--steps", type=int, default=20, help="steps of each contender in a round (default: 20)")
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS, *BEFORE], help="some contenders instead of all")
    parser.add_argument("--clock", nargs="+", choices=list(CLOCKS), default=list(CLOCKS), help="which tables (both)")
    parser.add_argument("--before", type=Path, help="a checkout of an older version, to take part as well")
    parser.add_argument("--results", type=Path, help="a results file, made or added to")
    parser.add_argument("--table", action="store_true", help="only print the results file as a table")
    parser.add_argument("--out", type=Path, help="draw the ratios into this file")
    options = parser.parse_args()

    results: dict[str, Any] = {"clocks": {}, "threads": {}}
    if options.results and options.results.exists():
        results = json.loads(options.results.read_text())
    if not options.table:
        if results.setdefault("hardware", hardware()) != hardware():
            parser.error(f"{options.results} was measured on something else; name a new file")
        for clock in options.clock:
            results["threads"][clock] = CLOCKS[clock][1]
            for batch in options.batch:
                results["clocks"].setdefault(clock, {})[str(batch)] = measured(batch, clock, options)
                if options.results:
                    options.results.write_text(json.dumps(results, indent=2) + "\n")
    if options.out:
        picture(results, options.out)
    print(table(results))


if __name__ == "__main__":
    main()
