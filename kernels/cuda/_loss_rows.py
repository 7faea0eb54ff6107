"""How the losses of rows of logits walk memory: a group of threads takes a row, as many as there are logits for.

    classes     threads to a row     a block of THREADS
    up to 32            4            takes 128 rows
    up to 1024         32            takes 16, a warp each
    more          THREADS            takes one

A thread takes EACH logits at once, by vectors of 16 bytes where all rows begin at one, else one by one; either way the
group's threads read neighbours. A row is gone over once for its maximum and its exponentials: where a larger logit
turns up, the sum so far is scaled down to it. What goes over a row again finds it in the cache.

Sums over rows have two levels, of blocks and of what they leave; results repeat.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._layout import Array, blocks, contiguous
from ._math import INFINITY, ONE, ZERO, exp, larger
from ._memory import empty
from ._numba import cuda, device, types
from ._reduce import block_largest, block_sum
from ._total import MOST
from .launch import F32, I64, INT, LONG, kernel
from .ptx import given, lanes, load, load_vector, shuffle_xor, store, store_vector

THREADS, WARPS, EACH, UNROLL, WIDEST = 512, 16, 8, 2, 8
_FEW, _MANY = 32, 1024  # classes
_LABELS = 4 * THREADS  # that a block takes

ROWS = {"rows": INT, "classes": INT, "group": INT, "vectors": INT}
"""The last arguments of a kernel of rows."""


# ---------------------------------------------------------------- inside kernels
@device
def my_row(base, rows, group):
    """The row that this thread has a part in, in the turn that begins with row `base`; whether there is one."""
    row = base + np.int32(np.uint32(cuda.threadIdx.x) // np.uint32(group))
    return row, row < rows


@device
def column(first, u, lane, width, group, vectors):
    """Which class a thread's register [u, lane] holds in the turn that begins with class `first`."""
    place = np.int32(cuda.threadIdx.x) & np.int32(group - 1)
    if vectors:
        return np.int32(first + (u * group + place) * width + lane)
    return np.int32(first + (u * width + lane) * group + place)


@device
def take(held, x, start, first, limit, group, vectors, filler):
    """The elements of the row at `start` that are this thread's in this turn; `filler` from class `limit` on."""
    width = lanes(x)
    for u in range(EACH // width):
        if vectors and column(first, u, 0, width, group, 1) < limit:
            load_vector(held[u], x, start + column(first, u, 0, width, group, 1))
        else:
            for lane in range(width):
                c = column(first, u, lane, width, group, vectors)
                held[u, lane] = load(x, start + c) if c < limit else filler


@device
def put(y, held, start, first, limit, group, vectors):
    """The same elements from registers to memory."""
    width = lanes(y)
    for u in range(EACH // width):
        if vectors:
            c = column(first, u, 0, width, group, 1)
            if c < limit:
                store_vector(y, start + c, held[u])
        else:
            for lane in range(width):
                c = column(first, u, lane, width, group, 0)
                if c < limit:
                    store(y, start + c, held[u, lane])


@device
def group_sum(value, group, shared):
    """The sum over the row's threads, in each of them."""
    if group > 32:
        return block_sum(value, shared, WARPS)
    value += shuffle_xor(value, 1)
    value += shuffle_xor(value, 2)
    if group > 4:
        value += shuffle_xor(value, 4)
        value += shuffle_xor(value, 8)
        value += shuffle_xor(value, 16)
    return value


@device
def group_largest(value, group, shared):
    """The maximum over the row's threads, in each of them; NaN if any is."""
    if group > 32:
        return block_largest(value, shared, WARPS)
    value = larger(value, shuffle_xor(value, 1))
    value = larger(value, shuffle_xor(value, 2))
    if group > 4:
        value = larger(value, shuffle_xor(value, 4))
        value = larger(value, shuffle_xor(value, 8))
        value = larger(value, shuffle_xor(value, 16))
    return value


@device
def exponentials(held, x, start, limit, classes, group, vectors, left_out, shared):
    """The largest logit of a row, and the sum of e^(x - largest) over all classes but `left_out`.

    A row with NaN, +inf, or nothing but -inf has the sum NaN, as the formula says.
    """
    width = lanes(x)
    top, total = -INFINITY, ZERO
    for first in range(np.int32(0), classes, np.int32(group * EACH)):
        take(held, x, start, first, limit, group, vectors, -INFINITY)
        before = top
        for u in range(EACH // width):
            for lane in range(width):
                top = larger(top, held[u, lane])
        level = ZERO if top == -INFINITY else top
        total *= exp(before - level)
        for u in range(EACH // width):
            for lane in range(width):
                if column(first, u, lane, width, group, vectors) != left_out:
                    total += exp(held[u, lane] - level)
    largest = group_largest(top, group, shared)
    return largest, group_sum(total * exp(top - largest), group, shared)


@device
def leave(parts, value, shared):
    """Add up a number of each thread, for the sum over all rows."""
    if given(parts):
        value = block_sum(value, shared, WARPS)
        if cuda.threadIdx.x == 0:
            parts[cuda.blockIdx.x] = value


@device
def total_left(parts, count, shared):
    """The sum of what `count` blocks left, at most THREADS, in every thread."""
    return block_sum(parts[cuda.threadIdx.x] if cuda.threadIdx.x < count else ZERO, shared, WARPS)


@kernel(block=THREADS, target=I64, weight=F32, rows=INT, ignore=LONG, parts=F32)
def _weights(target, weight, rows, ignore, parts):
    """The sum of weight[target] over the rows that are not ignored."""
    shared = cuda.shared.array(WARPS, types.float32)
    total = ZERO
    for row in range(cuda.blockIdx.x * THREADS + cuda.threadIdx.x, rows, cuda.gridDim.x * THREADS):
        label = target[row]
        if label != ignore:
            total += weight[label] if given(weight) else ONE
    leave(parts, total, shared)


# ---------------------------------------------------------------- calls
def over_rows(x: Array) -> tuple[int, tuple[int, int, int, int]]:
    """Blocks for the rows of a contiguous (M, C) array, and the arguments ROWS."""
    rows, classes = x.shape
    group = 4 if classes <= _FEW else 32 if classes <= _MANY else THREADS
    vectors = classes % (16 // x.itemsize) == 0
    return min(blocks(rows, THREADS // group), MOST), (rows, classes, group, vectors)


def sum_of_weights(target: Array, weight: Array | None, ignore: int) -> Array:
    """Parts, at most THREADS, of the sum of weight[target] over the rows that are not ignored."""
    parts = empty(min(blocks(len(target), _LABELS), THREADS))
    _weights(len(parts), target, weight, len(target), ignore, parts)
    return parts


def labels(target: Array) -> Array:
    """Class indices as kernels read them: contiguous int64."""
    return contiguous(target if target.dtype == np.int64 else target.astype(np.int64))


def of_rows(dy: Array, reduction: str) -> tuple[Array, int]:
    """The gradient of the loss, and how far those of two rows are apart: 0 where all rows share it."""
    return contiguous(dy), int(reduction == "none")


def smoothing(label_smoothing: float, x: Array) -> tuple[Any, ...]:
    """What a target keeps of its one, and what every class gets."""
    return 1 - label_smoothing, label_smoothing / max(1, x.shape[1])
