"""Declare an op: a function on arrays, one vjp for each input, and what others need to know of it.

The engine runs the function and the vjps, and never reads the rest.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack

from ..core import BLOCKED as NO_VJP
from ..core import Op
from ..domains import REAL, Domain
from .ranges import RangeOf

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

OPS: dict[str, Op[..., Any]] = {}
"""Every op that was declared, by name. The tests and ``python -m tinygrad_vae.ops`` run over it."""

SMOOTH, KINK, PIECEWISE, JUMP, STOP, BLOCKED = "smooth", "kink", "piecewise", "jump", "stop", "blocked"
"""How the value of an op depends on one of its inputs; only the first three have a vjp.

``smooth``: differentiable. ``kink``: continuous, and differentiable almost everywhere (relu). ``piecewise``:
differentiable almost everywhere, with jumps in between (atan2, which leaps from pi to -pi): its derivative is not the
gradient of an expectation. ``jump``: not continuous, flat almost everywhere (a comparison). ``stop``: cut on purpose.
``blocked``: a random draw.
"""

DIFFERENTIABLE = (SMOOTH, KINK, PIECEWISE)
"""The kinds that a gradient follows."""

Linear = bool | str | tuple[tuple[int, ...], ...]
Labels = tuple[int | None, ...]


@dataclass(frozen=True)
class Case:
    """Shapes and attributes with which an op can be tried: ``case((2, 3), axis=0)``."""

    shapes: tuple[tuple[int, ...], ...]
    attrs: dict[str, Any] = field(default_factory=dict)


def case(*shapes: tuple[int, ...], **attrs: Any) -> Case:
    """Return a ``Case``: the shapes of the inputs, then the attributes."""
    return Case(shapes, attrs)


class Words(TypedDict, total=False):
    """What a declaration may say beside the function and its vjps; ``op`` explains it."""

    smoothness: str | tuple[str, ...]
    domain: Domain | tuple[Domain, ...]
    linear: Linear
    axes: Callable[..., Labels]
    cases: Sequence[Case]
    range: RangeOf
    pole: tuple[int, Callable[..., bool]]


@dataclass(frozen=True)
class Declaration:
    """The words that were said of an op: ``op.declared``. The last of several holds for all inputs that follow."""

    smoothness: tuple[str, ...] = (SMOOTH,)
    domain: tuple[Domain, ...] = (REAL,)
    linear: Linear = False
    axes: Callable[..., Labels] | None = None
    cases: Sequence[Case] = ()
    range: RangeOf | None = None
    pole: tuple[int, Callable[..., bool]] | None = None

    @functools.cached_property
    def jumps(self) -> bool:
        """Whether the value may jump with one of the inputs."""
        return JUMP in self.smoothness or PIECEWISE in self.smoothness

    def smoothness_in(self, i: int) -> str:
        """Return how the value depends on input ``i``, in one of the words from ``smooth`` to ``blocked``."""
        return self.smoothness[min(i, len(self.smoothness) - 1)]

    def domain_of(self, i: int) -> Domain:
        """Return the domain of input ``i``."""
        return self.domain[min(i, len(self.domain) - 1)]

    def linear_with(self, i: int, count: int) -> Sequence[int]:
        """Return the inputs, of ``count``, in which together with input ``i`` the op is linear; none if it is not.

        Where there are several such groups it is the largest.
        """
        if isinstance(self.linear, tuple):
            return max((group for group in self.linear if i in group), key=len, default=())
        return (range(count) if self.linear is True else (i,)) if self.linear else ()


def op(*vjps: Callable[..., Any] | None, **words: Unpack[Words]) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Declare an op: a decorator for a function on arrays, with one vjp for each of its inputs.

    A vjp is a formula ``vjp(g, y, *inputs, **attrs)`` in the library's own functions: ``g`` is the cotangent of the
    output ``y``. Run on arrays it is a gradient; run on Tensors, one that can be differentiated again. An op with
    ``*inputs`` has one for all of them, ``vjp(i, g, y, *inputs, **attrs)`` with the number i of the input.

    Args:
        vjps: one formula for each input; ``None`` where the value jumps or is cut. ``None`` for a smooth input means
            that nobody knows its derivative: a gradient that needs it is refused.
        words: what else is known of the op.

            - smoothness: ``smooth`` (the default), ``kink``, ``piecewise``, ``jump`` or ``stop``, for all inputs or one
              for each.
            - domain: where the inputs may lie, for all or one for each; tests draw from it.
            - linear: in which inputs the op is linear, the others held fixed. True: in all together (a sum).
              ``"each"``: in each by itself (a product). Otherwise groups of inputs: ``where`` is linear in
              ``((1, 2),)``, ``x / y`` in ``((0,),)``. A cost that an estimator has weighed may only be followed by ops
              that are linear in it.
            - axes: ``axes(i, labels, y, *inputs, **attrs)`` tells which axes of input ``i`` reach the output unmixed:
              it turns a label for each axis of the input into one for each axis of ``y``, ``None`` for a mixed one.
              Without it the op mixes all axes, which is safe.
            - cases: shapes and attributes to test it with.
            - range: ``range(y, *intervals)`` tells between which numbers the values of the node ``y`` lie if its inputs
              lie in these intervals, as the rules in ``ops/ranges.py`` do. Without it nothing is known of them, and a
              random value of this op is no denominator.
            - pole: the number of an input at whose poles the value leaps, and ``leaps(y, dependent, *intervals)``,
              which tells whether it may cross one; ``dependent`` says whether that input and another one share noise.

    >>> @op(lambda g, y, x: 2 * g * x, cases=[case((3,))])
    ... def squared_length(x, /):
    ...     return (x * x).sum()
    >>> tg.gradients(squared_length(tg.Tensor(np.ones(2))), [])
    []
    >>> OPS.pop("squared_length")
    <op squared_length>
    """
    return lambda forward: _declared(forward, False, vjps, words)


def elementwise(*vjps: Callable[..., Any] | None, **words: Unpack[Words]) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Declare an op that works element by element and broadcasts its inputs; the arguments are those of ``op``.

    >>> @elementwise(lambda g, y, x: 3 * g * x**2)
    ... def cube(x, /):
    ...     return x**3
    >>> x = tg.Tensor(2.0)
    >>> tg.gradients(cube(x), [x])
    [array(12.)]
    >>> OPS.pop("cube")
    <op cube>
    """
    return lambda forward: _declared(forward, True, vjps, words)


def declare(op: Op[P, R], doc: str = "", printed: str = "", **words: Unpack[Words]) -> Op[P, R]:
    """Enter an op in ``OPS``, and note what others need to know of it; the words are those of ``op``."""
    if doc:
        op.__doc__ = doc
        example(printed)(op)
    enter(OPS, op.name, op, "an op")
    said: dict[str, Any] = dict(words)
    for word in {"smoothness", "domain"} & said.keys():
        said[word] = said[word] if isinstance(said[word], tuple) else (said[word],)
    op.declared = Declaration(**said)
    return op


def example(text: str) -> Callable[[F], F]:
    """Add an example to the docstring of a function: a call, ``=``, and what it prints. The tests run it.

    >>> double = example("double(3.0) = 6.0")(lambda x: 2 * x)
    >>> double.__doc__.split()
    ['>>>', 'print(double(3.0))', '6.0']
    """
    call, _, printed = text.rpartition(" = ")

    def with_example(function: F) -> F:
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n>>> print({call})\n{printed}\n"
        return function

    return with_example


def enter(registry: dict[str, Any], name: str, new: Any, what: str, advice: str = "choose another name") -> None:
    """Enter a declaration in a registry, and raise where another one has its name.

    The same place may declare it again, as a cell of a notebook that is run twice does.
    """
    old = registry.get(name)
    where = [(x.__module__, getattr(x, "__qualname__", name)) for x in (old, new) if x is not None]
    if old is not None and "__main__" not in where[0] and where[0] != where[1]:
        raise ValueError(f"{what} named {name} is declared already, in {old.__module__}; {advice}")
    registry[name] = new


def _declared(
    forward: Callable[P, R], elementwise: bool, vjps: Sequence[Callable[..., Any] | None], words: Words
) -> Op[P, R]:
    """Return a declared op, or raise where its function and its vjps do not fit together."""
    if not callable(forward):
        raise TypeError(f"an op is declared with its vjps, @tg.elementwise(vjp), and on a function; found {forward!r}")
    new = Op(forward, vjps, elementwise=elementwise)
    if not new.input_names:
        raise TypeError(f"op {new.name}: its inputs must be positional-only; write ``def {new.name}(x, /)``")
    if len(vjps) != (1 if new.variadic else len(new.input_names)):
        raise TypeError(
            f"op {new.name}: {len(vjps)} vjps for the inputs {', '.join(new.input_names)}; "
            "declare one for each, None where nothing flows (with *inputs one for all: vjp(i, g, y, *inputs))"
        )
    for name, vjp in zip(new.input_names, vjps, strict=True) if not new.variadic else ():
        try:
            if callable(vjp):
                inspect.signature(vjp).bind("g", "y", *new.input_names, **dict.fromkeys(new.attr_names))
        except TypeError as error:
            called = ", ".join(["g", "y", *new.input_names, *(f"{attr}=..." for attr in new.attr_names)])
            raise TypeError(f"op {new.name}: the vjp in {name} is called as vjp({called}): {error}") from None
    declare(new, **words)
    unknown = [vjp is None and new.declared.smoothness_in(i) in DIFFERENTIABLE for i, vjp in enumerate(vjps)]
    new.vjps = tuple(NO_VJP if missing else vjp for vjp, missing in zip(vjps, unknown, strict=True))
    return new


Op.declared = Declaration()  # for an op that was made and not declared
