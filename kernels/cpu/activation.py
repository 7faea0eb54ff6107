"""Activations with one input, float32, any shape; outputs keep the input's memory order.

Every function reads its inputs once and writes its output once: at copy bandwidth a forward takes 8 bytes an element, a
backward 12. The formulas are those of `kernels/reference/activation.py`.
"""

from __future__ import annotations

import numpy as np

from ._blocks import blocks, each_vector
from ._driver import FLOAT, INT, PTR, Job, job, share
from ._layout import deliver, dense, empty_like, like
from ._math import vsigmoid, vtanh
from .simd import vload_n, vselect, vstore_n


def _forward(kernel: Job, x: np.ndarray, out: np.ndarray | None, **scalars: float) -> np.ndarray:
    x = dense(x)
    y = empty_like(x)
    kernel(blocks(x.size), threads=share(x.size), x=x, y=y, n=x.size, **scalars)
    return deliver(y, out)


def _backward(kernel: Job, dy: np.ndarray, saved: np.ndarray, out: np.ndarray | None, **scalars: float) -> np.ndarray:
    saved = dense(saved)
    dy, dx = like(dy, saved), empty_like(saved)
    kernel(blocks(dx.size), threads=share(dx.size), dy=dy, saved=saved, dx=dx, n=dx.size, **scalars)
    return deliver(dx, out)


@each_vector
def _relu(a, i, n):
    x = vload_n(a.x, i, n)
    vstore_n(a.y, i, vselect(x <= 0, 0, x), n)


@each_vector
def _relu_backward(a, i, n):
    y = vload_n(a.saved, i, n)
    vstore_n(a.dx, i, vselect(y <= 0, 0, vload_n(a.dy, i, n)), n)


@each_vector
def _leaky_relu(a, i, n):
    x = vload_n(a.x, i, n)
    vstore_n(a.y, i, vselect(x > 0, x, a.slope * x), n)


@each_vector
def _leaky_relu_backward(a, i, n):
    dy = vload_n(a.dy, i, n)
    vstore_n(a.dx, i, vselect(vload_n(a.saved, i, n) > 0, dy, a.slope * dy), n)


@each_vector
def _sigmoid(a, i, n):
    vstore_n(a.y, i, vsigmoid(vload_n(a.x, i, n)), n)


@each_vector
def _sigmoid_backward(a, i, n):
    y = vload_n(a.saved, i, n)
    vstore_n(a.dx, i, vload_n(a.dy, i, n) * y * (1 - y), n)


@each_vector
def _tanh(a, i, n):
    vstore_n(a.y, i, vtanh(vload_n(a.x, i, n)), n)


@each_vector
def _tanh_backward(a, i, n):
    y = vload_n(a.saved, i, n)
    vstore_n(a.dx, i, vload_n(a.dy, i, n) * (1 - y * y), n)


@job(x=PTR, y=PTR, n=INT)
def _relu_blocks(first, last, thread, a):
    _relu(a, first, last)


@job(dy=PTR, saved=PTR, dx=PTR, n=INT)
def _relu_backward_blocks(first, last, thread, a):
    _relu_backward(a, first, last)


@job(x=PTR, y=PTR, n=INT, slope=FLOAT)
def _leaky_relu_blocks(first, last, thread, a):
    _leaky_relu(a, first, last)


@job(dy=PTR, saved=PTR, dx=PTR, n=INT, slope=FLOAT)
def _leaky_relu_backward_blocks(first, last, thread, a):
    _leaky_relu_backward(a, first, last)


@job(x=PTR, y=PTR, n=INT)
def _sigmoid_blocks(first, last, thread, a):
    _sigmoid(a, first, last)


@job(dy=PTR, saved=PTR, dx=PTR, n=INT)
def _sigmoid_backward_blocks(first, last, thread, a):
    _sigmoid_backward(a, first, last)


@job(x=PTR, y=PTR, n=INT)
def _tanh_blocks(first, last, thread, a):
    _tanh(a, first, last)


@job(dy=PTR, saved=PTR, dx=PTR, n=INT)
def _tanh_backward_blocks(first, last, thread, a):
    _tanh_backward(a, first, last)


def relu(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """max(x, 0); NaN stays."""
    return _forward(_relu_blocks, x, out)


def relu_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to relu's input, from its output: dy where y > 0, else 0 (where y is NaN, dy)."""
    return _backward(_relu_backward_blocks, dy, y, out)


def leaky_relu(x: np.ndarray, *, negative_slope: float = 0.01, out: np.ndarray | None = None) -> np.ndarray:
    """x where x > 0, else negative_slope * x."""
    return _forward(_leaky_relu_blocks, x, out, slope=negative_slope)


def leaky_relu_backward(
    dy: np.ndarray, x: np.ndarray, *, negative_slope: float = 0.01, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient to leaky_relu's input: dy where x > 0, else negative_slope * dy."""
    return _backward(_leaky_relu_backward_blocks, dy, x, out, slope=negative_slope)


def sigmoid(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return _forward(_sigmoid_blocks, x, out)


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to sigmoid's input, from its output: dy * y * (1 - y)."""
    return _backward(_sigmoid_backward_blocks, dy, y, out)


def tanh(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Hyperbolic tangent."""
    return _forward(_tanh_blocks, x, out)


def tanh_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to tanh's input, from its output: dy * (1 - y**2)."""
    return _backward(_tanh_backward_blocks, dy, y, out)
