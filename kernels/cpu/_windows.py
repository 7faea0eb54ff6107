"""Which windows of a pool hold which positions, along one axis.

Window p holds position h, as its tap r: a relation, tabulated once per shape, by window for the forward and by position
for the backward, so that padding, dilation, ceil_mode and adaptive cells cost the kernels nothing.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

_INT64 = np.dtype(np.int64)


class Axis(NamedTuple):
    """The relation of windows and positions along one axis, as two tables.

    `by_window` begins with where the entries of window 0, 1, ... start in it, and where the last end. An entry is the
    position of a pixel that the window holds, and a label. `by_position` lists the windows of each position likewise.
    """

    by_window: np.ndarray
    by_position: np.ndarray


def _relate(count: int, size: int, window: np.ndarray, position: np.ndarray, label: np.ndarray) -> Axis:
    return Axis(_table(count, window, position, label), _table(size, position, window, label))


def _table(n: int, key: np.ndarray, value: np.ndarray, label: np.ndarray) -> np.ndarray:
    order = np.argsort(key, kind="stable")
    starts = n + 1 + 2 * np.searchsorted(key[order], np.arange(n + 1))
    entries = np.stack([value, label], axis=1)[order]
    return np.concatenate([starts, entries.ravel()]).astype(_INT64)


@functools.lru_cache(maxsize=128)
def taps(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> Axis:
    """Sliding windows; an entry's label is the tap that meets the position."""
    grid = np.arange(count)[:, None] * stride - padding + np.arange(kernel) * dilation
    window, tap = np.nonzero((grid >= 0) & (grid < size))
    return _relate(count, size, window, grid[window, tap], tap)


@functools.lru_cache(maxsize=128)
def means(
    size: int, count: int, kernel: int, stride: int, padding: int, include_pad: bool, divisor: int | None
) -> Axis:
    """Sliding windows; an entry's label is what the window's sum is divided by along this axis."""
    start = np.arange(count) * stride - padding
    stop = np.minimum(start + kernel, size + padding)
    first, last = np.maximum(start, 0), np.minimum(stop, size)
    length = stop - start if include_pad else last - first
    return _spans(size, first, last, length if divisor is None else np.full(count, divisor))


@functools.lru_cache(maxsize=128)
def cells(size: int, count: int) -> Axis:
    """The cells of adaptive pooling; an entry's label is the cell's length."""
    cell = np.arange(count)
    start, stop = cell * size // count, -(-(cell + 1) * size // count)
    return _spans(size, start, stop, stop - start)


@functools.lru_cache(maxsize=128)
def places(size: int, count: int) -> Axis:
    """The cells of adaptive pooling; an entry's label is the position itself."""
    grid = cells(size, count).by_window[count + 1 :: 2]
    window = np.repeat(np.arange(count), np.diff(cells(size, count).by_window[: count + 1]) // 2)
    return _relate(count, size, window, grid, grid)


def _spans(size: int, start: np.ndarray, stop: np.ndarray, label: np.ndarray) -> Axis:
    grid = np.arange(size)
    window, position = np.nonzero((start[:, None] <= grid) & (grid < stop[:, None]))
    return _relate(len(start), size, window, position, label[window])
