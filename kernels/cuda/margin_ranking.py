"""Margin ranking loss, any shapes that broadcast; formulas in the reference's file.

A forward reads the two scores and the target, 12 bytes an element of float32; a backward writes both gradients too, 20
bytes.
"""

from __future__ import annotations

from ._layout import Array
from ._losses import backward_both, each_loss, each_slopes, forward
from ._math import ZERO, larger


@each_loss(operands=3)
def _loss(x, t, other, weight, margin, b, c, d):
    return larger(margin - t * (x - other), ZERO)


@each_slopes
def _slopes(x, t, other, weight, margin, b, c, d):
    slope = t if margin - t * (x - other) >= ZERO else ZERO
    return -slope, slope


def margin_ranking_loss(
    x1: Array, x2: Array, target: Array, *, margin: float = 0.0, reduction: str = "mean", out: Array | None = None
) -> Array:
    """max(0, margin - t (x1 - x2))."""
    return forward(_loss, {"x": x1, "target": target, "other": x2}, reduction, out, margin)


def margin_ranking_loss_backward(
    dy: Array,
    x1: Array,
    x2: Array,
    target: Array,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Gradients to x1 and x2: -dy * t and dy * t where margin - t (x1 - x2) >= 0, else 0."""
    return backward_both(_slopes, dy, {"x": x1, "target": target, "other": x2}, reduction, out, margin)
