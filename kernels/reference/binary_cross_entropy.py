"""Binary cross-entropy of targets t between 0 and 1, from probabilities or from logits, elementwise.

`weight`, and `pos_weight` of the positive part, broadcast to x's shape; None is 1. The mean divides by the number of
elements, whatever the weights.
"""

from __future__ import annotations

import numpy as np

from ._loss import chained, reduced
from ._out import deliver

LEAST_LOG = -100.0  # of a probability of 0: the loss stays finite
LEAST_VARIANCE = float(np.float32(1e-12))  # of p (1 - p), by which the gradient divides


def binary_cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """-weight (t log x + (1 - t) log(1 - x)) for probabilities x, with logarithms of -100 at least.

    Source: torch.nn.BCELoss (the floors of the logarithm and of the gradient's divisor).
    """
    with np.errstate(divide="ignore"):
        log_p, log_q = np.maximum(np.log(x), LEAST_LOG), np.maximum(np.log1p(-x), LEAST_LOG)
    loss = -(target * log_p + (1 - target) * log_q)
    return deliver(reduced(loss if weight is None else weight * loss, reduction), out, x.dtype)


def binary_cross_entropy_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """weight (x - t) / (x (1 - x)), the divisor 1e-12 at least."""
    slope = (x - target) / np.maximum((1 - x) * x, np.asarray(LEAST_VARIANCE, x.dtype))
    return deliver(chained(dy, slope if weight is None else weight * slope, x.shape, reduction), out, x.dtype)


def binary_cross_entropy_with_logits(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    pos_weight: np.ndarray | None = None,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """weight (pos_weight t softplus(-x) + (1 - t) softplus(x)): log σ(x) = -softplus(-x), with nothing to overflow."""
    positive = target if pos_weight is None else pos_weight * target
    zero = np.zeros((), x.dtype)
    loss = positive * np.logaddexp(zero, -x) + (1 - target) * np.logaddexp(zero, x)
    return deliver(reduced(loss if weight is None else weight * loss, reduction), out, x.dtype)


def binary_cross_entropy_with_logits_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    pos_weight: np.ndarray | None = None,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """weight ((1 - t) σ(x) - pos_weight t σ(-x))."""
    positive = target if pos_weight is None else pos_weight * target
    small = np.exp(-np.abs(x))
    p, q = np.where(x >= 0, 1, small) / (1 + small), np.where(x >= 0, small, 1) / (1 + small)
    slope = (1 - target) * p - positive * q
    return deliver(chained(dy, slope if weight is None else weight * slope, x.shape, reduction), out, x.dtype)
