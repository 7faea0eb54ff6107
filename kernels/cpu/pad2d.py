"""Padding of images with their own pixels, float32, in channels-last memory.

The formulas are those of `kernels/reference/pad2d.py`. Which pixel is a copy of which is tabulated once per shape and
axis. Both functions write their result once, a row a time, and read the other once: 8 bytes an element of y, at copy
bandwidth. The pixels between the left and the right padding of a row are one run of W C floats.
"""

from __future__ import annotations

import functools

import numpy as np

from ..shapes import padded_sources
from ._compile import inner
from ._driver import INT, PTR, job, share
from ._layout import channels_last, deliver, empty_image
from .simd import L, iload, vload, vload_n, vstore, vstore_n

Padding = tuple[tuple[int, int], tuple[int, int]]


@functools.lru_cache(128)
def _sources(size: int, before: int, after: int, mode: str) -> np.ndarray:
    return np.array(padded_sources(size, before, after, mode), np.int32)


@functools.lru_cache(128)
def _copies(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Where the copies of position 0, 1, ... begin in this table and where the last end; then the copies."""
    sources = _sources(size, before, after, mode)
    starts = size + 1 + np.searchsorted(np.sort(sources), np.arange(size + 1))
    return np.concatenate([starts, np.argsort(sources, kind="stable")]).astype(np.int32)


@inner
def _copy(x, y, n):
    """y[:n] = x[:n]."""
    for i in range(0, n - L + 1, L):
        vstore(y, i, vload(x, i))
    if n % L:
        i = n - n % L
        vstore_n(y, i, vload_n(x, i, n - i), n - i)


@inner
def _add(x, y, n):
    """y[:n] += x[:n]."""
    for i in range(0, n - L + 1, L):
        vstore(y, i, vload(y, i) + vload(x, i))
    if n % L:
        i = n - n % L
        vstore_n(y, i, vload_n(y, i, n - i) + vload_n(x, i, n - i), n - i)


@job(x=PTR, y=PTR, rows=PTR, columns=PTR, channels=INT, h=INT, w=INT, oh=INT, ow=INT, left=INT)
def _pad_rows(first, last, thread, a):
    """A job is a row of y."""
    for j in range(first, last):
        x = a.x + 4 * (j // a.oh * a.h + iload(a.rows, j % a.oh)) * a.w * a.channels
        y = a.y + 4 * j * a.ow * a.channels
        _copy(x, y + 4 * a.left * a.channels, a.w * a.channels)
        for column in range(a.ow - a.w):
            to = column if column < a.left else column + a.w
            _copy(x + 4 * iload(a.columns, to) * a.channels, y + 4 * to * a.channels, a.channels)


@job(dy=PTR, dx=PTR, rows=PTR, columns=PTR, channels=INT, h=INT, w=INT, oh=INT, ow=INT, left=INT)
def _pad_backward_rows(first, last, thread, a):
    """A job is a row of dx, which begins as the row of dy that is its own, or the first of its copies."""
    for j in range(first, last):
        image, row = j // a.h, j % a.h
        dx = a.dx + 4 * j * a.w * a.channels
        begin, end = iload(a.rows, row), iload(a.rows, row + 1)
        for copy in range(begin, end):
            dy = a.dy + 4 * (image * a.oh + iload(a.rows, copy)) * a.ow * a.channels
            inside = dy + 4 * a.left * a.channels
            if copy == begin:
                _copy(inside, dx, a.w * a.channels)
            else:
                _add(inside, dx, a.w * a.channels)
            for column in range(a.ow - a.w):
                of = column if column < a.left else column + a.w
                _add(dy + 4 * of * a.channels, dx + 4 * iload(a.columns, of) * a.channels, a.channels)


def pad2d(x: np.ndarray, *, padding: Padding, mode: str, out: np.ndarray | None = None) -> np.ndarray:
    """y (N, C, top + H + bottom, left + W + right) of x (N, C, H, W); mode "reflect", "replicate" or "circular"."""
    x = channels_last(x)
    n, c, h, w = x.shape
    (top, bottom), (left, right) = padding
    y = empty_image(n, c, h + top + bottom, w + left + right)
    _, _, oh, ow = y.shape
    _pad_rows(n * oh, threads=share(y.size), x=x, y=y, rows=_sources(h, top, bottom, mode),
              columns=_sources(w, left, right, mode), channels=c, h=h, w=w, oh=oh, ow=ow, left=left)
    return deliver(y, out)


def pad2d_backward(
    dy: np.ndarray,
    x_shape: tuple[int, int, int, int],
    *,
    padding: Padding,
    mode: str,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dx (N, C, H, W) of dy: every pixel gets the sum of the gradients of its copies."""
    dy = channels_last(dy)
    n, c, h, w = x_shape
    _, _, oh, ow = dy.shape
    (top, bottom), (left, right) = padding
    dx = empty_image(n, c, h, w)
    _pad_backward_rows(n * h, threads=share(dy.size), dy=dy, dx=dx, rows=_copies(h, top, bottom, mode),
                       columns=_sources(w, left, right, mode), channels=c, h=h, w=w, oh=oh, ow=ow, left=left)
    return deliver(dx, out)
