"""Dropout, float32, any shape; the mask is computed where it is used and never stored.

The formula and the random numbers are those of `kernels/reference/dropout.py`: the same mask for any vector width,
thread count and memory layout. It reads x and writes y, 8 bytes an element; the generator adds about 15 integer
operations an element, of which a core does 16 or 32 a cycle.
"""

from __future__ import annotations

import math

import numpy as np

from ._blocks import BLOCK, blocks
from ._compile import inner
from ._driver import FLOAT, INT, PTR, job, share
from ._layout import channels_last, deliver, empty_like_image
from ._philox import COUNTERS, philox
from .simd import L, isplat, vbelow, vload_n, vselect, vstore_n

_DRAWS = 4 * COUNTERS  # elements that share the words of COUNTERS counters
_ALL = np.int64(_DRAWS)  # as `_blocks.FULL`


@inner
def _draw(a, block, n):
    """The first n elements of a block of _DRAWS."""
    for i in range(0, COUNTERS, L):
        words = philox(block * COUNTERS + i, a.call_low, a.call_high, a.seed_low, a.seed_high)
        for w in range(4):
            at = w * COUNTERS + i
            x = vload_n(a.x, block * _DRAWS + at, n - at)
            dropped = vbelow(words[w], isplat(a.threshold))
            vstore_n(a.y, block * _DRAWS + at, vselect(dropped, 0.0, a.scale * x), n - at)


@job(x=PTR, y=PTR, n=INT, threshold=INT, scale=FLOAT, seed_low=INT, seed_high=INT, call_low=INT, call_high=INT)
def _dropout_blocks(first, last, thread, a):
    stop = min(last * BLOCK, a.n)
    for block in range(first * (BLOCK // _DRAWS), stop // _DRAWS):
        _draw(a, block, _ALL)
    if stop % _DRAWS:
        _draw(a, stop // _DRAWS, stop % _DRAWS)


def dropout(x: np.ndarray, *, p: float, seed: int, call: int, out: np.ndarray | None = None) -> np.ndarray:
    """x / (1 - p) where an element is kept, else 0; each is dropped with probability p, by its place, seed and call.

    The same seed and call (64-bit ints) give the same mask: the backward is `dropout(dy, ...)`.
    """
    x = channels_last(x)
    y = empty_like_image(x)
    if p == 1:
        y.fill(0)
    else:
        _dropout_blocks(
            blocks(x.size), threads=share(x.size), x=x, y=y, n=x.size, threshold=math.floor(p * 2**32),
            scale=1 / (1 - p), seed_low=seed & 0xFFFFFFFF, seed_high=seed >> 32 & 0xFFFFFFFF,
            call_low=call & 0xFFFFFFFF, call_high=call >> 32 & 0xFFFFFFFF)
    return deliver(y, out)
