"""Max and average pooling, by sliding windows and adaptive, and their gradients, in channels-last memory.

At copy bandwidth each function takes the bytes of x and of y, max pooling 1 more an element of y for its indices (4
where a window has more than 256 taps): windows that overlap find their common pixels in the caches.

The formulas are those of `kernels/reference/pool2d.py`, the kernels are in `_max_pooling.py` and `_average_pooling.py`.
Which pixels a window has and which windows a pixel, sliding or adaptive, is computed in `_pooling.py`.
"""

from __future__ import annotations

import math

from ..shapes import pool_output_size
from ._average_pooling import average, average_backward, average_of_cells
from ._layout import Array
from ._max_pooling import maximum, maximum_backward
from ._pixels import reciprocal_of
from ._pooling import Pair, cell_axes, sliding_axes

_LARGE = 16  # pixels, from which on a block is worth while for each cell


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
    return maximum(x, counts, kernel_size, sliding, out)


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
    return maximum_backward(dy, indices, x_shape, kernel_size[1], sliding, out)


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
    return average(x, counts, divisor_override or 0, count_include_pad, sliding, out)


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
    return average_backward(dy, x_shape, divisor_override or 0, count_include_pad, sliding, (0, 0), out)


def adaptive_avg_pool2d(x: Array, *, output_size: Pair, out: Array | None = None) -> Array:
    """The mean of each cell of a P x Q grid laid over the image: x (N, C, H, W) to y (N, C, P, Q).

    Cell p covers the rows ⌊p H / P⌋ to ⌈(p + 1) H / P⌉ (exclusive), columns likewise. Reads x once, writes y.
    """
    _, c, h, w = x.shape
    if c % (16 // x.itemsize) or h * w < _LARGE * math.prod(output_size):
        cells = cell_axes((h, w), output_size, [reciprocal_of(count) for count in output_size])
        return average(x, output_size, 0, False, cells, out)
    return average_of_cells(x, output_size, out)


def adaptive_avg_pool2d_backward(dy: Array, x_shape: tuple[int, int, int, int], *, out: Array | None = None) -> Array:
    """Every pixel of a cell gets the cell's gradient over its area: dy (N, C, P, Q) to dx of x_shape."""
    counts = dy.shape[2:]
    cells = cell_axes(x_shape[2:], counts, [reciprocal_of(size) for size in x_shape[2:]])
    return average_backward(dy, x_shape, 0, False, cells, [reciprocal_of(count) for count in counts], out)


def adaptive_max_pool2d(
    x: Array, *, output_size: Pair, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """The largest value in each cell of a P x Q grid and its pixel h W + w: x (N, C, H, W) to y, indices (N, C, P, Q).

    Cells are those of `adaptive_avg_pool2d`. The first maximum wins, the first NaN over everything. indices are uint8
    for at most 256 pixels, else int32. Reads x once, writes y and the indices.
    """
    cells = cell_axes(x.shape[2:], output_size, [reciprocal_of(count) for count in output_size])
    return maximum(x, output_size, x.shape[2:], cells, out)


def adaptive_max_pool2d_backward(
    dy: Array, indices: Array, x_shape: tuple[int, int, int, int], *, out: Array | None = None
) -> Array:
    """Each cell's gradient goes to its winner: dy, indices (N, C, P, Q) to dx of x_shape (N, C, H, W)."""
    cells = cell_axes(x_shape[2:], dy.shape[2:], [reciprocal_of(size) for size in x_shape[2:]])
    return maximum_backward(dy, indices, x_shape, x_shape[3], cells, out)
