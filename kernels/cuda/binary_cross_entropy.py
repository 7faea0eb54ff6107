"""Binary cross-entropy, any shape; formulas in the reference's file.

A forward reads x and target, 8 bytes an element of float32, and a weight of full shape 4 more; a backward writes dx, 4
more. From probabilities a forward takes two logarithms an element, from logits an exponential and a logarithm.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array
from ._losses import backward, each_loss, each_slope, forward
from ._math import ONE, ZERO, absolute, exp, larger, log, log1p
from .ptx import reciprocal

_LEAST_LOG, _LEAST_VARIANCE = np.float32(-100), np.float32(1e-12)


@each_loss(operands=4)
def _loss(p, t, other, weight, a, b, c, d):
    log_p, log_q = larger(log(p), _LEAST_LOG), larger(log1p(-p), _LEAST_LOG)
    return -weight * (t * log_p + (ONE - t) * log_q)


@each_slope(operands=4)
def _slope(p, t, other, weight, a, b, c, d):
    return weight * ((p - t) * reciprocal(larger((ONE - p) * p, _LEAST_VARIANCE)))


@each_loss(operands=4)
def _loss_of_logits(z, t, pos_weight, weight, a, b, c, d):
    rest = log1p(exp(-absolute(z)))  # softplus(z) = max(z, 0) + rest
    positive = pos_weight * t * (larger(-z, ZERO) + rest)
    return weight * (positive + (ONE - t) * (larger(z, ZERO) + rest))


@each_slope(operands=4)
def _slope_of_logits(z, t, pos_weight, weight, a, b, c, d):
    e = exp(-absolute(z))
    near = reciprocal(ONE + e)
    far = e * near
    p, q = (far, near) if z < ZERO else (near, far)
    return weight * ((ONE - t) * p - pos_weight * t * q)


def binary_cross_entropy(
    x: Array, target: Array, weight: Array | None = None, *, reduction: str = "mean", out: Array | None = None
) -> Array:
    """-weight * (t log x + (1 - t) log(1 - x)), logarithms of -100 at least."""
    return forward(_loss, {"x": x, "target": target, "weight": weight}, reduction, out)


def binary_cross_entropy_backward(
    dy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """Gradient to x: dy * weight * (x - t) / (x (1 - x)), the divisor 1e-12 at least."""
    return backward(_slope, dy, {"x": x, "target": target, "weight": weight}, reduction, out)


def binary_cross_entropy_with_logits(
    x: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    *,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """weight * (pos_weight t softplus(-x) + (1 - t) softplus(x))."""
    operands = {"x": x, "target": target, "other": pos_weight, "weight": weight}
    return forward(_loss_of_logits, operands, reduction, out)


def binary_cross_entropy_with_logits_backward(
    dy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    *,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """Gradient to x: dy * weight * ((1 - t) sigmoid(x) - pos_weight t sigmoid(-x))."""
    operands = {"x": x, "target": target, "other": pos_weight, "weight": weight}
    return backward(_slope_of_logits, dy, operands, reduction, out)
