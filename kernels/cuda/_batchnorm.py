"""What batch norm and batch norm with ReLU share: statistics, sums for the gradients, and coefficients of channels.

Each is one pass over memory, and a small kernel that joins what the strips of it left (`_rows.py`, `_moments.py`). It
leaves rows of coefficients (C,) for the pass that writes the result:

    forward     y  = scale (x - centre) + shift                       rows: centre, scale, shift, 1/√(σ² + ε)
    backward    dx = scale dy + slope (x - centre) + shift            rows: centre, scale, shift, slope

`centre` is the mean rounded to float32, and `shift` makes up for what rounding took. The form is that of y = a x + b,
with the subtraction first, that a large mean does not cost digits.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array, blocks, vector
from ._math import ONE, ZERO, fma, larger, sqrt
from ._memory import empty
from ._moments import GROUPS, LANES, Statistics, fewer, join_strips, joining_grid, moments
from ._numba import cuda, device, types
from ._rows import SUMS, THREADS, UNROLL, WALK, WIDEST, Rows, fold, load_or, load_part, per_channel, place, store_part
from .launch import F32, FLOAT, INT, LONG, STORAGE, U8, Kernel, kernel
from .ptx import lanes, load, load_vector, reciprocal, store_vector

_WEIGHT, _BIAS, _MEAN, _VAR = 1, 2, 4, 8  # the vectors that are given, as bits
ROOM, PAIR = THREADS * WIDEST, UNROLL // 2


def _given(*vectors: Array | None) -> int:
    return sum(1 << bit for bit, values in enumerate(vectors) if values is not None)


# ---------------------------------------------------------------- forward
@device
def _affine(coefficients, c, channels, given, weight, bias, centre, rest, invstd):
    """The coefficients for a mean of centre + rest."""
    scale = weight[c] * invstd if given & _WEIGHT else invstd
    shift = bias[c] if given & _BIAS else ZERO
    coefficients[c] = centre
    coefficients[channels + c] = scale
    coefficients[2 * channels + c] = fma(-rest, scale, shift)
    coefficients[3 * channels + c] = invstd


@kernel(block=THREADS, x=STORAGE, counts=F32, means=F32, squares=F32, lots=INT, channels=INT, absolute=INT, given=INT,
        weight=F32, bias=F32, running_mean=F32, running_var=F32, momentum=FLOAT, eps=FLOAT, coefficients=F32)
def _finish_statistics(x, counts, means, squares, lots, channels, absolute, given, weight, bias, running_mean,
                       running_var, momentum, eps, coefficients):
    count = cuda.shared.array(THREADS, types.float32)
    mean = cuda.shared.array(THREADS, types.float32)
    square = cuda.shared.array(THREADS, types.float32)
    join_strips(count, mean, square, counts, means, squares, 0, lots, channels, 1, absolute)
    k, c = cuda.threadIdx.x, cuda.blockIdx.y * GROUPS + cuda.threadIdx.x
    if k < GROUPS and c < channels:
        origin = ZERO
        if lots > 0:
            origin = means[c] if absolute else load(x, c)
        centre, n = origin + mean[k], larger(count[k], ONE)
        var = larger(square[k] * reciprocal(n), ZERO)
        _affine(coefficients, c, channels, given, weight, bias, centre, mean[k] - (centre - origin),
                reciprocal(sqrt(var + eps)))
        if lots > 0:
            if given & _MEAN:
                running_mean[c] += momentum * (centre - running_mean[c])
            if given & _VAR:
                unbiased = var * n * reciprocal(larger(n - ONE, ONE))
                running_var[c] += momentum * (unbiased - running_var[c])


@kernel(block=THREADS, channels=INT, given=INT, weight=F32, bias=F32, mean=F32, var=F32, eps=FLOAT, coefficients=F32)
def _use_running(channels, given, weight, bias, mean, var, eps, coefficients):
    c = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if c < channels:
        invstd = reciprocal(sqrt(var[c] + eps))
        _affine(coefficients, c, channels, given, weight, bias, mean[c], ZERO, invstd)


def batch_statistics(
    x: Array, weight: Array | None, bias: Array | None, running_mean: Array | None, running_var: Array | None, *,
    momentum: float, eps: float, statistics: Statistics | None = None,
) -> Array:  # fmt: skip
    """The coefficients (4, C) from the batch's statistics; the running ones move. One pass over x if none are given."""
    if statistics is None:
        rows, sets = moments(x)
        lots = rows.lots
    else:
        sets = fewer(statistics)
        lots = len(sets[0])
    channels = x.shape[1]
    coefficients = empty((4, channels))
    moving = vector(running_mean), vector(running_var)
    given = weight, bias, *moving
    _finish_statistics(joining_grid(channels), x, *sets, lots, channels, statistics is not None, _given(*given),
                       vector(weight), vector(bias), *moving, momentum, eps, coefficients)
    for new, running in zip(moving, (running_mean, running_var)):
        if new is not running:
            running[...] = new
    return coefficients


def running_statistics(
    weight: Array | None, bias: Array | None, running_mean: Array, running_var: Array, *, eps: float
) -> Array:
    """The coefficients (4, C) from running statistics."""
    channels = running_mean.size
    coefficients = empty((4, channels))
    _use_running(blocks(channels, THREADS), channels, _given(weight, bias), vector(weight), vector(bias),
                 vector(running_mean), vector(running_var), eps, coefficients)
    return coefficients


@device
def normalise(x, table, n):
    """x becomes scale (x - centre) + shift for n lanes; the table's rows are these coefficients of the lanes."""
    for lane in range(n):
        x[lane] = fma(x[lane] - table[0, lane], table[1, lane], table[2, lane])


# ---------------------------------------------------------------- gradients
@device
def vector_number(i, n):
    """Which vector of n lanes, 4 or 8, begins at element i."""
    return i >> 2 if n == 4 else i >> 3


@device
def let_pass(dy, mask, i, n):
    """Zeros for the lanes of dy that ReLU blocked: the mask has a byte for each vector, a bit for each lane."""
    passed = np.uint32(mask[vector_number(i, n)])
    for lane in range(n):
        dy[lane] = dy[lane] if passed & np.uint32(1 << lane) else ZERO


@device
def times(x, factor, n):
    """x becomes factor x for n lanes."""
    for lane in range(n):
        x[lane] *= factor[lane]


@device
def _add_products(s, t, o, dy, x, centre, n):
    for lane in range(n):
        d = x[lane] - centre[lane]
        s[lane] += dy[lane]
        t[lane] = fma(dy[lane], d, t[lane])
        o[lane] += d


@device
def _fold_sums(level, product, offset, three, lots, width):
    """Add `lots` times `width` sums, two or three, in shared memory to the first `width`."""
    while lots > 1:
        half = (lots + 1) >> 1
        for i in range(cuda.threadIdx.x, (lots - half) * width, THREADS):
            level[i] += level[i + half * width]
            product[i] += product[i + half * width]
            if three:
                offset[i] += offset[i + half * width]
        cuda.syncthreads()
        lots = half


@device
def join_threads(level, product, offset, three, s, t, o, columns, channels, n):
    """Add up the threads' sums of n lanes: for each channel, or, if the block is part of a row, each element of it.

    → how many these are, the first ones in shared memory.
    """
    lines, span = np.int32(np.uint32(THREADS) // np.uint32(columns)), columns * n
    if cuda.threadIdx.x < lines * columns:
        for lane in range(n):
            k = cuda.threadIdx.x * n + lane
            level[k], product[k] = s[lane], t[lane]
            if three:
                offset[k] = o[lane]
    cuda.syncthreads()
    kept = channels if cuda.gridDim.y == 1 else span
    _fold_sums(level, product, offset, three, np.int32(np.uint32(lines * span) // np.uint32(kept)), kept)
    return kept


def _summing(centred: int, masked: int, scaled: int) -> Kernel:
    """The kernel that leaves sums of each strip and channel: Σ dy, Σ dy (x - mean) invstd and Σ (x - mean).

    There are a mean and an invstd for each sample and group of `each` channels; without `centred` it is Σ dy x.
    `masked`: of the dy that the mask lets pass. `scaled`: on the way it writes dx = scale dy, with a scale for each
    sample and channel, and leaves the third sum out, by which others make up for the mean's rounding.
    """

    def _sum_gradient(dy, x, mask, mean, invstd, scale, dx, sums, plane, each, held,
                      size, width, columns, height, channels, aligned):
        level = cuda.shared.array(ROOM, types.float32)
        product = cuda.shared.array(ROOM, types.float32)
        offset = cuda.shared.array(1 if scaled else ROOM, types.float32)
        slopes = cuda.local.array((PAIR, WIDEST), types.float32)
        values = cuda.local.array((PAIR, WIDEST), types.float32)
        centre = cuda.local.array(WIDEST, types.float32)
        factor = cuda.local.array(WIDEST, types.float32)
        s = cuda.local.array(WIDEST, types.float32)
        t = cuda.local.array(WIDEST, types.float32)
        o = cuda.local.array(WIDEST, types.float32)
        n = lanes(x)
        sample, start, step, whole, end, column = place(0, n, size, width, columns, height, aligned)
        groups = np.int64(np.uint32(channels) // np.uint32(each))
        for lane in range(n):
            s[lane] = t[lane] = o[lane] = centre[lane] = ZERO
        if centred:
            per_channel(centre, mean, sample * groups, column, channels, each, n)
        if scaled:
            per_channel(factor, scale, sample * channels, column, channels, 1, n)
        i = start
        while i + (PAIR - 1) * step + n <= whole:
            for u in range(PAIR):
                load_vector(slopes[u], dy, i + u * step)
                load_vector(values[u], x, i + u * step)
                if masked:
                    let_pass(slopes[u], mask, i + u * step, n)
            for u in range(PAIR):
                _add_products(s, t, o, slopes[u], values[u], centre, n)
                if scaled:
                    times(slopes[u], factor, n)
                    store_vector(dx, i + u * step, slopes[u])
            i += PAIR * step
        while i < end:
            load_part(slopes[0], dy, i, whole, end, n)
            load_or(values[0], x, i, whole, end, centre, n)
            if masked:
                let_pass(slopes[0], mask, i, n)
            _add_products(s, t, o, slopes[0], values[0], centre, n)
            if scaled:
                times(slopes[0], factor, n)
                store_part(dx, i, slopes[0], whole, end, n)
            i += step
        kept = join_threads(level, product, offset, not scaled, s, t, o, columns, channels, n)
        strip = (sample * cuda.gridDim.z + cuda.blockIdx.z) * held
        for k in range(cuda.threadIdx.x, kept, THREADS):
            entry = cuda.blockIdx.y * kept + k
            if entry < held:
                group = np.uint32(entry) % np.uint32(channels) // np.uint32(each)
                sums[strip + entry] = level[k]
                spread = invstd[sample * groups + np.int64(group)] if centred else ONE
                sums[plane + strip + entry] = product[k] * spread
                if not scaled:
                    sums[2 * plane + strip + entry] = offset[k]

    return kernel(block=THREADS, dy=STORAGE, x=STORAGE, mask=U8, mean=F32, invstd=F32, scale=F32, dx=STORAGE, sums=F32,
                  plane=LONG, each=INT, held=INT, **WALK)(_sum_gradient)


_sum, _sum_passed, _sum_and_scale = _summing(1, 0, 0), _summing(1, 1, 0), _summing(1, 0, 1)
_sum_and_scale_about_0 = _summing(0, 0, 1)


def sum_strips(
    dy: Array, x: Array, mean: Array | None, invstd: Array | None, *, mask: Array | None = None,
    scale: Array | None = None, dx: Array | None = None, each: int = 1, samples: int = 1,
) -> tuple[Rows, Array]:  # fmt: skip
    """The sums of dy, dy x̂ and x - mean that strips leave, for `add_strips`; of the dy that a mask lets pass.

    With `scale` dx = scale dy is written on the way, and there is no third sum; without `mean` the products are dy x.
    One pass over dy and x.
    """
    rows = fold(x, SUMS, samples)
    sums = empty((3 if scale is None else 2) * rows.sums)
    body = _sum if mask is None else _sum_passed
    if scale is not None:
        body = _sum_and_scale_about_0 if mean is None else _sum_and_scale
    body(rows.grid, dy, x, mask, mean, invstd, scale, dx, sums, rows.sums, each, rows.held, *rows.walk)
    return rows, sums


@device
def add_strips(level, product, offset, three, sums, plane, lots, channels, each, weighted, weight):
    """Add up what the strips left of a block's groups, two or three sums, to the first GROUPS places of shared memory.

    The first two may have a weight for each channel. The block's x is the sample, its y says which groups these are.
    """
    group, entry = cuda.blockIdx.y * GROUPS + cuda.threadIdx.x % GROUPS, cuda.threadIdx.x // GROUPS
    entries = lots * each if group * each < channels else 0
    first = np.int64(cuda.blockIdx.x) * lots * channels + group * each
    a = cuda.local.array((UNROLL, 3), types.float32)
    s, t, o = ZERO, ZERO, ZERO
    for e in range(entry, entries, UNROLL * LANES):
        for u in range(UNROLL):
            k = np.uint32(e + u * LANES)
            a[u, 0] = a[u, 1] = a[u, 2] = ZERO
            if k < np.uint32(entries):
                lot = np.int64(k // np.uint32(each))
                c = np.int64(k) - lot * each
                factor = weight[group * each + c] if weighted else ONE
                at = first + lot * channels + c
                a[u, 0], a[u, 1] = factor * sums[at], factor * sums[plane + at]
                if three:
                    a[u, 2] = sums[2 * plane + at]
        for u in range(UNROLL):
            s, t, o = s + a[u, 0], t + a[u, 1], o + a[u, 2]
    join_entries(level, product, offset, three, s, t, o)


@device
def join_entries(level, product, offset, three, s, t, o):
    """Add up the sums of threads that lie GROUPS apart, to the first GROUPS places of shared memory."""
    level[cuda.threadIdx.x], product[cuda.threadIdx.x] = s, t
    if three:
        offset[cuda.threadIdx.x] = o
    cuda.syncthreads()
    _fold_sums(level, product, offset, three, LANES, GROUPS)


@kernel(block=THREADS, sums=F32, plane=LONG, lots=INT, channels=INT, levels=F32, products=F32)
def _totals(sums, plane, lots, channels, levels, products):
    level = cuda.shared.array(THREADS, types.float32)
    product = cuda.shared.array(THREADS, types.float32)
    add_strips(level, product, level, 0, sums, plane, lots, channels, 1, 0, sums)
    k, c = cuda.threadIdx.x, cuda.blockIdx.y * GROUPS + cuda.threadIdx.x
    if k < GROUPS and c < channels:
        at = np.int64(cuda.blockIdx.x) * channels + c
        levels[at], products[at] = level[k], product[k]


def totals(rows: Rows, sums: Array, samples: int = 1) -> tuple[Array, Array]:
    """What strips left, added up for each channel, of each sample or of all together: two arrays (samples, C)."""
    lots = rows.lots if samples == rows.samples else rows.lots * rows.samples
    if lots == 1:
        return tuple(plane.reshape(samples, rows.channels) for plane in sums.reshape(-1, rows.sums)[:2])
    levels, products = empty((samples, rows.channels)), empty((samples, rows.channels))
    _totals(joining_grid(rows.channels, samples), sums, rows.sums, lots, rows.channels, levels, products)
    return levels, products


@kernel(block=THREADS, sums=F32, plane=LONG, lots=INT, channels=INT, given=INT, weight=F32, mean=F32, invstd=F32,
        share=FLOAT, dweight=F32, dbias=F32, coefficients=F32)
def _finish_gradients(sums, plane, lots, channels, given, weight, mean, invstd, share, dweight, dbias, coefficients):
    level = cuda.shared.array(THREADS, types.float32)
    product = cuda.shared.array(THREADS, types.float32)
    offset = cuda.shared.array(THREADS, types.float32)
    add_strips(level, product, offset, 1, sums, plane, lots, channels, 1, 0, weight)
    k, c = cuda.threadIdx.x, cuda.blockIdx.y * GROUPS + cuda.threadIdx.x
    if k < GROUPS and c < channels:
        scale = weight[c] * invstd[c] if given & _WEIGHT else invstd[c]
        rest = offset[k] * share
        slopes = fma(-rest * invstd[c], level[k], product[k])
        dbias[c], dweight[c] = level[k], slopes
        slope = -scale * invstd[c] * slopes * share
        coefficients[c] = mean[c]
        coefficients[channels + c] = scale
        coefficients[2 * channels + c] = fma(-scale, level[k] * share, -rest * slope)
        coefficients[3 * channels + c] = slope


def gradients(
    dy: Array, x: Array, weight: Array | None, mean: Array, invstd: Array, mask: Array | None = None
) -> tuple[Array, Array, Array]:
    """(dγ, dβ, coefficients (4, C) for dx), of the dy that a mask lets pass. One pass over dy and x."""
    rows, sums = sum_strips(dy, x, mean, invstd, mask=mask)
    channels = rows.channels
    dweight, dbias, coefficients = empty(channels), empty(channels), empty((4, channels))
    _finish_gradients(joining_grid(channels), sums, rows.sums, rows.lots, channels, _given(weight), vector(weight),
                      mean, invstd, 1 / max(rows.pixels, 1), dweight, dbias, coefficients)
    return dweight, dbias, coefficients


@device
def gradient(dy, x, table, n):
    """dy becomes dx = scale dy + slope (x - centre) + shift for n lanes; the table's rows are the coefficients."""
    for lane in range(n):
        rest = fma(x[lane] - table[0, lane], table[3, lane], table[2, lane])
        dy[lane] = fma(dy[lane], table[1, lane], rest)
