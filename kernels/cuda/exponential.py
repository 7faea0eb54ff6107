"""ELU and softplus, any shape; formulas and sources in `kernels/reference/exponential.py`.

Outputs keep the input's memory order. At copy bandwidth a forward takes 8 bytes an element of float32, a backward 12.
"""

from __future__ import annotations

from ._layout import Array
from ._math import ZERO, absolute, exp, expm1, larger, log1p, sigmoid
from ._pointwise import backward, binary, forward, unary
from .ptx import reciprocal


@unary
def _elu(x, left, right):
    return right * x if x > ZERO else left * expm1(x)


@binary
def _elu_backward(dy, x, left, right):
    return dy * (right if x > ZERO else left * exp(x))


@unary
def _softplus(x, beta, threshold):
    t = beta * x
    return x if t > threshold else (larger(t, ZERO) + log1p(exp(-absolute(t)))) * reciprocal(beta)


@binary
def _softplus_backward(dy, x, beta, threshold):
    t = beta * x
    return dy if t > threshold else dy * sigmoid(t)


def elu(x: Array, *, alpha: float = 1.0, scale: float = 1.0, out: Array | None = None) -> Array:
    """scale * x where x > 0, else scale * alpha * (exp(x) - 1)."""
    return forward(_elu, x, out, scale * alpha, scale)


def elu_backward(dy: Array, x: Array, *, alpha: float = 1.0, scale: float = 1.0, out: Array | None = None) -> Array:
    """Gradient to elu's input: dy * scale where x > 0, else dy * scale * alpha * exp(x)."""
    return backward(_elu_backward, dy, x, out, scale * alpha, scale)


def softplus(x: Array, *, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None) -> Array:
    """log(1 + exp(beta * x)) / beta, or x where beta * x > threshold."""
    return forward(_softplus, x, out, beta, threshold)


def softplus_backward(
    dy: Array, x: Array, *, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None
) -> Array:
    """Gradient to softplus's input: dy / (1 + exp(-beta * x)), or dy where beta * x > threshold."""
    return backward(_softplus_backward, dy, x, out, beta, threshold)
