"""Negative log-likelihood of class labels from log-probabilities.

    loss_m = -w_t x_mt    with t the target of row m; 0 in rows whose target is `ignore_index`

The reductions: "none" gives (M,), "sum" the sum, "mean" the sum over the total Σ w_t of the rows not ignored (NaN if
there are none).
"""

from __future__ import annotations

import numpy as np

from ._out import deliver


def nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities x (M, C), target (M,) class indices, weight (C,) → (loss, total); total is 0-d."""
    loss_out, total_out = out or (None, None)
    kept, label, w = _of_rows(x, target, weight, ignore_index)
    with np.errstate(invalid="ignore"):
        loss = np.where(kept, -w * x[np.arange(len(x)), label], 0)
        total = w[kept].sum()
        if reduction != "none":
            loss = loss.sum()
        if reduction == "mean":
            loss = loss / total
    return deliver(loss, loss_out, x.dtype), deliver(total, total_out, x.dtype)


def nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    total: np.ndarray,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dy of the loss's shape → dx (M, C): -w_t dy at each row's target, over the total for a mean; else 0."""
    kept, label, w = _of_rows(x, target, weight, ignore_index)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = -w * (dy / total if reduction == "mean" else dy)
    hit = kept[:, None] & (np.arange(x.shape[1]) == label[:, None])
    return deliver(np.where(hit, slope[:, None], 0), out, x.dtype)


def _of_rows(x, target, weight, ignore_index):
    """Which rows count, their labels (0 in the others), the weights of their labels."""
    kept = target != ignore_index
    label = np.where(kept, target, 0)
    return kept, label, np.ones(len(x), x.dtype) if weight is None else weight[label]
