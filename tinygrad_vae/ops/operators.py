"""Operators and methods of a Tensor, attached here, and its manners towards Python and NumPy."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from typing import Any

from ..core import Tensor, is_array
from . import choices, elementwise, indexing, jumps, matrix, reductions, shaping


def _unary(function: Any) -> Callable[[Any], Any]:
    return lambda self: function(self)


def _binary(function: Any) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """Return the methods for ``tensor * other`` and ``other * tensor``."""
    return (lambda self, other: function(self, other)), (lambda self, other: function(other, self))


def _reduction(function: Any) -> Callable[..., Any]:
    """Return the method of an op that reduces axes, which takes the axis by position too, as in NumPy."""
    return lambda self, axis=None, **options: function(self, axis=axis, **options)


class _Operators:
    """What NumPy arrays and Tensors have in common."""

    __add__, __radd__ = _binary(elementwise.add)
    __sub__, __rsub__ = _binary(elementwise.subtract)
    __mul__, __rmul__ = _binary(elementwise.multiply)
    __truediv__, __rtruediv__ = _binary(elementwise.divide)
    __pow__, __rpow__ = _binary(elementwise.pow)
    __floordiv__, __rfloordiv__ = _binary(jumps.floor_divide)
    __mod__, __rmod__ = _binary(elementwise.remainder)
    __matmul__, __rmatmul__ = _binary(matrix.matmul)
    __lt__, __gt__ = _binary(jumps.less)
    __le__, __ge__ = _binary(jumps.less_equal)
    __eq__, _ = _binary(jumps.equal)
    __ne__, _ = _binary(jumps.not_equal)
    __and__, __rand__ = _binary(jumps.logical_and)
    __or__, __ror__ = _binary(jumps.logical_or)
    __xor__, __rxor__ = _binary(jumps.logical_xor)

    __neg__, __pos__, __abs__ = map(_unary, (elementwise.negative, elementwise.positive, elementwise.abs))
    __invert__ = _unary(jumps.logical_not)

    def __round__(self, digits: int = 0) -> Any:
        return jumps.round(self * 10.0**digits) / 10.0**digits if digits else jumps.round(self)

    sum, mean, prod = map(_reduction, (reductions.sum, reductions.mean, reductions.prod))
    std, var, max, min = map(_reduction, (reductions.std, reductions.var, reductions.max, reductions.min))
    argmax, argmin = map(_reduction, (reductions.argmax, reductions.argmin))
    any, all = map(_reduction, (reductions.any, reductions.all))
    T = property(lambda self: shaping.permute_dims(self, tuple(range(self.ndim))[::-1]))
    mT = property(lambda self: shaping.matrix_transpose(self))

    def astype(self, dtype: Any) -> Any:
        """Return the Tensor with another dtype."""
        return choices.astype(self, dtype)

    def reshape(self, *shape: Any) -> Any:
        """Return the same elements in another shape: ``x.reshape(2, 3)`` or ``x.reshape((2, 3))``."""
        return shaping.reshape(self, tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        arrays = [part for part in parts if isinstance(part, Tensor) or is_array(part)]
        marked = [indexing.INDEX if builtins.any(part is a for a in arrays) else part for part in parts]
        return indexing.getitem(self, *arrays, key=tuple(marked))

    def __len__(self: Any) -> int:
        if not self.ndim:
            raise TypeError("a Tensor without axes has no length")
        return int(self.shape[0])

    def __iter__(self: Any) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


# ---------------------------------------------------------------- what would leave the graph, and says so instead


def _refusal(what: str, instead: str) -> Callable[..., Any]:
    """Return a method that refuses to leave the graph: its result would be a constant to every gradient."""

    def refuse(self: Any, *_: Any, **__: Any) -> Any:
        lost = "would leave the graph, and the gradient would be lost in silence"
        raise TypeError(f"{what} of a Tensor {lost}. {instead}")

    return refuse


_CUT = (
    "is a constant to every gradient. Where a draw decides in this way what the cost is, add 0 * tensor to the cost "
    "and use score_function(cost), which weighs the decision; reparameterize(cost) does not see it"
)

_COMPARISONS = (jumps.less, jumps.less_equal, jumps.greater, jumps.greater_equal, jumps.equal, jumps.not_equal)
_ARITHMETIC = (elementwise.add, elementwise.subtract, elementwise.multiply, elementwise.divide, jumps.floor_divide)
_OF_UFUNC: dict[str, Any] = {
    **{function.__name__: function for function in (*_ARITHMETIC, elementwise.remainder, matrix.matmul, *_COMPARISONS)},
    "power": elementwise.pow,
    "bitwise_and": jumps.logical_and,
    "bitwise_or": jumps.logical_or,
    "bitwise_xor": jumps.logical_xor,
}
"""The function for the NumPy ufunc that an operator calls between an array on the left and a Tensor on the right."""

_RETURNED = "gradients are returned, and stored nowhere: tg.gradients(cost, wrt)"
_ELSEWHERE = {
    "backward": _RETURNED,
    "grad": _RETURNED,
    "zero_grad": _RETURNED,
    "requires_grad": "tg.gradients(cost, wrt) is told what to differentiate by",
    "detach": "write tg.stop_gradient(tensor)",
    "item": "write tensor.value.item()",
    "numpy": "write tensor.value",
    "cpu": "write tg.to_host(tensor.value)",
    "cuda": "write tg.to_device(array) before Tensor(array)",
    "to": "write tg.to_device(array) before Tensor(array), or tensor.astype(dtype)",
}
"""What to write here for an attribute that tensors of other libraries have."""


class _Manners:
    """How a Tensor answers what it cannot do."""

    def __getattr__(self, name: str) -> Any:
        instead = f"; {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"a Tensor has no attribute {name!r}{instead}", name=name, obj=self)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "a Tensor is never edited. Write tg.where(mask, new, tensor), or fill the array before Tensor(array)"
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Compute ``array * tensor``, for which NumPy calls its own ``multiply``, and refuse ``numpy.exp(tensor)``."""
        if method == "__call__" and not options and ufunc.__name__ in _OF_UFUNC and not isinstance(inputs[0], Tensor):
            return _OF_UFUNC[ufunc.__name__](*inputs)
        return _refusal(f"numpy.{ufunc.__name__}", "Call the function of tinygrad_vae, or pass tensor.value.")(self)

    def __format__(self: Any, spec: str) -> str:
        return format(self.value.item() if spec and self.size == 1 else str(self), spec)

    __array__ = _refusal("a NumPy array", "Call the function of tinygrad_vae instead of NumPy's, or pass tensor.value.")
    __array_function__ = _refusal("a NumPy function", "Call the one of tinygrad_vae, or pass tensor.value.")
    __bool__ = _refusal("the truth", f"Write tg.where(condition, a, b); a branch on tensor.value {_CUT}.")
    __float__ = _refusal("float()", f"Write float(tensor.value), which {_CUT}.")
    __int__ = _refusal("int()", f"Write int(tensor.value), which {_CUT}.")
    __index__ = _refusal("an index", f"Write tg.take(x, tensor, axis=0) or x[tensor]; int(tensor.value) {_CUT}.")


for _methods in (_Operators, _Manners):
    for _name, _method in vars(_methods).items():
        if callable(_method) or isinstance(_method, property):
            setattr(Tensor, _name, _method)
Tensor.__hash__ = object.__hash__  # type: ignore[method-assign]
