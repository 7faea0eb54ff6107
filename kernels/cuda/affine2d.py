"""Images turned, scaled and shifted, by bilinear interpolation, in channels-last memory.

A thread takes two vectors of channels of a pixel of y, from the four pixels around its place in x. At copy bandwidth 8
bytes an element of float32, as neighbours find their common pixels in the caches.

Float32 would not place a pixel of a large image well, and many GPUs have next to no float64: a place is computed in
pairs of float32, whose sum has 48 bits (Dekker 1971, A floating-point technique for extending the available precision;
the error of a product comes from a fused multiply-add). The formulas are those of `kernels/reference/affine2d.py`.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array, channels_last, deliver, empty_like_image
from ._math import HALF, ONE, ZERO, floor, fma
from ._memory import xp
from ._numba import cuda, device, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of
from .launch import F32, FLOAT, STORAGE

_MINUS_TWO = np.float32(-2)


@device
def _plus_product(high, low, a, a_low, b):
    """high + low + (a + a_low) b, b exact."""
    product = a * b
    total = high + product
    part = total - high
    rest = (high - (total - part)) + (product - part)
    return total, low + rest + fma(a, b, -product) + a_low * b


@device
def _place(m, m_low, at, down, across, size):
    """Where row `at` of the matrices leads, on an axis of `size` pixels: the pixel before, and how far behind that."""
    high, low = _plus_product(HALF * np.float32(size - 1), ZERO, m[at], m_low[at], across)
    high, low = _plus_product(high, low, m[at + 1], m_low[at + 1], down)
    high, low = _plus_product(high, low, m[at + 2], m_low[at + 2], ONE)
    if not high > _MINUS_TWO:  # all four pixels lie outside, as they do beyond the other end
        high, low = _MINUS_TWO, ZERO
    if high > np.float32(size):
        high, low = np.float32(size), ZERO
    before = floor(high)
    rest = (high - before) + low
    if rest < ZERO:
        before, rest = before - ONE, rest + ONE
    if rest >= ONE:
        before, rest = before + ONE, rest - ONE
    return np.int32(before), rest


@pixel_kernels(x=STORAGE, y=STORAGE, matrices=F32, matrices_low=F32, fill=FLOAT)
def _affine(vector):
    size, read, write = pieces(vector)

    def affine(
        threads, channels, share, by_share, width, by_width, height, by_height, x, y, matrices, matrices_low, fill
    ):  # fmt: skip
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        total = cuda.local.array((EACH, WIDEST), types.float32)
        image, i, j, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        across, down = np.float32(j) - HALF * np.float32(width - 1), np.float32(i) - HALF * np.float32(height - 1)
        left, f = _place(matrices, matrices_low, 6 * image, down, across, width)
        top, g = _place(matrices, matrices_low, 6 * image + 3, down, across, height)
        lanes = size(x)
        c, step = np.int32(part * lanes), np.int32(share * lanes)
        for k in range(EACH):
            for lane in range(lanes):
                total[k, lane] = ZERO
        for r in range(2):
            for s in range(2):
                row, column = np.int32(top + r), np.int32(left + s)
                weight = (g if r == 1 else ONE - g) * (f if s == 1 else ONE - f)
                for k in range(EACH):
                    for lane in range(lanes):
                        value[k, lane] = fill
                if row >= 0 and row < height and column >= 0 and column < width:
                    at = np.int64((image * height + row) * width + column) * channels + c
                    for k in range(EACH):
                        read(value[k], x, at + k * step, channels - c - k * step)
                for k in range(EACH):
                    for lane in range(lanes):
                        total[k, lane] = fma(weight, value[k, lane], total[k, lane])
        to = np.int64((image * height + i) * width + j) * channels + c
        for k in range(EACH):
            write(y, to + k * step, total[k], channels - c - k * step)

    return affine


def affine2d(x: Array, matrices: Array, *, fill: float = 0.0, out: Array | None = None) -> Array:
    """y[n, :, i, j] is image n at M_n (j', i', 1)ᵀ, i' and j' counted from the centre, by bilinear interpolation.

    x and y (N, C, H, W), matrices M (N, 2, 3). A pixel outside the image has the value `fill`.
    """
    x = channels_last(x)
    y = empty_like_image(x)
    exact = xp().ascontiguousarray(xp().asarray(matrices, np.float64))
    high = exact.astype(np.float32)
    low = xp().where(xp().isfinite(high), exact - high, 0).astype(np.float32)
    Plan(*x.shape, x.itemsize).run(_affine, x, y, high, low, fill)
    return deliver(y, out)
