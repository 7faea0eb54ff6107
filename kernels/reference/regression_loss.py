"""Losses of the difference d = x - target, elementwise over shapes that broadcast: squared, absolute, and between.

The gradient to x is dy times ∂loss/∂d; where x was broadcast, summed. Each loss is, up to a constant and a scale, the
negative log-likelihood of `target` = x + noise: mse of Gaussian noise, l1 of Laplace noise, the other two of a density
that is Gaussian in the middle and falls like Laplace's in the tails (Huber, 1964).
"""

from __future__ import annotations

import numpy as np

from ._loss import chained, reduced
from ._out import deliver


def mse_loss(
    x: np.ndarray, target: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """d²."""
    d = x - target
    return deliver(reduced(d * d, reduction), out, x.dtype)


def mse_loss_backward(
    dy: np.ndarray, x: np.ndarray, target: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """∂/∂d = 2d."""
    return deliver(chained(dy, 2 * (x - target), x.shape, reduction), out, x.dtype)


def l1_loss(
    x: np.ndarray, target: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """|d|."""
    return deliver(reduced(np.abs(x - target), reduction), out, x.dtype)


def l1_loss_backward(
    dy: np.ndarray, x: np.ndarray, target: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """∂/∂d = the sign of d, 0 at 0."""
    return deliver(chained(dy, np.sign(x - target), x.shape, reduction), out, x.dtype)


def smooth_l1_loss(
    x: np.ndarray, target: np.ndarray, *, beta: float = 1.0, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """d² / (2 beta) where |d| < beta, else |d| - beta / 2. Source: Girshick (2015), arXiv:1504.08083, eq. 3."""
    if beta == 0:
        return l1_loss(x, target, reduction=reduction, out=out)
    d = x - target
    size = np.abs(d)
    return deliver(reduced(np.where(size < beta, d * d / (2 * beta), size - beta / 2), reduction), out, x.dtype)


def smooth_l1_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    beta: float = 1.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """∂/∂d = d / beta where |d| < beta, else the sign of d."""
    if beta == 0:
        return l1_loss_backward(dy, x, target, reduction=reduction, out=out)
    d = x - target
    return deliver(chained(dy, np.where(np.abs(d) < beta, d / beta, np.sign(d)), x.shape, reduction), out, x.dtype)


def huber_loss(
    x: np.ndarray, target: np.ndarray, *, delta: float = 1.0, reduction: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """d² / 2 where |d| ≤ delta, else delta (|d| - delta / 2). Source: Huber (1964), eq. 3.1 ff."""
    d = x - target
    size = np.abs(d)
    loss = np.where(size <= delta, d * d / 2, delta * (size - delta / 2))
    return deliver(reduced(loss, reduction), out, x.dtype)


def huber_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    delta: float = 1.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """∂/∂d = d, held between -delta and delta."""
    return deliver(chained(dy, np.clip(x - target, -delta, delta), x.shape, reduction), out, x.dtype)
