"""Maxout over channels: the largest of several pieces, and where it was.

In channels-last memory x holds, for each pixel and group, one piece of units after the other:

    x    | piece 0: u u u u | piece 1: u u u u | …        y    | u u u u |

so a pixel of a group is a place of all units in y and of pieces · units in x. To the kernels the units are the channels
of such a place, of which a thread takes two vectors. At copy bandwidth both ways take the bytes of x, of y and of the
indices.

The formulas are those of `kernels/reference/maxout.py`.
"""

from __future__ import annotations

import numpy as np

from .. import strides
from ._indices import as_words, contend, index_dtype, is_wide, pieces_of_indices
from ._layout import Array, channels_last, deliver, ordered
from ._math import INFINITY, ZERO
from ._numba import cuda, types
from ._pixels import EACH, THREADS, WIDEST, Plan, pieces, pixel_kernels, pixel_of
from .launch import INT, STORAGE, U8, U32


@pixel_kernels(x=STORAGE, y=STORAGE, small=U8, words=U32, wide=INT, count=INT)
def _maxout(vector):
    size, read, write = pieces(vector)
    put, _ = pieces_of_indices(vector)

    def largest(
        threads, channels, share, by_share, width, by_width, height, by_height, x, y, small, words, wide, count
    ):  # fmt: skip
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((EACH, WIDEST), types.float32)
        best = cuda.local.array((EACH, WIDEST), types.float32)
        winner = cuda.local.array((EACH, WIDEST), types.int32)
        _, _, place, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        lanes = size(x)
        u, step = np.int32(part * lanes), np.int32(share * lanes)
        for k in range(EACH):
            for lane in range(lanes):
                best[k, lane], winner[k, lane] = -INFINITY, np.int32(0)
        at = np.int64(place) * count * channels + u
        for piece in range(count):
            for k in range(EACH):
                read(value[k], x, at + k * step, channels - u - k * step)
            for k in range(EACH):
                contend(best[k], winner[k], value[k], np.int32(piece), lanes)
            at += channels
        to = np.int64(place) * channels + u
        for k in range(EACH):
            left = channels - u - k * step
            write(y, to + k * step, best[k], left)
            if left > 0:
                put(small, words, wide, to + k * step, winner[k], left, lanes)

    return largest


@pixel_kernels(dy=STORAGE, dx=STORAGE, small=U8, words=U32, wide=INT, count=INT)
def _maxout_backward(vector):
    size, read, write = pieces(vector)
    _, get = pieces_of_indices(vector)

    def winnings(
        threads, channels, share, by_share, width, by_width, height, by_height, dy, dx, small, words, wide, count
    ):  # fmt: skip
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        gradient = cuda.local.array((EACH, WIDEST), types.float32)
        result = cuda.local.array((EACH, WIDEST), types.float32)
        winner = cuda.local.array((EACH, WIDEST), types.int32)
        _, _, place, part = pixel_of(thread, share, by_share, width, by_width, height, by_height)
        lanes = size(dx)
        u, step = np.int32(part * lanes), np.int32(share * lanes)
        at = np.int64(place) * channels + u
        for k in range(EACH):
            left = channels - u - k * step
            read(gradient[k], dy, at + k * step, left)
            if left > 0:
                get(small, words, wide, at + k * step, winner[k], left, lanes)
        to = np.int64(place) * count * channels + u
        for piece in range(count):
            for k in range(EACH):
                for lane in range(lanes):
                    result[k, lane] = gradient[k, lane] if winner[k, lane] == piece else ZERO
                write(dx, to + k * step, result[k], channels - u - k * step)
            to += channels

    return winnings


def maxout(
    x: Array, *, pieces: int, groups: int = 1, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """The largest of the pieces: x (N, pieces * C, ...) to y (N, C, ...) and the indices of the pieces, of y's shape.

    Piece j of unit c is channel j * C + c, within each of the groups. The first maximum wins, the first NaN over
    everything. indices are uint8 for up to 256 pieces, else int32.
    """
    x = channels_last(x)
    shape = (x.shape[0], x.shape[1] // pieces, *x.shape[2:])
    order = strides.channels_last_order(x.ndim)
    y, indices = ordered(shape, order, x.dtype), ordered(shape, order, index_dtype(pieces))
    plan = _plan(y, indices, groups)
    plan.run(_maxout, x, y, *as_words(indices, plan.vector), pieces)
    y_out, indices_out = out or (None, None)
    return deliver(y, y_out), deliver(indices, indices_out)


def maxout_backward(
    dy: Array, indices: Array, *, pieces: int, groups: int = 1, out: Array | None = None
) -> Array:
    """Gradient to maxout's input: dy where the piece won, else 0: dy (N, C, ...) to dx (N, pieces * C, ...)."""
    dy, indices = channels_last(dy), channels_last(indices)
    shape = (dy.shape[0], dy.shape[1] * pieces, *dy.shape[2:])
    dx = ordered(shape, strides.channels_last_order(dy.ndim), dy.dtype)
    plan = _plan(dy, indices, groups)
    plan.run(_maxout_backward, dy, dx, *as_words(indices, plan.vector), pieces)
    return deliver(dx, out)


def _plan(y: Array, indices: Array, groups: int) -> Plan:
    units = y.shape[1] // groups
    return Plan(1, units, 1, y.size // units if units else 0, y.itemsize, vector=not is_wide(indices))
