"""The gradient to the weight of a convolution of images with up to four channels, on tensor cores.

    dweight[k, (u, v, c)] = Σ_m dy[m, k] · x[pixel(m, u, v), c]        m = (n, i, j), x as it is, see `_first_layer.py`

A block of four warps takes 64 outputs k and all places (u, v, c) of a window, up to 160 (or 32, for 3 × 3 of 3
channels), and goes over tiles of 128 pixels (`_patch.py`), the reduction:

    barrier │ begin to copy the next tile's dy │ this one's patch to shared memory │ wait for its dy │ barrier │
    8 or 16 pixels at a time: words of dy or ldmatrix.trans, words of the patch, 4 × 5 (or 4 × 1) products of 16 × 8

In shared memory dy is [pixel][output], twice, its chunks of 16 bytes placed as in `_mma_wgrad.py`. In 16 bits a word
holds two pixels of the reduction, which of x are the same numbers of neighbouring windows: so the patch is made, a word
for each number, with the one that lies a stride further. Windows of pixels beyond the map are masked: the image may
have infinities there. Each block's sums go to a workspace, that is added up in order.

Roofline: 2 K bytes of dy and 2 C stride² of x for each pixel in 16 bits, each read once; the workspace costs 8 bytes
for each weight and block.
"""

from __future__ import annotations

import numpy as np

from ._first_layer import LEAST, OUTPUTS, SHARED, suits
from ._layout import Array, blocks
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from ._patch import PIXELS, REGISTERS, THREADS, TILING, bring, tile_at, tiling
from ._patch import tiles as patch_tiles
from ._wgrad import add_parts
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import lanes, quotient
from .ptx_mma import (
    commit_copies,
    copy_async,
    load_matrices_transposed,
    load_word,
    products,
    round_words_tf32,
    wait_copies,
)

PARTS = 264  # blocks that share the pixels: two for each multiprocessor of the largest cards
int32, uint32 = np.int32, np.uint32


def _tile(columns: int) -> Kernel:
    """`columns` are the products of 16 × 8 that a warp has side by side."""
    wide = 8 * columns  # places of a warp

    def first_wgrad(dy, x, partial, tiles, tiles_h, tiles_w, shift, grid_h, grid_w, source_h, line, start_h, start_w,
                    step_h, step_w, patch_h, patch_w, odd, move_h, move_w, taps_w, channels, places, outputs):
        shared = cuda.shared.array(0, types.uint32)
        sums = cuda.local.array((4, columns, 4), types.float32)
        left, right = cuda.local.array((4, 4), types.uint32), cuda.local.array((columns, 2), types.uint32)
        held, offset = cuda.local.array(REGISTERS, types.float32), cuda.local.array(columns, types.int32)
        thread, first_k = int32(cuda.threadIdx.x), int32(cuda.blockIdx.y * OUTPUTS)
        lane, warp, numbers = thread & 31, thread >> 5, int32(lanes(dy) >> 2)
        words = int32(OUTPUTS // 2 if numbers == 2 else OUTPUTS)  # of a pixel's outputs
        half = int32(PIXELS * words)
        patch = int32(2 * half)

        # What this thread copies of dy: one chunk of several pixels.
        across = int32(words >> 2)
        down = quotient(THREADS, across)
        row = quotient(thread, across)
        chunk = int32(thread - row * across)
        to = int32(row * words + ((chunk ^ ((row & 3) << 1 if lanes(dy) == 4 else row & 7)) << 2))
        from_k = int32(first_k + chunk * lanes(dy))

        # What it reads: words of dy, and those of the patch at its places.
        if lanes(dy) == 4:
            a_from = int32((lane & 3) * words + ((((lane >> 4) ^ ((lane & 3) << 1)) << 2) | ((lane >> 2) & 3)))
        else:
            a_from = int32(((lane & 7) + ((lane >> 4) << 3)) * words + ((((lane >> 3) & 1) ^ (lane & 7)) << 2))
        first_place = int32(cuda.blockIdx.z * (4 * wide) + warp * wide)
        for n in range(columns):
            place = int32(first_place + n * 8 + (lane >> 2))
            tap = quotient(place, channels)
            u = quotient(tap, taps_w)
            at = int32(u * move_h * patch_w + (tap - u * taps_w) * move_w + place - tap * channels)
            offset[n] = int32(patch + at) if place < places else patch
        for m in range(4):
            for n in range(columns):
                for word in range(4):
                    sums[m, n, word] = ZERO

        reading = int32(half)
        stride = int32(cuda.gridDim.x)
        for turn in range(int32(cuda.blockIdx.x - stride), tiles, stride):
            ahead = int32(turn + stride)
            cuda.syncthreads()
            if ahead < tiles:
                image, i, j = tile_at(ahead, tiles_h, tiles_w, shift)
                for copy in range(16 if numbers == 1 else 8):
                    pixel = int32(row + copy * down)
                    h, w = int32(i + (pixel >> shift)), int32(j + (pixel & int32((1 << shift) - 1)))
                    at = ((image * grid_h + h) * np.int64(grid_w) + w) * outputs + from_k
                    inside = h < grid_h and w < grid_w and from_k < outputs
                    copy_async(shared, int32(half - reading + to) + copy * down * words, dy, at if inside else 0,
                               16 if inside else 0)
            commit_copies()
            if turn >= 0:
                image, first_i, first_j = tile_at(turn, tiles_h, tiles_w, shift)
                bring(shared, patch, held, x, dy, numbers, 1, step_w, image, first_i, first_j, source_h, line, start_h,
                      start_w, step_h, step_w, patch_h, patch_w, odd)
                wait_copies(1)
                cuda.syncthreads()
                a_base = int32(reading + a_from)
                for step in range(PIXELS // 8 if numbers == 1 else PIXELS // 16):
                    if lanes(dy) == 4:
                        for m in range(4):
                            for word in range(4):
                                at_m = int32(a_base ^ ((m & 1) * 16 + (word & 1) * 8))
                                left[m, word] = load_word(shared, at_m, (m >> 1) * 32 + (word >> 1) * 4 * words)
                        round_words_tf32(left, 16)
                    else:
                        for m in range(4):
                            load_matrices_transposed(left, m * 4, shared, int32(a_base ^ (m * 8)))
                    a_base = int32(a_base + 8 * numbers * words)
                    for word in range(2):
                        pixel = int32((step * 8 + (lane & 3) + word * 4) * numbers)
                        i, j = pixel >> shift, pixel & int32((1 << shift) - 1)
                        mask = uint32(0)
                        if first_i + i < grid_h and first_j + j < grid_w:
                            mask = uint32(0xFFFFFFFF)
                            if numbers == 2 and first_j + j + 1 == grid_w:
                                mask = uint32(0xFFFF)
                        window = int32(i * step_h * patch_w + j * step_w)
                        for n in range(columns):
                            right[n, word] = load_word(shared, int32(window + offset[n]), 0) & mask
                    products(sums, left, right, dy)
            reading = int32(half - reading)

        for m in range(4):
            for n in range(columns):
                for word in range(4):
                    k = int32(first_k + m * 16 + (word >> 1) * 8 + (lane >> 2))
                    place = int32(first_place + n * 8 + (lane & 3) * 2 + (word & 1))
                    if k < outputs and place < places:
                        partial[(cuda.blockIdx.x * np.int64(outputs) + k) * places + place] = sums[m, n, word]

    pointers = dict(dy=STORAGE, x=STORAGE, partial=F32)
    names = first_wgrad.__code__.co_varnames[len(pointers) : first_wgrad.__code__.co_argcount]
    assert names[: len(TILING)] == TILING
    return kernel(block=THREADS, shared=SHARED, blocks_per_sm=3 if columns > 1 else 4, least=LEAST,
                  name=f"first_wgrad_{4 * wide}", **pointers, **dict.fromkeys(names, INT))(first_wgrad)


_TILES = {32: _tile(1), 160: _tile(5)}  # by places


def tiles(capability: tuple[int, int], x_dtype: np.dtype, x_shape: tuple, weight_shape: tuple, groups: int,
          window: tuple[Axis, Axis]) -> list[tuple[int, int]]:
    """The tiles (rows, columns) of dy that can be used, maybe none; the one chosen without a measurement is first."""
    whole = weight_shape[0] * x_dtype.itemsize % 16 == 0
    if capability < LEAST or not (whole and suits(x_shape, weight_shape[0], groups, window)):
        return []
    return [tile for tile in patch_tiles(x_shape, window) if _shared(x_dtype.itemsize, x_shape, window, tile) <= SHARED]


def _shared(itemsize: int, x_shape: tuple, window: tuple[Axis, Axis], tile: tuple[int, int]) -> int:
    """Bytes of a block: two tiles of dy, and the patch."""
    return 2 * PIXELS * OUTPUTS * itemsize + 4 * tiling(tile, x_shape, window).words


def wgrad(dy: Array, x: Array, weight_shape: tuple[int, int, int, int], groups: int, window: tuple[Axis, Axis], *,
          tile: tuple[int, int]) -> Array:
    """dweight (K, C, R, S), float32, from dy and x, channels-last, of one dtype; `window` is the convolution's."""
    (k, channels, r, s), (h, w), numbers = weight_shape, window, tiling(tile, x.shape, window)
    parts, places = min(numbers.tiles, PARTS), r * s * channels
    partial, wide = empty((parts, k, places)), 32 if places <= 32 else 160
    _TILES[wide]((parts, blocks(k, OUTPUTS), blocks(places, wide)), dy, x, partial, *numbers, h.move,
                 w.move * channels, s, channels, places, k, shared=_shared(x.itemsize, x.shape, window, tile))
    return add_parts(partial, weight_shape)
