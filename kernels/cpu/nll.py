"""Negative log-likelihood of class labels from log-probabilities, float32; formulas in the reference's file.

A forward reads one number a row; a backward fills dx, 4 bytes a class.
"""

from __future__ import annotations

import numpy as np

from ._blocks import BLOCK
from ._driver import INT, PTR, job, share
from ._layout import contiguous, deliver
from ._losses import as_loss
from ._memory import empty, workspace
from ._softmax import split
from .simd import L, dstore, fload, fstore, lload, vsplat, vstore_n


@job(x=PTR, row_step=INT, class_step=INT, target=PTR, weight=PTR, losses=PTR, sums=PTR, rows=INT, ignore=INT)
def _losses(first, last, thread, a):
    """Sums of losses and of weights for each block of rows."""
    for block in range(first, last):
        total = weights = 0.0
        for row in range(block * BLOCK, min((block + 1) * BLOCK, a.rows)):
            label = lload(a.target, row)
            loss = np.float32(0)
            if label != a.ignore:
                weight = fload(a.weight, label) if a.weight else np.float32(1)
                loss = -weight * fload(a.x, row * a.row_step + label * a.class_step)
                weights += weight
            if a.losses:
                fstore(a.losses, row, loss)
            total += loss
        dstore(a.sums, 2 * block, total)
        dstore(a.sums, 2 * block + 1, weights)


@job(target=PTR, weight=PTR, dy=PTR, dy_step=INT, dx=PTR, rows=INT, per_job=INT, classes=INT, ignore=INT)
def _gradients(first, last, thread, a):
    begin, end = first * a.per_job, min(last * a.per_job, a.rows)
    size = (end - begin) * a.classes
    dx = a.dx + 4 * begin * a.classes
    for i in range(0, size - size % L, L):
        vstore_n(dx, i, vsplat(0.0), L)
    vstore_n(dx, size - size % L, vsplat(0.0), size % L)
    for row in range(begin, end):
        label = lload(a.target, row)
        if label != a.ignore:
            weight = fload(a.weight, label) if a.weight else np.float32(1)
            fstore(a.dx, row * a.classes + label, -weight * fload(a.dy, row * a.dy_step))


def nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """-weight[target] * x[:, target]: x (M, C) to loss, 0-d or (M,), and the total of the weights, 0-d."""
    target = contiguous(target)
    rows = len(x)
    jobs = -(-rows // BLOCK)
    losses = empty((rows,)) if reduction == "none" else None
    sums = workspace("sums of losses", 4 * jobs)[:4 * jobs].view(np.float64)
    _losses(
        jobs, threads=share(rows), x=x, row_step=x.strides[0] // 4, class_step=x.strides[1] // 4, target=target,
        weight=None if weight is None else contiguous(weight), losses=losses, sums=sums, rows=rows, ignore=ignore_index)
    loss, total = sums.reshape(-1, 2).sum(axis=0).tolist()
    loss = as_loss(loss, total if reduction == "mean" else 1) if losses is None else losses
    loss_out, total_out = out or (None, None)
    return deliver(loss, loss_out), deliver(as_loss(total, 1), total_out)


def nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    total: np.ndarray,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: -weight[target] * dy at each row's target, over the total for a mean; 0 elsewhere."""
    target, dy = contiguous(target), contiguous(dy)
    if reduction == "mean":
        with np.errstate(all="ignore"):
            dy = np.asarray(dy / total)
    dx = empty(x.shape)
    per_job, jobs = split(*x.shape)
    _gradients(
        jobs, threads=share(dx.size), target=target, weight=None if weight is None else contiguous(weight), dy=dy,
        dy_step=int(reduction == "none"), dx=dx, rows=len(x), per_job=per_job, classes=x.shape[1], ignore=ignore_index)
    return deliver(dx, out)
