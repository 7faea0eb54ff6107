"""The affine map and its gradients: 1 × 1 convolutions of images of one pixel, on the same kernels.

Formulas in `kernels/reference/linear.py`, meaning of `precision` in `_arithmetic.py`. 2 M · in · out operations, for
4 (M in + in out + M out) bytes.
"""

from __future__ import annotations

from ._channel_sums import channel_sums
from ._layout import Array, contiguous, deliver
from .conv2d import conv2d, conv2d_dgrad, conv2d_wgrad


def _image(x: Array) -> Array:
    """A matrix (rows, columns) as `rows` images, or filters, of `columns` channels and one pixel."""
    return contiguous(x)[:, :, None, None]


def linear(x: Array, weight: Array, bias: Array | None = None, *, precision: str = "highest",
           out: Array | None = None) -> Array:
    """y = x weightᵀ + bias: (M, in), (out, in), (out,) → (M, out)."""
    return deliver(conv2d(_image(x), _image(weight), bias, precision=precision)[:, :, 0, 0], out)


def linear_dgrad(dy: Array, weight: Array, *, precision: str = "highest", out: Array | None = None) -> Array:
    """The gradient to the input, dx = dy weight: (M, out), (out, in) → (M, in)."""
    shape = len(dy), weight.shape[1], 1, 1
    return deliver(conv2d_dgrad(_image(dy), _image(weight), shape, precision=precision)[:, :, 0, 0], out)


def linear_wgrad(dy: Array, x: Array, *, precision: str = "highest", out: Array | None = None) -> Array:
    """The gradient to the weight, dweight = dyᵀ x: (M, out), (M, in) → (out, in), float32."""
    shape = dy.shape[1], x.shape[1], 1, 1
    return deliver(conv2d_wgrad(_image(dy), _image(x), shape, precision=precision)[:, :, 0, 0], out)


def linear_bgrad(dy: Array, *, out: Array | None = None) -> Array:
    """The gradient to the bias, dbias = Σ_m dy[m]: (M, out) → (out,), float32."""
    return deliver(channel_sums(contiguous(dy)), out)
