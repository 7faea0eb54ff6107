"""A box of each image replaced, in channels-last memory. Reads and writes each number once, 8 bytes of float32.

A thread copies two vectors of channels of a pixel, of which it asks first where to read them. What it does is that of
`kernels/reference/paste2d.py`.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array, channels_last, deliver, empty_like_image
from ._numba import cuda, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of, table
from .launch import FLOAT, I32, STORAGE


@pixel_kernels(x=STORAGE, y=STORAGE, boxes=I32, partners=I32, fill=FLOAT)
def _paste(vector):
    size, read, write = pieces(vector)

    def paste(
        threads, channels, share, by_share, width, by_width, height, by_height, x, y, boxes, partners, fill
    ):  # fmt: skip
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        image, i, j, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        top, left, bottom, right = boxes[4 * image], boxes[4 * image + 1], boxes[4 * image + 2], boxes[4 * image + 3]
        source = partners[image] if top <= i and i < bottom and left <= j and j < right else image
        lanes = size(x)
        c, step = np.int32(part * lanes), np.int32(share * lanes)
        if source < 0:
            for k in range(EACH):
                for lane in range(lanes):
                    value[k, lane] = fill
        else:
            at = np.int64((source * height + i) * width + j) * channels + c
            for k in range(EACH):
                read(value[k], x, at + k * step, channels - c - k * step)
        to = np.int64((image * height + i) * width + j) * channels + c
        for k in range(EACH):
            write(y, to + k * step, value[k], channels - c - k * step)

    return paste


def paste2d(x: Array, boxes: Array, partners: Array, *, fill: float = 0.0, out: Array | None = None) -> Array:
    """y[n] = x[n], but inside box n it is x[partners[n]], or `fill` where the partner is -1.

    x and y (N, C, H, W); boxes (N, 4) of ints: first row, first column, row and column behind the last; partners (N,).
    """
    x = channels_last(x)
    y = empty_like_image(x)
    Plan(*x.shape, x.itemsize).run(_paste, x, y, table(boxes, np.int32), table(partners, np.int32), fill)
    return deliver(y, out)
