"""Matrix products that a CUDA graph can hold. Never tried on hardware.

CuPy refuses to call cuBLAS while a stream is captured. cuBLAS allows it with a workspace that belongs to the graph, so
it is called here through its C interface.
"""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import numpy as np

from ...core import Array

WORKSPACE = 32 * 2**20
"""The bytes that cuBLAS gets to work in: what it asks for on the largest GPUs."""

_FUNCTIONS = {"f": ("cublasSgemm_v2", ctypes.c_float), "d": ("cublasDgemm_v2", ctypes.c_double)}


class CuBLASError(RuntimeError):
    """cuBLAS cannot be called here, or not for these arrays."""


class CuBLAS:
    """A handle of cuBLAS on one stream.

    Args:
        xp: the module of the arrays.
        stream: the stream that products are queued on.

    Raises:
        CuBLASError: the library that CuPy has loaded is not found, or does not answer.
    """

    def __init__(self, xp: ModuleType, stream: Any) -> None:
        self.xp = xp
        try:
            self.library = ctypes.CDLL(f"libcublas.so.{xp.cuda.runtime.runtimeGetVersion() // 1000}")
        except OSError as error:
            raise CuBLASError(f"cuBLAS is not found ({error})") from error
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self.handle = handle
        self.workspace = xp.empty(WORKSPACE, np.uint8)
        self._call("cublasSetStream_v2", handle, ctypes.c_void_p(stream.ptr))  # which takes away the workspace
        memory = ctypes.c_void_p(self.workspace.data.ptr)
        self._call("cublasSetWorkspace_v2", handle, memory, ctypes.c_size_t(WORKSPACE))

    def close(self) -> None:
        """Give the handle back; the workspace is needed as long as the graph."""
        self._call("cublasDestroy_v2", self.handle)

    def matmul(self, x: Array, y: Array) -> Array:
        """Return ``x @ y`` for x of shape (..., n) and y of shape (n, m), both of float32 or both of float64.

        Raises:
            CuBLASError: the arrays are others.
        """
        if x.ndim < 2 or y.ndim != 2 or x.dtype != y.dtype or x.dtype.char not in _FUNCTIONS or not x.size * y.size:
            raise CuBLASError(f"no product of {x.dtype} {x.shape} and {y.dtype} {y.shape}")
        rows = x.reshape(-1, x.shape[-1])
        out = self.xp.empty((len(rows), y.shape[1]), x.dtype)
        self._gemm(rows, y, out)
        return out.reshape(*x.shape[:-1], y.shape[1])

    def _gemm(self, x: Array, y: Array, out: Array) -> None:
        """Write the product of two matrices. cuBLAS stores columns, so it is asked for ``out^T = y^T x^T``."""
        name, number = _FUNCTIONS[out.dtype.char]
        (n, k), m = x.shape, y.shape[1]
        (y, by_columns_y, lead_y), (x, by_columns_x, lead_x) = self._stored(y), self._stored(x)
        one, zero = ctypes.byref(number(1)), ctypes.byref(number(0))
        y_at, x_at, out_at = (ctypes.c_void_p(array.data.ptr) for array in (y, x, out))
        flags = map(ctypes.c_int, (by_columns_y, by_columns_x, m, n, k))
        given = (y_at, ctypes.c_int(lead_y), x_at, ctypes.c_int(lead_x))
        self._call(name, self.handle, *flags, one, *given, zero, out_at, ctypes.c_int(m))

    def _stored(self, x: Array) -> tuple[Array, int, int]:
        """Return the matrix in one piece, whether it is stored by columns, and the length of a stored row or column."""
        if x.flags.c_contiguous:
            return x, 0, x.shape[1]
        if x.flags.f_contiguous:
            return x, 1, x.shape[0]
        return self.xp.ascontiguousarray(x), 0, x.shape[1]

    def _call(self, name: str, *args: Any) -> None:
        status = getattr(self.library, name)(*args)
        if status:
            raise CuBLASError(f"{name} of cuBLAS returned the status {status}")
