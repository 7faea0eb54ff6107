"""Stochastic gradient descent: one launch updates all parameters of a model.

Every array is read once and written once: 12 bytes a parameter of float32, 20 with momentum. The formulas are those of
`kernels/reference/sgd.py`; how memory is walked stands in `_tensors.py`.
"""

from __future__ import annotations

from ._gradient import GRADIENT, gradient, number, options, passed, skipped
from ._layout import Array
from ._math import fma
from ._numba import cuda, types
from ._tensors import CHUNK, EACH, THREADS, UNROLL, WALK, WIDEST, Arrays, chunk_of_block, fetch, keep, walks
from .launch import F32, FLOAT, INT, kernel
from .ptx import lanes


@kernel(block=THREADS, **WALK, lr=FLOAT, lr_at=F32, momentum=FLOAT, gain=FLOAT, buffered=INT, nesterov=INT, first=INT,
        **GRADIENT)
def _sgd(table, chunks, sizes, count, aligned, lr, lr_at, momentum, gain, buffered, nesterov, first, scale, scale_at,
         maximize, limit, weight_decay, l1, skip):
    p = cuda.local.array((UNROLL, WIDEST), types.float32)
    g = cuda.local.array((UNROLL, WIDEST), types.float32)
    b = cuda.local.array((UNROLL, WIDEST), types.float32)
    tensor, start, n = chunk_of_block(chunks, sizes, CHUNK)
    param, width = table[tensor], lanes(table[tensor])
    fetch(p, param, start, n, aligned)
    fetch(g, table[count + tensor], start, n, aligned)
    if buffered and not first:
        fetch(b, table[2 * count + tensor], start, n, aligned)
    if skipped(skip):
        return
    lr, scale = number(lr, lr_at), number(scale, scale_at)
    scale = -scale if maximize else scale
    for u in range(EACH // width):
        for i in range(width):
            step = gradient(g[u, i], p[u, i], scale, limit, weight_decay, l1)
            if buffered:
                b[u, i] = step if first else fma(momentum, b[u, i], gain * step)
                step = fma(momentum, b[u, i], step) if nesterov else b[u, i]
            p[u, i] = fma(-lr, step, p[u, i])
    keep(param, p, start, n, aligned)
    if buffered:
        keep(table[2 * count + tensor], b, start, n, aligned)


def sgd(
    params: Arrays,
    grads: Arrays,
    buffers: Arrays | None,
    *,
    lr: float | Array,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first: bool = False,
    l1: float = 0.0,
    grad_scale: float | Array = 1.0,
    clip_value: float = 0.0,
    skip: Array | None = None,
) -> None:
    """One step for all parameters, in place; all arrays dense, grads[i] and buffers[i] lying as params[i] does.

        g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)
        b ← momentum · b + (1 - dampening) · g          b ← g at the `first` step
        g ← g + momentum · b if nesterov, else b
        θ ← θ - lr · g

    `buffers` is None when momentum is 0; then the two middle lines fall away. lr and grad_scale may be 0-d arrays.
    `skip`, see `_gradient.py`, is one or None.
    """
    rest = options(maximize, weight_decay, l1, grad_scale, clip_value, skip)
    for blocks, walk in walks(params, grads, buffers):
        _sgd(blocks, *walk, *passed(lr), momentum, 1 - dampening, buffers is not None, nesterov, first, *rest)
