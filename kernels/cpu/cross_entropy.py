"""Softmax cross-entropy from logits, float32; formulas and conventions in `kernels/reference/cross_entropy.py`.

Forward and backward read the logits once from memory; a row stays in the nearest cache while it is gone over for its
maximum, its exponentials and its gradient. The forward moves 4 bytes a logit, the backward 8; each takes one exp of
about 20 operations a logit.
"""

from __future__ import annotations

import numpy as np

from ._blocks import BLOCK, FULL
from ._compile import inner
from ._driver import FLOAT, INT, PTR, job, share
from ._layout import contiguous, deliver
from ._math import vexp, vlog
from ._memory import empty, workspace
from ._softmax import largest, row_sum, split
from .simd import (
    L,
    dload,
    dstore,
    fload,
    fstore,
    isplat,
    lane_index,
    lload,
    vfirst,
    vload_n,
    vselect,
    vsplat,
    vstore_n,
)


# ---------------------------------------------------------------- one row, x the address of its logits
@row_sum
def _sum_of_exponentials(c, n, x, dx, shift):
    """e**(x - shift); kept in dx unless that is null."""
    e = vexp(vload_n(x, c, n) - shift)
    if dx:
        vstore_n(dx, c, e, n)
    return e


@row_sum
def _sum_of_log_p(c, n, x, weight, top, log_sum):
    """weight * log p."""
    log_p = (vload_n(x, c, n) - top) - log_sum
    return vload_n(weight, c, n) * log_p if weight else log_p


@inner
def _gradient(dx, weight, c, n, label, p_scale, hit, smooth):
    """From exponentials in dx: p_scale * e, less `hit` at the label, less smooth * weight."""
    slope = vload_n(dx, c, n) * p_scale
    slope = vselect(lane_index() == isplat(label - c), slope - hit, slope)
    if smooth != 0:
        slope = slope - smooth * (vload_n(weight, c, n) if weight else vsplat(1.0))
    vstore_n(dx, c, slope, n)


# ---------------------------------------------------------------- jobs: blocks of rows
@inner
def _reduced(a):
    """The loss from the sums of all blocks."""
    total = weights = 0.0
    for block in range(a.blocks):
        total += dload(a.sums, 2 * block)
        weights += dload(a.sums, 2 * block + 1)
    fstore(a.loss, 0, total / weights if a.mean else total)


@job(sums=PTR, blocks=INT, mean=INT, loss=PTR)
def _reduce(first, last, thread, a):
    _reduced(a)


@job(x=PTR, target=PTR, weight=PTR, lse=PTR, losses=PTR, sums=PTR, rows=INT, per_job=INT, classes=INT, ignore=INT,
     keep=FLOAT, smooth=FLOAT, blocks=INT, mean=INT, loss=PTR)
def _losses(first, last, thread, a):
    """Sums of losses and of weights for each block; the loss too, if one thread does all blocks."""
    for block in range(first, last):
        total = weights = 0.0
        for row in range(block * a.per_job, min((block + 1) * a.per_job, a.rows)):
            x, label = a.x + 4 * row * a.classes, lload(a.target, row)
            top = largest(x, a.classes)
            log_sum = vfirst(vlog(vsplat(_sum_of_exponentials(a.classes, x, 0, top))))
            fstore(a.lse, row, top + log_sum)
            loss = np.float32(0)
            if label != a.ignore:
                # log p without lse, whose rounding would cost digits where logits are large.
                loss = a.keep * (log_sum - (fload(x, label) - top))
                weight = fload(a.weight, label) if a.weight else np.float32(1)
                loss *= weight
                weights += weight
                if a.smooth > 0:
                    loss -= a.smooth * _sum_of_log_p(a.classes, x, a.weight, top, log_sum)
            if a.losses:
                fstore(a.losses, row, loss)
            total += loss
        dstore(a.sums, 2 * block, total)
        dstore(a.sums, 2 * block + 1, weights)
    if a.loss and last - first == a.blocks:
        _reduced(a)


@inner
def _block_weight(a, block):
    """The sum of weight[target] over the rows of a block that are not ignored."""
    total = 0.0
    for row in range(block * BLOCK, min((block + 1) * BLOCK, a.rows)):
        label = lload(a.target, row)
        if label != a.ignore:
            total += fload(a.weight, label) if a.weight else np.float32(1)
    return total


@job(target=PTR, weight=PTR, sums=PTR, rows=INT, ignore=INT)
def _block_weights(first, last, thread, a):
    for block in range(first, last):
        dstore(a.sums, block, _block_weight(a, block))


@job(x=PTR, target=PTR, weight=PTR, lse=PTR, dy=PTR, dy_step=INT, sums=PTR, blocks=INT, dx=PTR, rows=INT, per_job=INT,
     classes=INT, ignore=INT, keep=FLOAT, smooth=FLOAT, total=FLOAT)
def _gradients(first, last, thread, a):
    """For a mean dy is divided by the sum over all blocks, of which a single one is not worth a pass of its own."""
    tail = a.classes % L
    divisor = 0.0 if a.blocks else 1.0
    for block in range(a.blocks):
        divisor += dload(a.sums, block) if a.blocks > 1 else _block_weight(a, block)
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        x, dx, label = a.x + 4 * row * a.classes, a.dx + 4 * row * a.classes, lload(a.target, row)
        if label == a.ignore:
            for c in range(0, a.classes - tail, L):
                vstore_n(dx, c, vsplat(0.0), L)
            vstore_n(dx, a.classes - tail, vsplat(0.0), tail)
            continue
        scale = np.float32(fload(a.dy, row * a.dy_step) / divisor)
        hit = scale * a.keep
        if a.weight:
            hit *= fload(a.weight, label)
        smooth = scale * a.smooth
        # The sum would be 1 but for the rounding of lse, which is coarse where logits are large.
        p_scale = (hit + smooth * a.total) / _sum_of_exponentials(a.classes, x, dx, fload(a.lse, row))
        for c in range(0, a.classes - tail, L):
            _gradient(dx, a.weight, c, FULL, label, p_scale, hit, smooth)
        if tail:
            _gradient(dx, a.weight, a.classes - tail, tail, label, p_scale, hit, smooth)


# ---------------------------------------------------------------- functions
def cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """-log softmax(x)[target], averaged: logits x (M, C), target (M,) int64 to loss, 0-d or (M,), and lse (M,).

    lse is each row's log-sum-exp, which the backward takes. Reads x, 4 bytes a logit.
    """
    x, target = contiguous(x), contiguous(target)
    weight = None if weight is None else contiguous(weight)
    rows, classes = x.shape
    per_job, jobs = split(rows, classes)
    lse, sums, threads = empty((rows,)), workspace("losses", 4 * jobs), share(x.size)
    loss = empty((rows,) if reduction == "none" else ())
    each, reduced = (loss, None) if reduction == "none" else (None, loss)
    mean = reduction == "mean"
    _losses(
        jobs, threads=threads, x=x, target=target, weight=weight, lse=lse, losses=each, sums=sums, rows=rows,
        per_job=per_job, classes=classes, ignore=ignore_index, keep=1 - label_smoothing,
        smooth=label_smoothing / classes, blocks=jobs, mean=mean, loss=reduced)
    if reduced is not None and (threads > 1 or jobs == 0):
        _reduce(1, threads=1, sums=sums, blocks=jobs, mean=mean, loss=reduced)
    loss_out, lse_out = out or (None, None)
    return deliver(loss, loss_out), deliver(lse, lse_out)


def cross_entropy_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    lse: np.ndarray,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """softmax(x) less 1 at the target, times dy over what the mean divided by: dy 0-d or (M,) to dx (M, C).

    Takes the forward's arguments and its lse. Reads x and writes dx, 8 bytes a logit.
    """
    x, target, lse, dy = contiguous(x), contiguous(target), contiguous(lse), contiguous(dy)
    weight = None if weight is None else contiguous(weight)
    rows, classes = x.shape
    blocks = -(-rows // BLOCK) if reduction == "mean" else 0
    sums, dx = workspace("losses", 2 * blocks), empty(x.shape)
    if blocks > 1:
        _block_weights(
            blocks, threads=share(rows), target=target, weight=weight, sums=sums, rows=rows, ignore=ignore_index)
    per_job, jobs = split(rows, classes)
    _gradients(
        jobs, threads=share(x.size), x=x, target=target, weight=weight, lse=lse, dy=dy,
        dy_step=int(reduction == "none"), sums=sums, blocks=blocks, dx=dx, rows=rows, per_job=per_job, classes=classes,
        ignore=ignore_index, keep=1 - label_smoothing, smooth=label_smoothing / classes,
        total=classes if weight is None else weight.sum(dtype=np.float64))
    return deliver(dx, out)
