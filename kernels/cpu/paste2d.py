"""A box of each image replaced, float32, in channels-last memory.

The formula is that of `kernels/reference/paste2d.py`. A job is a row of an image: up to three stretches of memory, each
copied or filled. 8 bytes an element.
"""

from __future__ import annotations

import numpy as np

from ._compile import inner
from ._driver import FLOAT, INT, PTR, job, share
from ._layout import channels_last, deliver, empty_like_image
from .simd import L, lload, vload_n, vsplat, vstore_n


@inner
def _copy(a, row, source, start, stop):
    """Floats start..stop of a row of y from the row `source` of x, or the fill value if that is negative."""
    size = a.width * a.channels
    for e in range(start, stop, L):
        value = vsplat(a.fill)
        if source >= 0:
            value = vload_n(a.x, source * size + e, stop - e)
        vstore_n(a.y, row * size + e, value, stop - e)


@job(x=PTR, y=PTR, boxes=PTR, partners=PTR, channels=INT, height=INT, width=INT, fill=FLOAT)
def _paste_rows(first, last, thread, a):
    for row in range(first, last):
        image, i = divmod(row, a.height)
        partner, left, right = lload(a.partners, image), 0, 0
        if lload(a.boxes, 4 * image) <= i < lload(a.boxes, 4 * image + 2):
            left, right = lload(a.boxes, 4 * image + 1), lload(a.boxes, 4 * image + 3)
        _copy(a, row, row, 0, left * a.channels)
        _copy(a, row, partner * a.height + i if partner >= 0 else -1, left * a.channels, right * a.channels)
        _copy(a, row, row, max(left, right) * a.channels, a.width * a.channels)


def paste2d(
    x: np.ndarray, boxes: np.ndarray, partners: np.ndarray, *, fill: float = 0.0, out: np.ndarray | None = None
) -> np.ndarray:
    """y[n] = x[n], but inside box n it is x[partners[n]], or `fill` where the partner is -1.

    x and y (N, C, H, W), boxes (N, 4): top, left, bottom, right. Reads x, writes y.
    """
    x = channels_last(x)
    n, c, h, w = x.shape
    boxes, partners = (np.ascontiguousarray(values, np.int64) for values in (boxes, partners))
    y = empty_like_image(x)
    _paste_rows(
        n * h, threads=share(x.size), x=x, y=y, boxes=boxes, partners=partners, channels=c, height=h, width=w,
        fill=fill)
    return deliver(y, out)
