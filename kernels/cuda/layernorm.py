"""Layer normalisation: a team of threads for each row, the values normalised together, which it holds in registers.

With m values x of a row, γ weight and β bias of their positions, and s = 1/√(σ² + ε):

    forward     y  = (x - μ) s γ + β                                            reads x, writes y
    backward    dx = s (γ dy - Σ γ dy / m - (x - μ) s² Σ γ dy (x - μ) / m)      reads dy and x, writes dx
                dβ = Σ dy,   dγ = Σ s dy (x - μ), over the rows                 reads dy and x

so forward spends 8 bytes an element of float32, backward 20. A team are 8 or 32 lanes of a warp, or a block; a thread
holds up to 32 values, and what a row has beyond that is read again, from a cache as a rule. The sums over rows are
taken as batch norm takes those over pixels, with the positions as channels (`_rows.py`).

Forward, the mean is taken of the deviations from the row's first value, the variance about that mean, and corrected by
the mean of the deviations from it, which should be 0. Backward corrects the rounded mean that it gets in the same way.

The normalised axes must be the innermost ones in memory, in any order: images normalised over (C, H, W) stay
channels-last. Arrays that lie otherwise are copied into C order. The derivation stands in
`kernels/reference/layernorm.py`. Statistics and the gradients of weight and bias have the dtype of the widest of x and
the vectors.
"""

from __future__ import annotations

import math

import numpy as np

from ._batchnorm import PAIR, ROOM, join_threads, totals
from ._layout import Array, blocks, contiguous, deliver, dense, empty_like, like, vector
from ._math import ONE, ZERO, fma, larger, sqrt
from ._memory import empty
from ._moments import inverse_deviation
from ._numba import cuda, device, types
from ._reduce import block_sum
from ._rows import SUMS, THREADS, WALK, WIDEST, fold, load_part, place, statistics_dtype, store_part
from .launch import F32, FLOAT, INT, LONG, STORAGE, Kernel, kernel
from .ptx import lanes, load, load_vector, reciprocal, shuffle_xor

Three = tuple[Array, Array, Array]

_HELD, _VECTORS = 32, 8  # values of a row in a thread's registers, and vectors at most
_TEAMS = 8, 32, THREADS
_WARPS = THREADS // 32


# ---------------------------------------------------------------- teams
@device
def _team_sum(value, shared, team):
    """The sum over a team, in each of its threads."""
    if team == THREADS:
        return block_sum(value, shared, _WARPS)
    if team == 32:
        value += shuffle_xor(value, 16)
        value += shuffle_xor(value, 8)
    value += shuffle_xor(value, 4)
    value += shuffle_xor(value, 2)
    value += shuffle_xor(value, 1)
    return value


@device
def _weights(w, weight, given, missing, position, m, aligned, n):
    """Weights of the n positions from `position` on, up to m."""
    for lane in range(n):
        w[lane >> 2, lane & 3] = missing
    if given:
        if aligned and position < m:
            load_vector(w[0], weight, position)
            if n == 8:
                load_vector(w[1], weight, position + 4)
        else:
            for lane in range(n):
                if position + lane < m:
                    w[lane >> 2, lane & 3] = weight[position + lane]


@device
def _deviations(x, centre, i, end, n):
    """Σ (x - centre) and Σ (x - centre)² of the lanes before the end."""
    s, t = ZERO, ZERO
    for lane in range(n):
        d = x[lane] - centre if i + lane < end else ZERO
        s, t = s + d, fma(d, d, t)
    return s, t


@device
def _normalise(x, w, b, centre, scale, shift, n):
    for lane in range(n):
        x[lane] = fma(fma(x[lane] - centre, scale, shift), w[lane >> 2, lane & 3], b[lane >> 2, lane & 3])


def _forward(team: int) -> Kernel:
    def _layer_norm(x, y, weighted, weight, biased, bias, mean, var, rows, m, aligned, share, eps):
        shared = cuda.shared.array(_WARPS, types.float32)
        held = cuda.local.array((_VECTORS, WIDEST), types.float32)
        w = cuda.local.array((2, 4), types.float32)
        b = cuda.local.array((2, 4), types.float32)
        n = lanes(x)
        lane = cuda.threadIdx.x % team
        row = np.int64(cuda.blockIdx.x) * (THREADS // team) + cuda.threadIdx.x // team
        first, start, step = row * m, row * m + lane * n, team * n
        end = first + m if row < rows else np.int64(0)
        whole = end if aligned else np.int64(0)
        beyond = start + _HELD // n * step
        origin = load(x, first) if row < rows else ZERO
        s = ZERO
        for k in range(_HELD // n):
            load_part(held[k], x, start + k * step, whole, end, n)
        for k in range(_HELD // n):
            s += _deviations(held[k], origin, start + k * step, end, n)[0]
        more = cuda.local.array(WIDEST, types.float32)
        for i in range(beyond, end, step):
            load_part(more, x, i, whole, end, n)
            s += _deviations(more, origin, i, end, n)[0]
        centre = origin + _team_sum(s, shared, team) * share
        s, t = ZERO, ZERO
        for k in range(_HELD // n):
            by, squares = _deviations(held[k], centre, start + k * step, end, n)
            s, t = s + by, t + squares
        for i in range(beyond, end, step):
            load_part(more, x, i, whole, end, n)
            by, squares = _deviations(more, centre, i, end, n)
            s, t = s + by, t + squares
        rest = _team_sum(s, shared, team) * share
        spread = larger(_team_sum(t, shared, team) * share - rest * rest, ZERO)
        if lane == 0 and row < rows:
            mean[row], var[row] = centre + rest, spread
        scale = reciprocal(sqrt(spread + eps))
        for k in range(_HELD // n):
            i = start + k * step
            if i < end:
                _weights(w, weight, weighted, ONE, i - first, m, aligned, n)
                _weights(b, bias, biased, ZERO, i - first, m, aligned, n)
                _normalise(held[k], w, b, centre, scale, -rest * scale, n)
                store_part(y, i, held[k], whole, end, n)
        for i in range(beyond, end, step):
            load_part(more, x, i, whole, end, n)
            _weights(w, weight, weighted, ONE, i - first, m, aligned, n)
            _weights(b, bias, biased, ZERO, i - first, m, aligned, n)
            _normalise(more, w, b, centre, scale, -rest * scale, n)
            store_part(y, i, more, whole, end, n)

    return kernel(block=THREADS, x=STORAGE, y=STORAGE, weighted=INT, weight=F32, biased=INT, bias=F32, mean=F32,
                  var=F32, rows=INT, m=LONG, aligned=INT, share=FLOAT, eps=FLOAT)(_layer_norm)


# ---------------------------------------------------------------- gradients
@device
def _products(dy, x, w, centre, i, end, n):
    """dy becomes g = γ dy, x becomes u = x - centre, 0 behind the end → Σ g, Σ g u, Σ u."""
    s, t, offset = ZERO, ZERO, ZERO
    for lane in range(n):
        dy[lane] *= w[lane >> 2, lane & 3]
        x[lane] = x[lane] - centre if i + lane < end else ZERO
        s, t, offset = s + dy[lane], fma(dy[lane], x[lane], t), offset + x[lane]
    return s, t, offset


@device
def _combine(g, u, scale, slope, shift, n):
    for lane in range(n):
        g[lane] = fma(g[lane], scale, fma(u[lane], slope, shift))


def _backward(team: int) -> Kernel:
    def _layer_norm_dx(dy, x, dx, weighted, weight, mean, invstd, exact, rows, m, aligned, share):
        shared = cuda.shared.array(_WARPS, types.float32)
        g = cuda.local.array((_VECTORS, WIDEST), types.float32)
        u = cuda.local.array((_VECTORS, WIDEST), types.float32)
        w = cuda.local.array((2, 4), types.float32)
        n = lanes(x)
        lane = cuda.threadIdx.x % team
        row = np.int64(cuda.blockIdx.x) * (THREADS // team) + cuda.threadIdx.x // team
        first, start, step = row * m, row * m + lane * n, team * n
        end = first + m if row < rows else np.int64(0)
        whole = end if aligned else np.int64(0)
        beyond = start + _HELD // n * step
        centre = mean[row] if row < rows else ZERO
        scale = invstd[row] if row < rows else ZERO
        level, product, offset = ZERO, ZERO, ZERO
        for k in range(_HELD // n):
            load_part(g[k], dy, start + k * step, whole, end, n)
            load_part(u[k], x, start + k * step, whole, end, n)
        for k in range(_HELD // n):
            _weights(w, weight, weighted, ONE, start + k * step - first, m, aligned, n)
            s, t, by = _products(g[k], u[k], w, centre, start + k * step, end, n)
            level, product, offset = level + s, product + t, offset + by
        more_g = cuda.local.array(WIDEST, types.float32)
        more_u = cuda.local.array(WIDEST, types.float32)
        for i in range(beyond, end, step):
            load_part(more_g, dy, i, whole, end, n)
            load_part(more_u, x, i, whole, end, n)
            _weights(w, weight, weighted, ONE, i - first, m, aligned, n)
            s, t, by = _products(more_g, more_u, w, centre, i, end, n)
            level, product, offset = level + s, product + t, offset + by
        level = _team_sum(level, shared, team) * share
        offset = _team_sum(offset, shared, team) * share
        product = _team_sum(product, shared, team) * share - offset * level
        if lane == 0 and row < rows:
            exact[row] = centre + offset
        slope = -scale * scale * scale * product
        shift = fma(-offset, slope, -scale * level)
        for k in range(_HELD // n):
            _combine(g[k], u[k], scale, slope, shift, n)
            store_part(dx, start + k * step, g[k], whole, end, n)
        for i in range(beyond, end, step):
            load_part(more_g, dy, i, whole, end, n)
            load_part(more_u, x, i, whole, end, n)
            _weights(w, weight, weighted, ONE, i - first, m, aligned, n)
            _products(more_g, more_u, w, centre, i, end, n)
            _combine(more_g, more_u, scale, slope, shift, n)
            store_part(dx, i, more_g, whole, end, n)

    return kernel(block=THREADS, blocks_per_sm=2, dy=STORAGE, x=STORAGE, dx=STORAGE, weighted=INT, weight=F32, mean=F32,
                  invstd=F32, exact=F32, rows=INT, m=LONG, aligned=INT, share=FLOAT)(_layer_norm_dx)


@device
def _add_normalised(s, t, dy, x, mean, invstd, row, column, m, single, i, end, n):
    """Add dy and dy x̂ of a vector at `column` of joined rows, of which the first is `row`; `single`: all of one row."""
    at = row + np.int64(np.uint32(column) // np.uint32(m))
    centre, scale = mean[at], invstd[at]
    for lane in range(n):
        if not single and i + lane < end:
            at = row + np.int64(np.uint32(column + lane) // np.uint32(m))
            centre, scale = mean[at], invstd[at]
        s[lane] += dy[lane]
        t[lane] = fma(dy[lane], (x[lane] - centre) * scale, t[lane])


@kernel(block=THREADS, dy=STORAGE, x=STORAGE, mean=F32, invstd=F32, sums=F32, plane=LONG, held=INT, single=INT, **WALK)
def _sum_rows(dy, x, mean, invstd, sums, plane, held, single, size, width, columns, height, channels, aligned):
    level = cuda.shared.array(ROOM, types.float32)
    product = cuda.shared.array(ROOM, types.float32)
    slopes = cuda.local.array((PAIR, WIDEST), types.float32)
    values = cuda.local.array((PAIR, WIDEST), types.float32)
    s = cuda.local.array(WIDEST, types.float32)
    t = cuda.local.array(WIDEST, types.float32)
    n = lanes(x)
    _, i, step, whole, end, column = place(0, n, size, width, columns, height, aligned)
    joined = np.int64(np.uint32(width) // np.uint32(channels))
    lines = np.int64(np.uint32(THREADS) // np.uint32(columns))
    line = np.int64(np.uint32(cuda.threadIdx.x) // np.uint32(columns))
    row = (np.int64(cuda.blockIdx.z) * lines * height + line) * joined
    for lane in range(n):
        s[lane] = t[lane] = ZERO
    while i + (PAIR - 1) * step + n <= whole:
        for u in range(PAIR):
            load_vector(slopes[u], dy, i + u * step)
            load_vector(values[u], x, i + u * step)
        for u in range(PAIR):
            _add_normalised(s, t, slopes[u], values[u], mean, invstd, row + u * lines * joined, column, channels,
                            single, i + u * step, end, n)
        i += PAIR * step
        row += PAIR * lines * joined
    while i < end:
        load_part(slopes[0], dy, i, whole, end, n)
        load_part(values[0], x, i, whole, end, n)
        _add_normalised(s, t, slopes[0], values[0], mean, invstd, row, column, channels, single, i, end, n)
        i += step
        row += lines * joined
    kept = join_threads(level, product, level, 0, s, t, t, columns, channels, n)
    strip = np.int64(cuda.blockIdx.z) * held
    for k in range(cuda.threadIdx.x, kept, THREADS):
        entry = cuda.blockIdx.y * kept + k
        if entry < held:
            sums[strip + entry], sums[plane + strip + entry] = level[k], product[k]


# ---------------------------------------------------------------- memory
_FORWARD, _BACKWARD = {team: _forward(team) for team in _TEAMS}, {team: _backward(team) for team in _TEAMS}


def _team(m: int) -> int:
    """How many threads share a row of m values."""
    return next((team for team in _TEAMS if m <= team * _HELD), THREADS)


def _innermost(x: Array, leading: int) -> tuple[Array, tuple[int, ...]]:
    """x, or a copy, in whose memory the leading axes come first; and the order there of the normalised ones."""
    behind = sorted(range(leading, x.ndim), key=lambda axis: -x.strides[axis])
    if x.transpose((*range(leading), *behind)).flags.c_contiguous:
        return dense(x), tuple(axis - leading for axis in behind)
    return contiguous(x), tuple(range(x.ndim - leading))


def _in_order(v: Array | None, order: tuple[int, ...]) -> Array | None:
    """Weights or biases in the order in which the values lie in memory."""
    return None if v is None else vector(v.transpose(order))


def layer_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    out: Three | None = None,
) -> Three:
    """Normalise → (y, μ, σ²), the statistics being what the backward needs: their shape is that of the axes before.

    8 bytes an element.
    """
    y_out, mean_out, var_out = out or (None, None, None)
    m, leading = math.prod(normalized_shape), x.ndim - len(normalized_shape)
    dtype = statistics_dtype(x, weight, bias)
    x, order = _innermost(x, leading)
    y, mean, var = empty_like(x), *(empty(x.shape[:leading]) for _ in range(2))
    if x.size:
        team, n = _team(m), 16 // x.itemsize
        _FORWARD[team](blocks(mean.size, THREADS // team), x, y, weight is not None, _in_order(weight, order),
                       bias is not None, _in_order(bias, order), mean, var, mean.size, m, m % n == 0, 1 / m, eps)
    else:
        mean[...] = var[...] = 0
    mean, var = mean.astype(dtype, copy=False), var.astype(dtype, copy=False)
    return deliver(y, y_out), deliver(mean, mean_out), deliver(var, var_out)


def layer_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    var: Array,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    out: Three | None = None,
) -> Three:
    """Gradients (dx, dγ, dβ) with `mean` and `var` from `layer_norm`. 20 bytes an element."""
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    m, dtype = math.prod(normalized_shape), statistics_dtype(x, weight, mean)
    x, order = _innermost(x, mean.ndim)
    dy, dx = like(dy, x), empty_like(x)
    dweight, dbias = empty((1, m)), empty((1, m))
    if x.size:
        invstd, exact = inverse_deviation(var, eps), empty(mean.size)
        team, n = _team(m), 16 // x.itemsize
        _BACKWARD[team](blocks(mean.size, THREADS // team), dy, x, dx, weight is not None, _in_order(weight, order),
                        vector(mean), invstd, exact, mean.size, m, m % n == 0, 1 / m)
        rows = fold(x, SUMS, channels=m)
        sums = empty(2 * rows.sums)
        _sum_rows(rows.grid, dy, x, exact, invstd, sums, rows.sums, rows.held, m % n == 0, *rows.walk)
        dbias, dweight = totals(rows, sums)
    else:
        dweight[...] = dbias[...] = 0
    dweight, dbias = (_in_shape(v.astype(dtype, copy=False), normalized_shape, order) for v in (dweight, dbias))
    return deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out)


def _in_shape(v: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """A vector in memory's order as an array of the normalised shape."""
    return v.reshape([shape[axis] for axis in order]).transpose(np.argsort(order).tolist())
