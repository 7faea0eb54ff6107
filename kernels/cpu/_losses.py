"""Elementwise losses: operands walked in step, losses added up, gradients handed back.

    @each_loss
    def _squared(a, x, target, weight, other, i, n):             # the losses of n elements at offset i
        d = vload_n(x, i, n) - vload_n(target, i, n)
        return d * d

    @job(**FORWARD)
    def _squares(first, last, thread, a):
        _squared(a, first, last, thread)                         # the losses of blocks first..last and their sums

Four operands at most are read, each once. One of the full shape lies flat in memory beside the others. One that repeats
itself after few elements, like a number or a weight per channel, is a tile as long as a block: its address does not
advance from block to block, so that it stays in the nearest cache. Others are spread out to the full shape.

Sums are taken in two levels, 64 vectors in float32 and the rest in double, over blocks that do not depend on the number
of threads, so results repeat.

Losses of rows of logits have kernels of their own, of which a job takes some rows (`forward_rows`, `backward_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..shapes import repeated_axes
from ._blocks import BLOCK, FULL
from ._compile import inner
from ._driver import INT, PTR, Job, share
from ._layout import contiguous, deliver, dense, empty_like, like, memory_order
from ._math import vlog
from ._memory import empty, workspace
from ._softmax import split
from .simd import L, dstore, lane_index, vload_n, vselect, vsplat, vstore_n, vsum

_OPERANDS = ("x", "target", "weight", "other")
_WALK = {name: PTR for name in _OPERANDS} | {f"{name}_step": INT for name in _OPERANDS} | {"n": INT, "span": INT}
FORWARD = {**_WALK, "losses": PTR, "losses_step": INT, "losses_pitch": INT, "sums": PTR}
BACKWARD = {**_WALK, "dy": PTR, "dy_step": INT, "dx": PTR}
BACKWARD_BOTH = {**BACKWARD, "dother": PTR}

_PART = 64 * L  # floats that each lane sums 64 of in a row


# ---------------------------------------------------------------- inside kernels
@inner
def log1p(x):
    """log(1 + x) for every x (`vlog1p` is for 0 to 1): that of the rounded sum, and what the rounding took away."""
    u = x + 1.0
    return vlog(u) + vselect(u > 0.0, (x - (u - 1.0)) / u, 0.0)


def each_loss(body: Callable) -> Callable:
    """Decorator: body(a, x, target, weight, other, i, n) -> losses becomes loop(a, first, last, thread)."""
    body = inner(body)

    @inner
    def some(a, block, losses, i, n):
        loss = body(a, a.x + block * a.x_step, a.target + block * a.target_step, a.weight + block * a.weight_step,
                    a.other + block * a.other_step, i, n)
        vstore_n(losses, i, loss, n)
        return vselect(lane_index() < n, loss, 0.0)

    @inner
    def loop(a, first, last, thread):
        for block in range(first, last):
            losses = a.losses + block * a.losses_step + thread * a.losses_pitch
            size = min(a.span, a.n - block * a.span)
            tail = size % L
            total = 0.0
            for part in range(0, size - tail, _PART):
                sums = vsplat(0.0)
                for i in range(part, min(part + _PART, size - tail), L):
                    sums = sums + some(a, block, losses, i, FULL)
                total += vsum(sums)
            if tail:
                total += vsum(some(a, block, losses, size - tail, tail))
            dstore(a.sums, block, total)
    return loop


def each_slope(body: Callable) -> Callable:
    """Decorator: body(a, x, target, weight, other, i, n) -> slopes of the losses in x becomes loop(a, first, last)."""
    body = inner(body)

    @inner
    def some(a, block, i, n):
        slope = body(a, a.x + block * a.x_step, a.target + block * a.target_step, a.weight + block * a.weight_step,
                     a.other + block * a.other_step, i, n)
        vstore_n(a.dx, block * a.span + i, vload_n(a.dy + block * a.dy_step, i, n) * slope, n)
    return _each_vector_of_a_block(some)


def each_slopes(body: Callable) -> Callable:
    """Like `each_slope` with a second slope, that in `other`."""
    body = inner(body)

    @inner
    def some(a, block, i, n):
        slope, other_slope = body(
            a, a.x + block * a.x_step, a.target + block * a.target_step, a.weight + block * a.weight_step,
            a.other + block * a.other_step, i, n)
        dy = vload_n(a.dy + block * a.dy_step, i, n)
        vstore_n(a.dx, block * a.span + i, dy * slope, n)
        vstore_n(a.dother, block * a.span + i, dy * other_slope, n)
    return _each_vector_of_a_block(some)


def _each_vector_of_a_block(some):
    @inner
    def loop(a, first, last):
        for block in range(first, last):
            size = min(a.span, a.n - block * a.span)
            tail = size % L
            for i in range(0, size - tail, L):
                some(a, block, i, FULL)
            if tail:
                some(a, block, size - tail, tail)
    return loop


# ---------------------------------------------------------------- operands
Operands = Mapping[str, np.ndarray | float]
Rows = Mapping[str, np.ndarray | None]

_ONES = np.ones(BLOCK, np.float32)
_LARGEST = float(np.finfo(np.float32).max)
_UNUSED = dict.fromkeys(_OPERANDS) | {f"{name}_step": 0 for name in _OPERANDS}


def _shape(operands: Operands) -> tuple[int, ...]:
    shapes = {value.shape for value in operands.values() if isinstance(value, np.ndarray)}
    return next(iter(shapes)) if len(shapes) == 1 else np.broadcast_shapes(*shapes)


def _walk(operands: Operands, shape: tuple[int, ...]) -> tuple[np.ndarray, dict[str, Any]]:
    """An array in whose memory order all elements of `shape` are walked, and the kernel's arguments for it.

    They are, for every operand, an address and the bytes by which it advances from one block to the next: 0 for a tile.
    """
    model = next((dense(v) for v in operands.values() if isinstance(v, np.ndarray) and v.shape == shape), None)
    if model is None:
        model = empty(shape)
    flat, patterns, span = {}, {}, BLOCK
    for name, value in operands.items():
        if isinstance(value, float):
            continue
        if value.shape == shape:
            flat[name] = like(value, model)
            continue
        pattern = _pattern(value, model)
        if pattern.size <= BLOCK:
            patterns[name] = pattern
            span = min(span, BLOCK // pattern.size * pattern.size)
        else:
            flat[name] = empty_like(model)
            flat[name][...] = value
    arguments = {**_UNUSED, "n": model.size, "span": span}
    for name, value in operands.items():
        if name in flat:
            array, step = flat[name], 4 * span
        else:
            array, step = _tile(patterns[name], span) if name in patterns else _equal(value), 0
        arguments |= {name: array, f"{name}_step": step}
    return model, arguments


def _pattern(value: np.ndarray, model: np.ndarray) -> np.ndarray:
    """What repeats itself in an operand whose elements are taken in the model's memory order.

    It has the length of some of the model's innermost axes, so that of two patterns one divides the other.
    """
    if not model.size:
        return np.zeros(1)
    order, repeated, outer = memory_order(model), repeated_axes(value.shape, model.shape), 0
    while outer < len(order) and (order[outer] in repeated or model.shape[order[outer]] == 1):
        outer += 1
    return np.asarray(np.broadcast_to(value, model.shape).transpose(order)[(0,) * outer])


def _equal(value: float) -> np.ndarray:
    if value == 1:
        return _ONES
    tile = empty((BLOCK,))
    tile.fill(within_float32(value))
    return tile


def _tile(pattern: np.ndarray, span: int) -> np.ndarray:
    tile = empty((span,))
    tile.reshape(-1, pattern.size)[...] = pattern.reshape(-1)
    return tile


def _count(reduction: str, x: np.ndarray, n: int) -> int:
    """What the sum of n losses is divided by."""
    return {"mean": n, "batchmean": len(x) if x.ndim else 1}.get(reduction, 1)


def _folded(gradient: np.ndarray, operand: np.ndarray) -> np.ndarray:
    """The gradient to an operand that was broadcast: summed over the elements that each of its own took part in."""
    if gradient.shape == operand.shape:
        return gradient
    axes = repeated_axes(operand.shape, gradient.shape)
    return gradient.sum(axis=axes, keepdims=True, dtype=np.float64).astype(np.float32).reshape(operand.shape)


# ---------------------------------------------------------------- calls
def within_float32(x: float) -> float:
    """x itself, infinite beyond float32's range: NumPy would warn."""
    return x if abs(x) <= _LARGEST else x * math.inf


def as_loss(total: float, count: float) -> np.ndarray:
    """A sum of losses over what it is divided by, 0-d; NaN over nothing."""
    return np.array(within_float32(total / count) if count else math.nan, np.float32)


def forward(kernel: Job, operands: Operands, reduction: str, out: np.ndarray | None, **scalars: float) -> np.ndarray:
    """The losses (reduction "none"), their sum, their mean, or their sum over the length of x's first axis."""
    model, arguments = _walk(operands, _shape(operands))
    n = model.size
    span, threads = arguments["span"], share(n)
    jobs = -(-n // span)
    sums = workspace("sums of losses", 2 * jobs)[:2 * jobs].view(np.float64)
    if reduction == "none":
        losses, steps = empty_like(model), {"losses_step": 4 * span, "losses_pitch": 0}
    else:  # each thread's losses stay in its nearest cache: a store there costs less than a second kernel
        losses, steps = workspace("losses", threads * BLOCK), {"losses_step": 0, "losses_pitch": 4 * BLOCK}
    kernel(jobs, threads=threads, losses=losses, sums=sums, **steps, **arguments, **scalars)
    if reduction == "none":
        return deliver(losses, out)
    return deliver(as_loss(float(sums.sum()), _count(reduction, operands["x"], n)), out)


def _backward(kernel, dy, operands, reduction, outputs, scalars):
    shape = _shape(operands)
    if reduction != "none":
        dy = float(dy) / max(1, _count(reduction, operands["x"], math.prod(shape)))
    model, arguments = _walk({**operands, "dy": dy}, shape)
    gradients = {name: empty_like(model) for name in outputs}
    kernel(-(-model.size // arguments["span"]), threads=share(model.size), **arguments, **gradients, **scalars)
    return gradients.values()


def backward(
    kernel: Job, dy: np.ndarray, operands: Operands, reduction: str, out: np.ndarray | None, **scalars: float
) -> np.ndarray:
    """The gradient to x: dy times the slopes, over what the sum was divided by."""
    (dx,) = _backward(kernel, dy, operands, reduction, ("dx",), scalars)
    return deliver(_folded(dx, operands["x"]), out)


def backward_both(
    kernel: Job,
    dy: np.ndarray,
    operands: Operands,
    reduction: str,
    out: tuple[np.ndarray, np.ndarray] | None,
    **scalars: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients to x and to `other`."""
    dx, dother = _backward(kernel, dy, operands, reduction, ("dx", "dother"), scalars)
    x_out, other_out = out or (None, None)
    return deliver(_folded(dx, operands["x"]), x_out), deliver(_folded(dother, operands["other"]), other_out)


def _over_rows(kernel: Job, operands: Rows, room: int, **arguments: Any) -> None:
    """Run a kernel over rows of logits x (M, C), with `rooms` of `room` floats for each row of a thread's job."""
    arguments |= {name: None if value is None else contiguous(value) for name, value in operands.items()}
    rows, classes = arguments["x"].shape
    (per_job, jobs), threads = split(rows, classes), share(rows * classes)
    if room:
        arguments["rooms"] = workspace("rooms of rows", room * threads * per_job)
    kernel(jobs, threads=threads, rows=rows, per_job=per_job, classes=classes, **arguments)


def forward_rows(
    kernel: Job, operands: Rows, reduction: str, out: np.ndarray | None, room: int = 0, **scalars: float
) -> np.ndarray:
    """As `forward`, for a kernel over rows of logits."""
    x = operands["x"]
    _, jobs = split(*x.shape)
    losses = empty((len(x),)) if reduction == "none" else None
    sums = workspace("sums of losses", 2 * jobs)[:2 * jobs].view(np.float64)
    _over_rows(kernel, operands, room, losses=losses, sums=sums, **scalars)
    return deliver(as_loss(float(sums.sum()), _count(reduction, x, len(x))) if losses is None else losses, out)


def backward_rows(
    kernel: Job, dy: np.ndarray, operands: Rows, reduction: str, out: np.ndarray | None, room: int = 0, **scalars: float
) -> np.ndarray:
    """As `backward`, for a kernel over rows of logits: where dy is null, `scale` is the gradient to each row's loss."""
    x = operands["x"]
    dx, each, scale = empty(x.shape), None, 0.0
    if reduction == "none":
        each = contiguous(dy)
    else:
        scale = within_float32(float(dy) / max(1, _count(reduction, x, len(x))))
    _over_rows(kernel, operands, room, dy=each, scale=scale, dx=dx, **scalars)
    return deliver(dx, out)
