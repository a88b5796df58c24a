"""Pictures as text: lines for the terminal, Graphviz DOT, and Mermaid."""

from __future__ import annotations

from .flow import CLOSED, CUT, OPEN, PARTLY
from .picture import CONSTANT, GROUP, LEAF, NOISE, OPERATION, RANDOM, Box, Picture

_BRACKETS = {
    LEAF: ("[", "]"),
    CONSTANT: ("[", "]"),
    GROUP: ("[", "]"),
    OPERATION: ("<", ">"),
    RANDOM: ("((", "))"),
    NOISE: ("(", ")"),
}
_WORDS = {OPEN: "", CUT: " (cut)", PARTLY: " (partly cut)", CLOSED: ""}
_COLOURS = {OPEN: "#1f7a54", CUT: "#d1242f", PARTLY: "#d9730d", CLOSED: "#9aa3ad"}


def terminal(picture: Picture, title: str) -> str:
    """Return one numbered line for each box: its name, its value, the boxes it was computed from, its gradient."""
    rows = []
    for i, box in enumerate(picture.boxes):
        left, right = _BRACKETS[box.kind]
        inputs = [f"{a.tail + 1}{_cut_words(a.state, a.mark)}" for a in picture.arrows if a.head == i]
        source = f"from {', '.join(inputs)}" if inputs else box.gradient or _WORDS.get(box.state, "").strip(" ()")
        if inputs and box.gradient:
            source += f"; {box.gradient}"
        rows.append((f"{i + 1}", f"{left} {box.label} {right}", " ".join(box.value), source))
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
    lines = [
        f"{n:>{widths[0] + 2}}  {name:<{widths[1]}}  {value:<{widths[2]}}  {source}" for n, name, value, source in rows
    ]
    return "\n".join(
        [title, *(line.rstrip() for line in lines), "[ ] leaf   < > deterministic   (( )) random   ( ) noise"]
    )


def _cut_words(state: str, mark: str) -> str:
    return " (stopped)" if mark == "stop" else _WORDS[state]


def dot(picture: Picture, title: str) -> str:
    """Return the picture in the language of Graphviz: ``dot -Tpdf graph.dot -o graph.pdf``."""
    shapes = {LEAF: "box", CONSTANT: "box", GROUP: "box", OPERATION: "diamond", RANDOM: "circle", NOISE: "circle"}
    lines = ["digraph {", f"  label={_quoted(title)};", '  node [fontname="Helvetica"];']
    for i, box in enumerate(picture.boxes):
        style = {GROUP: ', style="rounded"', NOISE: ', style="dashed"', CONSTANT: ', style="dashed"'}.get(box.kind, "")
        colour = f', color="{_COLOURS[box.state]}"' if box.state else ""
        lines.append(f"  n{i} [shape={shapes[box.kind]}, label={_quoted(*_lines(box))}{style}{colour}];")
    for arrow in picture.arrows:
        dashed = ', style="dashed"' if arrow.state == CLOSED else ""
        mark = {"cut": ', label="✕", fontcolor="#d1242f"', "stop": ', label="stop"'}.get(arrow.mark, "")
        lines.append(f'  n{arrow.tail} -> n{arrow.head} [color="{_COLOURS[arrow.state]}"{dashed}{mark}];')
    return "\n".join([*lines, "}\n"])


def _quoted(*lines: str) -> str:
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def mermaid(picture: Picture, title: str) -> str:
    """Return the picture in the language of Mermaid, which Markdown pages draw in a block marked ``mermaid``."""
    shapes = {OPERATION: ("{", "}"), RANDOM: ("((", "))"), NOISE: ("((", "))"), GROUP: ("(", ")")}
    lines = ["flowchart TD", f"  accTitle: {' '.join(title.split())}"]
    for i, box in enumerate(picture.boxes):
        left, right = shapes.get(box.kind, ("[", "]"))
        lines.append(f'  n{i}{left}"{"<br>".join(_entities(line) for line in _lines(box))}"{right}')
    for arrow in picture.arrows:
        link = "-.->" if arrow.state == CLOSED else "-->"
        mark = {"cut": "|✕|", "stop": "|stop|"}.get(arrow.mark, "")
        lines.append(f"  n{arrow.tail} {link}{mark} n{arrow.head}")
    for state, colour in _COLOURS.items():
        numbers = [str(k) for k, arrow in enumerate(picture.arrows) if arrow.state == state]
        boxes = [f"n{i}" for i, box in enumerate(picture.boxes) if box.state == state]
        if numbers:
            lines.append(f"  linkStyle {','.join(numbers)} stroke:{colour}")
        if boxes:
            lines += [f"  classDef {state} stroke:{colour},stroke-width:2px", f"  class {','.join(boxes)} {state}"]
    return "\n".join([*lines, ""])


def _entities(text: str) -> str:
    """Return text with each sign that Mermaid or Markdown would read as its own turned into an entity."""
    return "".join(c if c.isalnum() or c in " .,:()-+_=~" or not c.isascii() else f"#{ord(c)};" for c in text)


def _lines(box: Box) -> list[str]:
    return [box.label, " ".join(box.value), *([box.gradient] if box.gradient else [])]
