"""Softmax and its logarithm along one axis.

    p_i = e^(x_i / T) / Σ_j e^(x_j / T)

The largest x is taken out of all of them before exponentials, which changes nothing but that none overflows. A row that
holds NaN or +∞, or nothing but -∞, is all NaN, as in PyTorch.
Sources: Bridle (1990), "Probabilistic interpretation of feedforward classification network outputs"; with a
temperature T, Hinton, Vinyals and Dean (2015), arXiv:1503.02531, eq. 1.
"""

from __future__ import annotations

import numpy as np

from ._out import deliver


def softmax(x: np.ndarray, *, dim: int, temperature: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """y = p, positive numbers that sum to 1 along axis `dim`, of x's shape."""
    e = np.exp((x - _top(x, dim)) / temperature)
    return deliver(e / e.sum(axis=dim, keepdims=True), out, x.dtype)


def softmax_backward(
    dy: np.ndarray, y: np.ndarray, *, dim: int, temperature: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """dx = y · (dy - Σ dy y) / T, the sum along axis `dim`; y is what `softmax` returned."""
    mean = (dy * y).sum(axis=dim, keepdims=True)
    return deliver(y * (dy - mean) / temperature, out, dy.dtype)


def log_softmax(x: np.ndarray, *, dim: int, out: np.ndarray | None = None) -> np.ndarray:
    """y = log p along axis `dim`, at temperature 1, of x's shape."""
    below = x - _top(x, dim)
    with np.errstate(divide="ignore"):  # a sum is at least 1, or 0 of no numbers at all
        log_sum = np.log(np.exp(below).sum(axis=dim, keepdims=True))
    return deliver(below - log_sum, out, x.dtype)


def log_softmax_backward(dy: np.ndarray, y: np.ndarray, *, dim: int, out: np.ndarray | None = None) -> np.ndarray:
    """dx = dy - e^y Σ dy, the sum along axis `dim`; y is what `log_softmax` returned."""
    return deliver(dy - np.exp(y) * dy.sum(axis=dim, keepdims=True), out, dy.dtype)


def _top(x, dim):
    return x.max(axis=dim, keepdims=True, initial=-np.inf)
