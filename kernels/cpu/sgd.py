"""Stochastic gradient descent, float32: one call updates all parameters of a model.

Every array is read once and written once: 12 bytes a parameter, 20 with momentum. The formulas are those of
`kernels/reference/sgd.py`; coefficients are computed in float64 and used in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._driver import FLOAT, INT, PTR, job, share
from ._gradient import GRADIENT, gradient, options
from ._tensors import each_tensor_vector, tensor_table
from .simd import vfma, vload_n, vsplat, vstore_n


@each_tensor_vector
def _sgd(a, tensors, i, n):
    param, grad, buffer, _, _ = tensors
    p = vload_n(param, i, n)
    g = gradient(a, p, grad, i, n)
    if buffer:
        b = g if a.first else vfma(vload_n(buffer, i, n), vsplat(a.momentum), a.gain * g)
        vstore_n(buffer, i, b, n)
        g = vfma(b, vsplat(a.momentum), g) if a.nesterov else b
    vstore_n(param, i, p - a.lr * g, n)


@job(table=PTR, count=INT, lr=FLOAT, momentum=FLOAT, gain=FLOAT, nesterov=INT, first=INT, **GRADIENT)
def _sgd_blocks(first, last, thread, a):
    _sgd(a, first, last)


def sgd(
    params: Sequence[np.ndarray],
    grads: Sequence[np.ndarray],
    buffers: Sequence[np.ndarray] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step for all parameters, in place; all arrays C-contiguous, grads[i] and buffers[i] shaped like params[i].

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        b ← momentum · b + (1 - dampening) · g          b ← g at the `first` step
        g ← g + momentum · b if nesterov, else b
        θ ← θ - lr · g

    `buffers` is None when momentum is 0; then the two middle lines fall away.
    """
    if skip:
        return
    table, blocks, floats = tensor_table(params, grads, buffers)
    _sgd_blocks(blocks, threads=share(floats), table=table, count=len(params), lr=lr, momentum=momentum,
                gain=1 - dampening, nesterov=nesterov, first=first,
                **options(maximize, weight_decay, l1, grad_scale, clip_value))
