"""Padding of images with their own pixels, and its gradient, in channels-last memory.

A thread takes two vectors of channels of a pixel: forward it reads the pixel's source, backward it adds up its copies,
of which each axis has at most three or, of a replicated end, all of the border there. At copy bandwidth each way takes
the bytes of x and of y. What they do is that of `kernels/reference/pad2d.py`.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array, channels_last, deliver, empty_image
from ._math import ZERO
from ._numba import cuda, device, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of
from .launch import INT, STORAGE

Padding = tuple[tuple[int, int], tuple[int, int]]
_MODES = ("reflect", "replicate", "circular")
_REFLECT, _REPLICATE = 0, 1


@device
def _source(place, size, before, mode):
    """The pixel of an axis that a place of the padded axis is a copy of."""
    i = np.int32(place - before)
    if mode == _REPLICATE:
        return min(max(i, np.int32(0)), np.int32(size - 1))
    if i < 0:
        return np.int32(-i) if mode == _REFLECT else np.int32(i + size)
    if i >= size:
        return np.int32(2 * (size - 1) - i) if mode == _REFLECT else np.int32(i - size)
    return i


@device
def _copies(i, size, before, after, mode):
    """How many places may be copies of pixel i."""
    if mode == _REPLICATE:
        return np.int32(1 + (before if i == 0 else 0) + (after if i == size - 1 else 0))
    return np.int32(3)


@device
def _copy(which, i, size, before, after, mode):
    """The place of one of them, or -1."""
    if mode == _REPLICATE:
        return np.int32(which + (0 if i == 0 else before + i))
    if which == 0:
        return np.int32(before + i)
    if which == 1:
        place = np.int32(before - i if mode == _REFLECT else before + i - size)
        return place if i > 0 or mode != _REFLECT else np.int32(-1)
    past = np.int32(size - 2 - i if mode == _REFLECT else i)  # how far behind the last pixel
    return np.int32(before + size + past) if past >= 0 and past < after else np.int32(-1)


@pixel_kernels(x=STORAGE, y=STORAGE, x_height=INT, x_width=INT, top=INT, left=INT, mode=INT)
def _pad(vector):
    size, read, write = pieces(vector)

    def pad(
        threads, channels, share, by_share, width, by_width, height, by_height, x, y, x_height, x_width, top, left, mode
    ):  # fmt: skip
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        image, i, j, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        row, column = _source(i, x_height, top, mode), _source(j, x_width, left, mode)
        lanes = size(x)
        c, step = np.int32(part * lanes), np.int32(share * lanes)
        at = np.int64((image * x_height + row) * x_width + column) * channels + c
        to = np.int64((image * height + i) * width + j) * channels + c
        for k in range(EACH):
            read(value[k], x, at + k * step, channels - c - k * step)
        for k in range(EACH):
            write(y, to + k * step, value[k], channels - c - k * step)

    return pad


@pixel_kernels(dy=STORAGE, dx=STORAGE, y_height=INT, y_width=INT, top=INT, bottom=INT, left=INT, right=INT, mode=INT)
def _pad_backward(vector):
    size, read, write = pieces(vector)

    def gathered(
        threads, channels, share, by_share, width, by_width, height, by_height, dy, dx, y_height, y_width, top, bottom,
        left, right, mode,
    ):  # fmt: skip
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        total = cuda.local.array((EACH, WIDEST), types.float32)
        image, i, j, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        lanes = size(dx)
        c, step = np.int32(part * lanes), np.int32(share * lanes)
        for k in range(EACH):
            for lane in range(lanes):
                total[k, lane] = ZERO
        for a in range(_copies(i, height, top, bottom, mode)):
            row = _copy(a, i, height, top, bottom, mode)
            for b in range(_copies(j, width, left, right, mode)):
                column = _copy(b, j, width, left, right, mode)
                if row >= 0 and column >= 0:
                    at = np.int64((image * y_height + row) * y_width + column) * channels + c
                    for k in range(EACH):
                        read(value[k], dy, at + k * step, channels - c - k * step)
                    for k in range(EACH):
                        for lane in range(lanes):
                            total[k, lane] += value[k, lane]
        to = np.int64((image * height + i) * width + j) * channels + c
        for k in range(EACH):
            write(dx, to + k * step, total[k], channels - c - k * step)

    return gathered


def pad2d(x: Array, *, padding: Padding, mode: str, out: Array | None = None) -> Array:
    """x (N, C, H, W) inside a border of its own pixels: padding = ((top, bottom), (left, right)).

    mode is "reflect", "replicate" or "circular".
    """
    n, c, h, w = x.shape
    (top, bottom), (left, right) = padding
    x, y = channels_last(x), empty_image(n, c, top + h + bottom, left + w + right, x.dtype)
    Plan(*y.shape, x.itemsize).run(_pad, x, y, h, w, top, left, _MODES.index(mode))
    return deliver(y, out)


def pad2d_backward(
    dy: Array, x_shape: tuple[int, int, int, int], *, padding: Padding, mode: str, out: Array | None = None
) -> Array:
    """Every pixel gets the sum of the gradients of its copies: dy (N, C, OH, OW) to dx of x_shape (N, C, H, W)."""
    dy, dx = channels_last(dy), empty_image(*x_shape, dy.dtype)
    (top, bottom), (left, right) = padding
    plan = Plan(*x_shape, dy.itemsize)
    plan.run(_pad_backward, dy, dx, *dy.shape[2:], top, bottom, left, right, _MODES.index(mode))
    return deliver(dx, out)
