"""A museum of gradients that are silently wrong: run it on the libraries that you have.

Each exhibit is a small program with a random node, written in PyTorch, JAX or NumPy as one might write it. The program
is run on many draws, and the mean of the gradients that it hands out is held against the true gradient of the mean
cost. The standard error comes from the same draws, so the table can say how small an error it would have seen. Then the
same program is run in tinygrad_vae.

    python examples/museum                       all exhibits, in about a minute
    python examples/museum --only JAX --draws 20000
    python examples/museum --markdown            the table of examples/museum/README.md
    python examples/museum --markdown --short    the table of the README

The command ends with 1 if a program no longer does what the table says: then a library has changed. Exhibits of
libraries that are not installed are skipped and say so.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
import warnings

import draws  # noqa: F401  these three declare the exhibits
import paths  # noqa: F401
import scores  # noqa: F401
from exhibit import EXHIBITS, Exhibit, Found, audit, disagreement, number, table


def words(one: Exhibit, found: Found) -> str:
    """Return what an audit says."""
    truth = f"the truth is {number(one.truth)}"
    if found.mean is None:
        return f"no gradient at all; {truth}"
    off = f"{truth}: {100 * abs(found.mean / one.truth - 1):.0f} % off"
    if not found.error:
        return f"{found.mean:.4g} in every draw, {off}"
    return f"{found.mean:.4g} +- {found.error:.2g}, {off} (an error of {found.visible:.2g} would have been seen)"


def show(one: Exhibit, n: int) -> bool:
    """Run an exhibit and print it; return whether all is as the table says."""
    if not one.installed:
        print(f"{one.library:<8} {one.program}\n         skipped: {one.library} is not installed")
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        found = audit(one, n)
    print(f"{one.library:<8} {one.program}\n         {words(one, found)}")
    right = found.agrees(one.gives)
    if not right:
        print(f"         CHANGED: the table says {one.gives}")
    elif found.agrees(one.truth):
        print("         undecided: it may be the truth, and takes more draws to tell")
    for what, said in (("here", one.here), ("own function", one.own)):
        if said is not None:
            wrong = disagreement(*said)
            print(f"         {what}: {said[0]}" + f"   CHANGED: {wrong}" * bool(wrong))
            right = right and not wrong
    return right


def main() -> int:
    introduction, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python examples/museum",
        description=introduction + "\n\n" + rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="WORD", default="", help="exhibits whose library or program has this word")
    parser.add_argument("--draws", type=int, default=400_000, metavar="N", help="how many draws (default %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the table, and run nothing")
    parser.add_argument("--short", action="store_true", help="only the exhibits of the README")
    options = parser.parse_args()
    if options.draws < 1000:
        parser.error("--draws: a standard error needs at least 1000 draws")
    chosen = [
        one
        for one in EXHIBITS
        if options.only.lower() in f"{one.library} {one.program}".lower() and (one.in_readme or not options.short)
    ]
    if not chosen:
        parser.error(f"--only {options.only}: no exhibit has this word; the libraries are PyTorch, JAX and NumPy")
    if options.markdown:
        print(table(chosen), end="")
        return 0
    began, changed = time.perf_counter(), 0
    for k, one in enumerate(chosen, 1):
        if sys.stderr.isatty():
            print(f"\r{k} of {len(chosen)}: {textwrap.shorten(one.program, 60)}\033[K", end="\r", file=sys.stderr)
        changed += not show(one, options.draws)
    if sys.stderr.isatty():
        print("\033[K", end="", file=sys.stderr)
    skipped = sum(not one.installed for one in chosen)
    print(
        f"\n{len(chosen) - skipped} of {len(chosen)} exhibits run in {time.perf_counter() - began:.0f} s, "
        f"{skipped} skipped, {changed} changed"
    )
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
