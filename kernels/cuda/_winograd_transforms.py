"""The transforms of Winograd's F(2 × 2, 3 × 3) between images, channels-last, and products; formulas in `_winograd.py`.

    input       16 vectors of x, a patch of 4 × 4     BᵀdB      16 of V        C/4 threads for each tile
    output      16 vectors of M                       AᵀmA      4 of y
    gradient    4 vectors of dy                       A dy Aᵀ   16 of D
    filters     9 numbers of the weight               G w Gᵀ    16 of U        a thread for each filter and channel
    weight      16 sums of each share                 Gᵀ dU G   9 of dweight

with
         ⎡ 1  0 -1  0 ⎤        ⎡ 1   0   0 ⎤
    Bᵀ = ⎢ 0  1  1  0 ⎥    G = ⎢ ½   ½   ½ ⎥    Aᵀ = ⎡ 1  1  1  0 ⎤
         ⎢ 0 -1  1  0 ⎥        ⎢ ½  -½   ½ ⎥         ⎣ 0  1 -1 -1 ⎦
         ⎣ 0  1  0 -1 ⎦        ⎣ 0   0   1 ⎦

A thread of the first three takes four channels of a tile, a vector of 16 bytes at a time; its neighbours take the next
ones, so each access of a warp covers whole lines. The 16 vectors it reads are all under way before the first is used.
Memory bound: x is read once (its patches overlap: each pixel is asked for four times, three of them of the caches), V
and M are 16 numbers for the 4 of a tile.

A variant of the output kernel leaves statistics of y, as `_column_moments.py` tells. A block takes LOT tiles there, and
ACROSS vectors of channels, which is a line of memory; a thread takes four of the tiles, one after the other. What it
leaves, 12 bytes a channel, is nothing beside 4096 of M.

A matrix is applied along one axis of a patch and then along the other, by additions alone but for the halves of G.
Patches lie in registers, as (16, 4): a row of it is a place (p, q) of the patch, a column a channel.
"""

from __future__ import annotations

import numpy as np

from ._column_moments import deviate, join, leave
from ._math import HALF, INFINITY, ONE, ZERO, larger
from ._numba import cuda, device, types
from .launch import F32, INT, kernel
from .ptx import load_vector, quotient, store_vector

TILE, OUTPUTS, PATCH, FREQUENCIES, TAPS, VECTOR = 2, 4, 4, 16, 9, 4
THREADS = 128
ACROSS, LOT = 8, 64  # threads side by side, and the tiles of a block, where statistics are left
LINES, _WIDTH = THREADS // ACROSS, ACROSS * VECTOR
_SETS = LINES * (3 * _WIDTH + 1)
int32 = np.int32

OUTPUT = dict(height=INT, width=INT, tiles_h=INT, tiles_w=INT, has_scale=INT, has_bias=INT, has_residual=INT,
              rectify=INT)  # fmt: skip
"""The last arguments of the kernels that write y."""


@device
def _corner(tile, tiles_h, tiles_w):
    """A tile's image, first row and first column."""
    line = quotient(tile, tiles_w)
    image = quotient(line, tiles_h)
    return image, int32((line - image * tiles_h) * TILE), int32((tile - line * tiles_w) * TILE)


@device
def _place(i, first, vectors, tiles_h, tiles_w):
    """Thread i's tile counted from `first`, its image, the tile's first row and column, and the first channel."""
    tile = quotient(i, vectors)
    image, row, column = _corner(first + tile, tiles_h, tiles_w)
    return tile, image, row, column, int32((i - tile * vectors) * VECTOR)


@device
def _b_transposed(d, first, step):
    """Bᵀ along an axis of the patch d, for the four places from `first` on, `step` apart."""
    for lane in range(VECTOR):
        d0, d1 = d[first, lane], d[first + step, lane]
        d2, d3 = d[first + 2 * step, lane], d[first + 3 * step, lane]
        d[first, lane], d[first + step, lane] = d0 - d2, d1 + d2
        d[first + 2 * step, lane], d[first + 3 * step, lane] = d2 - d1, d1 - d3


@device
def _a_transposed(d, first, step):
    """Aᵀ: the two results lie at the first two places."""
    for lane in range(VECTOR):
        d1, d2 = d[first + step, lane], d[first + 2 * step, lane]
        d[first, lane] += d1 + d2
        d[first + step, lane] = d1 - d2 - d[first + 3 * step, lane]


@device
def _a(d, first, step):
    """A: from the first two places to all four."""
    for lane in range(VECTOR):
        d0, d1 = d[first, lane], d[first + step, lane]
        d[first + step, lane], d[first + 2 * step, lane], d[first + 3 * step, lane] = d0 + d1, d0 - d1, -d1


@device
def _g(w, first, step):
    """G: from three numbers, `step` apart, to four."""
    w0, w1, w2 = w[first], w[first + step], w[first + 2 * step]
    w[first + step], w[first + 2 * step] = HALF * (w0 + w2 + w1), HALF * (w0 + w2 - w1)
    w[first + 3 * step] = w2


@device
def _g_transposed(w, first, step):
    """Gᵀ: from four numbers to three."""
    w1, w2 = HALF * w[first + step], HALF * w[first + 2 * step]
    w[first] += w1 + w2
    w[first + step] = w1 - w2
    w[first + 2 * step] = w1 + w2 + w[first + 3 * step]


@kernel(block=THREADS, x=F32, v=F32, work=INT, first=INT, vectors=INT, height=INT, width=INT, tiles_h=INT, tiles_w=INT,
        top=INT, left=INT)
def winograd_input(x, v, work, first, vectors, height, width, tiles_h, tiles_w, top, left):
    """V of the tiles from `first` on; (top, left) is the pixel under tap (0, 0) of the first output."""
    d = cuda.local.array((FREQUENCIES, VECTOR), types.float32)
    i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if i < work:
        tile, image, row, column, c = _place(i, first, vectors, tiles_h, tiles_w)
        row, column, channels = int32(row + top), int32(column + left), vectors * VECTOR
        for p in range(PATCH):
            line = ((image * height + row + p) * width + column) * channels + c
            inside = (row + p >= 0) & (row + p < height)
            for q in range(PATCH):
                for lane in range(VECTOR):
                    d[PATCH * p + q, lane] = ZERO
                if inside & (column + q >= 0) & (column + q < width):
                    load_vector(d[PATCH * p + q], x, line + q * channels)
        for p in range(PATCH):
            _b_transposed(d, PATCH * p, 1)
        for q in range(PATCH):
            _b_transposed(d, q, PATCH)
        to = tile * FREQUENCIES * channels + c
        for f in range(FREQUENCIES):
            store_vector(v, to + f * channels, d[f])


@kernel(block=THREADS, dy=F32, d=F32, work=INT, first=INT, vectors=INT, height=INT, width=INT, tiles_h=INT, tiles_w=INT)
def winograd_gradient(dy, d, work, first, vectors, height, width, tiles_h, tiles_w):
    """D of the tiles from `first` on."""
    held = cuda.local.array((FREQUENCIES, VECTOR), types.float32)
    i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if i < work:
        tile, image, row, column, c = _place(i, first, vectors, tiles_h, tiles_w)
        filters = vectors * VECTOR
        for p in range(TILE):
            line = ((image * height + row + p) * width + column) * filters + c
            for q in range(TILE):
                for lane in range(VECTOR):
                    held[PATCH * p + q, lane] = ZERO
                if row + p < height and column + q < width:
                    load_vector(held[PATCH * p + q], dy, line + q * filters)
        for p in range(TILE):
            _a(held, PATCH * p, 1)
        for q in range(PATCH):
            _a(held, q, PATCH)
        to = tile * FREQUENCIES * filters + c
        for f in range(FREQUENCIES):
            store_vector(d, to + f * filters, held[f])


@device
def _vector_or(registers, value, p, i, given):
    """Four numbers of p from i on if they are given, else this value."""
    for lane in range(VECTOR):
        registers[lane] = value
    if given:
        load_vector(registers, p, i)


@device
def _write_outputs(held, added, factor, summand, m, source, y, residual, has_residual, to, down, right, width, filters,
                   rectify):
    """act(scale · AᵀmA + bias + residual) of a tile, to `to` of y: `down` and `right` tell whether there are two rows
    and two columns. The four results stay in `held`."""
    for f in range(FREQUENCIES):
        load_vector(held[f], m, source + f * filters)
    for p in range(TILE):
        for q in range(TILE):
            inside = has_residual and (p == 0 or down) and (q == 0 or right)
            _vector_or(added[TILE * p + q], ZERO, residual, to + (p * width + q) * filters, inside)
    for p in range(PATCH):
        _a_transposed(held, PATCH * p, 1)
    floor = ZERO if rectify else -INFINITY
    for q in range(TILE):
        _a_transposed(held, q, PATCH)
        for p in range(TILE):
            for lane in range(VECTOR):
                value = held[PATCH * p + q, lane] * factor[lane] + summand[lane] + added[TILE * p + q, lane]
                held[PATCH * p + q, lane] = larger(value, floor)
            if (p == 0 or down) and (q == 0 or right):
                store_vector(y, to + (p * width + q) * filters, held[PATCH * p + q])


@kernel(block=THREADS, m=F32, y=F32, scale=F32, bias=F32, residual=F32, work=INT, first=INT, vectors=INT, **OUTPUT)
def winograd_output(m, y, scale, bias, residual, work, first, vectors, height, width, tiles_h, tiles_w, has_scale,
                    has_bias, has_residual, rectify):
    """The pixels of y of the tiles from `first` on: act(scale · AᵀmA + bias + residual)."""
    held = cuda.local.array((FREQUENCIES, VECTOR), types.float32)
    added = cuda.local.array((OUTPUTS, VECTOR), types.float32)
    factor, summand = cuda.local.array(VECTOR, types.float32), cuda.local.array(VECTOR, types.float32)
    i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if i < work:
        tile, image, row, column, k = _place(i, first, vectors, tiles_h, tiles_w)
        filters = vectors * VECTOR
        _vector_or(factor, ONE, scale, k, has_scale)
        _vector_or(summand, ZERO, bias, k, has_bias)
        _write_outputs(held, added, factor, summand, m, tile * FREQUENCIES * filters + k, y, residual, has_residual,
                       ((image * height + row) * width + column) * filters + k, row + 1 < height, column + 1 < width,
                       width, filters, rectify)


@kernel(block=THREADS, m=F32, y=F32, scale=F32, bias=F32, residual=F32, counts=F32, means=F32, squares=F32, length=INT,
        first=INT, vectors=INT, **OUTPUT)
def winograd_output_statistics(m, y, scale, bias, residual, counts, means, squares, length, first, vectors, height,
                               width, tiles_h, tiles_w, has_scale, has_bias, has_residual, rectify):
    """The same of `length` tiles, and the statistics of every LOT of them: `first` is a multiple of that."""
    held = cuda.local.array((FREQUENCIES, VECTOR), types.float32)
    added = cuda.local.array((OUTPUTS, VECTOR), types.float32)
    factor, summand = cuda.local.array(VECTOR, types.float32), cuda.local.array(VECTOR, types.float32)
    origin = cuda.local.array(VECTOR, types.float32)
    s, t = cuda.local.array(VECTOR, types.float32), cuda.local.array(VECTOR, types.float32)
    shared = cuda.shared.array(_SETS, types.float32)
    line, vector = int32(cuda.threadIdx.x // ACROSS), int32(cuda.threadIdx.x % ACROSS)
    k, filters, n = int32((cuda.blockIdx.y * ACROSS + vector) * VECTOR), vectors * VECTOR, int32(0)
    for lane in range(VECTOR):
        origin[lane] = s[lane] = t[lane] = ZERO
    if k < filters:
        _vector_or(factor, ONE, scale, k, has_scale)
        _vector_or(summand, ZERO, bias, k, has_bias)
        tile = int32(cuda.blockIdx.x * LOT + line)
        for _ in range(int32(0), int32(LOT), LINES):
            if tile < length:
                image, row, column = _corner(first + tile, tiles_h, tiles_w)
                down, right = row + 1 < height, column + 1 < width
                _write_outputs(held, added, factor, summand, m, tile * FREQUENCIES * filters + k, y, residual,
                               has_residual, ((image * height + row) * width + column) * filters + k, down, right,
                               width, filters, rectify)
                if n == 0:
                    for lane in range(VECTOR):
                        origin[lane] = held[0, lane]
                for p in range(TILE):
                    for q in range(TILE):
                        if (p == 0 or down) and (q == 0 or right):
                            deviate(s, t, origin, held[PATCH * p + q], 0)
                            n = int32(n + 1)
            tile = int32(tile + LINES)
    leave(shared, 0, LINES, _WIDTH, line, vector * VECTOR, origin, s, t, 0, n)
    cuda.syncthreads()
    channel = cuda.blockIdx.y * _WIDTH + cuda.threadIdx.x
    if cuda.threadIdx.x < _WIDTH and channel < filters:
        lot = quotient(first, LOT) + cuda.blockIdx.x
        join(shared, 0, LINES, _WIDTH, cuda.threadIdx.x, counts, means, squares, lot * filters + channel)


@kernel(block=THREADS, weight=F32, u=F32, size=INT, filters=INT, channels=INT, turned_h=INT, turned_w=INT,
        transposed=INT)
def winograd_filters(weight, u, size, filters, channels, turned_h, turned_w, transposed):
    """U as the matrix of `_pack.py`, a frequency a group: columns are filters, or with `transposed` channels."""
    w = cuda.local.array(FREQUENCIES, types.float32)
    i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if i < size:
        columns = channels if transposed else filters
        row = quotient(i, columns)
        column = i - row * columns
        k, c = (row, column) if transposed else (column, row)
        for r in range(3):
            for s in range(3):
                tap = (2 - r if turned_h else r) * 3 + (2 - s if turned_w else s)
                w[PATCH * r + s] = weight[(k * channels + c) * TAPS + tap]
        for r in range(3):
            _g(w, PATCH * r, 1)
        for q in range(PATCH):
            _g(w, q, PATCH)
        for f in range(FREQUENCIES):
            u[f * size + i] = w[f]


@kernel(block=THREADS, partial=F32, dweight=F32, size=INT, parts=INT)
def winograd_weight(partial, dweight, size, parts):
    """dweight from dU, the sum of its parts (parts, 16, filters · channels), added in order."""
    w, held = cuda.local.array(FREQUENCIES, types.float32), cuda.local.array(FREQUENCIES, types.float32)
    i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if i < size:
        for f in range(FREQUENCIES):
            w[f] = ZERO
        for part in range(parts):
            for f in range(FREQUENCIES):
                held[f] = partial[(part * FREQUENCIES + f) * size + i]
            for f in range(FREQUENCIES):
                w[f] += held[f]
        for p in range(PATCH):
            _g_transposed(w, PATCH * p, 1)
        for s in range(3):
            _g_transposed(w, s, PATCH)
            for r in range(3):
                dweight[i * TAPS + 3 * r + s] = w[PATCH * r + s]
