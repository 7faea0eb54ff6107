"""Softmax cross-entropy; formulas in the reference's file.

A forward reads the logits, 4 bytes each of float32 (with label smoothing once more, from the cache); a backward reads
them and writes dx, 8 bytes. How rows are walked stands in `_loss_rows.py`.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array, contiguous, deliver, vector
from ._loss_rows import (
    EACH,
    ROWS,
    THREADS,
    UNROLL,
    WARPS,
    WIDEST,
    column,
    exponentials,
    group_sum,
    labels,
    leave,
    my_row,
    of_rows,
    over_rows,
    put,
    smoothing,
    sum_of_weights,
    take,
    total_left,
)
from ._math import INFINITY, ONE, ZERO, exp, log
from ._memory import empty
from ._numba import cuda, types
from ._reduce import block_sum
from ._total import total_of
from .launch import F32, FLOAT, I64, INT, LONG, STORAGE, kernel
from .ptx import given, lanes, load, store


@kernel(block=THREADS, blocks_per_sm=2, x=STORAGE, target=I64, weight=F32, ignore=LONG, keep=FLOAT, smooth=FLOAT,
        lse=STORAGE, losses=STORAGE, parts=F32, weights=F32, **ROWS)
def _losses(x, target, weight, ignore, keep, smooth, lse, losses, parts, weights, rows, classes, group, vectors):
    shared = cuda.shared.array(WARPS, types.float32)
    held = cuda.local.array((UNROLL, WIDEST), types.float32)
    width, per_turn = lanes(x), THREADS // group
    sum_of_losses, sum_of_weights = ZERO, ZERO
    for base in range(np.int32(cuda.blockIdx.x * per_turn), rows, np.int32(cuda.gridDim.x * per_turn)):
        row, here = my_row(base, rows, group)
        start, limit = row * classes, classes if here else 0
        label = target[row] if here else ignore
        top, total = exponentials(held, x, start, limit, classes, group, vectors, -1, shared)
        log_sum = log(total)
        smoothed = ZERO
        if smooth != ZERO:
            for first in range(np.int32(0), classes, np.int32(group * EACH)):
                take(held, x, start, first, limit, group, vectors, ZERO)
                for u in range(EACH // width):
                    for lane in range(width):
                        c = column(first, u, lane, width, group, vectors)
                        if c < limit:
                            smoothed += (weight[c] if given(weight) else ONE) * (log_sum - (held[u, lane] - top))
            smoothed = group_sum(smoothed, group, shared)
        if here and column(0, 0, 0, width, group, 0) == 0:
            loss = ZERO
            if label != ignore:
                # log p without lse, whose rounding would cost digits where logits are large.
                share = weight[label] if given(weight) else ONE
                loss = keep * share * (log_sum - (load(x, start + label) - top))
                if smooth != ZERO:
                    loss += smooth * smoothed
                sum_of_weights += share
            sum_of_losses += loss
            store(lse, row, top + log_sum)
            if given(losses):
                store(losses, row, loss)
    leave(parts, sum_of_losses, shared)
    leave(weights, sum_of_weights, shared)


@kernel(block=THREADS, blocks_per_sm=2, dy=STORAGE, dy_step=INT, x=STORAGE, target=I64, weight=F32, lse=STORAGE,
        ignore=LONG, keep=FLOAT, smooth=FLOAT, weights=F32, count=INT, dx=STORAGE, **ROWS)
def _gradients(dy, dy_step, x, target, weight, lse, ignore, keep, smooth, weights, count, dx, rows, classes, group,
               vectors):
    shared = cuda.shared.array(WARPS, types.float32)
    held = cuda.local.array((UNROLL, WIDEST), types.float32)
    width, per_turn = lanes(x), THREADS // group
    divisor = total_left(weights, count, shared) if given(weights) else ONE
    of_all = np.float32(classes)
    if smooth != ZERO and given(weight):
        of_all = ZERO
        for c in range(cuda.threadIdx.x, classes, THREADS):
            of_all += weight[c]
        of_all = block_sum(of_all, shared, WARPS)
    for base in range(np.int32(cuda.blockIdx.x * per_turn), rows, np.int32(cuda.gridDim.x * per_turn)):
        row, here = my_row(base, rows, group)
        start, limit = row * classes, classes if here else 0
        label = target[row] if here else ignore
        kept = label != ignore
        level = load(lse, row) if kept else ZERO
        total = ZERO
        for first in range(np.int32(0), classes, np.int32(group * EACH)):
            take(held, x, start, first, limit if kept else 0, group, vectors, -INFINITY)
            for u in range(EACH // width):
                for lane in range(width):
                    total += exp(held[u, lane] - level)
        # The sum would be 1 but for the rounding of lse, which is coarse where logits are large.
        total = group_sum(total, group, shared)
        scale = load(dy, row * dy_step) / divisor if kept else ZERO
        hit = scale * keep * (weight[label] if kept and given(weight) else ONE)
        p_scale = (hit + scale * smooth * of_all) / total
        for first in range(np.int32(0), classes, np.int32(group * EACH)):
            take(held, x, start, first, limit if kept else 0, group, vectors, ZERO)
            for u in range(EACH // width):
                for lane in range(width):
                    c = column(first, u, lane, width, group, vectors)
                    g = p_scale * exp(held[u, lane] - level)
                    if smooth != ZERO and c < limit:
                        g -= scale * smooth * (weight[c] if given(weight) else ONE)
                    held[u, lane] = (g - hit if c == label else g) if kept else ZERO
            put(dx, held, start, first, limit, group, vectors)


def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """-log softmax(x)[target], averaged: logits x (M, C), target (M,) int64 to loss, 0-d or (M,), and lse (M,).

    lse is each row's log-sum-exp, which the backward takes.
    """
    x = contiguous(x)
    grid, rows = over_rows(x)
    loss, lse = None, empty(len(x), x.dtype)
    parts = weights = None
    if reduction == "none":
        loss = empty(len(x), x.dtype)
    else:
        parts, weights = empty(grid), empty(grid)
    _losses(grid, x, labels(target), vector(weight), ignore_index, *smoothing(label_smoothing, x), lse, loss, parts,
            weights, *rows)
    if reduction != "none":
        loss = total_of(parts, x.dtype, weights=weights, weighted=reduction == "mean")
    loss_out, lse_out = out or (None, None)
    return deliver(loss, loss_out), deliver(lse, lse_out)


def cross_entropy_backward(
    dy: Array,
    x: Array,
    target: Array,
    weight: Array | None,
    lse: Array,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """softmax(x) less 1 at the target, times dy over what the mean divided by: dy 0-d or (M,) to dx (M, C).

    Takes the forward's arguments and its lse.
    """
    x, target, weight = contiguous(x), labels(target), vector(weight)
    weights = sum_of_weights(target, weight, ignore_index) if reduction == "mean" else None
    count = 0 if weights is None else len(weights)
    dx = empty(x.shape, x.dtype)
    grid, rows = over_rows(x)
    _gradients(grid, *of_rows(dy, reduction), x, target, weight, contiguous(lse), ignore_index,
               *smoothing(label_smoothing, x), weights, count, dx, *rows)
    return deliver(dx, out)
