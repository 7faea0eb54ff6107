"""Negative log-likelihood of class labels from log-probabilities; formulas in the reference's file.

A forward reads one number a row, where it lies; a backward fills dx, 4 bytes a class of float32, in one pass.
"""

from __future__ import annotations

from ._layout import Array, blocks, deliver, dense, vector
from ._loss_rows import (
    EACH,
    ROWS,
    THREADS,
    UNROLL,
    WARPS,
    WIDEST,
    column,
    labels,
    leave,
    my_row,
    of_rows,
    over_rows,
    put,
)
from ._math import ONE, ZERO
from ._memory import empty
from ._numba import cuda, types
from ._total import MOST, total_of
from .launch import F32, I64, INT, LONG, STORAGE, kernel
from .ptx import given, lanes, load, store


@kernel(block=THREADS, x=STORAGE, row_step=LONG, class_step=LONG, target=I64, weight=F32, rows=INT, ignore=LONG,
        losses=STORAGE, parts=F32, weights=F32)
def _losses(x, row_step, class_step, target, weight, rows, ignore, losses, parts, weights):
    shared = cuda.shared.array(WARPS, types.float32)
    total, total_weight = ZERO, ZERO
    for row in range(cuda.blockIdx.x * THREADS + cuda.threadIdx.x, rows, cuda.gridDim.x * THREADS):
        label, loss = target[row], ZERO
        if label != ignore:
            share = weight[label] if given(weight) else ONE
            loss = -share * load(x, row * row_step + label * class_step)
            total_weight += share
        if given(losses):
            store(losses, row, loss)
        total += loss
    leave(parts, total, shared)
    leave(weights, total_weight, shared)


@kernel(block=THREADS, dy=STORAGE, dy_step=INT, total=STORAGE, target=I64, weight=F32, ignore=LONG, dx=STORAGE, **ROWS)
def _gradients(dy, dy_step, total, target, weight, ignore, dx, rows, classes, group, vectors):
    held = cuda.local.array((UNROLL, WIDEST), types.float32)
    width, per_turn = lanes(dx), THREADS // group
    for base in range(cuda.blockIdx.x * per_turn, rows, cuda.gridDim.x * per_turn):
        row, here = my_row(base, rows, group)
        label, slope = target[row] if here else ignore, ZERO
        if label != ignore:
            slope = -load(dy, row * dy_step) * (weight[label] if given(weight) else ONE)
            slope = slope / load(total, 0) if given(total) else slope
        for first in range(0, classes, group * EACH):
            for u in range(EACH // width):
                for lane in range(width):
                    c = column(first, u, lane, width, group, vectors)
                    held[u, lane] = slope if c == label and label != ignore else ZERO
            put(dx, held, row * classes, first, classes if here else 0, group, vectors)


def nll_loss(
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """-weight[target] * x[:, target]: x (M, C) to loss, 0-d or (M,), and the total of the weights, 0-d."""
    x, rows = dense(x), len(x)
    grid = min(blocks(rows, THREADS), MOST)
    losses = empty(rows, x.dtype) if reduction == "none" else None
    parts, weights, total = empty(grid), empty(grid), empty((), x.dtype)
    steps = [step // x.itemsize for step in x.strides]
    _losses(grid, x, *steps, labels(target), vector(weight), rows, ignore_index, losses, parts, weights)
    summed = total_of(parts, x.dtype, weights=weights, weighted=reduction == "mean", weight=total)
    loss_out, total_out = out or (None, None)
    return deliver(summed if losses is None else losses, loss_out), deliver(total, total_out)


def nll_loss_backward(
    dy: Array,
    x: Array,
    target: Array,
    weight: Array | None,
    total: Array,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """Gradient to x: -weight[target] * dy at each row's target, over the total for a mean; 0 elsewhere."""
    dx = empty(x.shape, x.dtype)
    grid, rows = over_rows(dx)
    divisor = total if reduction == "mean" else None
    _gradients(grid, *of_rows(dy, reduction), divisor, labels(target), vector(weight), ignore_index, dx, *rows)
    return deliver(dx, out)
