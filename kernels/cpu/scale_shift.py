"""Each channel of each image scaled and shifted, float32, in channels-last memory.

The formula is that of `kernels/reference/scale_shift.py`. A job is an image. Its coefficients are laid out once for
L pixels in a row, which are a whole number of vectors however many channels there are. 8 bytes an element.
"""

from __future__ import annotations

import numpy as np

from ._driver import INT, PTR, job, share
from ._layout import channels_last, deliver, empty_like_image
from ._memory import workspace
from .simd import L, fload, fstore, vfma, vload, vload_n, vstore_n


@job(x=PTR, y=PTR, scale=PTR, shift=PTR, pattern=PTR, channels=INT, size=INT)
def _scale_shift_images(first, last, thread, a):
    period = L * a.channels
    scales = a.pattern + 4 * thread * 2 * period
    shifts = scales + 4 * period
    for image in range(first, last):
        for e in range(period):
            fstore(scales, e, fload(a.scale, image * a.channels + e % a.channels))
            fstore(shifts, e, fload(a.shift, image * a.channels + e % a.channels))
        for start in range(0, a.size, period):
            for e in range(0, min(period, a.size - start), L):
                at, n = image * a.size + start + e, a.size - start - e
                vstore_n(a.y, at, vfma(vload(scales, e), vload_n(a.x, at, n), vload(shifts, e)), n)


def scale_shift(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y[n, c] = scale[n, c] * x[n, c] + shift[n, c]: x (N, C, H, W), scale and shift (N, C). Reads x, writes y."""
    x = channels_last(x)
    n, c, h, w = x.shape
    scale, shift = (np.ascontiguousarray(values, np.float32) for values in (scale, shift))
    y = empty_like_image(x)
    threads = share(x.size)
    pattern = workspace("scale_shift", threads * 2 * L * c)
    _scale_shift_images(
        n, threads=threads, x=x, y=y, scale=scale, shift=shift, pattern=pattern, channels=c, size=c * h * w)
    return deliver(y, out)
