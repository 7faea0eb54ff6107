"""What stands in for pointers and warps in the simulator.

The scheduler of the simulator is the test suite's: it sets `warp`, through which the lanes of a warp meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Pointer:
    """The memory of a dense array as a kernel sees it: flat, checked at both ends, aligned where vectors ask for it."""

    __slots__ = ("memory",)

    def __init__(self, array: np.ndarray):
        order = sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], -array.shape[axis]))
        memory = array.transpose(order)
        if array.size and not memory.flags.c_contiguous:
            raise ValueError(f"a kernel takes dense memory, not shape {array.shape} with strides {array.strides}")
        self.memory = memory.reshape(-1)

    def __getitem__(self, i: int) -> Any:
        self._check(i, 1)
        return self.memory[i]

    def __setitem__(self, i: int, value: Any) -> None:
        self._check(i, 1)
        self.memory[i] = value

    def vector(self, i: int, size: int = 16) -> np.ndarray:
        """The `size` bytes from element i on, as a view."""
        count = size // self.memory.itemsize
        self._check(i, count)
        view = self.memory[i : i + count]
        if view.ctypes.data % size:
            raise IndexError(f"a vector of {size} bytes at element {i} is not aligned to {size} bytes")
        return view

    def _check(self, i: int, count: int) -> None:
        if not 0 <= i <= self.memory.size - count:
            raise IndexError(f"elements {i} to {i + count} of an array of {self.memory.size}")


def warp(value: Any, exchange: Callable[[list], list]) -> Any:
    """Replaced by the scheduler of the tests."""
    raise RuntimeError("Numba's own simulator has no warps: run the kernels under the scheduler of nnk's tests")


def collective(value: Any, exchange: Callable[[list], list]) -> Any:
    """Every lane of a warp gives a value; `exchange` makes of their list a list with each lane's answer."""
    return warp(value, exchange)


def running() -> Any:
    """Replaced by the scheduler of the tests."""
    raise RuntimeError("Numba's own simulator has no asynchronous copies: run the kernels under that of nnk's tests")


def thread() -> Any:
    """The CUDA thread that runs: its `number` in its `block`, its `copies` and `products` under way, in deques.

    `block.barriers` are those in shared memory; there a thread may `sleep` until another lets it `wake`. `hasty` tells
    whether bulk copies land at once. `warpgroup` is to four warps what `collective` is to one.
    """
    return running()
