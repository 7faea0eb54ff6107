"""Adam and AdamW, float32: one call updates all parameters of a model.

Every array is read once and written once (the gradient only read): 28 bytes a parameter, 36 with AMSGrad. The
formulas are those of `kernels/reference/adam.py`; coefficients are computed in float64 and used in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._driver import FLOAT, INT, PTR, job, share
from ._gradient import GRADIENT, gradient, options
from ._tensors import each_tensor_vector, tensor_table
from .simd import vfma, vload_n, vmax, vsplat, vsqrt, vstore_n

Arrays = Sequence[np.ndarray]


@each_tensor_vector
def _adam(a, tensors, i, n):
    param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq = tensors
    p, m, v = vload_n(param, i, n), vload_n(exp_avg, i, n), vload_n(exp_avg_sq, i, n)
    g = gradient(a, p, grad, i, n)
    m = vfma(g - m, vsplat(a.gain1), m)
    v = vfma(v, vsplat(a.beta2), a.gain2 * g * g)
    vstore_n(exp_avg, i, m, n)
    vstore_n(exp_avg_sq, i, v, n)
    if max_exp_avg_sq:
        v = vmax(vload_n(max_exp_avg_sq, i, n), v)
        vstore_n(max_exp_avg_sq, i, v, n)
    denominator = vfma(vsqrt(v), vsplat(a.correction), vsplat(a.eps))
    vstore_n(param, i, a.decay * p - a.rate * m / denominator, n)


@job(table=PTR, count=INT, decay=FLOAT, gain1=FLOAT, beta2=FLOAT, gain2=FLOAT, correction=FLOAT, eps=FLOAT, rate=FLOAT,
     **GRADIENT)
def _adam_blocks(first, last, thread, a):
    _adam(a, first, last)


def adam(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    step: int,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step of Adam for all parameters, in place, all arrays C-contiguous; exp_avgs are the m, exp_avg_sqs the v.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        m ← m + (1 - β1) (g - m)                       v ← β2 v + (1 - β2) g²
        θ ← θ - lr / (1 - β1^step) · m / (√v / √(1 - β2^step) + ε)

    With `max_exp_avg_sqs` (AMSGrad) the last line has the largest v so far, which they keep.
    """
    if skip:
        return
    lists = params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs
    start = options(maximize, weight_decay, l1, grad_scale, clip_value)
    _step(lists, lr, beta1, beta2, eps, 1.0, step, start)


def adamw(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    step: int,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step of AdamW: as `adam`, but the decay goes around the gradient, θ ← (1 - lr · weight_decay) θ first."""
    if skip:
        return
    lists = params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs
    start = options(maximize, 0.0, l1, grad_scale, clip_value)
    _step(lists, lr, beta1, beta2, eps, 1 - lr * weight_decay, step, start)


def _step(
    lists: tuple[Arrays | None, ...],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    step: int,
    start: dict[str, float],
) -> None:
    table, blocks, floats = tensor_table(*lists)
    _adam_blocks(
        blocks, threads=share(floats), table=table, count=len(lists[0]), decay=decay, gain1=1 - beta1, beta2=beta2,
        gain2=1 - beta2, correction=1 / math.sqrt(1 - beta2**step), eps=eps, rate=lr / (1 - beta1**step), **start)
