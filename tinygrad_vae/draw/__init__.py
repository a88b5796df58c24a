"""The picture of a graph: squares for leaves, diamonds for deterministic nodes, circles for random ones.

Kingma and Welling use the same shapes. Colours say how far a gradient gets; a red cross on an arrow marks a random node
that cuts it.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from ..core import Tensor, reparameterize
from ..estimators import score_function
from ..guard.paths import live_samples
from ..guard.report import explain
from .labels import one_line
from .page import page
from .picture import Picture, picture_of
from .svg import svg
from .text import dot, mermaid, terminal, terminals

FORMATS = {".svg": svg, ".dot": dot, ".mmd": mermaid, ".txt": terminals}
"""How pictures with their headings and a title are written, by the suffix of the file."""

PAGE = ".html"
"""The suffix of a page to play with, which needs more than a picture."""

_QUESTION = "Why backprop stops at a draw, and what the trick changes"
"""The title of a page on which a blocked graph stands beside one that opens it."""


class Drawing(str):
    """A graph as text for the terminal; a notebook shows it as a picture."""

    picture: Picture
    heading: str

    def _repr_html_(self) -> str:
        """Return the picture as an image, so that its styles stay its own."""
        drawn = base64.b64encode(svg([(self.heading, self.picture)], self.heading or "A graph").encode()).decode()
        return f'<img alt="{escape(self, quote=True)}" src="data:image/svg+xml;base64,{drawn}">'


def draw(
    cost: Tensor,
    path: str | Path | None = None,
    *,
    wrt: Any = None,
    title: str | None = None,
    open_layers: bool = False,
) -> Drawing:
    """Draw the graph of a cost, and return it as text for the terminal and as a picture for a notebook.

    An arrow leads from a node to the nodes computed from it. Its colour says whether a gradient comes back along it:
    green, it does; red, a random node cuts it (at the cross); orange, a part of it is cut; grey and dashed, none is
    asked for. A linear layer and its activation are one box, unless ``open_layers``; a graph of more than 40 boxes is
    summarised further.

    A page (``.html``) is one file to play with. It steps backprop from node to node and shows the graph that opens a
    blocked cost. The page computes all numbers itself: one draws again, drags the distribution of a draw while its
    noise or the draw is held, and compares gradients over many draws. Parameters that are numbers have sliders, layers
    can be opened. If the graph uses an op that the page does not know, it looks up the numbers of a few draws.

    Args:
        cost: the Tensor to draw.
        path: where to write a picture: ``.svg``, ``.dot`` (Graphviz), ``.mmd`` (Mermaid), ``.txt``, or ``.html``.
        wrt: the parameters, a Tensor or a tree of them. If the cost is a number, each box says its gradient: the whole,
            the part that still arrives, or that it is cut. Without ``wrt`` the ways to every leaf are coloured, and no
            gradient is computed.
        title: a heading.
        open_layers: whether to show the weight, the bias and the ops of each layer.

    Returns:
        One line for each box: its number, name and value, and the numbers of the boxes that it was computed from.

    Raises:
        TypeError: the cost, or a leaf of ``wrt``, is no Tensor.
        ValueError: the suffix is unknown, or the graph is too large to be read.
        OSError: the folder does not exist, or the file cannot be written.

    >>> mu = tg.Tensor(2.0, "mu")
    >>> z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    >>> print(tg.draw(z * z, wrt=mu))
    A graph
      1  [ mu ]            2                cut: no gradient
      2  ( noise )         N(0, 1) -0.6943
      3  (( z ~ Normal ))  1.306            from 2, 1 (cut)
      4  < cost: × >       1.705            from 3
    [ ] leaf   < > deterministic   (( )) random   ( ) noise
    """
    target = None if path is None else _checked(path)
    picture, title = picture_of(cost, wrt, open_layers=open_layers), one_line(title or "")
    if target and target.suffix.lower() == PAGE:
        ways = _ways(cost, wrt)
        opened = [(f"{name}(cost)", other, picture_of(other, wrt)) for name, other in ways.items()][:1]
        heading = title or (_QUESTION if ways else "A graph")
        text = page([("as it is", cost, picture), *opened], wrt, heading, ways, target.parent)
        target.write_text(text, encoding="utf-8")
    elif target:
        text = FORMATS[target.suffix.lower()]([(title, picture)], title or "A graph")
        target.write_text(text, encoding="utf-8")
    drawing = Drawing(terminal(picture, title or "A graph"))
    drawing.picture, drawing.heading = picture, title
    return drawing


def _ways(cost: Tensor, wrt: Any) -> dict[str, Tensor]:
    """Return the rewrites that open every random node of the cost, by the name of the estimator."""
    found = {}
    for rewrite in (reparameterize, score_function) if live_samples(cost) else ():
        other = rewrite(cost)
        if not live_samples(other) and not explain(other, wrt).problems:
            found[rewrite.__name__] = other
    return found


def draw_side_by_side(
    left: Tensor,
    right: Tensor,
    path: str | Path,
    *,
    titles: tuple[str, str] = ("before", "after"),
    wrt: Any = None,
) -> None:
    """Draw two graphs of the same draw; nodes that they share stand in the same place in both.

    Args:
        left, right: a cost, and a rewrite of it, such as ``reparameterize(cost)``.
        path: where to write: ``.html``, a page to play with that switches between them; or both pictures in one file:
            ``.svg``, ``.dot`` (Graphviz), ``.mmd`` (Mermaid), ``.txt``.
        titles: a heading for each.
        wrt: the parameters, as for ``draw``.

    >>> import tempfile, pathlib
    >>> mu = tg.Tensor(2.0, "mu")
    >>> z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "both.svg"
    ...     tg.draw_side_by_side(z * z, tg.reparameterize(z * z), path, wrt=mu)
    ...     print(path.read_text().count("cut: no gradient</text>"))
    1
    """
    target = _checked(path)
    if len(titles) != 2:
        raise ValueError(f"draw_side_by_side: titles takes two headings, found {len(titles)}")
    titles = one_line(titles[0]), one_line(titles[1])
    pictures = picture_of(left, wrt), picture_of(right, wrt)
    if target.suffix.lower() == PAGE:
        ways, panels = _ways(left, wrt) or _ways(right, wrt), list(zip(titles, (left, right), pictures, strict=True))
        text = page(panels, wrt, _QUESTION if ways else "Two graphs", ways, target.parent)
    else:
        text = FORMATS[target.suffix.lower()](list(zip(titles, pictures, strict=True)), " and ".join(titles))
    target.write_text(text, encoding="utf-8")


def _checked(path: str | Path) -> Path:
    """Return the path if a picture can be written there."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"draw: path takes a file name, found an object of type {type(path).__name__}")
    target, suffixes = Path(path), [*FORMATS, PAGE]
    if target.suffix.lower() not in suffixes:
        raise ValueError(
            f"draw: a picture is written as {', '.join(suffixes)}, found the suffix {target.suffix!r} in {target}"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(f"draw: there is no folder {target.parent}; make it first, or choose another path")
    if target.is_dir():
        raise IsADirectoryError(f"draw: {target} is a folder; give the name of a file in it")
    return target
