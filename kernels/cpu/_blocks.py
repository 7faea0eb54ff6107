"""How elementwise kernels walk flat memory: a job is BLOCK floats, taken a vector at a time.

    @pointwise(x=PTR)
    def _double_blocks(a, i, n):                           # one vector at offset i, of which n lanes count
        return 2 * vload_n(a.x, i, n)

    y = forward(_double_blocks, x, out)                    # of any shape, in x's memory order
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._compile import inner
from ._driver import INT, PTR, Job, job, share
from ._layout import deliver, dense, empty_like, like
from ._stream import put, streams
from .simd import L, vstore_n, vstreamed

BLOCK = 4096  # two or three such blocks stay in L1, so a job's setup is lost in its work
FULL = np.int64(L)  # the lanes of a whole vector; a literal would have Numba compile the body a second time


def blocks(n: int) -> int:
    """Jobs for n floats."""
    return -(-n // BLOCK)


def pointwise(**fields: str) -> Callable[[Callable], Job]:
    """Decorator: body(a, i, n), a vector of results, becomes a kernel with these arguments, called by `run`.

    n < L lanes only in the very last vector.
    """
    def declare(body):
        vector = inner(body)

        def loop(first, last, thread, a):
            stop = min(last * BLOCK, a.n)
            for i in range(first * BLOCK, stop - L + 1, L):
                put(a.y, i, vector(a, i, FULL), FULL, a.past_caches)
            if stop % L:
                vstore_n(a.y, stop - stop % L, vector(a, stop - stop % L, stop % L), stop % L)
            vstreamed()
        loop.__name__, loop.__module__, loop.__doc__ = body.__name__, body.__module__, body.__doc__
        return job(**fields, y=PTR, n=INT, past_caches=INT)(loop)
    return declare


def run(kernel: Job, y: np.ndarray, **arguments: np.ndarray | float) -> None:
    """Let a pointwise kernel with these arguments fill y, dense."""
    n = y.size
    kernel(blocks(n), threads=share(n), y=y, n=n, past_caches=streams(y), **arguments)


def forward(kernel: Job, x: np.ndarray, out: np.ndarray | None, **scalars: float) -> np.ndarray:
    """y from x, by a kernel with these two arguments and scalars."""
    x = dense(x)
    y = empty_like(x)
    run(kernel, y, x=x, **scalars)
    return deliver(y, out)


def backward(kernel: Job, dy: np.ndarray, saved: np.ndarray, out: np.ndarray | None, **scalars: float) -> np.ndarray:
    """dx from dy and what was saved (x or y), by a kernel with these three arguments and scalars."""
    saved = dense(saved)
    dy, dx = like(dy, saved), empty_like(saved)
    run(kernel, dx, dy=dy, saved=saved, **scalars)
    return deliver(dx, out)
