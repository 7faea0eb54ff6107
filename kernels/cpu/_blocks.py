"""How elementwise kernels walk flat memory: a job is BLOCK floats, taken a vector at a time.

    @each_vector
    def _double(a, i, n):                                  # one vector at offset i, of which n lanes count
        vstore_n(a.y, i, 2 * vload_n(a.x, i, n), n)

    @job(x=PTR, y=PTR, n=INT)
    def _double_blocks(first, last, thread, a):
        _double(a, first, last)                            # all vectors of the blocks first..last of a.n floats
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._compile import inner
from .simd import L

BLOCK = 4096  # two or three such blocks stay in L1, so a job's setup is lost in its work
FULL = np.int64(L)  # the lanes of a whole vector; a literal would have Numba compile the body a second time


def blocks(n: int) -> int:
    """Jobs for n floats."""
    return -(-n // BLOCK)


def each_vector(body: Callable) -> Callable:
    """Decorator: body(a, i, n) becomes loop(a, first, last) for use in a job; n < L only in the very last vector."""
    body = inner(body)

    @inner
    def loop(a, first, last):
        stop = min(last * BLOCK, a.n)
        for i in range(first * BLOCK, stop - L + 1, L):
            body(a, i, FULL)
        if stop % L:
            body(a, stop - stop % L, stop % L)
    return loop
