"""Focal losses, float32; formulas in the reference's file.

The binary one reads x and target, 8 bytes an element, and takes two exponentials and a logarithm; its backward writes
dx, 4 more. The multi-class one reads the logits once, 4 bytes each, and takes an exponential each; its backward writes
dx, 4 more.
"""

from __future__ import annotations

import numpy as np

from ._blocks import FULL
from ._compile import inner
from ._driver import FLOAT, INT, PTR, job
from ._losses import BACKWARD, FORWARD, backward, backward_rows, each_loss, each_slope, forward, forward_rows, log1p
from ._math import vexp, vlog, vlog1p
from ._softmax import largest, row_sum
from .simd import (
    L,
    dstore,
    fload,
    fstore,
    isplat,
    lane_index,
    lload,
    vabs,
    vload_n,
    vmax,
    vselect,
    vsplat,
    vstore_n,
)


# ---------------------------------------------------------------- binary
@inner
def _logs(z):
    """log p and log q of the truth with logit z, p + q = 1."""
    rest = vlog1p(vexp(-vabs(z)))
    return -(vmax(-z, vsplat(0.0)) + rest), -(vmax(z, vsplat(0.0)) + rest)


@each_loss
def _sigmoid(a, x, target, weight, other, i, n):
    truth = vload_n(target, i, n) == 1
    z = vload_n(x, i, n)
    log_p, log_q = _logs(vselect(truth, z, -z))
    return vselect(truth, -a.alpha, -a.beta) * (vexp(a.gamma * log_q) * log_p)


@each_slope
def _sigmoid_slope(a, x, target, weight, other, i, n):
    truth = vload_n(target, i, n) == 1
    z = vload_n(x, i, n)
    z = vselect(truth, z, -z)
    log_p, log_q = _logs(z)
    e = vexp(-vabs(z))
    near, far = 1 / (1 + e), e / (1 + e)
    p, q = vselect(z < 0, far, near), vselect(z < 0, near, far)
    slope = vexp(a.gamma * log_q) * (a.gamma * p * log_p - q)
    return vselect(truth, a.alpha, -a.beta) * slope


@job(**FORWARD, gamma=FLOAT, alpha=FLOAT, beta=FLOAT)
def _sigmoid_losses(first, last, thread, a):
    _sigmoid(a, first, last, thread)


@job(**BACKWARD, gamma=FLOAT, alpha=FLOAT, beta=FLOAT)
def _sigmoid_slopes(first, last, thread, a):
    _sigmoid_slope(a, first, last)


def _balance(gamma: float, alpha: float | None) -> dict[str, float]:
    alpha, beta = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return {"gamma": gamma, "alpha": alpha, "beta": beta}


def sigmoid_focal_loss(
    x: np.ndarray,
    target: np.ndarray,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """-alpha q**gamma log p, p = sigmoid(x) for targets of 1, sigmoid(-x) for 0, q = 1 - p."""
    return forward(_sigmoid_losses, {"x": x, "target": target}, reduction, out, **_balance(gamma, alpha))


def sigmoid_focal_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: +-dy * alpha q**gamma (gamma p log p - q)."""
    return backward(_sigmoid_slopes, dy, {"x": x, "target": target}, reduction, out, **_balance(gamma, alpha))


# ---------------------------------------------------------------- multi-class, a row of logits at a time
@row_sum
def _others(c, n, x, dx, top, label):
    """e**(x - top) but for the label, kept in dx unless that is null."""
    e = vselect(lane_index() == isplat(label - c), 0, vexp(vload_n(x, c, n) - top))
    if dx:
        vstore_n(dx, c, e, n)
    return e


# The functions of a row's truth are taken of L rows at once: a job goes over its rows, then over these numbers.
@inner
def _of_truth(others, distance, gamma):
    """The sum of all, p, q, log p and q**gamma of rows, from the others' sum and the truth's distance from the top."""
    of_truth = vexp(distance)
    total = others + of_truth
    log_p = distance - log1p(others + (of_truth - 1.0))
    q = others / total
    power = vexp(gamma * vlog(q)) if gamma != 0 else vsplat(1.0)
    return total, of_truth / total, q, log_p, power


@job(x=PTR, target=PTR, alpha=PTR, losses=PTR, sums=PTR, rooms=PTR, rows=INT, per_job=INT, classes=INT, gamma=FLOAT)
def _softmax_losses(first, last, thread, a):
    others = a.rooms + thread * 8 * a.per_job
    distance = others + 4 * a.per_job
    for block in range(first, last):
        begin = block * a.per_job
        rows = min(a.per_job, a.rows - begin)
        for r in range(rows):
            x, label = a.x + 4 * (begin + r) * a.classes, lload(a.target, begin + r)
            top = largest(x, a.classes)
            fstore(others, r, _others(a.classes, x, 0, top, label))
            fstore(distance, r, fload(x, label) - top)
        for r in range(0, rows, L):
            _, _, _, log_p, power = _of_truth(vload_n(others, r, rows - r), vload_n(distance, r, rows - r), a.gamma)
            vstore_n(others, r, -power * log_p, rows - r)
        total = 0.0
        for r in range(rows):
            loss = fload(others, r)
            if a.alpha:
                loss *= fload(a.alpha, lload(a.target, begin + r))
            if a.losses:
                fstore(a.losses, begin + r, loss)
            total += loss
        dstore(a.sums, block, total)


@job(x=PTR, target=PTR, alpha=PTR, dy=PTR, dx=PTR, rooms=PTR, rows=INT, per_job=INT, classes=INT, gamma=FLOAT,
     scale=FLOAT)
def _softmax_gradients(first, last, thread, a):
    others = a.rooms + thread * 8 * a.per_job
    distance = others + 4 * a.per_job
    tail = a.classes % L
    for block in range(first, last):
        begin = block * a.per_job
        rows = min(a.per_job, a.rows - begin)
        for r in range(rows):
            start, label = 4 * (begin + r) * a.classes, lload(a.target, begin + r)
            top = largest(a.x + start, a.classes)
            fstore(others, r, _others(a.classes, a.x + start, a.dx + start, top, label))
            fstore(distance, r, fload(a.x + start, label) - top)
        for r in range(0, rows, L):
            total, p, q, log_p, power = _of_truth(
                vload_n(others, r, rows - r), vload_n(distance, r, rows - r), a.gamma)
            weighted = vselect(p == 0, 0, p * vselect(q == 0, -1, log_p / q))
            factor = power * (a.gamma * weighted - 1.0)
            vstore_n(others, r, factor / total, rows - r)
            vstore_n(distance, r, factor * q, rows - r)
        for r in range(rows):
            dx, label = a.dx + 4 * (begin + r) * a.classes, lload(a.target, begin + r)
            scale = fload(a.dy, begin + r) if a.dy else a.scale
            if a.alpha:
                scale *= fload(a.alpha, label)
            p_scale = -scale * fload(others, r)
            for c in range(0, a.classes - tail, L):
                vstore_n(dx, c, p_scale * vload_n(dx, c, FULL), FULL)
            vstore_n(dx, a.classes - tail, p_scale * vload_n(dx, a.classes - tail, tail), tail)
            fstore(dx, label, scale * fload(distance, r))


def softmax_focal_loss(
    x: np.ndarray,
    target: np.ndarray,
    alpha: np.ndarray | None = None,
    *,
    gamma: float = 2.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """-alpha[target] q**gamma log p, p = softmax(x)[target]: x (M, C) to loss, 0-d or (M,)."""
    operands = {"x": x, "target": target, "alpha": alpha}
    return forward_rows(_softmax_losses, operands, reduction, out, room=2, gamma=gamma)


def softmax_focal_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    alpha: np.ndarray | None = None,
    *,
    gamma: float = 2.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dy * alpha q**gamma (gamma p log p / q - 1) times (1 at the target, else 0) - softmax(x)."""
    operands = {"x": x, "target": target, "alpha": alpha}
    return backward_rows(_softmax_gradients, dy, operands, reduction, out, room=2, gamma=gamma)
