"""Dropout, any shape; the mask is computed where it is used and never stored.

Four elements that lie 16 apart share a counter of the generator, so a thread takes four vectors that lie 16 apart:

    element   0   4   8  12 | 16  20  24  28 | 32  36  40  44 | 48  52  56  60      of a block of 64, float32
    thread    0   1   2   3 |  0   1   2   3 |  0   1   2   3 |  0   1   2   3

and no counter is computed twice; of 16-bit elements two threads have a block. x is read and y written once, 8 bytes an
element of float32; the generator adds about 15 integer operations, which copy bandwidth leaves room for.

The formula and the random numbers are those of `kernels/reference/dropout.py`.
"""

from __future__ import annotations

import math

import numpy as np

from ._layout import Array, blocks, channels_last, deliver, empty_like_image
from ._math import ZERO
from ._numba import cuda, device, types
from ._philox import counter, number, philox, signed
from ._pointwise import THREADS, WIDEST, load_up_to, store_up_to
from .launch import FLOAT, I64, INT, LONG, STORAGE, UINT, kernel
from .ptx import lanes

_BLOCK, _COUNTERS, _WORDS = 64, 16, 4  # elements of a block, counters that they share, words of a counter


@device
def _kept(x, word, threshold, scale, alive):
    return scale * x if alive and word >= threshold else ZERO


@kernel(block=THREADS, blocks_per_sm=3, x=STORAGE, y=STORAGE, n=LONG, threshold=UINT, scale=FLOAT, alive=INT, seed=LONG,
        call=LONG, calls=I64, on_device=INT)  # fmt: skip
def _dropout(x, y, n, threshold, scale, alive, seed, call, calls, on_device):
    held = cuda.local.array((_WORDS, WIDEST), types.float32)
    width = lanes(x)
    threads = _COUNTERS // width  # of a block of elements: 4 or 2
    thread = np.int64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
    block, first = thread // threads, (thread & (threads - 1)) * width
    start = block * _BLOCK + first
    for w in range(_WORDS):
        load_up_to(held[w], x, start + w * _COUNTERS, n)
    draw = number(call, calls, on_device)
    for lane in range(width):
        a, b, c, d = philox(np.uint64(block * _COUNTERS + first + lane), draw, np.uint64(seed))
        held[0, lane] = _kept(held[0, lane], a, threshold, scale, alive)
        held[1, lane] = _kept(held[1, lane], b, threshold, scale, alive)
        held[2, lane] = _kept(held[2, lane], c, threshold, scale, alive)
        held[3, lane] = _kept(held[3, lane], d, threshold, scale, alive)
    for w in range(_WORDS):
        store_up_to(y, start + w * _COUNTERS, held[w], n)


def dropout(x: Array, *, p: float, seed: int, call: int | Array, out: Array | None = None) -> Array:
    """x / (1 - p) where an element is kept, else 0; each is dropped with probability p, by its place, seed and call.

    The same seed and call (64-bit ints; call also as a 0-d array) give the same mask: the backward is
    `dropout(dy, ...)`.
    """
    x = channels_last(x)
    y = empty_like_image(x)
    threshold, scale = (math.floor(p * 2**32), 1 / (1 - p)) if p < 1 else (0, 0.0)
    grid = blocks(x.size, THREADS * _WORDS * (16 // x.itemsize))
    _dropout(grid, x, y, x.size, threshold, scale, p < 1, signed(seed), *counter(call))
    return deliver(y, out)
