"""Kullback-Leibler divergence, any shapes that broadcast; formulas in the reference's file.

A forward reads both operands, 8 bytes an element of float32, and takes a logarithm or an exponential; a backward writes
the gradient too, 12 bytes.
"""

from __future__ import annotations

from ._layout import Array
from ._losses import backward, each_loss, each_slope, forward
from ._math import ZERO, exp, log


@each_loss(operands=2)
def _loss(x, t, other, weight, a, b, c, d):
    return (ZERO if t == ZERO else t * log(t)) - t * x


@each_loss(operands=2)
def _loss_of_logs(x, t, other, weight, a, b, c, d):
    return exp(t) * (t - x)


@each_slope(operands=2)
def _slope(x, t, other, weight, a, b, c, d):
    return -t


@each_slope(operands=2)
def _slope_of_logs(x, t, other, weight, a, b, c, d):
    return -exp(t)


def kl_div(
    x: Array, target: Array, *, log_target: bool = False, reduction: str = "mean", out: Array | None = None
) -> Array:
    """t log t - t x."""
    return forward(_loss_of_logs if log_target else _loss, {"x": x, "target": target}, reduction, out)


def kl_div_backward(
    dy: Array, x: Array, target: Array, *, log_target: bool = False, reduction: str = "mean", out: Array | None = None
) -> Array:
    """Gradient to x: -dy * t."""
    return backward(_slope_of_logs if log_target else _slope, dy, {"x": x, "target": target}, reduction, out)
