"""Kullback-Leibler divergence of a distribution t from one given by its log-probabilities x, elementwise.

With log_target, the target comes as log t too. "batchmean" divides the sum by the length of x's first axis, which makes
it the divergence per distribution. Source: Kullback and Leibler (1951); torch.nn.KLDivLoss (conventions).
"""

from __future__ import annotations

import numpy as np

from ._loss import chained, reduced
from ._out import deliver


def kl_div(
    x: np.ndarray,
    target: np.ndarray,
    *,
    log_target: bool = False,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """t log t - t x, where 0 log 0 = 0."""
    if log_target:
        loss = np.exp(target) * (target - x)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            loss = np.where(target == 0, 0, target * np.log(target)) - target * x
    return deliver(reduced(loss, reduction, _count(x, loss, reduction)), out, x.dtype)


def kl_div_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    log_target: bool = False,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """∂/∂x = -t."""
    slope = np.broadcast_to(-(np.exp(target) if log_target else target), np.broadcast_shapes(x.shape, target.shape))
    return deliver(chained(dy, slope, x.shape, reduction, _count(x, slope, reduction)), out, x.dtype)


def _count(x: np.ndarray, losses: np.ndarray, reduction: str) -> int:
    return len(x) if reduction == "batchmean" and x.ndim else losses.size if reduction == "mean" else 1
