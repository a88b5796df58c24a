"""What a page shows beside a blocked graph: fifty draws whose parameters can be dragged, and what estimators find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Noise, Sample, Tensor, gradients, topological_order, trees
from ..distributions.location_scale import LocationScale, Normal
from .labels import one_line
from .program import Program, Slider


def gesture_of(
    costs: Sequence[Tensor], sliders: Sequence[Slider], new: Mapping[int, Tensor], program: Program
) -> dict[str, Any] | None:
    """Return the first draw that parameters move within a fixed support: the rows of its value, noise and density."""
    for z in topological_order(costs):
        if not isinstance(z, Sample) or z.dist.path is None or z.dist.moving() or not isinstance(z.noise, Noise):
            continue
        above = {id(x) for x in topological_order([z])}
        moving = [k for k, slider in enumerate(sliders) if id(slider.node) in above]
        if moving:
            return _gesture(z, moving, sliders, new, program)
    return None


def _gesture(
    z: Sample, moving: list[int], sliders: Sequence[Slider], new: Mapping[int, Tensor], program: Program
) -> dict[str, Any]:
    dist = trees.replace_leaves(z.attrs["dist"], [new.get(id(x), x) for x in z.inputs[1:]])
    x = Tensor(z.value, "x")
    gesture = {
        "name": one_line(z.name or "z"),
        "dist": one_line(str(z.dist)),
        "z": program.add(new[id(z)]),
        "noise": program.add(new[id(z.noise)]),
        "x": program.variable(x),
        "density": program.add(dist.log_density(x)),
        "support": [float(end) if np.isfinite(end) else None for end in z.dist.support.bounds],
        "sliders": moving,
        "normal": isinstance(z.dist, Normal),
    }
    if isinstance(z.dist, LocationScale):
        number = {id(sliders[k].node): k for k in moving}
        for part in ("loc", "scale"):
            gesture[part] = {"row": program.add(getattr(dist, part)), "slider": number.get(id(getattr(z.dist, part)))}
    return gesture


def estimators_of(
    ways: Mapping[str, Tensor], sliders: Sequence[Slider], new: Mapping[int, Tensor], program: Program
) -> list[dict[str, Any]]:
    """Return for each way of a gradient to the parameters the rows of the cost and of its gradient in each slider."""
    found = []
    for name, cost in ways.items():
        nodes = [new.get(id(slider.node)) for slider in sliders]
        recorded = iter(gradients(new[id(cost)], [x for x in nodes if x is not None], record=True))
        rows = [None if x is None else program.add(next(recorded)) for x in nodes]
        found.append({"name": name, "cost": program.add(new[id(cost)]), "gradients": rows})
    return found
