"""Adadelta: one launch updates all parameters of a model.

Every array is read once and written once (the gradient only read): 28 bytes a parameter of float32. The formulas are
those of `kernels/reference/adadelta.py`; how memory is walked stands in `_tensors.py`.
"""

from __future__ import annotations

from ._gradient import GRADIENT, gradient, number, options, passed, skipped
from ._layout import Array
from ._math import fma
from ._numba import cuda, types
from ._tensors import CHUNK, EACH, THREADS, UNROLL, WALK, WIDEST, Arrays, chunk_of_block, fetch, keep, walks
from .launch import F32, FLOAT, kernel
from .ptx import lanes, reciprocal, root


@kernel(block=THREADS, **WALK, lr=FLOAT, lr_at=F32, rho=FLOAT, gain=FLOAT, eps=FLOAT, **GRADIENT)
def _adadelta(table, chunks, sizes, count, aligned, lr, lr_at, rho, gain, eps, scale, scale_at, maximize, limit,
              weight_decay, l1, skip):
    p = cuda.local.array((UNROLL, WIDEST), types.float32)
    g = cuda.local.array((UNROLL, WIDEST), types.float32)
    v = cuda.local.array((UNROLL, WIDEST), types.float32)
    d = cuda.local.array((UNROLL, WIDEST), types.float32)
    tensor, start, n = chunk_of_block(chunks, sizes, CHUNK)
    param, square_avg, acc_delta = table[tensor], table[2 * count + tensor], table[3 * count + tensor]
    width = lanes(param)
    fetch(p, param, start, n, aligned)
    fetch(g, table[count + tensor], start, n, aligned)
    fetch(v, square_avg, start, n, aligned)
    fetch(d, acc_delta, start, n, aligned)
    if skipped(skip):
        return
    lr, scale = number(lr, lr_at), number(scale, scale_at)
    scale = -scale if maximize else scale
    for u in range(EACH // width):
        for i in range(width):
            slope = gradient(g[u, i], p[u, i], scale, limit, weight_decay, l1)
            v[u, i] = fma(rho, v[u, i], gain * slope * slope)
            delta = root(d[u, i] + eps) * reciprocal(root(v[u, i] + eps)) * slope
            d[u, i] = fma(rho, d[u, i], gain * delta * delta)
            p[u, i] = fma(-lr, delta, p[u, i])
    keep(param, p, start, n, aligned)
    keep(square_avg, v, start, n, aligned)
    keep(acc_delta, d, start, n, aligned)


def adadelta(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    acc_deltas: Arrays,
    *,
    lr: float | Array,
    rho: float,
    eps: float,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float | Array = 1.0,
    clip_value: float = 0.0,
    skip: Array | None = None,
) -> None:
    """One step for all parameters, in place; square_avgs are the v, acc_deltas the u; all lie as params do.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        v ← ρ v + (1 - ρ) g²
        d = √(u + ε) / √(v + ε) · g
        u ← ρ u + (1 - ρ) d²
        θ ← θ - lr · d

    lr and grad_scale may be 0-d arrays. `skip`, see `_gradient.py`, is one or None.
    """
    rest = options(maximize, weight_decay, l1, grad_scale, clip_value, skip)
    for blocks, walk in walks(params, grads, square_avgs, acc_deltas):
        _adadelta(blocks, *walk, *passed(lr), rho, 1 - rho, eps, *rest)
