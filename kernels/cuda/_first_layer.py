"""The convolution of images with up to four channels, as networks begin with, on tensor cores: mma.sync, no padding.

    y[m, k] = act(scale[k] Σ_{u, v, c} x[pixel(m, u, v), c] · weight[k, c, u, v] + bias[k] + residual[m, k])

Images as they are: the general kernels would need a copy of them with the channels padded to 16 bytes, and multiply
mostly zeros. Here a run of a window's numbers (`_patch.py`) is the reduction, and only the whole of it is padded:

    3 channels      general, TF32 · 16 bits      here            zeros here
    3 × 3           36 → 64  · 72 → 128          27 → 32         16 %
    7 × 7           196 → 224 · 392 → 448        147 → 152 · 160   3 % · 8 % (a run of 16-bit numbers is made even)

A block of four warps takes 64 outputs, whose weights it keeps in shared memory, and goes over tiles of 128 pixels:

    barrier │ patch of the tile to shared memory │ barrier │ for 32 bytes of the reduction: words of the patch, ldmatrix
    of the weights, 2 × 8 products of 16 × 8 by each warp, of 32 pixels │ sums to memory

A lane's words of the left factor lie in the patch at the window's first number plus an offset that is the same for all
pixels, from a table; there also is a mask for a word of which half or all is beyond a run. 16-bit words begin at even
numbers, so that windows at odd ones read a second copy of the patch, moved by one. The weights' rows are in such an
order that a lane's sums are neighbours: they leave in vectors of 16 bytes, four lanes beside each other, without a
detour through shared memory.

Roofline: 2 K bytes written and 2 C stride² read for each pixel in 16 bits; memory bound where 2 K C R S operations take
less. Shared memory gives 26 lines of 128 bytes for 16 products: 3 × 3 are far below it, 7 × 7 near.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._layout import Array, blocks
from ._math import INFINITY, ONE, ZERO, fma, larger
from ._memory import empty, multiprocessors
from ._numba import cuda, device, types
from ._patch import PIXELS, REGISTERS, THREADS, TILING, bring, runs, tile_at, tiling
from ._patch import tiles as patch_tiles
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import (
    as_stored,
    bits,
    from_bits,
    lanes,
    load,
    load_shared,
    load_vector,
    quotient,
    reciprocal,
    shuffle_xor,
    store_vector,
)
from .ptx_mma import load_matrices, load_word, load_words, products, round_tf32, store_words

LEAST = 8, 0  # compute capability
CHANNELS, OUTPUTS = 4, 64  # at most; of a block
FEWEST = 16  # outputs that are worth it
BLOCKS_PER_SM = 4
SHARED = 99 * 1024  # bytes that a block may have on every card from 8.0 on
AT_ONCE = 4  # vectors of the weights that a thread has under way
SKEW = 4  # words between rows of the weights: eight rows of 16 bytes then lie in different banks
SUMS = 9 * OUTPUTS  # words of the statistics: the origins, each warp's two sums
int32, uint32 = np.int32, np.uint32


@device
def output_of(row, vector):
    """The output whose weights are row 8 j + c: a lane's two columns of each product make vectors of y."""
    j, c = row >> 3, row & 7
    products_ = vector >> 1  # that give a vector
    h = quotient(j, products_)
    return int32((h * 4 + (c >> 1)) * vector + ((j - h * products_) << 1) + (c & 1))


# ---------------------------------------------------------------- the weights
def _weights(source: str) -> Kernel:
    """`source` is the kind of the weight: that of the rows, or F32."""

    def first_weights(weight, rows, vectors, row_vectors, vector, count, length, run_words, outputs, channels, taps):
        held = cuda.local.array(8, types.float32)
        i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i < vectors:
            row = quotient(i, row_vectors)
            k = int32((row & ~(OUTPUTS - 1)) + output_of(row & (OUTPUTS - 1), vector))
            depth, numbers = int32((i - row * row_vectors) * lanes(rows)), int32(lanes(rows) >> 2)
            for lane in range(lanes(rows)):
                run = quotient(depth + lane, run_words * numbers)
                inside = int32(depth + lane - run * run_words * numbers)
                held[lane] = ZERO
                if run < count and inside < length and k < outputs:
                    place = int32(run * length + inside)
                    tap = quotient(place, channels)
                    held[lane] = load(weight, (k * channels + place - tap * channels) * taps + tap)
                if lanes(rows) == 4:
                    held[lane] = from_bits(round_tf32(bits(held[lane])))
            store_vector(rows, i * lanes(rows), held)

    names = first_weights.__code__.co_varnames[2 : first_weights.__code__.co_argcount]
    fields = dict(weight=source, rows=STORAGE, **dict.fromkeys(names, INT))
    return kernel(block=THREADS, name=f"first_weights_of_{source}", **fields)(first_weights)


_WEIGHTS = {source: _weights(source) for source in (STORAGE, F32)}


def depth_words(channels: int, window: tuple[Axis, Axis], numbers: int) -> int:
    """Words of the reduction, `numbers` in each: whole steps of eight."""
    count, _, length = runs(channels, window)
    return blocks(count * blocks(length, numbers), 8) * 8


def weight_rows(weight: Array, window: tuple[Axis, Axis], dtype: Any, vector: int) -> Array:
    """A contiguous weight (K, C, R, S) as blocks keep it, rows of `dtype` for whole 64s."""
    k, channels, r, s = weight.shape
    numbers = 4 // np.dtype(dtype).itemsize
    count, _, length = runs(channels, window)
    row = depth_words(channels, window, numbers) + SKEW
    rows = empty((blocks(k, OUTPUTS) * OUTPUTS, row * numbers), dtype)
    _WEIGHTS[STORAGE if weight.dtype == rows.dtype else F32](
        blocks(len(rows) * row // 4, THREADS), weight, rows, len(rows) * row // 4, row // 4, vector, count, length,
        blocks(length, numbers), k, channels, r * s)
    return rows


# ---------------------------------------------------------------- the product
@device
def keep(shared, to, held, rows, first, vectors):
    """`vectors` of 16 bytes from rows[first] on, to shared[to:]."""
    for vector in range(int32(cuda.threadIdx.x), vectors, AT_ONCE * THREADS):
        for k in range(AT_ONCE):
            at = int32(vector + k * THREADS)
            load_words(held, k * 4, rows, first + np.int64(at) * lanes(rows), int32(at < vectors))
        for k in range(AT_ONCE):
            at = int32(vector + k * THREADS)
            if at < vectors:
                store_words(shared, to + at * 4, held, k * 4)


@device
def _across(values):
    """values[:2] of lane l become the sums over 8 lanes of values[2 (l / 4)] and the next; 16 values a lane."""
    lane = cuda.threadIdx.x & 31
    for turn in range(3):
        mask, half = 16 >> turn, 8 >> turn
        upper = lane & mask
        for i in range(half):
            give = values[i] if upper else values[half + i]
            stay = values[half + i] if upper else values[i]
            values[i] = stay + shuffle_xor(give, mask)


@device
def leave_set(counts, means, squares, at, floats, origin, n):
    """A tile's n values v of an output: floats[origin] = o, behind it the four warps' Σ (v - o), then Σ (v - o)²."""
    total, square = ZERO, ZERO
    for warp in range(4):
        total += floats[origin + OUTPUTS * (1 + warp)]
        square += floats[origin + OUTPUTS * (5 + warp)]
    by = total * reciprocal(n)
    counts[at], means[at], squares[at] = n, floats[origin] + by, larger(fma(-total, by, square), ZERO)


def _tile(output: str, dtypes: tuple[str, ...], statistics: bool) -> Kernel:
    """`output` is the kind of x, y and the residual; `dtypes` are those of the factors."""
    sums_words = SUMS if statistics else 0

    def first_layer(x, rows, y, scale, bias, residual, counts, means, squares, tiles, tiles_h, tiles_w, shift, grid_h,
                    grid_w, source_h, line, start_h, start_w, step_h, step_w, patch_h, patch_w, odd, move_h, move_w,
                    count, a_row, length, steps, outputs, has_scale, has_bias, has_residual, rectify):
        shared = cuda.shared.array(0, types.uint32)
        floats = cuda.shared.array(0, types.float32)
        sums = cuda.local.array((2, 8, 4), types.float32)
        left, right = cuda.local.array((2, 4), types.uint32), cuda.local.array((8, 2), types.uint32)
        held, copied = cuda.local.array(REGISTERS, types.float32), cuda.local.array((AT_ONCE, 4), types.uint32)
        window, pixel = cuda.local.array(4, types.int32), cuda.local.array(4, types.int32)
        values, factors = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        summands, added = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        s, t = cuda.local.array(16, types.float32), cuda.local.array(16, types.float32)
        thread, first_k = int32(cuda.threadIdx.x), int32(cuda.blockIdx.y * OUTPUTS)
        lane, warp = thread & 31, thread >> 5
        numbers, vector = int32(lanes(rows) >> 2), int32(lanes(y))
        row = int32(steps * 8 + SKEW)
        table = int32(OUTPUTS * row)
        factor = int32(table + steps * 16)
        origin = int32(factor + 2 * OUTPUTS)
        patch = int32(origin + sums_words)

        # What all tiles need: the weights, where a word of the reduction lies and what of it counts, scale and bias.
        keep(shared, 0, copied, rows, np.int64(first_k) * row * numbers, OUTPUTS * row >> 2)
        run_words = quotient(length + numbers - 1, numbers)
        for word in range(thread, steps * 8, THREADS):
            run = quotient(word, run_words)
            inside = int32(word - run * run_words)
            u = quotient(run, a_row)
            mask = uint32(0xFFFFFFFF)
            if numbers == 2 and 2 * inside + 1 == length:
                mask = uint32(0xFFFF)
            offset = int32(u * move_h * patch_w + quotient((run - u * a_row) * move_w, numbers) + inside)
            shared[table + 2 * word] = uint32(offset) if run < count else uint32(0)
            shared[table + 2 * word + 1] = mask if run < count else uint32(0)
        for k in range(thread, OUTPUTS, THREADS):
            inside = first_k + k < outputs
            floats[factor + k] = scale[first_k + k] if has_scale and inside else ONE
            floats[factor + OUTPUTS + k] = bias[first_k + k] if has_bias and inside else ZERO

        # This lane's four pixels of a tile: where in the patch their windows begin.
        for p in range(4):
            pixel[p] = int32(warp * 32 + (p >> 1) * 16 + (p & 1) * 8 + (lane >> 2))
            i, j = pixel[p] >> shift, pixel[p] & int32((1 << shift) - 1)
            window[p] = int32(patch + i * step_h * patch_w + j * step_w)
            if numbers == 2:
                begin = int32(j * step_w)
                window[p] = int32(patch + i * step_h * patch_w + (begin >> 1) + (begin & 1) * odd)
        part = int32(table + (lane & 3) * 2)
        b_from = int32(((lane & 7) + ((lane >> 4) << 3)) * row + (((lane >> 3) & 1) << 2))
        floor = ZERO if rectify else -INFINITY

        for tile in range(int32(cuda.blockIdx.x), tiles, int32(cuda.gridDim.x)):
            image, first_i, first_j = tile_at(tile, tiles_h, tiles_w, shift)
            cuda.syncthreads()
            bring(shared, patch, held, x, rows, numbers, numbers, 1, image, first_i, first_j, source_h, line, start_h,
                  start_w, step_h, step_w, patch_h, patch_w, odd)
            cuda.syncthreads()
            for i in range(2):
                for j in range(8):
                    for word in range(4):
                        sums[i, j, word] = ZERO
            for step in range(steps):
                at = int32(part + step * 16)
                near, near_mask = int32(load_word(shared, at, 0)), load_word(shared, at, 1)
                far, far_mask = int32(load_word(shared, at, 8)), load_word(shared, at, 9)
                for j in range(4):
                    load_matrices(right, j * 4, shared, int32(b_from + j * 16 * row) + step * 8)
                for p in range(4):
                    left[p >> 1, p & 1] = load_word(shared, int32(window[p] + near), 0) & near_mask
                    left[p >> 1, 2 + (p & 1)] = load_word(shared, int32(window[p] + far), 0) & far_mask
                products(sums, left, right, rows)

            first = ((image * grid_h + first_i) * np.int64(grid_w) + first_j) * outputs + first_k
            for h in range(16 // vector):
                column = int32((h * 4 + (lane & 3)) * vector)
                for lane_ in range(0, vector, 4):
                    load_shared(factors, lane_, floats, factor + column + lane_)
                    load_shared(summands, lane_, floats, factor + OUTPUTS + column + lane_)
                    for k in range(4):
                        added[lane_ + k] = ZERO
                for p in range(4):
                    i, j = pixel[p] >> shift, pixel[p] & int32((1 << shift) - 1)
                    inside = first_i + i < grid_h and first_j + j < grid_w and first_k + column < outputs
                    to = first + int32(i * grid_w + j) * np.int64(outputs) + column
                    if inside and has_residual:
                        load_vector(added, residual, to)
                    for k in range(vector):
                        place = h * (vector >> 1) + (k >> 1)
                        value = sums[p >> 1, place, ((p & 1) << 1) + (k & 1)] * factors[k] + summands[k] + added[k]
                        values[k] = larger(value, floor)
                        if statistics:
                            sums[p >> 1, place, ((p & 1) << 1) + (k & 1)] = as_stored(y, values[k])
                    if inside:
                        store_vector(y, to, values)

            if statistics:
                # Of the tile's values v: s = Σ (v - o), t = Σ (v - o)² with its first pixel's value as the origin o.
                if thread < 4:
                    for place in range(8):
                        for word in range(2):
                            floats[origin + place * 8 + thread * 2 + word] = sums[0, place, word]
                cuda.syncthreads()
                for place in range(16):
                    s[place], t[place] = ZERO, ZERO
                for p in range(4):
                    i, j = pixel[p] >> shift, pixel[p] & int32((1 << shift) - 1)
                    if first_i + i < grid_h and first_j + j < grid_w:
                        for place in range(16):
                            o = load_word(floats, int32(origin + (lane & 3) * 2), (place >> 1) * 8 + (place & 1))
                            by = sums[p >> 1, place >> 1, ((p & 1) << 1) + (place & 1)] - o
                            s[place] += by
                            t[place] = fma(by, by, t[place])
                _across(s)
                _across(t)
                for word in range(2):
                    floats[origin + OUTPUTS * (1 + warp) + lane * 2 + word] = s[word]
                    floats[origin + OUTPUTS * (5 + warp) + lane * 2 + word] = t[word]
                cuda.syncthreads()
                k = int32(first_k + output_of(thread, vector))
                if thread < OUTPUTS and k < outputs:
                    n = np.float32(min(grid_h - first_i, PIXELS >> shift) * min(grid_w - first_j, 1 << shift))
                    leave_set(counts, means, squares, tile * np.int64(outputs) + k, floats, origin + thread, n)

    pointers = dict(x=output, rows=STORAGE, y=output, scale=F32, bias=F32, residual=output, counts=F32, means=F32,
                    squares=F32)
    names = first_layer.__code__.co_varnames[len(pointers) : first_layer.__code__.co_argcount]
    assert names[: len(TILING)] == TILING
    name = "first_layer" + "_of_float32" * (output == F32) + "_statistics" * statistics
    return kernel(block=THREADS, shared=SHARED, blocks_per_sm=3 if statistics else BLOCKS_PER_SM, least=LEAST,
                  dtypes=dtypes, name=name, **pointers, **dict.fromkeys(names, INT))(first_layer)


_ALL = "float32", "float16", "bfloat16"
_TILES = {(STORAGE, statistics): _tile(STORAGE, _ALL, statistics) for statistics in (False, True)}
_TILES[F32, False] = _tile(F32, ("bfloat16",), False)


def suits(x_shape: tuple, outputs: int, groups: int, window: tuple[Axis, Axis]) -> bool:
    """Whether this is the forward convolution of a first layer; the gradient to the input goes backwards."""
    (images, channels, *_), (h, w) = x_shape, window
    forward = h.move > 0 and w.move > 0 and h.taps and w.taps
    return bool(groups == 1 and forward and images and 0 < channels <= CHANNELS and outputs >= FEWEST)


def tiles(capability: tuple[int, int], x_dtype: np.dtype, y_dtype: np.dtype, x_shape: tuple, y_shape: tuple,
          groups: int, window: tuple[Axis, Axis]) -> list[tuple[int, int]]:
    """The tiles (rows, columns) of y that can be used, the one that is chosen without a measurement first; maybe none.

    Images and weight are multiplied as `x_dtype`; the shapes are the convolution's own.
    """
    channels, w, numbers = x_shape[1], window[1], 4 // x_dtype.itemsize
    pairs = channels % numbers == 0 or w.move == 1 or w.taps == 1  # a word is of neighbours
    whole = y_shape[1] * y_dtype.itemsize % 16 == 0
    if capability < LEAST or not (pairs and whole and suits(x_shape, y_shape[1], groups, window)):
        return []
    depth = depth_words(channels, window, numbers)
    return [tile for tile in patch_tiles(x_shape, window)
            if _shared(depth, tiling(tile, x_shape, window, numbers).words) <= SHARED]


def _shared(depth: int, patch: int, statistics: bool = True) -> int:
    """Bytes of a block: the weights, the table, scale and bias, what statistics need, the patch."""
    return 4 * (OUTPUTS * (depth + SKEW) + 2 * depth + 2 * OUTPUTS + statistics * SUMS + patch)


def convolve(x: Array, rows: Array, y: Array, groups: int, window: tuple[Axis, Axis], scale: Array | None = None,
             bias: Array | None = None, rectify: bool = False, residual: Array | None = None,
             sets: tuple[Array, Array, Array] | None = None, *, tile: tuple[int, int]) -> None:
    """Fill y; x, y and the residual are channels-last, of one dtype, rows of `weight_rows`, that or bfloat16.

    `sets`, to be filled, are the count, mean and sum of squared deviations of each channel in each of the `lots` tiles,
    where images are multiplied in their own dtype.
    """
    (_, channels, *_), k, (h, w), numbers = x.shape, y.shape[1], window, 4 // rows.itemsize
    depth, places = depth_words(channels, window, numbers), tiling(tile, x.shape, window, numbers)
    statistics = sets is not None
    _TILES[STORAGE if x.dtype == rows.dtype else F32, statistics](
        (min(places.tiles, multiprocessors() * BLOCKS_PER_SM), blocks(k, OUTPUTS)), x, rows, y, scale, bias, residual,
        *(sets or (None, None, None)), *places, h.move, w.move * channels, *runs(channels, window), depth // 8, k,
        scale is not None, bias is not None, residual is not None, rectify,
        shared=_shared(depth, places.words, statistics))
