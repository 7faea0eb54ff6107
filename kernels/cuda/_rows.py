"""How kernels walk channels-last memory when every channel has numbers of its own.

Memory is read in vectors of 16 bytes, however many channels there are. For that as many pixels are joined to a row as
make a whole number of vectors: with 17 channels 8 pixels, 34 vectors of float32. Whatever row a vector lies in, its
column says which channels it holds, so a thread keeps to one column and reads its channels' numbers once.

    a row:    | c0 c1 c2 c3 | c4 ... c16 c0 c1 | ... | ... c15 c16 |      a block: `columns` vectors wide, `lines` deep
              ^ thread 0      ^ thread 1                                  a strip: `height` steps of a block downwards
                                                          the next line: ^ thread `columns`

A thread takes rows a block's depth apart; neighbouring threads read neighbouring vectors. Wide rows are cut into groups
of columns. The grid is (samples, groups, strips): statistics may be those of all of memory, as one sample, or of each
image. A kernel has two loops:

    while i + ahead <= whole:      UNROLL vectors, all loads under way before the first is used
    while i < end:                 one vector, or, behind the last whole one, element by element

Samples that do not begin at a multiple of 16 bytes have no whole vectors. Offsets into memory have 64 bits.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ._layout import Array
from ._math import ZERO
from ._memory import multiprocessors
from ._numba import cuda, device
from .launch import INT, LONG
from .ptx import load, load_vector, store, store_vector

THREADS, UNROLL, WIDEST = 256, 4, 8
_JOINED, _COLUMNS = 64, 64  # elements that a row has at least, vectors that a block has at most

WALK = {"size": LONG, "width": INT, "columns": INT, "height": INT, "channels": INT, "aligned": INT}
"""The arguments that tell a kernel how to walk, behind its own."""


class Rows(NamedTuple):
    """The walk over the memory of some samples; `grid` and `walk` are for the kernels."""

    grid: tuple[int, int, int]
    walk: tuple[int, ...]
    samples: int
    channels: int
    pixels: int  # of a sample
    held: int  # numbers that a strip's sums consist of: one a channel, or one an element of a row

    @property
    def lots(self) -> int:
        """Sums of each channel that the strips of a sample leave."""
        return self.grid[2] * (self.held // max(self.channels, 1))

    @property
    def sums(self) -> int:
        """Numbers that all strips' sums consist of."""
        return self.samples * self.grid[2] * self.held


SUMS, APPLY = 4, 16  # blocks per multiprocessor: sums want few, which somebody has to join


def fold(x: Array, blocks: int, samples: int = 1, channels: int | None = None) -> Rows:
    """How to walk x (N, C, ...) with up to so many blocks a multiprocessor; samples are 1 or N, channels if not C."""
    blocks *= multiprocessors()
    return _fold(x.size // max(samples, 1), channels or x.shape[1], samples, 16 // x.itemsize, blocks)


@functools.lru_cache(1024)
def _fold(size: int, channels: int, samples: int, lanes: int, blocks: int) -> Rows:
    if not size or not samples:
        return Rows((0, 0, 0), (0,) * len(WALK), samples, channels, 0, channels)
    width = math.lcm(channels, lanes)
    width *= math.ceil(_JOINED / width)
    vectors, rows = width // lanes, math.ceil(size / width)
    columns = math.ceil(vectors / math.ceil(vectors / _COLUMNS))
    groups, lines = math.ceil(vectors / columns), THREADS // columns
    strips = max(1, min(65535, blocks // (samples * groups)))
    height = UNROLL * math.ceil(rows / (lines * strips * UNROLL))
    strips = math.ceil(rows / (lines * height))
    aligned = samples == 1 or size % lanes == 0
    walk = size, width, columns, height, channels, aligned
    return Rows((samples, groups, strips), walk, samples, channels, size // channels,
                channels if groups == 1 else width)


@device
def place(backwards, lanes, size, width, columns, height, aligned):
    """A thread's sample, and in elements the offset of its first vector, the step to the next one, the end of whole
    vectors, the end, the column.

    Walked backwards, the grid begins where another kernel has just ended: what that read last is in the cache still.
    """
    line = np.int64(np.uint32(cuda.threadIdx.x) // np.uint32(columns))
    lines = np.int64(np.uint32(THREADS) // np.uint32(columns))
    column = (np.int64(cuda.blockIdx.y) * columns + cuda.threadIdx.x - line * columns) * lanes
    sample, strip = np.int64(cuda.blockIdx.x), np.int64(cuda.blockIdx.z)
    if backwards:
        sample, strip = cuda.gridDim.x - 1 - sample, cuda.gridDim.z - 1 - strip
    first, behind = strip * lines * height, (strip + 1) * lines * height * width
    start = sample * size + (first + line) * width + column
    end = sample * size + (behind if behind < size else size)
    if line >= lines or column >= width:
        end = np.int64(0)
    return sample, start, lines * width, end if aligned else np.int64(0), end, column


@device
def load_or(registers, x, i, whole, end, other, lanes):
    """The vector at x[i], and what `other` holds where x ends before."""
    if i + lanes <= whole:
        load_vector(registers, x, i)
    else:
        for lane in range(lanes):
            registers[lane] = load(x, i + lane) if i + lane < end else other[lane]


@device
def load_part(registers, x, i, whole, end, lanes):
    """The vector at x[i], and 0 where x ends before."""
    if i + lanes <= whole:
        load_vector(registers, x, i)
    else:
        for lane in range(lanes):
            registers[lane] = load(x, i + lane) if i + lane < end else ZERO


@device
def store_part(y, i, registers, whole, end, lanes):
    """The vector to y[i], as far as y goes."""
    if i + lanes <= whole:
        store_vector(y, i, registers)
    else:
        for lane in range(lanes):
            if i + lane < end:
                store(y, i + lane, registers[lane])


@device
def per_channel(registers, values, base, column, channels, each, lanes):
    """For each lane of a column the number of its channel, of which `each` share one: values[base + c // each]."""
    c = np.int64(np.uint32(column) % np.uint32(channels))
    for lane in range(lanes):
        registers[lane] = values[base + np.int64(np.uint32(c) // np.uint32(each))]
        c = c + 1 if c + 1 < channels else 0


def statistics_dtype(*arrays: Array | None) -> Any:
    """The dtype of statistics and of vectors' gradients: the widest of these, so float32 if any vector is."""
    return np.result_type(*(a.dtype for a in arrays if a is not None))
