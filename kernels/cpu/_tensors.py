"""How optimisers walk many tensors in one call: blocks of BLOCK floats, numbered through all parameters of a model.

    @each_tensor_vector
    def _descend(a, tensors, i, n):                        # one vector at offset i, of which n lanes count
        p, g, *_ = tensors                                 # addresses: the parameter, the gradient, three states
        vstore_n(p, i, vload_n(p, i, n) - a.lr * vload_n(g, i, n), n)

    @job(table=PTR, count=INT, lr=FLOAT)
    def _descend_blocks(first, last, thread, a):
        _descend(a, first, last)

    table, blocks, floats = tensor_table(params, grads)
    _descend_blocks(blocks, threads=share(floats), table=table, count=len(params), lr=0.1)

The table is made anew at every call, since gradients are new arrays at every step. To ask NumPy for 600 addresses takes
half a millisecond; the kernel reads them from the arrays' objects instead, where they stand right behind CPython's
object header (`PyArrayObject_fields` in NumPy's C interface).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ._blocks import BLOCK, FULL
from ._compile import inner
from ._driver import HEADER
from .simd import L, lload

_COLUMNS = 7  # of the table: the tensor's first block, its size, five objects


def tensor_table(*lists: Sequence[np.ndarray] | None) -> tuple[np.ndarray, int, int]:
    """The table for up to five lists of C-contiguous arrays, list by list of the same shapes; its blocks; its floats.

    Where a list is None the addresses are 0. The table holds no reference: the arrays must outlive the call.
    """
    places, blocks, floats = _places(tuple([x.size for x in lists[0]]))
    table = places.copy()
    for row, arrays in zip(table[2:], lists):
        if arrays is not None:
            row[:-1] = np.fromiter(map(id, arrays), np.int64, len(arrays))
    return table, blocks, floats


@functools.lru_cache(256)
def _places(sizes: tuple[int, ...]) -> tuple[np.ndarray, int, int]:
    """The table without objects for tensors of these sizes; its blocks; its floats."""
    table = np.zeros((_COLUMNS, len(sizes) + 1), np.int64)
    table[1, :-1] = sizes
    np.cumsum(-(-table[1, :-1] // BLOCK), out=table[0, 1:])
    return table, int(table[0, -1]), sum(sizes)


@inner
def _data(thing):
    """Where the memory of the array object at an address lies, 0 if there is no object."""
    return lload(thing + HEADER, 0) if thing else 0


@inner
def tensor_of(a, block, tensor):
    """The tensor that a block belongs to, searched from `tensor` on."""
    while lload(a.table, tensor + 1) <= block:
        tensor += 1
    return tensor


@inner
def object_of(a, k, tensor):
    """Where the memory of the tensor in list k lies, 0 if there is none."""
    return _data(lload(a.table, (k + 2) * (a.count + 1) + tensor))


@inner
def span(a, block, tensor):
    """The elements of the tensor in a block: from, to."""
    start = (block - lload(a.table, tensor)) * BLOCK
    return start, min(start + BLOCK, lload(a.table, a.count + 1 + tensor))


def each_tensor_vector(body: Callable) -> Callable:
    """Decorator: body(a, tensors, i, n) becomes loop(a, first, last) for use in a job with `table` and `count`.

    `tensors` are the five addresses; n < L only in the last vector of a tensor.
    """
    body = inner(body)

    @inner
    def loop(a, first, last):
        tensor = 0
        for block in range(first, last):
            tensor = tensor_of(a, block, tensor)
            tensors = (object_of(a, 0, tensor), object_of(a, 1, tensor), object_of(a, 2, tensor),
                       object_of(a, 3, tensor), object_of(a, 4, tensor))
            start, stop = span(a, block, tensor)
            for i in range(start, stop - L + 1, L):
                body(a, tensors, i, FULL)
            if stop % L:
                body(a, tensors, stop - stop % L, stop % L)
    return loop
