"""Weights as the matrices that a convolution's GEMM reads: a row for each tap and channel, a column for each output.

    forward   matrix[g, (u, v, c), k] = weight[g K/G + k, c, first_r + u every_r, first_s + v every_s]
    dgrad     matrix[g, (u, v, k), c] = weight[g K/G + k, c, …]

One thread an element; the weight is read scattered, mostly from the cache: it is small beside the images.
"""

from __future__ import annotations

from ._layout import Array, blocks
from ._memory import empty
from ._numba import cuda
from ._window import Axis
from .launch import INT, STORAGE, kernel
from .ptx import load, quotient, store

_THREADS = 256


@kernel(block=_THREADS, weight=STORAGE, matrix=STORAGE, size=INT, rows=INT, columns=INT, taps_w=INT, taps_r=INT,
        taps_s=INT, first_r=INT, every_r=INT, first_s=INT, every_s=INT, filters=INT, channels=INT, transposed=INT)
def _pack(weight, matrix, size, rows, columns, taps_w, taps_r, taps_s, first_r, every_r, first_s, every_s, filters,
          channels, transposed):
    i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
    if i < size:
        row = quotient(i, columns)
        column = i - row * columns
        group = quotient(row, rows)
        row -= group * rows
        depth = filters if transposed else channels
        tap = quotient(row, depth)
        inner = row - tap * depth
        u = quotient(tap, taps_w)
        r, s = first_r + u * every_r, first_s + (tap - u * taps_w) * every_s
        k, c = (inner, column) if transposed else (column, inner)
        store(matrix, i, load(weight, (((group * filters + k) * channels + c) * taps_r + r) * taps_s + s))


def pack(weight: Array, groups: int, window: tuple[Axis, Axis], transposed: bool) -> Array:
    """The matrix (G, rows, columns) of a contiguous weight (K, C/G, R, S) for the taps of this window."""
    (k, channels, taps_r, taps_s), (h, w) = weight.shape, window
    filters = k // groups
    rows, columns = h.taps * w.taps * (filters if transposed else channels), channels if transposed else filters
    matrix = empty((groups, rows, columns), weight.dtype)
    _pack(blocks(matrix.size, _THREADS), weight, matrix, matrix.size, rows, columns, w.taps, taps_r, taps_s, h.first,
          h.every, w.first, w.every, filters, channels, int(transposed))
    return matrix
