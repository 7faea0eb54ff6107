"""Adam and AdamW: one launch updates all parameters of a model.

Every array is read once and written once (the gradient only read): 28 bytes a parameter of float32, 36 with AMSGrad.
The formulas are those of `kernels/reference/adam.py`; how memory is walked stands in `_tensors.py`. The corrections
1 - β^step = -expm1(step · log β) are computed by every thread, from a step that may lie on the device.
"""

from __future__ import annotations

import math

import numpy as np

from ._gradient import GRADIENT, gradient, number, options, passed, skipped
from ._layout import Array
from ._math import ONE, expm1, fma, larger
from ._numba import cuda, types
from ._tensors import CHUNK, EACH, THREADS, UNROLL, WALK, WIDEST, Arrays, chunk_of_block, fetch, keep, walks
from .launch import F32, FLOAT, I64, INT, kernel
from .ptx import given, lanes, reciprocal, root


@kernel(block=THREADS, blocks_per_sm=4, **WALK, lr=FLOAT, lr_at=F32, log_beta1=FLOAT, gain1=FLOAT, log_beta2=FLOAT,
        beta2=FLOAT, gain2=FLOAT, eps=FLOAT, decay=FLOAT, step=FLOAT, step_at=I64, amsgrad=INT, **GRADIENT)
def _adam(table, chunks, sizes, count, aligned, lr, lr_at, log_beta1, gain1, log_beta2, beta2, gain2, eps, decay, step,
          step_at, amsgrad, scale, scale_at, maximize, limit, weight_decay, l1, skip):
    p = cuda.local.array((UNROLL, WIDEST), types.float32)
    g = cuda.local.array((UNROLL, WIDEST), types.float32)
    m = cuda.local.array((UNROLL, WIDEST), types.float32)
    v = cuda.local.array((UNROLL, WIDEST), types.float32)
    w = cuda.local.array((UNROLL, WIDEST), types.float32)
    tensor, start, n = chunk_of_block(chunks, sizes, CHUNK)
    param, exp_avg, exp_avg_sq = table[tensor], table[2 * count + tensor], table[3 * count + tensor]
    width = lanes(param)
    fetch(p, param, start, n, aligned)
    fetch(g, table[count + tensor], start, n, aligned)
    fetch(m, exp_avg, start, n, aligned)
    fetch(v, exp_avg_sq, start, n, aligned)
    if amsgrad:
        fetch(w, table[4 * count + tensor], start, n, aligned)
    if skipped(skip):
        return
    lr, scale = number(lr, lr_at), number(scale, scale_at)
    scale = -scale if maximize else scale
    step = np.float32(step_at[0]) if given(step_at) else step
    rate = lr * reciprocal(expm1(step * log_beta1))  # its negative
    correction = reciprocal(root(-expm1(step * log_beta2)))
    kept = ONE - lr * decay
    for u in range(EACH // width):
        for i in range(width):
            slope = gradient(g[u, i], p[u, i], scale, limit, weight_decay, l1)
            m[u, i] = fma(gain1, slope - m[u, i], m[u, i])
            v[u, i] = fma(beta2, v[u, i], gain2 * slope * slope)
            if amsgrad:
                w[u, i] = larger(w[u, i], v[u, i])
            size = root(w[u, i] if amsgrad else v[u, i])
            p[u, i] = fma(rate * m[u, i], reciprocal(fma(size, correction, eps)), kept * p[u, i])
    keep(param, p, start, n, aligned)
    keep(exp_avg, m, start, n, aligned)
    keep(exp_avg_sq, v, start, n, aligned)
    if amsgrad:
        keep(table[4 * count + tensor], w, start, n, aligned)


def adam(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    lr: float | Array,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    step: int | Array,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float | Array = 1.0,
    clip_value: float = 0.0,
    skip: Array | None = None,
) -> None:
    """One step of Adam for all parameters, in place; exp_avgs are the m, exp_avg_sqs the v; all lie as params do.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        m ← m + (1 - β1) (g - m)                       v ← β2 v + (1 - β2) g²
        θ ← θ - lr / (1 - β1^step) · m / (√v / √(1 - β2^step) + ε)

    With `max_exp_avg_sqs` (AMSGrad) the last line has the largest v so far, which they keep. lr, grad_scale and step
    may be 0-d arrays. `skip`, see `_gradient.py`, is one or None.
    """
    lists = params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs
    rest = options(maximize, weight_decay, l1, grad_scale, clip_value, skip)
    _step(lists, lr, beta1, beta2, eps, 0.0, step, rest)


def adamw(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    lr: float | Array,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    step: int | Array,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float | Array = 1.0,
    clip_value: float = 0.0,
    skip: Array | None = None,
) -> None:
    """One step of AdamW: as `adam`, but the decay goes around the gradient, θ ← (1 - lr · weight_decay) θ first."""
    lists = params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs
    rest = options(maximize, 0.0, l1, grad_scale, clip_value, skip)
    _step(lists, lr, beta1, beta2, eps, weight_decay, step, rest)


def _step(
    lists: tuple[Arrays | None, ...],
    lr: float | Array,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    step: int | Array,
    rest: tuple,
) -> None:
    betas = _log(beta1), 1 - beta1, _log(beta2), beta2, 1 - beta2
    for blocks, walk in walks(*lists):
        _adam(blocks, *walk, *passed(lr), *betas, eps, decay, *passed(step, "int64"), lists[4] is not None, *rest)


def _log(beta: float) -> float:
    return math.log(beta) if beta else -math.inf
