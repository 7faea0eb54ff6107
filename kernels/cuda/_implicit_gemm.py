"""Convolution as a matrix product whose left side is never written down, in strict float32, for any GPU.

    y[m, k] = act(scale[k] Σ_{u, v, c} x[pixel(m, u, v), c] · matrix[(u, v, c), k] + bias[k] + residual[m, k])

m = (n, i, j) as in `_window.py`. A block computes a tile of M pixels × N outputs for one group. Its left tile is
gathered: each thread follows a few pixels and one place in the reduction, (u, v, c), which moves on by DEPTH channels a
step; what lies outside the image is zero. There are no masks of taps as in `_gather.py`: the window may be of any size.
16 bytes are read at a time where channels and outputs come in whole vectors, single elements otherwise.

In the end a residual is read and y written once, straight to and from registers: 16 bytes at a time in float32, whose
threads of a row cover 128 bytes. A variant of the kernel leaves statistics of y as `_column_moments.py` tells: 12 N
bytes for a tile, where batch norm would read its M × N numbers again.

A tile of 128 × 128 reads (128 + 128) · 4 bytes for each of its 2 · 128 · 128 operations a depth: 32 operations a byte
of the cache, so the units for float32 arithmetic are the limit. Tiles of 64 × 64 serve where large ones are too few to
fill the card.

Source: Chetlur et al. (2014), cuDNN: Efficient Primitives for Deep Learning, arXiv:1410.0759.
"""

from __future__ import annotations

import numpy as np

from ._column_moments import deviate, join, leave
from ._ffma import DEPTH, FAR, SKEW, THREADS, multiply, place_x, place_y
from ._gather import GEOMETRY, advance, coordinates, geometry, place
from ._layout import Array, blocks
from ._math import INFINITY, ONE, ZERO, larger
from ._numba import cuda, device, types
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import as_stored, lanes, load, load_vector, store, store_shared, store_vector

OUTSIDE = -(1 << 29)  # a coordinate that no tap brings back into the image
ENOUGH_BLOCKS = 256  # below this many blocks, smaller tiles
int32, uint32 = np.int32, np.uint32
Tile = tuple[int, int]


@device
def _product(a, b):
    """a b of non-negative 32-bit integers, in 64 bits."""
    return np.int64(uint32(a)) * np.int64(uint32(b))


def _tile(m: int, n: int, vectors: bool, statistics: bool, **dtypes) -> Kernel:
    pitch = m + SKEW
    rows, columns = m // 16, n // 16  # sums of a thread
    a_most, b_most = m * DEPTH // THREADS, n * DEPTH // THREADS  # loads of a thread, if single elements
    a_half, b_half = DEPTH * pitch, DEPTH * n
    b_first, size = 2 * a_half, 2 * (a_half + b_half)

    def implicit_gemm(x, matrix, y, scale, bias, residual, counts, means, squares, pixels, channels, group_channels,
                      source_h, source_w, grid_h, grid_w, taps_h, taps_w, step_h, step_w, start_h, start_w, move_h,
                      move_w, by_u, by_v, by_c, outputs, group_outputs, out_h, out_w, height, width, pitch_h, pitch_w,
                      has_scale, has_bias, has_residual, rectify):
        shared = cuda.shared.array(size, types.float32)
        sums = cuda.local.array((rows, columns), types.float32)
        a, b = cuda.local.array(rows, types.float32), cuda.local.array(columns, types.float32)
        a_next = cuda.local.array((a_most, 8), types.float32)
        b_next = cuda.local.array((b_most, 8), types.float32)
        added = cuda.local.array(8, types.float32)
        row_n = cuda.local.array(a_most, types.int32)
        row_h = cuda.local.array(a_most, types.int32)
        row_w = cuda.local.array(a_most, types.int32)
        thread, group = int32(cuda.threadIdx.x), int32(cuda.blockIdx.z)
        first_m, first_n = int32(cuda.blockIdx.x * m), int32(cuda.blockIdx.y * n)
        vector = lanes(x) if vectors else 1
        depth_vectors, b_vectors = DEPTH // vector, n // vector
        a_loads, b_loads = -(-m * depth_vectors // THREADS), -(-b_vectors * DEPTH // THREADS)
        a_row, a_depth = int32(thread // depth_vectors), int32(thread % depth_vectors * vector)
        b_row, b_column = int32(thread // b_vectors), int32(thread % b_vectors * vector)
        a_stride, b_stride = THREADS // depth_vectors, THREADS // b_vectors
        # Whether all threads have something to load: not so in 16 bits.
        a_all, b_all = m * depth_vectors % THREADS == 0, DEPTH * b_vectors % THREADS == 0

        for i in range(rows):
            for j in range(columns):
                sums[i, j] = ZERO
        for load_ in range(a_loads):
            row = first_m + a_row + load_ * a_stride
            row_n[load_], row_h[load_], row_w[load_] = 0, OUTSIDE, OUTSIDE
            if row < pixels and (a_all or a_row + load_ * a_stride < m):
                image, h, w = coordinates(row, grid_h, grid_w)
                row_n[load_], row_h[load_], row_w[load_] = image * source_h, h * step_h + start_h, w * step_w + start_w

        reduction, b_inside = int32(taps_h * taps_w * group_channels), int32(first_n + b_column) < group_outputs
        # The thread's place in the reduction; its columns of the left tile share it.
        u, v, c = place(a_depth, taps_w, group_channels)
        half = int32(1)
        for first in range(int32(-DEPTH), reduction, int32(DEPTH)):
            begin = int32(first + DEPTH)
            if begin < reduction:
                for load_ in range(a_loads):
                    for lane in range(vector):
                        a_next[load_, lane] = ZERO
                    h, w = int32(row_h[load_] + u * move_h), int32(row_w[load_] + v * move_w)
                    if u < taps_h and uint32(h) < uint32(source_h) and uint32(w) < uint32(source_w):
                        pixel = uint32((row_n[load_] + h) * source_w + w)
                        at = _product(pixel, channels) + uint32(group * group_channels + c)
                        if vectors:
                            load_vector(a_next[load_], x, at)
                        else:
                            a_next[load_, 0] = load(x, at)
                for load_ in range(b_loads):
                    for lane in range(vector):
                        b_next[load_, lane] = ZERO
                    row = int32(begin + b_row + load_ * b_stride)
                    if row < reduction and b_inside and (b_all or b_row + load_ * b_stride < DEPTH):
                        at = _product(group * reduction + row, group_outputs) + uint32(first_n + b_column)
                        if vectors:
                            load_vector(b_next[load_], matrix, at)
                        else:
                            b_next[load_, 0] = load(matrix, at)
                u, v, c = advance(u, v, c, by_u, by_v, by_c, taps_w, group_channels)
            if first >= 0:
                multiply(sums, a, b, shared, int32(half * a_half), pitch, shared, int32(half * b_half + b_first), n)
            half = int32(half ^ 1)
            if begin < reduction:
                for load_ in range(a_loads):
                    if a_all or a_row + load_ * a_stride < m:
                        for lane in range(vector):
                            to = int32(half * a_half + (a_depth + lane) * pitch + a_row)
                            shared[uint32(to + load_ * a_stride)] = a_next[load_, lane]
                for load_ in range(b_loads):
                    if b_all or b_row + load_ * b_stride < DEPTH:
                        to = int32(half * b_half + b_row * n + b_column) + (b_first + load_ * b_stride * n)
                        if vectors:
                            for lane in range(0, vector, 4):
                                store_shared(shared, to + lane, b_next[load_], lane)
                        else:
                            shared[uint32(to)] = b_next[load_, 0]
            cuda.syncthreads()

        for j in range(columns):
            column = first_n + 4 * place_x() + j % 4 + j // 4 * FAR
            inside = column < group_outputs
            factor = scale[group * group_outputs + column] if has_scale and inside else ONE
            summand = bias[group * group_outputs + column] if has_bias and inside else ZERO
            for i in range(rows):
                sums[i, j] = sums[i, j] * factor + summand
        floor = ZERO if rectify else -INFINITY
        for far in range(0, rows, 4):
            for i in range(4):
                row = int32(first_m + 4 * place_y() + far * (FAR // 4) + i)
                if row < pixels:
                    image, h, w = coordinates(row, grid_h, grid_w)
                    to_pixel = (image * height + out_h + h * pitch_h) * width + out_w + w * pitch_w
                    to = to_pixel * np.int64(outputs) + group * group_outputs
                    for j in range(0, columns, 4):
                        column = int32(first_n + 4 * place_x() + j * (FAR // 4))
                        if vectors and lanes(y) == 4:
                            if column < group_outputs:
                                for lane in range(4):
                                    added[lane] = ZERO
                                if has_residual:
                                    load_vector(added, residual, to + column)
                                for lane in range(4):
                                    value = larger(sums[far + i, j + lane] + added[lane], floor)
                                    sums[far + i, j + lane] = added[lane] = value
                                store_vector(y, to + column, added)
                        else:
                            for lane in range(4):
                                if column + lane < group_outputs:
                                    at = to + column + lane
                                    summand = load(residual, at) if has_residual else ZERO
                                    value = larger(sums[far + i, j + lane] + summand, floor)
                                    store(y, at, value)
                                    sums[far + i, j + lane] = as_stored(y, value)

        if statistics:
            s, t = cuda.local.array(4, types.float32), cuda.local.array(4, types.float32)
            for j in range(0, columns, 4):
                for lane in range(4):
                    s[lane] = t[lane] = ZERO
                held_rows = int32(0)
                for far in range(0, rows, 4):
                    for i in range(4):
                        if first_m + 4 * place_y() + far * (FAR // 4) + i < pixels:
                            deviate(s, t, sums[0, j:], sums[far + i, j:], 0)
                            held_rows = int32(held_rows + 1)
                leave(shared, 0, 16, n, place_y(), 4 * place_x() + j * (FAR // 4), sums[0, j:], s, t, 0, held_rows)
            cuda.syncthreads()
            if thread < n and first_n + thread < group_outputs:
                channel = group * group_outputs + first_n + thread
                join(shared, 0, 16, n, thread, counts, means, squares, cuda.blockIdx.x * outputs + channel)

    name = f"implicit_gemm_{m}_{'vectors' if vectors else 'elements'}" + "_statistics" * statistics
    pointers = dict(x=STORAGE, matrix=STORAGE, y=STORAGE, scale=F32, bias=F32, residual=STORAGE, counts=F32,
                    means=F32, squares=F32)
    names = implicit_gemm.__code__.co_varnames[len(pointers) : implicit_gemm.__code__.co_argcount]
    assert names[: len(GEOMETRY)] == GEOMETRY
    return kernel(block=THREADS, blocks_per_sm=2, name=name, **dtypes, **pointers,
                  **dict.fromkeys(names, INT))(implicit_gemm)


_TILES = {
    (*tile, statistics): _tile(*tile, statistics, dtypes=dtypes)
    for tile, dtypes in (
        ((128, 128, True), ("float32",)),  # 16 bits have tensor cores
        ((64, 64, True), ("float32", "float16", "bfloat16")),
        ((64, 64, False), ("float32", "float16", "bfloat16")),
    )
    for statistics in (False, True)
}


def tiles(itemsize: int, x_shape: tuple, y_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> list[Tile]:
    """The tiles that can fill these pixels of y, the one that is chosen without a measurement first."""
    pixels, columns = x_shape[0] * window[0].count * window[1].count, y_shape[1] // groups
    if itemsize < 4 or not _in_vectors(itemsize, x_shape, y_shape, groups):
        return [(64, 64)]
    small = columns <= 64 or blocks(pixels, 128) * blocks(columns, 128) * groups < ENOUGH_BLOCKS
    return [(64, 64), (128, 128)] if small else [(128, 128), (64, 64)]


def _in_vectors(itemsize: int, x_shape: tuple, y_shape: tuple, groups: int) -> bool:
    return x_shape[1] // groups * itemsize % 16 == y_shape[1] // groups * itemsize % 16 == 0


def convolve(x: Array, matrix: Array, y: Array, groups: int, window: tuple[Axis, Axis], scale: Array | None = None,
             bias: Array | None = None, rectify: bool = False, residual: Array | None = None,
             sets: tuple[Array, Array, Array] | None = None, *, tile: Tile) -> None:
    """Fill the pixels of y that belong to this window; x, y and the residual channels-last, matrix from `_pack.py`.

    `sets` take counts, means and squared deviations of y: (rows of tiles, channels) float32 each.
    """
    (outputs, *size), (h, w), columns = y.shape[1:], window, y.shape[1] // groups
    if len(x) * x.shape[2] * x.shape[3] >= 2**32:
        raise OverflowError(f"a convolution of {len(x)} x {x.shape[2]} x {x.shape[3]} pixels: expected less than 2**32")
    numbers = geometry(x.shape, groups, window)
    pixels, inner, taps_w = numbers[0], numbers[2], numbers[8]
    by_tap, by_c = divmod(DEPTH, inner)
    m, n = tile
    _TILES[m, n, _in_vectors(x.itemsize, x.shape, y.shape, groups), sets is not None](
        (blocks(pixels, m), blocks(columns, n), groups), x, matrix, y, scale, bias, residual, *(sets or (None,) * 3),
        *numbers, *divmod(by_tap, taps_w), by_c, outputs, columns, h.out, w.out, *size, h.pitch, w.pitch,
        scale is not None, bias is not None, residual is not None, rectify)
