"""Convolution as a matrix product whose left side is never written down, in strict float32, for any GPU.

    y[m, k] = Σ_{u, v, c} x[pixel(m, u, v), c] · matrix[(u, v, c), k]        m = (n, i, j), see `_window.py`

A block computes a tile of M pixels × N outputs for one group. Its left tile is gathered: each thread follows a few
pixels and one place in the reduction, (u, v, c), which moves on by DEPTH channels a step; what lies outside the image
is zero. 16 bytes are read at a time where channels and outputs come in whole vectors, single elements otherwise.

A tile of 128 × 128 reads (128 + 128) · 4 bytes for each of its 2 · 128 · 128 operations a depth: 32 operations a byte
of the cache, so the units for float32 arithmetic are the limit. Tiles of 64 × 64 serve where large ones are too few to
fill the card.

Source: Chetlur et al. (2014), cuDNN: Efficient Primitives for Deep Learning, arXiv:1410.0759.
"""

from __future__ import annotations

import numpy as np

from ._ffma import DEPTH, FAR, SKEW, THREADS, multiply, place_x, place_y
from ._layout import Array
from ._math import INFINITY, ONE, ZERO, larger
from ._numba import cuda, types
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import lanes, load, load_vector, quotient, store, store_shared, store_vector

OUTSIDE = -(1 << 29)  # a coordinate that no tap brings back into the image
ENOUGH_BLOCKS = 256  # below this many blocks, smaller tiles
Tile = tuple[int, int]


def _tile(m: int, n: int, vectors: bool) -> Kernel:
    pitch = m + SKEW
    rows, columns = m // 16, n // 16  # sums of a thread
    a_most, b_most = m * DEPTH // THREADS, n * DEPTH // THREADS  # loads of a thread, if single elements
    a_half, b_half = DEPTH * pitch, DEPTH * n
    a_size, b_size = 2 * a_half, 2 * b_half

    def implicit_gemm(x, matrix, y, scale, bias, pixels, channels, group_channels, source_h, source_w, grid_h, grid_w,
                      taps_h, taps_w, step_h, step_w, start_h, start_w, move_h, move_w, outputs, group_outputs, out_h,
                      out_w, height, width, pitch_h, pitch_w, has_scale, has_bias, rectify):
        a_tile = cuda.shared.array(a_size, types.float32)
        b_tile = cuda.shared.array(b_size, types.float32)
        sums = cuda.local.array((rows, columns), types.float32)
        a, b = cuda.local.array(rows, types.float32), cuda.local.array(columns, types.float32)
        a_next = cuda.local.array((a_most, 8), types.float32)
        b_next = cuda.local.array((b_most, 8), types.float32)
        row_n = cuda.local.array(a_most, types.int32)
        row_h = cuda.local.array(a_most, types.int32)
        row_w = cuda.local.array(a_most, types.int32)
        thread, group = cuda.threadIdx.x, cuda.blockIdx.z
        first_m, first_n = cuda.blockIdx.x * m, cuda.blockIdx.y * n
        vector = lanes(x) if vectors else 1
        depth_vectors, b_vectors = DEPTH // vector, n // vector
        a_loads, b_loads = -(-m * depth_vectors // THREADS), -(-b_vectors * DEPTH // THREADS)
        a_row, a_depth = thread // depth_vectors, thread % depth_vectors * vector
        b_row, b_column = thread // b_vectors, thread % b_vectors * vector
        a_stride, b_stride = THREADS // depth_vectors, THREADS // b_vectors

        for i in range(rows):
            for j in range(columns):
                sums[i, j] = ZERO
        for load_ in range(a_loads):
            row = first_m + a_row + load_ * a_stride
            row_n[load_], row_h[load_], row_w[load_] = 0, OUTSIDE, OUTSIDE
            if row < pixels and a_row + load_ * a_stride < m:
                line = quotient(row, grid_w)
                image = quotient(line, grid_h)
                row_n[load_] = image * source_h
                row_h[load_] = (line - image * grid_h) * step_h + start_h
                row_w[load_] = (row - line * grid_w) * step_w + start_w

        reduction = taps_h * taps_w * group_channels
        steps = (reduction + DEPTH - 1) // DEPTH
        # The thread's place (u, v, c) in the reduction; its columns of the left tile share it.
        tap = quotient(a_depth, group_channels)
        c = a_depth - tap * group_channels
        u = quotient(tap, taps_w)
        v = tap - u * taps_w
        for step in range(-1, steps):
            if step + 1 < steps:
                for load_ in range(a_loads):
                    for lane in range(vector):
                        a_next[load_, lane] = ZERO
                    h, w = row_h[load_] + u * move_h, row_w[load_] + v * move_w
                    if u < taps_h and h >= 0 and h < source_h and w >= 0 and w < source_w:
                        pixel = np.uint32((row_n[load_] + h) * source_w + w)
                        at = np.int64(pixel) * channels + np.int32(group * group_channels + c)
                        if vectors:
                            load_vector(a_next[load_], x, at)
                        else:
                            a_next[load_, 0] = load(x, at)
                for load_ in range(b_loads):
                    for lane in range(vector):
                        b_next[load_, lane] = ZERO
                    row = (step + 1) * DEPTH + b_row + load_ * b_stride
                    if row < reduction and first_n + b_column < group_outputs and b_row + load_ * b_stride < DEPTH:
                        at = (group * reduction + row) * group_outputs + first_n + b_column
                        if vectors:
                            load_vector(b_next[load_], matrix, at)
                        else:
                            b_next[load_, 0] = load(matrix, at)
                c += DEPTH
                while c >= group_channels:
                    c -= group_channels
                    v += 1
                    if v == taps_w:
                        v = 0
                        u += 1
            half = step & 1
            if step >= 0:
                multiply(sums, a, b, a_tile, half * a_half, pitch, b_tile, half * b_half, n)
            if step + 1 < steps:
                other = 1 - half
                for load_ in range(a_loads):
                    if a_row + load_ * a_stride < m:
                        for lane in range(vector):
                            at = (other * DEPTH + a_depth + lane) * pitch + a_row + load_ * a_stride
                            a_tile[at] = a_next[load_, lane]
                for load_ in range(b_loads):
                    if b_row + load_ * b_stride < DEPTH:
                        at = (other * DEPTH + b_row + load_ * b_stride) * n + b_column
                        if vectors:
                            for lane in range(0, vector, 4):
                                store_shared(b_tile, at + lane, b_next[load_], lane)
                        else:
                            b_tile[at] = b_next[load_, 0]
            cuda.syncthreads()

        floor = ZERO if rectify else -INFINITY
        for j in range(columns):
            column = first_n + 4 * place_x() + j % 4 + j // 4 * FAR
            inside = column < group_outputs
            factor = scale[group * group_outputs + column] if has_scale and inside else ONE
            summand = bias[group * group_outputs + column] if has_bias and inside else ZERO
            for i in range(rows):
                sums[i, j] = larger(sums[i, j] * factor + summand, floor)
        for far in range(0, rows, 4):
            for i in range(4):
                row = first_m + 4 * place_y() + far * (FAR // 4) + i
                if row < pixels:
                    line = quotient(row, grid_w)
                    image = quotient(line, grid_h)
                    h = out_h + (line - image * grid_h) * pitch_h
                    w = out_w + (row - line * grid_w) * pitch_w
                    to = ((image * height + h) * width + w) * outputs + group * group_outputs
                    for j in range(0, columns, 4):
                        column = first_n + 4 * place_x() + j * (FAR // 4)
                        if vectors and lanes(y) == 4:
                            if column < group_outputs:
                                store_vector(y, to + column, sums[far + i, j:])
                        else:
                            for lane in range(4):
                                if column + lane < group_outputs:
                                    store(y, to + column + lane, sums[far + i, j + lane])

    name = f"implicit_gemm_{m}_{'vectors' if vectors else 'elements'}"
    pointers = dict(x=STORAGE, matrix=STORAGE, y=STORAGE, scale=F32, bias=F32)
    names = implicit_gemm.__code__.co_varnames[len(pointers) : implicit_gemm.__code__.co_argcount]
    return kernel(block=THREADS, blocks_per_sm=2, name=name, **pointers, **dict.fromkeys(names, INT))(implicit_gemm)


_TILES = {(m, vectors): _tile(m, m, vectors) for m, vectors in ((128, True), (64, True), (64, False))}


def tiles(itemsize: int, x_shape: tuple, y_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> list[Tile]:
    """The tiles that can fill these pixels of y, the one that is chosen without a measurement first."""
    pixels, columns = x_shape[0] * window[0].count * window[1].count, y_shape[1] // groups
    if not _in_vectors(itemsize, x_shape, y_shape, groups):
        return [(64, 64)]
    small = columns <= 64 or -(-pixels // 128) * -(-columns // 128) * groups < ENOUGH_BLOCKS
    return [(64, 64), (128, 128)] if small else [(128, 128), (64, 64)]


def _in_vectors(itemsize: int, x_shape: tuple, y_shape: tuple, groups: int) -> bool:
    return x_shape[1] // groups * itemsize % 16 == y_shape[1] // groups * itemsize % 16 == 0


def convolve(x: Array, matrix: Array, y: Array, groups: int, window: tuple[Axis, Axis], scale: Array | None = None,
             bias: Array | None = None, rectify: bool = False, *, tile: Tile) -> None:
    """Fill the pixels of y that belong to this window; x, y channels-last, matrix from `_pack.py`."""
    (images, channels, *source), (outputs, *size), (h, w) = x.shape, y.shape[1:], window
    pixels, inner, columns = images * h.count * w.count, channels // groups, outputs // groups
    taps = (h.taps, w.taps) if h.taps and w.taps else (0, 1)  # no tap reaches these pixels: zeros
    if images * source[0] * source[1] >= 2**32:
        raise OverflowError(f"a convolution of {images} x {source[0]} x {source[1]} pixels: expected less than 2**32")
    m, n = tile
    _TILES[m, _in_vectors(x.itemsize, x.shape, y.shape, groups)](
        (-(-pixels // m), -(-columns // n), groups), x, matrix, y, scale, bias, pixels, channels, inner, *source,
        h.count, w.count, *taps, h.step, w.step, h.start, w.start, h.move, w.move, outputs, columns, h.out, w.out,
        *size, h.pitch, w.pitch, scale is not None, bias is not None, rectify)
