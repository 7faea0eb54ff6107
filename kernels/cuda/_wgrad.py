"""The gradient to a convolution's weight as a matrix product over pixels, in strict float32, for any GPU.

    dweight[k, (r, s, c)] = Σ_m dy[m, k] · x[pixel(m, r, s), c]        m = (n, p, q)

A block computes a tile of 64 filters × 64 places (r, s, c) for one group, over a share of the pixels. A thread follows
one place; both tiles lie in memory as they are needed, pixels by channels. The pixels are split into shares so that all
multiprocessors have work; each share's sums go to a workspace, which a second kernel adds up in order and writes as
(K, C/G, R, S): the same bits every time. They stay float32, whatever the images are.

The shares depend on the shape alone, not on the card. Their workspace costs 8 bytes for each weight and share, beside
4 · (C + K) bytes read for each pixel and tile.
"""

from __future__ import annotations

from ._ffma import DEPTH, FAR, THREADS, multiply, place_x, place_y
from ._layout import Array, blocks
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import lanes, load, load_vector, quotient, store_shared

TILE = 64
ENOUGH_BLOCKS = 528  # four for each multiprocessor of the largest cards
LEAST_SHARE = 512  # pixels: a smaller share is not worth its workspace
_SUMS, _LOADS, _HALF = TILE // 16, TILE * DEPTH // THREADS, DEPTH * TILE
_SIZE = 2 * _HALF


def _tile(vectors: bool) -> Kernel:
    def wgrad(dy, x, partial, pixels, share, filters, group_filters, channels, group_channels, source_h, source_w,
              grid_h, grid_w, taps_h, taps_w, step_h, step_w, start_h, start_w, move_h, move_w, groups):
        a_tile = cuda.shared.array(_SIZE, types.float32)
        b_tile = cuda.shared.array(_SIZE, types.float32)
        sums = cuda.local.array((_SUMS, _SUMS), types.float32)
        a, b = cuda.local.array(_SUMS, types.float32), cuda.local.array(_SUMS, types.float32)
        a_next = cuda.local.array((_LOADS, 8), types.float32)
        b_next = cuda.local.array((_LOADS, 8), types.float32)
        thread, group, part = cuda.threadIdx.x, cuda.blockIdx.z % groups, cuda.blockIdx.z // groups
        first_k, first_place = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
        vector = lanes(x) if vectors else 1
        across = TILE // vector
        loads, down = -(-_HALF // (vector * THREADS)), THREADS // across
        row, column = thread // across, thread % across * vector
        places = taps_h * taps_w * group_channels
        place = first_place + column
        tap = quotient(place, group_channels)
        c = place - tap * group_channels
        r = quotient(tap, taps_w)
        shift_h, shift_w = start_h + r * move_h, start_w + (tap - r * taps_w) * move_w

        for i in range(_SUMS):
            for j in range(_SUMS):
                sums[i, j] = ZERO
        first = part * share
        last = min(first + share, pixels)
        steps = (last - first + DEPTH - 1) // DEPTH
        for step in range(-1, steps):
            if step + 1 < steps:
                for load_ in range(loads):
                    for lane in range(vector):
                        a_next[load_, lane] = ZERO
                        b_next[load_, lane] = ZERO
                    pixel = first + (step + 1) * DEPTH + row + load_ * down
                    if pixel < last and row + load_ * down < DEPTH:
                        if first_k + column < group_filters:
                            at = pixel * filters + group * group_filters + first_k + column
                            if vectors:
                                load_vector(a_next[load_], dy, at)
                            else:
                                a_next[load_, 0] = load(dy, at)
                        line = quotient(pixel, grid_w)
                        image = quotient(line, grid_h)
                        h = (line - image * grid_h) * step_h + shift_h
                        w = (pixel - line * grid_w) * step_w + shift_w
                        if place < places and h >= 0 and h < source_h and w >= 0 and w < source_w:
                            at = ((image * source_h + h) * source_w + w) * channels + group * group_channels + c
                            if vectors:
                                load_vector(b_next[load_], x, at)
                            else:
                                b_next[load_, 0] = load(x, at)
            half = step & 1
            if step >= 0:
                multiply(sums, a, b, a_tile, half * _HALF, TILE, b_tile, half * _HALF, TILE)
            if step + 1 < steps:
                for load_ in range(loads):
                    if row + load_ * down < DEPTH:
                        at = (1 - half) * _HALF + (row + load_ * down) * TILE + column
                        if vectors:
                            for lane in range(0, vector, 4):
                                store_shared(a_tile, at + lane, a_next[load_], lane)
                                store_shared(b_tile, at + lane, b_next[load_], lane)
                        else:
                            a_tile[at] = a_next[load_, 0]
                            b_tile[at] = b_next[load_, 0]
            cuda.syncthreads()

        for i in range(_SUMS):
            k = first_k + 4 * place_y() + i
            for j in range(_SUMS):
                place = first_place + 4 * place_x() + j
                if k < group_filters and place < places:
                    partial[((part * groups + group) * group_filters + k) * places + place] = sums[i, j]

    pointers = dict(dy=STORAGE, x=STORAGE, partial=F32)
    names = wgrad.__code__.co_varnames[len(pointers) : wgrad.__code__.co_argcount]
    name = f"wgrad_{'vectors' if vectors else 'elements'}"
    return kernel(block=THREADS, name=name, **pointers, **dict.fromkeys(names, INT))(wgrad)


_TILES = {vectors: _tile(vectors) for vectors in (True, False)}
assert TILE <= FAR  # a thread's four sums of each operand lie side by side


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
    _add_parts(blocks(size, THREADS), partial, dweight, size, parts, max(places // max(r * s, 1), 1), channels, r * s)
    return dweight


def shares(weight_shape: tuple[int, int, int, int], groups: int, pixels: int) -> int:
    """Into how many shares so many pixels are split."""
    k, group_channels, r, s = weight_shape
    tiles = blocks(k // groups, TILE) * blocks(r * s * group_channels, TILE) * groups
    return max(1, min(blocks(ENOUGH_BLOCKS, max(tiles, 1)), pixels // LEAST_SHARE, 65535 // groups))


def multiply_shares(dy: Array, x: Array, partial: Array, weight_shape: tuple[int, int, int, int], groups: int,
                    window: tuple[Axis, Axis]) -> None:
    """Fill the sums of each share of the pixels, partial (shares, K, R · S · C/G)."""
    (k, group_channels, r, s), (images, channels, *source), (h, w) = weight_shape, x.shape, window
    group_filters, pixels, vector = k // groups, images * h.count * w.count, 16 // x.itemsize
    parts, _, places = partial.shape
    _TILES[group_filters % vector == 0 and group_channels % vector == 0](
        (blocks(group_filters, TILE), blocks(places, TILE), groups * parts), dy, x, partial, pixels,
        blocks(pixels, parts), k, group_filters, channels, group_channels, *source, h.count, w.count, r, s,
        h.step, w.step, h.start, w.start, h.move, w.move, groups)


def wgrad(
    dy: Array, x: Array, weight_shape: tuple[int, int, int, int], groups: int, window: tuple[Axis, Axis]
) -> Array:
    """dweight (K, C/G, R, S), float32, from dy and x, channels-last; `window` is the forward convolution's."""
    (k, group_channels, r, s), (h, w) = weight_shape, window
    parts = shares(weight_shape, groups, len(x) * h.count * w.count)
    partial = empty((parts, k, r * s * group_channels))
    multiply_shares(dy, x, partial, weight_shape, groups, window)
    return add_parts(partial, weight_shape)
