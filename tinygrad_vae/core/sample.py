"""Random nodes. A draw is a deterministic function of its parameters and of noise from outside, z = g(noise, theta).

Sampling runs g on plain arrays. What comes out is a number with a value and no derivative, for there was no graph while
it was computed. That is why backprop stops at a random node; nothing about randomness as such forbids a derivative.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

from . import trees
from .arrays import Value
from .noise import Noise
from .tensor import BLOCKED, Op, Tensor


class Sample(Tensor):
    """A random node: the value that a distribution's transform gave for its noise, and no vjp.

    Made by ``distribution.sample(rng=...)``. Rewrites such as ``reparameterize`` and ``score_function`` say where the
    gradient goes instead.
    """

    __slots__ = ()

    dist = property(lambda self: trees.replace_leaves(self.attrs["dist"], self.inputs[1:]))  # with its parameters
    noise = property(lambda self: self.inputs[0])
    line = property(lambda self: self.attrs["line"])  # of the user's code

    def __repr__(self) -> str:
        return f"Sample({repr(Tensor(self.value, self.name))[7:-1]}, drawn from {self.dist!r} at {self.line})"


def _draw_sample(*noise_and_parameters: Value, dist: Any, line: SourceLine, estimator: Any = None) -> Value:
    """A draw: ``dist.transform(noise)``, run on arrays. Its derivative is blocked."""
    noise, *parameters = noise_and_parameters
    return trees.replace_leaves(dist, parameters).transform(noise)


draw_sample = Op(_draw_sample, [BLOCKED])
draw_sample.node = Sample


def draw(dist: Any, noise: Noise, name: str | None = None, estimator: Any = None) -> Value:
    """Return the draw of a distribution that belongs to this noise: a ``Sample`` if a parameter is a Tensor.

    All that is asked of a distribution is that it is a tree of parameters, has ``transform(noise)``, and has a ``path``
    that is None if the transform has no derivative. The estimator is kept for ``tg.estimate``.
    """
    parameters = trees.leaves(dist)
    if not any(isinstance(x, Tensor) for x in parameters):
        return dist.transform(noise.value)
    structure = trees.replace_leaves(dist, [...] * len(parameters))  # ... marks the places of the parameters
    attrs = {"dist": structure, "line": calling_line(), "estimator": estimator}
    return draw_sample.record((noise, *parameters), attrs, name)


@dataclass(frozen=True)
class SourceLine:
    """A line of a file, or of a cell of a notebook."""

    file: str
    line: int

    def __str__(self) -> str:
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        name = getattr(getattr(shell, "compile", None), "format_code_name", lambda file: None)(self.file)
        cell = name and name[1].strip("In[ ]")  # a notebook says ("Cell", "In[2]")
        return f"cell {cell}, line {self.line}" if cell else f"{os.path.basename(self.file)}:{self.line}"


_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_COMMAND = _LIBRARY + "app" + os.sep  # uses the library as anybody would


def calling_line() -> SourceLine:
    """Return the line outside the library that the running call came from."""
    frame = sys._getframe(1)
    while frame.f_back and (file := frame.f_code.co_filename).startswith(_LIBRARY) and not file.startswith(_COMMAND):
        frame = frame.f_back
    return SourceLine(frame.f_code.co_filename, frame.f_lineno)
