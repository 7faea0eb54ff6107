"""Focal losses; formulas in the reference's file.

The binary one reads x and target, 8 bytes an element of float32, and takes two exponentials and a logarithm; its
backward writes dx, 4 more.
"""

from __future__ import annotations

from ._layout import Array
from ._losses import backward, each_loss, each_slope, forward
from ._math import ONE, ZERO, absolute, exp, larger, log1p
from .ptx import reciprocal


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
