"""The backend on a GPU behind NumPy arrays, so that one parity suite serves the simulator and the device.

    host memory     … gap [ x x . x x . x x ] gap …        any strides: gaps, negative ones, broadcast axes
                          |  all bytes from first to last
    device memory   POISON[ x x . x x . x x ]POISON        a CuPy array with the same strides over them
                          |  after the call
    host memory     … gap [ y y . y y . y y ] gap …        the very same array, gaps included

What a kernel wrote into an argument, wanted or not, in its elements or between them, is then seen on the host; what it
wrote before or behind raises here. A result that lies in an argument's memory comes back as a view of that argument,
any other as a NumPy array with the strides it had on the device.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import cupy
import numpy as np
from numpy.lib.stride_tricks import as_strided

GUARD = 256  # bytes of poison on either side, a multiple of the alignment that device memory has
POISON = 0xFF


class Transferring:
    """Offers a backend's functions for NumPy arrays."""

    def __init__(self, backend: Any):
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.backend, name)
        parameters = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = parameters.bind(*args, **kwargs)
            sent: list[Sent] = []
            for argument, value in bound.arguments.items():
                bound.arguments[argument] = send(value, sent, f"{argument} of {name}")
            result = function(*bound.args, **bound.kwargs)
            answer = fetch(result, sent)
            for argument in sent:
                argument.bring_back()
            return answer

        return call


class Sent:
    """An argument on both sides."""

    def __init__(self, host: np.ndarray, name: str):
        self.host, self.name = host, name
        below, size = _extent(host)
        self.bytes = _memory(host, below, size)
        # The first element is aligned on the device as it is on the host.
        self.start = GUARD + (host.ctypes.data - below) % 16
        self.block = cupy.full(self.start + size + GUARD, POISON, np.uint8)
        self.end = self.start + size
        self.block[self.start : self.end] = cupy.asarray(self.bytes)
        self.device = cupy.ndarray(
            host.shape, host.dtype, memptr=self.block.data + self.start + below, strides=host.strides
        )

    def view(self, array: Any) -> np.ndarray | None:
        """The part of the host's array that a device array is a view of, or None."""
        if array is self.device:
            return self.host
        offset = array.data.ptr - self.block.data.ptr - self.start
        if not array.size or not 0 <= offset < self.bytes.size:
            return None
        return np.ndarray(array.shape, array.dtype, self.bytes, offset, array.strides)

    def bring_back(self) -> None:
        """Copy all memory to the host, where it must be as it was around the array."""
        block = self.block.get()
        around = np.concatenate([block[: self.start], block[self.end :]])
        assert (around == POISON).all(), f"something was written outside {self.name}"
        now = block[self.start : self.end]
        if self.bytes.flags.writeable:
            self.bytes[...] = now
        else:
            assert np.array_equal(now, self.bytes), f"{self.name} is read-only and was written"


def send(value: Any, sent: list[Sent], name: str) -> Any:
    """An argument as the backend takes it; `sent` gets its arrays."""
    if isinstance(value, (list, tuple)):
        return type(value)(send(item, sent, name) for item in value)
    if not isinstance(value, np.ndarray):
        return value
    sent.append(Sent(value, name))
    return sent[-1].device


def fetch(value: Any, sent: list[Sent]) -> Any:
    """What a backend returned, on the host."""
    if isinstance(value, (list, tuple)):
        return type(value)(fetch(item, sent) for item in value)
    if not isinstance(value, cupy.ndarray):
        return value
    for argument in sent:
        if (view := argument.view(value)) is not None:
            return view
    below, size = _extent(value)
    block = cupy.ndarray((size,), np.uint8, memptr=value.data - below).get()
    return np.ndarray(value.shape, value.dtype, block, below, value.strides)


def _extent(x: Any) -> tuple[int, int]:
    """How many bytes below the first element an array's memory begins, and how many it has in all."""
    if not x.size:
        return 0, 0
    spans = [stride * (n - 1) for stride, n in zip(x.strides, x.shape)]
    below = -sum(span for span in spans if span < 0)
    return below, below + sum(span for span in spans if span > 0) + x.itemsize


def _memory(x: np.ndarray, below: int, size: int) -> np.ndarray:
    """All bytes from the first to the last of an array, gaps included, as a view."""
    if not size:
        return np.empty(0, np.uint8)
    corner = (slice(n - 1, n) if stride < 0 else slice(0, 1) for stride, n in zip(x.strides, x.shape))
    lowest = x[(*corner, ...)]  # without the dots a copy where there is no axis
    element = as_strided(lowest, (1,), (x.itemsize,)).view(np.uint8)
    return as_strided(element, (size,), (1,))
