"""Elementwise losses: operands walked in step, losses added up, gradients handed back.

    @each_loss(operands=2)
    def _squares(x, target, other, weight, a, b, c, d):        # one float32 each, and four scalars
        return (x - target) * (x - target)

    loss = forward(_squares, {"x": x, "target": target}, reduction, out)

A thread takes EACH elements of every operand before it computes with the first. An operand of the full shape lies flat
in memory beside the others and is read in vectors of 16 bytes. One that is repeated is read where it lies: if its own
axes are neighbours in memory, element i of the loss belongs to its element (i div inner) mod period; if not, it is
spread out. One that is not given is 1.

The sum has two levels: each block leaves one number, a last block adds these. How many blocks there are depends on the
number of elements alone, so results repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..shapes import repeated_axes
from ._layout import Array, blocks, contiguous, deliver, dense, empty_like, like, memory_order
from ._math import ONE, ZERO
from ._memory import empty, xp
from ._numba import cuda, device, types
from ._reduce import block_sum
from ._total import MOST, total_of
from .launch import F32, FLOAT, LONG, STORAGE, UINT, Kernel, kernel
from .ptx import given, lanes, load, load_vector, store, store_vector

THREADS, WARPS, EACH, UNROLL, WIDEST = 256, 8, 8, 2, 8
_PART = THREADS * EACH  # elements that a block takes at once
_NONE, _ONE = np.uint32(0), np.uint32(1)
_NAMES = ("x", "target", "other", "weight")
_OPERANDS = {
    f"{name}{part}": kind for name in _NAMES for part, kind in (("", STORAGE), ("_inner", UINT), ("_period", UINT))
}
_SCALARS = dict.fromkeys("abcd", FLOAT)
Operands = Mapping[str, "Array | None"]


# ---------------------------------------------------------------- inside kernels
@device
def _take(held, p, inner, period, first, n):
    """This thread's vectors of an operand, from element `first` on; what lies from n on is not touched."""
    width = lanes(p)
    if period == 0:
        for u in range(EACH // width):
            i = first + u * THREADS * width
            if i + width <= n:
                load_vector(held[u], p, i)
            else:
                for lane in range(width):
                    if i + lane < n:
                        held[u, lane] = load(p, i + lane)
    elif period == 1:
        value = load(p, 0) if given(p) else ONE
        for u in range(EACH // width):
            for lane in range(width):
                held[u, lane] = value
    else:
        for u in range(EACH // width):
            i = first + u * THREADS * width
            turn = np.uint32(np.uint32(i) // inner)
            rest, place = np.uint32(np.uint32(i) - turn * inner), np.uint32(turn % period)
            for lane in range(width):
                if i + lane < n:
                    held[u, lane] = load(p, place)
                rest = np.uint32(rest + _ONE)
                if rest == inner:
                    rest, place = _NONE, np.uint32(place + _ONE)
                    place = _NONE if place == period else place


@device
def _put(p, held, first, n):
    width = lanes(p)
    for u in range(EACH // width):
        i = first + u * THREADS * width
        if i + width <= n:
            store_vector(p, i, held[u])
        else:
            for lane in range(width):
                if i + lane < n:
                    store(p, i + lane, held[u, lane])


def each_loss(*, operands: int) -> Callable[[Callable], Kernel]:
    """Decorator: body(x, target, other, weight, a, b, c, d), the loss of an element, becomes the kernel of losses.

    With fewer than four `operands` the later ones are not read.
    """

    def kernel_of(body: Callable) -> Kernel:
        each = device(body)

        def walk(x, x_inner, x_period, target, target_inner, target_period, other, other_inner, other_period, weight,
                 weight_inner, weight_period, n, a, b, c, d, losses, parts):
            shared = cuda.shared.array(WARPS, types.float32)
            xs = cuda.local.array((UNROLL, WIDEST), types.float32)
            ts = cuda.local.array((UNROLL, WIDEST), types.float32)
            os = cuda.local.array((UNROLL, WIDEST), types.float32)
            ws = cuda.local.array((UNROLL, WIDEST), types.float32)
            width, total = lanes(x), ZERO
            for start in range(cuda.blockIdx.x * _PART, n, cuda.gridDim.x * _PART):
                first = start + cuda.threadIdx.x * width
                _take(xs, x, x_inner, x_period, first, n)
                _take(ts, target, target_inner, target_period, first, n)
                if operands > 2:
                    _take(os, other, other_inner, other_period, first, n)
                if operands > 3:
                    _take(ws, weight, weight_inner, weight_period, first, n)
                for u in range(EACH // width):
                    for i in range(width):
                        xs[u, i] = each(xs[u, i], ts[u, i], os[u, i], ws[u, i], a, b, c, d)
                        if first + u * THREADS * width + i < n:
                            total += xs[u, i]
                if given(losses):
                    _put(losses, xs, first, n)
            if given(parts):
                total = block_sum(total, shared, WARPS)
                if cuda.threadIdx.x == 0:
                    parts[cuda.blockIdx.x] = total

        return _named(walk, body, 4 if operands < 4 else 3, losses=STORAGE, parts=F32)

    return kernel_of


def each_slope(*, operands: int) -> Callable[[Callable], Kernel]:
    """Decorator: body(x, target, other, weight, a, b, c, d), the loss's slope in x, becomes the kernel of dx."""

    def kernel_of(body: Callable) -> Kernel:
        single = device(body)

        def slopes(x, target, other, weight, a, b, c, d):
            return single(x, target, other, weight, a, b, c, d), ZERO

        return _slopes(body, device(slopes), operands, 0)

    return kernel_of


def each_slopes(body: Callable) -> Kernel:
    """Decorator: body, the slopes of an element's loss in x and in `other`, becomes the kernel of dx and dother."""
    return _slopes(body, device(body), 3, 1)


def _slopes(body: Callable, each: Callable, operands: int, both: int) -> Kernel:
    def walk(x, x_inner, x_period, target, target_inner, target_period, other, other_inner, other_period, weight,
             weight_inner, weight_period, n, a, b, c, d, dy, dy_inner, dy_period, scale, dx, dother):
        xs = cuda.local.array((UNROLL, WIDEST), types.float32)
        ts = cuda.local.array((UNROLL, WIDEST), types.float32)
        os = cuda.local.array((UNROLL, WIDEST), types.float32)
        ws = cuda.local.array((UNROLL, WIDEST), types.float32)
        dys = cuda.local.array((UNROLL, WIDEST), types.float32)
        width = lanes(x)
        first = cuda.blockIdx.x * _PART + cuda.threadIdx.x * width
        _take(xs, x, x_inner, x_period, first, n)
        _take(ts, target, target_inner, target_period, first, n)
        if operands > 2:
            _take(os, other, other_inner, other_period, first, n)
        if operands > 3:
            _take(ws, weight, weight_inner, weight_period, first, n)
        _take(dys, dy, dy_inner, dy_period, first, n)
        for u in range(EACH // width):
            for i in range(width):
                slope, other_slope = each(xs[u, i], ts[u, i], os[u, i], ws[u, i], a, b, c, d)
                xs[u, i] = dys[u, i] * slope * scale
                os[u, i] = dys[u, i] * other_slope * scale
        _put(dx, xs, first, n)
        if both:
            _put(dother, os, first, n)

    to = {"dy": STORAGE, "dy_inner": UINT, "dy_period": UINT, "scale": FLOAT, "dx": STORAGE, "dother": STORAGE}
    return _named(walk, body, 4, **to)


def _named(walk: Callable, body: Callable, blocks_per_sm: int, **fields: str) -> Kernel:
    walk.__name__, walk.__module__, walk.__doc__ = body.__name__, body.__module__, body.__doc__
    fields = _OPERANDS | {"n": LONG} | _SCALARS | fields
    return kernel(block=THREADS, blocks_per_sm=blocks_per_sm, name=body.__name__.strip("_"), **fields)(walk)


# ---------------------------------------------------------------- operands
_ABSENT = (None, 1, 1)


def _walk(operands: Operands, shape: tuple[int, ...]) -> tuple[Array, dict[str, tuple]]:
    """An array in whose memory order all elements of `shape` are walked; per operand, pointer, inner and period."""
    model = next((dense(x) for x in operands.values() if x is not None and x.shape == shape), None)
    if model is None:
        model = empty(shape, operands["x"].dtype)
    return model, {name: _ABSENT if x is None else _placed(x, model) for name, x in operands.items()}


def _placed(x: Array, model: Array) -> tuple[Array, int, int]:
    if x.size <= 1:
        return contiguous(x), 1, 1
    if x.shape == model.shape:
        return like(x, model), 1, 0
    repeated = repeated_axes(x.shape, model.shape)
    order = [axis for axis in memory_order(model) if model.shape[axis] > 1]
    own = [place for place, axis in enumerate(order) if axis not in repeated]
    if model.size < 2**32 and own == list(range(own[0], own[-1] + 1)):
        sizes = [model.shape[axis] for axis in order]
        axes = [order[place] - (model.ndim - x.ndim) for place in own]
        alone = x.transpose(*axes, *(axis for axis in range(x.ndim) if axis not in axes))
        return contiguous(alone), math.prod(sizes[own[-1] + 1 :]), math.prod(sizes[place] for place in own)
    spread = empty_like(model)
    spread[...] = x
    return spread, 1, 0


def _shape(operands: Operands) -> tuple[int, ...]:
    shapes = {x.shape for x in operands.values() if x is not None}
    return next(iter(shapes)) if len(shapes) == 1 else np.broadcast_shapes(*shapes)


def _count(reduction: str, x: Array, n: int) -> int:
    """What the sum of n losses is divided by."""
    return {"mean": n, "batchmean": len(x) if x.ndim else 1}.get(reduction, 1)


def _folded(gradient: Array, operand: Array) -> Array:
    """The gradient to an operand that was broadcast: summed over the elements that each of its own took part in."""
    if gradient.shape == operand.shape:
        return gradient
    axes = repeated_axes(operand.shape, gradient.shape)
    summed = gradient.sum(axis=axes, keepdims=True, dtype=np.float32)
    return xp().asarray(summed).astype(gradient.dtype, copy=False).reshape(operand.shape)


# ---------------------------------------------------------------- calls
def forward(losses_of: Kernel, operands: Operands, reduction: str, out: Array | None, *scalars: float) -> Array:
    """The losses (reduction "none"), their sum, their mean, or their sum over the length of x's first axis."""
    model, places = _walk(operands, _shape(operands))
    n = model.size
    grid = blocks(n, _PART)
    losses = parts = None
    if reduction == "none":
        losses = empty_like(model)
    else:
        grid = min(grid, MOST)
        parts = empty(grid)
    losses_of(grid, *_arguments(places), n, *_four(scalars), losses, parts)
    if reduction == "none":
        return deliver(losses, out)
    return deliver(total_of(parts, model.dtype, divisor=_count(reduction, operands["x"], n)), out)


def _backward(
    slopes_of: Kernel, dy: Array, operands: Operands, reduction: str, both: bool, scalars: tuple[float, ...]
) -> tuple[Array, Array | None]:
    shape = _shape(operands)
    model, places = _walk(operands, shape)
    scale = 1.0 if reduction == "none" else 1 / max(1, _count(reduction, operands["x"], model.size))
    dx, dother = empty_like(model), empty_like(model) if both else None
    slopes_of(blocks(model.size, _PART), *_arguments(places), model.size, *_four(scalars), *_placed(dy, model), scale,
              dx, dother)
    return dx, dother


def _arguments(places: dict[str, tuple]) -> list[Any]:
    return [value for name in _NAMES for value in places.get(name, _ABSENT)]


def _four(scalars: tuple[float, ...]) -> tuple[float, ...]:
    return (*scalars, 0.0, 0.0, 0.0, 0.0)[:4]


def backward(
    slopes_of: Kernel, dy: Array, operands: Operands, reduction: str, out: Array | None, *scalars: float
) -> Array:
    """The gradient to x: dy times the slopes, over what the sum was divided by."""
    dx, _ = _backward(slopes_of, dy, operands, reduction, False, scalars)
    return deliver(_folded(dx, operands["x"]), out)


def backward_both(
    slopes_of: Kernel,
    dy: Array,
    operands: Operands,
    reduction: str,
    out: tuple[Array, Array] | None,
    *scalars: float,
) -> tuple[Array, Array]:
    """The gradients to x and to `other`."""
    dx, dother = _backward(slopes_of, dy, operands, reduction, True, scalars)
    x_out, other_out = out or (None, None)
    return deliver(_folded(dx, operands["x"]), x_out), deliver(_folded(dother, operands["other"]), other_out)
