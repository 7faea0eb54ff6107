"""Max and average pooling, by sliding windows and adaptive, float32, in channels-last memory.

The formulas are those of `kernels/reference/pool2d.py`.

A kernel writes each pixel of its result once, some vectors of channels at a time, from the pixels that the tables of
`_windows.py` relate to it: no two threads write to one place, and nothing is cleared or written twice.

At copy bandwidth each function takes 4 bytes an element of x and of y, max pooling 1 more an element of y for its
indices (4 where a window has more than 256 taps). Beyond the caches they reach two thirds to three quarters of that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..shapes import pool_output_size
from ._blocks import FULL
from ._compile import inner
from ._driver import INT, PTR, job, share
from ._layout import channels_last, deliver, empty_image
from ._rows import QUAD, load_four, prefetch_four, put_four, store_four
from ._stream import streams
from ._windows import cells, means, places, taps
from .simd import (
    L,
    bload_n,
    bstore_n,
    iload_n,
    isplat,
    istore_n,
    lload,
    vfma,
    vload,
    vload_n,
    vselect,
    vsplat,
    vstore_n,
    vstreamed,
)

Pair = tuple[int, int]
_UINT8, _INT32 = np.dtype(np.uint8), np.dtype(np.int32)
_AHEAD = 1 << 16  # floats at most, of what the next row of windows is going to read, come into L2 meanwhile
_SPAN = 2 * 64  # table entries of the 64 numbers that are summed in a row


# ---------------------------------------------------------------- kernels
def _each_pixel(four: Callable, one: Callable) -> Callable:
    """loop(a, first, last) over rows of an (N, H, W, C) result, from what one(a, to, image, i, j, c, n) writes.

    The result has a.height rows an image, of a.width pixels, of a.channels. `one` writes n channels at offset `to`:
    those from c on of pixel (i, j) of its image. Up to channel a.fours, `four` writes as many whole vectors: it looks
    up the pixels related to its own once for all of them, and no vector waits for another's comparisons and sums.
    """
    @inner
    def loop(a, first, last):
        for row in range(first, last):
            image, i = divmod(row, a.height)
            for j in range(a.width):
                pixel = (row * a.width + j) * a.channels
                for c in range(0, a.fours, QUAD):
                    four(a, pixel + c, image, i, j, c)
                for c in range(a.fours, a.channels, L):
                    one(a, pixel + c, image, i, j, c, min(a.channels - c, L))
    return loop


@inner
def _first_tap(a, p, q):
    """The tap of a window's first pixel: -inf does not beat the start value, so a window of nothing else has it win."""
    top, left = lload(a.rows, p), lload(a.columns, q)
    if top < lload(a.rows, p + 1) and left < lload(a.columns, q + 1):
        return lload(a.rows, top + 1) * a.kernel_w + lload(a.columns, left + 1)
    return 0


@inner
def _beats(value, best):
    """Where value is larger, or the first NaN."""
    return ~(value <= best) & (best == best)


@inner
def _largest_of_one(a, to, image, p, q, c, n):
    best, winner = vsplat(-np.inf), isplat(_first_tap(a, p, q))
    for i in range(lload(a.rows, p), lload(a.rows, p + 1), 2):
        line = (image * a.x_height + lload(a.rows, i)) * a.x_width
        tap = lload(a.rows, i + 1) * a.kernel_w
        for j in range(lload(a.columns, q), lload(a.columns, q + 1), 2):
            value = vload_n(a.x, (line + lload(a.columns, j)) * a.channels + c, n)
            better = _beats(value, best)
            best = vselect(better, value, best)
            winner = vselect(better, isplat(tap + lload(a.columns, j + 1)), winner)
    vstore_n(a.y, to, best, n)
    if a.wide:
        istore_n(a.indices, to, winner, n)
    else:
        bstore_n(a.indices, to, winner, n)


@inner
def _largest_of_four(a, to, image, p, q, c):
    b0 = b1 = b2 = b3 = vsplat(-np.inf)
    w0 = w1 = w2 = w3 = isplat(_first_tap(a, p, q))
    for i in range(lload(a.rows, p), lload(a.rows, p + 1), 2):
        line = (image * a.x_height + lload(a.rows, i)) * a.x_width
        tap = lload(a.rows, i + 1) * a.kernel_w
        for j in range(lload(a.columns, q), lload(a.columns, q + 1), 2):
            at = (line + lload(a.columns, j)) * a.channels + c
            prefetch_four(a.x, at + a.ahead)
            v0, v1, v2, v3 = load_four(a.x, at)
            m0, m1, m2, m3 = _beats(v0, b0), _beats(v1, b1), _beats(v2, b2), _beats(v3, b3)
            b0, b1, b2, b3 = vselect(m0, v0, b0), vselect(m1, v1, b1), vselect(m2, v2, b2), vselect(m3, v3, b3)
            w = isplat(tap + lload(a.columns, j + 1))
            w0, w1, w2, w3 = vselect(m0, w, w0), vselect(m1, w, w1), vselect(m2, w, w2), vselect(m3, w, w3)
    store_four(a.y, to, b0, b1, b2, b3)
    bstore_n(a.indices, to, w0, FULL)
    bstore_n(a.indices, to + L, w1, FULL)
    bstore_n(a.indices, to + 2 * L, w2, FULL)
    bstore_n(a.indices, to + 3 * L, w3, FULL)


@inner
def _won(a, at, tap):
    """dy where the window's winner is the tap, else 0."""
    return vselect(bload_n(a.indices, at, FULL) == tap, vload(a.dy, at), 0.0)


@inner
def _winnings_of_one(a, to, image, h, w, c, n):
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


@inner
def _winnings_of_four(a, to, image, h, w, c):
    t0 = t1 = t2 = t3 = vsplat(0.0)
    for i in range(lload(a.rows, h), lload(a.rows, h + 1), 2):
        line = (image * a.y_height + lload(a.rows, i)) * a.y_width
        first = lload(a.rows, i + 1) * a.kernel_w
        for j in range(lload(a.columns, w), lload(a.columns, w + 1), 2):
            at = (line + lload(a.columns, j)) * a.channels + c
            tap = isplat(first + lload(a.columns, j + 1))
            t0, t1 = t0 + _won(a, at, tap), t1 + _won(a, at + L, tap)
            t2, t3 = t2 + _won(a, at + 2 * L, tap), t3 + _won(a, at + 3 * L, tap)
    put_four(a.dx, to, t0, t1, t2, t3, a.streams)


@inner
def _share(a, p, q):
    """One over what the sum of window (p, q) is divided by, 1 if the window is empty."""
    top, left = lload(a.rows, p), lload(a.columns, q)
    if top < lload(a.rows, p + 1) and left < lload(a.columns, q + 1):
        return vsplat(1.0 / (lload(a.rows, top + 1) * lload(a.columns, left + 1)))
    return vsplat(1.0)


@inner
def _mean_of_one(a, to, image, p, q, c, n):
    total = vsplat(0.0)
    left, right = lload(a.columns, q), lload(a.columns, q + 1)
    for i in range(lload(a.rows, p), lload(a.rows, p + 1), 2):
        line = (image * a.x_height + lload(a.rows, i)) * a.x_width
        for span in range(left, right, _SPAN):
            part = vsplat(0.0)
            for j in range(span, min(span + _SPAN, right), 2):
                part = part + vload_n(a.x, (line + lload(a.columns, j)) * a.channels + c, n)
            total = total + part
    vstore_n(a.y, to, total * _share(a, p, q), n)


@inner
def _mean_of_four(a, to, image, p, q, c):
    t0 = t1 = t2 = t3 = vsplat(0.0)
    left, right = lload(a.columns, q), lload(a.columns, q + 1)
    for i in range(lload(a.rows, p), lload(a.rows, p + 1), 2):
        line = (image * a.x_height + lload(a.rows, i)) * a.x_width
        for span in range(left, right, _SPAN):
            s0 = s1 = s2 = s3 = vsplat(0.0)
            for j in range(span, min(span + _SPAN, right), 2):
                at = (line + lload(a.columns, j)) * a.channels + c
                prefetch_four(a.x, at + a.ahead)
                v0, v1, v2, v3 = load_four(a.x, at)
                s0, s1, s2, s3 = s0 + v0, s1 + v1, s2 + v2, s3 + v3
            t0, t1, t2, t3 = t0 + s0, t1 + s1, t2 + s2, t3 + s3
    share = _share(a, p, q)
    store_four(a.y, to, t0 * share, t1 * share, t2 * share, t3 * share)


@inner
def _shares_of_one(a, to, image, h, w, c, n):
    total = vsplat(0.0)
    for i in range(lload(a.rows, h), lload(a.rows, h + 1), 2):
        line, height = (image * a.y_height + lload(a.rows, i)) * a.y_width, lload(a.rows, i + 1)
        for j in range(lload(a.columns, w), lload(a.columns, w + 1), 2):
            dy = vload_n(a.dy, (line + lload(a.columns, j)) * a.channels + c, n)
            total = vfma(dy, vsplat(1.0 / (height * lload(a.columns, j + 1))), total)
    vstore_n(a.dx, to, total, n)


@inner
def _shares_of_four(a, to, image, h, w, c):
    t0 = t1 = t2 = t3 = vsplat(0.0)
    for i in range(lload(a.rows, h), lload(a.rows, h + 1), 2):
        line, height = (image * a.y_height + lload(a.rows, i)) * a.y_width, lload(a.rows, i + 1)
        for j in range(lload(a.columns, w), lload(a.columns, w + 1), 2):
            share = vsplat(1.0 / (height * lload(a.columns, j + 1)))
            v0, v1, v2, v3 = load_four(a.dy, (line + lload(a.columns, j)) * a.channels + c)
            t0, t1, t2, t3 = vfma(v0, share, t0), vfma(v1, share, t1), vfma(v2, share, t2), vfma(v3, share, t3)
    put_four(a.dx, to, t0, t1, t2, t3, a.streams)


_largest = _each_pixel(_largest_of_four, _largest_of_one)
_winnings = _each_pixel(_winnings_of_four, _winnings_of_one)
_mean = _each_pixel(_mean_of_four, _mean_of_one)
_shares = _each_pixel(_shares_of_four, _shares_of_one)


@job(x=PTR, y=PTR, indices=PTR, rows=PTR, columns=PTR, channels=INT, fours=INT, x_height=INT, x_width=INT,
     height=INT, width=INT, kernel_w=INT, wide=INT, ahead=INT)
def _largest_rows(first, last, thread, a):
    _largest(a, first, last)


@job(dy=PTR, indices=PTR, dx=PTR, rows=PTR, columns=PTR, channels=INT, fours=INT, y_height=INT, y_width=INT, height=INT,
     width=INT, kernel_w=INT, wide=INT, streams=INT)
def _winnings_rows(first, last, thread, a):
    _winnings(a, first, last)
    vstreamed()


@job(x=PTR, y=PTR, rows=PTR, columns=PTR, channels=INT, fours=INT, x_height=INT, x_width=INT, height=INT, width=INT,
     ahead=INT)
def _mean_rows(first, last, thread, a):
    _mean(a, first, last)


@job(dy=PTR, dx=PTR, rows=PTR, columns=PTR, channels=INT, fours=INT, y_height=INT, y_width=INT, height=INT, width=INT,
     streams=INT)
def _shares_rows(first, last, thread, a):
    _shares(a, first, last)
    vstreamed()


# ---------------------------------------------------------------- functions
def _fours(channels: int) -> int:
    """How many of the channels come in fours of vectors."""
    return channels // QUAD * QUAD


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
    axes = list(zip(x.shape[2:], kernel_size, stride, padding, dilation))
    counts = [pool_output_size(*axis, ceil_mode) for axis in axes]
    rows, columns = (taps(size, count, *window) for count, (size, *window) in zip(counts, axes))
    return _maximum(x, rows, columns, *counts, kernel_size, stride[0], out)


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
    rows, columns = (
        taps(*axis) for axis in zip(x_shape[2:], dy.shape[2:], kernel_size, stride, padding, dilation))
    return _maximum_backward(dy, indices, x_shape, rows, columns, kernel_size[1], out)


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
    return _average(x, *map(cells, x.shape[2:], output_size), *output_size, out)


def adaptive_avg_pool2d_backward(
    dy: np.ndarray, x_shape: tuple[int, int, int, int], *, out: np.ndarray | None = None
) -> np.ndarray:
    """Every pixel of a cell gets the cell's gradient over its area: dy (N, C, P, Q) to dx of x_shape.

    Reads dy once where cells do not overlap, writes dx.
    """
    return _average_backward(dy, x_shape, *map(cells, x_shape[2:], dy.shape[2:]), out)


def adaptive_max_pool2d(
    x: np.ndarray, *, output_size: Pair, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The largest value in each cell and its position h * W + w: x (N, C, H, W) to y, indices (N, C, P, Q).

    Indices are uint8 for images of up to 256 pixels, else int32. Reads x once where cells do not overlap, writes y and
    indices.
    """
    image = x.shape[2:]
    return _maximum(x, *map(places, image, output_size), *output_size, image, image[0] // max(output_size[0], 1), out)


def adaptive_max_pool2d_backward(
    dy: np.ndarray, indices: np.ndarray, x_shape: tuple[int, int, int, int], *, out: np.ndarray | None = None
) -> np.ndarray:
    """Each cell's gradient goes to its winner: dy, indices (N, C, P, Q) to dx of x_shape (N, C, H, W).

    Reads dy and indices once where cells do not overlap, writes dx.
    """
    return _maximum_backward(dy, indices, x_shape, *map(places, x_shape[2:], dy.shape[2:]), x_shape[3], out)


def _maximum(x, rows, columns, height, width, numbers, step, out):
    """Maxima and where they were, one of numbers[0] * numbers[1]; windows begin `step` rows below each other."""
    x = channels_last(x)
    n, c, h, w = x.shape
    wide = numbers[0] * numbers[1] > 256
    y, indices = empty_image(n, c, height, width), empty_image(n, c, height, width, _INT32 if wide else _UINT8)
    _largest_rows(
        n * height, threads=share(x.size), x=x, y=y, indices=indices, rows=rows.by_window, columns=columns.by_window,
        channels=c, fours=0 if wide else _fours(c), x_height=h, x_width=w, height=height, width=width,
        kernel_w=numbers[1], wide=wide, ahead=min(step * w * c, _AHEAD))
    y_out, indices_out = out or (None, None)
    return deliver(y, y_out), deliver(indices, indices_out)


def _maximum_backward(dy, indices, x_shape, rows, columns, kernel_w, out):
    dy, indices = channels_last(dy), channels_last(indices)
    n, c, h, w = x_shape
    height, width = dy.shape[2:]
    wide, dx = indices.dtype == _INT32, empty_image(n, c, h, w)
    _winnings_rows(
        n * h, threads=share(dx.size), dy=dy, indices=indices, dx=dx, rows=rows.by_position,
        columns=columns.by_position, channels=c, fours=0 if wide else _fours(c), y_height=height, y_width=width,
        height=h, width=w, kernel_w=kernel_w, wide=wide, streams=streams(dx, c))
    return deliver(dx, out)


def _mean_axes(x_shape, counts, kernel_size, stride, padding, include_pad, divisor):
    divisors = (None, None) if divisor is None else (divisor, 1)
    return (
        means(*axis, include_pad, over)
        for *axis, over in zip(x_shape[2:], counts, kernel_size, stride, padding, divisors))


def _average(x, rows, columns, height, width, out):
    x = channels_last(x)
    n, c, h, w = x.shape
    y = empty_image(n, c, height, width)
    _mean_rows(
        n * height, threads=share(x.size), x=x, y=y, rows=rows.by_window, columns=columns.by_window, channels=c,
        fours=_fours(c), x_height=h, x_width=w, height=height, width=width,
        ahead=min(h // max(height, 1) * w * c, _AHEAD))
    return deliver(y, out)


def _average_backward(dy, x_shape, rows, columns, out):
    dy = channels_last(dy)
    n, c, h, w = x_shape
    height, width = dy.shape[2:]
    dx = empty_image(n, c, h, w)
    _shares_rows(
        n * h, threads=share(dx.size), dy=dy, dx=dx, rows=rows.by_position, columns=columns.by_position, channels=c,
        fours=_fours(c), y_height=height, y_width=width, height=h, width=w, streams=streams(dx, c))
    return deliver(dx, out)
