"""Indices of winners, uint8 or int32, as pooling and maxout keep them beside their maxima.

Those of a vector of channels, if uint8, go through memory as words of four. int32 ones, which only windows of more than
256 pixels have, go one by one, as do their channels.
"""

from __future__ import annotations

import numpy as np

from .. import strides
from ._layout import Array
from ._numba import device

_UINT8, _INT32, _BYTE = np.dtype(np.uint8), np.dtype(np.int32), np.uint32(0xFF)


def pieces_of_indices(vector: bool) -> tuple:
    """put(small, words, wide, i, winner, left, width) and get(…) of the int32 of a piece, from element i on.

    `words` is the array in units of 32 bits, where these are what is read; else `small` is the array.
    """
    if vector:

        @device
        def put(small, words, wide, i, winner, left, width):
            for word in range(width // 4):
                packed = np.uint32(winner[4 * word])
                for byte in range(1, 4):
                    packed |= np.uint32(winner[4 * word + byte]) << np.uint32(8 * byte)
                words[(i >> 2) + word] = packed

        @device
        def get(small, words, wide, i, winner, left, width):
            for word in range(width // 4):
                packed = words[(i >> 2) + word]
                for byte in range(4):
                    winner[4 * word + byte] = np.int32((packed >> np.uint32(8 * byte)) & _BYTE)

        return put, get

    @device
    def put(small, words, wide, i, winner, left, width):
        for lane in range(width):
            if lane < left:
                if wide:
                    words[i + lane] = np.uint32(winner[lane])
                else:
                    small[i + lane] = np.uint8(winner[lane])

    @device
    def get(small, words, wide, i, winner, left, width):
        for lane in range(width):
            if lane < left:
                winner[lane] = np.int32(words[i + lane]) if wide else np.int32(small[i + lane])

    return put, get


@device
def contend(best, winner, value, number, n):
    """n lanes of `value`, whose index is `number`, beat the best yet where they are larger, or the first NaN."""
    for lane in range(n):
        v, b = value[lane], best[lane]
        if not v <= b and b == b:
            best[lane], winner[lane] = v, number


def index_dtype(count: int) -> np.dtype:
    """What holds the numbers below `count`."""
    return _UINT8 if count <= 256 else _INT32


def as_words(indices: Array, vector: bool) -> tuple[Array | None, Array | None, bool]:
    """The arguments `small` (U8), `words` (U32) and `wide` (INT) of a kernel for these indices, channels-last."""
    wide = is_wide(indices)
    if not wide and not vector:
        return indices, None, wide
    return None, indices.transpose(strides.channels_last_order(indices.ndim)).view(np.uint32), wide


def is_wide(indices: Array) -> bool:
    """Whether the indices are int32, which only kernels of single channels take."""
    return indices.dtype == _INT32
