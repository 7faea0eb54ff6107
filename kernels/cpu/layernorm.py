"""Layer normalisation, float32. A row, the values normalised together, stays in the cache between its passes.

With m values x of a row, γ weight and β bias of their positions, and s = 1/√(σ² + ε):

    forward     y  = (x - μ) s γ + β                                            reads x, writes y
    backward    dβ = Σ dy,   dγ = Σ s dy (x - μ), over the rows                 reads dy and x, writes dx
                dx = s (γ dy - Σ γ dy / m - (x - μ) s² Σ γ dy (x - μ) / m)

so forward spends 8 bytes an element and backward 12.

Mean and variance are taken of the deviations from the row's first value. Of n values none lies further than √n σ from
the mean, so that costs few of them no digits; many of them are then passed once more, about the mean just found. Sums
are taken in float32 over some thousand values, and joined in float64. The gradients of weight and bias are summed over
a block of rows, then over the blocks.

The normalised axes must be the innermost ones in memory, in any order. Images normalised over (C, H, W) stay
channels-last so; arrays that lie otherwise are copied into C order.
"""

from __future__ import annotations

import math

import numpy as np

from ._blocks import FULL
from ._compile import inner
from ._driver import FLOAT, INT, PTR, job, share
from ._layout import contiguous, deliver, empty_like, like
from ._memory import empty, workspace
from ._reduce import column_sums
from ._rows import BLOCK_ROWS
from ._stream import put, streams
from .simd import L, fload, fstore, lane_index, vfma, vload_n, vselect, vsplat, vstore_n, vstreamed, vsum

Three = tuple[np.ndarray, np.ndarray, np.ndarray]

_FEW = 128  # values
_CHUNK = 4 * 64 * FULL  # floats: in each lane of four vectors 64 terms


# ---------------------------------------------------------------- memory
def _innermost(x: np.ndarray, leading: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """x, or a copy, in whose memory the leading axes come first; and the order there of the normalised ones."""
    behind = sorted(range(leading, x.ndim), key=lambda axis: -x.strides[axis])
    if x.transpose((*range(leading), *behind)).flags.c_contiguous:
        return x, tuple(axis - leading for axis in behind)
    return contiguous(x), tuple(range(x.ndim - leading))


def _in_order(v: np.ndarray | None, order: tuple[int, ...], name: str, value: float, m: int) -> np.ndarray:
    """Weights or biases in the order in which the values lie in memory; if there are none, m times a value."""
    if v is not None:
        return contiguous(v.transpose(order))
    same = workspace(name, m)
    same[:m] = value
    return same


@inner
def _first_lanes(v, n):
    """v with zeros behind its first n lanes."""
    return vselect(lane_index() < n, v, 0)


# ---------------------------------------------------------------- forward
@inner
def _deviations(x, n, centre):
    """Σ u and Σ u² of n values, u = x - centre."""
    s, t = 0.0, 0.0
    for start in range(0, n, _CHUNK):
        stop = min(start + _CHUNK, n)
        s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = vsplat(0.0)
        rest = (stop - start) % (4 * L)
        for i in range(start, stop - rest, 4 * L):
            u0, u1 = vload_n(x, i, FULL) - centre, vload_n(x, i + L, FULL) - centre
            u2, u3 = vload_n(x, i + 2 * L, FULL) - centre, vload_n(x, i + 3 * L, FULL) - centre
            s0, s1, s2, s3 = s0 + u0, s1 + u1, s2 + u2, s3 + u3
            t0, t1, t2, t3 = vfma(u0, u0, t0), vfma(u1, u1, t1), vfma(u2, u2, t2), vfma(u3, u3, t3)
        for i in range(stop - rest, stop, L):
            u = _first_lanes(vload_n(x, i, stop - i) - centre, stop - i)
            s0, t0 = s0 + u, vfma(u, u, t0)
        s += vsum((s0 + s1) + (s2 + s3))
        t += vsum((t0 + t1) + (t2 + t3))
    return s, t


@inner
def _normalise(a, x, y, i, n, centre, scale, shift):
    """y = ((x - centre) scale + shift) γ + β for n lanes at i."""
    normalised = vfma(vload_n(x, i, n) - centre, vsplat(scale), vsplat(shift))
    put(y, i, vfma(normalised, vload_n(a.weight, i, n), vload_n(a.bias, i, n)), n, a.past_caches)


@job(x=PTR, y=PTR, weight=PTR, bias=PTR, mean=PTR, var=PTR, m=INT, eps=FLOAT, past_caches=INT)
def _layer_norm(first, last, thread, a):
    share = 1.0 / a.m
    for row in range(first, last):
        x, y = a.x + 4 * row * a.m, a.y + 4 * row * a.m
        origin = fload(x, 0)
        s, t = _deviations(x, a.m, origin)
        mean, var = origin + s * share, (t - s * s * share) * share
        centre = np.float32(mean)
        if a.m > _FEW:
            s, t = _deviations(x, a.m, centre)
            mean, var = centre + s * share, (t - s * s * share) * share
        fstore(a.mean, row, mean)
        fstore(a.var, row, var)
        invstd = 1.0 / np.sqrt(var + a.eps)
        scale, shift = np.float32(invstd), np.float32((centre - mean) * invstd)
        tail = a.m % L
        for i in range(0, a.m - tail, L):
            _normalise(a, x, y, i, FULL, centre, scale, shift)
        if tail:
            _normalise(a, x, y, a.m - tail, tail, centre, scale, shift)
    vstreamed()


def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    out: Three | None = None,
) -> Three:
    """Normalise → (y, μ, σ²), the statistics being what the backward needs: their shape is that of the axes before.

    8 bytes an element.
    """
    y_out, mean_out, var_out = out or (None, None, None)
    m, leading = math.prod(normalized_shape), x.ndim - len(normalized_shape)
    x, order = _innermost(x, leading)
    y, mean, var = empty_like(x), *(empty(x.shape[:leading]) for _ in range(2))
    if x.size:
        _layer_norm(mean.size, threads=share(x.size), x=x, y=y, weight=_in_order(weight, order, "ones", 1, m),
                    bias=_in_order(bias, order, "zeros", 0, m), mean=mean, var=var, m=m, eps=eps,
                    past_caches=streams(y, m))
    else:
        mean[...] = var[...] = 0
    return deliver(y, y_out), deliver(mean, mean_out), deliver(var, var_out)


# ---------------------------------------------------------------- backward
@inner
def _gradient_sums(a, dy, x, centre):
    """Σ g, Σ g u and Σ u of a row, g = γ dy and u = x - centre."""
    level, product, offset = 0.0, 0.0, 0.0
    for start in range(0, a.m, _CHUNK):
        stop = min(start + _CHUNK, a.m)
        s0 = s1 = t0 = t1 = d0 = d1 = vsplat(0.0)
        rest = (stop - start) % (2 * L)
        for i in range(start, stop - rest, 2 * L):
            g0 = vload_n(dy, i, FULL) * vload_n(a.weight, i, FULL)
            g1 = vload_n(dy, i + L, FULL) * vload_n(a.weight, i + L, FULL)
            u0, u1 = vload_n(x, i, FULL) - centre, vload_n(x, i + L, FULL) - centre
            s0, s1, d0, d1 = s0 + g0, s1 + g1, d0 + u0, d1 + u1
            t0, t1 = vfma(g0, u0, t0), vfma(g1, u1, t1)
        for i in range(stop - rest, stop, L):
            g = vload_n(dy, i, stop - i) * vload_n(a.weight, i, stop - i)
            u = _first_lanes(vload_n(x, i, stop - i) - centre, stop - i)
            s0, t0, d0 = s0 + g, vfma(g, u, t0), d0 + u
        level += vsum(s0 + s1)
        product += vsum(t0 + t1)
        offset += vsum(d0 + d1)
    return level, product, offset


@inner
def _gradient(a, dy, x, dx, sums, i, n, centre, scale, shift, level, slope):
    """dx = scale γ dy - level - slope x̂ with x̂ = (x - centre) scale + shift, for n lanes; dy x̂ and dy are added up."""
    normalised = vfma(vload_n(x, i, n) - centre, vsplat(scale), vsplat(shift))
    slopes = vload_n(dy, i, n)
    rest = vfma(normalised, vsplat(-slope), vsplat(-level))
    put(dx, i, vfma(slopes * vload_n(a.weight, i, n), vsplat(scale), rest), n, a.past_caches)
    vstore_n(sums, i, vfma(slopes, normalised, vload_n(sums, i, n)), n)
    vstore_n(sums, a.m + i, vload_n(sums, a.m + i, n) + slopes, n)


@job(dy=PTR, x=PTR, dx=PTR, weight=PTR, mean=PTR, var=PTR, of_blocks=PTR, rows=INT, height=INT, m=INT, eps=FLOAT,
     past_caches=INT)
def _layer_norm_backward(first, last, thread, a):
    """Blocks of rows: dx, and each block's sums for dγ and dβ."""
    for block in range(first, last):
        sums = a.of_blocks + 8 * block * a.m
        for i in range(2 * a.m):
            fstore(sums, i, 0)
        for row in range(block * a.height, min((block + 1) * a.height, a.rows)):
            dy, x, dx = a.dy + 4 * row * a.m, a.x + 4 * row * a.m, a.dx + 4 * row * a.m
            centre = fload(a.mean, row)
            invstd = 1.0 / np.sqrt(np.float64(fload(a.var, row)) + a.eps)
            level, product, offset = _gradient_sums(a, dy, x, centre)
            offset /= a.m
            scale, shift = np.float32(invstd), np.float32(-offset * invstd)
            slope = np.float32(invstd * invstd * (product - offset * level) / a.m)
            level = np.float32(invstd * level / a.m)
            tail = a.m % L
            for i in range(0, a.m - tail, L):
                _gradient(a, dy, x, dx, sums, i, FULL, centre, scale, shift, level, slope)
            if tail:
                _gradient(a, dy, x, dx, sums, a.m - tail, tail, centre, scale, shift, level, slope)
    vstreamed()


def layer_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    out: Three | None = None,
) -> Three:
    """Gradients (dx, dγ, dβ) with `mean` and `var` from `layer_norm`. 12 bytes an element."""
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    m, rows, threads = math.prod(normalized_shape), mean.size if x.size else 0, share(x.size)
    x, order = _innermost(x, mean.ndim)
    dy, dx = like(dy, x), empty_like(x)
    height = max(min(BLOCK_ROWS, -(-rows // threads)), 1)
    of_blocks = empty((-(-rows // height), 2 * m))
    _layer_norm_backward(
        len(of_blocks), threads=threads, dy=dy, x=x, dx=dx, weight=_in_order(weight, order, "ones", 1, m),
        mean=contiguous(mean), var=contiguous(var), of_blocks=of_blocks, rows=rows, height=height, m=m, eps=eps,
        past_caches=streams(dx, m))
    # The sums of all blocks, in memory's order of the axes; weights are in C order.
    in_memory = [normalized_shape[axis] for axis in order]
    dweight, dbias = (
        contiguous(sums.reshape(in_memory).transpose(np.argsort(order)))
        for sums in column_sums(of_blocks, 2 * m).reshape(2, m)
    )
    return deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out)
