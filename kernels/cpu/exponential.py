"""ELU and softplus, float32, any shape; formulas and sources in `kernels/reference/exponential.py`.

Outputs keep the input's memory order. A forward reads x and writes y, 8 bytes an element, a backward reads dy and x and
writes dx, 12 bytes.
"""

from __future__ import annotations

import numpy as np

from ._blocks import backward, forward, pointwise
from ._driver import FLOAT, PTR
from ._math import vexp_low, vexpm1, vlog1p, vsigmoid
from .simd import vabs, vload_n, vmax, vselect, vsplat


@pointwise(x=PTR, left=FLOAT, right=FLOAT)
def _elu_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    return vselect(x > 0, a.right * x, a.left * vexpm1(x))


@pointwise(dy=PTR, saved=PTR, left=FLOAT, right=FLOAT)
def _elu_backward_blocks(a, i, n):
    x = vload_n(a.saved, i, n)
    return vload_n(a.dy, i, n) * vselect(x > 0, a.right, a.left * vexp_low(x))


@pointwise(x=PTR, beta=FLOAT, threshold=FLOAT)
def _softplus_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    t = a.beta * x
    curve = (vmax(t, vsplat(0.0)) + vlog1p(vexp_low(-vabs(t)))) / a.beta  # e**t itself would overflow
    return vselect(t > a.threshold, x, curve)


@pointwise(dy=PTR, saved=PTR, beta=FLOAT, threshold=FLOAT)
def _softplus_backward_blocks(a, i, n):
    t, dy = a.beta * vload_n(a.saved, i, n), vload_n(a.dy, i, n)
    return vselect(t > a.threshold, dy, dy * vsigmoid(t))


def elu(x: np.ndarray, *, alpha: float = 1.0, scale: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """scale * x where x > 0, else scale * alpha * (e**x - 1)."""
    return forward(_elu_blocks, x, out, left=scale * alpha, right=scale)


def elu_backward(
    dy: np.ndarray, x: np.ndarray, *, alpha: float = 1.0, scale: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient to elu's input: dy * scale where x > 0, else dy * scale * alpha * e**x."""
    return backward(_elu_backward_blocks, dy, x, out, left=scale * alpha, right=scale)


def softplus(
    x: np.ndarray, *, beta: float = 1.0, threshold: float = 20.0, out: np.ndarray | None = None
) -> np.ndarray:
    """log(1 + e**(beta x)) / beta, or x where beta x > threshold."""
    return forward(_softplus_blocks, x, out, beta=beta, threshold=threshold)


def softplus_backward(
    dy: np.ndarray, x: np.ndarray, *, beta: float = 1.0, threshold: float = 20.0, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient to softplus's input: dy / (1 + e**(-beta x)), or dy where beta x > threshold."""
    return backward(_softplus_backward_blocks, dy, x, out, beta=beta, threshold=threshold)
