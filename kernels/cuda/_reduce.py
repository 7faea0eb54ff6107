"""Sums and maxima over the threads of a warp and of a block, in an order that never changes: results repeat."""

from __future__ import annotations

from ._math import ZERO, larger
from ._numba import cuda, device
from .ptx import shuffle_xor


@device
def warp_sum(value):
    """The sum over the warp's lanes, in every lane."""
    value += shuffle_xor(value, 16)
    value += shuffle_xor(value, 8)
    value += shuffle_xor(value, 4)
    value += shuffle_xor(value, 2)
    value += shuffle_xor(value, 1)
    return value


@device
def warp_largest(value):
    """The maximum over the warp's lanes, in every lane; NaN if any is."""
    value = larger(value, shuffle_xor(value, 16))
    value = larger(value, shuffle_xor(value, 8))
    value = larger(value, shuffle_xor(value, 4))
    value = larger(value, shuffle_xor(value, 2))
    value = larger(value, shuffle_xor(value, 1))
    return value


@device
def block_sum(value, shared, warps):
    """The sum over the block, in every thread; `shared`, a float32 per warp, is free again afterwards."""
    lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
    value = warp_sum(value)
    if lane == 0:
        shared[warp] = value
    cuda.syncthreads()
    value = warp_sum(shared[lane] if lane < warps else ZERO)
    cuda.syncthreads()
    return value


@device
def block_largest(value, shared, warps):
    """The maximum over the block, in every thread; NaN if any is. `shared` as in `block_sum`."""
    lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
    value = warp_largest(value)
    if lane == 0:
        shared[warp] = value
    cuda.syncthreads()
    value = warp_largest(shared[lane] if lane < warps else shared[0])
    cuda.syncthreads()
    return value
