"""Images blurred by a filter for each, the same along rows and columns, in channels-last memory.

Two kernels, along rows and then along columns, with float32 between them: 16 bytes an element of float32, and K reads
each from the caches. Images that are blurred have few channels, so a thread takes them one by one, up to eight of a
pixel. The formula is that of `kernels/reference/blur2d.py`.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array, channels_last, deliver, empty_like_image
from ._math import ZERO
from ._numba import cuda, device, types
from ._pixels import EACH, PLAN, THREADS, WIDEST, Plan, pieces, pixel_of, table
from .launch import F32, INT, STORAGE, Kernel, kernel


@device
def _reflected(i, size):
    """The pixel at which i ends, mirrored to and fro at the centres of the border pixels."""
    turn = np.int32(2 * (size - 1))
    i = np.int32(-i) if i < 0 else i
    if i >= size:
        i = np.int32(np.uint32(i) % np.uint32(turn)) if turn > 0 else np.int32(0)
        i = min(i, np.int32(turn - i))
    return i


def _blur(down: int, x: str, y: str) -> Kernel:
    """The kernel along rows (0) or columns (1), from and to memory of these kinds."""
    size, read, write = pieces(vector=False)

    @kernel(block=THREADS, **PLAN, x=x, y=y, weights=F32, taps=INT)
    def blur(threads, channels, share, by_share, width, by_width, height, by_height, x, y, weights, taps):
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        total = cuda.local.array((EACH, WIDEST), types.float32)
        image, i, j, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        lanes = size(x)
        c, step = np.int32(part * lanes), np.int32(share * lanes)
        for k in range(EACH):
            for lane in range(lanes):
                total[k, lane] = ZERO
        for tap in range(taps):
            shift = np.int32(tap - (taps >> 1))
            row = _reflected(np.int32(i + shift), height) if down else i
            column = j if down else _reflected(np.int32(j + shift), width)
            at = np.int64((image * height + row) * width + column) * channels + c
            for k in range(EACH):
                read(value[k], x, at + k * step, channels - c - k * step)
            for k in range(EACH):
                for lane in range(lanes):
                    total[k, lane] += weights[image * taps + tap] * value[k, lane]
        to = np.int64((image * height + i) * width + j) * channels + c
        for k in range(EACH):
            write(y, to + k * step, total[k], channels - c - k * step)

    return blur


_along_rows, _along_columns = _blur(0, STORAGE, F32), _blur(1, F32, STORAGE)


def blur2d(x: Array, weights: Array, *, out: Array | None = None) -> Array:
    """y[n, c, i, j] = Σ_r Σ_s w[n, r] w[n, s] x[n, c, i + r - K // 2, j + s - K // 2], the borders reflected.

    x and y (N, C, H, W), weights (N, K) with K odd: a filter of its own for each image.
    """
    x, taps = channels_last(x), weights.shape[1]
    between, y = empty_like_image(x, np.float32), empty_like_image(x)
    weights = table(weights, np.float32)
    plan = Plan(*x.shape, x.itemsize, vector=False)
    plan.run((_along_rows,), x, between, weights, taps)
    plan.run((_along_columns,), between, y, weights, taps)
    return deliver(y, out)
