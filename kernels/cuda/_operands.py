"""Operands as tensor cores read them: in whole vectors of 16 bytes along the channels, of the type they multiply.

    weight   rows[g, k, (u, v, c)] = weight[g K/G + k, c, first_r + u every_r, first_s + v every_s]     forward
             rows[g, c, (u, v, k)] = the same                                                          dgrad
    images   x itself, or a copy

The channels of a group are padded with zeros to whole vectors, the rows of the weight to 128 bytes as well, so that the
GEMM reads them without asking where they end. float32 weights are rounded to the nearest TF32 on the way; images are
rounded by the GEMM, whose tensor cores would cut the digits off. An image is copied only where its channels are no
whole vectors (asynchronous copies of 16 bytes need them; those of 4 are four times as many instructions) or where it
has another type: 2 bytes more read and written for each byte.

A thread makes one vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._layout import Array, blocks, empty_image
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import bits, from_bits, lanes, load, load_vector, quotient, store_vector
from .ptx_mma import round_tf32

_THREADS, ROW = 256, 128  # bytes that the GEMMs read of a row at a time


def padded(count: int, itemsize: int) -> int:
    """`count` numbers rounded up to whole vectors."""
    return -(-count * itemsize // 16) * 16 // itemsize


def _weights(source: str) -> Kernel:
    """`source` is the kind of the weight: that of the rows, or F32."""

    def weight_rows(weight, rows, vectors, row_vectors, outputs, taps, taps_w, padded_inner, inner, taps_r, taps_s,
                    first_r, every_r, first_s, every_s, filters, channels, transposed):
        held = cuda.local.array(8, types.float32)
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if i < vectors:
            line = quotient(i, row_vectors)  # (group, output)
            group = quotient(line, outputs)
            output, depth = line - group * outputs, (i - line * row_vectors) * lanes(rows)
            tap = quotient(depth, padded_inner)
            first, u = depth - tap * padded_inner, quotient(tap, taps_w)
            r, s = first_r + u * every_r, first_s + (tap - u * taps_w) * every_s
            for lane in range(lanes(rows)):
                held[lane] = ZERO
                if tap < taps and first + lane < inner:
                    k, c = (first + lane, output) if transposed else (output, first + lane)
                    held[lane] = load(weight, (((group * filters + k) * channels + c) * taps_r + r) * taps_s + s)
                    if lanes(rows) == 4:
                        held[lane] = from_bits(round_tf32(bits(held[lane])))
            store_vector(rows, i * lanes(rows), held)

    names = weight_rows.__code__.co_varnames[2 : weight_rows.__code__.co_argcount]
    fields = dict(weight=source, rows=STORAGE, **dict.fromkeys(names, INT))
    return kernel(block=_THREADS, name=f"weight_rows_of_{source}", **fields)(weight_rows)


def _images(source: str) -> Kernel:
    def padded_images(x, copy, vectors, group_vectors, group_channels):
        held = cuda.local.array(8, types.float32)
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if i < vectors:
            line = quotient(i, group_vectors)  # (pixel, group)
            c = (i - line * group_vectors) * lanes(copy)
            if group_channels % lanes(copy) == 0:
                for lane in range(0, lanes(copy), lanes(x)):
                    load_vector(held[lane:], x, line * group_channels + c + lane)
            else:
                for lane in range(lanes(copy)):
                    held[lane] = ZERO
                    if c + lane < group_channels:
                        held[lane] = load(x, line * group_channels + c + lane)
            store_vector(copy, i * lanes(copy), held)

    fields = dict(x=source, copy=STORAGE, vectors=INT, group_vectors=INT, group_channels=INT)
    return kernel(block=_THREADS, name=f"padded_images_of_{source}", **fields)(padded_images)


_WEIGHTS = {source: _weights(source) for source in (STORAGE, F32)}
_IMAGES = {source: _images(source) for source in (STORAGE, F32)}


def weight_rows(weight: Array, groups: int, window: tuple[Axis, Axis], transposed: bool, dtype: Any) -> Array:
    """(G, outputs, reduction) of `dtype` from a contiguous weight (K, C/G, R, S) for the taps of this window."""
    (k, channels, taps_r, taps_s), (h, w), itemsize = weight.shape, window, np.dtype(dtype).itemsize
    filters = k // groups
    inner, outputs = (filters, channels) if transposed else (channels, filters)
    depth, row = h.taps * w.taps * padded(inner, itemsize), ROW // itemsize
    rows = empty((groups, outputs, blocks(depth, row) * row), dtype)
    vectors = rows.nbytes // 16
    _WEIGHTS[STORAGE if weight.dtype == rows.dtype else F32](
        blocks(vectors, _THREADS), weight, rows, vectors, rows.shape[2] * itemsize // 16, outputs, h.taps * w.taps,
        max(w.taps, 1), max(padded(inner, itemsize), 1), inner, taps_r, taps_s, h.first, h.every, w.first, w.every,
        filters, channels, int(transposed))
    return rows


def images(x: Array, groups: int, dtype: Any) -> Array:
    """Channels-last x (N, C, H, W) as `dtype`, with each group's channels padded to whole vectors."""
    n, channels, h, w = x.shape
    wide = padded(channels // groups, np.dtype(dtype).itemsize)
    if x.dtype == dtype and wide * groups == channels:
        return x
    copy = empty_image(n, groups * wide, h, w, dtype)
    vectors = copy.nbytes // 16
    _IMAGES[STORAGE if x.dtype == copy.dtype else F32](
        blocks(vectors, _THREADS), x, copy, vectors, wide * copy.itemsize // 16, channels // groups)
    return copy
