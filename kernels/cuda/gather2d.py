"""Images rearranged by whole rows and columns, in channels-last memory. At copy bandwidth 8 bytes a number of y.

A thread copies two vectors of channels of a pixel. What it does is that of `kernels/reference/gather2d.py`.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array, channels_last, deliver, empty_image
from ._numba import cuda, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of, table
from .launch import FLOAT, I32, INT, STORAGE


@pixel_kernels(x=STORAGE, y=STORAGE, rows=I32, columns=I32, x_height=INT, x_width=INT, fill=FLOAT)
def _gather(vector):
    size, read, write = pieces(vector)

    def gather(
        threads, channels, share, by_share, width, by_width, height, by_height, x, y, rows, columns, x_height, x_width,
        fill,
    ):  # fmt: skip
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        image, i, j, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        row, column = rows[image * height + i], columns[image * width + j]
        lanes = size(x)
        c, step = np.int32(part * lanes), np.int32(share * lanes)
        if row < 0 or column < 0:
            for k in range(EACH):
                for lane in range(lanes):
                    value[k, lane] = fill
        else:
            at = np.int64((image * x_height + row) * x_width + column) * channels + c
            for k in range(EACH):
                read(value[k], x, at + k * step, channels - c - k * step)
        to = np.int64((image * height + i) * width + j) * channels + c
        for k in range(EACH):
            write(y, to + k * step, value[k], channels - c - k * step)

    return gather


def gather2d(x: Array, rows: Array, columns: Array, *, fill: float = 0.0, out: Array | None = None) -> Array:
    """y[n, c, i, j] = x[n, c, rows[n, i], columns[n, j]], or `fill` where either index is -1.

    x (N, C, H, W), rows (N, P) and columns (N, Q) of ints give y (N, C, P, Q).
    """
    n, c, h, w = x.shape
    x, y = channels_last(x), empty_image(n, c, rows.shape[1], columns.shape[1], x.dtype)
    plan = Plan(*y.shape, x.itemsize)
    plan.run(_gather, x, y, table(rows, np.int32), table(columns, np.int32), h, w, fill)
    return deliver(y, out)
