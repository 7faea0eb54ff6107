"""Negative log-likelihoods with predicted parameters, any shapes that broadcast; formulas in the reference's file.

A forward reads x, target and the variance or scale, 12 bytes an element of float32 where that has full shape, and takes
a logarithm; a backward writes both gradients, 8 bytes more. The Bernoulli one has no third operand.
"""

from __future__ import annotations

import math

from ._layout import Array
from ._losses import backward, backward_both, each_loss, each_slope, each_slopes, forward
from ._math import HALF, ONE, ZERO, absolute, larger, log, log1p
from .ptx import reciprocal


@each_loss(operands=3)
def _gaussian(x, t, var, weight, eps, constant, c, d):
    v, distance = larger(var, eps), x - t
    return HALF * (log(v) + distance * distance * reciprocal(v)) + constant


@each_slopes
def _gaussian_slopes(x, t, var, weight, eps, b, c, d):
    inverse, distance = reciprocal(larger(var, eps)), x - t
    of_x = distance * inverse
    return of_x, HALF * ((ONE - distance * of_x) * inverse)


@each_loss(operands=3)
def _laplace(x, t, scale, weight, eps, constant, c, d):
    width = larger(scale, eps)
    return log(width) + absolute(x - t) * reciprocal(width) + constant


@each_slopes
def _laplace_slopes(x, t, scale, weight, eps, b, c, d):
    inverse, distance = reciprocal(larger(scale, eps)), x - t
    sign = ONE if distance > ZERO else -ONE if distance < ZERO else distance  # 0 at 0, NaN where it is
    return sign * inverse, (ONE - absolute(distance) * inverse) * inverse


@each_loss(operands=2)
def _bernoulli(p, t, other, weight, eps, least_log, c, d):
    return -(t * log(larger(p, eps)) + (ONE - t) * larger(log1p(-p), least_log))


@each_slope(operands=2)
def _bernoulli_slope(p, t, other, weight, eps, b, c, d):
    return (ONE - t) * reciprocal(larger(ONE - p, eps)) - t * reciprocal(larger(p, eps))


def gaussian_nll_loss(
    x: Array,
    target: Array,
    var: Array,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """(log v + (x - t)**2 / v) / 2, v = max(var, eps); full adds log(2 pi) / 2."""
    constant = math.log(2 * math.pi) / 2 if full else 0.0
    return forward(_gaussian, {"x": x, "target": target, "other": var}, reduction, out, eps, constant)


def gaussian_nll_loss_backward(
    dy: Array,
    x: Array,
    target: Array,
    var: Array,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Gradients to x, dy * d / v, and to var, dy * (1 - d**2 / v) / (2 v), d = x - t."""
    return backward_both(_gaussian_slopes, dy, {"x": x, "target": target, "other": var}, reduction, out, eps)


def laplace_nll_loss(
    x: Array,
    target: Array,
    scale: Array,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """log b + |x - t| / b, b = max(scale, eps); full adds log 2."""
    constant = math.log(2) if full else 0.0
    return forward(_laplace, {"x": x, "target": target, "other": scale}, reduction, out, eps, constant)


def laplace_nll_loss_backward(
    dy: Array,
    x: Array,
    target: Array,
    scale: Array,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Gradients to x, dy * sign(d) / b, and to scale, dy * (1 - |d| / b) / b, d = x - t."""
    return backward_both(_laplace_slopes, dy, {"x": x, "target": target, "other": scale}, reduction, out, eps)


def bernoulli_nll_loss(
    x: Array, target: Array, *, eps: float = 1e-6, reduction: str = "mean", out: Array | None = None
) -> Array:
    """-t log max(x, eps) - (1 - t) log max(1 - x, eps)."""
    least_log = math.log(eps) if eps > 0 else -math.inf
    return forward(_bernoulli, {"x": x, "target": target}, reduction, out, eps, least_log)


def bernoulli_nll_loss_backward(
    dy: Array, x: Array, target: Array, *, eps: float = 1e-6, reduction: str = "mean", out: Array | None = None
) -> Array:
    """Gradient to x: dy * ((1 - t) / max(1 - x, eps) - t / max(x, eps))."""
    return backward(_bernoulli_slope, dy, {"x": x, "target": target}, reduction, out, eps)
