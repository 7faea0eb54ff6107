"""Images turned, scaled and shifted, by bilinear interpolation, float32, in channels-last memory.

The formula is that of `kernels/reference/affine2d.py`, places in float64 as there. Each pixel of y is one vector of
channels, made of the four pixels of x around its place. x is read once, y written once: 8 bytes an element.
"""

from __future__ import annotations

import math

import numpy as np

from ._compile import inner
from ._driver import FLOAT, INT, PTR, job, share
from ._layout import channels_last, deliver, empty_like_image
from .simd import L, dload, vload_n, vsplat, vstore_n


@inner
def _pixel(a, image, i, j, c):
    """Channels from c on, or the fill value outside."""
    pixel = vsplat(a.fill)
    if 0 <= i < a.height and 0 <= j < a.width:
        pixel = vload_n(a.x, ((image * a.height + i) * a.width + j) * a.channels + c, a.channels - c)
    return pixel


@job(x=PTR, y=PTR, matrices=PTR, channels=INT, height=INT, width=INT, fill=FLOAT)
def _affine_rows(first, last, thread, a):
    middle_i, middle_j = (a.height - 1) / 2, (a.width - 1) / 2
    for row in range(first, last):
        image, i = divmod(row, a.height)
        m = 6 * image
        u_of_row = dload(a.matrices, m + 1) * (i - middle_i) + dload(a.matrices, m + 2) + middle_j
        v_of_row = dload(a.matrices, m + 4) * (i - middle_i) + dload(a.matrices, m + 5) + middle_i
        for j in range(a.width):
            # Clipped to where all four pixels lie outside, so that any place fits an integer.
            u = min(max(dload(a.matrices, m) * (j - middle_j) + u_of_row, -2.0), float(a.width))
            v = min(max(dload(a.matrices, m + 3) * (j - middle_j) + v_of_row, -2.0), float(a.height))
            left, top = math.floor(u), math.floor(v)
            f, g = np.float32(u - left), np.float32(v - top)
            for c in range(0, a.channels, L):
                upper = (1 - f) * _pixel(a, image, top, left, c) + f * _pixel(a, image, top, left + 1, c)
                lower = (1 - f) * _pixel(a, image, top + 1, left, c) + f * _pixel(a, image, top + 1, left + 1, c)
                vstore_n(a.y, (row * a.width + j) * a.channels + c, (1 - g) * upper + g * lower, a.channels - c)


def affine2d(x: np.ndarray, matrices: np.ndarray, *, fill: float = 0.0, out: np.ndarray | None = None) -> np.ndarray:
    """y[n, :, i, j] is image n at M_n (j', i', 1), counted in pixels from the centre; outside it is `fill`.

    x and y (N, C, H, W), matrices M (N, 2, 3). Reads x and writes y; 9 operations an element.
    """
    x = channels_last(x)
    n, c, h, w = x.shape
    matrices = np.ascontiguousarray(matrices, np.float64)
    y = empty_like_image(x)
    _affine_rows(
        n * h, threads=share(4 * y.size), x=x, y=y, matrices=matrices, channels=c, height=h, width=w, fill=fill)
    return deliver(y, out)
