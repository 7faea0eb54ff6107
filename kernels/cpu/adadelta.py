"""Adadelta, float32: one call updates all parameters of a model.

Every array is read once and written once (the gradient only read): 28 bytes a parameter. The formulas are those of
`kernels/reference/adadelta.py`; coefficients are computed in float64 and used in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._driver import FLOAT, INT, PTR, job, share
from ._gradient import GRADIENT, gradient, options
from ._tensors import each_tensor_vector, tensor_table
from .simd import vfma, vload_n, vsplat, vsqrt, vstore_n

Arrays = Sequence[np.ndarray]


@each_tensor_vector
def _adadelta(a, tensors, i, n):
    param, grad, square_avg, acc_delta, _ = tensors
    p, v, u = vload_n(param, i, n), vload_n(square_avg, i, n), vload_n(acc_delta, i, n)
    g = gradient(a, p, grad, i, n)
    v = vfma(v, vsplat(a.rho), a.gain * g * g)
    d = vsqrt(u + a.eps) / vsqrt(v + a.eps) * g
    vstore_n(square_avg, i, v, n)
    vstore_n(acc_delta, i, vfma(u, vsplat(a.rho), a.gain * d * d), n)
    vstore_n(param, i, p - a.lr * d, n)


@job(table=PTR, count=INT, lr=FLOAT, rho=FLOAT, gain=FLOAT, eps=FLOAT, **GRADIENT)
def _adadelta_blocks(first, last, thread, a):
    _adadelta(a, first, last)


def adadelta(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    acc_deltas: Arrays,
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step for all parameters, in place, all arrays C-contiguous; square_avgs are the v, acc_deltas the u.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        v ← ρ v + (1 - ρ) g²
        d = √(u + ε) / √(v + ε) · g
        u ← ρ u + (1 - ρ) d²
        θ ← θ - lr · d
    """
    if skip:
        return
    table, blocks, floats = tensor_table(params, grads, square_avgs, acc_deltas)
    _adadelta_blocks(blocks, threads=share(floats), table=table, count=len(params), lr=lr, rho=rho, gain=1 - rho,
                     eps=eps, **options(maximize, weight_decay, l1, grad_scale, clip_value))
