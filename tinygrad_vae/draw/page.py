"""Pictures as one HTML file to play with: the template ``web/page.html``, filled with graphs and their programs.

The page computes its numbers by running the program of its graphs again. Where it cannot, it looks up texts that the
library made for a few draws, and says so.
"""

from __future__ import annotations

import inspect
import json
import linecache
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core import NORMAL, UNIFORM, Noise, Sample, SourceLine, Tensor, handled_draw, is_array, topological_order
from ..core import opened as opened_draw
from .flow import OPEN, PARTLY
from .folding import FOLDED
from .labels import LONGEST_DETAIL, one_line
from .picture import CONSTANT, GROUP, RANDOM, Box, Picture, picture_of
from .program import Program, Slot, UnknownError, conditions_of, held, looked_up, numbers_of, sliders_of
from .svg import STYLE, frames_of, legend_of, panel, value_lines
from .trick import asked_of, estimators_of, gesture_of

_MARGIN, _LAYER_GAP = 16.0, 40.0

PACKAGE = __name__.partition(".")[0]

_ALSO = "partly cut; "  # the colour says it too

_TO_READ = {
    "gradients.py": "backprop, and the line where it stops",
    "sample.py": "a random node",
    "rewrite.py": "the trick",
}

Panel = tuple[str, Tensor, Picture]
"""A heading, a cost and its picture."""


def page(panels: Sequence[Panel], wrt: Any, title: str, ways: Mapping[str, Tensor], folder: Path) -> str:
    """Return graphs of the same draw as one HTML document.

    ``ways`` are the rewrites of the first blocked graph that open it, by the name of the estimator; ``folder`` is where
    the page will lie, since its links to source files are relative to it.
    """
    opened = _with_open_layers(panels, wrt)
    shown = [*panels, *opened]
    costs, pictures = [cost for _, cost, _ in shown], [picture for _, _, picture in shown]
    new = held([*costs, *ways.values()])
    found = [numbers_of(cost, picture, new) for cost, picture in zip(costs, pictures, strict=True)]
    places: Sequence[Mapping[Slot, Any]]  # where the page finds each number: its row in the program, or its texts
    try:
        program = Program()
        data = _computed(costs, pictures, wrt, ways, new, program)
        places = [{slot: program.add(node) for slot, node in numbers.items()} for numbers in found]
    except UnknownError as reason:
        places = looked_up([x for x in topological_order(costs) if isinstance(x, Noise)], new, found)
        draws = max((len(texts) for numbers in places for texts in numbers.values()), default=1)
        data = {"sliders": [], "reason": str(reason), "draws": draws}
    data["folded"] = len(panels)
    data["graphs"] = [
        {
            "heading": heading,
            "boxes": [_about(i, box, picture, place) for i, box in enumerate(picture.boxes)],
            "arrows": [
                {"tail": a.tail, "head": a.head, "mark": a.mark, "part": place.get(("part", e))}
                for e, a in enumerate(picture.arrows)
            ],
            "steps": sorted(  # backprop reaches last the boxes that it does not get past
                (i for i in reversed(range(len(picture.boxes))) if picture.boxes[i].arrives),
                key=lambda i: _is_end(i, picture),
            ),
        }
        for (heading, _, picture), place in zip(shown, places, strict=True)
    ]
    graphs = [*_inline(panels), *(_inline(opened) if opened else [])]  # each group laid out for itself
    legend = [
        f'<li><svg class="sign" viewBox="-1 -10 28 20" aria-hidden="true">{sign}</svg>{escape(words)}</li>'
        for sign, words in legend_of(pictures)
    ]
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    filling = {
        "title": escape(title),
        "links": _links(costs, folder),
        "source": escape(inspect.getsource(opened_draw).strip()),
        "graph style": STYLE,
        "graphs": "\n".join(graphs),
        "legend": "\n".join(legend),
        "data": text,
    }
    web = files(__package__) / "web"
    before, *rest = (web / "page.html").read_text(encoding="utf-8").split("{{")
    parts = [before]
    for part in rest:  # {{name}} is a text or, if there is none of the name, a file beside the template
        name, _, after = part.partition("}}")
        parts += filling[name] if name in filling else (web / name).read_text(encoding="utf-8"), after
    return "".join(parts)


def _computed(
    costs: Sequence[Tensor],
    pictures: Sequence[Picture],
    wrt: Any,
    ways: Mapping[str, Tensor],
    new: Mapping[int, Tensor],
    program: Program,
) -> dict[str, Any]:
    """Return what a page needs to compute its graphs. ``UnknownError``: it cannot."""
    order = topological_order(costs)
    blocked = [
        (cost, picture.gradients)
        for cost, picture in zip(costs, pictures, strict=True)
        if any(isinstance(x, Sample) for x in topological_order([cost]))
    ]
    sliders = sliders_of(costs, pictures, wrt)
    for slider in sliders:
        program.variable(slider.node)
    gesture, own = gesture_of([cost for cost, _ in blocked[:1]], sliders, new, program)
    estimators = {"cut": blocked[0][0], **ways} if ways and blocked and blocked[0][1] else {}
    asked = asked_of(estimators, sliders, wrt, new) if estimators else []
    noises = [x for x in order if isinstance(x, Noise)]
    for x in noises:
        if x.dist not in (NORMAL, UNIFORM) or x.dependent_draws:
            raise UnknownError(f"its noise is {x.dist.name}, which this page cannot draw")
    return {
        "sliders": [
            {
                "name": one_line(s.node.name or "leaf"),
                "row": program.variable(s.node),
                "low": s.low,
                "high": s.high,
                "boxes": None if s in own else [_box_of(s.node, picture) for picture in pictures],
            }
            for s in [*sliders, *own]
        ],
        "noises": [
            {"row": program.variable(new[id(x)]), "distribution": x.dist.name, "shape": list(x.shape)} for x in noises
        ],
        "conditions": [program.add(x) for x in conditions_of(costs, new)],
        "gesture": gesture,
        "draw": next((name for _, name in _lines_of_draws(order)), ""),
        "asked": [told for told, _ in asked],
        "estimators": estimators_of(estimators, [x for _, x in asked], new, program) if asked else [],
        "rows": program.rows,
    }


def _links(costs: Sequence[Tensor], folder: Path) -> str:
    """Return links to the program that made the draws, and to the places in the core that the page is about."""
    drawn = dict.fromkeys(_lines_of_draws(topological_order(costs)))
    core = Path(inspect.getsourcefile(opened_draw) or "").parent
    links = [(Path(line.file), f"{line}, where {name} is drawn") for line, name in drawn]
    links += [(core / name, f"core/{name}, {words}") for name, words in _TO_READ.items()]
    written = []
    for file, words in links:
        address = Path(os.path.relpath(file, folder.resolve())).as_posix()
        written.append(f'<a href="{escape(address)}">{escape(words)}</a>' if file.is_file() else escape(words))
    return f"To read: {'; '.join(written)}."


def _lines_of_draws(nodes: Sequence[Any]) -> list[tuple[SourceLine, str]]:
    found = [(x.line, x.name or "it") for x in nodes if isinstance(x, Sample)]
    drawn = [x.attrs["drawn"] for x in nodes if not is_array(x) and x.op is handled_draw]
    return found + [(note.line, note.name or "it") for note in drawn]


def _with_open_layers(panels: Sequence[Panel], wrt: Any) -> list[Panel]:
    """Return the same graphs with their layers open; none if there are no layers, or more boxes than can be read."""
    if not any(box.kind == GROUP for _, _, picture in panels for box in picture.boxes):
        return []
    try:
        return [(heading, cost, picture_of(cost, wrt, open_layers=True)) for heading, cost, _ in panels]
    except ValueError:
        return []


def _box_of(node: Tensor, picture: Picture) -> int | None:
    return next((i for i, box in enumerate(picture.boxes) if any(x is node for x in box.nodes)), None)


def _about(i: int, box: Box, picture: Picture, place: Mapping[Slot, Any]) -> dict[str, Any]:
    """Return the facts that the page shows of a box."""
    lines = dict.fromkeys(line for line, _ in _lines_of_draws(box.nodes))
    source = [f"{line}  {linecache.getline(line.file, line.line).strip()}".strip() for line in lines]
    formulas = _formulas(box)
    ends = "a draw has a value and no derivative" if box.kind == RANDOM else "its value jumps"
    return {
        "label": box.label,
        "state": box.state,
        "layer": box.kind == GROUP,
        "detail": "" if formulas and not lines else box.detail,
        "formulas": formulas,
        "source": [one_line(text, LONGEST_DETAIL) for text in source],
        "value": place.get(("value", i)),
        "before": value_lines(box)[-1].removesuffix(box.value[-1]),
        "gradient": place.get(("gradient", i)),
        "words": _words(i, box, picture),
        "ends": ends if _is_end(i, picture) else "",
    }


def _words(i: int, box: Box, picture: Picture) -> str:
    """Return the text of a box once the gradient is there, with ``{}`` for the number."""
    if box.words:
        return box.words.replace(_ALSO, "")
    if not (box.arrives and picture.gradients):
        return ""
    return "✕ {}" if _is_end(i, picture) else "↑ {}"


def _is_end(i: int, picture: Picture) -> bool:
    """Return whether backprop reaches a box and does not get past it, since all its arrows are cut."""
    arrows = [arrow for arrow in picture.arrows if arrow.head == i]
    return any(a.mark == "cut" for a in arrows) and not any(a.state in (OPEN, PARTLY) for a in arrows)


def _formulas(box: Box) -> list[str]:
    """Return the first line of the docstring of each op in a box, and the line of the source where it is declared."""
    nodes = [] if box.kind in (CONSTANT, RANDOM) else box.nodes
    formulas = []
    for op in dict.fromkeys(x.op for x in nodes if x.op is not None and x.op not in FOLDED):
        source = op.vjps[0] if callable(op.vjps[0]) else op.forward
        code, own = inspect.unwrap(source).__code__, op.__module__.startswith(f"{PACKAGE}.")
        file = f"{op.__module__.replace('.', '/')}.py" if own else Path(code.co_filename).name
        if op.__doc__:
            first = op.__doc__.strip().splitlines()[0].replace("`", "")
            formulas.append(f"{op.name}: {first} [{file}:{code.co_firstlineno}]")
    return formulas


def _inline(panels: Sequence[Panel]) -> list[str]:
    """Return an SVG for each graph; nodes that they share stand in the same place."""
    out = []
    room = [_with_texts(picture, "-88.888") for _, _, picture in panels]  # for the longest numbers of the page
    for (heading, _, picture), frame in zip(panels, frames_of(room, _LAYER_GAP), strict=True):
        width, height = frame.width + 2 * _MARGIN, frame.height + 2 * _MARGIN
        out += [
            f'<svg class="graph" role="group" aria-label="{escape(heading)}" viewBox="0 0 {width:.1f} {height:.1f}" '
            f'style="--width: {width:.0f}px; aspect-ratio: {width:.0f} / {height:.0f}">',
            *panel(_with_texts(picture), frame, _MARGIN, _MARGIN),
            "</svg>",
        ]
    return out


def _with_texts(picture: Picture, number: str | None = None) -> Picture:
    """Return the picture with the words of the page in its boxes; and a number in the place of every one, if given."""
    boxes = []
    for i, box in enumerate(picture.boxes):
        *before, value = box.value
        if number is not None and box.kind != CONSTANT and len(value) <= len(number):
            value = number
        words = _words(i, box, picture).replace("{}", box.number if number is None else number)
        boxes.append(replace(box, value=[*before, value], words=words))
    return replace(picture, boxes=boxes)
