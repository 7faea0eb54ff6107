"""GELU, SiLU, swish and mish, any shape; formulas and sources in `kernels/reference/gated.py`.

Outputs keep the input's memory order. At copy bandwidth a forward takes 8 bytes an element of float32, a backward 12.
"""

from __future__ import annotations

import math

import numpy as np

from . import _learned
from ._layout import Array
from ._math import HALF, ONE, TWO, ZERO, absolute, clip, erf, exp, fma, sigmoid
from ._numba import device
from ._pointwise import backward, binary, forward, unary
from .ptx import reciprocal

_SQRT_HALF = np.float32(math.sqrt(0.5))
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))  # of the normal distribution at 0
_TANH_1, _TANH_3 = np.float32(2 * math.sqrt(2 / math.pi)), np.float32(2 * math.sqrt(2 / math.pi) * 0.044715)
_THREE, _FAR, _ONE_FROM = np.float32(3), np.float32(100), np.float32(20)


# ---------------------------------------------------------------- GELU
@device
def _normal_below(x):
    return fma(erf(x * _SQRT_HALF), HALF, HALF)


@unary
def _gelu(x, a, b):
    return x * _normal_below(x)


@binary
def _gelu_backward(dy, x, a, b):
    return dy * fma(x, _DENSITY * exp(-HALF * x * x), _normal_below(x))


@device
def _near(x):
    """x, but where the step is 0 or 1 no farther out than squares can be taken."""
    return clip(x, -_FAR, _FAR)


@device
def _tanh_step(x):
    """(1 + tanh u) / 2, which is the logistic function at 2 u."""
    return sigmoid(x * fma(x * x, _TANH_3, _TANH_1))


@unary
def _gelu_tanh(x, a, b):
    return x * _tanh_step(_near(x))


@binary
def _gelu_tanh_backward(dy, x, a, b):
    near = _near(x)
    step = _tanh_step(near)
    slope = step * (ONE - step) * fma(near * near, _THREE * _TANH_3, _TANH_1)
    return dy * fma(x, slope, step)


# ---------------------------------------------------------------- SiLU and swish
@device
def _step(t):
    """The logistic function, from an exponential that reaches down to subnormal numbers: x times that is normal yet."""
    e = exp(-absolute(t))
    return (ONE if t >= ZERO else e) * reciprocal(ONE + e)


@device
def _silu_slopes(x, beta):
    """The derivative to x, and that to beta over x."""
    step = _step(beta * x)
    rise = x * (step * (ONE - step))
    return fma(beta, rise, step), rise


@unary
def _silu(x, beta, b):
    return x * _step(beta * x)


@binary
def _silu_backward(dy, x, beta, b):
    slope, _ = _silu_slopes(x, beta)
    return dy * slope


@_learned.learned
def _swish(x, beta):
    return x * _step(beta * x)


@_learned.learned_backward
def _swish_backward(dy, x, beta):
    slope, rise = _silu_slopes(x, beta)
    return dy * slope, dy * x * rise


# ---------------------------------------------------------------- mish
@device
def _mish_step(x):
    """tanh(log(1 + e^x)), which is n / (n + 2) with n = e^x (e^x + 2)."""
    e = exp(x)
    n = e * (e + TWO)
    return ONE if x > _ONE_FROM else n * reciprocal(n + TWO)


@unary
def _mish(x, a, b):
    return x * _mish_step(x)


@binary
def _mish_backward(dy, x, a, b):
    step = _mish_step(x)
    return dy * fma(x, fma(-step, step, ONE) * sigmoid(x), step)


# ---------------------------------------------------------------- functions
def gelu(x: Array, *, approximate: str = "none", out: Array | None = None) -> Array:
    """x times the probability that a standard normal value is below x; approximate = "tanh" takes it from a tanh."""
    return forward(_gelu_tanh if approximate == "tanh" else _gelu, x, out)


def gelu_backward(dy: Array, x: Array, *, approximate: str = "none", out: Array | None = None) -> Array:
    """Gradient to gelu's input: dy times that probability plus x times the normal density."""
    return backward(_gelu_tanh_backward if approximate == "tanh" else _gelu_backward, dy, x, out)


def silu(x: Array, *, beta: float = 1.0, out: Array | None = None) -> Array:
    """x / (1 + exp(-beta * x))."""
    return forward(_silu, x, out, beta)


def silu_backward(dy: Array, x: Array, *, beta: float = 1.0, out: Array | None = None) -> Array:
    """Gradient to silu's input: dy * (s + beta * x * s * (1 - s)), s = 1 / (1 + exp(-beta * x))."""
    return backward(_silu_backward, dy, x, out, beta)


def swish(x: Array, beta: Array, *, out: Array | None = None) -> Array:
    """silu with a beta (1,) that is learned."""
    return _learned.forward(_swish, x, beta, out)


def swish_backward(
    dy: Array, x: Array, beta: Array, *, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """dx as in silu_backward, and dbeta (1,): the sum of dy * x**2 * s * (1 - s)."""
    return _learned.backward(_swish_backward, dy, x, beta, out)


def mish(x: Array, *, out: Array | None = None) -> Array:
    """x * tanh(log(1 + exp(x)))."""
    return forward(_mish, x, out)


def mish_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient to mish's input: dy * (w + x * (1 - w**2) / (1 + exp(-x))), w = tanh(log(1 + exp(x)))."""
    return backward(_mish_backward, dy, x, out)
