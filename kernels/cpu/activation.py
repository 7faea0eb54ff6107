"""Activations that are linear in pieces, the logistic function and tanh, float32, any shape.

Outputs keep the input's memory order. Every function reads its inputs once and writes its output once: at copy
bandwidth a forward takes 8 bytes an element, a backward 12. The formulas are those of
`kernels/reference/activation.py`.
"""

from __future__ import annotations

import numpy as np

from ._blocks import backward, forward, pointwise
from ._driver import FLOAT, PTR
from ._math import vsigmoid, vtanh
from .simd import vclip, vload_n, vselect

_SIXTH = np.float32(1 / 6)


@pointwise(x=PTR)
def _relu_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    return vselect(x <= 0, 0, x)


@pointwise(dy=PTR, saved=PTR)
def _relu_backward_blocks(a, i, n):
    y = vload_n(a.saved, i, n)
    return vselect(y <= 0, 0, vload_n(a.dy, i, n))


@pointwise(x=PTR, slope=FLOAT)
def _leaky_relu_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    return vselect(x > 0, x, a.slope * x)


@pointwise(dy=PTR, saved=PTR, slope=FLOAT)
def _leaky_relu_backward_blocks(a, i, n):
    dy = vload_n(a.dy, i, n)
    return vselect(vload_n(a.saved, i, n) > 0, dy, a.slope * dy)


@pointwise(x=PTR)
def _relu6_blocks(a, i, n):
    return vclip(vload_n(a.x, i, n), 0.0, 6.0)


@pointwise(dy=PTR, saved=PTR)
def _relu6_backward_blocks(a, i, n):
    y = vload_n(a.saved, i, n)
    return vselect((y <= 0) | (y >= 6), 0, vload_n(a.dy, i, n))


@pointwise(x=PTR)
def _hardsigmoid_blocks(a, i, n):
    return vclip(vload_n(a.x, i, n) + 3, 0.0, 6.0) * _SIXTH


@pointwise(dy=PTR, saved=PTR)
def _hardsigmoid_backward_blocks(a, i, n):
    x = vload_n(a.saved, i, n)
    return vselect((x > -3) & (x < 3), _SIXTH * vload_n(a.dy, i, n), 0)


@pointwise(x=PTR)
def _hardswish_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    return x * (vclip(x + 3, 0.0, 6.0) * _SIXTH)


@pointwise(dy=PTR, saved=PTR)
def _hardswish_backward_blocks(a, i, n):
    x, dy = vload_n(a.saved, i, n), vload_n(a.dy, i, n)
    bend = vselect(x <= -3, 0, dy * ((2 * x + 3) * _SIXTH))
    return vselect(x >= 3, dy, bend)


@pointwise(x=PTR)
def _sigmoid_blocks(a, i, n):
    return vsigmoid(vload_n(a.x, i, n))


@pointwise(dy=PTR, saved=PTR)
def _sigmoid_backward_blocks(a, i, n):
    y = vload_n(a.saved, i, n)
    return vload_n(a.dy, i, n) * y * (1 - y)


@pointwise(x=PTR)
def _tanh_blocks(a, i, n):
    return vtanh(vload_n(a.x, i, n))


@pointwise(dy=PTR, saved=PTR)
def _tanh_backward_blocks(a, i, n):
    y = vload_n(a.saved, i, n)
    return vload_n(a.dy, i, n) * (1 - y * y)


def relu(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """max(x, 0); NaN stays."""
    return forward(_relu_blocks, x, out)


def relu_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to relu's input, from its output: dy where y > 0, else 0 (where y is NaN, dy)."""
    return backward(_relu_backward_blocks, dy, y, out)


def leaky_relu(x: np.ndarray, *, negative_slope: float = 0.01, out: np.ndarray | None = None) -> np.ndarray:
    """x where x > 0, else negative_slope * x."""
    return forward(_leaky_relu_blocks, x, out, slope=negative_slope)


def leaky_relu_backward(
    dy: np.ndarray, x: np.ndarray, *, negative_slope: float = 0.01, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient to leaky_relu's input: dy where x > 0, else negative_slope * dy."""
    return backward(_leaky_relu_backward_blocks, dy, x, out, slope=negative_slope)


def relu6(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """min(max(x, 0), 6); NaN stays."""
    return forward(_relu6_blocks, x, out)


def relu6_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to relu6's input, from its output: dy where 0 < y < 6, else 0 (where y is NaN, dy)."""
    return backward(_relu6_backward_blocks, dy, y, out)


def hardsigmoid(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """min(max(x + 3, 0), 6) / 6; NaN stays."""
    return forward(_hardsigmoid_blocks, x, out)


def hardsigmoid_backward(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to hardsigmoid's input: dy / 6 where -3 < x < 3, else 0."""
    return backward(_hardsigmoid_backward_blocks, dy, x, out)


def hardswish(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """x min(max(x + 3, 0), 6) / 6; NaN stays."""
    return forward(_hardswish_blocks, x, out)


def hardswish_backward(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to hardswish's input: dy times 0 where x <= -3, 1 where x >= 3, else (2 x + 3) / 6."""
    return backward(_hardswish_backward_blocks, dy, x, out)


def sigmoid(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return forward(_sigmoid_blocks, x, out)


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to sigmoid's input, from its output: dy * y * (1 - y)."""
    return backward(_sigmoid_backward_blocks, dy, y, out)


def tanh(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Hyperbolic tangent."""
    return forward(_tanh_blocks, x, out)


def tanh_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to tanh's input, from its output: dy * (1 - y**2)."""
    return backward(_tanh_backward_blocks, dy, y, out)
