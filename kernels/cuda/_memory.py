"""Where device arrays come from: CuPy's pool, which takes a block back when the last view of it dies.

In the simulator NumPy arrays stand in. CuPy is imported when the first array is made, so that kernels can be compiled
where there is none.
"""

from __future__ import annotations

import functools
import math
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from ._numba import SIMULATED

_FLOAT = np.dtype(np.float32)


@functools.cache
def xp() -> ModuleType:
    """The array library: CuPy, or NumPy in the simulator."""
    return np if SIMULATED else import_module("cupy")


def empty(shape: int | tuple[int, ...], dtype: Any = _FLOAT) -> Any:
    """An uninitialised C-contiguous array; in the simulator full of NaN, that nobody reads what nobody wrote."""
    if not SIMULATED:
        return xp().empty(shape, dtype)
    count = shape if isinstance(shape, int) else math.prod(shape)
    # Vectors want 16 bytes alignment, which CuPy gives and NumPy does not.
    itemsize = np.dtype(dtype).itemsize
    block = np.full(count * itemsize + 16, 0xFF, np.uint8)
    start = -block.ctypes.data % 16
    return block[start : start + count * itemsize].view(dtype).reshape(shape)


def address(x: Any) -> int:
    """Where x's first element lies."""
    return x.ctypes.data if SIMULATED else x.data.ptr


def multiprocessors() -> int:
    """How many multiprocessors the current device has."""
    return 2 if SIMULATED else _multiprocessors(xp().cuda.runtime.getDevice())


@functools.cache
def _multiprocessors(device: int) -> int:
    return xp().cuda.Device(device).attributes["MultiProcessorCount"]
