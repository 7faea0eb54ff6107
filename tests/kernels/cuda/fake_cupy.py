"""As much of CuPy as `transfers.py` uses, in host memory: arrays that NumPy does not take for its own."""

import numpy as np


class MemoryPointer:
    """A place in a block of memory."""

    def __init__(self, memory, offset=0):
        self.memory, self.offset = memory, offset

    @property
    def ptr(self):
        return self.memory.ctypes.data + self.offset

    def __add__(self, offset):
        return MemoryPointer(self.memory, self.offset + offset)

    def __sub__(self, offset):
        return self + -offset


class ndarray:
    """An array whose elements only its own methods reach; `seen` is for the kernels of the tests."""

    def __init__(self, shape, dtype=float, memptr=None, strides=None):
        if memptr is None:
            memptr = MemoryPointer(np.empty(int(np.prod(shape)) * np.dtype(dtype).itemsize, np.uint8))
        self.data = memptr
        if memptr.offset == memptr.memory.size:  # NumPy wants room for an element even where there is none
            self.seen = np.empty(shape, dtype)
        else:
            self.seen = np.ndarray(shape, dtype, memptr.memory, memptr.offset, strides)
        self.shape, self.dtype, self.strides = self.seen.shape, self.seen.dtype, self.seen.strides
        self.size, self.itemsize = self.seen.size, self.seen.itemsize

    def get(self):
        return self.seen.copy()

    def __setitem__(self, place, value):
        self.seen[place] = value.seen


def asarray(x):
    array = ndarray(x.shape, x.dtype)
    array.seen[...] = x
    return array


def full(size, value, dtype):
    array = ndarray((size,), dtype)
    array.seen[...] = value
    return array
