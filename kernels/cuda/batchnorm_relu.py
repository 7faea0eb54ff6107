"""Batch norm, an optional residual sum and ReLU: what batch norm costs alone, the rest is done on the way.

    forward     y = max(0, (x - μ) a + b [+ residual])      reads x twice [and the residual], writes y
    backward    dy₊ = dy where y > 0, else 0                reads dy and x twice, writes dx [and dy₊]
                dx, dγ, dβ of batch norm, from dy₊          [dy₊ being the gradient to the residual]

The forward leaves a mask, which is all that the backward needs of y: a byte for each 16 bytes of channels-last memory,
with a bit for each of their elements that says y > 0 (or NaN). Training so spends 12 bytes an element of float32
forward and 20 backward, with a residual 16 and 24, inference 8 and 12, and a quarter of a byte each time the mask is
read or written.
"""

from __future__ import annotations

import numpy as np

from ._batchnorm import (
    PAIR,
    batch_statistics,
    gradient,
    gradients,
    let_pass,
    normalise,
    running_statistics,
    vector_number,
)
from ._layout import Array, blocks, channels_last, contiguous, deliver, empty_like_image, vector
from ._math import ZERO
from ._memory import empty
from ._moments import Statistics
from ._numba import cuda, device, types
from ._rows import APPLY, THREADS, WALK, WIDEST, fold, load_part, per_channel, place, statistics_dtype, store_part
from .launch import F32, INT, STORAGE, U8, kernel
from .ptx import lanes, load_vector, store_vector

Four = tuple[Array, Array, Array, Array]


@device
def _rectify(y, residual, n):
    """y becomes max(0, y + residual) for n lanes → the bits of those not blocked."""
    passed = np.uint32(0)
    for lane in range(n):
        value = y[lane] + residual[lane]
        if value <= ZERO:
            y[lane] = ZERO
        else:
            y[lane] = value
            passed |= np.uint32(1 << lane)
    return passed


@kernel(block=THREADS, x=STORAGE, residual=STORAGE, added=INT, y=STORAGE, mask=U8, kept=INT, coefficients=F32, **WALK)
def _normalise_and_rectify(x, residual, added, y, mask, kept, coefficients,
                           size, width, columns, height, channels, aligned):
    values = cuda.local.array((PAIR, WIDEST), types.float32)
    more = cuda.local.array((PAIR, WIDEST), types.float32)
    table = cuda.local.array((3, WIDEST), types.float32)
    n = lanes(x)
    _, i, step, whole, end, column = place(1, n, size, width, columns, height, aligned)
    for k in range(3):
        per_channel(table[k], coefficients, k * channels, column, channels, 1, n)
    for u in range(PAIR):
        for lane in range(n):
            more[u, lane] = ZERO
    while i + (PAIR - 1) * step + n <= whole:
        for u in range(PAIR):
            load_vector(values[u], x, i + u * step)
            if added:
                load_vector(more[u], residual, i + u * step)
        for u in range(PAIR):
            normalise(values[u], table, n)
            passed = _rectify(values[u], more[u], n)
            store_vector(y, i + u * step, values[u])
            if kept:
                mask[vector_number(i + u * step, n)] = passed
        i += PAIR * step
    while i < end:
        load_part(values[0], x, i, whole, end, n)
        if added:
            load_part(more[0], residual, i, whole, end, n)
        normalise(values[0], table, n)
        passed = _rectify(values[0], more[0], n)
        store_part(y, i, values[0], whole, end, n)
        if kept:
            mask[vector_number(i, n)] = passed
        i += step


@kernel(block=THREADS, dy=STORAGE, mask=U8, x=STORAGE, dx=STORAGE, dresidual=STORAGE, added=INT, coefficients=F32,
        **WALK)
def _gradient_of_passed(dy, mask, x, dx, dresidual, added, coefficients,
                        size, width, columns, height, channels, aligned):
    slopes = cuda.local.array((PAIR, WIDEST), types.float32)
    values = cuda.local.array((PAIR, WIDEST), types.float32)
    table = cuda.local.array((4, WIDEST), types.float32)
    n = lanes(x)
    _, i, step, whole, end, column = place(1, n, size, width, columns, height, aligned)
    for k in range(4):
        per_channel(table[k], coefficients, k * channels, column, channels, 1, n)
    while i + (PAIR - 1) * step + n <= whole:
        for u in range(PAIR):
            load_vector(slopes[u], dy, i + u * step)
            load_vector(values[u], x, i + u * step)
            let_pass(slopes[u], mask, i + u * step, n)
        for u in range(PAIR):
            if added:
                store_vector(dresidual, i + u * step, slopes[u])
            gradient(slopes[u], values[u], table, n)
            store_vector(dx, i + u * step, slopes[u])
        i += PAIR * step
    while i < end:
        load_part(slopes[0], dy, i, whole, end, n)
        load_part(values[0], x, i, whole, end, n)
        let_pass(slopes[0], mask, i, n)
        if added:
            store_part(dresidual, i, slopes[0], whole, end, n)
        gradient(slopes[0], values[0], table, n)
        store_part(dx, i, slopes[0], whole, end, n)
        i += step


def _apply(x: Array, coefficients: Array, residual: Array | None, mask: Array | None) -> Array:
    rows, y = fold(x, APPLY), empty_like_image(x)
    residual = None if residual is None else channels_last(residual)
    _normalise_and_rectify(rows.grid, x, residual, residual is not None, y, mask, mask is not None, coefficients,
                           *rows.walk)
    return y


def batch_norm_relu_train(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    residual: Array | None = None,
    *,
    momentum: float,
    eps: float,
    statistics: Statistics | None = None,
    out: Four | None = None,
) -> Four:
    """Normalise as `batch_norm_train` does, add the residual (of x's shape), rectify → (y, μ, s, mask).

    12 bytes an element, 16 with a residual; 4 less with `statistics` from `conv2d`.
    """
    y_out, mean_out, invstd_out, mask_out = out or (None, None, None, None)
    x, dtype = channels_last(x), statistics_dtype(x, weight, bias, running_mean, running_var)
    coefficients = batch_statistics(
        x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps, statistics=statistics)
    mean, invstd = (coefficients[k].astype(dtype, copy=False) for k in (0, 3))
    mask = empty(blocks(x.nbytes, 16), np.uint8)
    y = _apply(x, coefficients, residual, mask)
    return deliver(y, y_out), deliver(mean, mean_out), deliver(invstd, invstd_out), deliver(mask, mask_out)


def batch_norm_relu_train_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    invstd: Array,
    mask: Array,
    *,
    residual: bool = False,
    out: tuple[Array, Array, Array, Array | None] | None = None,
) -> tuple[Array, Array, Array, Array | None]:
    """Gradients (dx, dγ, dβ, dresidual), the last one None unless the forward had a residual.

    20 bytes an element, 24 with a residual.
    """
    dx_out, dweight_out, dbias_out, dresidual_out = out or (None, None, None, None)
    dy, x, mask, dtype = channels_last(dy), channels_last(x), contiguous(mask), statistics_dtype(x, weight, mean)
    dweight, dbias, coefficients = gradients(dy, x, weight, vector(mean), vector(invstd), mask=mask)
    rows, dx, dresidual = fold(x, APPLY), empty_like_image(x), empty_like_image(x) if residual else None
    _gradient_of_passed(rows.grid, dy, mask, x, dx, dresidual, residual, coefficients, *rows.walk)
    dweight, dbias = dweight.astype(dtype, copy=False), dbias.astype(dtype, copy=False)
    dx, dweight, dbias = deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out)
    return dx, dweight, dbias, deliver(dresidual, dresidual_out) if residual else None


def batch_norm_relu_eval(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    residual: Array | None = None,
    *,
    eps: float,
    out: Array | None = None,
) -> Array:
    """Normalise as `batch_norm_eval` does, add the residual, rectify. 8 bytes an element, 12 with a residual."""
    coefficients = running_statistics(weight, bias, running_mean, running_var, eps=eps)
    return deliver(_apply(channels_last(x), coefficients, residual, None), out)
