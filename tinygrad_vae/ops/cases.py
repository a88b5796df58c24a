"""Inputs to try an op with, drawn from what it declares: for tests, and for the table of ops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core import Array, Op
from .declare import KINK, Case, case

CLEARANCE = 0.02
"""How far drawn inputs stay from kinks: more than the step of a finite difference."""

_FULL: tuple[int, ...] = (2, 3)


def cases_of(op: Op[..., Any]) -> Iterator[Case]:
    """Yield the cases to try an op with: those it declares, or shapes that broadcast if it is elementwise.

    >>> [c.shapes for c in cases_of(tg.negative)]
    [((2, 3),), ((0, 3),), ((3,),), ((2, 1),), ((),)]
    """
    yield from op.declared.cases
    if not op.elementwise:
        return
    count = len(op.input_names)
    for shape in (_FULL, (0, 3)):
        yield case(*(shape,) * count)
    for shape in ((3,), (2, 1), ()):
        for i in range(count):
            yield case(*(shape if k == i else _FULL for k in range(count)))


def draw_inputs(op: Op[..., Any], trial: Case, rng: np.random.Generator) -> list[Array]:
    """Return inputs for a case, drawn from the op's domains.

    For an op with kinks all numbers stay away from 0 and from each other, where kinks lie (abs, maximum, sort).

    Raises:
        ValueError: there are too many numbers to keep apart.

    >>> draw_inputs(tg.log, tg.case((2,)), np.random.default_rng(0))[0].shape
    (2,)
    """
    for _ in range(1000):
        drawn = [np.asarray(op.declared.domain_of(i).draw(rng, shape)) for i, shape in enumerate(trial.shapes)]
        floats = [x.ravel() for x in drawn if x.dtype.kind == "f"]
        if KINK not in op.declared.smoothness or not floats:
            return drawn
        numbers = np.sort(np.concatenate([*floats, [0.0]]))
        if np.all(np.diff(numbers) > CLEARANCE):
            return drawn
    raise ValueError(
        f"{op.name}: no inputs away from the kinks in 1000 draws for {trial.shapes}; declare smaller cases"
    )
