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
from ._moments import GROUPS, LANES, join_strips, joining_grid, moments
from ._numba import cuda, device, types
from ._rows import SUMS, THREADS, UNROLL, WALK, WIDEST, fold, load_part, per_channel, place, store_part
from .launch import F32, FLOAT, INT, STORAGE, U8, Kernel, kernel
from .ptx import lanes, load, load_vector, reciprocal, store_vector

_WEIGHT, _BIAS, _MEAN, _VAR = 1, 2, 4, 8  # the vectors that are given, as bits
_ROOM, PAIR = THREADS * WIDEST, UNROLL // 2


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


@kernel(block=THREADS, x=STORAGE, counts=F32, means=F32, squares=F32, lots=INT, channels=INT, given=INT, weight=F32,
        bias=F32, running_mean=F32, running_var=F32, momentum=FLOAT, eps=FLOAT, coefficients=F32)
def _finish_statistics(x, counts, means, squares, lots, channels, given, weight, bias, running_mean, running_var,
                       momentum, eps, coefficients):
    count = cuda.shared.array(THREADS, types.float32)
    mean = cuda.shared.array(THREADS, types.float32)
    square = cuda.shared.array(THREADS, types.float32)
    join_strips(count, mean, square, counts, means, squares, lots, channels, 1)
    k, c = cuda.threadIdx.x, cuda.blockIdx.x * GROUPS + cuda.threadIdx.x
    if k < GROUPS and c < channels:
        origin = load(x, c) if lots > 0 else ZERO
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
    momentum: float, eps: float,
) -> Array:  # fmt: skip
    """The coefficients (4, C) from the batch's statistics; the running ones move. One pass over x."""
    rows, sets = moments(x)
    coefficients = empty((4, rows.channels))
    moving = vector(running_mean), vector(running_var)
    given = weight, bias, *moving
    _finish_statistics(joining_grid(rows.channels), x, *sets, rows.lots, rows.channels, _given(*given), vector(weight),
                       vector(bias), *moving, momentum, eps, coefficients)
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
def _add_products(s, t, dy, x, centre, n):
    for lane in range(n):
        s[lane] += dy[lane]
        t[lane] = fma(dy[lane], x[lane] - centre[lane], t[lane])


def _summing(masked: int, scaled: int) -> Kernel:
    """The kernel that leaves Σ dy and Σ dy (x - mean) of each strip and channel.

    `masked`: of the dy that the mask lets pass. `scaled`: on the way it writes dx = scale dy. There is a mean for each
    sample and group of `each` channels, a scale for each sample and channel.
    """

    def _sum_gradient(dy, x, mask, mean, scale, dx, sums, plane, each, held,
                      size, width, columns, height, channels, aligned):
        level = cuda.shared.array(_ROOM, types.float32)
        product = cuda.shared.array(_ROOM, types.float32)
        slopes = cuda.local.array((PAIR, WIDEST), types.float32)
        values = cuda.local.array((PAIR, WIDEST), types.float32)
        centre = cuda.local.array(WIDEST, types.float32)
        factor = cuda.local.array(WIDEST, types.float32)
        s = cuda.local.array(WIDEST, types.float32)
        t = cuda.local.array(WIDEST, types.float32)
        n = lanes(x)
        start, step, whole, end, column = place(0, n, size, width, columns, height, aligned)
        groups = np.int64(np.uint32(channels) // np.uint32(each))
        per_channel(centre, mean, cuda.blockIdx.x * groups, column, channels, each, n)
        if scaled:
            per_channel(factor, scale, np.int64(cuda.blockIdx.x) * channels, column, channels, 1, n)
        for lane in range(n):
            s[lane] = t[lane] = ZERO
        i = start
        while i + (PAIR - 1) * step + n <= whole:
            for u in range(PAIR):
                load_vector(slopes[u], dy, i + u * step)
                load_vector(values[u], x, i + u * step)
                if masked:
                    let_pass(slopes[u], mask, i + u * step, n)
            for u in range(PAIR):
                _add_products(s, t, slopes[u], values[u], centre, n)
                if scaled:
                    times(slopes[u], factor, n)
                    store_vector(dx, i + u * step, slopes[u])
            i += PAIR * step
        while i < end:
            load_part(slopes[0], dy, i, whole, end, n)
            load_part(values[0], x, i, whole, end, n)
            if masked:
                let_pass(slopes[0], mask, i, n)
            _add_products(s, t, slopes[0], values[0], centre, n)
            if scaled:
                times(slopes[0], factor, n)
                store_part(dx, i, slopes[0], whole, end, n)
            i += step
        span = columns * n
        lines = np.int32(np.uint32(THREADS) // np.uint32(columns))
        if cuda.threadIdx.x < lines * columns:
            for lane in range(n):
                level[cuda.threadIdx.x * n + lane], product[cuda.threadIdx.x * n + lane] = s[lane], t[lane]
        cuda.syncthreads()
        kept = channels if cuda.gridDim.y == 1 else span
        fold_sums(level, product, np.int32(np.uint32(lines * span) // np.uint32(kept)), kept)
        strip = (np.int64(cuda.blockIdx.x) * cuda.gridDim.z + cuda.blockIdx.z) * held
        for k in range(cuda.threadIdx.x, kept, THREADS):
            if cuda.blockIdx.y * kept + k < held:
                at = strip + cuda.blockIdx.y * kept + k
                sums[at], sums[plane + at] = level[k], product[k]

    return kernel(block=THREADS, dy=STORAGE, x=STORAGE, mask=U8, mean=F32, scale=F32, dx=STORAGE, sums=F32, plane=INT,
                  each=INT, held=INT, **WALK)(_sum_gradient)


_sum, _sum_passed, _sum_and_scale = _summing(0, 0), _summing(1, 0), _summing(0, 1)


@device
def fold_sums(level, product, lots, width):
    """Add `lots` times `width` pairs in shared memory to the first `width`."""
    while lots > 1:
        half = (lots + 1) >> 1
        for i in range(cuda.threadIdx.x, (lots - half) * width, THREADS):
            level[i] += level[i + half * width]
            product[i] += product[i + half * width]
        cuda.syncthreads()
        lots = half


@kernel(block=THREADS, sums=F32, plane=INT, lots=INT, channels=INT, given=INT, weight=F32, mean=F32, invstd=F32,
        share=FLOAT, dweight=F32, dbias=F32, coefficients=F32)
def _finish_gradients(sums, plane, lots, channels, given, weight, mean, invstd, share, dweight, dbias, coefficients):
    level = cuda.shared.array(THREADS, types.float32)
    product = cuda.shared.array(THREADS, types.float32)
    a = cuda.local.array((UNROLL, 2), types.float32)
    k, c = cuda.threadIdx.x, cuda.blockIdx.x * GROUPS + cuda.threadIdx.x % GROUPS
    s, t = ZERO, ZERO
    for lot in range(k // GROUPS, lots if c < channels else 0, UNROLL * LANES):
        for u in range(UNROLL):
            a[u, 0] = a[u, 1] = ZERO
            if lot + u * LANES < lots:
                at = np.int64(lot + u * LANES) * channels + c
                a[u, 0], a[u, 1] = sums[at], sums[plane + at]
        for u in range(UNROLL):
            s, t = s + a[u, 0], t + a[u, 1]
    level[k], product[k] = s, t
    cuda.syncthreads()
    fold_sums(level, product, LANES, GROUPS)
    if k < GROUPS and c < channels:
        scale = weight[c] * invstd[c] if given & _WEIGHT else invstd[c]
        dbias[c], dweight[c] = level[k], invstd[c] * product[k]
        coefficients[c] = mean[c]
        coefficients[channels + c] = scale
        coefficients[2 * channels + c] = -scale * level[k] * share
        coefficients[3 * channels + c] = -scale * invstd[c] * invstd[c] * product[k] * share


def gradients(
    dy: Array, x: Array, weight: Array | None, mean: Array, invstd: Array, *, mask: Array | None = None,
    scale: Array | None = None, dx: Array | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """(dγ, dβ, coefficients (4, C) for dx), of the dy that a mask lets pass; with `scale` dx is written on the way.

    One pass over dy and x.
    """
    rows, channels = fold(x, SUMS), x.shape[1]
    sums, dweight, dbias, coefficients = empty(2 * rows.sums), empty(channels), empty(channels), empty((4, channels))
    body = _sum_and_scale if scale is not None else _sum if mask is None else _sum_passed
    body(rows.grid, dy, x, mask, mean, scale, dx, sums, rows.sums, 1, rows.held, *rows.walk)
    _finish_gradients(blocks(channels, GROUPS), sums, rows.sums, rows.lots, channels, _given(weight), vector(weight),
                      mean, invstd, 1 / max(rows.pixels, 1), dweight, dbias, coefficients)
    return dweight, dbias, coefficients


@device
def gradient(dy, x, table, n):
    """dy becomes dx = scale dy + slope (x - centre) + shift for n lanes; the table's rows are the coefficients."""
    for lane in range(n):
        rest = fma(x[lane] - table[0, lane], table[3, lane], table[2, lane])
        dy[lane] = fma(dy[lane], table[1, lane], rest)
