"""Focal losses: cross-entropy whose easy elements, those with a probability p of the truth near 1, count less.

    loss = -α (1 - p)^γ log p

γ = 0 and α = 1 is cross-entropy. The mean divides by the number of losses. With q = 1 - p, in the logit of the truth

    sigmoid:  ∂loss/∂z   = α q^γ (γ p log p - q)
    softmax:  ∂loss/∂x_c = α q^γ (γ p log p / q - 1) ([c = t] - p_c)

where log p / q is -1 at q = 0. Source: Lin et al. (2017), arXiv:1708.02002, eq. 5 and appendix B.
"""

from __future__ import annotations

import numpy as np

from ._loss import chained, reduced
from ._out import deliver


def sigmoid_focal_loss(
    x: np.ndarray,
    target: np.ndarray,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Logits x and targets of 0 or 1, one shape; p = σ(x) for 1, σ(-x) for 0. α is alpha for 1, 1 - alpha for 0."""
    z, balance = _towards_truth(x, target, alpha)
    log_p, log_q = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    return deliver(reduced(-balance * np.exp(gamma * log_q) * log_p, reduction), out, x.dtype)


def sigmoid_focal_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dy of the loss's shape → dx."""
    z, balance = _towards_truth(x, target, alpha)
    log_p, log_q = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    slope = balance * np.exp(gamma * log_q) * (gamma * np.exp(log_p) * log_p - np.exp(log_q))
    return deliver(chained(dy, np.where(target == 1, slope, -slope), x.shape, reduction), out, x.dtype)


def _towards_truth(x, target, alpha):
    truth = target == 1
    balance = np.ones((), x.dtype) if alpha is None else np.where(truth, alpha, 1 - alpha).astype(x.dtype)
    return np.where(truth, x, -x), balance


def softmax_focal_loss(
    x: np.ndarray,
    target: np.ndarray,
    alpha: np.ndarray | None = None,
    *,
    gamma: float = 2.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Logits x (M, C), target (M,) class indices, alpha (C,) → loss; p = softmax(x)[target], α = alpha[target]."""
    _, log_p, q, balance = _of_rows(x, target, alpha)
    return deliver(reduced(-balance * q**gamma * log_p, reduction), out, x.dtype)


def softmax_focal_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    alpha: np.ndarray | None = None,
    *,
    gamma: float = 2.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dy of the loss's shape → dx (M, C)."""
    p, log_p, q, balance = _of_rows(x, target, alpha)
    rows = np.arange(len(x))
    of_truth = p[rows, target]
    ratio = np.where(q > 0, log_p / np.where(q > 0, q, 1), -1)
    factor = balance * q**gamma * (gamma * np.where(of_truth > 0, of_truth * ratio, 0) - 1)
    slope = -p
    slope[rows, target] = q
    dy = dy[:, None] if reduction == "none" else dy
    return deliver(chained(dy, factor[:, None] * slope, x.shape, reduction, len(x)), out, x.dtype)


def _of_rows(x, target, alpha):
    """p of all classes, log p and q = 1 - p of the truth, its balance. q is summed up from the other classes."""
    rows = np.arange(len(x))
    shifted = x - x.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    of_truth = e[rows, target]
    others = np.where(np.arange(x.shape[1]) == target[:, None], 0, e).sum(axis=1)
    log_p = shifted[rows, target] - np.log1p(others + (of_truth - 1))
    total = of_truth + others
    balance = np.ones((), x.dtype) if alpha is None else alpha[target]
    return e / total[:, None], log_p, others / total, balance
