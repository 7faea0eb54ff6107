"""Each channel of each sample multiplied by a number of its own, float32, in channels-last memory.

The formulas are those of `kernels/reference/scale_channels.py`. A job is an image. The forward moves 8 bytes an
element; the backward reads dy and x once and writes dx, 12 bytes: it takes blocks of pixels, one vector of channels
after the other, so that the products of a block are summed in a register before they go to the image's sums.
"""

from __future__ import annotations

import numpy as np

from ._blocks import FULL
from ._compile import inner
from ._driver import INT, PTR, job, share
from ._layout import channels_last, contiguous, deliver, empty_image
from ._memory import empty
from .simd import L, vfma, vload_n, vsplat, vstore_n

_PIXELS = 64  # few enough terms for a sum in float32


@job(x=PTR, scale=PTR, y=PTR, pixels=INT, channels=INT)
def _scaled(first, last, thread, a):
    for image in range(first, last):
        scale = a.scale + 4 * image * a.channels
        for pixel in range(image * a.pixels, (image + 1) * a.pixels):
            for c in range(0, a.channels, L):
                n = a.channels - c
                at = pixel * a.channels + c
                vstore_n(a.y, at, vload_n(a.x, at, n) * vload_n(scale, c, n), n)


@inner
def _products(a, image, begin, end, c, n):
    """dx of some channels of some pixels; adds their share of dscale."""
    scale, total = vload_n(a.scale, image * a.channels + c, n), vsplat(0.0)
    for pixel in range(begin, end):
        at = (image * a.pixels + pixel) * a.channels + c
        dy = vload_n(a.dy, at, n)
        total = vfma(dy, vload_n(a.x, at, n), total)
        vstore_n(a.dx, at, dy * scale, n)
    sums = image * a.channels + c
    vstore_n(a.dscale, sums, vload_n(a.dscale, sums, n) + total, n)


@job(dy=PTR, x=PTR, scale=PTR, dx=PTR, dscale=PTR, pixels=INT, channels=INT)
def _scaled_backward(first, last, thread, a):
    whole = a.channels - a.channels % L
    for image in range(first, last):
        for c in range(0, a.channels, L):
            vstore_n(a.dscale, image * a.channels + c, vsplat(0.0), a.channels - c)
        for begin in range(0, a.pixels, _PIXELS):
            end = min(begin + _PIXELS, a.pixels)
            for c in range(0, whole, L):
                _products(a, image, begin, end, c, FULL)
            if whole < a.channels:
                _products(a, image, begin, end, whole, a.channels - whole)


def scale_channels(x: np.ndarray, scale: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y[n, c] = scale[n, c] * x[n, c]: x (N, C, H, W), scale (N, C). Reads x, writes y."""
    x = channels_last(x)
    n, c, h, w = x.shape
    y = empty_image(*x.shape)
    _scaled(n, threads=share(x.size), x=x, scale=contiguous(scale), y=y, pixels=h * w, channels=c)
    return deliver(y, out)


def scale_channels_backward(
    dy: np.ndarray, x: np.ndarray, scale: np.ndarray, *, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """dx = scale * dy, and dscale (N, C), the sums of dy * x over each channel. Reads dy and x, writes dx."""
    dy, x = channels_last(dy), channels_last(x)
    n, c, h, w = x.shape
    dx, dscale = empty_image(*x.shape), empty((n, c))
    _scaled_backward(n, threads=share(x.size), dy=dy, x=x, scale=contiguous(scale), dx=dx, dscale=dscale,
                     pixels=h * w, channels=c)
    dx_out, dscale_out = out or (None, None)
    return deliver(dx, dx_out), deliver(dscale, dscale_out)
