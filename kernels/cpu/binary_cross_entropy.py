"""Binary cross-entropy, float32, any shape; formulas in the reference's file.

A forward reads x and target, 8 bytes an element, and a weight of full shape 4 more; a backward writes dx, 4 more. From
probabilities a forward takes two logarithms an element, from logits an exponential and a logarithm.
"""

from __future__ import annotations

import numpy as np

from ._driver import job
from ._losses import BACKWARD, FORWARD, backward, each_loss, each_slope, forward, log1p
from ._math import vexp, vlog, vlog1p
from .simd import vabs, vload_n, vmax, vselect, vsplat


@each_loss
def _loss(a, x, target, weight, other, i, n):
    p, t = vload_n(x, i, n), vload_n(target, i, n)
    log_p, log_q = vmax(vlog(p), vsplat(-100.0)), vmax(log1p(-p), vsplat(-100.0))
    return vload_n(weight, i, n) * -(t * log_p + (1 - t) * log_q)


@each_slope
def _slope(a, x, target, weight, other, i, n):
    p = vload_n(x, i, n)
    variance = vmax((1 - p) * p, vsplat(1e-12))
    return vload_n(weight, i, n) * ((p - vload_n(target, i, n)) / variance)


@each_loss
def _loss_of_logits(a, x, target, weight, other, i, n):
    z, t = vload_n(x, i, n), vload_n(target, i, n)
    rest = vlog1p(vexp(-vabs(z)))  # softplus(z) = max(z, 0) + rest
    positive = vload_n(other, i, n) * t * (vmax(-z, vsplat(0.0)) + rest)
    return vload_n(weight, i, n) * (positive + (1 - t) * (vmax(z, vsplat(0.0)) + rest))


@each_slope
def _slope_of_logits(a, x, target, weight, other, i, n):
    z, t = vload_n(x, i, n), vload_n(target, i, n)
    e = vexp(-vabs(z))
    near, far = 1 / (1 + e), e / (1 + e)
    p, q = vselect(z < 0, far, near), vselect(z < 0, near, far)
    return vload_n(weight, i, n) * ((1 - t) * p - vload_n(other, i, n) * t * q)


@job(**FORWARD)
def _losses(first, last, thread, a):
    _loss(a, first, last, thread)


@job(**BACKWARD)
def _slopes(first, last, thread, a):
    _slope(a, first, last)


@job(**FORWARD)
def _losses_of_logits(first, last, thread, a):
    _loss_of_logits(a, first, last, thread)


@job(**BACKWARD)
def _slopes_of_logits(first, last, thread, a):
    _slope_of_logits(a, first, last)


def _operands(x, target, weight, pos_weight=None):
    return {
        "x": x,
        "target": target,
        "weight": 1.0 if weight is None else weight,
        "other": 1.0 if pos_weight is None else pos_weight,
    }


def binary_cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """-weight * (t log x + (1 - t) log(1 - x)), logarithms of -100 at least."""
    return forward(_losses, _operands(x, target, weight), reduction, out)


def binary_cross_entropy_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dy * weight * (x - t) / (x (1 - x)), the divisor 1e-12 at least."""
    return backward(_slopes, dy, _operands(x, target, weight), reduction, out)


def binary_cross_entropy_with_logits(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    pos_weight: np.ndarray | None = None,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """weight * (pos_weight t softplus(-x) + (1 - t) softplus(x))."""
    return forward(_losses_of_logits, _operands(x, target, weight, pos_weight), reduction, out)


def binary_cross_entropy_with_logits_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    pos_weight: np.ndarray | None = None,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dy * weight * ((1 - t) sigmoid(x) - pos_weight t sigmoid(-x))."""
    return backward(_slopes_of_logits, dy, _operands(x, target, weight, pos_weight), reduction, out)
