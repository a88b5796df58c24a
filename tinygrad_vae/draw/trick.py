"""What a page shows beside a blocked graph: fifty draws whose parameters can be dragged, and what estimators find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Noise, Sample, Tensor, as_array, gradients, topological_order, trees, value_of
from ..devices import to_host
from ..distributions.location_scale import LocationScale, Normal
from .labels import innermost, one_line
from .program import Program, Slider, domains_in, slider_of

MOST_ELEMENTS = 3
"""Of how many arrays an element is looked at."""


def gesture_of(
    blocked: Sequence[Tensor], sliders: Sequence[Slider], new: Mapping[int, Tensor], program: Program
) -> tuple[dict[str, Any] | None, list[Slider]]:
    """Return the first draw that parameters move within a fixed support: the rows of its value, noise and density.

    Where draws are arrays, one of their numbers stands for them, and its parameters get sliders of their own.
    """
    for z in topological_order(blocked):
        if not isinstance(z, Sample) or z.dist.path is None or z.dist.moving() or not isinstance(z.noise, Noise):
            continue
        dist: Any = innermost(z.dist)
        own: list[Slider] = []
        above = {id(x) for x in topological_order([z])}
        moving = [slider for slider in sliders if id(slider.node) in above]
        if moving:
            held = trees.replace_leaves(z.attrs["dist"], [new.get(id(x), x) for x in z.inputs[1:]])
            gesture = _gesture(held, new[id(z)], new[id(z.noise)], sliders, moving, program)
        elif z.shape and isinstance(dist, LocationScale) and not sliders:
            paths = [(path, Tensor(_first(leaf), path)) for path, leaf in trees.paths(dist)]
            dist = trees.replace_leaves(dist, [leaf for _, leaf in paths])
            own = [slider_of(leaf, [d for x, d in domains_in(dist) if x is leaf]) for _, leaf in paths]
            noise = Noise(_first(z.noise), z.noise.dist)
            gesture = _gesture(dist, dist.transform(noise), noise, own, own, program)
        else:
            continue
        drawn = {"name": one_line(z.name or "z"), "count": z.size, "distribution": z.noise.dist.name}
        return drawn | gesture, own
    return None, []


def _first(x: Any) -> Any:
    """Return the first number of an array."""
    return np.asarray(to_host(as_array(value_of(x))).flat[0], np.float64)


def _gesture(
    dist: Any, value: Tensor, noise: Tensor, sliders: Sequence[Slider], moving: Sequence[Slider], program: Program
) -> dict[str, Any]:
    x = Tensor(value.value, "x")
    number = {id(slider.node): k for k, slider in enumerate(sliders)}
    gesture = {
        "dist": one_line(str(dist)),
        "noise": program.variable(noise),
        "z": program.add(value),
        "x": program.variable(x),
        "density": program.add(dist.log_density(x)),
        "support": [float(end) if np.isfinite(end) else None for end in dist.support.bounds],
        "sliders": [number[id(slider.node)] for slider in moving],
        "normal": isinstance(dist, Normal),
    }
    for part in ("loc", "scale") if isinstance(dist, LocationScale) else ():
        leaf = getattr(dist, part)
        gesture[part] = {"row": program.add(leaf), "slider": number.get(id(leaf))}
    return gesture


def asked_of(
    ways: Mapping[str, Tensor], sliders: Sequence[Slider], wrt: Any, new: Mapping[int, Tensor]
) -> list[tuple[dict[str, Any], Tensor]]:
    """Return the parameters whose gradients are compared: those with sliders, else an element of a few arrays."""
    inside = {id(x) for x in topological_order(list(ways.values()))}
    if sliders:
        return [
            ({"name": one_line(s.node.name or "leaf"), "slider": k, "place": None}, new[id(s.node)])
            for k, s in enumerate(sliders)
            if id(s.node) in inside
        ]
    blocked, opened, *_ = ways.values()
    draws = [z for z in topological_order([blocked]) if isinstance(z, Sample)]
    above = {id(x) for x in topological_order(draws)}
    arrays = [x for x in trees.leaves(wrt) if id(x) in inside and x.dtype.kind == "f" and x.ndim]
    arrays = [x for x in arrays if x.ndim > 1] or arrays  # weights say more than biases
    cut = [x for x in arrays if id(x) in above]
    chosen = [*cut[:1], *cut[1:][-1:], *[x for x in arrays if id(x) not in above][:1]][:MOST_ELEMENTS]
    found = []
    for x, g in zip(chosen, gradients(new[id(opened)], [new[id(x)] for x in chosen]), strict=True):
        place = int(np.abs(to_host(g)).argmax())
        index = ", ".join(map(str, np.unravel_index(place, x.shape)))
        found.append(({"name": f"{one_line(x.name or 'leaf')}[{index}]", "slider": None, "place": place}, new[id(x)]))
    return found


def estimators_of(
    ways: Mapping[str, Tensor], asked: Sequence[Tensor], new: Mapping[int, Tensor], program: Program
) -> list[dict[str, Any]]:
    """Return for each way of a gradient to the parameters the rows of the cost and of its gradients."""
    return [
        {
            "name": name,
            "cost": program.add(new[id(cost)]),
            "gradients": [program.add(g) for g in gradients(new[id(cost)], list(asked), record=True)],
        }
        for name, cost in ways.items()
    ]
