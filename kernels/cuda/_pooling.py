"""Which pixels of an image a pooling window has, and which windows a pixel is in, computed where a thread needs it.

Windows slide, or they are the cells of an adaptive grid, which stand here as windows of kernel size 0. A kernel learns
of both axes by the arguments `AXES`, which `sliding_axes` and `cell_axes` give: of each axis, `size` pixels have
`count` windows of this kernel, stride, padding and dilation; `by` is a reciprocal for the division in question.
"""

from __future__ import annotations

import numpy as np

from ._numba import device
from ._pixels import quotient
from .launch import INT, LONG

Pair = tuple[int, int]
_NONE = np.int32(0)

AXES = {f"{name}_{axis}": LONG if name == "by" else INT for axis in "hw"
         for name in ("size", "count", "kernel", "stride", "padding", "dilation", "by")}  # fmt: skip


@device
def pixels_in(p, size, count, kernel, stride, padding, dilation, by):
    """Window p: its first pixel inside the image, that pixel's number, the number after the last pixel's.

    by = reciprocal_of(dilation), of an adaptive cell reciprocal_of(count).
    """
    if kernel == 0:
        first = quotient(p * size, by)
        return first, first, quotient((p + 1) * size + count - 1, by)
    start = np.int32(p * stride - padding)
    if dilation == 1:
        return max(start, _NONE), max(np.int32(-start), _NONE), min(kernel, np.int32(size - start))
    skipped = quotient(max(np.int32(dilation - 1 - start), _NONE), by)
    end = min(kernel, quotient(max(np.int32(size - start + dilation - 1), _NONE), by))
    return np.int32(start + skipped * dilation), skipped, end


@device
def windows_over(i, size, count, kernel, stride, padding, dilation, by):
    """The windows that pixel i may be in: the first, and the one after the last.

    by = reciprocal_of(stride), of adaptive cells reciprocal_of(size).
    """
    if kernel == 0:
        return quotient(i * count, by), quotient((i + 1) * count + size - 1, by)
    place = np.int32(i + padding)
    first = quotient(max(np.int32(place - (kernel - 1) * dilation + stride - 1), _NONE), by)
    return first, min(count, np.int32(quotient(place, by) + 1))


@device
def number_in(i, p, kernel, stride, padding, dilation):
    """The number of pixel i in window p, -1 if a dilated window steps over it; in an adaptive cell i itself."""
    if kernel == 0:
        return i
    place = np.int32(i + padding - p * stride)
    if dilation == 1:
        return place
    number = np.int32(np.uint32(place) // np.uint32(dilation))
    return number if number * dilation == place else np.int32(-1)


@device
def length_of(p, size, kernel, stride, padding, include_pad):
    """How many pixels of the image, or of the padded one, the sliding window p covers."""
    start = np.int32(p * stride - padding)
    if include_pad:
        return np.int32(min(np.int32(start + kernel), np.int32(size + padding)) - start)
    return np.int32(min(np.int32(start + kernel), size) - max(start, _NONE))


def sliding_axes(*of_both: Pair) -> list[int]:
    """The arguments `AXES`: sizes, counts, kernels and so on of the two axes, one axis after the other."""
    return [value for axis in zip(*of_both) for value in axis]


def cell_axes(sizes: Pair, counts: Pair, reciprocals: list[int]) -> list[int]:
    """The same of adaptive cells."""
    return sliding_axes(sizes, counts, (0, 0), (1, 1), (0, 0), (1, 1), reciprocals)
