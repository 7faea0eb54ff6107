"""Max, average and adaptive average pooling, float32, in channels-last memory.

The formulas are those of `kernels/reference/pool2d.py`.

Along one axis a pool is a relation: window p holds position h, as its tap r. It is tabulated once per shape, by window
for the forward and by position for the backward, so that padding, dilation, ceil_mode and adaptive cells cost the
kernels nothing. A kernel writes each pixel of its result once, a vector of channels at a time, from the pixels related
to it: no two threads write to one place, and nothing is cleared or written twice.

At copy bandwidth each function takes 4 bytes an element of x and of y, max pooling 1 more an element of y for its
indices (4 where a window has more than 256 taps).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..shapes import pool_output_size
from ._blocks import FULL
from ._compile import inner
from ._driver import INT, PTR, job, share
from ._layout import channels_last, deliver, empty_image
from .simd import (
    L,
    bload_n,
    bstore_n,
    iload_n,
    isplat,
    istore_n,
    lload,
    vfma,
    vload_n,
    vselect,
    vsplat,
    vstore_n,
)

Pair = tuple[int, int]
_INT64, _UINT8, _INT32 = np.dtype(np.int64), np.dtype(np.uint8), np.dtype(np.int32)
_SPAN = 2 * 64  # table entries of the 64 numbers that are summed in a row


# ---------------------------------------------------------------- which windows hold which positions
class _Axis(NamedTuple):
    """The relation of windows and positions along one axis, as two tables.

    `by_window` begins with where the entries of window 0, 1, ... start in it, and where the last end. An entry is the
    position of a pixel that the window holds, and a label. `by_position` lists the windows of each position likewise.
    """

    by_window: np.ndarray
    by_position: np.ndarray


def _relate(count: int, size: int, window: np.ndarray, position: np.ndarray, label: np.ndarray) -> _Axis:
    return _Axis(_table(count, window, position, label), _table(size, position, window, label))


def _table(n: int, key: np.ndarray, value: np.ndarray, label: np.ndarray) -> np.ndarray:
    order = np.argsort(key, kind="stable")
    starts = n + 1 + 2 * np.searchsorted(key[order], np.arange(n + 1))
    entries = np.stack([value, label], axis=1)[order]
    return np.concatenate([starts, entries.ravel()]).astype(_INT64)


@functools.lru_cache(maxsize=128)
def _taps(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> _Axis:
    """Sliding windows; an entry's label is the tap that meets the position."""
    grid = np.arange(count)[:, None] * stride - padding + np.arange(kernel) * dilation
    window, tap = np.nonzero((grid >= 0) & (grid < size))
    return _relate(count, size, window, grid[window, tap], tap)


@functools.lru_cache(maxsize=128)
def _means(
    size: int, count: int, kernel: int, stride: int, padding: int, include_pad: bool, divisor: int | None
) -> _Axis:
    """Sliding windows; an entry's label is what the window's sum is divided by along this axis."""
    start = np.arange(count) * stride - padding
    stop = np.minimum(start + kernel, size + padding)
    first, last = np.maximum(start, 0), np.minimum(stop, size)
    length = stop - start if include_pad else last - first
    return _spans(size, first, last, length if divisor is None else np.full(count, divisor))


@functools.lru_cache(maxsize=128)
def _cells(size: int, count: int) -> _Axis:
    """The cells of adaptive pooling; an entry's label is the cell's length."""
    cell = np.arange(count)
    start, stop = cell * size // count, -(-(cell + 1) * size // count)
    return _spans(size, start, stop, stop - start)


def _spans(size: int, start: np.ndarray, stop: np.ndarray, label: np.ndarray) -> _Axis:
    grid = np.arange(size)
    window, position = np.nonzero((start[:, None] <= grid) & (grid < stop[:, None]))
    return _relate(len(start), size, window, position, label[window])


# ---------------------------------------------------------------- kernels
def _each_vector(body: Callable) -> Callable:
    """Decorator: body(a, to, image, i, j, c, n) becomes loop(a, first, last) over rows of an (N, H, W, C) result.

    The result has a.height rows an image, of a.width pixels, of a.channels. The body writes n channels at offset `to`:
    those from c on of pixel (i, j) of its image.
    """
    body = inner(body)

    @inner
    def loop(a, first, last):
        tail = a.channels % L
        for row in range(first, last):
            image, i = divmod(row, a.height)
            for j in range(a.width):
                pixel = (row * a.width + j) * a.channels
                for c in range(0, a.channels - L + 1, L):
                    body(a, pixel + c, image, i, j, c, FULL)
                if tail:
                    c = a.channels - tail
                    body(a, pixel + c, image, i, j, c, tail)
    return loop


@_each_vector
def _largest(a, to, image, p, q, c, n):
    top, bottom, left, right = lload(a.rows, p), lload(a.rows, p + 1), lload(a.columns, q), lload(a.columns, q + 1)
    best, winner = vsplat(-np.inf), isplat(0)
    if top < bottom and left < right:  # -inf does not beat the start value: an all -inf window's first tap wins so
        winner = isplat(lload(a.rows, top + 1) * a.kernel_w + lload(a.columns, left + 1))
    for i in range(top, bottom, 2):
        line = (image * a.x_height + lload(a.rows, i)) * a.x_width
        tap = lload(a.rows, i + 1) * a.kernel_w
        for j in range(left, right, 2):
            value = vload_n(a.x, (line + lload(a.columns, j)) * a.channels + c, n)
            better = ~(value <= best) & (best == best)  # so that a NaN wins, and nothing wins over it
            best = vselect(better, value, best)
            winner = vselect(better, isplat(tap + lload(a.columns, j + 1)), winner)
    vstore_n(a.y, to, best, n)
    if a.wide:
        istore_n(a.indices, to, winner, n)
    else:
        bstore_n(a.indices, to, winner, n)


@_each_vector
def _largest_backward(a, to, image, h, w, c, n):
    total = vsplat(0.0)
    for i in range(lload(a.rows, h), lload(a.rows, h + 1), 2):
        line = (image * a.y_height + lload(a.rows, i)) * a.y_width
        tap = lload(a.rows, i + 1) * a.kernel_w
        for j in range(lload(a.columns, w), lload(a.columns, w + 1), 2):
            at = (line + lload(a.columns, j)) * a.channels + c
            winner = iload_n(a.indices, at, n) if a.wide else bload_n(a.indices, at, n)
            won = winner == isplat(tap + lload(a.columns, j + 1))
            total = total + vselect(won, vload_n(a.dy, at, n), 0.0)
    vstore_n(a.dx, to, total, n)


@_each_vector
def _mean(a, to, image, p, q, c, n):
    total, height, width = vsplat(0.0), 1, 1
    left, right = lload(a.columns, q), lload(a.columns, q + 1)
    for i in range(lload(a.rows, p), lload(a.rows, p + 1), 2):
        line, height = (image * a.x_height + lload(a.rows, i)) * a.x_width, lload(a.rows, i + 1)
        for span in range(left, right, _SPAN):
            part = vsplat(0.0)
            for j in range(span, min(span + _SPAN, right), 2):
                part = part + vload_n(a.x, (line + lload(a.columns, j)) * a.channels + c, n)
                width = lload(a.columns, j + 1)
            total = total + part
    vstore_n(a.y, to, total / (height * width), n)


@_each_vector
def _mean_backward(a, to, image, h, w, c, n):
    total = vsplat(0.0)
    for i in range(lload(a.rows, h), lload(a.rows, h + 1), 2):
        line, height = (image * a.y_height + lload(a.rows, i)) * a.y_width, lload(a.rows, i + 1)
        for j in range(lload(a.columns, w), lload(a.columns, w + 1), 2):
            dy = vload_n(a.dy, (line + lload(a.columns, j)) * a.channels + c, n)
            total = vfma(dy, vsplat(1.0 / (height * lload(a.columns, j + 1))), total)
    vstore_n(a.dx, to, total, n)


@job(x=PTR, y=PTR, indices=PTR, rows=PTR, columns=PTR, channels=INT, x_height=INT, x_width=INT, height=INT, width=INT,
     kernel_w=INT, wide=INT)
def _largest_rows(first, last, thread, a):
    _largest(a, first, last)


@job(dy=PTR, indices=PTR, dx=PTR, rows=PTR, columns=PTR, channels=INT, y_height=INT, y_width=INT, height=INT,
     width=INT, kernel_w=INT, wide=INT)
def _largest_backward_rows(first, last, thread, a):
    _largest_backward(a, first, last)


@job(x=PTR, y=PTR, rows=PTR, columns=PTR, channels=INT, x_height=INT, x_width=INT, height=INT, width=INT)
def _mean_rows(first, last, thread, a):
    _mean(a, first, last)


@job(dy=PTR, dx=PTR, rows=PTR, columns=PTR, channels=INT, y_height=INT, y_width=INT, height=INT, width=INT)
def _mean_backward_rows(first, last, thread, a):
    _mean_backward(a, first, last)


# ---------------------------------------------------------------- functions
def max_pool2d(
    x: np.ndarray,
    *,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The largest value in each window and its tap r * kernel_w + s: x (N, C, H, W) to y, indices (N, C, P, Q).

    The first maximum wins, the first NaN over everything; a window that misses the image gives -inf and index 0.
    Indices are uint8 for up to 256 taps, else int32. Reads x once where windows do not overlap, writes y and indices.
    """
    x = channels_last(x)
    n, c, h, w = x.shape
    axes = list(zip((h, w), kernel_size, stride, padding, dilation))
    height, width = (pool_output_size(*axis, ceil_mode) for axis in axes)
    rows, columns = (_taps(size, count, *window) for count, (size, *window) in zip((height, width), axes))
    wide = kernel_size[0] * kernel_size[1] > 256
    y, indices = empty_image(n, c, height, width), empty_image(n, c, height, width, _INT32 if wide else _UINT8)
    _largest_rows(
        n * height, threads=share(x.size), x=x, y=y, indices=indices, rows=rows.by_window, columns=columns.by_window,
        channels=c, x_height=h, x_width=w, height=height, width=width, kernel_w=kernel_size[1], wide=wide)
    y_out, indices_out = out or (None, None)
    return deliver(y, y_out), deliver(indices, indices_out)


def max_pool2d_backward(
    dy: np.ndarray,
    indices: np.ndarray,
    x_shape: tuple[int, int, int, int],
    *,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Each window's gradient goes to its winner: dy, indices (N, C, P, Q) to dx of x_shape (N, C, H, W).

    A pixel gathers from the windows that hold it. Reads dy and indices once where windows do not overlap, writes dx.
    """
    dy, indices = channels_last(dy), channels_last(indices)
    n, c, h, w = x_shape
    height, width = dy.shape[2:]
    rows, columns = (
        _taps(*axis) for axis in zip((h, w), (height, width), kernel_size, stride, padding, dilation))
    dx = empty_image(n, c, h, w)
    _largest_backward_rows(
        n * h, threads=share(dx.size), dy=dy, indices=indices, dx=dx, rows=rows.by_position,
        columns=columns.by_position, channels=c, y_height=height, y_width=width, height=h, width=w,
        kernel_w=kernel_size[1], wide=indices.dtype == _INT32)
    return deliver(dx, out)


def avg_pool2d(
    x: np.ndarray,
    *,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The mean of each window: x (N, C, H, W) to y (N, C, P, Q). Reads x once if windows do not overlap, writes y."""
    axes = list(zip(x.shape[2:], kernel_size, stride, padding))
    counts = [pool_output_size(*axis, 1, ceil_mode) for axis in axes]
    return _average(x, *_mean_axes(x.shape, counts, kernel_size, stride, padding, count_include_pad, divisor_override),
                    *counts, out)


def avg_pool2d_backward(
    dy: np.ndarray,
    x_shape: tuple[int, int, int, int],
    *,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Every pixel of a window gets the window's gradient over its divisor: dy (N, C, P, Q) to dx of x_shape.

    Reads dy once where windows do not overlap, writes dx. `ceil_mode` is already in dy's shape.
    """
    axes = _mean_axes(x_shape, dy.shape[2:], kernel_size, stride, padding, count_include_pad, divisor_override)
    return _average_backward(dy, x_shape, *axes, out)


def adaptive_avg_pool2d(x: np.ndarray, *, output_size: Pair, out: np.ndarray | None = None) -> np.ndarray:
    """The mean of each cell of a P x Q grid laid over the image: x (N, C, H, W) to y (N, C, P, Q).

    Reads x once where cells do not overlap, writes y.
    """
    return _average(x, *map(_cells, x.shape[2:], output_size), *output_size, out)


def adaptive_avg_pool2d_backward(
    dy: np.ndarray, x_shape: tuple[int, int, int, int], *, out: np.ndarray | None = None
) -> np.ndarray:
    """Every pixel of a cell gets the cell's gradient over its area: dy (N, C, P, Q) to dx of x_shape.

    Reads dy once where cells do not overlap, writes dx.
    """
    return _average_backward(dy, x_shape, *map(_cells, x_shape[2:], dy.shape[2:]), out)


def _mean_axes(x_shape, counts, kernel_size, stride, padding, include_pad, divisor):
    divisors = (None, None) if divisor is None else (divisor, 1)
    return (
        _means(*axis, include_pad, over)
        for *axis, over in zip(x_shape[2:], counts, kernel_size, stride, padding, divisors))


def _average(x, rows, columns, height, width, out):
    x = channels_last(x)
    n, c, h, w = x.shape
    y = empty_image(n, c, height, width)
    _mean_rows(
        n * height, threads=share(x.size), x=x, y=y, rows=rows.by_window, columns=columns.by_window, channels=c,
        x_height=h, x_width=w, height=height, width=width)
    return deliver(y, out)


def _average_backward(dy, x_shape, rows, columns, out):
    dy = channels_last(dy)
    n, c, h, w = x_shape
    height, width = dy.shape[2:]
    dx = empty_image(n, c, h, w)
    _mean_backward_rows(
        n * h, threads=share(dx.size), dy=dy, dx=dx, rows=rows.by_position, columns=columns.by_position, channels=c,
        y_height=height, y_width=width, height=h, width=w)
    return deliver(dx, out)
