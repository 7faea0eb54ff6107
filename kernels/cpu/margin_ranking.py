"""Margin ranking loss, float32, any shapes that broadcast; formulas in the reference's file.

A forward reads the two scores and the target, 12 bytes an element; a backward writes both gradients too, 20 bytes.
"""

from __future__ import annotations

import numpy as np

from ._driver import FLOAT, job
from ._losses import BACKWARD_BOTH, FORWARD, backward_both, each_loss, each_slopes, forward
from .simd import vload_n, vmax, vselect, vsplat


@each_loss
def _loss(a, x, target, weight, other, i, n):
    d = vload_n(x, i, n) - vload_n(other, i, n)
    return vmax(vsplat(0.0), a.margin - vload_n(target, i, n) * d)


@each_slopes
def _slopes(a, x, target, weight, other, i, n):
    t = vload_n(target, i, n)
    lacking = a.margin - t * (vload_n(x, i, n) - vload_n(other, i, n))
    slope = vselect(lacking >= 0, t, 0)
    return -slope, slope


@job(**FORWARD, margin=FLOAT)
def _losses(first, last, thread, a):
    _loss(a, first, last, thread)


@job(**BACKWARD_BOTH, margin=FLOAT)
def _slopes_blocks(first, last, thread, a):
    _slopes(a, first, last)


def margin_ranking_loss(
    x1: np.ndarray,
    x2: np.ndarray,
    target: np.ndarray,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """max(0, margin - t (x1 - x2))."""
    return forward(_losses, {"x": x1, "target": target, "other": x2}, reduction, out, margin=margin)


def margin_ranking_loss_backward(
    dy: np.ndarray,
    x1: np.ndarray,
    x2: np.ndarray,
    target: np.ndarray,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients to x1 and x2: -dy * t and dy * t where margin - t (x1 - x2) >= 0, else 0."""
    operands = {"x": x1, "target": target, "other": x2}
    return backward_both(_slopes_blocks, dy, operands, reduction, out, margin=margin)
