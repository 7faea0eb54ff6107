"""The gradient to the weight of a convolution of images with up to four channels, in strict float32, for any GPU.

    dweight[k, (u, v, c)] = Σ_m dy[m, k] · x[pixel(m, u, v), c]        m = (n, i, j)

A block takes 64 outputs k and all places (u, v, c) of a window, up to 160 (or 32, for 3 × 3 of 3 channels), and goes
over tiles of 128 pixels (`_patch.py`): their dy to shared memory, [pixel][output], and their patch of x. A thread sums
8 outputs × 10 (or 2) places: for each pixel two vectors of dy, a line of 128 bytes each for a warp, 10 words of the
patch, which lie at the window's first number plus an offset of the place, and 80 multiply-adds. Each block's sums go to
a workspace, that is added up in order.

Roofline: 2 K C R S operations for each pixel, that take longer than reading its 4 K bytes from C R S = 50 on.
"""

from __future__ import annotations

import numpy as np

from ._ffma import outer
from ._first_layer import AT_ONCE, OUTPUTS, suits
from ._first_layer_strict import FAR, SHARED
from ._first_layer_wgrad import PARTS
from ._layout import Array, blocks
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from ._patch import PIXELS, REGISTERS, THREADS, TILING, bring, tile_at, tiling
from ._patch import tiles as patch_tiles
from ._wgrad import add_parts
from ._window import Axis
from .launch import F32, INT, Kernel, kernel
from .ptx import load_shared, quotient
from .ptx_mma import load_word, load_words, store_words

GROUPS = THREADS // 8  # of places, neighbours of which are beside each other
DY = PIXELS * OUTPUTS  # words of dy
int32 = np.int32


def _tile(columns: int) -> Kernel:
    """`columns` are the places of a thread."""

    def first_wgrad_strict(dy, x, partial, tiles, tiles_h, tiles_w, shift, grid_h, grid_w, source_h, line, start_h,
                           start_w, step_h, step_w, patch_h, patch_w, odd, move_h, move_w, taps_w, channels, places,
                           outputs):
        shared = cuda.shared.array(0, types.uint32)
        floats = cuda.shared.array(0, types.float32)
        sums = cuda.local.array((8, columns), types.float32)
        a, b = cuda.local.array(8, types.float32), cuda.local.array(columns, types.float32)
        held, copied = cuda.local.array(REGISTERS, types.float32), cuda.local.array((AT_ONCE, 4), types.uint32)
        offset = cuda.local.array(columns, types.int32)
        thread, first_k = int32(cuda.threadIdx.x), int32(cuda.blockIdx.y * OUTPUTS)
        first_place, column = int32(cuda.blockIdx.z * (columns * GROUPS) + (thread >> 3)), int32((thread & 7) << 2)
        for n in range(columns):
            place = int32(first_place + n * GROUPS)
            tap = quotient(place, channels)
            u = quotient(tap, taps_w)
            at = int32(u * move_h * patch_w + (tap - u * taps_w) * move_w + place - tap * channels)
            offset[n] = int32(DY + at) if place < places else int32(DY)
            for k in range(8):
                sums[k, n] = ZERO

        for tile in range(int32(cuda.blockIdx.x), tiles, int32(cuda.gridDim.x)):
            image, first_i, first_j = tile_at(tile, tiles_h, tiles_w, shift)
            cuda.syncthreads()
            for vector in range(thread, PIXELS * OUTPUTS // 4, AT_ONCE * THREADS):
                for k in range(AT_ONCE):
                    pixel, across = int32(vector + k * THREADS) >> 4, int32(first_k + ((vector & 15) << 2))
                    h, w = int32(first_i + (pixel >> shift)), int32(first_j + (pixel & int32((1 << shift) - 1)))
                    at = ((image * grid_h + h) * np.int64(grid_w) + w) * outputs + across
                    load_words(copied, k * 4, dy, at, int32(h < grid_h and w < grid_w and across < outputs))
                for k in range(AT_ONCE):
                    store_words(shared, int32(vector + k * THREADS) << 2, copied, k * 4)
            bring(shared, int32(DY), held, x, x, 0, 1, 0, image, first_i, first_j, source_h, line, start_h, start_w,
                  step_h, step_w, patch_h, patch_w, odd)
            cuda.syncthreads()
            for i in range(min(grid_h - first_i, PIXELS >> shift)):
                window, from_ = int32(i * step_h * patch_w), int32((i << shift) * OUTPUTS + column)
                for _ in range(min(grid_w - first_j, 1 << shift)):
                    load_shared(a, 0, floats, from_)
                    load_shared(a, 4, floats, int32(from_ + FAR))
                    for n in range(columns):
                        b[n] = load_word(floats, int32(window + offset[n]), 0)
                    outer(sums, a, b)
                    window, from_ = int32(window + step_w), int32(from_ + OUTPUTS)

        for k in range(8):
            output = int32(first_k + column + (k >> 2) * FAR + (k & 3))
            for n in range(columns):
                place = int32(first_place + n * GROUPS)
                if output < outputs and place < places:
                    partial[(cuda.blockIdx.x * np.int64(outputs) + output) * places + place] = sums[k, n]

    pointers = dict(dy=F32, x=F32, partial=F32)
    names = first_wgrad_strict.__code__.co_varnames[len(pointers) : first_wgrad_strict.__code__.co_argcount]
    assert names[: len(TILING)] == TILING
    return kernel(block=THREADS, shared=SHARED, blocks_per_sm=3, name=f"first_wgrad_strict_{columns * GROUPS}",
                  **pointers, **dict.fromkeys(names, INT))(first_wgrad_strict)


_TILES = {columns * GROUPS: _tile(columns) for columns in (2, 10)}  # by places


def tiles(x_dtype: np.dtype, x_shape: tuple, weight_shape: tuple, groups: int,
          window: tuple[Axis, Axis]) -> list[tuple[int, int]]:
    """The tiles (rows, columns) of dy that can be used, maybe none; the one chosen without a measurement is first."""
    if x_dtype != np.float32 or weight_shape[0] % 4 or not suits(x_shape, weight_shape[0], groups, window):
        return []
    return [tile for tile in patch_tiles(x_shape, window) if _shared(x_shape, window, tile) <= SHARED]


def _shared(x_shape: tuple, window: tuple[Axis, Axis], tile: tuple[int, int]) -> int:
    """Bytes of a block: a tile of dy, and the patch."""
    return 4 * (DY + tiling(tile, x_shape, window).words)


def wgrad(dy: Array, x: Array, weight_shape: tuple[int, int, int, int], groups: int, window: tuple[Axis, Axis], *,
          tile: tuple[int, int]) -> Array:
    """dweight (K, C, R, S) from dy and x, channels-last, all float32; `window` is the convolution's."""
    (k, channels, r, s), (h, w), numbers = weight_shape, window, tiling(tile, x.shape, window)
    parts, places = min(numbers.tiles, PARTS), r * s * channels
    partial, wide = empty((parts, k, places)), min(size for size in _TILES if size >= min(places, max(_TILES)))
    _TILES[wide]((parts, blocks(k, OUTPUTS), blocks(places, wide)), dy, x, partial, *numbers, h.move,
                 w.move * channels, s, channels, places, k, shared=_shared(x.shape, window, tile))
    return add_parts(partial, weight_shape)
