"""Gaussian noise on images in channels-last memory, a pure function of (seed, call, stream, sample, position).

Each image is drawn for in blocks of 64 numbers, as in `dropout.py`: a thread takes the four vectors, 16 numbers apart,
that share its counters. x is read and y written once, 8 bytes an element of float32; a normal number costs about 40
operations, which is what this op takes its time for.

The formula and the random numbers are those of `kernels/reference/image_noise.py`.
"""

from __future__ import annotations

import math

import numpy as np

from ._layout import Array, blocks, channels_last, deliver, empty_like_image
from ._math import fma
from ._numba import cuda, types
from ._philox import counter, normal_pair, number, philox, signed
from ._pixels import QUAD, THREADS, WIDEST, both_kinds, pieces, quotient, reciprocal_of, table
from .launch import F32, I64, INT, LONG, STORAGE, UINT

_BLOCK, _COUNTERS, _WORDS = 64, 16, 4  # numbers of a block, counters that they share, words of a counter
_HIGH = np.uint64(32)


@both_kinds(x=STORAGE, y=STORAGE, std=F32, samples=I64, threads=INT, share=INT, by_share=LONG, numbers=INT, seed=LONG,
            stream=UINT, call=LONG, calls=I64, on_device=INT)  # fmt: skip
def _noise(vector):
    size, read, write = pieces(vector)

    def noise(x, y, std, samples, threads, share, by_share, numbers, seed, stream, call, calls, on_device):
        """An image has `numbers` numbers and `share` threads."""
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        held = cuda.local.array((_WORDS, WIDEST), types.float32)
        width = size(x)
        image = quotient(thread, by_share)
        draws = np.int32(thread - image * share)
        each = _COUNTERS // width  # threads of a block of numbers
        block, first = np.int32(draws // each), np.int32((draws & (each - 1)) * width)
        start = np.int32(block * _BLOCK + first)
        offset = np.int64(image) * numbers + start
        for w in range(_WORDS):
            read(held[w], x, offset + w * _COUNTERS, numbers - start - w * _COUNTERS)
        scale = std[image]
        place = np.uint64(samples[image]) | number(call, calls, on_device) << _HIGH
        for lane in range(width):
            j = np.uint64(np.uint32(block * _COUNTERS + first + lane)) | np.uint64(stream) << _HIGH
            a, b, c, d = philox(j, place, np.uint64(seed))
            z0, z1 = normal_pair(a, b)
            z2, z3 = normal_pair(c, d)
            held[0, lane] = fma(scale, z0, held[0, lane])
            held[1, lane] = fma(scale, z1, held[1, lane])
            held[2, lane] = fma(scale, z2, held[2, lane])
            held[3, lane] = fma(scale, z3, held[3, lane])
        for w in range(_WORDS):
            write(y, offset + w * _COUNTERS, held[w], numbers - start - w * _COUNTERS)

    return noise


def image_noise(
    x: Array,
    std: Array,
    samples: Array,
    *,
    seed: int,
    call: int | Array,
    stream: int,
    out: Array | None = None,
) -> Array:
    """x[n] + std[n] z, z standard normal, drawn for (seed, call, stream, samples[n]) and the element's place.

    x and y (N, C, H, W), std (N,) floats, samples (N,) ints of 32 bits. seed has 64 bits, call and stream have 32; call
    may be a 0-d array.
    """
    x = channels_last(x)
    y = empty_like_image(x)
    numbers, wide = math.prod(x.shape[1:]), 16 // x.itemsize
    vector = numbers % wide == 0
    share = blocks(numbers, _BLOCK) * (_COUNTERS // (wide if vector else QUAD))
    threads = x.shape[0] * share
    _noise[vector](
        blocks(threads, THREADS), x, y, table(std, np.float32), table(samples, np.int64), threads, share,
        reciprocal_of(max(share, 1)), numbers, signed(seed), stream, *counter(call))
    return deliver(y, out)
