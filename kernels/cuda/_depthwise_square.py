"""Depthwise convolutions with a square window, 3 × 3 to 7 × 7, and stride 1 or 2: forward and gradient to the input.

A thread takes four channels and a patch of outputs, whose sums it holds in registers. It goes down the rows that they
meet: reads the columns of a row, four channels each, zeros outside the image, then the taps of that row.

    stride 1, 3 × 3        columns 0 1 2 3 4 5       2 × 4 outputs
                  row 0            x x x x x x       line 0 with taps 0
                  row 1            x x x x x x       line 1 with taps 0, line 0 with taps 1
                  row 2            x x x x x x       line 1 with taps 1, line 0 with taps 2
                  row 3            x x x x x x       line 1 with taps 2

With stride 2 a patch is 1 × 4. The gradient of stride 1 is the same convolution of dy with the taps turned round. That
of stride 2 takes the pixels of dx, padding counted, by pairs of lines 2a, 2a + 1 and of columns 2b, 2b + 1: a patch is
2 × 4 of them. Pixel (2a + i, 2b + j) gets tap (2m + i, 2n + j) of dy's pixel (a - m, b - n) for each m and n, so each
tap serves one pixel of a pair, and nothing is multiplied by the zeros between dy's pixels.

Of a block's threads eight side by side take 32 channels, and sixteen of those eight take patches, four down and then
four along, so that the rows which patches share are read from the L1 cache. Blocks of other channels come next.

With statistics for batch norm (`_column_moments.py`) a block takes several such sixteens and leaves one set for each
channel, of 256 pixels: 12 bytes beside 1024 of y in float32 or 512 in 16 bits.

Memory bound, x and y once each, where that takes longer than the instructions. Those of an element of y in float32
(float16), counted for an H100, which has time for 8.5 a byte:

                               3 × 3     5 × 5     7 × 7   there is time for     3 × 3/2   5 × 5/2   time for
    forward                  28 (30)   53 (56)   88 (94)             68 (34)     39 (44)   73 (82)   170 (85)
    gradient to the input    28 (30)   53 (56)   88 (94)             68 (34)     12 (13)   20 (21)    42 (21)

So arithmetic bounds 7 × 7, of which the multiplications alone are 49, and 5 × 5 in 16 bits. Statistics cost 5 more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._column_moments import deviate, join, leave
from ._depthwise_taps import pack
from ._layout import Array, blocks
from ._math import ONE, ZERO, larger
from ._memory import empty
from ._moments import Statistics
from ._numba import cuda, device, types
from ._pixels import quotient, reciprocal_of
from ._window import before
from .launch import F32, INT, LONG, STORAGE, Kernel, kernel
from .ptx import as_stored, load_four, store_four

THREADS, WIDE, BAND, RUN = 128, 8, 4, 4
PLACES, SPAN = THREADS // WIDE, WIDE * 4
_LOT = 256  # pixels of a set, about: 12 bytes a channel beside the 512 or 1024 of their y
_ROOM = PLACES * (3 * SPAN + 1)
WALK = {"chunks": INT, "by_chunks": LONG, "runs": INT, "by_runs": LONG, "bands": INT, "by_bands": LONG, "places": INT,
        "channels": INT}  # fmt: skip
int32, int64 = np.int32, np.int64


@device
def place_of(turn, turns, chunks, by_chunks, runs, by_runs, bands, by_bands, places, channels):
    """The first channel of this thread, and its patch in turn: image, row and column of patches; image -1 if none.

    Patches are numbered down the rows of a band, then along the band.
    """
    spot = quotient(cuda.blockIdx.x, by_chunks)
    c = int32(((cuda.blockIdx.x - spot * chunks) * WIDE + cuda.threadIdx.x % WIDE) * 4)
    place = int32((spot * turns + turn) * PLACES + cuda.threadIdx.x // WIDE)
    across = int32(place // BAND)
    band = quotient(across, by_runs)
    image = quotient(band, by_bands)
    row = int32((band - image * bands) * BAND + place % BAND)
    return c, image if c < channels and place < places else int32(-1), row, int32(across - band * runs)


@device
def within(i, size):
    """Whether 0 <= i < size."""
    return np.uint32(i) < np.uint32(size)


@device
def offset_of(image, h, w, height, width, channels, c):
    """Where in memory channel c of a pixel lies, or would lie, of an image of this height and width."""
    return int64(int32(int32(int32(image * height) + h) * width + w)) * int64(channels) + int64(c)


def _patch(size: int, stride: int) -> Callable:
    tall, columns = 3 - stride, (RUN - 1) * stride + size

    @device
    def patch(sums, x, taps, y, residual, scale, bias, image, p, q, c, channels, source_h, source_w, height, width, top,
              left, rows, has_residual, has_scale, has_bias, rectify):
        """Compute and write the outputs of a patch, from line p and column q on; they stay in `sums`."""
        met = cuda.local.array((columns, 4), types.float32)
        tap = cuda.local.array((size, 4), types.float32)
        for o in range(tall):
            for j in range(RUN):
                for lane in range(4):
                    sums[o, j, lane] = ZERO
        first_h, first_w, weight = int32(p * stride - top), int32(q * stride - left), c
        row = offset_of(image, first_h, first_w, source_h, source_w, channels, c)
        for i in range(rows):
            inside = within(int32(first_h + i), source_h)
            for k in range(columns):
                load_four(met[k], x, row, int32(k * channels), inside and within(int32(first_w + k), source_w))
            row += int64(source_w) * int64(channels)
            if tall == 2 and i > 0:  # with the taps that the line above had for the row before
                for s in range(size):
                    for j in range(RUN):
                        for lane in range(4):
                            sums[1, j, lane] += met[j + s, lane] * tap[s, lane]
            if i < size:
                for s in range(size):
                    load_four(tap[s], taps, weight, int32(s * channels), True)
                weight = int32(weight + size * channels)
                for s in range(size):
                    for j in range(RUN):
                        for lane in range(4):
                            sums[0, j, lane] += met[j * stride + s, lane] * tap[s, lane]
        factor, summand = tap[0], tap[1]
        for lane in range(4):
            factor[lane], summand[lane] = ONE, ZERO
        if has_scale:
            load_four(factor, scale, c, 0, True)
        if has_bias:
            load_four(summand, bias, c, 0, True)
        for o in range(tall):
            to = offset_of(image, int32(p + o), q, height, width, channels, c)
            for j in range(RUN):
                if int32(p + o) < height and int32(q + j) < width:
                    if has_scale or has_bias:
                        for lane in range(4):
                            sums[o, j, lane] = sums[o, j, lane] * factor[lane] + summand[lane]
                    if has_residual:
                        load_four(met[j], residual, to, int32(j * channels), True)
                        for lane in range(4):
                            sums[o, j, lane] += met[j, lane]
                    if rectify:
                        for lane in range(4):
                            sums[o, j, lane] = larger(sums[o, j, lane], ZERO)
                    store_four(y, to, int32(j * channels), sums[o, j])

    return patch


_POINTERS = dict(x=STORAGE, taps=F32, y=STORAGE, residual=STORAGE, scale=F32, bias=F32)
_NAMES = ("source_h", "source_w", "height", "width", "top", "left", "rows", "has_residual", "has_scale", "has_bias",
          "rectify")  # fmt: skip


def _slide(size: int, stride: int) -> Kernel:
    tall, patch = 3 - stride, _patch(size, stride)

    def slide(x, taps, y, residual, scale, bias, chunks, by_chunks, runs, by_runs, bands, by_bands, places, channels,
              source_h, source_w, height, width, top, left, rows, has_residual, has_scale, has_bias, rectify):
        sums = cuda.local.array((tall, RUN, 4), types.float32)
        c, image, p, q = place_of(0, 1, chunks, by_chunks, runs, by_runs, bands, by_bands, places, channels)
        if image >= 0 and int32(p * tall) < height:
            patch(sums, x, taps, y, residual, scale, bias, image, int32(p * tall), int32(q * RUN), c, channels,
                  source_h, source_w, height, width, top, left, rows, has_residual, has_scale, has_bias, rectify)

    return kernel(block=THREADS, blocks_per_sm=4 if size < 7 else 3, name=f"slide_{size}_{stride}", **_POINTERS,
                  **WALK, **dict.fromkeys(_NAMES, INT))(slide)


def _slide_statistics(size: int, stride: int) -> Kernel:
    tall, patch = 3 - stride, _patch(size, stride)

    def slide(x, taps, y, residual, scale, bias, counts, means, squares, turns, chunks, by_chunks, runs, by_runs, bands,
              by_bands, places, channels, source_h, source_w, height, width, top, left, rows, has_residual, has_scale,
              has_bias, rectify):
        shared = cuda.shared.array(_ROOM, types.float32)
        sums = cuda.local.array((tall, RUN, 4), types.float32)
        origin = cuda.local.array(4, types.float32)
        s, t = cuda.local.array(4, types.float32), cuda.local.array(4, types.float32)
        for lane in range(4):
            origin[lane] = s[lane] = t[lane] = ZERO
        n = int32(0)
        for turn in range(turns):
            c, image, p, q = place_of(turn, turns, chunks, by_chunks, runs, by_runs, bands, by_bands, places, channels)
            p, q = int32(p * tall), int32(q * RUN)
            if image >= 0 and p < height:
                patch(sums, x, taps, y, residual, scale, bias, image, p, q, c, channels, source_h, source_w, height,
                      width, top, left, rows, has_residual, has_scale, has_bias, rectify)
                for o in range(tall):
                    for j in range(RUN):
                        if int32(p + o) < height and int32(q + j) < width:
                            for lane in range(4):
                                sums[o, j, lane] = as_stored(y, sums[o, j, lane])
                            if n == 0:
                                for lane in range(4):
                                    origin[lane] = sums[o, j, lane]
                            deviate(s, t, origin, sums[o, j], 0)
                            n = int32(n + 1)
        leave(shared, 0, PLACES, SPAN, cuda.threadIdx.x // WIDE, cuda.threadIdx.x % WIDE * 4, origin, s, t, 0, n)
        cuda.syncthreads()
        spot = quotient(cuda.blockIdx.x, by_chunks)
        channel = int32((cuda.blockIdx.x - spot * chunks) * SPAN + cuda.threadIdx.x)
        if cuda.threadIdx.x < SPAN and channel < channels:
            at = int64(spot) * int64(channels) + channel
            join(shared, 0, PLACES, SPAN, cuda.threadIdx.x, counts, means, squares, at)

    sets = dict(counts=F32, means=F32, squares=F32, turns=INT)
    return kernel(block=THREADS, blocks_per_sm=4, name=f"slide_{size}_{stride}_statistics", **_POINTERS, **sets,
                  **WALK, **dict.fromkeys(_NAMES, INT))(slide)


def _spread(size: int) -> Kernel:
    pairs, far = RUN // 2, size // 2
    columns = pairs + far

    def spread(dy, taps, dx, chunks, by_chunks, runs, by_runs, bands, by_bands, places, channels, source_h, source_w,
               height, width, top, left, rows):
        met = cuda.local.array((columns, 4), types.float32)
        tap = cuda.local.array((size, 4), types.float32)
        sums = cuda.local.array((2, RUN, 4), types.float32)
        c, image, a, b = place_of(0, 1, chunks, by_chunks, runs, by_runs, bands, by_bands, places, channels)
        if image < 0:
            return
        a, b = int32(a + top // 2), int32(b * pairs + left // 2)
        for i in range(2):
            for j in range(RUN):
                for lane in range(4):
                    sums[i, j, lane] = ZERO
        row, weight = offset_of(image, a, int32(b - far), source_h, source_w, channels, c), c
        for m in range(rows):
            inside = within(int32(a - m), source_h)
            for k in range(columns):
                load_four(met[k], dy, row, int32(k * channels), inside and within(int32(b - far + k), source_w))
            row -= int64(source_w) * int64(channels)
            for i in range(2):
                if i == 0 or m < far:
                    for s in range(size):
                        load_four(tap[s], taps, weight, int32(s * channels), True)
                    weight = int32(weight + size * channels)
                    for s in range(size):
                        for pair in range(pairs):
                            for lane in range(4):
                                sums[i, 2 * pair + s % 2, lane] += met[pair + far - s // 2, lane] * tap[s, lane]
        for i in range(2):
            h, w = int32(2 * a + i - top), int32(2 * b - left)
            to = offset_of(image, h, w, height, width, channels, c)
            for j in range(RUN):
                if within(h, height) and within(int32(w + j), width):
                    store_four(dx, to, int32(j * channels), sums[i, j])

    names = ("source_h", "source_w", "height", "width", "top", "left", "rows")
    return kernel(block=THREADS, blocks_per_sm=4, name=f"spread_{size}", dy=STORAGE, taps=F32, dx=STORAGE, **WALK,
                  **dict.fromkeys(names, INT))(spread)


_SLIDE = {(size, stride): _slide(size, stride) for size, stride in ((3, 1), (5, 1), (7, 1), (3, 2), (5, 2))}
_SLIDE_STATISTICS = {
    (size, stride): _slide_statistics(size, stride) for size, stride in ((3, 1), (5, 1), (3, 2), (5, 2))
}
_SPREAD = {size: _spread(size) for size in (3, 5)}


def supports(channels: int, weight_shape: tuple, stride: tuple, dilation: tuple) -> bool:
    """Whether these kernels, and that of `_depthwise_wgrad.py`, can do this convolution of groups of one channel."""
    k, _, r, s = weight_shape
    square = r == s and stride[0] == stride[1] and (r, stride[0]) in _SLIDE
    return square and k == channels and k % 4 == 0 and dilation == (1, 1)


def _walk(images: int, rows: int, runs: int, channels: int) -> tuple[int, int, list[int]]:
    """Chunks of channels and places of patches of this many rows and columns of them, and the arguments `WALK`."""
    bands, chunks = blocks(rows, BAND), blocks(channels, SPAN)
    places = images * bands * BAND * runs
    walk = [v for size in (chunks, runs, bands) for v in (size, reciprocal_of(max(size, 1)))]
    return chunks, places, [*walk, places, channels]


def forward(x: Array, weight: Array, y: Array, stride: tuple, padding: tuple, scale: Array | None = None,
            bias: Array | None = None, rectify: bool = False, residual: Array | None = None, statistics: bool = False,
            turned: bool = False) -> Statistics | None:
    """Fill y; x, y and residual channels-last, weight contiguous; `turned`, the taps are turned round.

    → the statistics of y, if they are asked for; None for 7 × 7 windows.
    """
    (images, channels, *source), (height, width), size = x.shape, y.shape[2:], weight.shape[2]
    tall, kind = 3 - stride[0], (size, stride[0])
    chunks, places, walk = _walk(images, blocks(height, tall), blocks(width, RUN), channels)
    arrays = x, pack(weight, turned), y, residual, scale, bias
    has = (given is not None for given in (residual, scale, bias))
    rest = *walk, *source, height, width, *map(before, padding), size + tall - 1, *has, rectify
    if not statistics or kind not in _SLIDE_STATISTICS:
        _SLIDE[kind](chunks * blocks(places, PLACES), *arrays, *rest)
        return None
    turns = _LOT // (PLACES * tall * RUN)
    lots = blocks(places, PLACES * turns)
    sets = tuple(empty((3, lots, channels)))
    _SLIDE_STATISTICS[kind](chunks * lots, *arrays, *sets, turns, *rest)
    return sets


def dgrad(dy: Array, weight: Array, dx: Array, stride: tuple, padding: tuple) -> None:
    """Fill dx; dy and dx channels-last, weight contiguous."""
    size = weight.shape[2]
    if stride == (1, 1):
        forward(dy, weight, dx, stride, tuple(size - 1 - before(p) for p in padding), turned=True)
        return
    images, channels, *shape = dx.shape
    start = tuple(map(before, padding))
    rows, columns = ((first + length + 1) // 2 - first // 2 for first, length in zip(start, shape))
    chunks, places, walk = _walk(images, rows, blocks(columns, RUN // 2), channels)
    _SPREAD[size](chunks * blocks(places, PLACES), dy, pack(weight), dx, *walk, *dy.shape[2:], *shape, *start,
                  size // 2 + 1)
