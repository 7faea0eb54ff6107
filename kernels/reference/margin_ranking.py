"""The loss of ranking pairs: zero once the right one of two scores leads by the margin, elementwise over any shapes."""

from __future__ import annotations

import numpy as np

from ._loss import chained, reduced
from ._out import deliver


def margin_ranking_loss(
    x1: np.ndarray,
    x2: np.ndarray,
    target: np.ndarray,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """max(0, margin - t (x1 - x2)), t = 1 where x1 should be the larger and -1 where x2."""
    return deliver(reduced(np.maximum(margin - target * (x1 - x2), 0), reduction), out, x1.dtype)


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
    """∂/∂x1 = -t where margin - t (x1 - x2) ≥ 0, else 0; ∂/∂x2 is its negative → (dx1, dx2)."""
    slope = np.where(margin - target * (x1 - x2) >= 0, -target, 0)
    out1, out2 = out or (None, None)
    return (
        deliver(chained(dy, slope, x1.shape, reduction), out1, x1.dtype),
        deliver(chained(dy, -slope, x2.shape, reduction), out2, x1.dtype),
    )
