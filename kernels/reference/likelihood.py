"""Negative log-likelihoods of a target t under a distribution whose parameters a network predicts, elementwise.

Variances and scales are held at `eps` at least; their gradient is that at the held value, as if nothing had been held.
`full` adds the constant of the distribution. All operands broadcast.
"""

from __future__ import annotations

import math

import numpy as np

from ._loss import chained, reduced
from ._out import deliver


def gaussian_nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    var: np.ndarray,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """(log v + (x - t)² / v) / 2, v = max(var, eps); full adds log(2π) / 2. -log of Normal(t; mean x, variance v).

    Source: Nix and Weigend (1994), "Estimating the mean and variance of the target probability distribution".
    """
    v, d = np.maximum(var, np.asarray(eps, x.dtype)), x - target
    loss = (np.log(v) + d * d / v) / 2
    if full:
        loss = loss + math.log(2 * math.pi) / 2
    return deliver(reduced(loss, reduction), out, x.dtype)


def gaussian_nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    var: np.ndarray,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """∂/∂x = (x - t) / v, ∂/∂v = (1 - (x - t)² / v) / (2 v) → (dx, dvar)."""
    v, d = np.maximum(var, np.asarray(eps, x.dtype)), x - target
    return _both(dy, d / v, (1 - d * d / v) / v / 2, x, var, reduction, out)


def laplace_nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """log b + |x - t| / b, b = max(scale, eps); full adds log 2. -log of Laplace(t; median x, scale b)."""
    b = np.maximum(scale, np.asarray(eps, x.dtype))
    loss = np.log(b) + np.abs(x - target) / b
    if full:
        loss = loss + math.log(2)
    return deliver(reduced(loss, reduction), out, x.dtype)


def laplace_nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """∂/∂x = sign(x - t) / b, 0 at 0; ∂/∂b = (1 - |x - t| / b) / b → (dx, dscale)."""
    b, d = np.maximum(scale, np.asarray(eps, x.dtype)), x - target
    return _both(dy, np.sign(d) / b, (1 - np.abs(d) / b) / b, x, scale, reduction, out)


def _both(dy, x_slope, other_slope, x, other, reduction, out):
    x_slope, other_slope = np.broadcast_arrays(x_slope, other_slope)
    x_out, other_out = out or (None, None)
    return (
        deliver(chained(dy, x_slope, x.shape, reduction), x_out, x.dtype),
        deliver(chained(dy, other_slope, other.shape, reduction), other_out, x.dtype),
    )


def bernoulli_nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """-t log max(x, eps) - (1 - t) log max(1 - x, eps). -log of Bernoulli(t; probability x)."""
    eps = np.asarray(eps, x.dtype)
    with np.errstate(divide="ignore"):
        log_q = np.maximum(np.log1p(-x), np.log(eps))
    return deliver(reduced(-target * np.log(np.maximum(x, eps)) - (1 - target) * log_q, reduction), out, x.dtype)


def bernoulli_nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """∂/∂x = (1 - t) / max(1 - x, eps) - t / max(x, eps)."""
    eps = np.asarray(eps, x.dtype)
    slope = (1 - target) / np.maximum(1 - x, eps) - target / np.maximum(x, eps)
    return deliver(chained(dy, slope, x.shape, reduction), out, x.dtype)
