"""How elementwise kernels walk flat memory: a job is BLOCK floats, taken a vector at a time.

    @njit
    def _double(a, i, n):                                  # one vector at offset i, of which n lanes count
        vstore_n(a.y, i, 2 * vload_n(a.x, i, n), n)

    @job(x=PTR, y=PTR, n=INT)
    def _double_blocks(first, last, thread, a):
        each_vector(_double, a, first, last)
"""

from numba import njit

from .simd import L

BLOCK = 4096  # two or three such blocks stay in L1, so a job's setup is lost in its work


def blocks(n: int) -> int:
    """Jobs for n floats."""
    return -(-n // BLOCK)


@njit
def each_vector(body, a, first, last):
    """body(a, i, n) for every vector of the blocks first..last of a.n floats; n < L only in the very last."""
    stop = min(last * BLOCK, a.n)
    for i in range(first * BLOCK, stop - L + 1, L):
        body(a, i, L)
    if stop % L:
        body(a, stop - stop % L, stop % L)
