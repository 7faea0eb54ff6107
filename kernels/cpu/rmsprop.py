"""RMSprop, float32: one call updates all parameters of a model.

Every array is read once and written once (the gradient only read): 20 bytes a parameter, 8 more with
momentum, 8 more if centered. The formulas are those of `kernels/reference/rmsprop.py`; coefficients are computed in
float64 and used in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._driver import FLOAT, INT, PTR, job, share
from ._gradient import GRADIENT, gradient, options
from ._tensors import each_tensor_vector, tensor_table
from .simd import vfma, vload_n, vmax, vsplat, vsqrt, vstore_n

Arrays = Sequence[np.ndarray]


@each_tensor_vector
def _rmsprop(a, tensors, i, n):
    param, grad, square_avg, buffer, grad_avg = tensors
    p = vload_n(param, i, n)
    g = gradient(a, p, grad, i, n)
    v = vfma(vload_n(square_avg, i, n), vsplat(a.alpha), a.gain * g * g)
    vstore_n(square_avg, i, v, n)
    if grad_avg:
        m = vload_n(grad_avg, i, n)
        m = vfma(g - m, vsplat(a.gain), m)
        vstore_n(grad_avg, i, m, n)
        v = vmax(vfma(-m, m, v), vsplat(0.0))
    d = g / (vsqrt(v) + a.eps)
    if buffer:
        d = vfma(vload_n(buffer, i, n), vsplat(a.momentum), d)
        vstore_n(buffer, i, d, n)
    vstore_n(param, i, p - a.lr * d, n)


@job(table=PTR, count=INT, lr=FLOAT, alpha=FLOAT, gain=FLOAT, eps=FLOAT, momentum=FLOAT, **GRADIENT)
def _rmsprop_blocks(first, last, thread, a):
    _rmsprop(a, first, last)


def rmsprop(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    buffers: Arrays | None = None,
    grad_avgs: Arrays | None = None,
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step for all parameters, in place, all arrays C-contiguous; square_avgs are the v, grad_avgs the m.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        v ← α v + (1 - α) g²
        m ← m + (1 - α) (g - m)                        only with `grad_avgs` (centered)
        d = g / (√(v - m²) + ε)                        without them √v
        b ← momentum · b + d,   d = b                  only with `buffers`, the b
        θ ← θ - lr · d
    """
    if skip:
        return
    table, blocks, floats = tensor_table(params, grads, square_avgs, buffers, grad_avgs)
    _rmsprop_blocks(blocks, threads=share(floats), table=table, count=len(params), lr=lr, alpha=alpha, gain=1 - alpha,
                    eps=eps, momentum=momentum, **options(maximize, weight_decay, l1, grad_scale, clip_value))
