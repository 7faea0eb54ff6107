"""The last step of a sum: one block adds what the blocks before it left, always in the same order."""

from __future__ import annotations

from typing import Any

from ._layout import Array
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from ._reduce import block_sum
from .launch import F32, FLOAT, INT, STORAGE, kernel
from .ptx import given, store

MOST = 2048  # blocks that leave a number: eight for each thread of the last one
_THREADS, _WARPS = 256, 8


@kernel(block=_THREADS, parts=F32, weights=F32, count=INT, divisor=FLOAT, weighted=INT, y=STORAGE, weight=STORAGE)
def _total(parts, weights, count, divisor, weighted, y, weight):
    shared = cuda.shared.array(_WARPS, types.float32)
    s, w = ZERO, ZERO
    for i in range(cuda.threadIdx.x, count, _THREADS):
        s += parts[i]
    s = block_sum(s, shared, _WARPS)
    if given(weights):
        for i in range(cuda.threadIdx.x, count, _THREADS):
            w += weights[i]
        w = block_sum(w, shared, _WARPS)
    if cuda.threadIdx.x == 0:
        store(y, 0, s / (w if weighted else divisor))
        if given(weight):
            store(weight, 0, w)


def total_of(
    parts: Array, dtype: Any, *, divisor: float = 1.0, weights: Array | None = None, weighted: bool = False,
    weight: Array | None = None,
) -> Array:
    """The sum of `parts` over a divisor, or over the sum of `weights` if `weighted`, as a 0-d array; NaN over nothing.

    `weight`, where given, is set to the sum of the weights.
    """
    y = empty((), dtype)
    _total(1, parts, weights, len(parts), divisor, weighted, y, weight)
    return y
