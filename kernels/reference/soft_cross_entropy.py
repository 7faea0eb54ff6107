"""Softmax cross-entropy with class probabilities as targets.

For row m with logits x, target distribution t, class weights w (1 if None) and smoothing ε over C classes,

    loss_m = -Σ_c w_c t'_c log p_c,   t' = (1 - ε) t + ε / C,   log p_c = x_c - log Σ_j e^(x_j)

The reductions: "none" gives (M,), "sum" the sum, "mean" the sum over M (weights have no say in it).
Backward: ∂loss_m/∂x_c = p_c Σ_j w_j t'_j - w_c t'_c.
Sources: Bridle (1990); Szegedy et al. (2016), arXiv:1512.00567, section 7; torch.nn.CrossEntropyLoss (conventions).
"""

from __future__ import annotations

import numpy as np

from ._loss import chained, reduced
from ._out import deliver


def soft_cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Logits x and target (M, C), weight (C,) → loss."""
    shifted = x - x.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -(_mass(target, weight, label_smoothing) * log_p).sum(axis=1)
    return deliver(reduced(loss, reduction), out, x.dtype)


def soft_cross_entropy_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dy of the loss's shape → dx (M, C)."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    mass = _mass(target, weight, label_smoothing)
    slope = e / e.sum(axis=1, keepdims=True) * mass.sum(axis=1, keepdims=True) - mass
    dy = dy[:, None] if reduction == "none" else dy
    return deliver(chained(dy, slope, x.shape, reduction, len(x)), out, x.dtype)


def _mass(target, weight, label_smoothing):
    """w t': what each class's -log p counts."""
    smoothed = target * (1 - label_smoothing) + label_smoothing / target.shape[1]
    return smoothed if weight is None else weight * smoothed
