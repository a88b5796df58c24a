"""Pictures as one HTML file to play with: the template ``page.html``, filled with graphs and tables of their numbers.

The page computes nothing. Each number on it is a text that the library made when the page was written, looked up by the
position of the sliders and the number of the draw.
"""

from __future__ import annotations

import json
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core import Op, Sample, SourceLine, Tensor, is_array, taken_care_of
from .flow import OPEN, PARTLY
from .folding import FOLDED
from .labels import LONGEST_DETAIL, one_line
from .picture import CONSTANT, GROUP, RANDOM, Box, Picture, picture_of
from .play import Slot, Texts, draws_of, numbers_of, sliders_of
from .svg import STYLE, frames_of, legend_of, panel, value_lines

_MARGIN = 16.0

PACKAGE = __name__.partition(".")[0]

ENDS = {RANDOM: "a draw has a value and no derivative"}
"""Why backprop does not get past a box."""


def page(panels: Sequence[tuple[str, Tensor, Picture]], wrt: Any, title: str) -> str:
    """Return graphs of the same draw, each a heading, a cost and its picture, as one HTML document."""
    opened = _with_open_layers(panels, wrt)
    shown = [*panels, *opened]
    costs, pictures = [cost for _, cost, _ in shown], [picture for _, _, picture in shown]
    sliders, draws = sliders_of(costs, pictures, wrt), draws_of(costs)
    numbers = numbers_of(costs, pictures, sliders, draws)
    tables = Tables()
    graphs = [
        {
            "heading": heading,
            "boxes": [_about(i, box, picture, found, tables) for i, box in enumerate(picture.boxes)],
            "arrows": [
                {"tail": a.tail, "head": a.head, "mark": a.mark, "part": tables.add(found.get(("part", e)))}
                for e, a in enumerate(picture.arrows)
            ],
            "steps": _steps(picture),
        }
        for (heading, _, picture), found in zip(shown, numbers, strict=True)
    ]
    data = {
        "sliders": [
            {
                "name": one_line(s.node.name or "leaf"),
                "values": [f"{float(v):.4g}" for v in s.values],
                "start": len(s.values) // 2,
                "boxes": [_box_of(s.node, picture) for picture in pictures],
            }
            for s in sliders
        ],
        "draws": len(draws),
        "folded": len(panels),
        "graphs": graphs,
        "tables": tables.all,
    }
    groups = (panels, numbers[: len(panels)]), (opened, numbers[len(panels) :])  # each laid out for itself
    filling = {
        "title": escape(title),
        "style": STYLE,
        "graphs": "\n".join(line for group, found in groups if group for line in _inline(group, found)),
        "legend": "\n".join(
            f'<li><svg class="sign" viewBox="-1 -10 28 20" aria-hidden="true">{sign}</svg>{escape(words)}</li>'
            for sign, words in legend_of(pictures)
        ),
        "data": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    before, *rest = (files(__package__) / "page.html").read_text(encoding="utf-8").split("{{")
    parts = [before]
    for part in rest:
        name, _, text = part.partition("}}")
        parts += filling[name], text
    return "".join(parts)


def _with_open_layers(panels: Sequence[tuple[str, Tensor, Picture]], wrt: Any) -> list[tuple[str, Tensor, Picture]]:
    """Return the same graphs with their layers open; none if there are no layers, or more boxes than can be read."""
    if not any(box.kind == GROUP for _, _, picture in panels for box in picture.boxes):
        return []
    try:
        return [(heading, cost, picture_of(cost, wrt, open_layers=True)) for heading, cost, _ in panels]
    except ValueError:
        return []


class Tables:
    """The tables of a page, each kept once. An axis on which nothing depends has length 1."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def add(self, texts: Texts | None) -> int | None:
        """Return the number of a table, or ``None``."""
        if texts is None:
            return None
        for axis in range(texts.ndim):
            first = texts.take([0], axis)
            texts = first if (texts == first).all() else texts
        key = texts.shape, tuple(texts.flat)
        if key not in self._known:
            self._known[key] = len(self.all)
            self.all.append({"shape": list(texts.shape), "text": list(texts.flat)})
        return self._known[key]


def _steps(picture: Picture) -> list[int]:
    """Return the boxes in the order in which backprop reaches them; last the boxes that it does not get past."""
    back = [i for i in reversed(range(len(picture.boxes))) if picture.boxes[i].arrives]
    return sorted(back, key=lambda i: _is_end(i, picture))


def _box_of(node: Tensor, picture: Picture) -> int | None:
    return next((i for i, box in enumerate(picture.boxes) if any(x is node for x in box.nodes)), None)


def _about(i: int, box: Box, picture: Picture, found: Mapping[Slot, Texts], tables: Tables) -> dict[str, Any]:
    """Return the facts that the page shows of a box."""
    drawn_at = [x.line for x in box.nodes if isinstance(x, Sample)]
    drawn_at += [x.attrs["drawn"].line for x in box.nodes if not is_array(x) and x.op is taken_care_of]
    formulas = _formulas(box)
    return {
        "label": box.label,
        "state": box.state,
        "layer": box.kind == GROUP,
        "detail": "" if formulas and not drawn_at else box.detail,
        "formulas": formulas,
        "source": [_source(line) for line in dict.fromkeys(drawn_at)],
        "value": tables.add(found.get(("value", i))),
        "before": _before(box),
        "gradient": tables.add(found.get(("gradient", i))),
        "words": _words(i, box, picture),
        "ends": ENDS.get(box.kind, "its value jumps") if _is_end(i, picture) else "",
    }


def _words(i: int, box: Box, picture: Picture) -> str:
    """Return the text of a box once the gradient is there, with ``{}`` for the number."""
    if box.words:
        return box.words.replace("partly cut; ", "")
    if not (box.arrives and picture.gradients):
        return ""
    return "✕ {}" if _is_end(i, picture) else "↑ {}"


def _is_end(i: int, picture: Picture) -> bool:
    """Return whether backprop reaches a box and does not get past it, since all its arrows are cut."""
    arrows = [arrow for arrow in picture.arrows if arrow.head == i]
    return any(a.mark == "cut" for a in arrows) and not any(a.state in (OPEN, PARTLY) for a in arrows)


def _before(box: Box) -> str:
    """Return the text before the number in the last line of a box's value."""
    return value_lines(box)[-1].removesuffix(box.value[-1])


def _formulas(box: Box) -> list[str]:
    """Return the first line of the docstring of each op in a box, and the line of the source where it is declared."""
    if box.kind in (CONSTANT, RANDOM):
        return []
    ops = dict.fromkeys(x.op for x in box.nodes if x.op is not None and x.op not in FOLDED)
    return [
        f"{op.name}: {op.__doc__.strip().splitlines()[0].replace('`', '')} [{_declared(op)}]"
        for op in ops
        if op.__doc__
    ]


def _declared(op: Op[..., Any]) -> str:
    """Return the file and line where an op is declared; the file of an op of the library with its folder."""
    code, own = op.forward.__code__, op.__module__.startswith(f"{PACKAGE}.")
    file = f"{op.__module__.replace('.', '/')}.py" if own else Path(code.co_filename).name
    return f"{file}:{code.co_firstlineno}"


def _source(line: SourceLine) -> str:
    return one_line(f"{line}  {linecache.getline(line.file, line.line).strip()}".strip(), LONGEST_DETAIL)


def _inline(panels: Sequence[tuple[str, Tensor, Picture]], numbers: Sequence[Mapping[Slot, Texts]]) -> list[str]:
    """Return an SVG for each graph; nodes that they share stand in the same place."""
    roomy = [_with_texts(picture, found, _longest) for (_, _, picture), found in zip(panels, numbers, strict=True)]
    out = []
    for (heading, _, picture), found, frame in zip(panels, numbers, frames_of(roomy), strict=True):
        width, height = frame.layout.width + 2 * _MARGIN, frame.layout.height + 2 * _MARGIN
        out += [
            f'<svg class="graph" role="group" aria-label="{escape(heading)}" viewBox="0 0 {width:.1f} {height:.1f}" '
            f'style="max-width: {width:.0f}px; min-width: {0.6 * width:.0f}px">',
            *panel(_with_texts(picture, found, _own), frame, _MARGIN, _MARGIN),
            "</svg>",
        ]
    return out


def _with_texts(picture: Picture, found: Mapping[Slot, Texts], choose: Callable[[Texts], str]) -> Picture:
    """Return the picture with one of the texts of each slot in its boxes."""
    boxes = []
    for i, box in enumerate(picture.boxes):
        value, gradient = (choose(found[slot]) if slot in found else "" for slot in (("value", i), ("gradient", i)))
        words = _words(i, box, picture).replace("{}", gradient)
        boxes.append(replace(box, value=[*box.value[:-1], value or box.value[-1]], gradient=words))
    return replace(picture, boxes=boxes)


def _longest(texts: Texts) -> str:
    return max(texts.flat, key=len)


def _own(texts: Texts) -> str:
    """Return the text for sliders in the middle and the draw that the graph was recorded with."""
    return texts[(*(n // 2 for n in texts.shape[:-1]), 0)]
