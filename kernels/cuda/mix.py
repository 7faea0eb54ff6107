"""Mixtures of two samples, in channels-last memory, where an image is a run of C · H · W numbers.

A thread takes two vectors of an image and those of its partner. At copy bandwidth it takes 12 bytes an element of
float32. The formula is that of `kernels/reference/mix.py`.
"""

from __future__ import annotations

import math

import numpy as np

from ._layout import Array, channels_last, deliver, empty_like_image
from ._math import ONE
from ._numba import cuda, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of, table
from .launch import F32, I32, STORAGE


@pixel_kernels(x=STORAGE, y=STORAGE, partners=I32, shares=F32)
def _mix(vector):
    size, read, write = pieces(vector)

    def mix(threads, channels, share, by_share, width, by_width, height, by_height, x, y, partners, shares):
        """The images are pixels here, their numbers are channels."""
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        own = cuda.local.array((EACH, WIDEST), types.float32)
        other = cuda.local.array((EACH, WIDEST), types.float32)
        image, _, _, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        partner, part_of_own = partners[image], shares[image]
        lanes = size(x)
        c, step = np.int32(part * lanes), np.int32(share * lanes)
        for k in range(EACH):
            left = channels - c - k * step
            read(own[k], x, np.int64(image) * channels + c + k * step, left)
            read(other[k], x, np.int64(partner) * channels + c + k * step, left)
        for k in range(EACH):
            for lane in range(lanes):
                own[k, lane] = part_of_own * own[k, lane] + (ONE - part_of_own) * other[k, lane]
            write(y, np.int64(image) * channels + c + k * step, own[k], channels - c - k * step)

    return mix


def mix(x: Array, partners: Array, shares: Array, *, out: Array | None = None) -> Array:
    """y[n] = λ_n x[n] + (1 - λ_n) x[partners[n]]: x and y (N, C, H, W), partners (N,) ints, shares λ (N,)."""
    x = channels_last(x)
    y = empty_like_image(x)
    plan = Plan(x.shape[0], math.prod(x.shape[1:]), 1, 1, x.itemsize)
    plan.run(_mix, x, y, table(partners, np.int32), table(shares, np.float32))
    return deliver(y, out)
