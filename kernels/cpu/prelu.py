"""Parametric ReLU, float32; formulas and source in `kernels/reference/prelu.py`.

The forward reads x and writes y, 8 bytes an element; the backward reads dy and x and writes dx, 12 bytes, and sums the
gradient to the slopes on the way. A shared slope is taken as _SHARED equal ones, so that there is one kernel for both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._blocks import FULL
from ._compile import inner
from ._driver import INT, PTR, job
from ._layout import channels_last, deliver, dense, empty_like, like
from ._memory import workspace
from ._rows import Rows, fold
from ._stream import put, streams
from .simd import L, dload, dstore, fload, fstore, vload_n, vselect, vstore_n, vstreamed

_SHARED = 512


def _each_vector(body: Callable) -> Callable:
    """Decorator: body(a, i, c, n, sums), n lanes at offset i, column c, becomes loop(a, block, sums)."""
    body = inner(body)

    @inner
    def loop(a, block, sums):
        stop = min((block + 1) * a.height * a.width, a.size)
        for start in range(block * a.height * a.width, stop, a.width):
            columns = min(a.width, stop - start)
            whole = columns - columns % L
            for c in range(0, whole, L):
                body(a, start + c, c, FULL, sums)
            if columns % L:
                body(a, start + whole, whole, columns % L, sums)
    return loop


@_each_vector
def _prelu(a, i, c, n, sums):
    x = vload_n(a.x, i, n)
    put(a.y, i, vselect(x > 0, x, vload_n(a.slopes, c, n) * x), n, a.past_caches)


@job(x=PTR, y=PTR, slopes=PTR, size=INT, width=INT, height=INT, past_caches=INT)
def _prelu_blocks(first, last, thread, a):
    for block in range(first, last):
        _prelu(a, block, 0)
    vstreamed()


@_each_vector
def _prelu_backward(a, i, c, n, sums):
    x, dy = vload_n(a.x, i, n), vload_n(a.dy, i, n)
    put(a.dx, i, vselect(x > 0, dy, vload_n(a.slopes, c, n) * dy), n, a.past_caches)
    vstore_n(sums, c, vload_n(sums, c, n) + vselect(x > 0, 0, dy * x), n)


@job(dy=PTR, x=PTR, dx=PTR, slopes=PTR, totals=PTR, sums=PTR, size=INT, width=INT, height=INT, past_caches=INT)
def _prelu_backward_blocks(first, last, thread, a):
    """dx, and each thread's sums for the columns: over a block in float32, over blocks in float64."""
    totals, sums = a.totals + 8 * thread * a.width, a.sums + 4 * thread * a.width
    for c in range(a.width):
        dstore(totals, c, 0.0)
    for block in range(first, last):
        for c in range(a.width):
            fstore(sums, c, 0.0)
        _prelu_backward(a, block, sums)
        for c in range(a.width):
            dstore(totals, c, dload(totals, c) + fload(sums, c))
    vstreamed()


def _laid_out(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, Rows, np.ndarray]:
    """x without gaps, its memory as rows, and a row of slopes."""
    if weight.size == 1:
        x, rows = dense(x), fold(x.size, _SHARED)
    else:
        x, rows = channels_last(x), fold(x.size, weight.size)
    slopes = workspace("slopes", rows.width)[:rows.width]
    slopes.reshape(-1, weight.size)[...] = weight
    return x, rows, slopes


def prelu(x: np.ndarray, weight: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """x where x > 0, else weight * x: x of any shape with a weight (1,), or (N, C, ...) with one (C,)."""
    x, rows, slopes = _laid_out(x, weight)
    y = empty_like(x)
    _prelu_blocks(rows.blocks, threads=rows.threads, x=x, y=y, slopes=slopes, size=rows.size, width=rows.width,
                  height=rows.height, past_caches=streams(y, rows.width))
    return deliver(y, out)


def prelu_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, *, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """dx = dy where x > 0, else weight * dy; dweight = the sum of dy x over the elements x <= 0 that share a slope."""
    x, rows, slopes = _laid_out(x, weight)
    dy, dx = like(dy, x), empty_like(x)
    parts = min(rows.threads, rows.blocks)
    totals = workspace("slope totals", 2 * parts * rows.width)[:2 * parts * rows.width].view(np.float64)
    sums = workspace("slope sums", parts * rows.width)
    _prelu_backward_blocks(rows.blocks, threads=parts, dy=dy, x=x, dx=dx, slopes=slopes, totals=totals, sums=sums,
                           size=rows.size, width=rows.width, height=rows.height, past_caches=streams(dx, rows.width))
    dweight = totals.reshape(-1, weight.size).sum(axis=0).astype(np.float32)
    dx_out, dweight_out = out or (None, None)
    return deliver(dx, dx_out), deliver(dweight, dweight_out)
