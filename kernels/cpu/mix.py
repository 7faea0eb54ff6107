"""Mixtures of two samples of a batch, float32, in channels-last memory.

The formula is that of `kernels/reference/mix.py`. A job is an image. Reads two elements and writes one: 12 bytes, of
which 4 are in the cache where the batch is.
"""

from __future__ import annotations

import numpy as np

from ._driver import INT, PTR, job, share
from ._layout import channels_last, deliver, empty_like_image
from .simd import L, fload, lload, vload_n, vstore_n


@job(x=PTR, y=PTR, partners=PTR, shares=PTR, size=INT)
def _mix_images(first, last, thread, a):
    for image in range(first, last):
        own, other = image * a.size, lload(a.partners, image) * a.size
        share = fload(a.shares, image)
        for e in range(0, a.size, L):
            n = a.size - e
            vstore_n(a.y, own + e, share * vload_n(a.x, own + e, n) + (1 - share) * vload_n(a.x, other + e, n), n)


def mix(x: np.ndarray, partners: np.ndarray, shares: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y[n] = shares[n] * x[n] + (1 - shares[n]) * x[partners[n]]: x (N, C, H, W), partners and shares (N,).

    Reads x twice, writes y.
    """
    x = channels_last(x)
    partners, shares = np.ascontiguousarray(partners, np.int64), np.ascontiguousarray(shares, np.float32)
    y = empty_like_image(x)
    size = x[:1].size
    _mix_images(len(x), threads=share(x.size), x=x, y=y, partners=partners, shares=shares, size=size)
    return deliver(y, out)
