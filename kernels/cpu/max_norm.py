"""A bound on the norm of the weights of each output unit, float32, in place.

Every weight is read once, 4 bytes; those of units beyond the limit are read again, from the cache, and written, 8 bytes
in all. The formula is that of `kernels/reference/max_norm.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._blocks import BLOCK
from ._compile import inner
from ._driver import FLOAT, INT, PTR, job, share
from .simd import L, vfma, vload, vload_n, vsplat, vstore_n, vsum

_STEP = 4 * L


@inner
def _squares(x, i, stop):
    """The sum of the squares of a block."""
    s0 = s1 = s2 = s3 = vsplat(0.0)
    while i + _STEP <= stop:
        x0, x1, x2, x3 = vload(x, i), vload(x, i + L), vload(x, i + 2 * L), vload(x, i + 3 * L)
        s0, s1, s2, s3 = vfma(x0, x0, s0), vfma(x1, x1, s1), vfma(x2, x2, s2), vfma(x3, x3, s3)
        i += _STEP
    while i < stop:
        x0 = vload_n(x, i, stop - i)
        s0 = vfma(x0, x0, s0)
        i += L
    return vsum((s0 + s1) + (s2 + s3))


@job(x=PTR, width=INT, limit=FLOAT)
def _bound_rows(first, last, thread, a):
    for row in range(first, last):
        start, stop = row * a.width, (row + 1) * a.width
        total = 0.0
        for i in range(start, stop, BLOCK):
            total += np.float64(_squares(a.x, i, min(i + BLOCK, stop)))
        norm = math.sqrt(total)
        if norm > a.limit:
            scale = np.float32(a.limit / (norm + 1e-7))
            for i in range(start, stop, L):
                vstore_n(a.x, i, scale * vload_n(a.x, i, stop - i), stop - i)


def max_norm(params: Sequence[np.ndarray], *, limit: float) -> None:
    """In place: x[i] ← x[i] · limit / (‖x[i]‖ + 1e-7) for each i of the first axis where ‖x[i]‖ > limit.

    Each array is C-contiguous with two axes or more.
    """
    for x in params:
        if x.size:
            rows = x.shape[0]
            _bound_rows(rows, threads=share(x.size), x=x, width=x.size // rows, limit=limit)
