"""The picture of a graph: squares for leaves, diamonds for deterministic nodes, circles for random ones.

The shapes are those of Kingma and Welling. The colours tell how far a gradient gets; where a random node cuts it,
a red cross stands on the arrow. It knows the graph and the nodes of randomness.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..graph import Tensor
from .picture import one_line, picture_of
from .svg import svg
from .text import dot, mermaid, terminal

FORMATS = {
    ".svg": lambda picture, title: svg([(title, picture)], title or "A graph"),
    ".dot": lambda picture, title: dot(picture, title or "A graph"),
    ".mmd": lambda picture, title: mermaid(picture, title or "A graph"),
    ".txt": lambda picture, title: terminal(picture, title or "A graph") + "\n",
}
"""How a picture is written, by the suffix of the file."""


def draw(cost: Tensor, path: str | Path | None = None, *, wrt: Any = None, title: str | None = None) -> str:
    """Draw the graph of a cost, and return it as text for the terminal.

    An arrow leads from a node to what is computed from it. Its colour says whether a gradient comes back along it:
    green, it does; red, a random node cuts it (a cross stands where); orange, a part of it is cut; grey and dashed,
    none is asked for. A graph of more than 40 boxes is summarised.

    Args:
        cost: the Tensor to draw.
        path: where to write a picture: ``.svg``, ``.dot`` (Graphviz), ``.mmd`` (Mermaid) or ``.txt``.
        wrt: the parameters, a Tensor or a tree of them. The gradient of each is written in its box where the cost
            is a number: the whole of it, the part that still arrives, or that it is cut. Without it the ways to
            every leaf are coloured, and no gradient is computed.
        title: a heading.

    Returns:
        One line for each box: its number, name and value, and the numbers of those that it was computed from.

    Raises:
        TypeError: the cost, or a leaf of ``wrt``, is no Tensor.
        ValueError: the suffix is unknown, or the graph is too large to be read.
        OSError: the folder does not exist, or the file cannot be written.

    >>> mu = tg.Tensor(2.0, "mu")
    >>> z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    >>> print(tg.draw(z * z, wrt=mu))
    A graph
      1  [ mu ]            2                cut: no gradient
      2  ( noise )         N(0, 1) 0.05771
      3  (( z ~ Normal ))  2.058            from 2, 1 (cut)
      4  < cost: × >       4.234            from 3
    [ ] leaf   < > deterministic   (( )) random   ( ) noise
    """
    target = None if path is None else _checked(path, FORMATS)
    picture, title = picture_of(cost, wrt), one_line(title or "")
    if target is not None:
        target.write_text(FORMATS[target.suffix.lower()](picture, title), encoding="utf-8")
    return terminal(picture, title or "A graph")


def draw_side_by_side(
    left: Tensor,
    right: Tensor,
    path: str | Path,
    *,
    titles: tuple[str, str] = ("before", "after"),
    wrt: Any = None,
) -> None:
    """Draw two graphs of the same draw in one SVG; what they have in common stands in the same place in both.

    Args:
        left, right: a cost, and what a rewrite such as ``reparameterize`` made of it.
        path: where to write it; the suffix is ``.svg``.
        titles: a heading for each.
        wrt: the parameters, as for ``draw``.

    Raises:
        TypeError, ValueError, OSError: as for ``draw``.

    >>> import tempfile, pathlib
    >>> mu = tg.Tensor(2.0, "mu")
    >>> z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "both.svg"
    ...     tg.draw_side_by_side(z * z, tg.reparameterize(z * z), path, wrt=mu)
    ...     print(path.read_text().count("cut: no gradient</text>"))
    1
    """
    target = _checked(path, [".svg"])
    if len(titles) != 2:
        raise ValueError(f"draw_side_by_side: titles takes two headings, found {len(titles)}")
    titles = one_line(titles[0]), one_line(titles[1])
    panels = list(zip(titles, (picture_of(left, wrt), picture_of(right, wrt)), strict=True))
    target.write_text(svg(panels, " and ".join(titles)), encoding="utf-8")


def _checked(path: str | Path, suffixes: Any) -> Path:
    """Return the path, once it is clear that a picture can be written there."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"draw: path takes a file name, found an object of type {type(path).__name__}")
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise ValueError(
            f"draw: a picture is written as {', '.join(suffixes)}, found the suffix {target.suffix!r} in {target}"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(f"draw: there is no folder {target.parent}; make it first, or choose another path")
    if target.is_dir():
        raise IsADirectoryError(f"draw: {target} is a folder; give the name of a file in it")
    return target
