"""Batch normalisation: one pass over memory for the sums, one for the result.

With N values x of a channel, γ weight and β bias, and s = 1/√(σ² + ε):

    forward     y  = (x - μ) γ s + β                                                reads x twice, writes y
    backward    dβ = Σ dy,   dγ = s Σ dy (x - μ)                                    reads dy and x twice, writes dx
                dx = γ s (dy - dβ/N - (x - μ) s dγ/N)           γ s dy if μ and s are constants: one pass

so training spends 12 bytes an element of float32 forward and 20 backward, inference 8 and 12. The second pass begins
where the first one ended: what the L2 cache still holds need not come from memory again. Derivations and sources stand
in `kernels/reference/batchnorm.py`, the passes for the sums in `_batchnorm.py`, how memory is walked in `_rows.py`.

Statistics and the gradients of weight and bias have the dtype of the widest of x and the vectors.
"""

from __future__ import annotations

from typing import Any

from ._batchnorm import PAIR, batch_statistics, gradient, gradients, normalise, running_statistics, sum_strips, totals
from ._layout import Array, channels_last, deliver, empty_like_image, vector
from ._moments import Statistics
from ._numba import cuda, types
from ._rows import (
    APPLY,
    THREADS,
    UNROLL,
    WALK,
    WIDEST,
    fold,
    load_part,
    per_channel,
    place,
    statistics_dtype,
    store_part,
)  # fmt: skip
from .launch import F32, STORAGE, kernel
from .ptx import lanes, load_vector, store_vector

Three = tuple[Array, Array, Array]


@kernel(block=THREADS, x=STORAGE, y=STORAGE, coefficients=F32, **WALK)
def _normalise(x, y, coefficients, size, width, columns, height, channels, aligned):
    values = cuda.local.array((UNROLL, WIDEST), types.float32)
    table = cuda.local.array((3, WIDEST), types.float32)
    n = lanes(x)
    sample, i, step, whole, end, column = place(1, n, size, width, columns, height, aligned)
    for k in range(3):
        per_channel(table[k], coefficients, (k * cuda.gridDim.x + sample) * channels, column, channels, 1, n)
    while i + (UNROLL - 1) * step + n <= whole:
        for u in range(UNROLL):
            load_vector(values[u], x, i + u * step)
        for u in range(UNROLL):
            normalise(values[u], table, n)
            store_vector(y, i + u * step, values[u])
        i += UNROLL * step
    while i < end:
        load_part(values[0], x, i, whole, end, n)
        normalise(values[0], table, n)
        store_part(y, i, values[0], whole, end, n)
        i += step


@kernel(block=THREADS, dy=STORAGE, x=STORAGE, dx=STORAGE, coefficients=F32, **WALK)
def _gradient(dy, x, dx, coefficients, size, width, columns, height, channels, aligned):
    slopes = cuda.local.array((PAIR, WIDEST), types.float32)
    values = cuda.local.array((PAIR, WIDEST), types.float32)
    table = cuda.local.array((4, WIDEST), types.float32)
    n = lanes(x)
    sample, i, step, whole, end, column = place(1, n, size, width, columns, height, aligned)
    for k in range(4):
        per_channel(table[k], coefficients, (k * cuda.gridDim.x + sample) * channels, column, channels, 1, n)
    while i + (PAIR - 1) * step + n <= whole:
        for u in range(PAIR):
            load_vector(slopes[u], dy, i + u * step)
            load_vector(values[u], x, i + u * step)
        for u in range(PAIR):
            gradient(slopes[u], values[u], table, n)
            store_vector(dx, i + u * step, slopes[u])
        i += PAIR * step
    while i < end:
        load_part(slopes[0], dy, i, whole, end, n)
        load_part(values[0], x, i, whole, end, n)
        gradient(slopes[0], values[0], table, n)
        store_part(dx, i, slopes[0], whole, end, n)
        i += step


def apply(x: Array, coefficients: Array, samples: int = 1) -> Array:
    """y from channels-last x and coefficients (3 or more, samples, C)."""
    rows, y = fold(x, APPLY, samples), empty_like_image(x)
    _normalise(rows.grid, x, y, coefficients, *rows.walk)
    return y


def apply_gradient(dy: Array, x: Array, coefficients: Array, samples: int = 1) -> Array:
    """dx from channels-last dy and x and coefficients (4, samples, C)."""
    rows, dx = fold(x, APPLY, samples), empty_like_image(x)
    _gradient(rows.grid, dy, x, dx, coefficients, *rows.walk)
    return dx


def batch_norm_train(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    momentum: float,
    eps: float,
    statistics: Statistics | None = None,
    out: Three | None = None,
) -> Three:
    """Normalise with the batch's statistics → (y, μ, s), the vectors (C,) being what the backward needs.

    The running statistics, where given, move in place: running += momentum (new - running), the variance's new value
    being σ² N/(N - 1). An empty batch leaves them alone. 12 bytes an element, 8 with `statistics` from
    `conv2d`.
    """
    y_out, mean_out, invstd_out = out or (None, None, None)
    x, dtype = channels_last(x), statistics_dtype(x, weight, bias, running_mean, running_var)
    coefficients = batch_statistics(
        x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps, statistics=statistics)
    mean, invstd = (coefficients[k].astype(dtype, copy=False) for k in (0, 3))
    return deliver(apply(x, coefficients), y_out), deliver(mean, mean_out), deliver(invstd, invstd_out)


def batch_norm_eval(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    eps: float,
    out: Array | None = None,
) -> Array:
    """Normalise with the running statistics: (x - running_mean) γ / √(running_var + ε) + β. 8 bytes an element."""
    coefficients = running_statistics(weight, bias, running_mean, running_var, eps=eps)
    return deliver(apply(channels_last(x), coefficients), out)


def batch_norm_train_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, invstd: Array, *, out: Three | None = None
) -> Three:
    """Gradients (dx, dγ, dβ) with `mean` and `invstd` from `batch_norm_train`. 20 bytes an element."""
    dy, x, dtype = channels_last(dy), channels_last(x), statistics_dtype(x, weight, mean)
    dweight, dbias, coefficients = gradients(dy, x, weight, vector(mean), vector(invstd))
    dx = apply_gradient(dy, x, coefficients)
    return _deliver(dx, dweight, dbias, dtype, out)


def batch_norm_eval_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    eps: float,
    out: Three | None = None,
) -> Three:
    """Gradients (dx, dγ, dβ) of `batch_norm_eval`, dx = γ s dy, in one pass. 12 bytes an element."""
    dy, x = channels_last(dy), channels_last(x)
    centre, scale, _, invstd = running_statistics(weight, None, running_mean, running_var, eps=eps)
    dx = empty_like_image(x)
    (dbias,), (dweight,) = totals(*sum_strips(dy, x, centre, invstd, scale=scale, dx=dx))
    return _deliver(dx, dweight, dbias, statistics_dtype(x, weight, running_mean), out)


def _deliver(dx: Array, dweight: Array, dbias: Array, dtype: Any, out: Three | None) -> Three:
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    dweight, dbias = dweight.astype(dtype, copy=False), dbias.astype(dtype, copy=False)
    return deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out)
