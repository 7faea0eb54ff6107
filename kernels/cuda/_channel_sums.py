"""Sums over pixels, one for each channel, of channels-last memory: Σ_m dy[m, k].

A block takes a strip of pixels and 32 channels: a warp reads 32 neighbours of one pixel, every eighth pixel. The
strips' sums go to a workspace, which a second kernel adds up in the same way, a thread with four reads under way. They
are float32, whatever the array is, and stay so. Reads the array once: 4 bytes an element.
"""

from __future__ import annotations

from ._layout import Array, blocks
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from .launch import F32, INT, STORAGE, kernel
from .ptx import load

_WIDTH, _HEIGHT, _PIXELS, _AT_ONCE = 32, 8, 512, 4
_THREADS = _WIDTH * _HEIGHT


@kernel(block=_THREADS, x=STORAGE, partial=F32, pixels=INT, channels=INT)
def _strip_sums(x, partial, pixels, channels):
    shared = cuda.shared.array(_THREADS, types.float32)
    column, row = cuda.threadIdx.x % _WIDTH, cuda.threadIdx.x // _WIDTH
    c = cuda.blockIdx.y * _WIDTH + column
    first = cuda.blockIdx.x * _PIXELS
    total = ZERO
    if c < channels:
        for pixel in range(first + row, min(first + _PIXELS, pixels), _HEIGHT):
            total += load(x, pixel * channels + c)
    shared[cuda.threadIdx.x] = total
    cuda.syncthreads()
    if row == 0 and c < channels:
        for other in range(1, _HEIGHT):
            total += shared[other * _WIDTH + column]
        partial[cuda.blockIdx.x * channels + c] = total


@kernel(block=_THREADS, partial=F32, sums=F32, strips=INT, channels=INT)
def _add_strips(partial, sums, strips, channels):
    shared = cuda.shared.array(_THREADS, types.float32)
    a = cuda.local.array(_AT_ONCE, types.float32)
    column, row = cuda.threadIdx.x % _WIDTH, cuda.threadIdx.x // _WIDTH
    c = cuda.blockIdx.x * _WIDTH + column
    total = ZERO
    if c < channels:
        for first in range(row, strips, _HEIGHT * _AT_ONCE):
            for u in range(_AT_ONCE):
                strip = first + u * _HEIGHT
                a[u] = partial[strip * channels + c] if strip < strips else ZERO
            for u in range(_AT_ONCE):
                total += a[u]
    shared[cuda.threadIdx.x] = total
    cuda.syncthreads()
    if row == 0 and c < channels:
        for other in range(1, _HEIGHT):
            total += shared[other * _WIDTH + column]
        sums[c] = total


def add_strips(partial: Array, shape: tuple[int, ...]) -> Array:
    """The sums of strips (strips, ...), always in the same order, as a float32 array of this shape."""
    sums = empty(shape)
    _add_strips(blocks(sums.size, _WIDTH), partial, sums, len(partial), sums.size)
    return sums


def channel_sums(x: Array) -> Array:
    """The vector of sums of x, (pixels, channels) in memory whatever its shape says, channels on axis 1."""
    channels = x.shape[1]
    pixels = x.size // channels if channels else 0
    strips = blocks(pixels, _PIXELS)
    partial = empty((strips, channels))
    _strip_sums((strips, blocks(channels, _WIDTH)), x, partial, pixels, channels)
    return add_strips(partial, (channels,))
