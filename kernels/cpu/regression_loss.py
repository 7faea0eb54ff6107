"""Losses of the difference d = x - target, float32, any shapes that broadcast; formulas in the reference's file.

All are one function: parabolic up to a knee, straight from there on. A forward reads both operands, 8 bytes an element;
a backward writes the gradient too, 12 bytes. A loss for each element costs 4 more each way.
"""

from __future__ import annotations

import numpy as np

from ._driver import FLOAT, job
from ._losses import BACKWARD, FORWARD, backward, each_loss, each_slope, forward
from .simd import vabs, vload_n, vselect

_LEAST_BETA = float(np.finfo(np.float32).tiny)  # 0.5 / beta must be a number


@each_loss
def _loss(a, x, target, weight, other, i, n):
    d = vload_n(x, i, n) - vload_n(target, i, n)
    size = vabs(d)
    return vselect(size <= a.knee, a.curve * d * d, a.slope * (size - a.offset))


@each_slope
def _slope(a, x, target, weight, other, i, n):
    d = vload_n(x, i, n) - vload_n(target, i, n)
    return vselect(d > a.knee, a.slope, vselect(d < -a.knee, -a.slope, 2 * a.curve * d))


@job(**FORWARD, knee=FLOAT, curve=FLOAT, slope=FLOAT, offset=FLOAT)
def _losses(first, last, thread, a):
    _loss(a, first, last, thread)


@job(**BACKWARD, knee=FLOAT, curve=FLOAT, slope=FLOAT)
def _slopes(first, last, thread, a):
    _slope(a, first, last)


_SQUARE = {"knee": np.inf, "curve": 1.0, "slope": 0.0}
_ABSOLUTE = {"knee": 0.0, "curve": 0.0, "slope": 1.0}


def _smooth(beta: float) -> dict[str, float]:
    return _ABSOLUTE if beta < _LEAST_BETA else {"knee": beta, "curve": 0.5 / beta, "slope": 1.0}


def _huber(delta: float) -> dict[str, float]:
    return {"knee": delta, "curve": 0.5, "slope": delta}


def mse_loss(
    x: np.ndarray, target: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """d**2."""
    return forward(_losses, {"x": x, "target": target}, reduction, out, **_SQUARE, offset=0.0)


def mse_loss_backward(
    dy: np.ndarray, x: np.ndarray, target: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient to x: dy * 2d."""
    return backward(_slopes, dy, {"x": x, "target": target}, reduction, out, **_SQUARE)


def l1_loss(
    x: np.ndarray, target: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """|d|."""
    return forward(_losses, {"x": x, "target": target}, reduction, out, **_ABSOLUTE, offset=0.0)


def l1_loss_backward(
    dy: np.ndarray, x: np.ndarray, target: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient to x: dy with the sign of d, 0 at 0."""
    return backward(_slopes, dy, {"x": x, "target": target}, reduction, out, **_ABSOLUTE)


def smooth_l1_loss(
    x: np.ndarray, target: np.ndarray, *, beta: float = 1.0, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """d**2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    return forward(_losses, {"x": x, "target": target}, reduction, out, **_smooth(beta), offset=beta / 2)


def smooth_l1_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    beta: float = 1.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dy * d / beta where |d| < beta, else dy with the sign of d."""
    return backward(_slopes, dy, {"x": x, "target": target}, reduction, out, **_smooth(beta))


def huber_loss(
    x: np.ndarray, target: np.ndarray, *, delta: float = 1.0, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """d**2 / 2 where |d| <= delta, else delta * (|d| - delta / 2)."""
    return forward(_losses, {"x": x, "target": target}, reduction, out, **_huber(delta), offset=delta / 2)


def huber_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    delta: float = 1.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dy times d, held between -delta and delta."""
    return backward(_slopes, dy, {"x": x, "target": target}, reduction, out, **_huber(delta))
