"""Where a convolution's GEMM on tensor cores finds its gathered side: pixels, taps, and the way along the reduction.

A row of the product is a pixel (n, i, j); its tap (u, v) reads the pixel `_window.py` tells, if that lies in the image.
Its row and its column decide that apart, so 32 bits hold it for a window of up to 15 × 15 taps:

    bit 30 … 16: column v lies inside        bit 14 … 0: row u lies inside        bits 31 and 15: never

and a tap is two shifts away. A thread holds for each row that it loads this mask and the number of the pixel under tap
(0, 0), whether that exists or not. Its place (u, v, c) in the reduction moves on by the same number of channels every
step.
"""

from __future__ import annotations

import numpy as np

from ._numba import device
from ._window import Axis
from .ptx import quotient, shift_right

LARGEST = 15  # taps of an axis
int32 = np.int32

GEOMETRY = ("pixels", "channels", "group_channels", "source_h", "source_w", "grid_h", "grid_w", "taps_h", "taps_w",
            "step_h", "step_w", "start_h", "start_w", "move_h", "move_w")  # fmt: skip


def geometry(x_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> tuple[int, ...]:
    """The values of GEOMETRY for images of shape (N, C, H, W) under a window."""
    (images, channels, *source), (h, w) = x_shape, window
    # Where no tap reaches the pixels there is one of no row: the sum is empty.
    taps = (h.taps, w.taps) if h.taps and w.taps else (0, 1)
    return (images * h.count * w.count, channels, channels // groups, *source, h.count, w.count, *taps, h.step, w.step,
            h.start, w.start, h.move, w.move)


def fits(window: tuple[Axis, Axis]) -> bool:
    """Whether masks of 32 bits hold this window."""
    return max(axis.taps for axis in window) <= LARGEST


@device
def coordinates(row, grid_h, grid_w):
    """The (n, i, j) of a row of the product."""
    line = quotient(row, grid_w)
    image = quotient(line, grid_h)
    return image, int32(line - image * grid_h), int32(row - line * grid_w)


@device
def reach(h, w, taps_h, taps_w, move_h, move_w, source_h, source_w):
    """The mask of the taps that lie in the image when tap (0, 0) meets pixel (h, w)."""
    mask = int32(0)
    for u in range(taps_h):
        if h >= 0 and h < source_h:
            mask = int32(mask | 1 << u)
        h = int32(h + move_h)
    for v in range(taps_w):
        if w >= 0 and w < source_w:
            mask = int32(mask | 1 << (v + 16))
        w = int32(w + move_w)
    return mask


@device
def hits(mask, u, v):
    """1 if tap (u, v) lies in the image, else 0; also 0 for u beyond the window."""
    u = u if u < LARGEST else LARGEST
    return int32(shift_right(mask, u) & shift_right(mask, v + 16) & 1)


@device
def place(depth, taps_w, group_channels):
    """The (u, v, c) of a place in the reduction."""
    tap = quotient(depth, group_channels)
    u = quotient(tap, taps_w)
    return u, int32(tap - u * taps_w), int32(depth - tap * group_channels)


@device
def advance(u, v, c, by_u, by_v, by_c, taps_w, group_channels):
    """The place (by_u, by_v, by_c), itself a place, further along the reduction."""
    u, v, c = int32(u + by_u), int32(v + by_v), int32(c + by_c)
    if c >= group_channels:
        c = int32(c - group_channels)
        v = int32(v + 1)
    if v >= taps_w:
        v = int32(v - taps_w)
        u = int32(u + 1)
    return u, v, c
