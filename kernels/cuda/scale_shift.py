"""Each channel of each image scaled and shifted. Reads x, writes y: 8 bytes an element of float32.

The formula is that of `kernels/reference/scale_shift.py`, the walk that of `_rows.py`.
"""

from __future__ import annotations

from ._layout import Array, channels_last, deliver, empty_like_image, vector
from ._math import ZERO, fma
from ._numba import cuda, device, types
from ._rows import APPLY, THREADS, UNROLL, WALK, WIDEST, fold, load_part, per_channel, place, store_part
from .launch import F32, INT, STORAGE, kernel
from .ptx import lanes, load_vector, store_vector


@device
def _affine(x, factor, level, n):
    for lane in range(n):
        x[lane] = fma(x[lane], factor[lane], level[lane])


@kernel(block=THREADS, x=STORAGE, y=STORAGE, scale=F32, shift=F32, shifted=INT, **WALK)
def _scale_shift(x, y, scale, shift, shifted, size, width, columns, height, channels, aligned):
    values = cuda.local.array((UNROLL, WIDEST), types.float32)
    factor = cuda.local.array(WIDEST, types.float32)
    level = cuda.local.array(WIDEST, types.float32)
    n = lanes(x)
    sample, i, step, whole, end, column = place(0, n, size, width, columns, height, aligned)
    per_channel(factor, scale, sample * channels, column, channels, 1, n)
    for lane in range(n):
        level[lane] = ZERO
    if shifted:
        per_channel(level, shift, sample * channels, column, channels, 1, n)
    while i + (UNROLL - 1) * step + n <= whole:
        for u in range(UNROLL):
            load_vector(values[u], x, i + u * step)
        for u in range(UNROLL):
            _affine(values[u], factor, level, n)
            store_vector(y, i + u * step, values[u])
        i += UNROLL * step
    while i < end:
        load_part(values[0], x, i, whole, end, n)
        _affine(values[0], factor, level, n)
        store_part(y, i, values[0], whole, end, n)
        i += step


def scaled(x: Array, scale: Array, shift: Array | None, out: Array | None) -> Array:
    """scale x + shift, where there is one."""
    x = channels_last(x)
    rows, y = fold(x, APPLY, x.shape[0]), empty_like_image(x)
    _scale_shift(rows.grid, x, y, vector(scale), vector(shift), shift is not None, *rows.walk)
    return deliver(y, out)


def scale_shift(x: Array, scale: Array, shift: Array, *, out: Array | None = None) -> Array:
    """y[n, c] = scale[n, c] * x[n, c] + shift[n, c]: x (N, C, H, W), scale and shift (N, C)."""
    return scaled(x, scale, shift, out)
