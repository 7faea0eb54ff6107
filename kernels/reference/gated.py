"""Activations that are x times a smooth step from 0 to 1: GELU, SiLU, swish, mish, for arrays of any shape.

Each backward multiplies dy by the derivative, step(x) + x · step'(x). NaN goes through. The step comes so close to 0
and to 1 that y = 0 and y = x far out; at infinity itself the formulas give 0 · ∞, which is NaN, as in PyTorch.
"""

from __future__ import annotations

import math

import numpy as np

from ._out import deliver

_erf = np.frompyfunc(math.erf, 1, 1)
_FAR = 100  # where tanh is ±1 in every dtype, and squares do not overflow


def gelu(x: np.ndarray, *, approximate: str = "none", out: np.ndarray | None = None) -> np.ndarray:
    """y = x · Φ(x), Φ(x) = (1 + erf(x / √2)) / 2 being the probability that a standard normal value is below x.

    With approximate = "tanh", Φ(x) ≈ (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³).
    Source: Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """
    step, _ = _gelu_step(x, approximate)
    return deliver(x * step, out, x.dtype)


def gelu_backward(
    dy: np.ndarray, x: np.ndarray, *, approximate: str = "none", out: np.ndarray | None = None
) -> np.ndarray:
    """dx = dy · (Φ(x) + x φ(x)), φ(x) = e^(-x²/2) / √(2π).

    With approximate = "tanh", dx = dy · ((1 + tanh u) / 2 + x (1 - tanh² u) u' / 2), u' = √(2/π) (1 + 3 · 0.044715 x²).
    """
    step, slope = _gelu_step(x, approximate)
    return deliver(dy * (step + x * slope), out, dy.dtype)


def _gelu_step(x, approximate):
    near = np.clip(x, -_FAR, _FAR)
    if approximate == "tanh":
        tanh = np.tanh(math.sqrt(2 / math.pi) * (near + 0.044715 * near**3))
        slope = (1 - tanh**2) / 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * near**2)
        return (1 + tanh) / 2, slope
    erf = np.asarray(_erf(near / math.sqrt(2)), x.dtype)
    return (1 + erf) / 2, np.exp(-(near**2) / 2) / math.sqrt(2 * math.pi)


def silu(x: np.ndarray, *, beta: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """y = x · σ(beta x), σ(t) = 1 / (1 + e^-t); with beta = 1.702 an approximation of GELU.

    Sources: Hendrycks and Gimpel (2016), arXiv:1606.08415; Elfwing et al. (2018), arXiv:1702.03118.
    """
    return deliver(x * _sigmoid(beta * x), out, x.dtype)


def silu_backward(dy: np.ndarray, x: np.ndarray, *, beta: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """dx = dy · (s + beta x s (1 - s)), s = σ(beta x)."""
    s = _sigmoid(beta * x)
    return deliver(dy * (s + beta * (x * (s * (1 - s)))), out, dy.dtype)


def swish(x: np.ndarray, beta: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = x · σ(beta x) with a beta (1,) that is learned. Source: Ramachandran et al. (2017), arXiv:1710.05941."""
    return silu(x, beta=beta[0], out=out)


def swish_backward(
    dy: np.ndarray, x: np.ndarray, beta: np.ndarray, *, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """dx as in `silu_backward`, and dbeta = Σ dy x² s (1 - s), (1,)."""
    dx_out, dbeta_out = out or (None, None)
    s = _sigmoid(beta[0] * x)
    dbeta = np.sum(dy * x * (x * (s * (1 - s)))).reshape(1)
    return silu_backward(dy, x, beta=beta[0], out=dx_out), deliver(dbeta, dbeta_out, dy.dtype)


def mish(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = x · tanh(log(1 + e^x)). Source: Misra (2020), arXiv:1908.08681."""
    return deliver(x * np.tanh(np.logaddexp(0, x)), out, x.dtype)


def mish_backward(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """dx = dy · (w + x (1 - w²) σ(x)), w = tanh(log(1 + e^x))."""
    w = np.tanh(np.logaddexp(0, x))
    return deliver(dy * (w + x * ((1 - w**2) * _sigmoid(x))), out, dy.dtype)


def _sigmoid(t):
    small = np.exp(-np.abs(t))
    return np.where(t >= 0, 1, small) / (1 + small)
