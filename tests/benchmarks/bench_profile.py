"""Show where the time of a training step goes: each matrix product, each compiled loop, and the rest.

The step of training_step.py is run by a plan, which is a list of calls; here each call is timed where it stands. What
is left of a step's time beside its calls goes into drawing noise, handing arrays over, and Python. Beside it stands
plain NumPy, whose time outside matrix products is that of its step less that of the products alone.

The products cannot be saved: their share says how far the rest could still bring the step down.

    python tests/benchmarks/bench_profile.py --batch 128 --out profile.png
    python tests/benchmarks/bench_profile.py --batch 32 --numpy        # the plan without compiled loops
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from training_step import BETA1, BETA2, EPSILON, RATE, by_hand, images, new_model, only_products, plan_of

import tinygrad_vae as tg
from tinygrad_vae.compiled.loops import Loop

PRODUCT, LOOP, CALL, REST = "matrix products", "compiled loops", "other calls of NumPy", "noise, hand-over, Python"
"""The kinds that a step's time is divided into."""


def in_words(item: Any) -> tuple[str, str]:
    """Return the kind of a call of a plan, and what it is, with shapes."""
    if isinstance(item, Loop):
        names = [call.name for call in item.calls]
        return LOOP, f"{len(names)} ops on {_shape(item.shape)}: {' '.join(names[:4])}{' ...' if names[4:] else ''}"
    function = getattr(item.function, "func", item.function)  # without its options
    name = getattr(function, "__name__", str(function)).strip("_")
    shapes = [_shape(x.like.shape) for x in item.reads]
    if function is np.matmul:
        return PRODUCT, " @ ".join(shapes)
    if name == "reduce":
        name = f"{function.__self__.__name__}.reduce"
    return CALL, f"{name} of {', '.join(shapes) or 'numbers'}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"


def profile(batch: int, steps: int, compiled: bool | None = None) -> tuple[float, list[tuple[str, str, float]]]:
    """Return the median seconds of a planned step, and of each of its calls: the kind, what it is, the median seconds.

    The calls of a plan are functions without arguments; each is put into one that looks at the clock before and after.
    That takes time as well, so that every other step is timed as a whole and without it.
    """
    optimizer = tg.optim.Adam(RATE, BETA1, BETA2, EPSILON)
    model, x, stream = new_model(), images(batch), tg.noise(1)
    state, run = optimizer.init(model), plan_of(optimizer, compiled)
    for _ in range(3):  # recorded in the first two
        model, state, _ = run(model, state, x, stream)
    (program,) = (planned.program for planned in run._known.values())
    calls, work = program.calls, program.work
    times = np.zeros((steps, len(calls)))
    whole, done = [], 0

    def timed(k: int, call: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            start = time.perf_counter()
            call()
            times[done, k] = time.perf_counter() - start

        return run

    with_clocks = [timed(k, call) for k, call in enumerate(calls)]
    for done in range(steps):  # noqa: B007  read by ``timed``
        program.calls = with_clocks
        model, state, _ = run(model, state, x, stream)
        program.calls = calls
        start = time.perf_counter()
        model, state, _ = run(model, state, x, stream)
        whole.append(time.perf_counter() - start)
    names = [*map(in_words, work), *[(CALL, "copy to where it is carried")] * (len(calls) - len(work))]
    rows = [(*name, float(seconds)) for name, seconds in zip(names, np.median(times, axis=0), strict=True)]
    return float(np.median(whole)), rows


def by_kind(whole: float, rows: list[tuple[str, str, float]]) -> dict[str, float]:
    """Return the seconds of each kind."""
    sums = {kind: sum(seconds for k, _, seconds in rows if k == kind) for kind in (PRODUCT, LOOP, CALL)}
    return sums | {REST: max(whole - sum(sums.values()), 0.0)}


def plain_numpy(batch: int, rounds: int, steps: int = 10) -> tuple[float, float]:
    """Return the median seconds of a step in plain NumPy, and those of its products alone, in turns."""
    x = images(batch)
    pair = [make(new_model())[0] for make in (by_hand, only_products)]
    found: list[list[float]] = [[], []]
    for _ in range(rounds):
        for times, step in zip(found, pair, strict=True):
            step(x, None)
            for _ in range(steps):
                start = time.perf_counter()
                step(x, None)
                times.append(time.perf_counter() - start)
    return float(np.median(found[0])), float(np.median(found[1]))


def picture(bars: dict[str, dict[str, float]], path: Path) -> None:
    """Draw a bar for each step, in milliseconds, divided by kind."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    plt.style.use("tinygrad_vae.course")
    figure, panel = plt.subplots(figsize=(8, 1.2 + 0.75 * len(bars)))
    left = np.zeros(len(bars))
    longest = max(1000 * sum(parts.values()) for parts in bars.values())
    kinds = (PRODUCT, LOOP, CALL, REST)
    for kind, colour in zip(kinds, ("C0", "C1", "C3", "C4"), strict=True):
        width = np.array([1000 * parts.get(kind, 0.0) for parts in bars.values()])
        panel.barh(range(len(bars)), width, left=left, color=colour, label=kind, height=0.6)
        for k, (start, size, parts) in enumerate(zip(left, width, bars.values(), strict=True)):
            share = size / (1000 * sum(parts.values()))
            if size > longest / 20:  # or else the number does not fit
                panel.text(start + size / 2, k, f"{share:.0%}", ha="center", va="center", color="white", fontsize=9)
        left += width
    panel.set_yticks(range(len(bars)), list(bars))
    panel.invert_yaxis()
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("milliseconds of a training step")
    figure.legend(loc="outside upper center", ncols=4)
    panel.set_xlim(0, 1.02 * longest)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Read the options, time, print each call with its share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[128], help="how many images a step (default: 128)")
    parser.add_argument("--steps", type=int, default=200, help="how many steps to take medians of (default: 200)")
    parser.add_argument("--numpy", action="store_true", help="the plan with NumPy alone, without compiled loops")
    parser.add_argument("--least", type=float, default=0.01, help="the least share that gets a line (default: 0.01)")
    parser.add_argument("--out", type=Path, help="draw the shares into this file")
    options = parser.parse_args()

    bars: dict[str, dict[str, float]] = {}
    for batch in options.batch:
        whole, rows = profile(batch, options.steps, compiled=False if options.numpy else None)
        kinds = by_kind(whole, rows)
        plain, alone = plain_numpy(batch, rounds=max(options.steps // 20, 1))
        bars[f"plain NumPy, batch {batch}"] = {PRODUCT: min(alone, plain), CALL: max(plain - alone, 0.0)}
        bars[f"plan, batch {batch}"] = kinds
        print(f"batch {batch}: a step of the plan takes {1000 * whole:.2f} ms\n")
        print(f"{'ms':>8}{'share':>8}")
        for kind, seconds in kinds.items():
            print(f"{1000 * seconds:>8.3f}{seconds / whole:>8.1%}   {kind}")
            for what, of_it in sorted([(what, s) for k, what, s in rows if k == kind], key=lambda row: -row[1]):
                if of_it >= options.least * whole:
                    print(f"{1000 * of_it:>8.3f}{of_it / whole:>8.1%}      {what}")
        outside, others = whole - kinds[PRODUCT], plain - alone
        print(
            f"\noutside matrix products: {1000 * outside:.2f} ms, {outside / whole:.0%} of the step; plain NumPy "
            f"{1000 * others:.2f} ms, {others / plain:.0%} of {1000 * plain:.2f}: {outside / others:.2f} of its time, "
            f"{outside / whole / (others / plain):.2f} of its share\n"
        )
    if options.out:
        picture(bars, options.out)
        print(f"drawn: {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
