"""Sums over the rows of a matrix: the gradients of biases."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ._compile import inner
from ._driver import INT, PTR, get_num_threads, job, share
from ._memory import empty, workspace
from ._rows import QUAD, fold, load_four, store_four
from .simd import L, dload, dstore, fload, fstore, vload_n, vsplat, vstore_n


@inner
def _sum_four(x, width, rows, c, sums):
    """sums[c...] = the sum over the rows in four vectors of columns from c."""
    s0 = s1 = s2 = s3 = vsplat(0.0)
    for i in range(c, c + rows * width, width):
        v0, v1, v2, v3 = load_four(x, i)
        s0, s1, s2, s3 = s0 + v0, s1 + v1, s2 + v2, s3 + v3
    store_four(sums, c, s0, s1, s2, s3)


@inner
def _sum_few(x, width, rows, c, n, sums):
    """The same in n columns, at most a vector."""
    s = vsplat(0.0)
    for i in range(c, c + rows * width, width):
        s = s + vload_n(x, i, n)
    vstore_n(sums, c, s, n)


@job(x=PTR, rows=INT, width=INT, height=INT, sums=PTR, pitch=INT)
def _sum_blocks(first, last, thread, a):
    """Sum blocks of rows: for each thread `width` doubles, and room behind them for the floats of one block."""
    sums = a.sums + thread * a.pitch
    of_block = sums + 8 * a.width
    for c in range(a.width):
        dstore(sums, c, 0.0)
    for block in range(first, last):
        rows = min(a.height, a.rows - block * a.height)
        x = a.x + 4 * block * a.height * a.width
        for c in range(0, a.width - QUAD + 1, QUAD):
            _sum_four(x, a.width, rows, c, of_block)
        for c in range(a.width // QUAD * QUAD, a.width, L):
            _sum_few(x, a.width, rows, c, a.width - c, of_block)
        for c in range(a.width):
            dstore(sums, c, dload(sums, c) + fload(of_block, c))


@job(x=PTR, sums=PTR, pitch=INT, parts=INT, width=INT, channels=INT, done=INT, size=INT, y=PTR)
def _total(first, last, thread, a):
    """Channels first to last: all threads' sums, all joined pixels, and x from `done` on, behind the whole rows."""
    for channel in range(first, last):
        total = 0.0
        for part in range(a.parts):
            for c in range(channel, a.width, a.channels):
                total += dload(a.sums + part * a.pitch, c)
        for i in range(a.done + channel, a.size, a.channels):
            total += fload(a.x, i)
        fstore(a.y, channel, total)


@functools.lru_cache(512)
def _plan(size: int, columns: int, threads: int) -> tuple[Callable[..., None], Callable[..., None], int]:
    """Two calls, and the floats of their workspace."""
    rows = fold(size, columns)
    pitch = 12 * rows.width
    add = _sum_blocks.plan(rows.whole_blocks, threads=rows.parts, rows=rows.whole, width=rows.width,
                           height=rows.height, pitch=pitch)
    finish = _total.plan(columns, threads=share(rows.parts * rows.width), pitch=pitch, parts=rows.parts,
                         width=rows.width, channels=columns, done=rows.whole * rows.width, size=size)
    return add, finish, pitch * rows.parts // 4


def column_sums(x: np.ndarray, columns: int) -> np.ndarray:
    """The sums (columns,) of the matrix that lies row by row in x's memory, whatever x's shape. Reads x once."""
    add, finish, floats = _plan(x.size, columns, get_num_threads())
    sums, y = workspace("sums", floats), empty((columns,))
    add(x=x, sums=sums)
    finish(x=x, sums=sums, y=y)
    return y
