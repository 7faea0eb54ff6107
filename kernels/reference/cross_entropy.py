"""Softmax cross-entropy from logits, with class weights, ignored rows and label smoothing.

For row m with logits x, target t, class weights w (1 if None) and smoothing ε over C classes, log-softmax is
log p_c = x_c - lse with lse = log Σ_c e^(x_c), and

    loss_m = -(1 - ε) w_t log p_t - (ε / C) Σ_c w_c log p_c

Rows whose target is `ignore_index` have loss 0. The reductions: "none" gives (M,), "sum" the sum, and "mean"
the sum over Σ w_t of the rows not ignored (NaN if there are none).

Backward: ∂ log p_j / ∂x_c = [j = c] - p_c, hence

    ∂loss_m/∂x_c = (1 - ε) w_t (p_c - [c = t]) + (ε / C) (p_c Σ_j w_j - w_c)

and 0 in ignored rows. Sources: Bridle (1990) for softmax; Szegedy et al. (2016), arXiv:1512.00567,
section 7, for label smoothing; torch.nn.CrossEntropyLoss (conventions).
"""

from __future__ import annotations

import numpy as np

from ._out import deliver


def cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits x (M, C), target (M,) class indices, weight (C,) → (loss, lse).

    loss is 0-d for "mean" and "sum", (M,) for "none"; lse (M,) is the log-sum-exp of each row, which the
    backward needs. The row's maximum is taken out before exponentials, so that none overflows.
    """
    loss_out, lse_out = out or (None, None)
    rows, classes = x.shape
    weight = np.ones(classes, x.dtype) if weight is None else weight
    kept = target != ignore_index
    label = np.where(kept, target, 0)

    top = x.max(axis=1)
    lse = top + np.log(np.exp(x - top[:, None]).sum(axis=1))
    logp = x - lse[:, None]
    loss = -(1 - label_smoothing) * weight[label] * logp[np.arange(rows), label]
    if label_smoothing:
        loss -= label_smoothing / classes * (weight * logp).sum(axis=1)
    loss = np.where(kept, loss, 0)
    if reduction != "none":
        loss = loss.sum()
    if reduction == "mean":
        with np.errstate(invalid="ignore"):
            loss = loss / weight[label][kept].sum()
    return deliver(loss, loss_out, x.dtype), deliver(lse, lse_out, x.dtype)


def cross_entropy_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    lse: np.ndarray,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dy of the loss's shape, the forward's arguments and its lse (M,) → dx (M, C), the formula above."""
    rows, classes = x.shape
    weight = np.ones(classes, x.dtype) if weight is None else weight
    kept = target != ignore_index
    label = np.where(kept, target, 0)

    p = np.exp(x - lse[:, None])
    hit = np.arange(classes) == label[:, None]
    dx = (1 - label_smoothing) * weight[label][:, None] * (p - hit)
    if label_smoothing:
        dx += label_smoothing / classes * (p * weight.sum() - weight)
    scale = np.broadcast_to(dy, rows)
    if reduction == "mean":
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = scale / weight[label][kept].sum()
    dx = np.where(kept[:, None], dx * scale[:, None], 0)
    return deliver(dx, out, x.dtype)
