"""A bound on the norm of the weights of each output unit, in place, one launch for all arrays.

A block takes a unit. Every weight is read once from memory, 4 bytes of float32; those of units beyond the limit are
read again, from the cache, and written, 8 bytes in all. The formula is that of `kernels/reference/max_norm.py`.
"""

from __future__ import annotations

import numpy as np

from ._math import ZERO, fma, sqrt
from ._numba import cuda, types
from ._reduce import block_sum
from ._tensors import THREADS, WIDEST, Arrays, numbered, of_one_dtype, table
from .launch import FLOAT, I32, I64, INT, TABLE, kernel
from .ptx import lanes, load, load_vector, store, store_vector

_WARPS = THREADS // 32
_LEAST = np.float32(1e-7)


@kernel(block=THREADS, table=TABLE, units=I32, widths=I64, aligned=INT, limit=FLOAT)
def _bound(table, units, widths, aligned, limit):
    shared = cuda.shared.array(_WARPS, types.float32)
    held = cuda.local.array(WIDEST, types.float32)
    tensor, row = units[2 * cuda.blockIdx.x], units[2 * cuda.blockIdx.x + 1]
    x, width = table[tensor], widths[tensor]
    start = row * width
    whole = aligned and width % lanes(x) == 0  # then every row begins at a vector
    total = ZERO
    if whole:
        for i in range(cuda.threadIdx.x * lanes(x), width, THREADS * lanes(x)):
            load_vector(held, x, start + i)
            for lane in range(lanes(x)):
                total = fma(held[lane], held[lane], total)
    else:
        for i in range(cuda.threadIdx.x, width, THREADS):
            value = load(x, start + i)
            total = fma(value, value, total)
    norm = sqrt(block_sum(total, shared, _WARPS))
    if norm > limit:
        scale = limit / (norm + _LEAST)
        if whole:
            for i in range(cuda.threadIdx.x * lanes(x), width, THREADS * lanes(x)):
                load_vector(held, x, start + i)
                for lane in range(lanes(x)):
                    held[lane] *= scale
                store_vector(x, start + i, held)
        else:
            for i in range(cuda.threadIdx.x, width, THREADS):
                store(x, start + i, scale * load(x, start + i))


def max_norm(params: Arrays, *, limit: float) -> None:
    """In place: x[i] ← x[i] · limit / (‖x[i]‖ + 1e-7) for each i of the first axis where ‖x[i]‖ > limit.

    Each array is C-contiguous with two axes or more.
    """
    for some in of_one_dtype([x for x in params if x.size]):
        rows = tuple([x.shape[0] for x in some[0]])
        units, units_there, widths = numbered(tuple([x.size // x.shape[0] for x in some[0]]), rows)
        the_table, aligned = table(some[0])
        _bound(units, the_table, units_there, widths, aligned, limit)
