"""What the strides of an array say of its memory: pure arithmetic, shared by the backends.

Image arrays have the logical shape (N, C, H, W) over memory in the order N, H, W, C. Axes of size 1 have no say in what
the layout is: NumPy gives them arbitrary strides. Arrays of few shapes come again and again, so answers are remembered.
"""

from __future__ import annotations

import functools


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...], pitch: int, order: tuple[int, ...]) -> bool:
    """Whether the axes, taken in this order (outermost first), lie without gaps; the innermost has this pitch."""
    if 0 in shape:
        return True
    for axis in reversed(order):
        if shape[axis] != 1:
            if strides[axis] != pitch:
                return False
            pitch *= shape[axis]
    return True


@functools.cache
def channels_last_order(ndim: int) -> tuple[int, ...]:
    """The axes of (N, C, ...) in the order of channels-last memory: (N, ..., C)."""
    return (0, *range(2, ndim), 1) if ndim > 2 else tuple(range(ndim))


@functools.lru_cache(4096)
def is_channels_last(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Whether an array lies in memory as N, ..., C without gaps."""
    return is_dense(shape, strides, itemsize, channels_last_order(len(shape)))


@functools.lru_cache(4096)
def memory_order(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    """The order of axes (outermost first) in which an array lies in memory without gaps, or None if there are gaps."""
    axes = tuple(range(len(shape)))
    if is_dense(shape, strides, itemsize, axes):
        return axes
    order = tuple(sorted(axes, key=lambda a: (-strides[a], -shape[a])))
    return order if is_dense(shape, strides, itemsize, order) else None
