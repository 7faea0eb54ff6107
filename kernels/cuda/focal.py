"""Focal losses; formulas in the reference's file.

The binary one reads x and target, 8 bytes an element of float32, and takes two exponentials and a logarithm; its
backward writes dx, 4 more. The multi-class one reads the logits once from memory, 4 bytes each; its backward writes dx,
4 more. How its rows are walked stands in `_loss_rows.py`.
"""

from __future__ import annotations

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
    labels,
    leave,
    my_row,
    of_rows,
    over_rows,
    put,
    take,
)
from ._losses import backward, each_loss, each_slope, forward
from ._math import ONE, ZERO, absolute, exp, larger, log, log1p
from ._memory import empty
from ._numba import cuda, device, types
from ._total import total_of
from .launch import F32, FLOAT, I64, INT, STORAGE, kernel
from .ptx import given, lanes, load, reciprocal, store


# ---------------------------------------------------------------- binary
@each_loss(operands=2)
def _sigmoid(x, t, other, weight, gamma, alpha, beta, d):
    z = x if t == ONE else -x
    rest = log1p(exp(-absolute(z)))
    log_p, log_q = -(larger(-z, ZERO) + rest), -(larger(z, ZERO) + rest)
    return (-alpha if t == ONE else -beta) * exp(gamma * log_q) * log_p


@each_slope(operands=2)
def _sigmoid_slope(x, t, other, weight, gamma, alpha, beta, d):
    z = x if t == ONE else -x
    e = exp(-absolute(z))
    rest, near = log1p(e), reciprocal(ONE + e)
    log_p, log_q = -(larger(-z, ZERO) + rest), -(larger(z, ZERO) + rest)
    p, q = (e * near, near) if z < ZERO else (near, e * near)
    return (alpha if t == ONE else -beta) * exp(gamma * log_q) * (gamma * p * log_p - q)


def _balance(gamma: float, alpha: float | None) -> tuple[float, float, float]:
    return (gamma, 1.0, 1.0) if alpha is None else (gamma, alpha, 1 - alpha)


def sigmoid_focal_loss(
    x: Array,
    target: Array,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """-alpha q**gamma log p, p = sigmoid(x) for targets of 1, sigmoid(-x) for 0, q = 1 - p."""
    return forward(_sigmoid, {"x": x, "target": target}, reduction, out, *_balance(gamma, alpha))


def sigmoid_focal_loss_backward(
    dy: Array,
    x: Array,
    target: Array,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """Gradient to x: +-dy * alpha q**gamma (gamma p log p - q)."""
    return backward(_sigmoid_slope, dy, {"x": x, "target": target}, reduction, out, *_balance(gamma, alpha))


# ---------------------------------------------------------------- multi-class
@device
def _of_truth(others, distance, gamma):
    """The sum of all, p, q, log p and q**gamma, from the others' sum and the truth's distance from the top."""
    of_truth = exp(distance)
    total = others + of_truth
    log_p = distance - log1p(others + (of_truth - ONE))
    q = others / total
    return total, of_truth / total, q, log_p, exp(gamma * log(q)) if gamma != ZERO else ONE


@kernel(block=THREADS, blocks_per_sm=2, x=STORAGE, target=I64, alpha=F32, gamma=FLOAT, losses=STORAGE, parts=F32,
        **ROWS)
def _softmax(x, target, alpha, gamma, losses, parts, rows, classes, group, vectors):
    shared = cuda.shared.array(WARPS, types.float32)
    held = cuda.local.array((UNROLL, WIDEST), types.float32)
    per_turn, total_loss = THREADS // group, ZERO
    for base in range(cuda.blockIdx.x * per_turn, rows, cuda.gridDim.x * per_turn):
        row, here = my_row(base, rows, group)
        start, limit = row * classes, classes if here else 0
        label = target[row] if here else 0
        top, others = exponentials(held, x, start, limit, classes, group, vectors, label, shared)
        if here and column(0, 0, 0, lanes(x), group, 0) == 0:
            _, _, _, log_p, power = _of_truth(others, load(x, start + label) - top, gamma)
            loss = -power * log_p * (alpha[label] if given(alpha) else ONE)
            total_loss += loss
            if given(losses):
                store(losses, row, loss)
    leave(parts, total_loss, shared)


@kernel(block=THREADS, blocks_per_sm=2, dy=STORAGE, dy_step=INT, scale=FLOAT, x=STORAGE, target=I64, alpha=F32,
        gamma=FLOAT, dx=STORAGE, **ROWS)
def _softmax_slope(dy, dy_step, scale, x, target, alpha, gamma, dx, rows, classes, group, vectors):
    shared = cuda.shared.array(WARPS, types.float32)
    held = cuda.local.array((UNROLL, WIDEST), types.float32)
    width, per_turn = lanes(x), THREADS // group
    for base in range(cuda.blockIdx.x * per_turn, rows, cuda.gridDim.x * per_turn):
        row, here = my_row(base, rows, group)
        start, limit = row * classes, classes if here else 0
        label = target[row] if here else 0
        top, others = exponentials(held, x, start, limit, classes, group, vectors, label, shared)
        of_others, of_truth = ZERO, ZERO
        if here:
            total, p, q, log_p, power = _of_truth(others, load(x, start + label) - top, gamma)
            weighted = ZERO if p == ZERO else p * (-ONE if q == ZERO else log_p / q)
            factor = scale * load(dy, row * dy_step) * power * (gamma * weighted - ONE)
            factor *= alpha[label] if given(alpha) else ONE
            of_others, of_truth = -factor / total, factor * q
        for first in range(0, classes, group * EACH):
            take(held, x, start, first, limit, group, vectors, ZERO)
            for u in range(EACH // width):
                for lane in range(width):
                    c = column(first, u, lane, width, group, vectors)
                    held[u, lane] = of_truth if c == label else of_others * exp(held[u, lane] - top)
            put(dx, held, start, first, limit, group, vectors)


def softmax_focal_loss(
    x: Array,
    target: Array,
    alpha: Array | None = None,
    *,
    gamma: float = 2.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """-alpha[target] q**gamma log p, p = softmax(x)[target]: x (M, C) to loss, 0-d or (M,)."""
    x = contiguous(x)
    grid, rows = over_rows(x)
    losses, parts = (empty(len(x), x.dtype), None) if reduction == "none" else (None, empty(grid))
    _softmax(grid, x, labels(target), vector(alpha), gamma, losses, parts, *rows)
    if reduction == "none":
        return deliver(losses, out)
    return deliver(total_of(parts, x.dtype, divisor=len(x) if reduction == "mean" else 1), out)


def softmax_focal_loss_backward(
    dy: Array,
    x: Array,
    target: Array,
    alpha: Array | None = None,
    *,
    gamma: float = 2.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """Gradient to x: dy * alpha q**gamma (gamma p log p / q - 1) times (1 at the target, else 0) - softmax(x)."""
    x = contiguous(x)
    dx = empty(x.shape, x.dtype)
    grid, rows = over_rows(x)
    scale = 1 / max(1, len(x)) if reduction == "mean" else 1.0
    _softmax_slope(grid, *of_rows(dy, reduction), scale, x, labels(target), vector(alpha), gamma, dx, *rows)
    return deliver(dx, out)
