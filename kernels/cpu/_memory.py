"""Blocks of memory that come back: after the first training step nothing is allocated anew.

A fresh array costs a page fault per 4 KB at its first write, several times the run time of a memory-bound kernel. Here
an array's memory returns to a free list when its last view dies, and the next array that it fits takes it.

The finaliser only appends to a `collections.deque`, which is atomic: no lock can be held when it runs, whichever thread
collects the garbage. No block is reused while anybody can see it.
"""

from __future__ import annotations

import ctypes
import functools
import math
import threading
from collections import deque

import numpy as np

from ._driver import address
from ._kept import forget

ALIGNMENT = 64
CAP = 1 << 30  # bytes on the free lists above which they are emptied before the system is asked for more

_free: dict[int, deque] = {}  # blocks by size
_scratch = threading.local()
_poison: float | None = None


@functools.cache
def _lease(size: int) -> type:
    """The type of what arrays take their memory from: it keeps the block, and returns it when the last of them is gone.

    A ctypes array is the quickest thing in Python to own a buffer and still know when it dies.
    """
    class Lease(ctypes.c_char * size):
        home = _free.setdefault(size, deque())

        def __del__(self):
            self.home.append(self.block)
    return Lease


def _size_class(nbytes: int) -> int:
    """The next of eight steps per power of two: at most an eighth is wasted."""
    if nbytes <= 512:
        return 512
    step = 1 << (nbytes - 1).bit_length() - 4
    return -(-nbytes // step) * step


@functools.lru_cache(4096)
def _fitting(nbytes: int) -> type:
    return _lease(_size_class(nbytes))


def _block(nbytes: int) -> tuple[np.ndarray, type]:
    """A block of at least so many bytes, and the type of its leases."""
    lease = _fitting(nbytes)
    try:
        return lease.home.pop(), lease
    except IndexError:
        return _larger_block(nbytes) or (_new_block(nbytes), lease)


def _larger_block(nbytes: int) -> tuple[np.ndarray, type] | None:
    """A free block of up to twice the size: where batches change in size, larger ones lie idle."""
    wanted = size = _size_class(nbytes)
    while size <= 2 * wanted:
        home = _free.get(size)
        if home:
            try:
                return home.pop(), _lease(size)
            except IndexError:  # another thread was quicker
                pass
        size += 1 << size.bit_length() - 4
    return None


def _new_block(nbytes: int) -> np.ndarray:
    if sum(size * len(free) for size, free in list(_free.items())) > CAP:
        empty_cache()
    size = _size_class(nbytes)
    raw = np.empty(size + ALIGNMENT, np.uint8)
    skip = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[skip:skip + size]


_FLOAT = np.dtype(np.float32)


def empty(shape: tuple[int, ...], dtype: np.dtype = _FLOAT, strides: tuple[int, ...] | None = None) -> np.ndarray:
    """An uninitialised array from the pool, aligned to 64 bytes: C-contiguous, or with strides that leave no gaps."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes == 0:
        return np.empty(shape, dtype)
    block, lease = _block(nbytes)
    memory = lease.from_address(address(block))
    memory.block = block
    array = np.ndarray(shape, dtype, memory, 0, strides)
    if _poison is not None:
        array.fill(_poison if dtype.kind == "f" else 85)
    return array


def workspace(name: str, floats: int) -> np.ndarray:
    """This Python thread's scratch memory of that name: at least so many floats, contents unspecified."""
    held = _scratch.__dict__.get(name)
    if held is None or held.size < floats:
        held = _scratch.__dict__[name] = empty((max(floats, 16),))
    if _poison is not None:
        held.fill(_poison)
    return held


def empty_cache() -> None:
    """Give the free blocks, this thread's scratch memory and packed weights back to the system."""
    forget()
    _scratch.__dict__.clear()
    for home in list(_free.values()):
        home.clear()


def poison(value: float | None) -> None:
    """Fill every new array with this value (None: leave it as it was); tests show so who reads before writing."""
    global _poison
    _poison = value
