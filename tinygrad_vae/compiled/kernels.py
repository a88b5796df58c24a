"""Elementwise nodes of a step on a GPU as one CUDA kernel, so that a chain of them passes through memory once.

It knows graphs and which ufuncs C can spell, and nothing of streams and of captures.

The function of an op runs on stand-ins that write down, in a line of C, what each ufunc does with an element. Nodes of
one shape whose inputs are known when they are reached go on writing in the same kernel. It computes what they compute,
to rounding: the compiler may fuse a product and a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..core import Tensor, value_of

MOST_INPUTS, MOST_LINES = 30, 200
"""How large a kernel may become."""

BESIDE_ELEMENTWISE = frozenset({"moving_average", "adaptive_step", "astype"})
"""Ops that work element by element, though they are not declared so because their inputs do not broadcast."""

_TYPES = {"f": "float", "d": "double", "?": "bool"}

_CODE = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "positive": "{}",
    "square": "{0} * {0}",
    "reciprocal": "1 / {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "equal": "{} == {}",
    "not_equal": "{} != {}",
    "absolute": "fabs({})",
    "maximum": "larger({}, {})",
    "minimum": "smaller({}, {})",
    "power": "pow({}, {})",
    "isfinite": "isfinite({})",
    "isnan": "isnan({})",
    "logical_and": "both({}, {})",
    "logical_or": "either({}, {})",
    "logical_not": "none({})",
}
_CODE |= {name: name + "({})" for name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "floor")}
"""What each ufunc does with an element, in C."""

_PREAMBLE = """
template <typename T> __device__ T larger(T a, T b) { return a != a || a > b ? a : b; }
template <typename T> __device__ T smaller(T a, T b) { return a != a || a < b ? a : b; }
template <typename T> __device__ T choose(bool c, T a, T b) { return c ? a : b; }
__device__ bool both(bool a, bool b) { return a && b; }
__device__ bool either(bool a, bool b) { return a || b; }
__device__ bool none(bool a) { return !a; }
"""
"""The functions that C has not got; of two numbers, one that is not a number wins."""


class _NotElementwise(Exception):  # noqa: N818  it is no error: the node is computed by itself
    """A function did something else than to call ufuncs that are known here."""


class _Stand(np.ndarray):
    """Stands for an array: it has its shape and dtype, and writes down what is computed with it."""

    text: _Text
    name: str

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, _Stand):
            self.text, self.name = source.text, source.name

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        if method != "__call__" or options or ufunc.__name__ not in _CODE:
            raise _NotElementwise
        made = self.text.write(ufunc, inputs)
        if not out:
            return made
        if out[0].shape != made.shape or out[0].dtype != made.dtype:
            raise _NotElementwise
        out[0].name = made.name
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.where and len(args) == 3:
            return self.text.choose(*args)
        if function is np.clip and len(args) == 3 and not options:
            above = args[0] if _is(args[1], -np.inf) else np.maximum(args[0], args[1])
            return above if _is(args[2], np.inf) else np.minimum(above, args[2])
        if function in (np.shape, np.ndim):
            return getattr(args[0], function.__name__)
        raise _NotElementwise

    def astype(self, dtype: Any) -> Any:  # type: ignore[override]
        return self.text.cast(self, np.dtype(dtype))

    def __getitem__(self, key: Any) -> Any:
        if key is not ...:
            raise _NotElementwise
        return self

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise _NotElementwise

    __bool__ = __int__ = __float__ = __index__ = __setitem__ = item = tolist = fill = sort = reshape = _refuse
    sum = mean = prod = max = min = any = all = transpose = ravel = flatten = take = repeat = view = _refuse


class _Text:
    """The lines of a kernel."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, ufunc: Any, inputs: Sequence[Any]) -> _Stand:
        """Write the line of a ufunc."""
        kinds = [x.dtype if isinstance(x, (np.ndarray, np.generic)) else type(x) for x in inputs]
        *into, result = ufunc.resolve_dtypes((*kinds, None))
        if ufunc is np.power and type(inputs[1]) in (int, float) and inputs[1] == 2:
            return self.write(np.square, inputs[:1])
        shape = np.broadcast_shapes(*(np.shape(x) for x in inputs))
        words = [self._word(x, dtype) for x, dtype in zip(inputs, into, strict=True)]
        return self._line(_CODE[ufunc.__name__].format(*words), result, shape)

    def choose(self, condition: Any, x: Any, y: Any) -> _Stand:
        """Write the line of ``numpy.where``."""
        kinds = [z.dtype if isinstance(z, (np.ndarray, np.generic)) else z for z in (x, y)]
        dtype = np.result_type(*kinds)
        shape = np.broadcast_shapes(*(np.shape(z) for z in (condition, x, y)))
        words = self._word(condition, np.dtype(bool)), self._word(x, dtype), self._word(y, dtype)
        return self._line("choose({}, {}, {})".format(*words), dtype, shape)

    def cast(self, x: _Stand, dtype: np.dtype[Any]) -> _Stand:
        """Write the line of a conversion."""
        return self._line(self._word(x, dtype), dtype, x.shape)

    def _line(self, code: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Stand:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{self.type_of(dtype)} {name} = {code}")
        return self.stand(name, dtype, shape)

    def _word(self, x: Any, dtype: np.dtype[Any]) -> str:
        """Return an operand in C, in the dtype that the ufunc takes."""
        if isinstance(x, _Stand):
            return x.name if x.dtype == dtype else f"{self.type_of(dtype)}({x.name})"
        if isinstance(x, (bool, int, float, np.generic)) and np.isfinite(x):
            return f"{self.type_of(dtype)}({float(x)!r})"
        raise _NotElementwise

    def type_of(self, dtype: np.dtype[Any]) -> str:
        if dtype.char not in _TYPES:
            raise _NotElementwise
        return _TYPES[dtype.char]

    def stand(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Stand:
        stand = np.ndarray.view(np.broadcast_to(np.zeros((), dtype), shape), _Stand)
        stand.text, stand.name = self, name
        return stand


def _is(x: Any, number: float) -> bool:
    return isinstance(x, float) and x == number


class Kernel:
    """A kernel that is being written, for results of one shape.

    Args:
        shape: the shape of what its nodes compute.

    Attributes:
        nodes: what it computes.
        keys: what tells its arguments from other arrays, in order.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.nodes: list[Tensor] = []
        self.keys: list[Hashable] = []
        self._arguments: list[str] = []
        self._text = _Text()
        self._stands: dict[Hashable, _Stand] = {}

    def computes(self, key: Hashable) -> bool:
        """Return whether this is the key of one of its nodes."""
        return key in self._stands and key not in self.keys

    def take(self, node: Tensor, key: Hashable, keys: Sequence[Hashable]) -> bool:
        """Go on with a node, if it works element by element and the kernel does not become too large.

        Args:
            node: of this kernel's shape.
            key: for what it computes.
            keys: those of its inputs.
        """
        op = node.op
        assert op is not None
        if not (op.elementwise or op.name in BESIDE_ELEMENTWISE) or node.value.dtype.char not in _TYPES:
            return False
        lines, known = len(self._text.lines), len(self.keys)
        try:
            given = [self._stand_for(k, value_of(x)) for k, x in zip(keys, node.inputs, strict=True)]
            made = op.forward(*given, **node.attrs)
            if not isinstance(made, _Stand) or (made.shape, made.dtype) != (self.shape, node.value.dtype):
                raise _NotElementwise
        except Exception:  # whatever it is, the node is computed by itself
            del self._text.lines[lines:], self._arguments[known:]
            for k in self.keys[known:]:
                del self._stands[k]
            del self.keys[known:]
            return False
        self._stands[key] = self._text.stand(made.name, made.dtype, made.shape)
        self.nodes.append(node)
        return True

    @property
    def is_full(self) -> bool:
        """Whether it had better end."""
        return len(self.keys) > MOST_INPUTS or len(self._text.lines) > MOST_LINES

    @property
    def is_worth_it(self) -> bool:
        """Whether it does more than one ufunc."""
        return len(self._text.lines) > 1

    def compiled(self, xp: ModuleType, results: Sequence[Hashable]) -> Callable[..., Any]:
        """Return the function of its arguments, which gives those results in a tuple, or the one that there is."""
        out = [self._stands[key] for key in results]
        ends = [f"{x.dtype.name} out{i}" for i, x in enumerate(out)]
        body = [*self._text.lines, *(f"out{i} = {x.name}" for i, x in enumerate(out))]
        kernel: Callable[..., Any] = xp.ElementwiseKernel(
            ", ".join(self._arguments), ", ".join(ends), ";\n".join(body), "step_elementwise", preamble=_PREAMBLE
        )
        return kernel

    def _stand_for(self, key: Hashable, x: Any) -> Any:
        """Return what stands for an input: a number as it is, an array as an argument of the kernel."""
        if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic):
            return x
        if key not in self._stands:
            self._text.type_of(x.dtype)  # which refuses what has no type here
            name = f"a{len(self.keys)}"
            self._stands[key] = self._text.stand(name, np.dtype(x.dtype), tuple(x.shape))
            self._arguments.append(f"{x.dtype.name} {name}")
            self.keys.append(key)
        known = self._stands[key]
        return self._text.stand(known.name, known.dtype, known.shape)  # one of its own, which may be overwritten


def in_kernels(steps: Sequence[Tensor], key_of: Callable[[Any], Hashable]) -> list[Tensor | Kernel]:
    """Return the nodes in an order in which they may be computed, those that make one kernel together.

    Args:
        steps: the nodes, each after those that it is made from.
        key_of: what tells the value of a node, or an array, from others.
    """
    done: list[Tensor | Kernel] = []
    writing: dict[tuple[int, ...], Kernel] = {}

    def finish(kernel: Kernel) -> None:
        del writing[kernel.shape]
        done.extend([kernel] if kernel.is_worth_it else kernel.nodes)

    for node in steps:
        keys, shape = [key_of(x) for x in node.inputs], tuple(node.value.shape)
        for kernel in list(writing.values()):
            if kernel.shape != shape and any(map(kernel.computes, keys)):
                finish(kernel)
        kernel = writing.setdefault(shape, Kernel(shape))
        if not kernel.take(node, key_of(node), keys):
            if any(map(kernel.computes, keys)) or not kernel.nodes:
                finish(kernel)
            done.append(node)
        elif kernel.is_full:
            finish(kernel)
    for kernel in list(writing.values()):
        finish(kernel)
    return done
