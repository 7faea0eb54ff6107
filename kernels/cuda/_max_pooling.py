"""Max pooling by windows, sliding or adaptive, and its gradient: the kernels behind `pool2d.py`.

A thread writes one pixel of the result, for two vectors of channels, from the pixels that are related to it: forward
those of its window, backward the windows that its pixel is in. No two threads write to one place, sums have one order,
nothing is cleared first. How threads divide pixels and channels stands in `_pixels.py`.
"""

from __future__ import annotations

import math

import numpy as np

from ._indices import as_words, contend, index_dtype, is_wide, pieces_of_indices
from ._layout import Array, channels_last, deliver, empty_image
from ._math import INFINITY, ZERO
from ._numba import cuda, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of
from ._pooling import AXES, Pair, number_in, pixels_in, windows_over
from .launch import INT, STORAGE, U8, U32

_NONE = np.int32(0)


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
                    contend(best[k], winner[k], value[k], number, lane_count)
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


def maximum(
    x: Array, counts: Pair, numbers: Pair, axes: list[int], out: tuple[Array, Array] | None
) -> tuple[Array, Array]:
    """Maxima (N, C, *counts) of windows, and where they were as one of numbers[0] * numbers[1]."""
    n, c = x.shape[:2]
    x, y = channels_last(x), empty_image(n, c, *counts, x.dtype)
    indices = empty_image(n, c, *counts, index_dtype(math.prod(numbers)))
    plan = Plan(n, c, *counts, x.itemsize, vector=not is_wide(indices))
    plan.run(_largest, x, y, *as_words(indices, plan.vector), numbers[1], *axes)
    y_out, indices_out = out or (None, None)
    return deliver(y, y_out), deliver(indices, indices_out)


def maximum_backward(
    dy: Array, indices: Array, x_shape: tuple[int, ...], pitch: int, axes: list[int], out: Array | None
) -> Array:
    """Each window's gradient to its winner, whose number is row times `pitch` plus column."""
    dy, indices, dx = channels_last(dy), channels_last(indices), empty_image(*x_shape, dy.dtype)
    plan = Plan(*x_shape, dy.itemsize, vector=not is_wide(indices))
    plan.run(_winnings, dy, dx, *as_words(indices, plan.vector), pitch, *axes)
    return deliver(dx, out)
