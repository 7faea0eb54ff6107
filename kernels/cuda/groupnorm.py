"""Group and instance normalisation: what batch norm does, with each sample's groups of channels in the batch's place.

With m values x of a group in a sample, γ weight and β bias of their channels, and s = 1/√(σ² + ε):

    forward     y  = (x - μ) γ s + β                                            reads x twice, writes y
    backward    dβ = Σ dy,   dγ = Σ s dy (x - μ)                                reads dy and x twice, writes dx
                dx = s (γ dy - Σ γ dy / m - (x - μ) s² Σ γ dy (x - μ) / m)

Samples are cut into strips like the batch (`_rows.py`), so that few large ones fill the GPU as well as many small ones:
12 bytes an element of float32 forward and 20 backward, less where the L2 cache still holds what the second pass reads.
The derivation stands in `kernels/reference/groupnorm.py`.

Statistics and the gradients of weight and bias have the dtype of the widest of x and the vectors.
"""

from __future__ import annotations

import numpy as np

from ._batchnorm import add_strips, join_entries, sum_strips
from ._layout import Array, blocks, channels_last, deliver, vector
from ._math import ONE, ZERO, fma, larger, sqrt
from ._memory import empty
from ._moments import GROUPS, LANES, inverse_deviation, join_strips, joining_grid, moments
from ._numba import cuda, types
from ._rows import THREADS, UNROLL, statistics_dtype
from .batchnorm import apply, apply_gradient
from .launch import F32, FLOAT, INT, LONG, STORAGE, kernel
from .ptx import load, reciprocal

Three = tuple[Array, Array, Array]


@kernel(block=THREADS, x=STORAGE, size=LONG, counts=F32, means=F32, squares=F32, lots=INT, channels=INT, each=INT,
        weighted=INT, weight=F32, biased=INT, bias=F32, eps=FLOAT, mean=F32, var=F32, coefficients=F32)
def _finish_statistics(x, size, counts, means, squares, lots, channels, each, weighted, weight, biased, bias, eps,
                       mean, var, coefficients):
    count = cuda.shared.array(THREADS, types.float32)
    offset = cuda.shared.array(THREADS, types.float32)
    square = cuda.shared.array(THREADS, types.float32)
    join_strips(count, offset, square, counts, means, squares, cuda.blockIdx.x * lots, lots, channels, each, 0)
    k = cuda.threadIdx.x % GROUPS
    sample, group = np.int64(cuda.blockIdx.x), cuda.blockIdx.y * GROUPS + k
    if group * each < channels:
        origin = load(x, sample * size + group * each) if lots > 0 else ZERO
        centre = origin + offset[k]
        rest = offset[k] - (centre - origin)
        spread = larger(square[k] * reciprocal(larger(count[k], ONE)), ZERO)
        invstd = reciprocal(sqrt(spread + eps))
        if cuda.threadIdx.x < GROUPS:
            at = sample * np.int64(np.uint32(channels) // np.uint32(each)) + group
            mean[at], var[at] = centre, spread
        plane = np.int64(cuda.gridDim.x) * channels
        for c in range(group * each + cuda.threadIdx.x // GROUPS, (group + 1) * each, LANES):
            scale = weight[c] * invstd if weighted else invstd
            at = sample * channels + c
            coefficients[at] = centre
            coefficients[plane + at] = scale
            coefficients[2 * plane + at] = fma(-rest, scale, bias[c] if biased else ZERO)


@kernel(block=THREADS, sums=F32, plane=LONG, lots=INT, channels=INT, each=INT, weighted=INT, weight=F32, mean=F32,
        invstd=F32, share=FLOAT, rest=F32, coefficients=F32)
def _finish_gradients(sums, plane, lots, channels, each, weighted, weight, mean, invstd, share, rest, coefficients):
    level = cuda.shared.array(THREADS, types.float32)
    product = cuda.shared.array(THREADS, types.float32)
    offset = cuda.shared.array(THREADS, types.float32)
    add_strips(level, product, offset, 1, sums, plane, lots, channels, each, weighted, weight)
    k = cuda.threadIdx.x % GROUPS
    sample, group = np.int64(cuda.blockIdx.x), cuda.blockIdx.y * GROUPS + k
    if group * each < channels:
        at = sample * np.int64(np.uint32(channels) // np.uint32(each)) + group
        centre, spread, by = mean[at], invstd[at], offset[k] * share
        slope = -spread * spread * fma(-by * spread, level[k], product[k]) * share
        shift = fma(-spread, level[k] * share, -by * slope)
        if cuda.threadIdx.x < GROUPS:
            rest[at] = by * spread
        samples = np.int64(cuda.gridDim.x) * channels
        for c in range(group * each + cuda.threadIdx.x // GROUPS, (group + 1) * each, LANES):
            at = sample * channels + c
            coefficients[at] = centre
            coefficients[samples + at] = weight[c] * spread if weighted else spread
            coefficients[2 * samples + at] = shift
            coefficients[3 * samples + at] = slope


@kernel(block=THREADS, sums=F32, plane=LONG, samples=INT, lots=INT, channels=INT, each=INT, rest=F32, dweight=F32,
        dbias=F32)
def _sum_samples(sums, plane, samples, lots, channels, each, rest, dweight, dbias):
    """dγ and dβ; `rest`, of each sample and group, is the x̂ of what is missing from its mean."""
    level = cuda.shared.array(THREADS, types.float32)
    product = cuda.shared.array(THREADS, types.float32)
    a = cuda.local.array((UNROLL, 2), types.float32)
    k = cuda.threadIdx.x
    c, groups = cuda.blockIdx.x * GROUPS + k % GROUPS, np.int64(np.uint32(channels) // np.uint32(each))
    group = np.int64(np.uint32(c) // np.uint32(each))
    entries = samples * lots if c < channels else 0
    s, t = ZERO, ZERO
    for e in range(k // GROUPS, entries, UNROLL * LANES):
        for u in range(UNROLL):
            entry = np.uint32(e + u * LANES)
            a[u, 0] = a[u, 1] = ZERO
            if entry < np.uint32(entries):
                at = np.int64(entry) * channels + c
                by = rest[np.int64(entry // np.uint32(lots)) * groups + group]
                a[u, 0], a[u, 1] = sums[at], fma(-by, sums[at], sums[plane + at])
        for u in range(UNROLL):
            s, t = s + a[u, 0], t + a[u, 1]
    join_entries(level, product, level, 0, s, t, ZERO)
    if k < GROUPS and c < channels:
        dbias[c], dweight[c] = level[k], product[k]


def group_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    num_groups: int,
    eps: float,
    out: Three | None = None,
) -> Three:
    """Normalise → (y, μ, σ²), the statistics (N, num_groups) being what the backward needs. 12 bytes an element."""
    y_out, mean_out, var_out = out or (None, None, None)
    x, dtype = channels_last(x), statistics_dtype(x, weight, bias)
    samples, channels = x.shape[:2]
    each = channels // num_groups
    rows, sets = moments(x, each, samples)
    mean, var, coefficients = empty((samples, num_groups)), empty((samples, num_groups)), empty((3, samples, channels))
    _finish_statistics(joining_grid(num_groups, samples), x, rows.pixels * channels, *sets, rows.lots, channels, each,
                       weight is not None, vector(weight), bias is not None, vector(bias), eps, mean, var, coefficients)
    mean, var = mean.astype(dtype, copy=False), var.astype(dtype, copy=False)
    return deliver(apply(x, coefficients, samples), y_out), deliver(mean, mean_out), deliver(var, var_out)


def group_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    var: Array,
    *,
    num_groups: int,
    eps: float,
    out: Three | None = None,
) -> Three:
    """Gradients (dx, dγ, dβ) with `mean` and `var` from `group_norm`. 20 bytes an element."""
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    dy, x, dtype = channels_last(dy), channels_last(x), statistics_dtype(x, weight, mean)
    samples, channels = x.shape[:2]
    each = channels // num_groups
    mean, invstd = vector(mean), inverse_deviation(var, eps)
    rows, sums = sum_strips(dy, x, mean, invstd, each=each, samples=samples)
    coefficients, rest = empty((4, samples, channels)), empty((samples, num_groups))
    _finish_gradients(joining_grid(num_groups, samples), sums, rows.sums, rows.lots, channels, each, weight is not None,
                      vector(weight), mean, invstd, 1 / max(rows.pixels * each, 1), rest, coefficients)
    dx, dweight, dbias = apply_gradient(dy, x, coefficients, samples), empty(channels), empty(channels)
    _sum_samples(blocks(channels, GROUPS), sums, rows.sums, samples, rows.lots, channels, each, rest, dweight, dbias)
    dweight, dbias = dweight.astype(dtype, copy=False), dbias.astype(dtype, copy=False)
    return deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out)
