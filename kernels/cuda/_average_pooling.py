"""Average pooling by windows, sliding or adaptive, and its gradient: the kernels behind `pool2d.py`.

A thread writes one pixel of the result, for two vectors of channels, as in `_max_pooling.py`. Few large cells, as of a
global mean, are divided among the threads of a block, which add up in shared memory.
"""

from __future__ import annotations

import math

import numpy as np

from ._layout import Array, blocks, channels_last, deliver, empty_image
from ._math import ZERO
from ._numba import cuda, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of, quotient, reciprocal_of
from ._pooling import AXES, Pair, length_of, pixels_in, windows_over
from .launch import INT, LONG, STORAGE, kernel
from .ptx import lanes, load_vector, reciprocal, store_vector


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


def average(
    x: Array, counts: Pair, divisor: int, include_pad: bool, axes: list[int], out: Array | None
) -> Array:
    """Means (N, C, *counts) of windows; a divisor that is not 0 replaces the number of their pixels."""
    n, c = x.shape[:2]
    x, y = channels_last(x), empty_image(n, c, *counts, x.dtype)
    Plan(n, c, *counts, x.itemsize).run(_mean, x, y, divisor, include_pad, *axes)
    return deliver(y, out)


def average_backward(
    dy: Array, x_shape: tuple[int, ...], divisor: int, include_pad: bool, axes: list[int], reciprocals: Pair,
    out: Array | None,
) -> Array:  # fmt: skip
    """What all windows over a pixel give it; `reciprocals` are those of the counts of adaptive cells."""
    dy, dx = channels_last(dy), empty_image(*x_shape, dy.dtype)
    Plan(*x_shape, dy.itemsize).run(_shares, dy, dx, divisor, include_pad, *axes, *reciprocals)
    return deliver(dx, out)


def average_of_cells(x: Array, output_size: Pair, out: Array | None) -> Array:
    """Means of few large adaptive cells, channels in whole vectors: a block for each."""
    n, c, h, w = x.shape
    reciprocals = [reciprocal_of(count) for count in output_size]
    width = 16 // x.itemsize
    x, y = channels_last(x), empty_image(n, c, *output_size, x.dtype)
    shift = min(5, (c // width - 1).bit_length())
    grid = (n * math.prod(output_size), blocks(c, width << shift))
    _mean_of_cells(grid, x, y, c, h, w, *output_size, *reciprocals, shift)
    return deliver(y, out)
