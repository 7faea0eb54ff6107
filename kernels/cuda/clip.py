"""Clipping the gradients of a model: one launch for all arrays, and nothing comes back to the host.

The norm reads every element once, 4 bytes of float32: a block adds up some chunks, its threads' sums joined in a tree,
and a last block joins what the others gave, in the same order every time. Clipping and scaling read and write, 8 bytes.
The formulas are those of `kernels/reference/clip.py`; how memory is walked stands in `_tensors.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ._gradient import bounded, number, passed
from ._layout import Array, deliver, dense, empty_like
from ._math import INFINITY, ONE, ZERO, absolute, larger, power, smaller, sqrt
from ._memory import empty
from ._numba import cuda, device, types
from ._reduce import block_largest, block_sum
from ._tensors import CHUNK, EACH, THREADS, UNROLL, WALK, WIDEST, Arrays, chunk_of_block, fetch, keep, walks
from .launch import F32, FLOAT, INT, STORAGE, Kernel, kernel
from .ptx import lanes, store

_SQUARES, _SIZES, _POWERS, _LARGEST, _SMALLEST = range(5)
_LENGTH = 4 * CHUNK  # elements whose terms a block adds up
_WARPS = THREADS // 32


@device
def _join(kind, a, b):
    return larger(a, b) if kind == _LARGEST else smaller(a, b) if kind == _SMALLEST else a + b


@device
def _joined(kind, value, shared):
    """The sum, the largest or the smallest over the block."""
    if kind == _LARGEST:
        return block_largest(value, shared, _WARPS)
    if kind == _SMALLEST:
        return -block_largest(-value, shared, _WARPS)
    return block_sum(value, shared, _WARPS)


def _parts(body: Callable) -> Kernel:
    """Decorator: body(x, p), the term of an element x = |x|, becomes the kernel that joins the terms of blocks."""
    term = device(body)

    def parts(table, chunks, sizes, count, aligned, kind, p, parts):
        shared = cuda.shared.array(_WARPS, types.float32)
        held = cuda.local.array((UNROLL, WIDEST), types.float32)
        tensor, start, n = chunk_of_block(chunks, sizes, _LENGTH)
        x, width = table[tensor], lanes(table[tensor])
        s = INFINITY if kind == _SMALLEST else ZERO
        for chunk in range(start, min(start + _LENGTH, n), CHUNK):
            fetch(held, x, chunk, n, aligned)
            for u in range(EACH // width):
                for i in range(width):
                    if chunk + (u * THREADS + cuda.threadIdx.x) * width + i < n:
                        s = _join(kind, s, term(absolute(held[u, i]), p))
        s = _joined(kind, s, shared)
        if cuda.threadIdx.x == 0:
            parts[cuda.blockIdx.x] = s

    parts.__name__ = body.__name__
    return kernel(block=THREADS, **WALK, kind=INT, p=FLOAT, parts=F32)(parts)


@_parts
def _sizes(x, p):
    return x


@_parts
def _squares(x, p):
    return x * x


@_parts
def _powers(x, p):
    return power(x, p)


@kernel(block=THREADS, parts=F32, count=INT, kind=INT, p=FLOAT, norm=STORAGE)
def _norm(parts, count, kind, p, norm):
    shared = cuda.shared.array(_WARPS, types.float32)
    s = INFINITY if kind == _SMALLEST else ZERO
    for i in range(cuda.threadIdx.x, count, THREADS):
        s = _join(kind, s, parts[i])
    s = _joined(kind, s, shared)
    if cuda.threadIdx.x == 0:
        store(norm, 0, sqrt(s) if kind == _SQUARES else power(s, ONE / p) if kind == _POWERS else s)


@kernel(block=THREADS, **WALK, scale=FLOAT, scale_at=F32, limit=FLOAT)
def _clip(table, chunks, sizes, count, aligned, scale, scale_at, limit):
    held = cuda.local.array((UNROLL, WIDEST), types.float32)
    tensor, start, n = chunk_of_block(chunks, sizes, CHUNK)
    width, scale = lanes(table[tensor]), number(scale, scale_at)
    fetch(held, table[tensor], start, n, aligned)
    for u in range(EACH // width):
        for i in range(width):
            held[u, i] = scale * bounded(held[u, i], limit)
    keep(table[count + tensor], held, start, n, aligned)


def total_norm(xs: Arrays, *, norm_type: float, out: Array | None = None) -> Array:
    """(Σ |x|^p)^(1/p) over all elements of all arrays, p = norm_type not 0; for p = ±inf the largest or smallest |x|.

    A 0-d array on the device.
    """
    xs = [dense(x) for x in xs]
    kind = {2: _SQUARES, 1: _SIZES, math.inf: _LARGEST, -math.inf: _SMALLEST}.get(norm_type, _POWERS)
    terms = {_SQUARES: _squares, _POWERS: _powers}.get(kind, _sizes)
    work = list(walks(xs, length=_LENGTH))
    parts, first = empty(sum(blocks for blocks, _ in work)), 0
    for blocks, walk in work:
        terms(blocks, *walk, kind, norm_type, parts[first : first + blocks])
        first += blocks
    norm = empty((), xs[0].dtype)
    _norm(1, parts, len(parts), kind, norm_type, norm)
    return deliver(norm, out)


def clipped(
    xs: Arrays, *, scale: float | Array = 1.0, clip_value: float = 0.0, out: tuple[Array, ...] | None = None
) -> tuple[Array, ...]:
    """For each array scale · clip(x, ±clip_value); a clip_value of 0 clips nothing, NaN stays.

    scale may be a 0-d array.
    """
    xs = [dense(x) for x in xs]
    ys = [empty_like(x) for x in xs]
    for blocks, walk in walks(xs, ys):
        _clip(blocks, *walk, *passed(scale), clip_value)
    return tuple(map(deliver, ys, out or [None] * len(ys)))
