"""Clipping the gradients of a model, float32: one call for all arrays.

The norm reads every element once, 4 bytes; clipping and scaling read and write, 8 bytes. The formulas are those of
`kernels/reference/clip.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._compile import inner
from ._driver import FLOAT, INT, PTR, job, share
from ._gradient import bounded
from ._layout import deliver, dense, empty_like
from ._math import vexp, vlog
from ._memory import empty
from ._tensors import each_tensor_vector, object_of, span, tensor_of, tensor_table
from .simd import L, isplat, lane_index, vabs, vload, vload_n, vmax, vmin, vselect, vsplat, vstore, vstore_n

Arrays = Sequence[np.ndarray]

_SQUARES, _SIZES, _POWERS, _LARGEST, _SMALLEST = range(5)
_STEP = 4 * L


@inner
def _join(a, s, x):
    """The sum (or the largest, or the smallest) so far and the terms of these elements."""
    x = vabs(x)
    if a.kind == _SQUARES:
        x = x * x
    if a.kind == _POWERS:
        x = vexp(a.power * vlog(x))
    return vmax(s, x) if a.kind == _LARGEST else vmin(s, x) if a.kind == _SMALLEST else s + x


@job(table=PTR, count=INT, kind=INT, power=FLOAT, start=FLOAT, filler=FLOAT, parts=PTR)
def _norm_blocks(first, last, thread, a):
    """L numbers for each block, to be joined with those of the others; `filler` is an element that changes nothing."""
    tensor = 0
    for block in range(first, last):
        tensor = tensor_of(a, block, tensor)
        x = object_of(a, 0, tensor)
        i, stop = span(a, block, tensor)
        s0 = s1 = s2 = s3 = vsplat(a.start)
        while i + _STEP <= stop:
            s0, s1 = _join(a, s0, vload(x, i)), _join(a, s1, vload(x, i + L))
            s2, s3 = _join(a, s2, vload(x, i + 2 * L)), _join(a, s3, vload(x, i + 3 * L))
            i += _STEP
        while i < stop:
            s0 = _join(a, s0, vselect(lane_index() < isplat(stop - i), vload_n(x, i, stop - i), a.filler))
            i += L
        for k, s in ((0, s0), (1, s1), (2, s2), (3, s3)):
            vstore(a.parts, block * _STEP + k * L, s)


@each_tensor_vector
def _clip(a, tensors, i, n):
    x, y, _, _, _ = tensors
    vstore_n(y, i, a.scale * bounded(vload_n(x, i, n), a.limit), n)


@job(table=PTR, count=INT, scale=FLOAT, limit=FLOAT)
def _clip_blocks(first, last, thread, a):
    _clip(a, first, last)


def total_norm(xs: Arrays, *, norm_type: float, out: np.ndarray | None = None) -> np.ndarray:
    """(Σ |x|^p)^(1/p) over all elements of all arrays, p = norm_type not 0; for p = ±inf the largest or smallest |x|.

    Summed in two levels: up to a block in float32, the blocks in float64.
    """
    xs = [dense(x) for x in xs]
    table, blocks, floats = tensor_table(xs)
    kind = {2: _SQUARES, 1: _SIZES, math.inf: _LARGEST, -math.inf: _SMALLEST}.get(norm_type, _POWERS)
    start, filler = math.inf if kind == _SMALLEST else 0.0, math.inf if norm_type < 0 else 0.0
    parts = empty((blocks * _STEP,))
    _norm_blocks(blocks, threads=share(floats), table=table, count=len(xs), kind=kind, power=norm_type, start=start,
                 filler=filler, parts=parts)
    if kind == _LARGEST:
        norm = parts.max(initial=start)
    elif kind == _SMALLEST:
        norm = parts.min(initial=start)
    else:
        norm = parts.sum(dtype=np.float64) ** (1 / norm_type)
    return deliver(np.asarray(norm, np.float32), out)


def clipped(
    xs: Arrays, *, scale: float = 1.0, clip_value: float = 0.0, out: tuple[np.ndarray, ...] | None = None
) -> tuple[np.ndarray, ...]:
    """For each array scale · clip(x, ±clip_value); a clip_value of 0 clips nothing, NaN stays."""
    xs = [dense(x) for x in xs]
    ys = [empty_like(x) for x in xs]
    table, blocks, floats = tensor_table(xs, ys)
    _clip_blocks(blocks, threads=share(floats), table=table, count=len(xs), scale=scale, limit=clip_value)
    return tuple(map(deliver, ys, out or [None] * len(ys)))
