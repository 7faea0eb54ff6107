"""The weight of a depthwise convolution as its kernels read it: (taps, filters) in float32, filters in vectors."""

from __future__ import annotations

from ._layout import Array, blocks
from ._memory import empty
from ._numba import cuda
from .launch import F32, INT, STORAGE, kernel
from .ptx import load, quotient

_THREADS = 128


@kernel(block=_THREADS, weight=STORAGE, packed=F32, size=INT, filters=INT, taps=INT, turned=INT)
def _pack(weight, packed, size, filters, taps, turned):
    i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
    if i < size:
        tap = quotient(i, filters)
        k = i - tap * filters
        packed[i] = load(weight, k * taps + (taps - 1 - tap if turned else tap))


def pack(weight: Array, turned: bool = False) -> Array:
    """The contiguous weight (K, 1, R, S) as (R · S, K) in float32; `turned`, the last tap comes first."""
    filters, _, r, s = weight.shape
    packed = empty((r * s, filters))
    _pack(blocks(packed.size, _THREADS), weight, packed, packed.size, filters, r * s, turned)
    return packed
