"""The gradient to the weight of depthwise convolutions with a square window, in one pass over dy and x.

    dw[c, r, s] = Σ_{n, p, q} dy[n, c, p, q] · x[n, c, p · stride + r - top, q · stride + s - left]

A thread takes four channels and one row r of the window: its K sums of each channel stay in registers while it goes
along lines of dy, four pixels at a time, with the columns of x under them; those that the next four share stay. A block
has threads for eight times four channels, all K rows, and several neighbouring lines of dy, so that what its threads
read twice comes from the L1 cache:

    thread   r = 0, line p       r = 1, line p       r = 0, line p + 1     r = 1, line p + 1
    reads    dy p,   x p         dy p,   x p + 1     dy p + 1, x p + 1     dy p + 1, x p + 2

The lines' sums meet in shared memory, those of the blocks in a workspace, each in a fixed order.

Memory bound, dy and x once each, where that takes longer than the instructions. Those of an element of dy in float32
(float16), counted for an H100, which has time for 8.5 a byte:

      3 × 3     5 × 5      7 × 7   there is time for     3 × 3/2   5 × 5/2   time for
    27 (29)   56 (63)   95 (106)             68 (34)     33 (39)   68 (76)   170 (85)
"""

from __future__ import annotations

import numpy as np

from ._channel_sums import add_strips
from ._depthwise_square import RUN, SPAN, WIDE, offset_of, within
from ._layout import Array, blocks
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, types
from ._pixels import quotient, reciprocal_of
from ._window import before
from .launch import F32, INT, LONG, STORAGE, Kernel, kernel
from .ptx import load_four, store_shared

ENOUGH_BLOCKS = 528  # four for each multiprocessor of the largest cards
_DOWN = {3: 8, 5: 4, 7: 4}  # lines that a block goes along side by side, by the size of the window
int32, int64 = np.int32, np.int64


def _wgrad(size: int, stride: int) -> Kernel:
    down, taps = _DOWN[size], size * size
    threads, kept, columns = WIDE * size * _DOWN[size], size - stride, (RUN - 1) * stride + size
    room = down * taps * SPAN

    def wgrad(dy, x, partial, each, lines, channels, source_h, source_w, height, by_height, width, top, left):
        shared = cuda.shared.array(room, types.float32)
        sums = cuda.local.array((size, 4), types.float32)
        met = cuda.local.array((columns, 4), types.float32)
        held = cuda.local.array((RUN, 4), types.float32)
        column, place = cuda.threadIdx.x % WIDE, int32(cuda.threadIdx.x // WIDE)
        c = int32((cuda.blockIdx.x * WIDE + column) * 4)
        r, row = int32(place % size), int32(place // size)
        for s in range(size):
            for lane in range(4):
                sums[s, lane] = ZERO
        first = int32(cuda.blockIdx.y * each * down + row)
        for line in range(first, min(first + each * down, lines) if c < channels else first, down):
            image = quotient(line, by_height)
            h = int32((line - image * height) * stride + r - top)
            if within(h, source_h):
                source = offset_of(image, h, int32(-left), source_h, source_w, channels, c)
                to = offset_of(0, line, 0, 0, width, channels, c)
                for k in range(kept):
                    load_four(met[k], x, source, int32(k * channels), within(int32(k - left), source_w))
                for q in range(0, width, RUN):
                    for k in range(kept, columns):
                        w = int32(q * stride + k - left)
                        load_four(met[k], x, source, int32(k * channels), within(w, source_w))
                    for j in range(RUN):
                        load_four(held[j], dy, to, int32(j * channels), int32(q + j) < width)
                    source += int64(RUN * stride) * int64(channels)
                    to += int64(RUN) * int64(channels)
                    for j in range(RUN):
                        if int32(q + j) < width:
                            for s in range(size):
                                for lane in range(4):
                                    sums[s, lane] += held[j, lane] * met[j * stride + s, lane]
                    for k in range(kept):
                        for lane in range(4):
                            met[k, lane] = met[k + RUN * stride, lane]
        for s in range(size):
            store_shared(shared, (place * size + s) * SPAN + column * 4, sums[s], 0)
        cuda.syncthreads()
        for i in range(cuda.threadIdx.x, taps * SPAN, threads):
            channel, tap = i // taps, i % taps
            c = cuda.blockIdx.x * SPAN + channel
            if c < channels:
                total = ZERO
                for other in range(down):
                    total += shared[(other * taps + tap) * SPAN + channel]
                partial[(int64(cuda.blockIdx.y) * channels + c) * taps + tap] = total

    names = ("source_h", "source_w", "height", "by_height", "width", "top", "left")
    return kernel(block=threads, name=f"wgrad_{size}_{stride}", dy=STORAGE, x=STORAGE, partial=F32, each=INT,
                  lines=INT, channels=INT, **dict.fromkeys(names, INT) | {"by_height": LONG})(wgrad)


_WGRAD = {(size, stride): _wgrad(size, stride) for size, stride in ((3, 1), (5, 1), (7, 1), (3, 2), (5, 2))}


def wgrad(dy: Array, x: Array, weight_shape: tuple, stride: tuple, padding: tuple) -> Array:
    """dweight (C, 1, R, R), float32, from dy and x, channels-last, where `_depthwise_square.supports` it."""
    (images, channels, *source), (height, width), size = x.shape, dy.shape[2:], weight_shape[2]
    lines, down, chunks = images * height, _DOWN[size], blocks(channels, SPAN)
    each = max(1, blocks(lines * chunks, ENOUGH_BLOCKS * down))
    partial = empty((blocks(lines, each * down), channels, size * size))
    _WGRAD[size, stride[0]]((chunks, len(partial)), dy, x, partial, each, lines, channels, *source, height,
                            reciprocal_of(max(height, 1)), width, *map(before, padding))
    return add_strips(partial, weight_shape)
