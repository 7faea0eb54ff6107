"""Mean and variance of channels or of groups of them: one pass over memory, then the strips' results are joined.

A thread sums deviations from the first value it meets, few enough that no digits get lost, and from then on a set of
values is (count n, mean m, sum of squared deviations q). Two sets joined are

    n = n₁ + n₂      m = m₁ + (m₂ - m₁) n₂ / n      q = q₁ + q₂ + (m₂ - m₁)² n₁ n₂ / n

and the order of joining is fixed. Means are kept as differences to the group's first value in memory, so that a large
mean beside a small variance costs nothing. A convolution that leaves the sets of its output, of a row of tiles and a
channel each, knows no such value: those are `Statistics`, with means as they are, rounded once, and are joined as
differences to the first of them.

Source: Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, The American Statistician 37.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array, blocks, vector
from ._math import ONE, ZERO, fma, larger, sqrt
from ._memory import empty
from ._numba import cuda, device, types
from ._pointwise import forward, unary
from ._rows import SUMS, THREADS, UNROLL, WALK, WIDEST, Rows, fold, load_or, place
from .launch import F32, INT, STORAGE, kernel
from .ptx import lanes, load, load_vector, reciprocal

GROUPS, LANES = 8, 32  # a block that joins what strips left: groups side by side, threads for each
_ROOM = THREADS * WIDEST
_AT_ONCE = 8 * LANES  # lots that a block joins, if there are many

Statistics = tuple[Array, Array, Array]  # counts, means and squares, each (lots, C): a set of each lot and channel


@device
def _join(n1, m1, q1, n2, m2, q2):
    n, by = n1 + n2, m2 - m1
    share = n2 * reciprocal(larger(n, ONE))
    return n, fma(by, share, m1), q1 + q2 + by * by * n1 * share


@device
def _fold_sets(count, mean, square, lots, width):
    """Join `lots` times `width` sets in shared memory into the first `width`."""
    while lots > 1:
        half = (lots + 1) >> 1
        for i in range(cuda.threadIdx.x, (lots - half) * width, THREADS):
            k = i + half * width
            count[i], mean[i], square[i] = _join(count[i], mean[i], square[i], count[k], mean[k], square[k])
        cuda.syncthreads()
        lots = half


@device
def _deviate(s, t, x, origin, n):
    """Add the n lanes' deviations and their squares."""
    for lane in range(n):
        d = x[lane] - origin[lane]
        s[lane] += d
        t[lane] = fma(d, d, t[lane])


@kernel(block=THREADS, x=STORAGE, counts=F32, means=F32, squares=F32, each=INT, held=INT, **WALK)
def _moments(x, counts, means, squares, each, held, size, width, columns, height, channels, aligned):
    """Each strip's sets, `held` of them; `each` channels make a group."""
    count = cuda.shared.array(_ROOM, types.float32)
    mean = cuda.shared.array(_ROOM, types.float32)
    square = cuda.shared.array(_ROOM, types.float32)
    vectors = cuda.local.array((UNROLL, WIDEST), types.float32)
    first = cuda.local.array(WIDEST, types.float32)
    s = cuda.local.array(WIDEST, types.float32)
    t = cuda.local.array(WIDEST, types.float32)
    n_lanes = lanes(x)
    sample, start, step, whole, end, column = place(0, n_lanes, size, width, columns, height, aligned)
    for lane in range(n_lanes):
        s[lane] = t[lane] = ZERO
    load_or(first, x, start, whole, end, s, n_lanes)
    i, full = start, 0
    while i + (UNROLL - 1) * step + n_lanes <= whole:
        for u in range(UNROLL):
            load_vector(vectors[u], x, i + u * step)
        for u in range(UNROLL):
            _deviate(s, t, vectors[u], first, n_lanes)
        i += UNROLL * step
        full += UNROLL
    while i < end:
        load_or(vectors[0], x, i, whole, end, first, n_lanes)
        _deviate(s, t, vectors[0], first, n_lanes)
        full += i + n_lanes <= end
        i += step
    span = columns * n_lanes
    lines = np.int32(np.uint32(THREADS) // np.uint32(columns))
    if cuda.threadIdx.x < lines * columns:
        c = np.int64(np.uint32(column) % np.uint32(channels))
        for lane in range(n_lanes):
            k = cuda.threadIdx.x * n_lanes + lane
            n = np.float32(full + (start + full * step + lane < end))
            m = s[lane] * reciprocal(larger(n, ONE))
            origin = load(x, sample * size + c - np.int64(np.uint32(c) % np.uint32(each)))
            count[k] = n
            mean[k] = first[lane] - origin + m if n > ZERO else ZERO
            square[k] = fma(-s[lane], m, t[lane])
            c = c + 1 if c + 1 < channels else 0
    cuda.syncthreads()
    kept = channels if cuda.gridDim.y == 1 else span
    _fold_sets(count, mean, square, np.int32(np.uint32(lines * span) // np.uint32(kept)), kept)
    strip = (sample * cuda.gridDim.z + cuda.blockIdx.z) * held
    for k in range(cuda.threadIdx.x, kept, THREADS):
        if cuda.blockIdx.y * kept + k < held:
            at = strip + cuda.blockIdx.y * kept + k
            counts[at], means[at], squares[at] = count[k], mean[k], square[k]


@device
def join_strips(count, mean, square, counts, means, squares, lot, lots, channels, each, absolute):
    """Join what the strips from `lot` on left of a block's groups: to the first GROUPS places of shared memory.

    The block's y says which groups these are. The means of `absolute` sets are joined as differences to the mean of the
    group's first one here.
    """
    group, entry = cuda.blockIdx.y * GROUPS + cuda.threadIdx.x % GROUPS, cuda.threadIdx.x // GROUPS
    entries = lots * each if group * each < channels else 0
    first = np.int64(lot) * channels + group * each
    origin = means[first] if absolute and entries > 0 else ZERO
    a = cuda.local.array((UNROLL, 3), types.float32)
    n, m, q = ZERO, ZERO, ZERO
    for e in range(entry, entries, UNROLL * LANES):
        for u in range(UNROLL):
            k = np.uint32(e + u * LANES)
            a[u, 0] = a[u, 1] = a[u, 2] = ZERO
            if k < np.uint32(entries):
                further = k // np.uint32(each)
                at = first + np.int64(further) * channels + np.int64(k - further * np.uint32(each))
                a[u, 0], a[u, 1], a[u, 2] = counts[at], means[at] - origin, squares[at]
        for u in range(UNROLL):
            n, m, q = _join(n, m, q, a[u, 0], a[u, 1], a[u, 2])
    count[cuda.threadIdx.x], mean[cuda.threadIdx.x], square[cuda.threadIdx.x] = n, m, q
    cuda.syncthreads()
    _fold_sets(count, mean, square, LANES, GROUPS)


def moments(x: Array, each: int = 1, samples: int = 1) -> tuple[Rows, tuple[Array, Array, Array]]:
    """The sets that strips of x (N, C, ...) leave, for `join_strips`; `each` channels make a group. Reads x once."""
    rows = fold(x, SUMS, samples)
    sets = tuple(empty(rows.sums) for _ in range(3))
    _moments(rows.grid, x, *sets, each, rows.held, *rows.walk)
    return rows, sets


def joining_grid(groups: int, samples: int = 1) -> tuple[int, int]:
    """The grid of a kernel that joins what strips left."""
    return samples, blocks(groups, GROUPS)


@kernel(block=THREADS, counts=F32, means=F32, squares=F32, lots=INT, channels=INT, joined_counts=F32, joined_means=F32,
        joined_squares=F32)
def _join_lots(counts, means, squares, lots, channels, joined_counts, joined_means, joined_squares):
    count = cuda.shared.array(THREADS, types.float32)
    mean = cuda.shared.array(THREADS, types.float32)
    square = cuda.shared.array(THREADS, types.float32)
    lot = cuda.blockIdx.x * _AT_ONCE
    join_strips(count, mean, square, counts, means, squares, lot, min(_AT_ONCE, lots - lot), channels, 1, 1)
    k, c = cuda.threadIdx.x, cuda.blockIdx.y * GROUPS + cuda.threadIdx.x
    if k < GROUPS and c < channels:
        at = np.int64(cuda.blockIdx.x) * channels + c
        joined_counts[at], joined_squares[at] = count[k], square[k]
        joined_means[at] = means[np.int64(lot) * channels + c] + mean[k]


def fewer(statistics: Statistics) -> Statistics:
    """The same statistics of no more lots than one block joins well: a large image has thousands of tiles."""
    lots, channels = statistics[0].shape
    if lots <= 2 * _AT_ONCE:
        return statistics
    joined = tuple(empty((blocks(lots, _AT_ONCE), channels)) for _ in range(3))
    _join_lots(joining_grid(channels, len(joined[0])), *statistics, lots, channels, *joined)
    return joined


@unary
def _inverse_deviation(var, eps, _):
    return reciprocal(sqrt(var + eps))


def inverse_deviation(var: Array, eps: float) -> Array:
    """1 / √(σ² + ε) as float32."""
    return forward(_inverse_deviation, vector(var), None, eps)
