"""Softmax cross-entropy with class probabilities as targets; formulas in the reference's file.

Logits and targets are read once from memory, 8 bytes a logit of float32, and again from the cache; a backward writes
dx, 4 more. How rows are walked stands in `_loss_rows.py`.
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
    leave,
    my_row,
    of_rows,
    over_rows,
    put,
    smoothing,
    take,
)
from ._math import ZERO, exp, fma, log
from ._memory import empty
from ._numba import cuda, device, types
from ._total import total_of
from .launch import F32, FLOAT, INT, STORAGE, kernel
from .ptx import given, lanes, load, store


@device
def _mass(target, weight, c, keep, smooth):
    """What a class's -log p counts: the smoothed target times the weight."""
    mass = fma(keep, target, smooth)
    return weight[c] * mass if given(weight) else mass


@kernel(block=THREADS, blocks_per_sm=2, x=STORAGE, target=STORAGE, weight=F32, keep=FLOAT, smooth=FLOAT,
        losses=STORAGE, parts=F32, **ROWS)
def _losses(x, target, weight, keep, smooth, losses, parts, rows, classes, group, vectors):
    shared = cuda.shared.array(WARPS, types.float32)
    held = cuda.local.array((UNROLL, WIDEST), types.float32)
    goals = cuda.local.array((UNROLL, WIDEST), types.float32)
    width, per_turn, total_loss = lanes(x), THREADS // group, ZERO
    for base in range(np.int32(cuda.blockIdx.x * per_turn), rows, np.int32(cuda.gridDim.x * per_turn)):
        row, here = my_row(base, rows, group)
        start, limit = row * classes, classes if here else 0
        top, total = exponentials(held, x, start, limit, classes, group, vectors, -1, shared)
        log_sum, loss = log(total), ZERO
        for first in range(np.int32(0), classes, np.int32(group * EACH)):
            take(held, x, start, first, limit, group, vectors, ZERO)
            take(goals, target, start, first, limit, group, vectors, ZERO)
            for u in range(EACH // width):
                for lane in range(width):
                    c = column(first, u, lane, width, group, vectors)
                    if c < limit:
                        loss += _mass(goals[u, lane], weight, c, keep, smooth) * (log_sum - (held[u, lane] - top))
        loss = group_sum(loss, group, shared)
        if here and column(0, 0, 0, width, group, 0) == 0:
            total_loss += loss
            if given(losses):
                store(losses, row, loss)
    leave(parts, total_loss, shared)


@kernel(block=THREADS, blocks_per_sm=2, dy=STORAGE, dy_step=INT, scale=FLOAT, x=STORAGE, target=STORAGE, weight=F32,
        keep=FLOAT, smooth=FLOAT, dx=STORAGE, **ROWS)
def _gradients(dy, dy_step, scale, x, target, weight, keep, smooth, dx, rows, classes, group, vectors):
    shared = cuda.shared.array(WARPS, types.float32)
    held = cuda.local.array((UNROLL, WIDEST), types.float32)
    goals = cuda.local.array((UNROLL, WIDEST), types.float32)
    width, per_turn = lanes(x), THREADS // group
    for base in range(np.int32(cuda.blockIdx.x * per_turn), rows, np.int32(cuda.gridDim.x * per_turn)):
        row, here = my_row(base, rows, group)
        start, limit = row * classes, classes if here else 0
        top, total = exponentials(held, x, start, limit, classes, group, vectors, -1, shared)
        mass = ZERO
        for first in range(np.int32(0), classes, np.int32(group * EACH)):
            take(goals, target, start, first, limit, group, vectors, ZERO)
            for u in range(EACH // width):
                for lane in range(width):
                    c = column(first, u, lane, width, group, vectors)
                    if c < limit:
                        mass += _mass(goals[u, lane], weight, c, keep, smooth)
        mass = group_sum(mass, group, shared)
        each = scale * load(dy, row * dy_step) if here else ZERO
        p_scale = each * mass / total
        for first in range(np.int32(0), classes, np.int32(group * EACH)):
            take(held, x, start, first, limit, group, vectors, ZERO)
            take(goals, target, start, first, limit, group, vectors, ZERO)
            for u in range(EACH // width):
                for lane in range(width):
                    c = column(first, u, lane, width, group, vectors)
                    if c < limit:
                        own = _mass(goals[u, lane], weight, c, keep, smooth)
                        held[u, lane] = p_scale * exp(held[u, lane] - top) - each * own
            put(dx, held, start, first, limit, group, vectors)


def soft_cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """-sum over the classes of weight * smoothed target * log softmax(x): x and target (M, C) to loss, 0-d or (M,)."""
    x, target = contiguous(x), contiguous(target)
    grid, rows = over_rows(x)
    losses, parts = (empty(len(x), x.dtype), None) if reduction == "none" else (None, empty(grid))
    _losses(grid, x, target, vector(weight), *smoothing(label_smoothing, x), losses, parts, *rows)
    if reduction == "none":
        return deliver(losses, out)
    return deliver(total_of(parts, x.dtype, divisor=len(x) if reduction == "mean" else 1), out)


def soft_cross_entropy_backward(
    dy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """Gradient to x: dy * (softmax(x) * the row's mass - the class's), mass being weight * smoothed target."""
    x, target = contiguous(x), contiguous(target)
    dx = empty(x.shape, x.dtype)
    grid, rows = over_rows(x)
    scale = 1 / max(1, len(x)) if reduction == "mean" else 1.0
    _gradients(grid, *of_rows(dy, reduction), scale, x, target, vector(weight), *smoothing(label_smoothing, x), dx,
               *rows)
    return deliver(dx, out)
