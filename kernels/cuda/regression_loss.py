"""Losses of the difference d = x - target, any shapes that broadcast; formulas in the reference's file.

All are one function: parabolic up to a knee, straight from there on. A forward reads both operands, 8 bytes an element
of float32; a backward writes the gradient too, 12 bytes. A loss for each element costs 4 more each way.
"""

from __future__ import annotations

import math

import numpy as np

from ._layout import Array
from ._losses import backward, each_loss, each_slope, forward
from ._math import TWO, absolute

_LEAST_BETA = float(np.finfo(np.float32).tiny)  # 0.5 / beta must be a number


@each_loss(operands=2)
def _loss(x, target, other, weight, knee, curve, slope, offset):
    d = x - target
    size = absolute(d)
    return curve * d * d if size <= knee else slope * (size - offset)


@each_slope(operands=2)
def _slope(x, target, other, weight, knee, curve, slope, offset):
    d = x - target
    return slope if d > knee else -slope if d < -knee else TWO * curve * d


_SQUARE = (math.inf, 1.0, 0.0)
_ABSOLUTE = (0.0, 0.0, 1.0)


def _smooth(beta: float) -> tuple[float, float, float]:
    return _ABSOLUTE if beta < _LEAST_BETA else (beta, 0.5 / beta, 1.0)


def _huber(delta: float) -> tuple[float, float, float]:
    return delta, 0.5, delta


def mse_loss(x: Array, target: Array, *, reduction: str = "mean", out: Array | None = None) -> Array:
    """d**2."""
    return forward(_loss, {"x": x, "target": target}, reduction, out, *_SQUARE)


def mse_loss_backward(
    dy: Array, x: Array, target: Array, *, reduction: str = "mean", out: Array | None = None
) -> Array:
    """Gradient to x: dy * 2d."""
    return backward(_slope, dy, {"x": x, "target": target}, reduction, out, *_SQUARE)


def l1_loss(x: Array, target: Array, *, reduction: str = "mean", out: Array | None = None) -> Array:
    """|d|."""
    return forward(_loss, {"x": x, "target": target}, reduction, out, *_ABSOLUTE)


def l1_loss_backward(
    dy: Array, x: Array, target: Array, *, reduction: str = "mean", out: Array | None = None
) -> Array:
    """Gradient to x: dy with the sign of d, 0 at 0."""
    return backward(_slope, dy, {"x": x, "target": target}, reduction, out, *_ABSOLUTE)


def smooth_l1_loss(
    x: Array, target: Array, *, beta: float = 1.0, reduction: str = "mean", out: Array | None = None
) -> Array:
    """d**2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    return forward(_loss, {"x": x, "target": target}, reduction, out, *_smooth(beta), beta / 2)


def smooth_l1_loss_backward(
    dy: Array, x: Array, target: Array, *, beta: float = 1.0, reduction: str = "mean", out: Array | None = None
) -> Array:
    """Gradient to x: dy * d / beta where |d| < beta, else dy with the sign of d."""
    return backward(_slope, dy, {"x": x, "target": target}, reduction, out, *_smooth(beta))


def huber_loss(
    x: Array, target: Array, *, delta: float = 1.0, reduction: str = "mean", out: Array | None = None
) -> Array:
    """d**2 / 2 where |d| <= delta, else delta * (|d| - delta / 2)."""
    return forward(_loss, {"x": x, "target": target}, reduction, out, *_huber(delta), delta / 2)


def huber_loss_backward(
    dy: Array, x: Array, target: Array, *, delta: float = 1.0, reduction: str = "mean", out: Array | None = None
) -> Array:
    """Gradient to x: dy times d, held between -delta and delta."""
    return backward(_slope, dy, {"x": x, "target": target}, reduction, out, *_huber(delta))
