"""RMSprop: one launch updates all parameters of a model.

Every array is read once and written once (the gradient only read): 20 bytes a parameter of float32, 8 more with
momentum, 8 more if centered. The formulas are those of `kernels/reference/rmsprop.py`; how memory is walked stands in
`_tensors.py`.
"""

from __future__ import annotations

from ._gradient import GRADIENT, gradient, number, options, passed, skipped
from ._layout import Array
from ._math import ZERO, fma, larger
from ._numba import cuda, types
from ._tensors import CHUNK, EACH, THREADS, UNROLL, WALK, WIDEST, Arrays, chunk_of_block, fetch, keep, walks
from .launch import F32, FLOAT, INT, kernel
from .ptx import lanes, reciprocal, root


@kernel(block=THREADS, blocks_per_sm=4, **WALK, lr=FLOAT, lr_at=F32, alpha=FLOAT, gain=FLOAT, eps=FLOAT, momentum=FLOAT,
        buffered=INT, centered=INT, **GRADIENT)
def _rmsprop(table, chunks, sizes, count, aligned, lr, lr_at, alpha, gain, eps, momentum, buffered, centered, scale,
             scale_at, maximize, limit, weight_decay, l1, skip):
    p = cuda.local.array((UNROLL, WIDEST), types.float32)
    g = cuda.local.array((UNROLL, WIDEST), types.float32)
    v = cuda.local.array((UNROLL, WIDEST), types.float32)
    b = cuda.local.array((UNROLL, WIDEST), types.float32)
    m = cuda.local.array((UNROLL, WIDEST), types.float32)
    tensor, start, n = chunk_of_block(chunks, sizes, CHUNK)
    param, square_avg, width = table[tensor], table[2 * count + tensor], lanes(table[tensor])
    buffer, grad_avg = table[3 * count + tensor], table[4 * count + tensor]
    fetch(p, param, start, n, aligned)
    fetch(g, table[count + tensor], start, n, aligned)
    fetch(v, square_avg, start, n, aligned)
    if buffered:
        fetch(b, buffer, start, n, aligned)
    if centered:
        fetch(m, grad_avg, start, n, aligned)
    if skipped(skip):
        return
    lr, scale = number(lr, lr_at), number(scale, scale_at)
    scale = -scale if maximize else scale
    for u in range(EACH // width):
        for i in range(width):
            slope = gradient(g[u, i], p[u, i], scale, limit, weight_decay, l1)
            v[u, i] = fma(alpha, v[u, i], gain * slope * slope)
            variance = v[u, i]
            if centered:
                m[u, i] = fma(gain, slope - m[u, i], m[u, i])
                variance = larger(fma(-m[u, i], m[u, i], variance), ZERO)
            step = slope * reciprocal(root(variance) + eps)
            if buffered:
                b[u, i] = fma(momentum, b[u, i], step)
                step = b[u, i]
            p[u, i] = fma(-lr, step, p[u, i])
    keep(param, p, start, n, aligned)
    keep(square_avg, v, start, n, aligned)
    if buffered:
        keep(buffer, b, start, n, aligned)
    if centered:
        keep(grad_avg, m, start, n, aligned)


def rmsprop(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    buffers: Arrays | None = None,
    grad_avgs: Arrays | None = None,
    *,
    lr: float | Array,
    alpha: float,
    eps: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float | Array = 1.0,
    clip_value: float = 0.0,
    skip: Array | None = None,
) -> None:
    """One step for all parameters, in place; square_avgs are the v, grad_avgs the m; all lie as params do.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        v ← α v + (1 - α) g²
        m ← m + (1 - α) (g - m)                        only with `grad_avgs` (centered)
        d = g / (√(v - m²) + ε)                        without them √v
        b ← momentum · b + d,   d = b                  only with `buffers`, the b
        θ ← θ - lr · d

    lr and grad_scale may be 0-d arrays. `skip`, see `_gradient.py`, is one or None.
    """
    rest = options(maximize, weight_decay, l1, grad_scale, clip_value, skip)
    for blocks, walk in walks(params, grads, square_avgs, buffers, grad_avgs):
        _rmsprop(blocks, *walk, *passed(lr), alpha, 1 - alpha, eps, momentum, buffers is not None,
                 grad_avgs is not None, *rest)
