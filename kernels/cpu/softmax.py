"""Softmax and its logarithm along one axis, float32; formulas and sources in `kernels/reference/softmax.py`.

The axis comes to lie innermost in memory, as it does in a batch of logits and, channels being last, along the channels
of images; so the results lie, too. A row stays in the nearest cache while it is gone over for its maximum, its sum and
its result: a forward moves 8 bytes an element, a backward 12, and each but softmax's backward takes one exp.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._blocks import FULL
from ._compile import inner
from ._driver import FLOAT, INT, PTR, Job, job, share
from ._layout import contiguous, deliver
from ._math import vexp_low, vlog
from ._memory import empty
from ._softmax import largest, row_sum, split
from .simd import L, vfirst, vload_n, vsplat, vstore_n


def _each_vector(body: Callable) -> Callable:
    """Decorator: body(c, n, *row) for n lanes from column c becomes loop(columns, *row)."""
    body = inner(body)

    @inner
    def loop(columns, *row):
        tail = columns % L
        for c in range(0, columns - tail, L):
            body(c, FULL, *row)
        if tail:
            body(columns - tail, tail, *row)
    return loop


# ---------------------------------------------------------------- one row: x, y, dy, dx are addresses
@row_sum
def _sum_of_exponentials(c, n, x, y, top, scale):
    """Also leaves the exponentials in y, unless that is null."""
    e = vexp_low((vload_n(x, c, n) - top) * scale)
    if y:
        vstore_n(y, c, e, n)
    return e


@_each_vector
def _scale(c, n, y, scale):
    vstore_n(y, c, vload_n(y, c, n) * scale, n)


@row_sum
def _sum_of_products(c, n, dy, y):
    return vload_n(dy, c, n) * vload_n(y, c, n)


@_each_vector
def _gradient(c, n, dy, y, dx, mean, scale):
    vstore_n(dx, c, vload_n(y, c, n) * (vload_n(dy, c, n) - mean) * scale, n)


@_each_vector
def _subtract(c, n, x, y, top, log_sum):
    vstore_n(y, c, (vload_n(x, c, n) - top) - log_sum, n)


@row_sum
def _sum(c, n, dy):
    return vload_n(dy, c, n)


@_each_vector
def _log_gradient(c, n, dy, y, dx, total):
    vstore_n(dx, c, vload_n(dy, c, n) - vexp_low(vload_n(y, c, n)) * total, n)


# ---------------------------------------------------------------- jobs: blocks of rows
@job(x=PTR, y=PTR, rows=INT, columns=INT, per_job=INT, scale=FLOAT)
def _softmax_rows(first, last, thread, a):
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        x, y = a.x + 4 * row * a.columns, a.y + 4 * row * a.columns
        total = _sum_of_exponentials(a.columns, x, y, largest(x, a.columns), a.scale)
        _scale(a.columns, y, np.float32(1) / total)


@job(dy=PTR, y=PTR, dx=PTR, rows=INT, columns=INT, per_job=INT, scale=FLOAT)
def _softmax_backward_rows(first, last, thread, a):
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        offset = 4 * row * a.columns
        dy, y = a.dy + offset, a.y + offset
        _gradient(a.columns, dy, y, a.dx + offset, _sum_of_products(a.columns, dy, y), a.scale)


@job(x=PTR, y=PTR, rows=INT, columns=INT, per_job=INT)
def _log_softmax_rows(first, last, thread, a):
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        x, y = a.x + 4 * row * a.columns, a.y + 4 * row * a.columns
        top = largest(x, a.columns)
        log_sum = vfirst(vlog(vsplat(_sum_of_exponentials(a.columns, x, 0, top, np.float32(1)))))
        _subtract(a.columns, x, y, top, log_sum)


@job(dy=PTR, y=PTR, dx=PTR, rows=INT, columns=INT, per_job=INT)
def _log_softmax_backward_rows(first, last, thread, a):
    for row in range(first * a.per_job, min(last * a.per_job, a.rows)):
        offset = 4 * row * a.columns
        dy, y = a.dy + offset, a.y + offset
        _log_gradient(a.columns, dy, y, a.dx + offset, _sum(a.columns, dy))


# ---------------------------------------------------------------- functions
def _along(kernel: Job, dim: int, out: np.ndarray | None, into: str, scalars: dict, **arrays: np.ndarray) -> np.ndarray:
    """Run a kernel on arrays of one shape as rows along `dim`; the result is its argument `into`."""
    arrays = {name: contiguous(np.moveaxis(x, dim, -1)) for name, x in arrays.items()}
    shape = next(iter(arrays.values())).shape
    result = empty(shape)
    columns = shape[-1]
    rows = result.size // max(columns, 1)
    per_job, jobs = split(rows, columns)
    kernel(jobs, threads=share(result.size), rows=rows, columns=columns, per_job=per_job, **arrays, **scalars,
           **{into: result})
    return deliver(np.moveaxis(result, -1, dim), out)


def softmax(x: np.ndarray, *, dim: int, temperature: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """e**(x / temperature) over its sum along axis `dim`."""
    return _along(_softmax_rows, dim, out, "y", {"scale": 1 / temperature}, x=x)


def softmax_backward(
    dy: np.ndarray, y: np.ndarray, *, dim: int, temperature: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient to softmax's input, from its output: y (dy - Σ dy y) / temperature."""
    return _along(_softmax_backward_rows, dim, out, "dx", {"scale": 1 / temperature}, dy=dy, y=y)


def log_softmax(x: np.ndarray, *, dim: int, out: np.ndarray | None = None) -> np.ndarray:
    """x - log Σ e**x along axis `dim`."""
    return _along(_log_softmax_rows, dim, out, "y", {}, x=x)


def log_softmax_backward(dy: np.ndarray, y: np.ndarray, *, dim: int, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to log_softmax's input, from its output: dy - e**y Σ dy."""
    return _along(_log_softmax_backward_rows, dim, out, "dx", {}, dy=dy, y=y)
