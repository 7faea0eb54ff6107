"""How arrays of any strides enter a kernel, and how outputs are laid out.

Kernels take dense memory that begins at a multiple of 16 bytes, images channels-last; what comes otherwise is copied by
CuPy. Logical shapes are (N, C, H, W); `kernels/strides.py` tells what the strides of an array mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import strides
from ._memory import address, empty

Array = Any  # cupy.ndarray; numpy.ndarray in the simulator


def _aligned(x: Array) -> bool:
    return x.size == 0 or address(x) % 16 == 0


def ordered(shape: tuple[int, ...], order: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array whose axes lie in memory in this order, outermost first."""
    return empty(tuple(shape[axis] for axis in order), dtype).transpose(np.argsort(order).tolist())


def empty_image(n: int, c: int, h: int, w: int, dtype: Any = np.float32) -> Array:
    """An uninitialised (N, C, H, W) array over channels-last memory."""
    return empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def empty_like_image(x: Array, dtype: Any = None) -> Array:
    """An uninitialised array of x's shape (N, C, ...) over channels-last memory."""
    return ordered(x.shape, strides.channels_last_order(x.ndim), dtype or x.dtype)


def channels_last(x: Array) -> Array:
    """x itself if its memory is channels-last, else a copy that is."""
    if strides.is_channels_last(x.shape, x.strides, x.itemsize) and _aligned(x):
        return x
    return copied(x, strides.channels_last_order(x.ndim))


def contiguous(x: Array) -> Array:
    """x itself if it is C-contiguous, else a copy that is."""
    if x.flags.c_contiguous and _aligned(x):
        return x
    return copied(x, tuple(range(x.ndim)))


def memory_order(x: Array) -> tuple[int, ...] | None:
    """The order of axes (outermost first) in which x lies in memory without gaps, or None if there are gaps."""
    return strides.memory_order(x.shape, x.strides, x.itemsize)


def dense(x: Array) -> Array:
    """x itself if it has no gaps in memory, in whatever order of axes, else a channels-last copy."""
    return x if memory_order(x) is not None and _aligned(x) else copied(x, strides.channels_last_order(x.ndim))


def empty_like(x: Array, dtype: Any = None) -> Array:
    """An uninitialised array with the shape and memory order of a dense x."""
    return ordered(x.shape, memory_order(x), dtype or x.dtype)


def like(x: Array, model: Array) -> Array:
    """x itself if it lies in memory as the dense `model` of its shape does, else a copy that does."""
    order = memory_order(model)
    if strides.is_dense(x.shape, x.strides, x.itemsize, order) and _aligned(x):
        return x
    return copied(x, order)


def vector(x: Array | None) -> Array | None:
    """A vector of a channel each as contiguous float32, itself where it is that; None stays."""
    return None if x is None else contiguous(x if x.dtype == np.float32 else x.astype(np.float32))


def copied(x: Array, order: tuple[int, ...]) -> Array:
    """A copy of x whose axes lie in memory in this order, outermost first."""
    copy = ordered(x.shape, order, x.dtype)
    copy[...] = x
    return copy


def deliver(y: Array, out: Array | None) -> Array:
    """y, or `out` with y's values in it."""
    if out is None or out is y:
        return y
    out[...] = y
    return out


def blocks(work: int, each: int) -> int:
    """Blocks for `work` items of which a block takes `each`."""
    return math.ceil(work / each)
