"""Maxout, float32, in channels-last memory; formulas and source in `kernels/reference/maxout.py`.

The pieces of a group of units lie beside each other as rows of `pieces` times `units` floats, so vectors run over
units. With P pieces a forward reads 4 P bytes an output and writes 5, a backward the other way round.
"""

from __future__ import annotations

import numpy as np

from ._blocks import BLOCK, FULL
from ._compile import inner
from ._driver import INT, PTR, job, share
from ._layout import channels_last, deliver, empty_image
from ._memory import empty
from .simd import (
    L,
    bload_n,
    bstore_n,
    iload_n,
    isplat,
    istore_n,
    visnan,
    vload_n,
    vselect,
    vstore_n,
)

_FLOAT, _UINT8, _INT32 = np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int32)


@inner
def _largest(a, row, c, n):
    """n units from c on."""
    x = row * a.pieces * a.units + c
    best, winner = vload_n(a.x, x, n), isplat(0)
    for j in range(1, a.pieces):
        piece = vload_n(a.x, x + j * a.units, n)
        wins = (piece > best) | (visnan(piece) & ~visnan(best))
        best, winner = vselect(wins, piece, best), vselect(wins, isplat(j), winner)
    y = row * a.units + c
    vstore_n(a.y, y, best, n)
    if a.wide:
        istore_n(a.indices, y, winner, n)
    else:
        bstore_n(a.indices, y, winner, n)


@job(x=PTR, y=PTR, indices=PTR, rows=INT, per_job=INT, pieces=INT, units=INT, wide=INT)
def _largest_rows(first, last, thread, a):
    whole = a.units - a.units % L
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        for c in range(0, whole, L):
            _largest(a, row, c, FULL)
        if a.units % L:
            _largest(a, row, whole, a.units % L)


@inner
def _to_the_largest(a, row, c, n):
    y = row * a.units + c
    dy = vload_n(a.dy, y, n)
    winner = iload_n(a.indices, y, n) if a.wide else bload_n(a.indices, y, n)
    for j in range(a.pieces):
        vstore_n(a.dx, (row * a.pieces + j) * a.units + c, vselect(winner == isplat(j), dy, 0), n)


@job(dy=PTR, dx=PTR, indices=PTR, rows=INT, per_job=INT, pieces=INT, units=INT, wide=INT)
def _to_the_largest_rows(first, last, thread, a):
    whole = a.units - a.units % L
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        for c in range(0, whole, L):
            _to_the_largest(a, row, c, FULL)
        if a.units % L:
            _to_the_largest(a, row, whole, a.units % L)


def _empty(shape: tuple[int, ...], dtype: np.dtype = _FLOAT) -> np.ndarray:
    return empty(shape, dtype) if len(shape) == 2 else empty_image(*shape, dtype)


def _rows(x_shape: tuple[int, ...], size: int, pieces: int, groups: int) -> tuple[int, dict[str, int]]:
    """Jobs, and what a kernel knows of the shape."""
    units = x_shape[1] // (pieces * groups)
    rows, per_job = size // max(pieces * units, 1), max(1, BLOCK // max(pieces * units, 1))
    return -(-rows // per_job), {"rows": rows, "per_job": per_job, "pieces": pieces, "units": units}


def maxout(
    x: np.ndarray, *, pieces: int, groups: int = 1, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The largest of the pieces, and which it is: x (N, pieces * C) or (N, pieces * C, H, W) to y and indices.

    The first maximum wins, the first NaN over everything. Indices are uint8 for up to 256 pieces, else int32.
    """
    x = channels_last(x)
    shape = (x.shape[0], x.shape[1] // pieces, *x.shape[2:])
    wide = pieces > 256
    y, indices = _empty(shape), _empty(shape, _INT32 if wide else _UINT8)
    jobs, walk = _rows(x.shape, x.size, pieces, groups)
    _largest_rows(jobs, threads=share(x.size), x=x, y=y, indices=indices, wide=wide, **walk)
    y_out, indices_out = out or (None, None)
    return deliver(y, y_out), deliver(indices, indices_out)


def maxout_backward(
    dy: np.ndarray, indices: np.ndarray, *, pieces: int, groups: int = 1, out: np.ndarray | None = None
) -> np.ndarray:
    """dy to the piece that was largest, 0 to the others: dy and indices (N, C) or (N, C, H, W) to dx."""
    dy, indices = channels_last(dy), channels_last(indices)
    shape = (dy.shape[0], dy.shape[1] * pieces, *dy.shape[2:])
    dx = _empty(shape)
    jobs, walk = _rows(shape, dx.size, pieces, groups)
    _to_the_largest_rows(
        jobs, threads=share(dx.size), dy=dy, dx=dx, indices=indices, wide=indices.dtype == _INT32, **walk)
    return deliver(dx, out)
