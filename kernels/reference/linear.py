"""The fully connected layer, y = x Wᵀ + b, and its gradients.

Shapes: x (M, in), weight (out, in), bias (out,), y (M, out).

The gradients are those of a matrix product: with L a function of y and dy = ∂L/∂y,
dx = dy W, dW = dyᵀ x, db = Σ_m dy[m]. `precision`, which faster arithmetic a backend may use, changes nothing here.
Source: torch.nn.Linear (conventions).
"""

from __future__ import annotations

import numpy as np

from ._out import deliver


def linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, precision: str = "highest",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y = x weightᵀ + bias: (M, in), (out, in), (out,) → (M, out)."""
    y = x @ weight.T
    return deliver(y if bias is None else y + bias, out, x.dtype)


def linear_dgrad(
    dy: np.ndarray, weight: np.ndarray, *, precision: str = "highest", out: np.ndarray | None = None
) -> np.ndarray:
    """The gradient to the input, dx = dy weight: (M, out), (out, in) → (M, in)."""
    return deliver(dy @ weight, out, dy.dtype)


def linear_wgrad(
    dy: np.ndarray, x: np.ndarray, *, precision: str = "highest", out: np.ndarray | None = None
) -> np.ndarray:
    """The gradient to the weight, dweight = dyᵀ x: (M, out), (M, in) → (out, in)."""
    return deliver(dy.T @ x, out, dy.dtype)


def linear_bgrad(dy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The gradient to the bias, dbias = Σ_m dy[m]: (M, out) → (out,)."""
    return deliver(dy.sum(axis=0), out, dy.dtype)
