"""Images rearranged by whole rows and columns, float32, in channels-last memory.

The formula is that of `kernels/reference/gather2d.py`. Each pixel of y is one vector of channels, read once and
written once: 8 bytes an element of y.
"""

from __future__ import annotations

import numpy as np

from ._driver import FLOAT, INT, PTR, job, share
from ._layout import channels_last, deliver, empty_image
from .simd import L, lload, vload_n, vsplat, vstore_n


@job(x=PTR, y=PTR, rows=PTR, columns=PTR, channels=INT, x_height=INT, x_width=INT, height=INT, width=INT, fill=FLOAT)
def _gather_rows(first, last, thread, a):
    for row in range(first, last):
        image, source = row // a.height, lload(a.rows, row)
        line = (image * a.x_height + source) * a.x_width
        for j in range(a.width):
            column = lload(a.columns, image * a.width + j)
            for c in range(0, a.channels, L):
                pixel = vsplat(a.fill)
                if source >= 0 and column >= 0:
                    pixel = vload_n(a.x, (line + column) * a.channels + c, a.channels - c)
                vstore_n(a.y, (row * a.width + j) * a.channels + c, pixel, a.channels - c)


def gather2d(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, *, fill: float = 0.0, out: np.ndarray | None = None
) -> np.ndarray:
    """y[n, c, i, j] = x[n, c, rows[n, i], columns[n, j]], or `fill` where either index is -1.

    x (N, C, H, W), rows (N, P), columns (N, Q) to y (N, C, P, Q). Reads and writes as many bytes as y has.
    """
    x = channels_last(x)
    n, c, h, w = x.shape
    rows, columns = (np.ascontiguousarray(indices, np.int64) for indices in (rows, columns))
    height, width = rows.shape[1], columns.shape[1]
    y = empty_image(n, c, height, width)
    _gather_rows(
        n * height, threads=share(y.size), x=x, y=y, rows=rows, columns=columns, channels=c, x_height=h, x_width=w,
        height=height, width=width, fill=fill)
    return deliver(y, out)
