"""How elementwise kernels walk flat memory: each thread takes UNROLL vectors of 16 bytes, the last element by element.

    @unary
    def _leaky_relu(x, slope, _):                          # one float32 in, one out, two scalars
        return x if x > ZERO else slope * x

    y = forward(_leaky_relu, x, out, slope)                # of any shape, in x's memory order

The vectors of a thread lie a block apart, so that each access of a warp covers whole lines of 128 bytes, and all loads
are under way before the first is used. Offsets have 64 bits: the work on an address is one instruction either way.
"""

from __future__ import annotations

from collections.abc import Callable

from ._layout import Array, blocks, deliver, dense, empty_like, like
from ._numba import cuda, device, types
from .launch import FLOAT, LONG, STORAGE, Kernel, kernel
from .ptx import lanes, load, load_vector, store, store_vector

THREADS, UNROLL, WIDEST = 256, 2, 8


@device
def load_up_to(registers, x, i, n):
    """The vector at x[i], of which the elements from n on are not touched."""
    width = lanes(x)
    if i + width <= n:
        load_vector(registers, x, i)
    else:
        for lane in range(width):
            if i + lane < n:
                registers[lane] = load(x, i + lane)


@device
def store_up_to(y, i, registers, n):
    """The same for a store."""
    width = lanes(y)
    if i + width <= n:
        store_vector(y, i, registers)
    else:
        for lane in range(width):
            if i + lane < n:
                store(y, i + lane, registers[lane])


def unary(body: Callable) -> Kernel:
    """Decorator: body(x, a, b), a float32, becomes the kernel of y = body(x)."""
    each = device(body)

    def walk(x, y, n, a, b):
        held = cuda.local.array((UNROLL, WIDEST), types.float32)
        width = lanes(x)
        first, step = (cuda.blockIdx.x * UNROLL * THREADS + cuda.threadIdx.x) * width, THREADS * width
        for u in range(UNROLL):
            load_up_to(held[u], x, first + u * step, n)
        for u in range(UNROLL):
            for lane in range(width):
                held[u, lane] = each(held[u, lane], a, b)
            store_up_to(y, first + u * step, held[u], n)

    return _named(walk, body, x=STORAGE, y=STORAGE, n=LONG, a=FLOAT, b=FLOAT)


def binary(body: Callable) -> Kernel:
    """Decorator: body(u, v, a, b), a float32, becomes the kernel of y = body(u, v)."""
    each = device(body)

    def walk(u, v, y, n, a, b):
        left = cuda.local.array((UNROLL, WIDEST), types.float32)
        right = cuda.local.array((UNROLL, WIDEST), types.float32)
        width = lanes(u)
        first, step = (cuda.blockIdx.x * UNROLL * THREADS + cuda.threadIdx.x) * width, THREADS * width
        for k in range(UNROLL):
            load_up_to(left[k], u, first + k * step, n)
            load_up_to(right[k], v, first + k * step, n)
        for k in range(UNROLL):
            for lane in range(width):
                left[k, lane] = each(left[k, lane], right[k, lane], a, b)
            store_up_to(y, first + k * step, left[k], n)

    return _named(walk, body, u=STORAGE, v=STORAGE, y=STORAGE, n=LONG, a=FLOAT, b=FLOAT)


def _named(walk: Callable, body: Callable, **fields: str) -> Kernel:
    walk.__name__, walk.__module__, walk.__doc__ = body.__name__, body.__module__, body.__doc__
    return kernel(block=THREADS, **fields)(walk)


def run(body: Kernel, y: Array, *arrays: Array, a: float = 0.0, b: float = 0.0) -> None:
    """Let a kernel of these arrays, dense and alike, fill y."""
    body(blocks(y.size, UNROLL * THREADS * (16 // y.itemsize)), *arrays, y, y.size, a, b)


def forward(body: Kernel, x: Array, out: Array | None, a: float = 0.0, b: float = 0.0) -> Array:
    """y from x and up to two scalars."""
    x = dense(x)
    y = empty_like(x)
    run(body, y, x, a=a, b=b)
    return deliver(y, out)


def backward(body: Kernel, dy: Array, saved: Array, out: Array | None, a: float = 0.0, b: float = 0.0) -> Array:
    """dx from dy, what was saved (x or y), and up to two scalars."""
    saved = dense(saved)
    dy, dx = like(dy, saved), empty_like(saved)
    run(body, dx, dy, saved, a=a, b=b)
    return deliver(dx, out)
