"""The engine: ops, the graph of Tensors that they record, its gradients, and functions from graph to graph.

It knows arrays, and ops by their declarations. It knows nothing of distributions, estimators or models:
a node through which a gradient must not be taken carelessly brings its own ``guard``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

import numpy as np

from ..domains import REAL, Domain
from . import trees
from .arrays import NUMBERS, Array, Value, as_array, describe, is_array, namespace, to_host

P = ParamSpec("P")
R = TypeVar("R")
Tree = TypeVar("Tree")

OPS: dict[str, Op[..., Any]] = {}
"""Every op that was declared, by name: read by the tests, the tables and Tensor's operators."""

SMOOTH, KINK, PIECEWISE, JUMP, STOP, BLOCKED = "smooth", "kink", "piecewise", "jump", "stop", "blocked"
"""How the value of an op depends on one of its inputs; only the first three have a vjp.

``smooth``: differentiable. ``kink``: continuous, and differentiable almost everywhere (relu). ``piecewise``:
differentiable almost everywhere, with jumps in between (atan2, which leaps from pi to -pi): its derivative is no
gradient of an expectation. ``jump``: not continuous, flat almost everywhere (a comparison). ``stop``: cut on purpose.
``blocked``: through a random draw.
"""

DIFFERENTIABLE = (SMOOTH, KINK, PIECEWISE)
"""The kinds that a gradient follows."""

NO_ATTRS: Mapping[str, Any] = {}
_PLAIN = frozenset({float, int, np.ndarray})
"""What may stand beside Tensors without a second look: all but a few constants are of these."""


# ---------------------------------------------------------------------------------------------- nodes


def _operator(name: str) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """Return the methods for ``tensor * other`` and ``other * tensor``."""
    return (lambda self, other: OPS[name](self, other)), (lambda self, other: OPS[name](other, self))


_REFLECTED = {
    "add": "__radd__",
    "subtract": "__rsub__",
    "multiply": "__rmul__",
    "divide": "__rtruediv__",
    "floor_divide": "__rfloordiv__",
    "power": "__rpow__",
    "matmul": "__rmatmul__",
    "bitwise_and": "__rand__",
    "bitwise_or": "__ror__",
    "bitwise_xor": "__rxor__",
    "less": "__gt__",
    "less_equal": "__ge__",
    "greater": "__lt__",
    "greater_equal": "__le__",
    "equal": "__eq__",
    "not_equal": "__ne__",
}
"""The method of a Tensor on the right that stands for a function of NumPy's that an operator of an array calls."""


def _reduction(name: str) -> Callable[..., Any]:
    """Return the method of an op that reduces axes, with the axis by position too, as NumPy has it."""
    return lambda self, axis=None, **options: OPS[name](self, axis=axis, **options)


def _refusal(what: str, instead: str) -> Callable[..., Any]:
    """Return a method that refuses to leave the graph: what it gave back would be a constant to every gradient."""

    def refuse(self: Tensor, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"{what} of a Tensor would leave the graph, and the gradient would be lost in silence. {instead}"
        )

    return refuse


_ELSEWHERE = {
    "backward": "gradients are returned, and stored nowhere: tg.gradients(cost, wrt)",
    "grad": "gradients are returned, and stored nowhere: tg.gradients(cost, wrt)",
    "zero_grad": "gradients are returned, and stored nowhere: tg.gradients(cost, wrt)",
    "requires_grad": "tg.gradients(cost, wrt) is told what to differentiate by",
    "detach": "write tg.stop_gradient(tensor)",
    "item": "write tensor.value.item()",
    "numpy": "write tensor.value",
    "cpu": "write tg.to_host(tensor.value)",
    "cuda": "write tg.to_device(array) before Tensor(array)",
    "to": "write tg.to_device(array) before Tensor(array), or tensor.astype(dtype)",
}
"""What to write here for an attribute that tensors of other libraries have."""


class Tensor:
    """A node of the graph: a value, the op that made it, its inputs and its attributes.

    ``Tensor(value, name=None)`` is a leaf; every other node comes from calling an op. Operators take arrays and
    numbers on either side. A node is never edited once it is made, and it points to its inputs only, so that
    whatever you no longer hold is freed. Beside its array's numbers a node takes some 250 bytes, and at most 600 while
    a gradient is taken; neither grows with the graph, which may be a million nodes deep.

    The array is not copied. If you edit it in place before the gradient is taken, the derivatives are computed from the
    new numbers, while the cost was computed from the old ones, and nothing can notice. The same holds for an array that
    is an input of an op, and for a ``.value``. Pass ``array.copy()`` where you will edit the array, or let NumPy refuse
    the edit with ``array.flags.writeable = False``.

    Args:
        value: an array or a number. Integers and booleans are constants to every gradient.
        name: what to call it in messages and drawings.

    Raises:
        TypeError: the value is no array and no number (a list, text, complex numbers, another Tensor).

    >>> x = Tensor(3.0, "x")
    >>> gradients(x * x + x, [x])
    [array(7.)]
    """

    __slots__ = ("__weakref__", "attrs", "inputs", "name", "op", "value")

    guard: ClassVar[Any] = None
    """Called as ``guard(order, wrt)`` before any gradient of what depends on a node of this class.

    ``order`` is the topological order of all that the output depends on, the output last. It may return a function
    from the gradients that are recorded, a list in the order of ``wrt``, to what is to be handed out.
    """

    value: Array
    op: Op[..., Any] | None
    inputs: tuple[Any, ...]
    attrs: Mapping[str, Any]
    name: str | None

    def __init__(self, value: Array, name: str | None = None) -> None:
        if isinstance(value, Tensor):
            raise TypeError(
                "Tensor(value) takes an array, found a Tensor: use it as it is, or cut it with stop_gradient(tensor)"
            )
        self.value = as_array(value)
        self.op, self.inputs, self.attrs, self.name = None, (), NO_ATTRS, name

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)

    def with_value(self, value: Array) -> Tensor:
        """Return a leaf of the same name and kind with another value."""
        return Tensor(value, self.name)

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        made_by = f", made by {self.op.name}" if self.op else ""
        return f"Tensor({np.array2string(to_host(self.value), threshold=10, precision=6)}{name}{made_by})"

    __add__, __radd__ = _operator("add")
    __sub__, __rsub__ = _operator("subtract")
    __mul__, __rmul__ = _operator("multiply")
    __truediv__, __rtruediv__ = _operator("divide")
    __pow__, __rpow__ = _operator("pow")
    __matmul__, __rmatmul__ = _operator("matmul")
    __lt__, __gt__ = _operator("less")
    __le__, __ge__ = _operator("less_equal")
    __eq__, _ = _operator("equal")
    __ne__, _ = _operator("not_equal")
    __floordiv__, __rfloordiv__ = _operator("floor_divide")
    __and__, __rand__ = _operator("logical_and")
    __or__, __ror__ = _operator("logical_or")
    __xor__, __rxor__ = _operator("logical_xor")
    __hash__ = object.__hash__

    def __neg__(self) -> Tensor:
        return OPS["negative"](self)

    def __abs__(self) -> Tensor:
        return OPS["abs"](self)

    def __invert__(self) -> Tensor:
        return OPS["logical_not"](self)

    sum, mean, prod, std, var = map(_reduction, ("sum", "mean", "prod", "std", "var"))
    max, min, argmax, argmin = map(_reduction, ("max", "min", "argmax", "argmin"))
    any, all = map(_reduction, ("any", "all"))
    T = property(lambda self: OPS["permute_dims"](self, tuple(range(self.ndim))[::-1]))
    mT = property(lambda self: OPS["matrix_transpose"](self))

    def reshape(self, *shape: Any) -> Tensor:
        """Return the same elements in another shape: ``x.reshape(2, 3)`` or ``x.reshape((2, 3))``."""
        return OPS["reshape"](self, shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)

    def astype(self, dtype: Any) -> Tensor:
        """Return the Tensor with another dtype."""
        return OPS["astype"](self, dtype)

    def __getitem__(self, key: Any) -> Tensor:
        parts = key if isinstance(key, tuple) else (key,)
        arrays = [part for part in parts if isinstance(part, Tensor) or is_array(part)]
        return OPS["getitem"](self, *arrays, key=tuple(INDEX if any(p is a for a in arrays) else p for p in parts))

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a Tensor without axes has no length")
        return int(self.shape[0])

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getattr__(self, name: str) -> Any:
        instead = f"; {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"a Tensor has no attribute {name!r}{instead}", name=name, obj=self)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "a Tensor is never edited. Write tg.where(mask, new, tensor), or fill the array before Tensor(array)"
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Take ``array * tensor``, which NumPy begins with, and refuse ``numpy.exp(tensor)``."""
        if method == "__call__" and not options and ufunc.__name__ in _REFLECTED and not isinstance(inputs[0], Tensor):
            return getattr(self, _REFLECTED[ufunc.__name__])(inputs[0])
        return _refusal(f"numpy.{ufunc.__name__}", "Call the function of tinygrad_vae, or pass tensor.value.")(self)

    def __format__(self, spec: str) -> str:
        return format(self.value.item() if spec and self.size == 1 else str(self), spec)

    __array__ = _refusal("a NumPy array", "Call the function of tinygrad_vae instead of NumPy's, or pass tensor.value.")
    __array_function__ = _refusal("a NumPy function", "Call the one of tinygrad_vae, or pass tensor.value.")
    __bool__ = _refusal("the truth", "Write tg.where(condition, a, b), or branch on tensor.value.")
    __float__ = _refusal("float()", "Write float(tensor.value).")
    __int__ = _refusal("int()", "Write int(tensor.value).")
    __index__ = _refusal("an index", "Write tg.take(x, tensor, axis=0) or x[tensor], or use int(tensor.value).")


class _Index:
    """Stands in the key of a recorded ``x[key]`` where the next index array belongs."""

    def __repr__(self) -> str:
        return "INDEX"


INDEX = _Index()


def make_node(
    value: Array,
    op: Op[..., Any],
    inputs: tuple[Any, ...],
    attrs: Mapping[str, Any] = NO_ATTRS,
    name: str | None = None,
    kind: type[Tensor] = Tensor,
) -> Tensor:
    """Return a node with a value that is known already: the last step of recording, and how a rewrite keeps a value."""
    node = kind.__new__(kind)
    node.value, node.op, node.inputs, node.attrs, node.name = value, op, inputs, attrs, name
    return node


def value_of(x: Value) -> Any:
    """Return the array inside a Tensor, and anything else as it is."""
    return x.value if isinstance(x, Tensor) else x


# ------------------------------------------------------------------------------------------------ ops


@dataclass(frozen=True)
class Case:
    """Shapes and attributes with which an op can be tried: ``case((2, 3), axis=0)``."""

    shapes: tuple[tuple[int, ...], ...]
    attrs: dict[str, Any] = field(default_factory=dict)


def case(*shapes: tuple[int, ...], **attrs: Any) -> Case:
    """Return a ``Case``: the shapes of the inputs, then the attributes."""
    return Case(shapes, attrs)


class Op(Generic[P, R]):
    """A function on arrays, together with its derivatives and what is known of it.

    Declared with ``@op`` or ``@elementwise``, which say what the parts mean. The inputs are the positional-only
    parameters of the function, the attributes are all others.
    """

    node: type[Tensor] = Tensor

    def __init__(
        self,
        forward: Callable[P, R],
        vjps: Sequence[Callable[..., Any] | None],
        *,
        elementwise: bool,
        smoothness: str | tuple[str, ...],
        domain: Domain | tuple[Domain, ...],
        axes: Callable[..., tuple[int | None, ...]] | None,
        cases: Sequence[Case],
    ) -> None:
        if not callable(forward):
            raise TypeError(
                f"an op is declared with its vjps, @tg.elementwise(vjp), and on a function; found {forward!r}"
            )
        parameters = inspect.signature(forward).parameters.values()
        self.name: str = getattr(forward, "__name__", "op")
        self.forward = forward
        self.vjps = tuple(vjps)
        self.elementwise = elementwise
        self.domains = (domain,) if isinstance(domain, Domain) else domain
        self.axes = axes
        self.cases = tuple(cases)
        self.input_names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.arity = None if self.variadic else len(self.input_names)
        self.attr_names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        others = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.defaults = {p.name: p.default for p in others if p.default is not p.empty}
        self.__name__, self.__doc__, self.__module__ = self.name, forward.__doc__, forward.__module__
        self.__wrapped__ = forward
        if isinstance(smoothness, str):
            smoothness = (smoothness,) * len(self.input_names)
        self.smoothness = smoothness
        self.flows = tuple(kind in DIFFERENTIABLE for kind in smoothness)
        if not self.input_names:
            raise TypeError(f"op {self.name}: its inputs must be positional-only; write ``def {self.name}(x, /)``")
        if len(self.vjps) != (1 if self.variadic else len(self.input_names)):
            raise TypeError(
                f"op {self.name}: {len(self.vjps)} vjps for the inputs {', '.join(self.input_names)}; "
                "declare one for each, None where nothing flows (for *inputs one in all, taking the input's number)"
            )
        if not self.variadic:
            self._check_vjps([p.name for p in others])

    def _check_vjps(self, attr_names: list[str]) -> None:
        """Raise where a vjp does not take what it will be called with."""
        for name, rule in zip(self.input_names, self.vjps, strict=True):
            if rule is None:
                continue
            try:
                inspect.signature(rule).bind("g", "y", *self.input_names, **dict.fromkeys(attr_names))
            except TypeError as error:
                called = ", ".join(["g", "y", *self.input_names, *(f"{attr}=..." for attr in attr_names)])
                raise TypeError(f"op {self.name}: the vjp in {name} is called as vjp({called}): {error}") from None

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *args: P.args, **attrs: P.kwargs) -> R:
        for x in args:
            if isinstance(x, Tensor):
                return self.record(args, attrs)  # type: ignore[return-value]
        try:
            result = self.forward(*args, **attrs)
            if result.__class__ is np.ndarray and result.dtype.kind == "c":  # type: ignore[attr-defined]
                raise TypeError("complex numbers are not supported; compute with their real and imaginary parts")
            return result
        except (TypeError, ValueError, IndexError) as error:
            raise self._complaint(error, args, attrs) from error

    def record(self, args: tuple[Any, ...], attrs: dict[str, Any], name: str | None = None) -> Tensor:
        """Compute the value from the inputs' values, and return the node that remembers how."""
        values = []
        narrow = False
        for x in args:
            if isinstance(x, Tensor):
                x = x.value
                narrow = narrow or x.dtype.char == "f"
            elif x.__class__ not in _PLAIN:
                self._check_constant(x, args, attrs)
            values.append(x)
        try:
            value: Any = self.forward(*values, **attrs)
        except (TypeError, ValueError, IndexError) as error:
            raise self._complaint(error, args, attrs) from error
        if value.__class__ is not np.ndarray or value.dtype.kind not in NUMBERS:
            value = as_array(value)
        if narrow and self.elementwise and value.dtype.char == "d":
            self._refuse_widening(values)
        if self.arity is not None and len(args) > self.arity:  # attributes that were given by position
            attrs = dict(zip(self.attr_names, args[self.arity :], strict=False)) | attrs
            args = args[: self.arity]
        if self.defaults:
            attrs = self.defaults | attrs
        return make_node(value, self, args, attrs or NO_ATTRS, name, self.node)

    def _check_constant(self, x: Any, args: tuple[Any, ...], attrs: Mapping[str, Any]) -> None:
        """Refuse an input that is neither a Tensor nor an array nor a number: a list, text, an object."""
        inputs = args if self.arity is None else args[: self.arity]
        if any(x is given for given in inputs):
            try:
                as_array(x)
            except TypeError as error:
                raise self._complaint(error, args, attrs) from None

    def _refuse_widening(self, values: list[Any]) -> None:
        """Refuse a float64 result of float32 arrays, such as NumPy makes of float32 and integers without a word."""
        dtypes = [v.dtype for v in values if hasattr(v, "dtype")]
        if not any(d.char == "d" for d in dtypes):
            raise TypeError(
                f"{self.name}: {' and '.join(str(d) for d in dtypes)} would give float64; "
                "convert integers with tg.astype(x, numpy.float32)"
            )

    def vjp(self, i: int, g: Value, y: Value, inputs: Sequence[Value], attrs: Mapping[str, Any]) -> Value:
        """Return the cotangent of input ``i`` from ``g``, that of the output; in its shape and dtype."""
        rule = self.vjps[0 if self.variadic else i]
        if rule is None:
            raise TypeError(f"{self.name} has no derivative in {self.input_name(i)}")
        gx = rule(i, g, y, *inputs, **attrs) if self.variadic else rule(g, y, *inputs, **attrs)
        x = inputs[i]
        if gx.shape != x.shape:
            if not self.elementwise:
                raise ValueError(
                    f"the vjp of {self.name} in {self.input_name(i)} gave shape {gx.shape} for an input "
                    f"of shape {x.shape}; a cotangent has the shape of its input"
                )
            gx = OPS["sum_to"](gx, x.shape)  # broadcasting is undone here, and only here
        return gx if gx.dtype == x.dtype else OPS["astype"](gx, x.dtype)

    def input_name(self, i: int) -> str:
        return (
            f"{self.input_names[-1]}[{i - len(self.input_names) + 1}]"
            if self.variadic and i >= len(self.input_names) - 1
            else self.input_names[i]
        )

    def flows_of(self, count: int) -> tuple[bool, ...]:
        """Return, for each of ``count`` inputs, whether a gradient flows to it."""
        return self.flows if self.arity is not None else self.flows + self.flows[-1:] * (count - len(self.flows))

    def smoothness_in(self, i: int) -> str:
        """Return how the value depends on input ``i``, in one of the words from ``smooth`` to ``blocked``."""
        return self.smoothness[min(i, len(self.smoothness) - 1)]

    def domain_of(self, i: int) -> Domain:
        """Return the domain of input ``i``."""
        return self.domains[min(i, len(self.domains) - 1)]

    def _complaint(self, error: Exception, args: tuple[Any, ...], attrs: Mapping[str, Any]) -> Exception:
        """Return the error with the op and its arguments in words, as the built-in kind that it was."""
        lines = [f"{self.name}: {error}"]
        for i, x in enumerate(args):
            is_input = self.variadic or i < len(self.input_names)
            what = (
                self.input_name(i)
                if is_input
                else self.attr_names[min(i - len(self.input_names), len(self.attr_names) - 1)]
                if self.attr_names
                else f"argument {i + 1}"
            )
            lines.append(f"  {what}: {describe(value_of(x)) if is_input else repr(x)}")
        lines += [f"  {key}: {describe(value) if is_array(value) else repr(value)}" for key, value in attrs.items()]
        kind = next(k for k in (IndexError, TypeError, ValueError) if isinstance(error, k))
        return kind("\n".join(lines))


def op(
    *vjps: Callable[..., Any] | None,
    smoothness: str | tuple[str, ...] = SMOOTH,
    domain: Domain | tuple[Domain, ...] = REAL,
    axes: Callable[..., tuple[int | None, ...]] | None = None,
    cases: Sequence[Case] = (),
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Declare an op: a decorator for a function on arrays, with one vjp for each of its inputs.

    A vjp is a formula ``vjp(g, y, *inputs, **attrs)`` in the library's own functions: ``g`` is the cotangent of the
    output ``y``. Run on arrays it is a gradient; run on Tensors, one that can be differentiated again. An op with
    ``*inputs`` has one vjp for all of them, which takes the input's number first.

    Args:
        vjps: one formula for each input; ``None`` where nothing flows.
        smoothness: ``smooth``, ``kink``, ``piecewise``, ``jump`` or ``stop``, for all inputs or one for each.
        domain: where the inputs may lie, for all or one for each; tests draw from it.
        axes: ``axes(i, labels, y, *inputs, **attrs)`` tells which axes of input ``i`` reach the output unmixed: it
            turns a label for each axis of the input into one for each axis of ``y``, ``None`` for a mixed one. Without
            it the op mixes all axes, which is safe.
        cases: shapes and attributes to test it with.

    >>> @op(lambda g, y, x: 2 * g * x, cases=[case((3,))])
    ... def squared_length(x, /):
    ...     return (x * x).sum()
    >>> gradients(squared_length(Tensor(np.ones(2))), [])
    []
    >>> OPS.pop("squared_length")
    <op squared_length>
    """

    def declare(forward: Callable[P, R]) -> Op[P, R]:
        return _register(
            Op(forward, vjps, elementwise=False, smoothness=smoothness, domain=domain, axes=axes, cases=cases)
        )

    return declare


def elementwise(
    *vjps: Callable[..., Any] | None,
    smoothness: str | tuple[str, ...] = SMOOTH,
    domain: Domain | tuple[Domain, ...] = REAL,
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Declare an op that works element by element and broadcasts its inputs; the arguments are those of ``op``.

    >>> @elementwise(lambda g, y, x: 3 * g * x**2)
    ... def cube(x, /):
    ...     return x**3
    >>> x = Tensor(2.0)
    >>> gradients(cube(x), [x])
    [array(12.)]
    >>> OPS.pop("cube")
    <op cube>
    """

    def declare(forward: Callable[P, R]) -> Op[P, R]:
        return _register(Op(forward, vjps, elementwise=True, smoothness=smoothness, domain=domain, axes=None, cases=()))

    return declare


def _register(new: Op[P, R]) -> Op[P, R]:
    old = OPS.get(new.name)
    if old is not None and old.__module__ != "__main__":  # what was typed in may be typed in again, as a cell is run
        raise ValueError(f"an op named {new.name} is declared already, in {old.__module__}; choose another name")
    OPS[new.name] = new
    return new


# ---------------------------------------------------------------------------------------- the graph


def topological_order(roots: Sequence[Tensor]) -> list[Tensor]:
    """Return every node that the roots depend on, inputs before the nodes made from them.

    >>> x = Tensor(1.0, "x")
    >>> topological_order([x + x])
    [Tensor(1., name='x'), Tensor(2., made by add)]
    """
    order: list[Tensor] = []
    seen: set[int] = set()
    stack: list[Tensor | None] = list(roots)
    while stack:
        node = stack.pop()
        if node is None:  # all that the node below depends on has been placed
            order.append(stack.pop())  # type: ignore[arg-type]
        elif id(node) not in seen:
            seen.add(id(node))
            if not node.inputs:
                order.append(node)
                continue
            stack += (node, None)
            stack += [x for x in node.inputs if isinstance(x, Tensor) and id(x) not in seen]
    return order


def gradients(output: Tensor, wrt: Tree, *, cotangent: Value | None = None, record: bool = False) -> Tree:
    """Return the gradient of ``output`` with respect to each Tensor in ``wrt``.

    Reverse mode: with ``g(y)`` the derivative of the output with respect to node y, and ``g(output) = 1``,
    ``g(x) = sum over the nodes y made from x of vjp(g(y))``, each node after all those made from it.

    Args:
        output: a Tensor without axes, or any Tensor together with ``cotangent``.
        wrt: a Tensor or a tree of Tensors (a list, a dict, a model); leaves or nodes in between.
        cotangent: the weights of the output's elements, an array of the output's shape.
        record: return Tensors that can be differentiated again, instead of arrays.

    Returns:
        The structure of ``wrt``, each gradient with the shape and dtype of its Tensor. Zeros where the output
        does not depend on it.

    Raises:
        BlockedGradientError: a path from ``wrt`` to the output runs through a random draw.
        TypeError, ValueError: the output is no Tensor or has axes, or one of ``wrt`` is no Tensor of floats.

    >>> x = Tensor(np.array([1.0, 2.0]))
    >>> gradients(OPS["sum"](x * x), [x])
    [array([2., 4.])]
    """
    targets = trees.leaves(wrt)
    seed = _check_request(output, targets, cotangent)
    wanted = {id(t) for t in targets}
    reached = set(wanted)
    steps: list[tuple[Tensor, list[int]]] = []  # the nodes made from wrt, each with the inputs on the way to wrt
    guard = None
    order = topological_order([output])
    for node in order:
        op, guard = node.op, guard or node.guard
        if op is not None and node.value.dtype.kind == "f":  # whole numbers are constants to every gradient
            flows = op.flows if op.arity is not None else op.flows_of(len(node.inputs))
            ways = [i for i, x in enumerate(node.inputs) if id(x) in reached and flows[i]]
            if ways:
                reached.add(id(node))
                steps.append((node, ways))
    if guard is not None and isinstance(cotangent, Tensor):  # a factor that may depend on what the guard looks after
        order = topological_order([OPS["multiply"](output, OPS["stop_gradient"](cotangent))])
    seal = None if guard is None else guard(order, targets)
    cotangents: dict[int, Value] = {id(output): seed}
    for node, ways in reversed(steps):
        key = id(node)
        g = cotangents.get(key) if key in wanted else cotangents.pop(key, None)
        if g is None:
            continue  # the output does not depend on this node
        y: Value = node if record else node.value
        inputs = node.inputs if record else [x.value if isinstance(x, Tensor) else x for x in node.inputs]
        for i in ways:
            gx = node.op.vjp(i, g, y, inputs, node.attrs)  # type: ignore[union-attr]
            key = id(node.inputs[i])
            cotangents[key] = _added(cotangents.pop(key), gx) if key in cotangents else gx
    found = [cotangents[id(t)] if id(t) in cotangents else namespace(t.value).zeros_like(t.value) for t in targets]
    if record:
        found = [g if isinstance(g, Tensor) else Tensor(g) for g in found]
        return trees.replace_leaves(wrt, found if seal is None else seal(found))
    return trees.replace_leaves(wrt, owned(found, {id(cotangent)}))


def _added(total: Value, g: Value) -> Value:
    """Return the sum of two cotangents, in the memory of the first where nobody else can see it."""
    mine = total.__class__ is np.ndarray and total.flags.owndata and sys.getrefcount(total) <= _MINE
    if mine and total.shape == g.shape and total.dtype == g.dtype and g.__class__ is np.ndarray:
        total += g
        return total
    return total + g


def _references(x: Value) -> int:
    return sys.getrefcount(x)


_MINE = _references(np.empty(1))
"""How many references there are to an array that only the function that asks holds."""


def owned(arrays: list[Array], taken: set[int]) -> list[Array]:
    """Return the arrays, each with memory of its own, so that editing one leaves the others alone.

    ``taken`` has the ids of the arrays that belong to somebody else; those that are returned are added.
    """
    out = []
    for g in arrays:
        g = as_array(g)
        if g.base is not None or id(g) in taken:
            g = g.copy()
        taken.add(id(g))
        out.append(g)
    return out


def _check_request(output: Tensor, targets: Sequence[Tensor], cotangent: Value | None) -> Value:
    """Raise where the gradient that was asked for makes no sense, and return the output's cotangent."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"gradients(output, wrt): the output is {describe(output)}, which records nothing; "
            "wrap the parameters with Tensor(array) before computing it"
        )
    for t in targets:
        if not isinstance(t, Tensor):
            raise TypeError(
                f"gradients(output, wrt): wrt holds {describe(t)}; pass the Tensors that the output was computed from"
            )
        if t.dtype.kind != "f":
            raise TypeError(
                f"gradients(output, wrt): {t.name or 'a Tensor'} of wrt holds {t.dtype}; only floats have a gradient"
            )
    if output.dtype.kind != "f":
        raise TypeError(f"gradients(output, wrt): the output holds {output.dtype}; only floats have a gradient")
    if cotangent is None:
        if output.shape != ():
            raise ValueError(
                f"gradients(output, wrt): the output has shape {output.shape}, and only a number has a gradient; "
                "reduce it with tg.mean or tg.sum, give cotangent= for a vector-Jacobian product, or use tg.jacobian"
            )
        return namespace(output.value).ones_like(output.value)
    if not isinstance(cotangent, Tensor):
        cotangent = as_array(cotangent)
    if cotangent.shape != output.shape:
        raise ValueError(
            f"gradients(output, wrt): the cotangent has shape {cotangent.shape}, the output has {output.shape}"
        )
    return cotangent if cotangent.dtype == output.dtype else OPS["astype"](cotangent, output.dtype)


def rewrite(roots: Tree, rule: Callable[[Tensor, tuple[Any, ...]], Tensor | None]) -> Tree:
    """Return the graph of ``roots`` with some nodes replaced; the original graph is left alone.

    From the leaves up, ``rule(node, inputs)`` is called with each node and its rewritten inputs. It returns the
    node to stand there, or ``None`` to keep it. A kept node whose inputs are unchanged is shared with the original.
    One whose inputs are other nodes with the very same values keeps its value; all others are computed again.

    Args:
        roots: a Tensor or a tree of Tensors.
        rule: what to put in a node's place.

    >>> x = Tensor(2.0)
    >>> swap = rewrite(OPS["sin"](x) + 1, lambda node, inputs: OPS["cos"](*inputs) if node.op is OPS["sin"] else None)
    >>> round(float(swap.value), 4)
    0.5839
    """
    tops = trees.leaves(roots)
    for top in tops:
        if not isinstance(top, Tensor):
            raise TypeError(f"rewrite takes Tensors, found {describe(top)}, which records nothing")
    new: dict[int, Tensor] = {}
    for node in topological_order(tops):
        inputs = tuple(new.get(id(x), x) for x in node.inputs)
        made = rule(node, inputs)
        if made is None:
            made = node
            if node.op is not None and any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                if all(value_of(a) is value_of(b) for a, b in zip(inputs, node.inputs, strict=True)):
                    made = make_node(node.value, node.op, inputs, node.attrs, node.name, type(node))
                else:
                    made = node.op.record(inputs, dict(node.attrs), node.name)
        new[id(node)] = made
    return trees.replace_leaves(roots, [new[id(top)] for top in tops])


def replay(roots: Tree, swaps: Mapping[Tensor, Tensor | Array]) -> Tree:
    """Return the graph computed again with other nodes, or arrays for leaves, in the places of some.

    The same noise with other parameters gives common random numbers; other noise gives a new draw.

    Args:
        roots: a Tensor or a tree of Tensors.
        swaps: what to put in a node's place; an array becomes a leaf of the same name.

    Raises:
        ValueError: a node to swap is not part of the graph.

    >>> x = Tensor(2.0)
    >>> float(replay(x * x, {x: 5.0}).value)
    25.0
    """
    present = {id(node) for node in topological_order(trees.leaves(roots))}
    new: dict[int, Tensor] = {}
    for old, other in swaps.items():
        if id(old) not in present:
            raise ValueError(f"replay: {old!r} is not part of the graph; swap a node that the roots were computed from")
        if other is old.value:  # the array may have been edited since; a new one is never taken for the old value
            other = other.copy()
        new[id(old)] = other if isinstance(other, Tensor) else old.with_value(other)
    return rewrite(roots, lambda node, inputs: new.get(id(node)))
