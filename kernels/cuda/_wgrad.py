"""The gradient to a convolution's weight as a matrix product over pixels, in strict float32, for any GPU.

    dweight[k, (r, s, c)] = Σ_m dy[m, k] · x[pixel(m, r, s), c]        m = (n, p, q)

A block computes a tile of M filters × M places (r, s, c) for one group, over a share of the pixels. A thread follows
one place, and walks along the pixels with carries from columns to rows to images; both tiles lie in memory as they are
needed, pixels by channels. The pixels are split into shares so that all multiprocessors have work; each share's sums go
to a workspace, which a second kernel adds up in order and writes as (K, C/G, R, S): the same bits every time.

Roofline: 2 K (C/G) R S operations a pixel. A tile of 128 × 128 does 32 of them for a byte that it reads, so float32
arithmetic is the limit; tiles of 64 × 64 serve few filters or places, and works too small for large ones to fill the
card. The shares depend on the shape and the tile alone, not on the card. Their workspace costs 8 bytes for each weight
and share.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ._channel_sums import add_strips
from ._ffma import DEPTH, FAR, THREADS, multiply, place_x, place_y
from ._gather import GEOMETRY, advance, coordinates, geometry, place
from ._layout import Array, blocks
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from ._window import Axis
from .launch import F32, INT, Kernel, kernel
from .ptx import load_vector, quotient, store_shared, store_vector

AT_ONCE = {64: 396, 128: 264}  # blocks, by M, that the 132 multiprocessors of an H100 hold
ENOUGH_BLOCKS = 192  # below this many blocks, smaller tiles
LEAST_SHARE = 512  # pixels: a smaller share is not worth its workspace
SERIAL = 16  # shares, up to which a thread adds up those of an element; of more, several threads do
MOST_PIXELS = (1 << 31) - (1 << 17)  # beyond the last pixel numbers still have 32 bits
OUTSIDE = -(1 << 29)  # a row that no pixel brings back into the image
VECTOR = 4
int32 = np.int32
Tile = tuple[int, int]


def _tile(size: int, vectors: bool) -> Kernel:
    width = VECTOR if vectors else 1
    across = size // width  # threads that load a pixel
    down, half, sums_each = THREADS // across, DEPTH * size, size // 16
    both, loads = 2 * half, DEPTH // down

    def wgrad(dy, x, partial, pixels, channels, group_channels, source_h, source_w, grid_h, grid_w, taps_h, taps_w,
              step_h, step_w, start_h, start_w, move_h, move_w, by_image, by_i, by_j, share, filters, group_filters,
              groups, places):
        a_tile = cuda.shared.array(both, types.float32)
        b_tile = cuda.shared.array(both, types.float32)
        sums = cuda.local.array((sums_each, sums_each), types.float32)
        a, b = cuda.local.array(sums_each, types.float32), cuda.local.array(sums_each, types.float32)
        a_next = cuda.local.array((loads, VECTOR), types.float32)
        b_next = cuda.local.array((loads, VECTOR), types.float32)
        thread, part = int32(cuda.threadIdx.x), quotient(cuda.blockIdx.z, groups)
        group = int32(cuda.blockIdx.z - part * groups)
        first_k, first_place = int32(cuda.blockIdx.x * size), int32(cuda.blockIdx.y * size)
        first = int32(part * share)
        last = int32(min(first + share, pixels))

        # What this thread loads: the same columns of every pixel that it follows.
        row, column = int32(thread // across), int32(thread % across * width)
        k = int32(group * group_filters + first_k + column)
        last_dy = last if first_k + column < group_filters else int32(0)
        r, s, c = place(first_place + column, taps_w, group_channels)
        c = int32(group * group_channels + c)
        shift_h = int32(start_h + r * move_h) if r < taps_h else int32(OUTSIDE)
        shift_w = int32(start_w + s * move_w)
        image, i, j = coordinates(first + row, grid_h, grid_w)

        for m in range(sums_each):
            for n in range(sums_each):
                sums[m, n] = ZERO
        turn = int32(1)
        for at in range(int32(first - DEPTH), last, DEPTH):
            if at + DEPTH < last:
                for load in range(loads):
                    for lane in range(width):
                        a_next[load, lane] = ZERO
                        b_next[load, lane] = ZERO
                    pixel = int32(at + DEPTH + row + load * down)
                    if pixel < last_dy:
                        at_dy = pixel * np.int64(filters) + k
                        if vectors:
                            load_vector(a_next[load], dy, at_dy)
                        else:
                            a_next[load, 0] = dy[at_dy]
                    h, w = int32(i * step_h + shift_h), int32(j * step_w + shift_w)
                    if pixel < last and h >= 0 and h < source_h and w >= 0 and w < source_w:
                        at_x = np.int64(np.uint32((image * source_h + h) * source_w + w)) * channels + c
                        if vectors:
                            load_vector(b_next[load], x, at_x)
                        else:
                            b_next[load, 0] = x[at_x]
                    image, i, j = advance(image, i, j, by_image, by_i, by_j, grid_h, grid_w)
            if at >= first:
                multiply(sums, a, b, a_tile, int32(turn * half), size, b_tile, int32(turn * half), size)
            turn = int32(turn ^ 1)
            if at + DEPTH < last:
                to = int32(turn * half + row * size + column)
                for load in range(loads):
                    below = load * down * size
                    if vectors:
                        store_shared(a_tile, to + below, a_next[load], 0)
                        store_shared(b_tile, to + below, b_next[load], 0)
                    else:
                        a_tile[to + below] = a_next[load, 0]
                        b_tile[to + below] = b_next[load, 0]
            cuda.syncthreads()

        for m in range(sums_each):
            k = int32(first_k + 4 * place_y() + m % 4 + m // 4 * FAR)
            if k < group_filters:
                line = (int32(part * groups + group) * np.int64(group_filters) + k) * places
                for n in range(0, sums_each, 4):
                    at_place = int32(first_place + 4 * place_x() + n * (FAR // 4))
                    if vectors:
                        if at_place < places:
                            store_vector(partial, line + at_place, sums[m, n:])
                    else:
                        for lane in range(4):
                            if at_place + lane < places:
                                partial[line + at_place + lane] = sums[m, n + lane]

    pointers = dict(dy=F32, x=F32, partial=F32)
    names = wgrad.__code__.co_varnames[len(pointers) : wgrad.__code__.co_argcount]
    assert names[: len(GEOMETRY)] == GEOMETRY
    name = f"wgrad_{size}_{'vectors' if vectors else 'elements'}"
    return kernel(block=THREADS, blocks_per_sm=2, name=name, **pointers, **dict.fromkeys(names, INT))(wgrad)


_TILES = {kind: _tile(*kind) for kind in ((128, True), (64, True), (64, False))}


@kernel(block=THREADS, partial=F32, dweight=F32, size=INT, parts=INT, padded=INT, channels=INT, taps=INT)
def _add_parts(partial, dweight, size, parts, padded, channels, taps):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    line = quotient(i, padded)  # i = (k, tap, c), the weight is (k, c, tap)
    c = i - line * padded
    if i < size and c < channels:
        total = ZERO
        for part in range(parts):
            total += partial[part * size + i]
        k = quotient(line, taps)
        dweight[(k * channels + c) * taps + line - k * taps] = total


def add_parts(partial: Array, weight_shape: tuple[int, int, int, int]) -> Array:
    """dweight (K, C/G, R, S), float32, from shares' sums (shares, K, R · S · padded), which may pad the channels."""
    (_, channels, r, s), (parts, filters, places) = weight_shape, partial.shape
    dweight, size = empty(weight_shape), filters * places
    if parts > SERIAL:
        partial, parts = add_strips(partial, (filters, places)), 1
    _add_parts(blocks(size, THREADS), partial, dweight, size, parts, max(places // max(r * s, 1), 1), channels, r * s)
    return dweight


def shares(weight_shape: tuple[int, int, int, int], groups: int, pixels: int, tile: Tile) -> int:
    """Into how many shares so many pixels are split."""
    tiles, at_once = _tile_count(weight_shape, groups, tile), AT_ONCE[tile[0]]
    return _fewest(tiles, at_once, min(pixels // LEAST_SHARE, 65535 // groups))


@lru_cache
def _fewest(tiles: int, at_once: int, limit: int) -> int:
    """The fewest shares that keep a card busy.

    All blocks take as long, `at_once` of them at a time: n shares take ⌈tiles · n / at_once⌉ / n of the time of one.
    """
    most = max(1, min(blocks(2 * at_once, max(tiles, 1)), limit))
    return min(range(1, most + 1), key=lambda parts: blocks(tiles * parts, at_once) / parts)


def _tile_count(weight_shape: tuple[int, int, int, int], groups: int, tile: Tile) -> int:
    k, group_channels, r, s = weight_shape
    return blocks(k // groups, tile[0]) * blocks(r * s * group_channels, tile[1]) * groups


def _in_vectors(weight_shape: tuple[int, int, int, int], groups: int) -> bool:
    return weight_shape[0] // groups % VECTOR == weight_shape[1] % VECTOR == 0


def wgrad_tiles(x_shape: tuple, weight_shape: tuple[int, int, int, int], groups: int,
                window: tuple[Axis, Axis]) -> list[Tile]:
    """The tiles that can make this gradient, the one that is chosen without a measurement first."""
    (k, group_channels, r, s), (h, w), large = weight_shape, window, (128, 128)
    if not _in_vectors(weight_shape, groups):
        return [(64, 64)]
    parts = shares(weight_shape, groups, x_shape[0] * h.count * w.count, large)
    few = _tile_count(weight_shape, groups, large) * parts < ENOUGH_BLOCKS
    small = few or min(k // groups, r * s * group_channels) <= 64
    return [(64, 64), large] if small else [large, (64, 64)]


def multiply_shares(dy: Array, x: Array, partial: Array, weight_shape: tuple[int, int, int, int], groups: int,
                    window: tuple[Axis, Axis], tile: Tile) -> None:
    """Fill the sums of each share of the pixels, partial (shares, K, R · S · C/G)."""
    numbers, (parts, filters, places), size = geometry(x.shape, groups, window), partial.shape, tile[0]
    pixels, (grid_h, grid_w), group_filters = numbers[0], numbers[5:7], filters // groups
    if pixels > MOST_PIXELS or len(x) * x.shape[2] * x.shape[3] >= 2**32:
        raise OverflowError(f"the gradient to a convolution's weight, from dy of {pixels} pixels and x of {len(x)} x "
                            f"{x.shape[2]} x {x.shape[3]}: expected at most {MOST_PIXELS}, and less than 2**32")
    vectors = _in_vectors(weight_shape, groups)
    lines, by_j = divmod(THREADS * (VECTOR if vectors else 1) // size, max(grid_w, 1))
    _TILES[size, vectors](
        (blocks(group_filters, size), blocks(places, size), groups * parts), dy, x, partial, *numbers,
        *divmod(lines, max(grid_h, 1)), by_j, blocks(pixels, parts), filters, group_filters, groups, places)


def wgrad(dy: Array, x: Array, weight_shape: tuple[int, int, int, int], groups: int, window: tuple[Axis, Axis], *,
          tile: Tile) -> Array:
    """dweight (K, C/G, R, S) from dy and x, channels-last float32; `window` is the forward convolution's."""
    (k, group_channels, r, s), (h, w) = weight_shape, window
    parts = shares(weight_shape, groups, len(x) * h.count * w.count, tile)
    partial = empty((parts, k, r * s * group_channels))
    multiply_shares(dy, x, partial, weight_shape, groups, window, tile)
    return add_parts(partial, weight_shape)
