"""Max and average pooling over images (N, C, H, W), by sliding windows and adaptive, and their gradients.

Window positions are those of `shapes.pool_output_size`. Padding never wins a maximum and adds zeros to an
average. Source: torch.nn.MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, AdaptiveMaxPool2d (conventions).
"""

from __future__ import annotations

import math

import numpy as np

from ..shapes import pool_output_size
from ._out import deliver
from ._window import Pair, frame, interior, reach, taps


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
    """The largest value in each window and where it was: x (N, C, H, W) → y, indices (N, C, P, Q).

        y[n, c, p, q] = max_{r, s} x[n, c, p·stride_h + r·dilation_h - pad_h, q·stride_w + s·dilation_w - pad_w]

    over the taps that lie inside the image. `indices` holds r·kernel_w + s of the winner, as uint8 if the
    window has at most 256 taps, else int32. The first maximum wins, and the first NaN wins over everything.
    A dilated window may miss the image: then y is -inf, its index 0, and the backward drops its gradient.
    """
    y_out, indices_out = out or (None, None)
    count = tuple(
        pool_output_size(*axis, ceil_mode)
        for axis in zip(x.shape[2:], kernel_size, stride, padding, dilation)
    )
    size = reach(count, kernel_size, stride, dilation)
    framed = frame(x, padding, size, -np.inf)
    inside = frame(np.ones((1, 1, *x.shape[2:]), bool), padding, size, False)

    y = np.full((*x.shape[:2], *count), -np.inf, x.dtype)
    indices = np.zeros(y.shape, _index_dtype(math.prod(kernel_size)))
    found = np.zeros((1, 1, *count), bool)
    steps = (count, kernel_size, stride, dilation)
    for ((r, s), value), (_, valid) in zip(taps(framed, *steps), taps(inside, *steps)):
        better = valid & (~found | (value > y) | (np.isnan(value) & ~np.isnan(y)))
        y = np.where(better, value, y)
        indices[better] = r * kernel_size[1] + s
        found |= valid
    return deliver(y, y_out, x.dtype), deliver(indices, indices_out, indices.dtype)


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
    """Each window's gradient goes to its winner; a pixel that won several windows gets their sum.

    dy, indices (N, C, P, Q), x_shape = (N, C, H, W) → dx (N, C, H, W). Index 0 of a window that missed the
    image points into the padding, which is cut off.
    """
    count = dy.shape[2:]
    framed = frame(np.zeros(x_shape, dy.dtype), padding, reach(count, kernel_size, stride, dilation), 0)
    for (r, s), pixels in taps(framed, count, kernel_size, stride, dilation):
        pixels += np.where(indices == r * kernel_size[1] + s, dy, 0)
    return deliver(interior(framed, padding, x_shape), out, dy.dtype)


def _index_dtype(count: int) -> np.dtype:
    """The smaller of uint8 and int32 that can number so many pixels."""
    return np.dtype(np.uint8 if count <= 256 else np.int32)


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
    """The mean of each window: x (N, C, H, W) → y (N, C, P, Q).

        y[n, c, p, q] = (1 / divisor) · Σ_{r, s} x[n, c, p·stride_h + r - pad_h, q·stride_w + s - pad_w]

    The divisor is `divisor_override` if given; else the number of the window's pixels inside the padded
    image (`count_include_pad`) or inside the image. What hangs over the padded image counts for neither.
    """
    count = tuple(
        pool_output_size(*axis, 1, ceil_mode) for axis in zip(x.shape[2:], kernel_size, stride, padding)
    )
    framed = frame(x, padding, reach(count, kernel_size, stride, (1, 1)), 0)
    total = np.zeros((*x.shape[:2], *count), x.dtype)
    for _, pixels in taps(framed, count, kernel_size, stride, (1, 1)):
        total += pixels
    divisor = _divisor(x.shape, count, kernel_size, stride, padding, count_include_pad, divisor_override)
    return deliver(total / divisor.astype(x.dtype), out, x.dtype)


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
    """Every pixel of a window gets the window's gradient over its divisor.

    dy (N, C, P, Q), x_shape = (N, C, H, W) → dx (N, C, H, W). `ceil_mode` is already in dy's shape.
    """
    count = dy.shape[2:]
    divisor = _divisor(x_shape, count, kernel_size, stride, padding, count_include_pad, divisor_override)
    share = dy / divisor.astype(dy.dtype)
    framed = frame(np.zeros(x_shape, dy.dtype), padding, reach(count, kernel_size, stride, (1, 1)), 0)
    for _, pixels in taps(framed, count, kernel_size, stride, (1, 1)):
        pixels += share
    return deliver(interior(framed, padding, x_shape), out, dy.dtype)


def _divisor(
    x_shape: tuple[int, ...],
    count: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
    divisor_override: int | None,
) -> np.ndarray:
    """What each window's sum is divided by, (P, Q)."""
    if divisor_override is not None:
        return np.full(count, divisor_override)
    lengths = []
    for size, n, k, s, pad in zip(x_shape[2:], count, kernel_size, stride, padding):
        start = np.arange(n) * s - pad
        stop = np.minimum(start + k, size + pad)
        if not count_include_pad:
            start, stop = np.maximum(start, 0), np.minimum(stop, size)
        lengths.append(stop - start)
    return np.multiply.outer(*lengths)


def adaptive_avg_pool2d(x: np.ndarray, *, output_size: Pair, out: np.ndarray | None = None) -> np.ndarray:
    """The mean of each cell of a grid of P × Q cells laid over the image: x (N, C, H, W) → y (N, C, P, Q).

    Cell p covers the rows ⌊p·H/P⌋ to ⌈(p + 1)·H/P⌉ (exclusive), columns likewise; cells may overlap.
    """
    y = np.empty((*x.shape[:2], *output_size), x.dtype)
    for p, rows in enumerate(_cells(x.shape[2], output_size[0])):
        for q, columns in enumerate(_cells(x.shape[3], output_size[1])):
            y[:, :, p, q] = x[:, :, rows, columns].mean(axis=(2, 3))
    return deliver(y, out, x.dtype)


def adaptive_avg_pool2d_backward(
    dy: np.ndarray, x_shape: tuple[int, int, int, int], *, out: np.ndarray | None = None
) -> np.ndarray:
    """Every pixel of a cell gets the cell's gradient over its area: dy (N, C, P, Q) → dx of x_shape."""
    dx = np.zeros(x_shape, dy.dtype)
    for p, rows in enumerate(_cells(x_shape[2], dy.shape[2])):
        for q, columns in enumerate(_cells(x_shape[3], dy.shape[3])):
            cell = dx[:, :, rows, columns]
            cell += dy[:, :, p, q, None, None] / (cell.shape[2] * cell.shape[3])
    return deliver(dx, out, dy.dtype)


def adaptive_max_pool2d(
    x: np.ndarray, *, output_size: Pair, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The largest value in each cell of a grid of P × Q and where it was: x (N, C, H, W) → y, indices (N, C, P, Q).

    Cells are those of `adaptive_avg_pool2d`. `indices` holds h·W + w of the winner, as uint8 if the image has at most
    256 pixels, else int32. The first maximum wins, and the first NaN wins over everything.
    """
    y_out, indices_out = out or (None, None)
    numbers = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    y = np.empty((*x.shape[:2], *output_size), x.dtype)
    indices = np.empty(y.shape, _index_dtype(numbers.size))
    for p, rows in enumerate(_cells(x.shape[2], output_size[0])):
        for q, columns in enumerate(_cells(x.shape[3], output_size[1])):
            where = numbers[rows, columns].ravel()
            cell = x[:, :, rows, columns].reshape(*x.shape[:2], where.size)
            winner = cell.argmax(axis=2, keepdims=True)
            indices[:, :, p, q] = where[winner[..., 0]]
            y[:, :, p, q] = np.take_along_axis(cell, winner, axis=2)[..., 0]
    return deliver(y, y_out, x.dtype), deliver(indices, indices_out, indices.dtype)


def adaptive_max_pool2d_backward(
    dy: np.ndarray, indices: np.ndarray, x_shape: tuple[int, int, int, int], *, out: np.ndarray | None = None
) -> np.ndarray:
    """Each cell's gradient goes to its winner: dy, indices (N, C, P, Q) → dx of x_shape.

    A pixel that won several cells gets their sum.
    """
    n, c, h, w = x_shape
    dx = np.zeros((n, c, h * w), dy.dtype)
    image, channel = np.ogrid[:n, :c, :1, :1][:2]
    np.add.at(dx, (image, channel, indices), dy)
    return deliver(dx.reshape(x_shape), out, dy.dtype)


def _cells(size: int, parts: int) -> list[slice]:
    return [slice(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
