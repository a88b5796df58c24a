"""Pictures as SVG: a shape for each kind of node, a colour for the fate of its gradient, and a legend.

A light card lies behind everything, so that the drawing reads the same on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from graphlib import CycleError
from html import escape

from .flow import CLOSED, COLOURS, CUT, OPEN, PARTLY
from .layout import LAYER_GAP, Layout, layered_layout
from .picture import CONSTANT, GROUP, LEAF, NOISE, OPERATION, RANDOM, Arrow, Box, Picture

LEGEND = {
    LEAF: "parameter or data",
    CONSTANT: "constant",
    GROUP: "layer",
    OPERATION: "deterministic",
    RANDOM: "random",
    NOISE: "noise from outside",
    OPEN: "gradient flows back",
    PARTLY: "a part of it is cut",
    CUT: "cut: no gradient comes back",
    CLOSED: "no gradient asked for",
    "stop": "cut on purpose",
}

STYLE = (
    """
.card { fill: #ffffff; stroke: #d0d7de; }
text { font-family: "Helvetica Neue", Helvetica, Arial, "DejaVu Sans", sans-serif; fill: #1f2328; text-anchor: middle; }
.heading { font-size: 17px; font-weight: bold; }
.label { font-size: 14px; font-weight: bold; }
.value, .gradient { font-size: 12px; }
.value { fill: #57606a; }
.legend text { font-size: 12px; text-anchor: start; }
.shape { stroke: #57606a; stroke-width: 1.5; }
.leaf .shape { fill: #eaf2fb; }
.constant .shape { fill: #f6f8fa; stroke: #9aa3ad; stroke-dasharray: 4 3; }
.group .shape { fill: #eef0fa; }
.operation .shape { fill: #ffffff; }
.random .shape, .drawn .shape { fill: #fff1c9; stroke-width: 2; }
.noise .shape { fill: #ffffff; stroke: #9aa3ad; stroke-dasharray: 4 3; }
.line { fill: none; stroke-width: 1.8; }
.closed .line { stroke-dasharray: 5 4; stroke-width: 1.4; }
.cut .line { stroke-width: 2.2; }
.mark .halo { stroke: #ffffff; stroke-width: 8; stroke-linecap: round; fill: none; }
.mark .sign { stroke-width: 3.6; stroke-linecap: round; fill: none; }
"""
    + "".join(
        f".arrow.{state} .line, .arrow.{state} .sign, .node.{state} .shape {{ stroke: {colour}; }}\n"
        f".arrow.{state} .head, .node.{state} .gradient {{ fill: {colour}; }}\n"
        for state, colour in COLOURS.items()
    )
    + ".node.open .shape, .node.cut .shape, .node.partly .shape { stroke-width: 2.2; }\n"
)

_MARGIN, _HEADING, _LINE, _LEGEND_ROW = 28.0, 44.0, 16.0, 26.0
_LEGEND_SIZES = {RANDOM: (18.0, 18.0), NOISE: (18.0, 18.0), OPERATION: (26.0, 16.0)}


def svg(panels: Sequence[tuple[str, Picture]], title: str) -> str:
    """Return pictures with their headings side by side as one SVG document; a shared node has the same place in each.

    Screen readers and the tooltip say the title.
    """
    pictures = [picture for _, picture in panels]
    frames = frames_of(pictures)
    top = _MARGIN + (_HEADING if any(heading for heading, _ in panels) else 0.0)
    bottom = top + max(frame.height for frame in frames)
    body: list[str] = []
    left = _MARGIN
    for k, ((heading, picture), frame) in enumerate(zip(panels, frames, strict=True)):
        width = max(frame.width, _text_width(heading, 17.0))
        if k:
            x = left - _MARGIN * 0.75
            body.append(f'<path d="M{x:.1f},{_MARGIN} V{bottom:.1f}" stroke="#d0d7de" fill="none"/>')
        if heading:
            x, y = left + width / 2, _MARGIN + 16
            body.append(f'<text class="heading" x="{x:.1f}" y="{y:.1f}">{escape(heading)}</text>')
        body += panel(picture, frame, left + (width - frame.width) / 2, top)
        left += width + _MARGIN * 1.5
    width = max(left - _MARGIN / 2, 420.0)
    legend, legend_height = _legend(pictures, width - 2 * _MARGIN, bottom + _MARGIN)
    height = bottom + _MARGIN + legend_height + _MARGIN / 2
    said = []
    for heading, picture in panels:
        fates = [f"{box.label}: {box.gradient or box.state}" for box in picture.boxes if box.state]
        said.append(f"{heading or 'A graph'}, with {len(picture.boxes)} boxes. {'. '.join(fates)}.")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.1f} {height:.1f}">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(' '.join(said))}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{width - 1:.1f}" height="{height - 1:.1f}" rx="10"/>',
            *body,
            *legend,
            "</svg>\n",
        ]
    )


def panel(picture: Picture, frame: Layout, left: float, top: float) -> list[str]:
    """Return the arrows, then the boxes of a picture, in its order, shifted by ``left`` and ``top``."""
    boxes, ports = picture.boxes, _ports(picture, frame)
    return [
        f'<g class="panel" transform="translate({left:.1f} {top:.1f})">',
        *(_arrow(arrow, *ends, frame.lanes[e], boxes, frame) for e, (arrow, ends) in enumerate(ports)),
        *map(_node, boxes, frame.centres, frame.sizes),
        "</g>",
    ]


def frames_of(pictures: Sequence[Picture], layer_gap: float = LAYER_GAP) -> list[Layout]:
    """Lay out the pictures so that boxes of the same value share a slot; apart, if shared slots would make a circle."""
    try:
        return _shared_frames(pictures, layer_gap)
    except CycleError:
        return [_shared_frames([picture], layer_gap)[0] for picture in pictures]


def _shared_frames(pictures: Sequence[Picture], layer_gap: float) -> list[Layout]:
    slots = _slots(pictures)
    room = [(0.0, 0.0)] * (1 + max(slot for taken in slots for slot in taken))
    edges: dict[tuple[int, int, int], None] = {}  # from, to, and the index among the arrows that join the two
    wanted: list[list[tuple[int, int, int]]] = []
    for picture, taken in zip(pictures, slots, strict=True):
        for slot, box in zip(taken, picture.boxes, strict=True):
            width, height = _size(box)
            room[slot] = max(room[slot][0], width), max(room[slot][1], height)
        pairs = [(taken[arrow.tail], taken[arrow.head]) for arrow in picture.arrows]
        wanted.append([(*pair, pairs[:k].count(pair)) for k, pair in enumerate(pairs)])
        edges.update(dict.fromkeys(wanted[-1]))
    at = layered_layout(room, [(a, b) for a, b, _ in edges], layer_gap)
    lanes = dict(zip(edges, at.lanes, strict=True))
    return [
        replace(
            at,
            sizes=[_size(box) for box in picture.boxes],
            centres=[at.centres[slot] for slot in taken],
            layers=[at.layers[slot] for slot in taken],
            lanes=[lanes[edge] for edge in here],
        )
        for picture, taken, here in zip(pictures, slots, wanted, strict=True)
    ]


def _slots(pictures: Sequence[Picture]) -> list[list[int]]:
    """Return the slot of each box of each picture: boxes that stand for one node or hold one value share it."""
    owners: list[set[int]] = []
    slots: list[list[int]] = []
    for picture in pictures:
        taken: list[int] = []
        for box in picture.boxes:
            keys = {id(x) for x in box.nodes} | {id(getattr(x, "value", x)) for x in box.nodes}
            slot = next((k for k, owned in enumerate(owners) if owned & keys and k not in taken), len(owners))
            owners += [set()] if slot == len(owners) else []
            owners[slot] |= keys
            taken.append(slot)
        slots.append(taken)
    return slots


def _text_width(text: str, size: float) -> float:
    """Return about how wide a text is; the larger sizes are set in bold."""
    return len(text) * size * (0.6 if size < 14 else 0.66)


def value_lines(box: Box) -> list[str]:
    """Return the value of a box in lines: few in a wide shape, several in a diamond or a circle."""
    if box.kind == GROUP:
        return [box.value[0], "  ".join(box.value[1:])]
    return ["  ".join(box.value)] if box.kind in (LEAF, CONSTANT) else box.value


def _lines(box: Box) -> list[tuple[str, str, float]]:
    """Return the lines of text in a box: class, text and width."""
    lines = [("label", box.label, 14.0)] + [("value", line, 12.0) for line in value_lines(box)]
    lines += [("gradient", line, 12.0) for line in box.gradient.split("; ") if line]
    return [(kind, text, _text_width(text, size)) for kind, text, size in lines]


def _size(box: Box) -> tuple[float, float]:
    """Return the width and height that hold the text of a box in its shape."""
    lines = _lines(box)
    heights = [abs(k - (len(lines) - 1) / 2) * _LINE + _LINE / 2 for k in range(len(lines))]
    if box.kind in (RANDOM, NOISE):
        radius = max(math.hypot(w / 2, h) for (_, _, w), h in zip(lines, heights, strict=True)) + 5
        return 2 * radius, 2 * radius
    if box.kind == OPERATION:
        height = max(w / 1.9 + 2 * h for (_, _, w), h in zip(lines, heights, strict=True)) + 2
        return 1.9 * height, height
    return max(w for _, _, w in lines) + 28, len(lines) * _LINE + 18


def _node(box: Box, centre: tuple[float, float], size: tuple[float, float]) -> str:
    (x, y), (w, h) = centre, size
    lines = _lines(box)
    texts = "".join(
        f'<text class="{kind}" x="{x:.1f}" y="{y + (k - (len(lines) - 1) / 2) * _LINE + 4.5:.1f}">{escape(text)}</text>'
        for k, (kind, text, _) in enumerate(lines)
    )
    classes = " ".join(word for word in ("node", box.kind, box.state, "drawn" * box.drawn) if word)
    return f'<g class="{classes}"><title>{escape(box.detail)}</title>{_shape(box.kind, x, y, w, h)}{texts}</g>'


def _shape(kind: str, x: float, y: float, w: float, h: float) -> str:
    if kind in (RANDOM, NOISE):
        return f'<circle class="shape" cx="{x:.1f}" cy="{y:.1f}" r="{w / 2:.1f}"/>'
    if kind == OPERATION:
        corners = f"{x:.1f},{y - h / 2:.1f} {x + w / 2:.1f},{y:.1f} {x:.1f},{y + h / 2:.1f} {x - w / 2:.1f},{y:.1f}"
        return f'<polygon class="shape" points="{corners}"/>'
    rounded = ' rx="9"' if kind == GROUP else ""
    return f'<rect class="shape" x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}"{rounded}/>'


def _edge_of(kind: str, dx: float, w: float, h: float) -> float:
    """Return how far above its centre the outline of a shape lies, ``dx`` beside it."""
    if kind in (RANDOM, NOISE):
        return math.sqrt(max((w / 2) ** 2 - dx * dx, 0.0))
    return h / 2 * (1 - 2 * abs(dx) / w) if kind == OPERATION else h / 2


def _ports(picture: Picture, frame: Layout) -> list[tuple[Arrow, tuple[float, float]]]:
    """Return each arrow with the x where it leaves and the x where it arrives.

    Several arrows at one box are set apart, in the order of their other ends.
    """
    ways = [
        [frame.centres[arrow.tail][0], *lanes, frame.centres[arrow.head][0]]
        for arrow, lanes in zip(picture.arrows, frame.lanes, strict=True)
    ]
    leaving, arriving = [way[1] for way in ways], [way[-2] for way in ways]
    for i, ((x, _), (width, _)) in enumerate(zip(frame.centres, frame.sizes, strict=True)):
        for ports, end in ((leaving, "tail"), (arriving, "head")):
            here = sorted((e for e, a in enumerate(picture.arrows) if getattr(a, end) == i), key=ports.__getitem__)
            step = min(26.0, 0.55 * width / max(len(here) - 1, 1))
            for k, e in enumerate(here):
                ports[e] = x + (k - (len(here) - 1) / 2) * step
    return list(zip(picture.arrows, zip(leaving, arriving, strict=True), strict=True))


def _arrow(arrow: Arrow, start: float, end: float, lanes: list[float], boxes: Sequence[Box], frame: Layout) -> str:
    """Draw an arrow: straight down past boxes, and aside in the gaps between layers only."""
    i, j = arrow.tail, arrow.head
    (tail_x, tail_y), (head_x, head_y) = frame.centres[i], frame.centres[j]
    first, last = frame.layers[i], frame.layers[j]
    from_y = tail_y + _edge_of(boxes[i].kind, start - tail_x, *frame.sizes[i])
    to_y = head_y - _edge_of(boxes[j].kind, end - head_x, *frame.sizes[j]) - 2
    path = f"M{start:.1f},{from_y:.1f}"
    x, y = start, frame.bands[first][1]
    for layer, next_x in zip(range(first + 1, last + 1), [*lanes, end], strict=True):
        top, bottom = frame.bands[layer]
        middle = (y + top) / 2
        mark_at = (x + next_x) / 2, middle
        path += f" V{y:.1f} C{x:.1f},{middle:.1f} {next_x:.1f},{middle:.1f} {next_x:.1f},{top:.1f}"
        x, y = next_x, bottom
    path += f" V{to_y - 7:.1f}"
    head = f'<path class="head" d="M{end:.1f},{to_y:.1f} l-4.8,-10 h9.6 z"/>'
    return f'<g class="arrow {arrow.state}"><path class="line" d="{path}"/>{head}{_mark(arrow.mark, *mark_at)}</g>'


def _mark(mark: str, x: float, y: float) -> str:
    """Draw a cross where a random node cuts, a bar where the gradient was cut on purpose."""
    if not mark:
        return ""
    sign = f"M{x - 8:.1f},{y - 8:.1f} l16,16 m0,-16 l-16,16" if mark == "cut" else f"M{x:.1f},{y - 8:.1f} v16"
    return f'<g class="mark {mark}"><path class="halo" d="{sign}"/><path class="sign" d="{sign}"/></g>'


def legend_of(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """Return the signs that occur, drawn 26 wide around (13, 0), with their meanings."""
    kinds = {box.kind for picture in pictures for box in picture.boxes}
    states = {arrow.state for picture in pictures for arrow in picture.arrows}
    states |= {box.state for picture in pictures for box in picture.boxes}
    marks = {arrow.mark for picture in pictures for arrow in picture.arrows}
    return [(_sign(name), words) for name, words in LEGEND.items() if name in kinds | states | (marks - {"cut"})]


def _sign(name: str) -> str:
    """Draw a shape or an arrow for the legend."""
    if name in COLOURS or name == "stop":
        mark = _mark(name, 13.0, 0.0) if name in (CUT, "stop") else ""
        line = '<path class="line" d="M0.0,0.0 h26"/>'
        return f'<g class="arrow {CLOSED if name == "stop" else name}">{line}{mark}</g>'
    return f'<g class="node {name}">{_shape(name, 13.0, 0.0, *_LEGEND_SIZES.get(name, (24, 14)))}</g>'


def _legend(pictures: Sequence[Picture], width: float, top: float) -> tuple[list[str], float]:
    """Return the legend in as many rows as it takes, and its height."""
    out = [f'<g class="legend" transform="translate({_MARGIN:.1f} {top:.1f})">']
    x, y = 0.0, 0.0
    for sign, words in legend_of(pictures):
        room = 36 + _text_width(words, 12.0) + 14
        if x and x + room > width:
            x, y = 0.0, y + _LEGEND_ROW
        out.append(f'<g transform="translate({x:.1f} {y:.1f})">{sign}<text x="34" y="4">{escape(words)}</text></g>')
        x += room
    return [*out, "</g>"], y + _LEGEND_ROW
