"""Parametric ReLU; formulas and source in `kernels/reference/prelu.py`.

At copy bandwidth a forward takes 8 bytes an element of float32, a backward 12; the gradient of the slopes costs no
further pass. One slope for all is the business of `_learned.py`. With slopes for each channel, in channels-last memory,
a thread keeps to a vector of channels and has their slopes, and their sums, in registers:

    channels of a pixel    | 2^shift vectors | 2^shift vectors | …        a block takes 2^shift of them,
    pixels                 | thread 0 1 2 …  |                            its threads a strip of pixels in turns
                           | thread … 255    |

Each strip leaves its sums in a workspace, which a second kernel adds up in order.
"""

from __future__ import annotations

import numpy as np

from . import _learned
from ._layout import Array, blocks, channels_last, deliver, empty_like_image, vector
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, device, types
from ._pixels import EACH, QUAD, THREADS, WIDEST, both_kinds, pieces
from .launch import F32, INT, STORAGE, kernel
from .ptx import store

_STRIPS = 1024  # at most: more blocks would wait anyway
_TURNS = 4  # pixels of a thread, at least


@_learned.learned
def _shared(x, slope):
    return x if x > ZERO else slope * x


@_learned.learned_backward
def _shared_backward(dy, x, slope):
    return (dy, ZERO) if x > ZERO else (slope * dy, dy * x)


@device
def _slopes(slopes, weight, c, left, width):
    """The slopes of a thread's channels; of those that are not there, 0."""
    for lane in range(width):
        slopes[lane] = weight[c + lane] if lane < left else ZERO


@both_kinds(x=STORAGE, y=STORAGE, weight=F32, pixels=INT, channels=INT, shift=INT, strip=INT)
def _prelu(vector):
    size, read, write = pieces(vector)

    def prelu(x, y, weight, pixels, channels, shift, strip):
        slopes = cuda.local.array(WIDEST, types.float32)
        value = cuda.local.array((EACH, WIDEST), types.float32)
        width, thread = size(x), np.int32(cuda.threadIdx.x)
        c = np.int32(((cuda.blockIdx.y << shift) + (thread & ((1 << shift) - 1))) * width)
        left = np.int32(channels - c)
        _slopes(slopes, weight, c, left, width)
        pixel = np.int32(cuda.blockIdx.x * strip + (thread >> shift))
        end = min(np.int32((cuda.blockIdx.x + 1) * strip), pixels)
        turn = np.int32(THREADS >> shift)
        while pixel < end:  # a range would divide for the number of its steps
            at = np.int64(pixel) * channels + c
            for k in range(EACH):
                read(value[k], x, at + np.int64(k * turn) * channels, left if pixel + k * turn < end else np.int32(0))
            for k in range(EACH):
                for lane in range(width):
                    value[k, lane] = value[k, lane] if value[k, lane] > ZERO else slopes[lane] * value[k, lane]
                rest = left if pixel + k * turn < end else np.int32(0)
                write(y, at + np.int64(k * turn) * channels, value[k], rest)
            pixel = np.int32(pixel + EACH * turn)

    return prelu


@both_kinds(dy=STORAGE, x=STORAGE, dx=STORAGE, weight=F32, sums=F32, pixels=INT, channels=INT, shift=INT, strip=INT)
def _prelu_backward(vector):
    size, read, write = pieces(vector)

    def prelu_backward(dy, x, dx, weight, sums, pixels, channels, shift, strip):
        shared = cuda.shared.array((WIDEST, THREADS), types.float32)
        slopes = cuda.local.array(WIDEST, types.float32)
        value = cuda.local.array(WIDEST, types.float32)
        gradient = cuda.local.array(WIDEST, types.float32)
        total = cuda.local.array(WIDEST, types.float32)
        width, thread = size(x), np.int32(cuda.threadIdx.x)
        across = np.int32(1 << shift)
        c = np.int32(((cuda.blockIdx.y << shift) + (thread & (across - 1))) * width)
        left = np.int32(channels - c)
        _slopes(slopes, weight, c, left, width)
        for lane in range(width):
            total[lane] = ZERO
        pixel = np.int32(cuda.blockIdx.x * strip + (thread >> shift))
        end = min(np.int32((cuda.blockIdx.x + 1) * strip), pixels)
        while pixel < end:
            at = np.int64(pixel) * channels + c
            read(value, x, at, left)
            read(gradient, dy, at, left)
            for lane in range(width):
                if not value[lane] > ZERO:
                    total[lane] += gradient[lane] * value[lane]
                    gradient[lane] *= slopes[lane]
            write(dx, at, gradient, left)
            pixel = np.int32(pixel + (THREADS >> shift))
        for lane in range(width):
            shared[lane, thread] = total[lane]
        cuda.syncthreads()
        half = THREADS // 2
        while half >= across:
            if thread < half:
                for lane in range(width):
                    shared[lane, thread] += shared[lane, thread + half]
            cuda.syncthreads()
            half >>= 1
        if thread < across:
            for lane in range(width):
                if lane < left:
                    sums[cuda.blockIdx.x * channels + c + lane] = shared[lane, thread]

    return prelu_backward


_COLUMNS = 8  # of a block that adds strips: 32 bytes of memory in a row


@kernel(block=THREADS, sums=F32, result=STORAGE, strips=INT, channels=INT)
def _add_strips(sums, result, strips, channels):
    """The sums over strips, _COLUMNS channels a block."""
    shared = cuda.shared.array(THREADS, types.float32)
    thread = np.int32(cuda.threadIdx.x)
    c = np.int32(cuda.blockIdx.x * _COLUMNS + thread % _COLUMNS)
    total = ZERO
    if c < channels:
        for strip in range(thread // _COLUMNS, strips, THREADS // _COLUMNS):
            total += sums[strip * channels + c]
    shared[thread] = total
    cuda.syncthreads()
    half = THREADS // 2
    while half >= _COLUMNS:
        if thread < half:
            shared[thread] += shared[thread + half]
        cuda.syncthreads()
        half >>= 1
    if thread < _COLUMNS and c < channels:
        store(result, c, shared[thread])


def prelu(x: Array, weight: Array, *, out: Array | None = None) -> Array:
    """x where x > 0, else weight * x. x of any shape with a weight (1,), or (N, C, ...) with one (C,)."""
    if weight.size == 1:
        return _learned.forward(_shared, x, weight, out)
    x = channels_last(x)
    y = empty_like_image(x)
    chosen, grid, shape = _strips(_prelu, x, 0)
    chosen(grid, x, y, vector(weight), *shape)
    return deliver(y, out)


def prelu_backward(
    dy: Array, x: Array, weight: Array, *, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """dx = dy where x > 0, else weight * dy; dweight = Σ dy x over the elements x <= 0 that share a slope."""
    if weight.size == 1:
        return _learned.backward(_shared_backward, dy, x, weight, out)
    dy, x = channels_last(dy), channels_last(x)
    dx, dweight = empty_like_image(x), empty(weight.shape, weight.dtype)
    chosen, grid, shape = _strips(_prelu_backward, x, _STRIPS)
    sums = empty((grid[0], weight.size))
    chosen(grid, dy, x, dx, vector(weight), sums, *shape)
    _add_strips(blocks(weight.size, _COLUMNS), sums, dweight, grid[0], weight.size)
    dx_out, dweight_out = out or (None, None)
    return deliver(dx, dx_out), deliver(dweight, dweight_out)


def _strips(kinds, x, most):
    """The kernel of the right kind, its grid, at most so many strips long if any, and `pixels` to `strip`."""
    channels = x.shape[1]
    pixels, wide = x.size // max(1, channels), 16 // x.itemsize
    width = QUAD if channels % wide else wide
    vectors = blocks(channels, width)
    shift = min(5, (vectors - 1).bit_length())
    groups = blocks(vectors, 1 << shift)
    strip = _TURNS * (THREADS >> shift)
    if most:
        strip = max(strip, blocks(pixels, max(1, most // groups)))
    return kinds[channels % wide == 0], (blocks(pixels, strip), groups), (pixels, channels, shift, strip)
