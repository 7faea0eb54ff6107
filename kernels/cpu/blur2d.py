"""Images blurred by a filter that is the same along rows and columns, float32, in channels-last memory.

The formula is that of `kernels/reference/blur2d.py`. A job makes one row of y: it blurs down the columns into a row of
its own, which stays in L1, and that along itself. Both run over pixels and channels alike, in whole vectors. x comes
from memory once while K rows of it fit the cache, y goes there once: 8 bytes and 4 K operations an element.
"""

from __future__ import annotations

import numpy as np

from ._driver import INT, PTR, job, share
from ._layout import channels_last, deliver, empty_like_image
from ._memory import workspace
from .simd import L, fload, lload, vfma, vload_n, vsplat, vstore_n


@job(x=PTR, y=PTR, weights=PTR, rows=PTR, columns=PTR, between=PTR, channels=INT, height=INT, width=INT, taps=INT)
def _blur_rows(first, last, thread, a):
    half, size = a.taps // 2, a.width * a.channels
    padded = a.width + 2 * half
    between = a.between + 4 * thread * padded * a.channels
    for row in range(first, last):
        image, i = divmod(row, a.height)
        w = image * a.taps
        for e in range(0, size, L):
            total = vsplat(0.0)
            for r in range(a.taps):
                line = (image * a.height + lload(a.rows, i + r)) * size
                total = vfma(vsplat(fload(a.weights, w + r)), vload_n(a.x, line + e, size - e), total)
            vstore_n(between, half * a.channels + e, total, size - e)
        for p in range(2 * half):
            place = p if p < half else p + a.width
            for c in range(0, a.channels, L):
                pixel = vload_n(between, (half + lload(a.columns, place)) * a.channels + c, a.channels - c)
                vstore_n(between, place * a.channels + c, pixel, a.channels - c)
        for e in range(0, size, L):
            total = vsplat(0.0)
            for s in range(a.taps):
                total = vfma(vsplat(fload(a.weights, w + s)), vload_n(between, s * a.channels + e, size - e), total)
            vstore_n(a.y, row * size + e, total, size - e)


def blur2d(x: np.ndarray, weights: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y[n] = image n filtered by w[n] along columns and rows, borders reflected.

    x and y (N, C, H, W), weights (N, K), K odd. Reads x and writes y; 4 K operations an element.
    """
    x = channels_last(x)
    n, c, h, w = x.shape
    weights = np.ascontiguousarray(weights, np.float32)
    taps = weights.shape[1]
    y = empty_like_image(x)
    if y.size:
        rows, columns = (np.pad(np.arange(size), taps // 2, mode="reflect") for size in (h, w))
        threads = share(taps * y.size)
        between = workspace("blur2d", threads * (w + taps - 1) * c)
        _blur_rows(
            n * h, threads=threads, x=x, y=y, weights=weights, rows=rows, columns=columns, between=between, channels=c,
            height=h, width=w, taps=taps)
    return deliver(y, out)
