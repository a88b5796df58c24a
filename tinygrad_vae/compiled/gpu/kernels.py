"""Elementwise nodes of a step on a GPU as one CUDA kernel, so that a chain of them passes through memory once.

Never tried on hardware. The function of an op runs on stand-ins that write down, in a line of C, what each ufunc does
with an element. Nodes of one shape whose inputs are known by then go on writing in the same kernel. The results are
equal to rounding: the compiler may fuse a product and a sum.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ...core import Tensor, value_of

MOST_INPUTS, MOST_LINES = 30, 200
"""How large a kernel may become."""

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
    "logical_and": "both({}, {})",
    "logical_or": "either({}, {})",
    "logical_not": "none({})",
    **{
        name: name + "({})"
        for name in "exp expm1 log log1p sqrt sin cos tanh floor isfinite isnan".split()  # noqa: SIM905
    },
}
"""What each ufunc does with an element, in C."""

_PREAMBLE = """
template <typename T> __device__ T larger(T a, T b) { return a != a || a > b ? a : b; }
template <typename T> __device__ T smaller(T a, T b) { return a != a || a < b ? a : b; }
template <typename T> __device__ T choose(bool c, T a, T b) { return c ? a : b; }
__device__ bool both(bool a, bool b) { return a && b; }
__device__ bool either(bool a, bool b) { return a || b; }
__device__ bool none(bool a) { return !a; }
"""
"""Functions that C lacks; of two numbers, one that is not a number wins."""


class _NotElementwiseError(Exception):
    """A function does something else than to call the ufuncs above, so the node is computed by itself."""


class _Stand(np.ndarray):
    """Stands for an array: it has its shape and dtype, and writes down what is computed with it."""

    kernel: Kernel
    name: str

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, _Stand):
            self.kernel, self.name = source.kernel, source.name

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        if method != "__call__" or options or ufunc.__name__ not in _CODE:
            raise _NotElementwiseError
        made = self.kernel.call(ufunc, inputs)
        if not out:
            return made
        if out[0].shape != made.shape or out[0].dtype != made.dtype:
            raise _NotElementwiseError
        out[0].name = made.name
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.where and len(args) == 3:
            dtype = np.result_type(*(x.dtype if isinstance(x, (np.ndarray, np.generic)) else x for x in args[1:]))
            return self.kernel.line("choose({}, {}, {})", args, (np.dtype(bool), dtype, dtype), dtype)
        if function is np.clip and len(args) == 3 and not options:
            x, low, high = args
            x = x if isinstance(low, float) and low == -np.inf else np.maximum(x, low)
            return x if isinstance(high, float) and high == np.inf else np.minimum(x, high)
        if function in (np.shape, np.ndim):
            return getattr(args[0], function.__name__)
        raise _NotElementwiseError

    def astype(self, dtype: Any) -> Any:  # type: ignore[override]
        return self.kernel.line("{}", (self,), (np.dtype(dtype),), np.dtype(dtype))

    def __getitem__(self, key: Any) -> Any:
        return self if key is ... else self._refuse()

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise _NotElementwiseError

    __bool__ = __int__ = __float__ = __index__ = __setitem__ = item = tolist = fill = sort = reshape = _refuse
    sum = mean = prod = max = min = any = all = transpose = ravel = flatten = take = repeat = view = _refuse


class Kernel:
    """A kernel that is being written, for results of one shape.

    Attributes:
        nodes: the nodes that it computes.
        keys: the keys of its arguments, in order.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.nodes: list[Tensor] = []
        self.keys: list[Hashable] = []
        self._parameters: list[str] = []
        self._lines: list[str] = []
        self._stands: dict[Hashable, _Stand] = {}

    def call(self, ufunc: Any, inputs: Sequence[Any]) -> _Stand:
        """Write the line of a ufunc."""
        if ufunc is np.power and type(inputs[1]) in (int, float) and inputs[1] == 2:
            return self.call(np.square, inputs[:1])
        kinds = [x.dtype if isinstance(x, (np.ndarray, np.generic)) else type(x) for x in inputs]
        *dtypes, result = ufunc.resolve_dtypes((*kinds, None))
        return self.line(_CODE[ufunc.__name__], inputs, dtypes, result)

    def line(self, code: str, inputs: Sequence[Any], dtypes: Sequence[np.dtype[Any]], result: np.dtype[Any]) -> _Stand:
        """Write a line that computes a result from inputs of the given dtypes."""
        words = []
        for x, dtype in zip(inputs, dtypes, strict=True):
            if isinstance(x, _Stand):
                words.append(x.name if x.dtype == dtype else f"{_type(dtype)}({x.name})")
            elif isinstance(x, (bool, int, float, np.generic)) and np.isfinite(x):
                words.append(f"{_type(dtype)}({float(x)!r})")
            else:
                raise _NotElementwiseError
        name = f"v{len(self._lines)}"
        self._lines.append(f"{_type(result)} {name} = {code.format(*words)}")
        return self._stand(name, result, np.broadcast_shapes(*map(np.shape, inputs)))

    def computes(self, key: Hashable) -> bool:
        """Return whether this is the key of one of its nodes."""
        return key in self._stands and key not in self.keys

    def take(self, node: Tensor, key: Hashable, keys: Sequence[Hashable]) -> bool:
        """Add a node of the kernel's shape, and return whether its function works element by element.

        ``key`` identifies its value, ``keys`` its inputs.
        """
        lines, known = len(self._lines), len(self.keys)
        assert node.op is not None
        try:
            _type(node.value.dtype)
            given = [self._stand_for(k, value_of(x)) for k, x in zip(keys, node.inputs, strict=True)]
            made = node.op.forward(*given, **node.attrs)
            if (type(made), made.shape, made.dtype) != (_Stand, self.shape, node.value.dtype):
                raise _NotElementwiseError
        except Exception:  # of any kind: the node is computed by itself
            del self._lines[lines:], self._parameters[known:]
            for k in self.keys[known:]:
                del self._stands[k]
            del self.keys[known:]
            return False
        self._stands[key] = made
        self.nodes.append(node)
        return True

    @property
    def is_full(self) -> bool:
        """Whether it should end."""
        return len(self.keys) > MOST_INPUTS or len(self._lines) > MOST_LINES

    @property
    def is_worth_it(self) -> bool:
        """Whether it does more than one ufunc."""
        return len(self._lines) > 1

    def compiled(self, xp: ModuleType, results: Sequence[Hashable]) -> Callable[..., Any]:
        """Return the function of its arguments that gives these results: a tuple, or the only one."""
        out = [self._stands[key] for key in results]
        ends = [f"{x.dtype.name} out{i}" for i, x in enumerate(out)]
        body = [*self._lines, *(f"out{i} = {x.name}" for i, x in enumerate(out))]
        kernel: Callable[..., Any] = xp.ElementwiseKernel(
            ", ".join(self._parameters), ", ".join(ends), ";\n".join(body), "step_elementwise", preamble=_PREAMBLE
        )
        return kernel

    def _stand_for(self, key: Hashable, x: Any) -> Any:
        """Return what stands for an input: a number as it is, an array as an argument of the kernel."""
        if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic):
            return x
        if key not in self._stands:
            _type(x.dtype)
            self._stands[key] = self._stand(f"a{len(self.keys)}", x.dtype, tuple(x.shape))
            self._parameters.append(f"{x.dtype.name} a{len(self.keys)}")
            self.keys.append(key)
        known = self._stands[key]
        return self._stand(known.name, known.dtype, known.shape)  # one of its own, which may be overwritten

    def _stand(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Stand:
        stand = np.ndarray.view(np.broadcast_to(np.zeros((), dtype), shape), _Stand)
        stand.kernel, stand.name = weakref.proxy(self), name  # without a cycle that keeps the nodes alive
        return stand


def _type(dtype: np.dtype[Any]) -> str:
    if dtype.char not in _TYPES:
        raise _NotElementwiseError
    return _TYPES[dtype.char]


def in_kernels(steps: Sequence[Tensor], key_of: Callable[[Any], Hashable]) -> list[Tensor | Kernel]:
    """Return the nodes in an order in which they can be computed, with kernels for those that are computed together.

    Args:
        steps: the nodes, each after its inputs.
        key_of: identifies the value of a node, or an array.
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
