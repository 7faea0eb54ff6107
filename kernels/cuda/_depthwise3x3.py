"""Depthwise 3 × 3 convolutions of stride 1 or 2, one filter a channel, channels in whole vectors of 16 bytes.

A thread takes one vector of channels and RUN neighbouring outputs of a line. For each of the three rows it reads the
columns that its outputs meet, once, into registers, and a weight vector per tap; neighbouring threads hold neighbouring
channels, so every access is whole lines of memory.

    stride 1, RUN = 4      columns  0 1 2 3 4 5           18 vectors of x for 4 outputs, where a thread an output
                           outputs    0 1 2 3             would read 36; rows are shared with other threads in L2

The gradient to the input of stride 1 is the same convolution of dy with the taps turned round. For the gradient to the
weight a thread slides along lines of dy with nine sums a channel, holding the 3 × 3 vectors of x under the present
pixel; the sums of a block's threads meet in shared memory, those of the blocks in a workspace, each in a fixed order.

Memory bound: 4 bytes in and 4 out an element forward, 8 in for the weight's gradient, if L2 keeps three lines.
"""

from __future__ import annotations

from ._channel_sums import add_strips
from ._layout import Array, blocks
from ._math import INFINITY, ONE, ZERO, larger
from ._memory import empty
from ._numba import cuda, types
from ._window import before
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import lanes, load, load_vector, quotient, store_vector

RUN, TAPS, THREADS = 4, 9, 128
ACROSS, DOWN, LINES = 16, 8, 2  # threads of a wgrad block by channels and by lines; lines that each of these takes
_MEETING = TAPS * 8 * THREADS


@kernel(block=THREADS, weight=STORAGE, taps=F32, size=INT, channels=INT, turned=INT)
def _pack(weight, taps, size, channels, turned):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < size:
        tap = quotient(i, channels)
        c = i - tap * channels
        taps[i] = load(weight, c * TAPS + (TAPS - 1 - tap if turned else tap))


def _forward(stride: int) -> Kernel:
    columns = (RUN - 1) * stride + 3

    def depthwise3x3(x, taps, y, scale, bias, work, has_scale, has_bias, rectify, channels, source_h, source_w, height,
                     width, top, left):
        met = cuda.local.array((columns, 8), types.float32)
        sums = cuda.local.array((RUN, 8), types.float32)
        tap = cuda.local.array(8, types.float32)
        vector = lanes(x)
        i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if i < work:
            across = channels // vector
            run = quotient(i, across)
            c = (i - run * across) * vector
            runs = (width + RUN - 1) // RUN
            line = quotient(run, runs)
            q = (run - line * runs) * RUN
            image = quotient(line, height)
            first_h, first_w = (line - image * height) * stride - top, q * stride - left
            for o in range(RUN):
                for lane in range(vector):
                    sums[o, lane] = ZERO
            for r in range(3):
                h = first_h + r
                if h >= 0 and h < source_h:
                    row = ((image * source_h + h) * source_w + first_w) * channels + c
                    for column in range(columns):
                        w = first_w + column
                        if w >= 0 and w < source_w:
                            load_vector(met[column], x, row + column * channels)
                        else:
                            for lane in range(vector):
                                met[column, lane] = ZERO
                    for s in range(3):
                        for lane in range(0, vector, 4):
                            load_vector(tap[lane:], taps, (3 * r + s) * channels + c + lane)
                        for lane in range(vector):
                            for o in range(RUN):
                                sums[o, lane] += met[o * stride + s, lane] * tap[lane]
            floor = ZERO if rectify else -INFINITY
            for lane in range(vector):
                factor = scale[c + lane] if has_scale else ONE
                summand = bias[c + lane] if has_bias else ZERO
                for o in range(RUN):
                    sums[o, lane] = larger(sums[o, lane] * factor + summand, floor)
            to = (line * width + q) * channels + c
            for o in range(RUN):
                if q + o < width:
                    store_vector(y, to + o * channels, sums[o])

    pointers = dict(x=STORAGE, taps=F32, y=STORAGE, scale=F32, bias=F32)
    names = depthwise3x3.__code__.co_varnames[len(pointers) : depthwise3x3.__code__.co_argcount]
    return kernel(block=THREADS, name=f"depthwise3x3_stride_{stride}", **pointers, **dict.fromkeys(names, INT))(
        depthwise3x3
    )


def _wgrad(stride: int) -> Kernel:
    def depthwise3x3_wgrad(dy, x, partial, channels, source_h, source_w, lines, height, width, top, left):
        shared = cuda.shared.array(_MEETING, types.float32)
        sums = cuda.local.array((TAPS, 8), types.float32)
        met = cuda.local.array((TAPS, 8), types.float32)
        held = cuda.local.array(8, types.float32)
        vector = lanes(x)
        column, row = cuda.threadIdx.x % ACROSS, cuda.threadIdx.x // ACROSS
        c = (cuda.blockIdx.y * ACROSS + column) * vector
        first = (cuda.blockIdx.x * DOWN + row) * LINES
        for tap in range(TAPS):
            for lane in range(vector):
                sums[tap, lane] = ZERO
        last = min(first + LINES, lines) if c < channels else first
        for line in range(first, last):
            image = quotient(line, height)
            first_h = (line - image * height) * stride - top
            for q in range(width):
                # The columns that this pixel shares with the one before are held already.
                first_w, new = q * stride - left, 0 if q == 0 else 3 - stride
                for r in range(3):
                    for s in range(3 - stride):
                        for lane in range(vector):
                            met[3 * r + s, lane] = met[3 * r + s + stride, lane]
                for r in range(3):
                    h = first_h + r
                    for s in range(3):
                        if s >= new:
                            w = first_w + s
                            if h >= 0 and h < source_h and w >= 0 and w < source_w:
                                at = ((image * source_h + h) * source_w + w) * channels + c
                                load_vector(met[3 * r + s], x, at)
                            else:
                                for lane in range(vector):
                                    met[3 * r + s, lane] = ZERO
                load_vector(held, dy, (line * width + q) * channels + c)
                for tap in range(TAPS):
                    for lane in range(vector):
                        sums[tap, lane] += held[lane] * met[tap, lane]
        for tap in range(TAPS):
            for lane in range(vector):
                shared[(lane * TAPS + tap) * THREADS + cuda.threadIdx.x] = sums[tap, lane]
        cuda.syncthreads()
        for i in range(cuda.threadIdx.x, ACROSS * vector * TAPS, THREADS):
            # Neighbouring threads add up neighbouring sums of the workspace: tap is the last axis, then the lane.
            place, each = i // (vector * TAPS), i % (vector * TAPS)
            c = (cuda.blockIdx.y * ACROSS + place) * vector
            if c < channels:
                total = ZERO
                for other in range(DOWN):
                    total += shared[each * THREADS + other * ACROSS + place]
                partial[(cuda.blockIdx.x * channels + c) * TAPS + each] = total

    pointers = dict(dy=STORAGE, x=STORAGE, partial=F32)
    names = depthwise3x3_wgrad.__code__.co_varnames[len(pointers) : depthwise3x3_wgrad.__code__.co_argcount]
    return kernel(block=THREADS, name=f"depthwise3x3_wgrad_stride_{stride}", **pointers, **dict.fromkeys(names, INT))(
        depthwise3x3_wgrad
    )


_FORWARD = {stride: _forward(stride) for stride in (1, 2)}
_WGRAD = {stride: _wgrad(stride) for stride in (1, 2)}


def supports(x: Array, weight_shape: tuple, stride: tuple, dilation: tuple) -> bool:
    """Whether these kernels can do this convolution of groups of one channel."""
    k, _, *taps = weight_shape
    same = k == x.shape[1] and k % (16 // x.itemsize) == 0
    return same and taps == [3, 3] and stride in ((1, 1), (2, 2)) and dilation == (1, 1)


def forward(x: Array, weight: Array, y: Array, stride: tuple, padding: tuple, scale: Array | None = None,
            bias: Array | None = None, rectify: bool = False, turned: bool = False) -> None:
    """Fill y; x and y channels-last, weight contiguous; with `turned` taps the gradient to the input of stride 1."""
    channels, (height, width) = x.shape[1], y.shape[2:]
    taps = empty((TAPS, channels))
    _pack(blocks(taps.size, THREADS), weight, taps, taps.size, channels, turned)
    work = len(y) * height * blocks(width, RUN) * (channels // (16 // x.itemsize))
    _FORWARD[stride[0]](blocks(work, THREADS), x, taps, y, scale, bias, work, scale is not None, bias is not None,
                        rectify, *x.shape[1:], height, width, *map(before, padding))


def dgrad(dy: Array, weight: Array, dx: Array, padding: tuple) -> None:
    """Fill dx of a convolution of stride 1: dy, framed by 2 - padding, with the taps turned round."""
    forward(dy, weight, dx, (1, 1), tuple(2 - before(p) for p in padding), turned=True)


def wgrad(dy: Array, x: Array, weight_shape: tuple, stride: tuple, padding: tuple) -> Array:
    """dweight (C, 1, 3, 3), float32, from dy and x, channels-last."""
    (images, channels, *source), (height, width) = x.shape, dy.shape[2:]
    partial = empty((blocks(images * height, DOWN * LINES), channels, TAPS))
    _WGRAD[stride[0]]((len(partial), blocks(channels, ACROSS * (16 // x.itemsize))), dy, x, partial, channels, *source,
                      images * height, height, width, *map(before, padding))
    return add_strips(partial, weight_shape)
