"""How kernels with coefficients per channel walk memory: as rows of whole vectors.

Channels-last memory is a matrix, pixels x channels, and vectors run along its rows. Where there are few channels,
`fold` joins as many pixels to one row as fill groups of four vectors (64 pixels of 3 channels make 192 columns, each
channel 64 times), so that no lane idles. The pixels left over behind the last whole row make a shorter one.

A job is a block of rows. Sums over a block are taken in float32, sums over blocks in float64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from ._blocks import FULL
from ._compile import inner
from ._driver import share
from .simd import L, vload, vprefetch, vstore, vstream, vstreamed

PAIR, QUAD = 2 * FULL, 4 * FULL
BLOCK_ROWS = 64  # few enough terms for a sum in float32
STRIP = 2048  # floats: as many rows are summed side by side, but four at least
_RUN = 16  # blocks
_WIDEST = 2048  # floats in a joined row: some rows of coefficients must stay in L1


class Rows(NamedTuple):
    """A matrix of `size` floats as rows of `width`, the last one perhaps shorter, in blocks of `height`."""

    size: int
    channels: int
    width: int
    height: int
    threads: int

    @property
    def whole(self) -> int:
        """Rows of full width."""
        return self.size // self.width

    @property
    def blocks(self) -> int:
        """Blocks, a shorter last row included."""
        return -(-self.size // (self.width * self.height))

    @property
    def whole_blocks(self) -> int:
        """Blocks of the rows of full width alone."""
        return -(-self.whole // self.height)

    @property
    def parts(self) -> int:
        """Threads that get some of the whole blocks."""
        return min(self.threads, self.whole_blocks)


def fold(size: int, channels: int) -> Rows:
    """The rows of a matrix of `size` floats; blocks are lower where there would be too few for the threads."""
    return _fold(size, max(channels, 1), share(size))


@functools.lru_cache(512)
def _fold(size: int, channels: int, threads: int) -> Rows:
    joined = math.lcm(channels, QUAD)
    width = joined if joined <= _WIDEST else channels
    height = min(BLOCK_ROWS, -(-size // (width * threads)))
    return Rows(size, channels, width, max(height, 1), threads)


@inner
def load_four(p, i):
    """Four vectors from p[i]."""
    return vload(p, i), vload(p, i + L), vload(p, i + 2 * L), vload(p, i + 3 * L)


@inner
def prefetch_four(p, i):
    """Ask for four vectors from p[i], which need not exist, to come into L2."""
    for k in range(0, QUAD, 16):  # floats of a cache line
        vprefetch(p, i + k)


@inner
def store_four(p, i, v0, v1, v2, v3):
    """Four vectors to p[i]."""
    vstore(p, i, v0)
    vstore(p, i + L, v1)
    vstore(p, i + 2 * L, v2)
    vstore(p, i + 3 * L, v3)


@inner
def put_four(p, i, v0, v1, v2, v3, past_caches):
    """Four vectors to p[i], past the caches where `streams` says so."""
    if past_caches:
        vstream(p, i, v0)
        vstream(p, i + L, v1)
        vstream(p, i + 2 * L, v2)
        vstream(p, i + 3 * L, v3)
    else:
        store_four(p, i, v0, v1, v2, v3)


@inner
def backwards(turn, first, last):
    """Which of the blocks first..last is done when: from the end, but some of them in a row."""
    begin = max(first, last - (turn // _RUN + 1) * _RUN)
    return begin + turn % _RUN


def each_row_vector(body: Callable) -> Callable:
    """Decorator: body(a, i, k, c, n) for n lanes at offset i, column c, becomes loop(a, first, last) for use in a job.

    The job's arguments need `size`, `width` and `height`. n < L only at the end of a row. k counts the vectors.
    """
    body = inner(body)

    @inner
    def loop(a, first, last):
        stop = min(last * a.height * a.width, a.size)
        k = first * a.height * -(-a.width // L)
        for start in range(first * a.height * a.width, stop, a.width):
            columns = min(a.width, stop - start)
            for c in range(0, columns - L + 1, L):
                body(a, start + c, k, c, FULL)
                k += 1
            if columns % L:
                c = columns - columns % L
                body(a, start + c, k, c, columns % L)
                k += 1
        vstreamed()
    return loop
