"""Adagrad, float32: one call updates all parameters of a model.

Every array is read once and written once (the gradient only read): 20 bytes a parameter. The formulas are those of
`kernels/reference/adagrad.py`; coefficients are computed in float64 and used in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._driver import FLOAT, INT, PTR, job, share
from ._gradient import GRADIENT, gradient, options
from ._tensors import each_tensor_vector, tensor_table
from .simd import vfma, vload_n, vsqrt, vstore_n

Arrays = Sequence[np.ndarray]


@each_tensor_vector
def _adagrad(a, tensors, i, n):
    param, grad, state_sum, _, _ = tensors
    p = vload_n(param, i, n)
    g = gradient(a, p, grad, i, n)
    s = vfma(g, g, vload_n(state_sum, i, n))
    vstore_n(state_sum, i, s, n)
    vstore_n(param, i, p - a.rate * g / (vsqrt(s) + a.eps), n)


@job(table=PTR, count=INT, rate=FLOAT, eps=FLOAT, **GRADIENT)
def _adagrad_blocks(first, last, thread, a):
    _adagrad(a, first, last)


def adagrad(
    params: Arrays,
    grads: Arrays,
    state_sums: Arrays,
    *,
    lr: float,
    lr_decay: float = 0.0,
    eps: float,
    step: int,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step (number `step`, from 1) for all parameters, in place, all arrays C-contiguous; state_sums are the s.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        s ← s + g²
        θ ← θ - lr / (1 + (step - 1) · lr_decay) · g / (√s + ε)
    """
    if skip:
        return
    table, blocks, floats = tensor_table(params, grads, state_sums)
    rate = lr / (1 + (step - 1) * lr_decay)
    _adagrad_blocks(blocks, threads=share(floats), table=table, count=len(params), rate=rate, eps=eps,
                    **options(maximize, weight_decay, l1, grad_scale, clip_value))
