"""Negative log-likelihoods with predicted parameters, float32, any shapes that broadcast; formulas in the reference's.

A forward reads x, target and the variance or scale, 12 bytes an element where that has full shape, and takes a
logarithm; a backward writes both gradients, 8 bytes more. The Bernoulli one has no third operand.
"""

from __future__ import annotations

import math

import numpy as np

from ._driver import FLOAT, job
from ._losses import (
    BACKWARD,
    BACKWARD_BOTH,
    FORWARD,
    backward,
    backward_both,
    each_loss,
    each_slope,
    each_slopes,
    forward,
    log1p,
)
from ._math import vlog
from .simd import vabs, vload_n, vmax, vselect, vsplat


@each_loss
def _gaussian(a, x, target, weight, other, i, n):
    v, d = vmax(vsplat(a.eps), vload_n(other, i, n)), vload_n(x, i, n) - vload_n(target, i, n)
    return 0.5 * (vlog(v) + d * d / v) + a.constant


@each_slopes
def _gaussian_slopes(a, x, target, weight, other, i, n):
    v, d = vmax(vsplat(a.eps), vload_n(other, i, n)), vload_n(x, i, n) - vload_n(target, i, n)
    of_x = d / v
    return of_x, 0.5 * ((1 - d * of_x) / v)


@each_loss
def _laplace(a, x, target, weight, other, i, n):
    b, d = vmax(vsplat(a.eps), vload_n(other, i, n)), vload_n(x, i, n) - vload_n(target, i, n)
    return vlog(b) + vabs(d) / b + a.constant


@each_slopes
def _laplace_slopes(a, x, target, weight, other, i, n):
    b, d = vmax(vsplat(a.eps), vload_n(other, i, n)), vload_n(x, i, n) - vload_n(target, i, n)
    sign = vselect(d > 0, 1, vselect(d < 0, -1, d))  # 0 at 0, NaN where d is
    return sign / b, (1 - vabs(d) / b) / b


@each_loss
def _bernoulli(a, x, target, weight, other, i, n):
    p, t = vload_n(x, i, n), vload_n(target, i, n)
    log_q = vmax(log1p(-p), vsplat(a.least_log))
    return -(t * vlog(vmax(p, vsplat(a.eps))) + (1 - t) * log_q)


@each_slope
def _bernoulli_slope(a, x, target, weight, other, i, n):
    p, t = vload_n(x, i, n), vload_n(target, i, n)
    return (1 - t) / vmax(1 - p, vsplat(a.eps)) - t / vmax(p, vsplat(a.eps))


@job(**FORWARD, eps=FLOAT, constant=FLOAT)
def _gaussian_losses(first, last, thread, a):
    _gaussian(a, first, last, thread)


@job(**BACKWARD_BOTH, eps=FLOAT)
def _gaussian_slopes_blocks(first, last, thread, a):
    _gaussian_slopes(a, first, last)


@job(**FORWARD, eps=FLOAT, constant=FLOAT)
def _laplace_losses(first, last, thread, a):
    _laplace(a, first, last, thread)


@job(**BACKWARD_BOTH, eps=FLOAT)
def _laplace_slopes_blocks(first, last, thread, a):
    _laplace_slopes(a, first, last)


@job(**FORWARD, eps=FLOAT, least_log=FLOAT)
def _bernoulli_losses(first, last, thread, a):
    _bernoulli(a, first, last, thread)


@job(**BACKWARD, eps=FLOAT)
def _bernoulli_slopes_blocks(first, last, thread, a):
    _bernoulli_slope(a, first, last)


def gaussian_nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    var: np.ndarray,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """(log v + (x - t)**2 / v) / 2, v = max(var, eps); full adds log(2 pi) / 2."""
    constant = math.log(2 * math.pi) / 2 if full else 0.0
    operands = {"x": x, "target": target, "other": var}
    return forward(_gaussian_losses, operands, reduction, out, eps=eps, constant=constant)


def gaussian_nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    var: np.ndarray,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients to x, dy * d / v, and to var, dy * (1 - d**2 / v) / (2 v), d = x - t."""
    operands = {"x": x, "target": target, "other": var}
    return backward_both(_gaussian_slopes_blocks, dy, operands, reduction, out, eps=eps)


def laplace_nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """log b + |x - t| / b, b = max(scale, eps); full adds log 2."""
    constant = math.log(2) if full else 0.0
    operands = {"x": x, "target": target, "other": scale}
    return forward(_laplace_losses, operands, reduction, out, eps=eps, constant=constant)


def laplace_nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients to x, dy * sign(d) / b, and to scale, dy * (1 - |d| / b) / b, d = x - t."""
    operands = {"x": x, "target": target, "other": scale}
    return backward_both(_laplace_slopes_blocks, dy, operands, reduction, out, eps=eps)


def bernoulli_nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """-t log max(x, eps) - (1 - t) log max(1 - x, eps)."""
    least_log = math.log(eps) if eps > 0 else -math.inf
    return forward(_bernoulli_losses, {"x": x, "target": target}, reduction, out, eps=eps, least_log=least_log)


def bernoulli_nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dy * ((1 - t) / max(1 - x, eps) - t / max(x, eps))."""
    return backward(_bernoulli_slopes_blocks, dy, {"x": x, "target": target}, reduction, out, eps=eps)
