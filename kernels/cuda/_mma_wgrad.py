"""The gradient to a convolution's weight as a matrix product over pixels, on tensor cores; compute capability 8.0.

    dweight[k, (r, s, c)] = Σ_m dy[m, k] · x[pixel(m, r, s), c]        m = (n, p, q)

Operands are channels-last images as `_operands.py` makes them, of float32 (both rounded to the nearest TF32 here),
float16 or bfloat16; sums are float32. As in `_wgrad.py` the pixels are split into shares, whose sums go to a workspace
and are added up in order.

A block computes a tile of 128 × 128 or 64 × 64 for one group and one share. Both operands lie in memory, and in shared
memory, with the reduction as rows: a stage holds the tile's channels of dy of 32 pixels (64 in 16 bits), and its places
(r, s, c) of x. A thread copies four vectors of each a step, of one column: it meets one tap. Where the pixels
of a step lie in x, a thread each tells the others through a table in shared memory.

    stage           32 pixels × 512 bytes, or 64 × 256 bytes         read by
    dy  pixel 0     chunk c of pixel p lies at place                 float32: words, of 8 channels in 4 pixels by a warp
        …             float32: c XOR 2 (p mod 4)                     16 bits: ldmatrix.trans, of 8 channels in 8 pixels
    x   pixel 0       16 bits: c XOR p mod 8                           at a time
        …           so that what a warp reads at once lies in different banks

Tile of 128 × 128: as in `_mma_gemm.py`, 32 KB for 1 M or 2 M operations, 3 stages. The workspace costs 8 bytes for each
weight and share.
"""

from __future__ import annotations

import numpy as np

from ._gather import GEOMETRY, advance, coordinates, geometry, place
from ._layout import Array, blocks
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from ._wgrad import add_parts
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import lanes, quotient
from .ptx_mma import (
    commit_copies,
    copy_async,
    load_matrices_transposed,
    load_word,
    load_words,
    products,
    products_7_5,
    round_words_tf32,
    store_words,
    wait_copies,
)

ENOUGH_BLOCKS = 264  # two for each multiprocessor of the largest cards
LEAST_SHARE = 512  # pixels: a smaller share is not worth its workspace
OUTSIDE = -(1 << 29)  # a row that no tap brings back into the image
COPIES = 4  # vectors of an operand that a thread copies a step
int32 = np.int32


def _tile(size: int, stages: int, blocks_per_sm: int, **limits) -> Kernel:
    warp_m = size // 2
    threads = 2 * size
    places_m, a_words, b_words = warp_m // 16, warp_m // 4, 8
    half, stage, in_flight, all_copies = 32 * size, 64 * size, stages - 2, 2 * COPIES
    everything, table_size = stages * stage, 4 * 64  # words
    is_async = limits["least"] >= (8, 0)
    multiply = products if is_async else products_7_5

    def mma_wgrad(dy, x, partial, pixels, channels, group_channels, source_h, source_w, grid_h, grid_w, taps_h, taps_w,
                  step_h, step_w, start_h, start_w, move_h, move_w, by_image, by_i, by_j, share, steps, filters,
                  wide_filters, group_filters, groups):
        shared = cuda.shared.array(0, types.uint32)
        table = cuda.shared.array(0, types.int32)
        sums = cuda.local.array((places_m, 4, 4), types.float32)
        left, right = cuda.local.array((places_m, 4), types.uint32), cuda.local.array((4, 2), types.uint32)
        held, found = cuda.local.array((all_copies, 4), types.uint32), cuda.local.array(4, types.int32)
        thread = int32(cuda.threadIdx.x)
        part = quotient(cuda.blockIdx.z, groups)
        group = int32(cuda.blockIdx.z - part * groups)
        lane, warp = thread & 31, thread >> 5
        first_k, first_place = int32(cuda.blockIdx.x * size), int32(cuda.blockIdx.y * size)
        first = int32(part * share)
        last = int32(min(first + share, pixels))

        # What this thread copies: one chunk of several pixels of both operands.
        across = int32(size // lanes(x))  # chunks of a pixel
        words, down, depth = int32(across * 4), int32(threads // across), int32(8 * lanes(x))
        row = quotient(thread, across)
        chunk = int32(thread - row * across)
        to = int32(row * words + ((chunk ^ ((row & 3) << 1 if lanes(x) == 4 else row & 7)) << 2))
        k = int32(first_k + chunk * lanes(x))
        last_dy = last if k < wide_filters else int32(0)
        r, s, c = place(first_place + chunk * lanes(x), taps_w, group_channels)
        far_h, far_w = int32(r * move_h) if r < taps_h else int32(OUTSIDE), int32(s * move_w)
        far = int32(r * move_h * source_w + far_w) if r < taps_h else int32(0)

        # The pixel of a step that this thread follows.
        followed = int32(thread & (depth - 1))
        image, i, j = coordinates(first + followed, grid_h, grid_w)

        # What this thread reads.
        warp_first_m, warp_first_n = int32((warp & 1) * warp_m), int32((warp >> 1) * 32)
        if lanes(x) == 4:
            a_from = int32((lane & 3) * words + ((((lane >> 4) ^ ((lane & 3) << 1)) << 2) | ((lane >> 2) & 3)))
            b_from = int32(a_from + half + warp_first_n)
            a_from = int32(a_from + warp_first_m)
        else:
            a_from = int32(((lane & 7) + ((lane >> 4) << 3)) * words
                           + ((((warp_first_m >> 3) + ((lane >> 3) & 1)) ^ (lane & 7)) << 2))
            b_from = int32(((lane & 7) + (lane & 8)) * words + half
                           + ((((warp_first_n >> 3) + (lane >> 4)) ^ (lane & 7)) << 2))
        for m in range(places_m):
            for n in range(4):
                for word in range(4):
                    sums[m, n, word] = ZERO

        reading, writing = int32(0), int32(0)
        for step in range(int32(1 - stages), steps):
            turn = int32(everything + (step & 1) * table_size)
            if thread < depth:
                h, w = int32(i * step_h + start_h), int32(j * step_w + start_w)
                found[0], found[1] = h if first + followed < last else OUTSIDE, w
                found[2] = (image * source_h + h) * source_w + w
                store_words(table, turn + thread * 4, found, 0)
            image, i, j = advance(image, i, j, by_image, by_i, by_j, grid_h, grid_w)
            if is_async:
                wait_copies(in_flight)
            cuda.syncthreads()
            ahead = int32(step + (stages - 1)) < steps
            if ahead:
                turn, pixel = int32(turn + row * 4), int32(first + row)
                for copy in range(COPIES):
                    met_h = int32(load_word(table, turn, copy * down * 4) + far_h)
                    met_w = int32(load_word(table, turn, copy * down * 4 + 1) + far_w)
                    at = int32(load_word(table, turn, copy * down * 4 + 2) + far) * np.int64(channels)
                    at += group * group_channels + c
                    inside = (met_h >= 0) & (met_h < source_h) & (met_w >= 0) & (met_w < source_w)
                    at_dy = int32(pixel + copy * down) * np.int64(filters) + (group * wide_filters + k)
                    inside_dy = int32(pixel + copy * down) < last_dy
                    if is_async:
                        into = int32(writing + to) + copy * down * words
                        copy_async(shared, into, dy, at_dy, 16 if inside_dy else 0)
                        copy_async(shared, into + half, x, at, 16 if inside else 0)
                    else:
                        load_words(held, copy * 4, dy, at_dy, int32(inside_dy))
                        load_words(held, (COPIES + copy) * 4, x, at, int32(inside))
            first = int32(first + depth)
            if is_async:
                commit_copies()
            if step >= 0:
                a_base, b_base = int32(reading + a_from), int32(reading + b_from)
                for part_ in range(4):
                    if lanes(x) == 4:
                        for m in range(places_m):
                            for word in range(4):
                                at_m = int32(a_base ^ ((m & 1) * 16 + (word & 1) * 8))
                                left[m, word] = load_word(shared, at_m, (m >> 1) * 32 + (word >> 1) * 4 * words)
                        for n in range(4):
                            for word in range(2):
                                right[n, word] = load_word(shared, int32(b_base ^ (n * 8)), word * 4 * words)
                        a_base, b_base = int32(a_base + 8 * words), int32(b_base + 8 * words)
                        round_words_tf32(left, a_words)
                        round_words_tf32(right, b_words)
                    else:
                        below = part_ * 16 * words
                        for m in range(places_m):
                            load_matrices_transposed(left, m * 4, shared, int32(a_base ^ (m * 8)) + below)
                        for n in range(2):
                            load_matrices_transposed(right, n * 4, shared, int32(b_base ^ (n * 8)) + below)
                    multiply(sums, left, right, x)
                reading = int32(reading + stage)
                if reading == everything:
                    reading = int32(0)
            if ahead:
                if not is_async:
                    for copy in range(COPIES):
                        into = int32(writing + to) + copy * down * words
                        store_words(shared, into, held, copy * 4)
                        store_words(shared, into + half, held, (COPIES + copy) * 4)
                writing = int32(writing + stage)
                if writing == everything:
                    writing = int32(0)

        places = taps_h * taps_w * group_channels
        for m in range(places_m):
            for n in range(4):
                for word in range(4):
                    k = int32(first_k + warp_first_m + m * 16 + (word >> 1) * 8 + (lane >> 2))
                    at_place = int32(first_place + warp_first_n + n * 8 + (lane & 3) * 2 + (word & 1))
                    if k < group_filters and at_place < places:
                        line = int32(part * groups + group) * np.int64(group_filters) + k
                        partial[line * places + at_place] = sums[m, n, word]

    pointers = dict(dy=STORAGE, x=STORAGE, partial=F32)
    names = mma_wgrad.__code__.co_varnames[len(pointers) : mma_wgrad.__code__.co_argcount]
    assert names[: len(GEOMETRY)] == GEOMETRY
    name = f"mma_wgrad_{size}" + "_sm_75" * (not is_async)
    return kernel(block=threads, shared=4 * (everything + 2 * table_size), blocks_per_sm=blocks_per_sm, name=name,
                  **limits, **pointers, **dict.fromkeys(names, INT))(mma_wgrad)


_BLOCKS_PER_SM = {(128, 128, 3): 2, (64, 64, 4): 3}  # by tile: filters, places, stages
_TILE_7_5 = 64, 64, 2
_TILES = {tile: _tile(*tile[1:], blocks_per_sm, least=(8, 0)) for tile, blocks_per_sm in _BLOCKS_PER_SM.items()}
_TILES[_TILE_7_5] = _tile(*_TILE_7_5[1:], 4, least=(7, 5), dtypes=("float16",))


def tiles(capability: tuple[int, int], x_shape: tuple, weight_shape: tuple, groups: int) -> list[tuple[int, ...]]:
    """The tiles that can make this gradient, the one that is chosen without a measurement first."""
    if capability < (8, 0):
        return [_TILE_7_5]
    k, _, r, s = weight_shape
    large = min(k // groups, r * s * (x_shape[1] // groups)) > 64
    return sorted(_BLOCKS_PER_SM, reverse=large)


def wgrad(dy: Array, x: Array, weight_shape: tuple[int, int, int, int], groups: int, window: tuple[Axis, Axis],
          *, tile: tuple[int, ...]) -> Array:
    """dweight (K, C/G, R, S), float32, from dy and x as `images` gives them; `window` is the forward convolution's."""
    numbers, (k, _, r, s) = geometry(x.shape, groups, window), weight_shape
    pixels, inner, (grid_h, grid_w), group_filters = numbers[0], numbers[2], numbers[5:7], k // groups
    places, size = r * s * inner, tile[0]
    count = blocks(group_filters, size) * blocks(places, size) * groups
    parts = max(1, min(blocks(ENOUGH_BLOCKS, max(count, 1)), pixels // LEAST_SHARE, 65535 // groups))
    partial = empty((parts, k, places))
    depth, share = 128 // x.itemsize, blocks(pixels, parts)
    lines, by_j = divmod(depth, max(grid_w, 1))
    _TILES[tile]((blocks(group_filters, size), blocks(places, size), groups * parts), dy, x, partial, *numbers,
                 *divmod(lines, max(grid_h, 1)), by_j, share, blocks(share, depth), dy.shape[1], dy.shape[1] // groups,
                 group_filters, groups)
    return add_parts(partial, weight_shape)
