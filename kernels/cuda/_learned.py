"""Elementwise functions of one number that is learned, which lies on the device: y = f(x, θ), dx, and dθ = Σ terms.

    @learned_backward
    def _swish_backward(dy, x, beta): return dx, term

The backward's blocks go over the array in turns and keep their sums, which a last block adds up: dθ costs no further
pass, and its bits do not change from run to run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._layout import Array, blocks, deliver, dense, empty_like, like, vector
from ._math import ZERO
from ._memory import empty
from ._numba import cuda, device, types
from ._pointwise import THREADS, UNROLL, WIDEST, load_up_to, store_up_to
from ._reduce import block_sum
from .launch import F32, INT, LONG, STORAGE, Kernel, kernel
from .ptx import lanes, store

_WARPS = THREADS // 32
_TURNS_FROM = 2048  # blocks, more of which than these would wait anyway


def learned(body: Callable) -> Kernel:
    """Decorator: body(x, θ), a float32, becomes the kernel of y."""
    each = device(body)

    def walk(x, y, parameter, n):
        held = cuda.local.array((UNROLL, WIDEST), types.float32)
        width, theta = lanes(x), parameter[0]
        first, step = (np.int64(cuda.blockIdx.x) * UNROLL * THREADS + cuda.threadIdx.x) * width, THREADS * width
        for u in range(UNROLL):
            load_up_to(held[u], x, first + u * step, n)
        for u in range(UNROLL):
            for lane in range(width):
                held[u, lane] = each(held[u, lane], theta)
            store_up_to(y, first + u * step, held[u], n)

    walk.__name__, walk.__module__ = body.__name__, body.__module__
    return kernel(block=THREADS, x=STORAGE, y=STORAGE, parameter=F32, n=LONG)(walk)


def learned_backward(body: Callable) -> Kernel:
    """Decorator: body(dy, x, θ) gives dx and a term of dθ; it becomes the kernel of dx and each block's sum."""
    each = device(body)

    def walk(dy, x, dx, parameter, sums, n):
        shared = cuda.shared.array(_WARPS, types.float32)
        left = cuda.local.array((UNROLL, WIDEST), types.float32)
        right = cuda.local.array((UNROLL, WIDEST), types.float32)
        width, theta, total = lanes(x), parameter[0], ZERO
        step = THREADS * width
        start = np.int64(cuda.blockIdx.x) * UNROLL * step
        while start < n:
            first = start + cuda.threadIdx.x * width
            for u in range(UNROLL):
                load_up_to(left[u], dy, first + u * step, n)
                load_up_to(right[u], x, first + u * step, n)
            part = ZERO
            for u in range(UNROLL):
                for lane in range(width):
                    gradient, term = each(left[u, lane], right[u, lane], theta)
                    left[u, lane] = gradient
                    part += term if first + u * step + lane < n else ZERO
                store_up_to(dx, first + u * step, left[u], n)
            total += part
            start += np.int64(cuda.gridDim.x) * UNROLL * step
        total = block_sum(total, shared, _WARPS)
        if cuda.threadIdx.x == 0:
            sums[cuda.blockIdx.x] = total

    walk.__name__, walk.__module__ = body.__name__, body.__module__
    return kernel(block=THREADS, dy=STORAGE, x=STORAGE, dx=STORAGE, parameter=F32, sums=F32, n=LONG)(walk)


@kernel(block=THREADS, sums=F32, result=STORAGE, count=INT)
def _add_up(sums, result, count):
    """The sum of a vector, by one block."""
    shared = cuda.shared.array(_WARPS, types.float32)
    total = ZERO
    for i in range(cuda.threadIdx.x, count, THREADS):
        total += sums[i]
    total = block_sum(total, shared, _WARPS)
    if cuda.threadIdx.x == 0:
        store(result, 0, total)


def forward(body: Kernel, x: Array, parameter: Array, out: Array | None) -> Array:
    """y from x and the parameter (1,)."""
    x = dense(x)
    y = empty_like(x)
    body(blocks(y.size, UNROLL * THREADS * (16 // y.itemsize)), x, y, vector(parameter), y.size)
    return deliver(y, out)


def backward(
    body: Kernel, dy: Array, x: Array, parameter: Array, out: tuple[Array, Array] | None
) -> tuple[Array, Array]:
    """dx and dθ (1,)."""
    x = dense(x)
    dy, dx = like(dy, x), empty_like(x)
    grid = min(_TURNS_FROM, blocks(x.size, UNROLL * THREADS * (16 // x.itemsize)))
    sums, gradient = empty(grid), empty(1, parameter.dtype)
    body(grid, dy, x, dx, vector(parameter), sums, x.size)
    _add_up(1, sums, gradient, grid)
    dx_out, gradient_out = out or (None, None)
    return deliver(dx, dx_out), deliver(gradient, gradient_out)
