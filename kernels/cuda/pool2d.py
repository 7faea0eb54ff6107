"""Max and average pooling, by sliding windows and adaptive, and their gradients, in channels-last memory.

A thread writes one pixel of the result, for two vectors of channels, from the pixels that are related to it: forward
those of its window, backward the windows that its pixel is in. No two threads write to one place, sums have one order,
nothing is cleared first. How threads divide pixels and channels stands in `_pixels.py`.

At copy bandwidth each function takes the bytes of x and of y, max pooling 1 more an element of y for its indices (4
where a window has more than 256 taps): windows that overlap find their common pixels in the caches. Few large cells, as
of a global mean, are divided among the threads of a block, which add up in shared memory.

The formulas are those of `kernels/reference/pool2d.py`. Which pixels a window has and which windows a pixel, sliding or
adaptive, is computed in `_pooling.py`.
"""

from __future__ import annotations

import math

import numpy as np

from ..shapes import pool_output_size
from ._indices import as_words, index_dtype, is_wide, pieces_of_indices
from ._layout import Array, blocks, channels_last, deliver, empty_image
from ._math import INFINITY, ZERO
from ._numba import cuda, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of, quotient, reciprocal_of
from ._pooling import AXES, Pair, cell_axes, length_of, number_in, pixels_in, sliding_axes, windows_over
from .launch import INT, LONG, STORAGE, U8, U32, kernel
from .ptx import lanes, load_vector, reciprocal, store_vector

_NONE = np.int32(0)
_LARGE = 16  # pixels, from which on a block is worth while for each cell


# ---------------------------------------------------------------- kernels
@pixel_kernels(x=STORAGE, y=STORAGE, small=U8, words=U32, wide=INT, pitch=INT, **AXES)
def _largest(vector):
    pixels, read, write = pieces(vector)
    put, _ = pieces_of_indices(vector)

    def largest(
        threads, channels, share, by_share, width, by_width, height, by_height, x, y, small, words, wide, pitch,
        size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_h,
        size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_w,
    ):  # fmt: skip
        """The largest of each window, and its number: row number times `pitch` plus column number."""
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        best = cuda.local.array((EACH, WIDEST), types.float32)
        winner = cuda.local.array((EACH, WIDEST), types.int32)
        image, p, q, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        lane_count = pixels(x)
        c, step = np.int32(part * lane_count), np.int32(share * lane_count)
        top, first_row, end_row = pixels_in(p, size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_h)
        left, first_column, end_column = pixels_in(q, size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_w)
        start = _NONE  # -inf does not beat the start value, so a window of nothing else has its first pixel win
        if first_row < end_row and first_column < end_column:
            start = np.int32(first_row * pitch + first_column)
        for k in range(EACH):
            for lane in range(lane_count):
                best[k, lane], winner[k, lane] = -INFINITY, start
        line = np.int32(image * size_h + top)
        to = np.int64((image * height + p) * width + q) * channels + c  # computed here it holds fewer registers
        for row in range(first_row, end_row):
            pixel = np.int32(line * size_w + left)
            for column in range(first_column, end_column):
                at = np.int64(pixel) * channels + c
                number = np.int32(row * pitch + column)
                for k in range(EACH):
                    read(value[k], x, at + k * step, channels - c - k * step)
                for k in range(EACH):
                    for lane in range(lane_count):
                        v, b = value[k, lane], best[k, lane]
                        if not v <= b and b == b:  # larger, or the first NaN
                            best[k, lane], winner[k, lane] = v, number
                pixel = np.int32(pixel + dilation_w)
            line = np.int32(line + dilation_h)
        for k in range(EACH):
            rest = channels - c - k * step
            write(y, to + k * step, best[k], rest)
            if rest > 0:
                put(small, words, wide, to + k * step, winner[k], rest, lane_count)

    return largest


@pixel_kernels(dy=STORAGE, dx=STORAGE, small=U8, words=U32, wide=INT, pitch=INT, **AXES)
def _winnings(vector):
    pixels, read, write = pieces(vector)
    _, get = pieces_of_indices(vector)

    def winnings(
        threads, channels, share, by_share, width, by_width, height, by_height, dy, dx, small, words, wide, pitch,
        size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_h,
        size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_w,
    ):  # fmt: skip
        """The sum of the gradients of the windows that a pixel won."""
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        total = cuda.local.array((EACH, WIDEST), types.float32)
        winner = cuda.local.array((EACH, WIDEST), types.int32)
        image, i, j, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        lane_count = pixels(dx)
        c, step = np.int32(part * lane_count), np.int32(share * lane_count)
        first_p, end_p = windows_over(i, size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_h)
        first_q, end_q = windows_over(j, size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_w)
        for k in range(EACH):
            for lane in range(lane_count):
                total[k, lane] = ZERO
        for p in range(first_p, end_p):
            row = number_in(i, p, kernel_h, stride_h, padding_h, dilation_h)
            q = first_q
            while q < end_q:
                column = number_in(j, q, kernel_w, stride_w, padding_w, dilation_w)
                if row >= 0 and column >= 0:
                    number = np.int32(row * pitch + column)
                    at = np.int64((image * count_h + p) * count_w + q) * channels + c
                    for k in range(EACH):
                        rest = channels - c - k * step
                        read(value[k], dy, at + k * step, rest)
                        if rest > 0:
                            get(small, words, wide, at + k * step, winner[k], rest, lane_count)
                    for k in range(EACH):
                        for lane in range(lane_count):
                            total[k, lane] += value[k, lane] if winner[k, lane] == number else ZERO
                q = np.int32(q + 1)
        at = np.int64((image * height + i) * width + j) * channels + c
        for k in range(EACH):
            write(dx, at + k * step, total[k], channels - c - k * step)

    return winnings


@pixel_kernels(x=STORAGE, y=STORAGE, divisor=INT, include_pad=INT, **AXES)
def _mean(vector):
    pixels, read, write = pieces(vector)

    def mean(
        threads, channels, share, by_share, width, by_width, height, by_height, x, y, divisor, include_pad,
        size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_h,
        size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_w,
    ):  # fmt: skip
        """The mean of each window; a divisor that is not 0 replaces the number of its pixels."""
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        total = cuda.local.array((EACH, WIDEST), types.float32)
        image, p, q, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        lane_count = pixels(x)
        c, step = np.int32(part * lane_count), np.int32(share * lane_count)
        top, first_row, end_row = pixels_in(p, size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_h)
        left, first_column, end_column = pixels_in(q, size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_w)
        for k in range(EACH):
            for lane in range(lane_count):
                total[k, lane] = ZERO
        line = np.int32(image * size_h + top)
        for _ in range(first_row, end_row):
            pixel = np.int32(line * size_w + left)
            for _ in range(first_column, end_column):
                at = np.int64(pixel) * channels + c
                for k in range(EACH):
                    read(value[k], x, at + k * step, channels - c - k * step)
                for k in range(EACH):
                    for lane in range(lane_count):
                        total[k, lane] += value[k, lane]
                pixel = np.int32(pixel + 1)
            line = np.int32(line + 1)
        over = divisor
        if over == 0 and kernel_h == 0:
            over = np.int32((end_row - first_row) * (end_column - first_column))
        elif over == 0:
            over = np.int32(length_of(p, size_h, kernel_h, stride_h, padding_h, include_pad)
                            * length_of(q, size_w, kernel_w, stride_w, padding_w, include_pad))  # fmt: skip
        scale = reciprocal(np.float32(over))
        at = np.int64((image * height + p) * width + q) * channels + c
        for k in range(EACH):
            for lane in range(lane_count):
                total[k, lane] *= scale
            write(y, at + k * step, total[k], channels - c - k * step)

    return mean


@pixel_kernels(dy=STORAGE, dx=STORAGE, divisor=INT, include_pad=INT, **AXES, by_count_h=LONG, by_count_w=LONG)
def _shares(vector):
    pixels, read, write = pieces(vector)

    def shares(
        threads, channels, share, by_share, width, by_width, height, by_height, dy, dx, divisor, include_pad,
        size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_h,
        size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_w, by_count_h, by_count_w,
    ):  # fmt: skip
        """The sum of what the windows over a pixel give it: each its gradient over its divisor."""
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        total = cuda.local.array((EACH, WIDEST), types.float32)
        image, i, j, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        lane_count = pixels(dx)
        c, step = np.int32(part * lane_count), np.int32(share * lane_count)
        first_p, end_p = windows_over(i, size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_h)
        first_q, end_q = windows_over(j, size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_w)
        for k in range(EACH):
            for lane in range(lane_count):
                total[k, lane] = ZERO
        for p in range(first_p, end_p):
            if kernel_h == 0:
                _, top, bottom = pixels_in(p, size_h, count_h, kernel_h, stride_h, padding_h, dilation_h, by_count_h)
                rows = np.int32(bottom - top)
            else:
                rows = length_of(p, size_h, kernel_h, stride_h, padding_h, include_pad)
            for q in range(first_q, end_q):
                if kernel_w == 0:
                    _, left, end = pixels_in(q, size_w, count_w, kernel_w, stride_w, padding_w, dilation_w, by_count_w)
                    columns = np.int32(end - left)
                else:
                    columns = length_of(q, size_w, kernel_w, stride_w, padding_w, include_pad)
                scale = reciprocal(np.float32(divisor if divisor != 0 else np.int32(rows * columns)))
                at = np.int64((image * count_h + p) * count_w + q) * channels + c
                for k in range(EACH):
                    read(value[k], dy, at + k * step, channels - c - k * step)
                for k in range(EACH):
                    for lane in range(lane_count):
                        total[k, lane] += scale * value[k, lane]
        at = np.int64((image * height + i) * width + j) * channels + c
        for k in range(EACH):
            write(dx, at + k * step, total[k], channels - c - k * step)

    return shares


@kernel(block=THREADS, x=STORAGE, y=STORAGE, channels=INT, size_h=INT, size_w=INT, count_h=INT, count_w=INT,
        by_h=LONG, by_w=LONG, shift=INT)  # fmt: skip
def _mean_of_cells(x, y, channels, size_h, size_w, count_h, count_w, by_h, by_w, shift):
    """The mean of adaptive cells: a block has 2^shift vectors of channels of one, its threads divide the pixels."""
    sums = cuda.shared.array((WIDEST, THREADS), types.float32)
    value = cuda.local.array(WIDEST, types.float32)
    total = cuda.local.array(WIDEST, types.float32)
    thread, cell = cuda.threadIdx.x, np.int32(cuda.blockIdx.x)
    width, across = lanes(x), np.int32(1 << shift)
    c = np.int32((cuda.blockIdx.y * across + (thread & (across - 1))) * width)
    line = quotient(cell, by_w)
    image = quotient(line, by_h)
    p, q = np.int32(line - image * count_h), np.int32(cell - line * count_w)
    top, left = quotient(p * size_h, by_h), quotient(q * size_w, by_w)
    rows = np.int32(quotient((p + 1) * size_h + count_h - 1, by_h) - top)
    columns = np.int32(quotient((q + 1) * size_w + count_w - 1, by_w) - left)
    corner = np.int64(image * size_h + top) * size_w + left
    for lane in range(width):
        total[lane] = ZERO
    row, column = np.int32(0), np.int32(thread >> shift)
    while column >= columns:
        column = np.int32(column - columns)
        row = np.int32(row + 1)
    while row < rows and c < channels:
        load_vector(value, x, (corner + row * size_w + column) * channels + c)
        for lane in range(width):
            total[lane] += value[lane]
        column = np.int32(column + (THREADS >> shift))
        while column >= columns:
            column = np.int32(column - columns)
            row = np.int32(row + 1)
    for lane in range(width):
        sums[lane, thread] = total[lane]
    cuda.syncthreads()
    half = THREADS // 2
    while half >= across:
        if thread < half:
            for lane in range(width):
                sums[lane, thread] += sums[lane, thread + half]
        cuda.syncthreads()
        half >>= 1
    if thread < across and c < channels:
        scale = reciprocal(np.float32(np.int32(rows * columns)))
        for lane in range(width):
            total[lane] = sums[lane, thread] * scale
        store_vector(y, np.int64(cell) * channels + c, total)


# ---------------------------------------------------------------- functions
def max_pool2d(
    x: Array,
    *,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """The largest value in each window and its tap r * kernel_w + s: x (N, C, H, W) to y, indices (N, C, P, Q).

    The first maximum wins, the first NaN over everything; a window that misses the image gives -inf and index 0.
    indices are uint8 for at most 256 taps, else int32. Reads x once, writes y and the indices.
    """
    axes = zip(x.shape[2:], kernel_size, stride, padding, dilation)
    counts = [pool_output_size(*axis, ceil_mode) for axis in axes]
    reciprocals = [reciprocal_of(d) for d in dilation]
    sliding = sliding_axes(x.shape[2:], counts, kernel_size, stride, padding, dilation, reciprocals)
    return _maximum(x, counts, kernel_size, sliding, out)


def max_pool2d_backward(
    dy: Array,
    indices: Array,
    x_shape: tuple[int, int, int, int],
    *,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    out: Array | None = None,
) -> Array:
    """Each window's gradient goes to its winner: dy, indices (N, C, P, Q) to dx of x_shape (N, C, H, W).

    Reads dy and the indices, writes dx.
    """
    reciprocals = [reciprocal_of(s) for s in stride]
    sliding = sliding_axes(x_shape[2:], dy.shape[2:], kernel_size, stride, padding, dilation, reciprocals)
    return _maximum_backward(dy, indices, x_shape, kernel_size[1], sliding, out)


def avg_pool2d(
    x: Array,
    *,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    out: Array | None = None,
) -> Array:
    """The mean of each window: x (N, C, H, W) to y (N, C, P, Q). Reads x once, writes y."""
    axes = zip(x.shape[2:], kernel_size, stride, padding)
    counts = [pool_output_size(*axis, 1, ceil_mode) for axis in axes]
    sliding = sliding_axes(x.shape[2:], counts, kernel_size, stride, padding, (1, 1), (0, 0))
    return _average(x, counts, divisor_override or 0, count_include_pad, sliding, out)


def avg_pool2d_backward(
    dy: Array,
    x_shape: tuple[int, int, int, int],
    *,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    out: Array | None = None,
) -> Array:
    """Every pixel of a window gets the window's gradient over its divisor: dy (N, C, P, Q) to dx of x_shape.

    `ceil_mode` is already in dy's shape. Reads dy once, writes dx.
    """
    reciprocals = [reciprocal_of(s) for s in stride]
    sliding = sliding_axes(x_shape[2:], dy.shape[2:], kernel_size, stride, padding, (1, 1), reciprocals)
    return _average_backward(dy, x_shape, divisor_override or 0, count_include_pad, sliding, (0, 0), out)


def adaptive_avg_pool2d(x: Array, *, output_size: Pair, out: Array | None = None) -> Array:
    """The mean of each cell of a P x Q grid laid over the image: x (N, C, H, W) to y (N, C, P, Q).

    Cell p covers the rows ⌊p H / P⌋ to ⌈(p + 1) H / P⌉ (exclusive), columns likewise. Reads x once, writes y.
    """
    n, c, h, w = x.shape
    reciprocals = [reciprocal_of(count) for count in output_size]
    width = 16 // x.itemsize
    if c % width or h * w < _LARGE * math.prod(output_size):
        return _average(x, output_size, 0, False, cell_axes((h, w), output_size, reciprocals), out)
    x, y = channels_last(x), empty_image(n, c, *output_size, x.dtype)
    shift = min(5, (c // width - 1).bit_length())
    grid = (n * math.prod(output_size), blocks(c, width << shift))
    _mean_of_cells(grid, x, y, c, h, w, *output_size, *reciprocals, shift)
    return deliver(y, out)


def adaptive_avg_pool2d_backward(dy: Array, x_shape: tuple[int, int, int, int], *, out: Array | None = None) -> Array:
    """Every pixel of a cell gets the cell's gradient over its area: dy (N, C, P, Q) to dx of x_shape."""
    counts = dy.shape[2:]
    cells = cell_axes(x_shape[2:], counts, [reciprocal_of(size) for size in x_shape[2:]])
    return _average_backward(dy, x_shape, 0, False, cells, [reciprocal_of(count) for count in counts], out)


def adaptive_max_pool2d(
    x: Array, *, output_size: Pair, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """The largest value in each cell of a P x Q grid and its pixel h W + w: x (N, C, H, W) to y, indices (N, C, P, Q).

    Cells are those of `adaptive_avg_pool2d`. The first maximum wins, the first NaN over everything. indices are uint8
    for at most 256 pixels, else int32. Reads x once, writes y and the indices.
    """
    cells = cell_axes(x.shape[2:], output_size, [reciprocal_of(count) for count in output_size])
    return _maximum(x, output_size, x.shape[2:], cells, out)


def adaptive_max_pool2d_backward(
    dy: Array, indices: Array, x_shape: tuple[int, int, int, int], *, out: Array | None = None
) -> Array:
    """Each cell's gradient goes to its winner: dy, indices (N, C, P, Q) to dx of x_shape (N, C, H, W)."""
    cells = cell_axes(x_shape[2:], dy.shape[2:], [reciprocal_of(size) for size in x_shape[2:]])
    return _maximum_backward(dy, indices, x_shape, x_shape[3], cells, out)


def _maximum(x, counts, numbers, axes, out):
    """Maxima, and where they were as one of numbers[0] * numbers[1]."""
    n, c = x.shape[:2]
    x, y = channels_last(x), empty_image(n, c, *counts, x.dtype)
    indices = empty_image(n, c, *counts, index_dtype(math.prod(numbers)))
    plan = Plan(n, c, *counts, x.itemsize, vector=not is_wide(indices))
    plan.run(_largest, x, y, *as_words(indices, plan.vector), numbers[1], *axes)
    y_out, indices_out = out or (None, None)
    return deliver(y, y_out), deliver(indices, indices_out)


def _maximum_backward(dy, indices, x_shape, pitch, axes, out):
    dy, indices, dx = channels_last(dy), channels_last(indices), empty_image(*x_shape, dy.dtype)
    plan = Plan(*x_shape, dy.itemsize, vector=not is_wide(indices))
    plan.run(_winnings, dy, dx, *as_words(indices, plan.vector), pitch, *axes)
    return deliver(dx, out)


def _average(x, counts, divisor, include_pad, axes, out):
    n, c = x.shape[:2]
    x, y = channels_last(x), empty_image(n, c, *counts, x.dtype)
    Plan(n, c, *counts, x.itemsize).run(_mean, x, y, divisor, include_pad, *axes)
    return deliver(y, out)


def _average_backward(dy, x_shape, divisor, include_pad, axes, reciprocals, out):
    dy, dx = channels_last(dy), empty_image(*x_shape, dy.dtype)
    Plan(*x_shape, dy.itemsize).run(_shares, dy, dx, divisor, include_pad, *axes, *reciprocals)
    return deliver(dx, out)
