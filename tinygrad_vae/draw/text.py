"""Pictures as text: lines for the terminal, Graphviz DOT, and Mermaid."""

from __future__ import annotations

from collections.abc import Sequence

from .flow import CLOSED, COLOURS, CUT, OPEN, PARTLY
from .picture import CONSTANT, GROUP, NOISE, OPERATION, RANDOM, Box, Picture

_BRACKETS = {OPERATION: ("<", ">"), RANDOM: ("((", "))"), NOISE: ("(", ")")}
_WORDS = {OPEN: "", CUT: " (cut)", PARTLY: " (partly cut)", CLOSED: ""}


def terminal(picture: Picture, title: str) -> str:
    """Return one numbered line for each box: its name, its value, the boxes it was computed from, its gradient."""
    rows = []
    for i, box in enumerate(picture.boxes):
        left, right = _BRACKETS.get(box.kind, ("[", "]"))
        arrows = [a for a in picture.arrows if a.head == i]
        inputs = [f"{a.tail + 1}{' (stopped)' if a.mark == 'stop' else _WORDS[a.state]}" for a in arrows]
        parts = f"from {', '.join(inputs)}" if inputs else "", box.gradient
        source = "; ".join(filter(None, parts)) or _WORDS.get(box.state, "").strip(" ()")
        rows.append((f"{i + 1}", f"{left} {box.label} {right}", " ".join(box.value), source))
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
    lines = [
        f"{n:>{widths[0] + 2}}  {name:<{widths[1]}}  {value:<{widths[2]}}  {source}".rstrip()
        for n, name, value, source in rows
    ]
    return "\n".join([title, *lines, "[ ] leaf   < > deterministic   (( )) random   ( ) noise"])


def terminals(panels: Sequence[tuple[str, Picture]], title: str) -> str:
    """Return pictures as text, one below the other."""
    return "\n".join(f"{terminal(picture, heading or title)}\n" for heading, picture in panels)


def dot(panels: Sequence[tuple[str, Picture]], title: str) -> str:
    """Return pictures in the language of Graphviz: ``dot -Tpdf graph.dot -o graph.pdf``; several as clusters."""
    shapes = {OPERATION: "diamond", RANDOM: "circle", NOISE: "circle"}
    dashes = {GROUP: ', style="rounded"', NOISE: ', style="dashed"', CONSTANT: ', style="dashed"'}
    marks = {"cut": ', label="✕", fontcolor="#d1242f"', "stop": ', label="stop"', "": ""}
    lines = ["digraph {", f"  label={_quoted(title)};", '  node [fontname="Helvetica"];']
    for k, (heading, picture) in enumerate(panels):
        n = _prefix(k)
        lines += [f"  subgraph cluster{k} {{", f"  label={_quoted(heading)};"] if len(panels) > 1 else []
        for i, box in enumerate(picture.boxes):
            shape, style = shapes.get(box.kind, "box"), dashes.get(box.kind, "")
            style += f', color="{COLOURS[box.state]}"' if box.state else ""
            lines.append(f"  {n}{i} [shape={shape}, label={_quoted(*_lines(box))}{style}];")
        for a in picture.arrows:
            style = (', style="dashed"' if a.state == CLOSED else "") + marks[a.mark]
            lines.append(f'  {n}{a.tail} -> {n}{a.head} [color="{COLOURS[a.state]}"{style}];')
        lines += ["  }"] if len(panels) > 1 else []
    return "\n".join([*lines, "}\n"])


def _prefix(k: int) -> str:
    """Return what the names of the boxes of picture k begin with."""
    return "n" if k == 0 else f"n{k}_"


def _quoted(*lines: str) -> str:
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def mermaid(panels: Sequence[tuple[str, Picture]], title: str) -> str:
    """Return pictures in the language of Mermaid, which Markdown pages draw in a block marked ``mermaid``."""
    shapes = {OPERATION: ("{", "}"), RANDOM: ("((", "))"), NOISE: ("((", "))"), GROUP: ("(", ")")}
    marks = {"cut": "|✕|", "stop": "|stop|", "": ""}
    lines = ["flowchart TD", f"  accTitle: {' '.join(title.split())}"]
    arrows: list[str] = []  # the states of all arrows, in their order
    boxes: dict[str, list[str]] = {state: [] for state in ("", *COLOURS)}
    for k, (heading, picture) in enumerate(panels):
        n = _prefix(k)
        lines += [f'  subgraph panel{k}["{_entities(heading)}"]'] if len(panels) > 1 else []
        for i, box in enumerate(picture.boxes):
            left, right = shapes.get(box.kind, ("[", "]"))
            lines.append(f'  {n}{i}{left}"{"<br>".join(_entities(line) for line in _lines(box))}"{right}')
            boxes[box.state].append(f"{n}{i}")
        for a in picture.arrows:
            lines.append(f"  {n}{a.tail} {'-.->' if a.state == CLOSED else '-->'}{marks[a.mark]} {n}{a.head}")
            arrows.append(a.state)
        lines += ["  end"] if len(panels) > 1 else []
    for state, colour in COLOURS.items():
        if numbers := [str(j) for j, other in enumerate(arrows) if other == state]:
            lines.append(f"  linkStyle {','.join(numbers)} stroke:{colour}")
        if boxes[state]:
            lines.append(f"  classDef {state} stroke:{colour},stroke-width:2px")
            lines.append(f"  class {','.join(boxes[state])} {state}")
    return "\n".join([*lines, ""])


def _entities(text: str) -> str:
    """Return text with each sign that Mermaid or Markdown would read as its own turned into an entity."""
    return "".join(c if c.isalnum() or c in " .,:()-+_=~" or not c.isascii() else f"#{ord(c)};" for c in text)


def _lines(box: Box) -> list[str]:
    return [box.label, " ".join(box.value), *([box.gradient] if box.gradient else [])]
