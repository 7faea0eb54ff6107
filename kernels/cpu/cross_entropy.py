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
from .simd import (
    L,
    fload,
    fstore,
    isplat,
    lane_index,
    lload,
    vfirst,
    vlargest,
    vload_n,
    vselect,
    vsplat,
    vstore_n,
    vsum,
)

_SPAN = 64 * L  # floats that each lane sums 64 of in a row


# ---------------------------------------------------------------- one row, x the address of its logits
@inner
def _top(x, classes):
    """The largest logit that is no NaN."""
    tail = classes % L
    best = vselect(lane_index() < tail, vload_n(x, classes - tail, tail), np.float32(-np.inf))
    for c in range(0, classes - tail, L):
        logits = vload_n(x, c, L)
        best = vselect(logits > best, logits, best)
    return vlargest(best)


@inner
def _exponentials(x, dx, c, n, shift):
    """e**(x - shift) for the n logits from c on, 0 in the other lanes; kept in dx unless that is null."""
    e = vselect(lane_index() < n, vexp(vload_n(x, c, n) - shift), 0.0)
    if dx:
        vstore_n(dx, c, e, n)
    return e


@inner
def _sum_of_exponentials(x, dx, classes, shift):
    tail = classes % L
    total = vsplat(0.0)
    for span in range(0, classes - tail, _SPAN):
        part = vsplat(0.0)
        for c in range(span, min(span + _SPAN, classes - tail), L):
            part = part + _exponentials(x, dx, c, FULL, shift)
        total = total + part
    if tail:
        total = total + _exponentials(x, dx, classes - tail, tail, shift)
    return vsum(total)


@inner
def _weighted_log_p(x, weight, c, n, top, log_sum):
    log_p = (vload_n(x, c, n) - top) - log_sum
    if weight:
        log_p = vload_n(weight, c, n) * log_p
    return vselect(lane_index() < n, log_p, 0.0)


@inner
def _sum_of_log_p(x, weight, classes, top, log_sum):
    """Sum of weight * log p over the classes."""
    tail = classes % L
    total = vsplat(0.0)
    for span in range(0, classes - tail, _SPAN):
        part = vsplat(0.0)
        for c in range(span, min(span + _SPAN, classes - tail), L):
            part = part + _weighted_log_p(x, weight, c, FULL, top, log_sum)
        total = total + part
    if tail:
        total = total + _weighted_log_p(x, weight, classes - tail, tail, top, log_sum)
    return vsum(total)


@inner
def _gradient(dx, weight, c, n, label, p_scale, hit, smooth):
    """From exponentials in dx: p_scale * e, less `hit` at the label, less smooth * weight."""
    slope = vload_n(dx, c, n) * p_scale
    slope = vselect(lane_index() == isplat(label - c), slope - hit, slope)
    if smooth != 0:
        slope = slope - smooth * (vload_n(weight, c, n) if weight else vsplat(1.0))
    vstore_n(dx, c, slope, n)


# ---------------------------------------------------------------- jobs: blocks of rows
@job(x=PTR, target=PTR, weight=PTR, lse=PTR, losses=PTR, sums=PTR, rows=INT, per_job=INT, classes=INT, ignore=INT,
     keep=FLOAT, smooth=FLOAT)
def _losses(first, last, thread, a):
    for block in range(first, last):
        total = 0.0
        for row in range(block * a.per_job, min((block + 1) * a.per_job, a.rows)):
            x, label = a.x + 4 * row * a.classes, lload(a.target, row)
            top = _top(x, a.classes)
            log_sum = vfirst(vlog(vsplat(_sum_of_exponentials(x, 0, a.classes, top))))
            fstore(a.lse, row, top + log_sum)
            loss = np.float32(0)
            if label != a.ignore:
                # log p without lse, whose rounding would cost digits where logits are large.
                loss = a.keep * (log_sum - (fload(x, label) - top))
                if a.weight:
                    loss *= fload(a.weight, label)
                if a.smooth > 0:
                    loss -= a.smooth * _sum_of_log_p(x, a.weight, a.classes, top, log_sum)
            if a.losses:
                fstore(a.losses, row, loss)
            total += loss
        fstore(a.sums, block, total)


@job(x=PTR, target=PTR, weight=PTR, lse=PTR, dy=PTR, dx=PTR, rows=INT, per_job=INT, classes=INT, ignore=INT,
     keep=FLOAT, smooth=FLOAT, total=FLOAT, scale=FLOAT)
def _gradients(first, last, thread, a):
    tail = a.classes % L
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        x, dx, label = a.x + 4 * row * a.classes, a.dx + 4 * row * a.classes, lload(a.target, row)
        if label == a.ignore:
            for c in range(0, a.classes - tail, L):
                vstore_n(dx, c, vsplat(0.0), L)
            vstore_n(dx, a.classes - tail, vsplat(0.0), tail)
            continue
        scale = fload(a.dy, row) if a.dy else a.scale
        hit = scale * a.keep
        if a.weight:
            hit *= fload(a.weight, label)
        smooth = scale * a.smooth
        # The sum would be 1 but for the rounding of lse, which is coarse where logits are large.
        p_scale = (hit + smooth * a.total) / _sum_of_exponentials(x, dx, a.classes, fload(a.lse, row))
        for c in range(0, a.classes - tail, L):
            _gradient(dx, a.weight, c, FULL, label, p_scale, hit, smooth)
        if tail:
            _gradient(dx, a.weight, a.classes - tail, tail, label, p_scale, hit, smooth)


@job(target=PTR, weight=PTR, sums=PTR, rows=INT, ignore=INT)
def _target_weights(first, last, thread, a):
    for block in range(first, last):
        total = 0.0
        for row in range(block * BLOCK, min((block + 1) * BLOCK, a.rows)):
            label = lload(a.target, row)
            if label != a.ignore:
                total += fload(a.weight, label) if a.weight else np.float32(1)
        fstore(a.sums, block, total)


# ---------------------------------------------------------------- functions
def _split(rows: int, classes: int) -> tuple[int, int]:
    """Rows a job and jobs: some thousand logits each, whatever the number of threads, so that sums repeat."""
    per_job = max(1, BLOCK // classes)
    return per_job, -(-rows // per_job)


def _total_weight(target: np.ndarray, weight: np.ndarray | None, ignore_index: int) -> np.float64:
    """What the mean divides by: the sum of weight[target] over the rows not ignored."""
    jobs = -(-target.size // BLOCK)
    sums = workspace("cross_entropy", jobs)[:jobs]
    _target_weights(
        jobs, threads=share(target.size), target=target, weight=weight, sums=sums, rows=target.size,
        ignore=ignore_index)
    return sums.sum(dtype=np.float64)


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
    per_job, jobs = _split(rows, classes)
    lse = empty((rows,))
    losses = empty((rows,)) if reduction == "none" else None
    sums = workspace("cross_entropy", jobs)[:jobs]
    _losses(
        jobs, threads=share(x.size), x=x, target=target, weight=weight, lse=lse, losses=losses, sums=sums, rows=rows,
        per_job=per_job, classes=classes, ignore=ignore_index, keep=1 - label_smoothing,
        smooth=label_smoothing / classes)
    loss = losses
    if reduction != "none":
        total = sums.sum(dtype=np.float64)
        if reduction == "mean":
            with np.errstate(all="ignore"):
                total = total / _total_weight(target, weight, ignore_index)
        loss = np.array(total, np.float32)
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
    x, target, lse = contiguous(x), contiguous(target), contiguous(lse)
    weight = None if weight is None else contiguous(weight)
    rows, classes = x.shape
    per_job, jobs = _split(rows, classes)
    dx = empty(x.shape)
    each = contiguous(dy) if reduction == "none" else None
    scale = np.float64(0.0 if reduction == "none" else dy)
    with np.errstate(all="ignore"):
        if reduction == "mean":
            scale = scale / _total_weight(target, weight, ignore_index)
        scale = np.float32(scale)
    _gradients(
        jobs, threads=share(x.size), x=x, target=target, weight=weight, lse=lse, dy=each, dx=dx, rows=rows,
        per_job=per_job, classes=classes, ignore=ignore_index, keep=1 - label_smoothing,
        smooth=label_smoothing / classes, total=classes if weight is None else weight.sum(dtype=np.float64),
        scale=scale)
    return deliver(dx, out)
