"""What an exhibit is: a program with a random node, what it hands out, and what would be right."""

from __future__ import annotations

import builtins
import importlib.util
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_vae as tg

EXHIBITS: list[Exhibit] = []
"""Every program of the museum, in the order of the table."""

MODULES = {"PyTorch": "torch", "JAX": "jax", "NumPy": "numpy"}
ALLOWED = 4.5  # standard errors; by chance one honest comparison in 150 000 is further off

Program = Callable[..., Any]


@dataclass
class Exhibit:
    """A program that is wrong, and the same program in tinygrad_vae."""

    program: str  # in a few words, with the cost and the parameter
    library: str  # a key of MODULES
    gives: float | None  # the mean of the gradients that it hands out; None where it hands out none
    truth: float  # the gradient of the mean cost
    run: Program  # the program: run(n) returns n gradients, each from a draw of its own, or None
    share: float = 1.0  # of the draws that are asked for, since some programs take long
    remark: str = ""  # on the number, for the table
    in_readme: bool = False
    here: tuple[str, Program] | None = None  # what the same program here says, and the program
    own: tuple[str, Program] | None = None  # what the library's own function says, and a program that uses it

    def same_here(self, says: str) -> Callable[[Program], Program]:
        """Add the same program in tinygrad_vae, and what it says: an error, a warning or a number."""

        def added(program: Program) -> Program:
            self.here = says, program
            return program

        return added

    def by_the_library(self, says: str) -> Callable[[Program], Program]:
        """Add a program that leaves the gradient to tinygrad_vae, and what it says."""

        def added(program: Program) -> Program:
            self.own = says, program
            return program

        return added

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(MODULES[self.library]) is not None

    def row(self) -> str:
        """Return the row of a Markdown table."""
        given = "None" if self.gives is None else number(self.gives)
        ours = [said[0] if said else "" for said in (self.here, self.own)]
        return f"| {self.program} | {self.library}: {given}{self.remark} | {number(self.truth)} | {' | '.join(ours)} |"


def exhibit(program: str, library: str, *, gives: float | None, truth: float, **options: Any) -> Any:
    """Declare an exhibit: a decorator for the program of the other library."""

    def declared(run: Program) -> Exhibit:
        EXHIBITS.append(Exhibit(program, library, gives, truth, run, **options))
        return EXHIBITS[-1]

    return declared


def number(x: float) -> str:
    """Return a number as the table shows it."""
    return f"{x:.4g}"


def table(exhibits: list[Exhibit]) -> str:
    """Return the exhibits as a Markdown table."""
    head = "| program | elsewhere | truth | the same program here | and with the library's own function |"
    return "\n".join([head, "|---|---|---|---|---|", *(one.row() for one in exhibits)]) + "\n"


# --------------------------------------------------------------------------------- the audit


@dataclass
class Found:
    """What an audit found: the mean gradient of n draws and its standard error; None where there is no gradient."""

    mean: float | None
    error: float = 0.0

    @property
    def visible(self) -> float:
        """The bias that would have been seen: nine standard errors, missed once in 300 000 audits."""
        return 2 * ALLOWED * self.error

    def agrees(self, expected: float | None) -> bool:
        """Return whether the mean is the expected number, within its standard errors and the digits of the table."""
        if self.mean is None or expected is None:
            return self.mean is expected
        return abs(self.mean - expected) <= ALLOWED * self.error + 1e-6 * (1 + abs(expected))


def audit(one: Exhibit, draws: int) -> Found:
    """Run the program of the other library."""
    gradients = one.run(max(100, int(one.share * draws)))
    if gradients is None:
        return Found(None)
    gradients = np.asarray(gradients, np.float64)
    return Found(float(gradients.mean()), float(gradients.std(ddof=1) / math.sqrt(len(gradients))))


def disagreement(says: str, program: Program) -> str:
    """Return how a program differs from what the table says of it, or nothing."""
    kind = re.search(r"`(\w+(?:Error|Warning))`", says)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            gradients = np.asarray(program(), np.float64)
        except (tg.GradientRefusedError, ValueError) as error:
            if kind is None or not isinstance(error, _class(kind[1])):
                return f"it raised {type(error).__name__}: {error}"
            place = re.search(r": ((?:partly )?cut)", says)
            if place and not re.search(rf"^ +{place[1]} +\w", str(error), re.MULTILINE):
                return f"nothing is {place[1]}: {error}"
            return ""
    if kind is not None:
        issued = any(issubclass(w.category, _class(kind[1])) for w in caught)
        return "" if issued else f"no {kind[1]}"
    expected = float(re.search(r"(?:^|: )(-?\d[\d.]*)", says)[1])
    error = gradients.std(ddof=1) / math.sqrt(gradients.size) if gradients.size > 1 else 0.0
    found, rounding = gradients.mean(), 0.006 * abs(expected)
    return "" if abs(found - expected) <= ALLOWED * error + rounding else f"it gave {found:.4g} +- {error:.2g}"


def _class(name: str) -> Any:
    return getattr(tg, name, None) or getattr(builtins, name)
