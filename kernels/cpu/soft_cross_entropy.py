"""Softmax cross-entropy with class probabilities as targets, float32; formulas in the reference's file.

Logits and targets are read once from memory: a row stays in the nearest cache while it is gone over for its maximum,
its exponentials and its gradient. A forward moves 8 bytes a logit, a backward 12; each takes one exponential.
"""

from __future__ import annotations

import numpy as np

from ._blocks import FULL
from ._compile import inner
from ._driver import FLOAT, INT, PTR, job
from ._losses import backward_rows, forward_rows
from ._math import vexp, vlog
from ._softmax import largest, row_sum
from .simd import L, dstore, fload, fstore, vfirst, vload_n, vsplat, vstore_n


@inner
def _mass(target, weight, keep, smooth, c, n):
    """What each class's -log p counts: the smoothed target times the weight."""
    mass = keep * vload_n(target, c, n) + smooth
    return vload_n(weight, c, n) * mass if weight else mass


@row_sum
def _exponentials(c, n, x, dx, top):
    """e**(x - top), kept in dx unless that is null."""
    e = vexp(vload_n(x, c, n) - top)
    if dx:
        vstore_n(dx, c, e, n)
    return e


@row_sum
def _row_loss(c, n, x, target, weight, keep, smooth, top, log_sum):
    return _mass(target, weight, keep, smooth, c, n) * (log_sum - (vload_n(x, c, n) - top))


@row_sum
def _total_mass(c, n, target, weight, keep, smooth):
    return _mass(target, weight, keep, smooth, c, n)


@inner
def _gradient(dx, target, weight, keep, smooth, c, n, p_scale, scale):
    """From exponentials in dx."""
    vstore_n(dx, c, p_scale * vload_n(dx, c, n) - scale * _mass(target, weight, keep, smooth, c, n), n)


@job(x=PTR, target=PTR, weight=PTR, losses=PTR, sums=PTR, rows=INT, per_job=INT, classes=INT, keep=FLOAT, smooth=FLOAT)
def _losses(first, last, thread, a):
    for block in range(first, last):
        total = 0.0
        for row in range(block * a.per_job, min((block + 1) * a.per_job, a.rows)):
            x, target = a.x + 4 * row * a.classes, a.target + 4 * row * a.classes
            top = largest(x, a.classes)
            log_sum = vfirst(vlog(vsplat(_exponentials(a.classes, x, 0, top))))
            loss = _row_loss(a.classes, x, target, a.weight, a.keep, a.smooth, top, log_sum)
            if a.losses:
                fstore(a.losses, row, loss)
            total += loss
        dstore(a.sums, block, total)


@job(x=PTR, target=PTR, weight=PTR, dy=PTR, dx=PTR, rows=INT, per_job=INT, classes=INT, keep=FLOAT, smooth=FLOAT,
     scale=FLOAT)
def _gradients(first, last, thread, a):
    tail = a.classes % L
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        start = 4 * row * a.classes
        x, target, dx = a.x + start, a.target + start, a.dx + start
        scale = fload(a.dy, row) if a.dy else a.scale
        total = _exponentials(a.classes, x, dx, largest(x, a.classes))
        p_scale = scale * _total_mass(a.classes, target, a.weight, a.keep, a.smooth) / total
        for c in range(0, a.classes - tail, L):
            _gradient(dx, target, a.weight, a.keep, a.smooth, c, FULL, p_scale, scale)
        if tail:
            _gradient(dx, target, a.weight, a.keep, a.smooth, a.classes - tail, tail, p_scale, scale)


def _smoothing(label_smoothing: float, x: np.ndarray) -> dict[str, float]:
    return {"keep": 1 - label_smoothing, "smooth": label_smoothing / x.shape[1]}


def soft_cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """-sum over the classes of weight * smoothed target * log softmax(x): x and target (M, C) to loss, 0-d or (M,)."""
    operands = {"x": x, "target": target, "weight": weight}
    return forward_rows(_losses, operands, reduction, out, **_smoothing(label_smoothing, x))


def soft_cross_entropy_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dy * (softmax(x) * the row's mass - the class's), mass being weight * smoothed target."""
    operands = {"x": x, "target": target, "weight": weight}
    return backward_rows(_gradients, dy, operands, reduction, out, **_smoothing(label_smoothing, x))
