"""Activations whose left side is an exponential: ELU and softplus, for arrays of any shape.

Each backward multiplies dy by the derivative at x. NaN goes through.
"""

from __future__ import annotations

import numpy as np

from ._out import deliver


def elu(x: np.ndarray, *, alpha: float = 1.0, scale: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """y = scale · x where x > 0, else scale · alpha · (e^x - 1).

    Sources: Clevert et al. (2016), arXiv:1511.07289; with a scale and an alpha that keep mean 0 and variance 1, SELU,
    Klambauer et al. (2017), arXiv:1706.02515.
    """
    left = scale * alpha * np.expm1(np.minimum(x, 0))
    return deliver(np.where(x > 0, scale * x, left), out, x.dtype)


def elu_backward(
    dy: np.ndarray, x: np.ndarray, *, alpha: float = 1.0, scale: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """dx = dy · scale where x > 0, else dy · scale · alpha · e^x. With alpha < 0 y would not tell the side."""
    left = scale * alpha * np.exp(np.minimum(x, 0))
    return deliver(dy * np.where(x > 0, scale, left), out, dy.dtype)


def softplus(
    x: np.ndarray, *, beta: float = 1.0, threshold: float = 20.0, out: np.ndarray | None = None
) -> np.ndarray:
    """y = log(1 + e^(beta x)) / beta, or x where beta x > threshold: there the two are almost the same.

    Source: Dugas et al. (2001), "Incorporating second-order functional knowledge for better option pricing".
    """
    t = beta * x
    return deliver(np.where(t > threshold, x, np.logaddexp(0, t) / beta), out, x.dtype)


def softplus_backward(
    dy: np.ndarray, x: np.ndarray, *, beta: float = 1.0, threshold: float = 20.0, out: np.ndarray | None = None
) -> np.ndarray:
    """dx = dy / (1 + e^(-beta x)), or dy where beta x > threshold."""
    t = beta * x
    small = np.exp(-np.abs(t))
    slope = np.where(t >= 0, 1, small) / (1 + small)
    return deliver(dy * np.where(t > threshold, 1, slope), out, dy.dtype)
