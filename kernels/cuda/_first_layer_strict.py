"""The convolution of images with up to four channels in strict float32, for any GPU; on tensor cores `_first_layer.py`.

    y[m, k] = act(scale[k] Σ_{u, v, c} x[pixel(m, u, v), c] · weight[k, c, u, v] + bias[k] + residual[m, k])

A block takes 64 outputs, whose weights it keeps in shared memory, [(u, v, c)][output], and goes over tiles of 128
pixels, reading the patch of each to shared memory (`_patch.py`). A thread sums 8 neighbours of a row of the tile × 8
outputs, along the runs of a window's numbers: for each number 8 words of the patch, which lie apart by the stride and
are the same for 8 lanes, two vectors of weights, and 64 multiply-adds.

    a warp         outputs →  0 … 3, 4 … 7, …, 28 … 31, and those 32 further: a line of 128 bytes for each pixel
    pixels ↓       8 neighbours
    …              four times

Roofline: 2 K C R S operations for each pixel, that take longer than its 4 K bytes from C R S = 50 on.
"""

from __future__ import annotations

import numpy as np

from ._ffma import outer
from ._first_layer import AT_ONCE, OUTPUTS, SUMS, leave_set, suits
from ._layout import Array, blocks
from ._math import INFINITY, ONE, ZERO, fma, larger
from ._memory import multiprocessors
from ._numba import cuda, types
from ._patch import PIXELS, REGISTERS, THREADS, TILING, bring, runs, tile_at, tiling
from ._patch import tiles as patch_tiles
from ._window import Axis
from .launch import F32, INT, Kernel, kernel
from .ptx import load_shared, load_vector, shuffle_xor, store_vector
from .ptx_mma import load_word, load_words, store_words

BLOCKS_PER_SM = 4
SHARED = 64 * 1024  # bytes that a block may have on every card
FAR = OUTPUTS // 2  # between a thread's two vectors of outputs
int32 = np.int32


def _kind(statistics: bool) -> Kernel:
    sums_words = SUMS if statistics else 0

    def first_layer_strict(x, matrix, y, scale, bias, residual, counts, means, squares, tiles, tiles_h, tiles_w, shift,
                           grid_h, grid_w, source_h, line, start_h, start_w, step_h, step_w, patch_h, patch_w, odd,
                           move_h, move_w, taps_h, a_row, length, depth, outputs, has_scale, has_bias, has_residual,
                           rectify):
        shared = cuda.shared.array(0, types.uint32)
        floats = cuda.shared.array(0, types.float32)
        sums = cuda.local.array((8, 8), types.float32)
        a, b = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        held, copied = cuda.local.array(REGISTERS, types.float32), cuda.local.array((AT_ONCE, 4), types.uint32)
        factors, summands = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        added = cuda.local.array(4, types.float32)
        s, t = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        thread, first_k = int32(cuda.threadIdx.x), int32(cuda.blockIdx.y * OUTPUTS)
        column, pixel = int32((thread & 7) << 2), int32((thread >> 3) << 3)
        origin = int32(OUTPUTS * depth)
        patch = int32(origin + sums_words)

        for vector in range(thread, depth * (OUTPUTS // 4), AT_ONCE * THREADS):
            for k in range(AT_ONCE):
                place, across = int32(vector + k * THREADS) >> 4, int32(first_k + ((vector & 15) << 2))
                load_words(copied, k * 4, matrix, place * np.int64(outputs) + across,
                           int32(place < depth and across < outputs))
            for k in range(AT_ONCE):
                if int32(vector + k * THREADS) >> 4 < depth:
                    store_words(shared, int32(vector + k * THREADS) << 2, copied, k * 4)
        for far in range(2):
            for k in range(4):
                at = int32(first_k + column + far * FAR + k)
                factors[far * 4 + k] = scale[at] if has_scale and at < outputs else ONE
                summands[far * 4 + k] = bias[at] if has_bias and at < outputs else ZERO
        i, j = pixel >> shift, pixel & int32((1 << shift) - 1)
        window = int32(patch + i * step_h * patch_w + j * step_w)
        floor = ZERO if rectify else -INFINITY

        for tile in range(int32(cuda.blockIdx.x), tiles, int32(cuda.gridDim.x)):
            image, first_i, first_j = tile_at(tile, tiles_h, tiles_w, shift)
            cuda.syncthreads()
            bring(shared, patch, held, x, x, 0, 1, 0, image, first_i, first_j, source_h, line, start_h, start_w, step_h,
                  step_w, patch_h, patch_w, odd)
            cuda.syncthreads()
            for p in range(8):
                for k in range(8):
                    sums[p, k] = ZERO
            weights = column
            for u in range(taps_h):
                for v in range(a_row):
                    at = int32(window + u * move_h * patch_w + v * move_w)
                    for _ in range(length):
                        for p in range(8):
                            a[p] = load_word(floats, int32(at + p * step_w), 0)
                        load_shared(b, 0, floats, weights)
                        load_shared(b, 4, floats, int32(weights + FAR))
                        outer(sums, a, b)
                        at, weights = int32(at + 1), int32(weights + OUTPUTS)

            there = int32(grid_w - first_j - j) if first_i + i < grid_h else int32(0)  # of the thread's pixels
            for p in range(8):
                if p < there:
                    to = ((image * grid_h + first_i + i) * np.int64(grid_w) + first_j + j + p) * outputs
                    to += first_k + column
                    for far in range(2):
                        if first_k + column + far * FAR < outputs:
                            for k in range(4):
                                added[k] = ZERO
                            if has_residual:
                                load_vector(added, residual, to + far * FAR)
                            for k in range(4):
                                value = sums[p, far * 4 + k] * factors[far * 4 + k] + summands[far * 4 + k] + added[k]
                                added[k] = larger(value, floor)
                                if statistics:
                                    sums[p, far * 4 + k] = added[k]
                            store_vector(y, to + far * FAR, added)

            if statistics:
                if pixel == 0:
                    for k in range(8):
                        floats[origin + column + (k >> 2) * FAR + (k & 3)] = sums[0, k]
                cuda.syncthreads()
                for k in range(8):
                    s[k], t[k], o = ZERO, ZERO, floats[origin + column + (k >> 2) * FAR + (k & 3)]
                    for p in range(8):
                        by = sums[p, k] - o if p < there else ZERO
                        s[k], t[k] = s[k] + by, fma(by, by, t[k])
                for k in range(8):
                    for turn in range(2):
                        s[k] += shuffle_xor(s[k], 8 << turn)
                        t[k] += shuffle_xor(t[k], 8 << turn)
                if thread & 24 == 0:
                    at = int32(origin + column + OUTPUTS * (thread >> 5))
                    for k in range(8):
                        floats[at + OUTPUTS + (k >> 2) * FAR + (k & 3)] = s[k]
                        floats[at + 5 * OUTPUTS + (k >> 2) * FAR + (k & 3)] = t[k]
                cuda.syncthreads()
                if thread < OUTPUTS and first_k + thread < outputs:
                    n = np.float32(min(grid_h - first_i, PIXELS >> shift) * min(grid_w - first_j, 1 << shift))
                    at = tile * np.int64(outputs) + first_k + thread
                    leave_set(counts, means, squares, at, floats, origin + thread, n)

    pointers = dict.fromkeys(first_layer_strict.__code__.co_varnames[:9], F32)
    names = first_layer_strict.__code__.co_varnames[9 : first_layer_strict.__code__.co_argcount]
    assert names[: len(TILING)] == TILING
    return kernel(block=THREADS, shared=SHARED, blocks_per_sm=3 if statistics else BLOCKS_PER_SM,
                  name="first_layer_strict" + "_statistics" * statistics, **pointers,
                  **dict.fromkeys(names, INT))(first_layer_strict)


_KINDS = {statistics: _kind(statistics) for statistics in (False, True)}


def tiles(x_dtype: np.dtype, x_shape: tuple, y_shape: tuple, groups: int,
          window: tuple[Axis, Axis]) -> list[tuple[int, int]]:
    """The tiles (rows, columns) of y that can be used, maybe none; the one chosen without a measurement is first."""
    if x_dtype != np.float32 or not suits(x_shape, y_shape[1], groups, window) or y_shape[1] % 4:
        return []
    return [tile for tile in patch_tiles(x_shape, window) if _shared(x_shape, window, tile) <= SHARED]


def _shared(x_shape: tuple, window: tuple[Axis, Axis], tile: tuple[int, int], statistics: bool = True) -> int:
    """Bytes of a block: the weights, what statistics need, the patch."""
    depth = x_shape[1] * window[0].taps * window[1].taps
    return 4 * (OUTPUTS * depth + statistics * SUMS + tiling(tile, x_shape, window).words)


def convolve(x: Array, matrix: Array, y: Array, groups: int, window: tuple[Axis, Axis], scale: Array | None = None,
             bias: Array | None = None, rectify: bool = False, residual: Array | None = None,
             sets: tuple[Array, Array, Array] | None = None, *, tile: tuple[int, int]) -> None:
    """Fill y, and `sets` as `_first_layer.py` does; x, y, residual channels-last, matrix from `_pack.py`: float32."""
    (_, channels, *_), (h, w), places, statistics = x.shape, window, tiling(tile, x.shape, window), sets is not None
    _, a_row, length = runs(channels, window)
    _KINDS[statistics](
        (min(places.tiles, multiprocessors() * BLOCKS_PER_SM), blocks(y.shape[1], OUTPUTS)), x, matrix, y, scale, bias,
        residual, *(sets or (None, None, None)), *places, h.move, w.move * channels, h.taps, a_row, length,
        matrix.shape[1], y.shape[1], scale is not None, bias is not None, residual is not None, rectify,
        shared=_shared(x.shape, window, tile, statistics))
