"""Matrix products on a GPU that a CUDA graph can hold: CuPy refuses to call cuBLAS while a stream is captured.

It knows arrays and cuBLAS, and no graph of ours.

cuBLAS itself allows it, with a workspace that belongs to the graph. It is called here by its C interface.
"""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import numpy as np

from ..core import Array

WORKSPACE = 32 * 2**20
"""How many bytes cuBLAS gets to work in, which is what it asks for on the largest GPUs."""

_FUNCTIONS = {"f": ("cublasSgemm_v2", ctypes.c_float), "d": ("cublasDgemm_v2", ctypes.c_double)}


class ProductError(RuntimeError):
    """cuBLAS cannot be called here, or not for these arrays."""


class Products:
    """A handle of cuBLAS on one stream.

    Args:
        xp: the module of the arrays.
        stream: what the products are queued on.

    Raises:
        ProductError: the library that CuPy has loaded is not found, or does not answer.
    """

    def __init__(self, xp: ModuleType, stream: Any) -> None:
        self.xp = xp
        try:
            self.library = ctypes.CDLL(f"libcublas.so.{xp.cuda.runtime.runtimeGetVersion() // 1000}")
        except OSError as error:
            raise ProductError(f"cuBLAS is not found ({error})") from error
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self.handle = handle
        self.workspace = xp.empty(WORKSPACE, np.uint8)
        self._call("cublasSetStream_v2", handle, ctypes.c_void_p(stream.ptr))  # which takes away the workspace
        place = ctypes.c_void_p(self.workspace.data.ptr)
        self._call("cublasSetWorkspace_v2", handle, place, ctypes.c_size_t(WORKSPACE))

    def close(self) -> None:
        """Give the handle back; the workspace is needed as long as the graph."""
        self._call("cublasDestroy_v2", self.handle)

    def matmul(self, x: Array, y: Array) -> Array:
        """Return ``x @ y`` for x of shape (..., n) and y of shape (n, m), both of float32 or both of float64.

        Raises:
            ProductError: the arrays are others.
        """
        if x.ndim < 2 or y.ndim != 2 or x.dtype != y.dtype or x.dtype.char not in _FUNCTIONS or not x.size * y.size:
            raise ProductError(f"no product of {x.dtype} {x.shape} and {y.dtype} {y.shape}")
        rows = x.reshape(-1, x.shape[-1])
        out = self.xp.empty((len(rows), y.shape[1]), x.dtype)
        self._gemm(rows, y, out)
        return out.reshape(*x.shape[:-1], y.shape[1])

    def _gemm(self, x: Array, y: Array, out: Array) -> None:
        """Write the product of two matrices. cuBLAS stores columns, so it is asked for ``out^T = y^T x^T``."""
        name, number = _FUNCTIONS[out.dtype.char]
        (n, k), m = x.shape, y.shape[1]
        (y, turn_y, lead_y), (x, turn_x, lead_x) = self._stored(y), self._stored(x)
        one, zero = ctypes.byref(number(1)), ctypes.byref(number(0))
        places = [ctypes.c_void_p(array.data.ptr) for array in (y, x, out)]
        turns, sizes = (ctypes.c_int(turn_y), ctypes.c_int(turn_x)), (ctypes.c_int(size) for size in (m, n, k))
        given = (places[0], ctypes.c_int(lead_y), places[1], ctypes.c_int(lead_x))
        self._call(name, self.handle, *turns, *sizes, one, *given, zero, places[2], ctypes.c_int(m))

    def _stored(self, x: Array) -> tuple[Array, int, int]:
        """Return a matrix that lies in one piece, whether it lies turned, and the length of what lies together."""
        if x.flags.c_contiguous:
            return x, 0, x.shape[1]
        if x.flags.f_contiguous:
            return x, 1, x.shape[0]
        return self.xp.ascontiguousarray(x), 0, x.shape[1]

    def _call(self, name: str, *args: Any) -> None:
        status = getattr(self.library, name)(*args)
        if status:
            raise ProductError(f"{name} of cuBLAS returned the status {status}")
