"""Activations that are linear in pieces, the logistic function and tanh, for arrays of any shape.

Each backward multiplies dy by the derivative. It takes the forward's output where the derivative is simplest in it,
else its input. At a kink the derivative is PyTorch's choice. NaN goes through all of them, forward and backward.
"""

from __future__ import annotations

import numpy as np

from ._out import deliver


def relu(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = max(x, 0), and NaN where x is. Source: Nair and Hinton (2010)."""
    return deliver(np.where(x <= 0, 0, x), out, x.dtype)


def relu_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """dx = 0 where y ≤ 0, else dy; y is what `relu` returned."""
    return deliver(np.where(y <= 0, 0, dy), out, dy.dtype)


def leaky_relu(x: np.ndarray, *, negative_slope: float = 0.01, out: np.ndarray | None = None) -> np.ndarray:
    """y = x where x > 0, else negative_slope · x. Source: Maas et al. (2013)."""
    return deliver(np.where(x > 0, x, x * negative_slope), out, x.dtype)


def leaky_relu_backward(
    dy: np.ndarray, x: np.ndarray, *, negative_slope: float = 0.01, out: np.ndarray | None = None
) -> np.ndarray:
    """dx = dy where x > 0, else negative_slope · dy."""
    return deliver(np.where(x > 0, dy, dy * negative_slope), out, dy.dtype)


def relu6(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = min(max(x, 0), 6). Source: Krizhevsky (2010), "Convolutional deep belief networks on CIFAR-10"."""
    return deliver(np.clip(x, 0, 6), out, x.dtype)


def relu6_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """dx = 0 where y ≤ 0 or y ≥ 6, else dy; y is what `relu6` returned."""
    return deliver(np.where((y <= 0) | (y >= 6), 0, dy), out, dy.dtype)


def hardsigmoid(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = min(max(x + 3, 0), 6) / 6. Source: Howard et al. (2019), arXiv:1905.02244."""
    return deliver(np.clip(x + 3, 0, 6) / 6, out, x.dtype)


def hardsigmoid_backward(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """dx = dy / 6 where -3 < x < 3, else 0."""
    return deliver(np.where((x > -3) & (x < 3), dy / 6, 0), out, dy.dtype)


def hardswish(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = x · min(max(x + 3, 0), 6) / 6. Source: Howard et al. (2019), arXiv:1905.02244, section 5.2."""
    return deliver(x * (np.clip(x + 3, 0, 6) / 6), out, x.dtype)


def hardswish_backward(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """dx = 0 where x ≤ -3, dy where x ≥ 3, else dy · (2 x + 3) / 6."""
    bend = dy * (2 * np.clip(x, -3, 3) + 3) / 6
    return deliver(np.where(x >= 3, dy, np.where(x <= -3, 0, bend)), out, dy.dtype)


def sigmoid(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = 1 / (1 + e^-x), written with e^-|x|, which cannot overflow."""
    small = np.exp(-np.abs(x))
    return deliver(np.where(x >= 0, 1, small) / (1 + small), out, x.dtype)


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """dx = dy · y · (1 - y); y is what `sigmoid` returned."""
    return deliver(dy * y * (1 - y), out, dy.dtype)


def tanh(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = (e^x - e^-x) / (e^x + e^-x)."""
    return deliver(np.tanh(x), out, x.dtype)


def tanh_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """dx = dy · (1 - y²); y is what `tanh` returned."""
    return deliver(dy * (1 - y * y), out, dy.dtype)
