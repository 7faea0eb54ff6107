"""Parametric ReLU: a leaky ReLU that learns its slope, one for all channels or one for each.

Source: He et al. (2015), "Delving deep into rectifiers", arXiv:1502.01852, section 2.1.
"""

from __future__ import annotations

import numpy as np

from ._out import deliver


def prelu(x: np.ndarray, weight: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = x where x > 0, else weight · x. x of any shape with a weight (1,), or (N, C, …) with one (C,)."""
    return deliver(np.where(x > 0, x, _slopes(weight, x) * x), out, x.dtype)


def prelu_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, *, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """dx = dy where x > 0, else weight · dy; dweight = Σ dy x over the elements x ≤ 0 that share a slope."""
    dx_out, dweight_out = out or (None, None)
    dx = np.where(x > 0, dy, _slopes(weight, x) * dy)
    terms = np.where(x > 0, 0, dy * x)
    dweight = terms.sum() if weight.size == 1 else terms.sum(axis=(0, *range(2, x.ndim)))
    return deliver(dx, dx_out, dy.dtype), deliver(np.reshape(dweight, weight.shape), dweight_out, dy.dtype)


def _slopes(weight, x):
    return weight[0] if weight.size == 1 else weight.reshape(-1, *[1] * (x.ndim - 2))
