"""Convolution as a matrix product on tensor cores: mma.sync, ldmatrix, cp.async; compute capability 8.0 and newer.

    y[m, k] = act(scale[k] Σ_{u, v, c} x[pixel(m, u, v), c] · rows[k, (u, v, c)] + bias[k] + residual[m, k])

m = (n, i, j) as in `_window.py`, operands as `_operands.py` makes them, of float32 (multiplied as TF32; x is rounded to
the nearest here), float16 or bfloat16; sums are float32. The gradient to the input is the same product, other windows.

A block computes a tile of M × N for one group. A step takes 128 bytes of the reduction, 32 or 64 numbers: M rows of x,
gathered (`_gather.py`), and N rows of the weight. Copies to shared memory run STAGES - 1 steps ahead of the arithmetic,
16 bytes each, zeros where the window leaves the image:

    stage            row: 8 places of 16 bytes                    a step of the loop
    x    row 0       place of chunk c in row r: c XOR (r mod 8)   wait for stage s; barrier (all have left stage s - 1)
         …           row 0:  0 1 2 3 4 5 6 7                      begin the copies of step s + STAGES - 1, into s - 1
         row M - 1   row 1:  1 0 3 2 5 4 7 6                      4 times, for 32 bytes of the reduction:
    rows row 0       row 2:  2 3 0 1 6 7 4 5                         load the warp's rows, two operands by ldmatrix
         …           …                                               (M/16 or 4) × 4 products of 16 × 8
         row N - 1

so that eight rows of one chunk, which ldmatrix reads at once, lie in different banks, as do the eight chunks of a row,
which eight threads write. A warp computes 64 × 32 (32 × 32 in the tile of 64 × 64).

In the end the sums pass through shared memory, where the stages were, so that a residual is read and y written once, in
vectors of 16 bytes. A variant of the kernel leaves statistics of y as `_column_moments.py` tells: 12 N bytes a tile,
where batch norm would read its M × N numbers again.

Tile of 128 × 128: a step copies 32 KB for 2 · 128 · 128 · 32 = 1 M operations in TF32, 2 M in 16 bits: 32 and 64 for
each byte from the cache; 24 KB that each warp reads of shared memory serve 64 products. 3 stages are 96 KB. 128 × 64 is
for few outputs, 64 × 64 for few blocks.

Compute capability 7.5 has tensor cores for float16, but no asynchronous copies: there the next step's vectors wait in
registers while this one's are multiplied.
"""

from __future__ import annotations

import numpy as np

from ._column_moments import deviate, join, leave
from ._gather import GEOMETRY, advance, coordinates, geometry, hits, place, reach
from ._layout import Array, blocks
from ._math import INFINITY, ONE, ZERO, larger
from ._numba import cuda, types
from ._operands import ROW
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import as_stored, lanes, load, load_shared, load_vector, store, store_vector
from .ptx_mma import (
    commit_copies,
    copy_async,
    load_matrices,
    load_words,
    products,
    products_7_5,
    round_words_tf32,
    store_two,
    store_words,
    wait_copies,
)

ENOUGH_BLOCKS = 200  # below this many blocks, smaller tiles
WIDTH = ROW // 4  # words of a row of a stage
int32 = np.int32


def _tile(m: int, n: int, stages: int, blocks_per_sm: int, output: str = STORAGE, statistics: bool = False,
          **limits) -> Kernel:
    """`output` is the kind of y and of the residual; `statistics` of y go to counts, means and squares; limits as in
    `kernel`.
    """
    warp_m = min(64, m // 2)
    warps_down = m // warp_m
    threads = 32 * warps_down * (n // 32)
    down = threads // 8  # rows that all threads copy at once
    a_copies, b_copies, places_m, places_k = m // down, n // down, warp_m // 16, ROW // 32
    copies, a_words = a_copies + b_copies, 4 * places_m
    b_first, stage = m * WIDTH, (m + n) * WIDTH
    everything, between, in_flight = stages * stage, down * WIDTH, stages - 2
    pitch = n + 8  # floats of a row of sums: stores of two by a warp then meet each bank twice, which is the least
    is_async = limits["least"] >= (8, 0)
    multiply = products if is_async else products_7_5

    def mma_gemm(x, rows, y, scale, bias, residual, counts, means, squares, pixels, channels, group_channels, source_h,
                 source_w, grid_h, grid_w, taps_h, taps_w, step_h, step_w, start_h, start_w, move_h, move_w, by_u, by_v,
                 by_c, steps, outputs, group_outputs, out_h, out_w, height, width, pitch_h, pitch_w, has_scale,
                 has_bias, has_residual, rectify):
        shared = cuda.shared.array(0, types.uint32)
        tile = cuda.shared.array(0, types.float32)
        sums = cuda.local.array((places_m, 4, 4), types.float32)
        left, right = cuda.local.array((places_m, 4), types.uint32), cuda.local.array((4, 2), types.uint32)
        pixel, mask = cuda.local.array(a_copies, types.int32), cuda.local.array(a_copies, types.int32)
        line = cuda.local.array(b_copies, types.int32)
        held = cuda.local.array((copies, 4), types.uint32)
        thread, group = int32(cuda.threadIdx.x), int32(cuda.blockIdx.z)
        lane, warp = thread & 31, thread >> 5
        first_m, first_n = int32(cuda.blockIdx.x * m), int32(cuda.blockIdx.y * n)

        # What this thread copies: one chunk of several rows of both operands.
        row, chunk = thread >> 3, thread & 7
        to = int32(row * WIDTH + ((chunk ^ (row & 7)) << 2))
        for j in range(a_copies):
            pixel[j], mask[j] = 0, 0
            if first_m + row + j * down < pixels:
                image, h, w = coordinates(first_m + row + j * down, grid_h, grid_w)
                h, w = int32(h * step_h + start_h), int32(w * step_w + start_w)
                pixel[j] = (image * source_h + h) * source_w + w
                mask[j] = reach(h, w, taps_h, taps_w, move_h, move_w, source_h, source_w)
        for j in range(b_copies):  # beyond the last output its row is read again: those sums go nowhere
            line[j] = group * group_outputs + min(first_n + row + j * down, group_outputs - 1)
        depth = int32(chunk * lanes(x))
        u, v, c = place(depth, taps_w, group_channels)

        # What this thread reads: a row of each matrix of its warp.
        warp_first_m, warp_first_n = int32(warp % warps_down * warp_m), int32(warp // warps_down * 32)
        a_from = int32((warp_first_m + (lane & 15)) * WIDTH + (((lane >> 4) ^ (lane & 7)) << 2))
        b_from = int32((warp_first_n + (lane & 7) + ((lane >> 4) << 3)) * WIDTH + b_first
                       + ((((lane >> 3) & 1) ^ (lane & 7)) << 2))
        for i in range(places_m):
            for j in range(4):
                for word in range(4):
                    sums[i, j, word] = ZERO

        row_length = steps * (8 * lanes(x))
        reading, writing = int32(0), int32(0)
        for step in range(int32(1 - stages), steps):
            if is_async:
                wait_copies(in_flight)
            cuda.syncthreads()
            ahead = int32(step + (stages - 1)) < steps
            if ahead:
                shift = int32((u * move_h) * source_w + v * move_w)
                for j in range(a_copies):
                    at = int32(pixel[j] + shift) * np.int64(channels) + (group * group_channels + c)
                    if is_async:
                        copy_async(shared, int32(writing + to) + j * between, x, at, hits(mask[j], u, v) << 4)
                    else:
                        load_words(held, j * 4, x, at, hits(mask[j], u, v))
                for j in range(b_copies):
                    at = line[j] * np.int64(row_length) + depth
                    if is_async:
                        copy_async(shared, int32(writing + to) + (b_first + j * between), rows, at, 16)
                    else:
                        load_words(held, (a_copies + j) * 4, rows, at, 1)
                u, v, c = advance(u, v, c, by_u, by_v, by_c, taps_w, group_channels)
                depth = int32(depth + 8 * lanes(x))
            if is_async:
                commit_copies()
            if step >= 0:
                for k in range(places_k):
                    for i in range(places_m):
                        load_matrices(left, i * 4, shared, (int32(reading + a_from) ^ (k * 8)) + i * 16 * WIDTH)
                    for j in range(2):
                        load_matrices(right, j * 4, shared, (int32(reading + b_from) ^ (k * 8)) + j * 16 * WIDTH)
                    if lanes(x) == 4:
                        round_words_tf32(left, a_words)
                    multiply(sums, left, right, x)
                reading = int32(reading + stage)
                if reading == everything:
                    reading = int32(0)
            if ahead:
                if not is_async:
                    for j in range(copies):
                        store_words(shared, int32(writing + to) + j * between, held, j * 4)
                writing = int32(writing + stage)
                if writing == everything:
                    writing = int32(0)

        cuda.syncthreads()
        for i in range(places_m):
            for j in range(4):
                at = int32((warp_first_m + (lane >> 2)) * pitch + warp_first_n + ((lane & 3) << 1))
                store_two(tile, at + (i * 16 * pitch + j * 8), sums[i, j], 0)
                store_two(tile, at + ((i * 16 + 8) * pitch + j * 8), sums[i, j], 2)
        cuda.syncthreads()

        values, factors = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        summands, added = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        origin, held_rows = cuda.local.array(8, types.float32), int32(0)
        s, t = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        vector, across = lanes(y), n // lanes(y)
        lots, column = threads // across, thread % across * vector
        first, floor = first_n + column, ZERO if rectify else -INFINITY
        whole = group_outputs % vector == 0
        for lane_ in range(vector):
            inside = first + lane_ < group_outputs
            factors[lane_] = scale[group * group_outputs + first + lane_] if has_scale and inside else ONE
            summands[lane_] = bias[group * group_outputs + first + lane_] if has_bias and inside else ZERO
            added[lane_] = origin[lane_] = s[lane_] = t[lane_] = ZERO
        if first < group_outputs:
            for below in range(int32(thread // across), min(m, pixels - first_m), lots):
                image, h, w = coordinates(first_m + below, grid_h, grid_w)
                to_pixel = (image * height + out_h + h * pitch_h) * width + out_w + w * pitch_w
                at = to_pixel * np.int64(outputs) + group * group_outputs + first
                for lane_ in range(0, vector, 4):
                    load_shared(values, lane_, tile, below * pitch + column + lane_)
                if has_residual and whole:
                    load_vector(added, residual, at)
                for lane_ in range(vector):
                    if has_residual and not whole and first + lane_ < group_outputs:
                        added[lane_] = load(residual, at + lane_)
                    sum_ = values[lane_] * factors[lane_] + summands[lane_] + added[lane_]
                    values[lane_] = larger(sum_, floor)
                if statistics:
                    for lane_ in range(vector):
                        values[lane_] = as_stored(y, values[lane_])
                        origin[lane_] = origin[lane_] if held_rows else values[lane_]
                    for lane_ in range(0, vector, 4):
                        deviate(s, t, origin, values, lane_)
                    held_rows = int32(held_rows + 1)
                if whole:
                    store_vector(y, at, values)
                else:
                    for lane_ in range(vector):
                        if first + lane_ < group_outputs:
                            store(y, at + lane_, values[lane_])
        if statistics:
            for lane_ in range(0, vector, 4):
                leave(tile, m * pitch, lots, n, thread // across, column + lane_, origin, s, t, lane_, held_rows)
            cuda.syncthreads()
            if thread < n and first_n + thread < group_outputs:
                channel = group * group_outputs + first_n + thread
                join(tile, m * pitch, lots, n, thread, counts, means, squares, cuda.blockIdx.x * outputs + channel)

    pointers = dict(x=STORAGE, rows=STORAGE, y=output, scale=F32, bias=F32, residual=output, counts=F32, means=F32,
                    squares=F32)
    names = mma_gemm.__code__.co_varnames[len(pointers) : mma_gemm.__code__.co_argcount]
    assert names[: len(GEOMETRY)] == GEOMETRY
    name = f"mma_gemm_{m}_{n}" + "_to_float32" * (output == F32) + "_statistics" * statistics
    name += "_sm_75" * (not is_async)
    return kernel(block=threads, shared=4 * everything, blocks_per_sm=blocks_per_sm, name=name, **limits, **pointers,
                  **dict.fromkeys(names, INT))(mma_gemm)


_BLOCKS_PER_SM = {(128, 128, 3): 2, (128, 64, 3): 3, (64, 64, 4): 3}  # by tile: pixels, outputs, stages
_TILE_7_5 = 64, 64, 2
_ALL = "float32", "float16", "bfloat16"
_TILES = {
    (tile, *kind): _tile(*tile, blocks_per_sm, *kind, least=(8, 0), dtypes=dtypes)
    for tile, blocks_per_sm in _BLOCKS_PER_SM.items()
    for kind, dtypes in (((STORAGE, False), _ALL), ((F32, False), ("bfloat16",)), ((STORAGE, True), _ALL))
}
for _statistics in (False, True):  # 32 of 64 KB are a block's
    _TILES[_TILE_7_5, STORAGE, _statistics] = _tile(
        *_TILE_7_5, 2, STORAGE, _statistics, least=(7, 5), dtypes=("float16",))


def tiles(capability: tuple[int, int], x_shape: tuple, y_shape: tuple, groups: int,
          window: tuple[Axis, Axis]) -> list[tuple[int, ...]]:
    """The tiles that can fill these pixels of y, the one that is chosen without a measurement first."""
    if capability < (8, 0):
        return [_TILE_7_5]
    pixels, columns = x_shape[0] * window[0].count * window[1].count, y_shape[1] // groups
    m, n = 128, 128 if columns > 64 else 64
    if blocks(pixels, m) * blocks(columns, n) * groups < ENOUGH_BLOCKS:
        m, n = 64, 64
    return sorted(_BLOCKS_PER_SM, key=lambda tile: tile[:2] != (m, n))


def convolve(x: Array, rows: Array, y: Array, groups: int, window: tuple[Axis, Axis], scale: Array | None = None,
             bias: Array | None = None, rectify: bool = False, residual: Array | None = None,
             sets: tuple[Array, Array, Array] | None = None, *, tile: tuple[int, ...]) -> None:
    """Fill the pixels of y (x's dtype, or float32) that belong to this window.

    x is of `images`, rows of `weight_rows`, y and the residual are channels-last. The window `fits`. For a y of x's
    dtype, `sets` take counts, means and squared deviations of y: (rows of tiles, channels) float32 each.
    """
    (outputs, *size), (h, w), columns = y.shape[1:], window, y.shape[1] // groups
    numbers = geometry(x.shape, groups, window)
    pixels, inner, taps_w = numbers[0], numbers[2], numbers[8]
    by_tap, by_c = divmod(ROW // x.itemsize, inner)
    m, n, _ = tile
    _TILES[tile, STORAGE if x.dtype == y.dtype else F32, sets is not None](
        (blocks(pixels, m), blocks(columns, n), groups), x, rows, y, scale, bias, residual, *(sets or (None,) * 3),
        *numbers, *divmod(by_tap, taps_w), by_c, rows.shape[2] * x.itemsize // ROW, outputs, columns, h.out, w.out,
        *size, h.pitch, w.pitch, scale is not None, bias is not None, residual is not None, rectify)
