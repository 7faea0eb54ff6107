"""Channels-last memory: how arrays of any strides enter a kernel, and how outputs are laid out.

Image arrays have the logical shape (N, C, H, W) over memory in the order N, H, W, C; `kernels/strides.py` tells what
the strides of an array mean.
"""

from __future__ import annotations

import numpy as np

from .. import strides
from ._memory import empty

_FLOAT = np.dtype(np.float32)


def empty_image(n: int, c: int, h: int, w: int, dtype: np.dtype = _FLOAT) -> np.ndarray:
    """An uninitialised (N, C, H, W) array over channels-last memory."""
    return empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def is_channels_last(x: np.ndarray) -> bool:
    """Whether x (N, C, ...) lies in memory as N, ..., C without gaps."""
    return strides.is_channels_last(x.shape, x.strides, x.itemsize)


def channels_last(x: np.ndarray) -> np.ndarray:
    """x itself if its memory is channels-last, else a copy that is."""
    if is_channels_last(x):
        return x
    copy = empty_like_image(x)
    copy[...] = x
    return copy


def empty_like_image(x: np.ndarray) -> np.ndarray:
    """An uninitialised array of x's shape over channels-last memory (C-contiguous for two axes or fewer)."""
    if is_channels_last(x):
        return empty(x.shape, x.dtype, x.strides)
    order = strides.channels_last_order(x.ndim)
    return empty(tuple(x.shape[a] for a in order), x.dtype).transpose(np.argsort(order))


def contiguous(x: np.ndarray) -> np.ndarray:
    """x itself if it is C-contiguous, else a copy that is."""
    if x.flags.c_contiguous:
        return x
    copy = empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def memory_order(x: np.ndarray) -> tuple[int, ...] | None:
    """The order of axes (outermost first) in which x lies in memory without gaps, or None if there are gaps."""
    return strides.memory_order(x.shape, x.strides, x.itemsize)


def dense(x: np.ndarray) -> np.ndarray:
    """x itself if it has no gaps in memory, in whatever order of axes, else a channels-last copy."""
    return x if memory_order(x) is not None else channels_last(x)


def empty_like(x: np.ndarray) -> np.ndarray:
    """An uninitialised array with the shape and memory order of a dense x."""
    return empty(x.shape, x.dtype, x.strides)


def like(x: np.ndarray, model: np.ndarray) -> np.ndarray:
    """x itself if it lies in memory as the dense `model` of its shape does, else a copy that does."""
    if x.strides == model.strides or strides.is_dense(x.shape, x.strides, x.itemsize, memory_order(model)):
        return x
    copy = empty_like(model)
    copy[...] = x
    return copy


def deliver(y: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """y, or `out` with y's values in it."""
    if out is None or out is y:
        return y
    out[...] = y
    return out
