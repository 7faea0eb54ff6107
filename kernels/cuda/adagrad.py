"""Adagrad: one launch updates all parameters of a model.

Every array is read once and written once (the gradient only read): 20 bytes a parameter of float32. The formulas are
those of `kernels/reference/adagrad.py`; how memory is walked stands in `_tensors.py`.
"""

from __future__ import annotations

import numpy as np

from ._gradient import GRADIENT, gradient, number, options, passed, skipped
from ._layout import Array
from ._math import ONE, fma
from ._numba import cuda, types
from ._tensors import CHUNK, EACH, THREADS, UNROLL, WALK, WIDEST, Arrays, chunk_of_block, fetch, keep, walks
from .launch import F32, FLOAT, I64, kernel
from .ptx import given, lanes, reciprocal, root


@kernel(block=THREADS, **WALK, lr=FLOAT, lr_at=F32, lr_decay=FLOAT, eps=FLOAT, step=FLOAT, step_at=I64, **GRADIENT)
def _adagrad(table, chunks, sizes, count, aligned, lr, lr_at, lr_decay, eps, step, step_at, scale, scale_at, maximize,
             limit, weight_decay, l1, skip):
    p = cuda.local.array((UNROLL, WIDEST), types.float32)
    g = cuda.local.array((UNROLL, WIDEST), types.float32)
    s = cuda.local.array((UNROLL, WIDEST), types.float32)
    tensor, start, n = chunk_of_block(chunks, sizes, CHUNK)
    param, state_sum = table[tensor], table[2 * count + tensor]
    width = lanes(param)
    fetch(p, param, start, n, aligned)
    fetch(g, table[count + tensor], start, n, aligned)
    fetch(s, state_sum, start, n, aligned)
    if skipped(skip):
        return
    lr, scale = number(lr, lr_at), number(scale, scale_at)
    scale = -scale if maximize else scale
    step = np.float32(step_at[0]) if given(step_at) else step
    rate = lr * reciprocal(fma(step - ONE, lr_decay, ONE))
    for u in range(EACH // width):
        for i in range(width):
            slope = gradient(g[u, i], p[u, i], scale, limit, weight_decay, l1)
            s[u, i] = fma(slope, slope, s[u, i])
            p[u, i] = fma(-rate * slope, reciprocal(root(s[u, i]) + eps), p[u, i])
    keep(param, p, start, n, aligned)
    keep(state_sum, s, start, n, aligned)


def adagrad(
    params: Arrays,
    grads: Arrays,
    state_sums: Arrays,
    *,
    lr: float | Array,
    lr_decay: float = 0.0,
    eps: float,
    step: int | Array,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float | Array = 1.0,
    clip_value: float = 0.0,
    skip: Array | None = None,
) -> None:
    """One step (number `step`, from 1) for all parameters, in place; state_sums are the s and lie as params do.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        s ← s + g²
        θ ← θ - lr / (1 + (step - 1) · lr_decay) · g / (√s + ε)

    lr, grad_scale and step may be 0-d arrays. `skip`, see `_gradient.py`, is one or None.
    """
    rest = options(maximize, weight_decay, l1, grad_scale, clip_value, skip)
    for blocks, walk in walks(params, grads, state_sums):
        _adagrad(blocks, *walk, *passed(lr), lr_decay, eps, *passed(step, "int64"), *rest)
