"""A scheduler for Numba's CUDA simulator: the threads of a block are greenlets, run in turn by one system thread.

Numba's own runs each CUDA thread as a system thread and polls them at barriers. Here a block of 256 threads takes some
milliseconds, and every run is the same. A thread runs until it meets a barrier or a collective, then the next one does;
the order is forward, or backward with `order.backward`, so that what depends on it shows. On top of Numba's:

- warps meet in collectives (`ptx.shuffle_xor`, …), of all 32 lanes; asynchronous copies wait with their thread;
- warpgroups meet where they wait for their products (`ptx_wgmma.py`); threads sleep at barriers in shared memory
  (`ptx_tma.py`), whose copies land late in the forward order and at once in the backward one;
- shared and local memory begin as NaN (all bits set), and a thread that leaves is not waited for;
- a barrier or collective that not everybody reaches is an error, and so is a warp whose lanes are in different ones.

Not modelled: the order in which memory is seen by other threads between barriers, bank conflicts, speed.

Written against numba-cuda 0.20 to 0.30, whose inner names it replaces; `install` fails where one of them is missing.
"""

from __future__ import annotations

import sys
from collections import deque
from types import SimpleNamespace

import greenlet
import numpy as np
from numba.cuda.simulator import kernel as numba_kernel
from numba.cuda.simulator import kernelapi

from nnk.kernels.cuda import _emulation

order = SimpleNamespace(backward=False)
_running = SimpleNamespace(thread=None)


class Thread:
    """One CUDA thread, with what the simulator asks of a system thread."""

    __slots__ = ("block", "blockIdx", "copies", "greenlet", "number", "products", "threadIdx")

    def __init__(self, block: Block, number: int, thread_index, block_index):
        self.block, self.number = block, number
        self.threadIdx, self.blockIdx = thread_index, block_index
        self.greenlet = greenlet.greenlet(block.body)
        self.copies, self.products = deque(), deque()

    @property
    def thread_id(self) -> int:
        return self.number

    def syncthreads(self) -> None:
        self.block.barrier.meet(self, None, lambda values: values)

    def syncthreads_count(self, value) -> int:
        return self.block.barrier.meet(self, value, lambda values: [sum(map(bool, values))] * len(values))

    def syncthreads_and(self, value) -> int:
        return self.block.barrier.meet(self, value, lambda values: [int(all(values))] * len(values))

    def syncthreads_or(self, value) -> int:
        return self.block.barrier.meet(self, value, lambda values: [int(any(values))] * len(values))


    @property
    def hasty(self) -> bool:
        """Do bulk copies land at once?"""
        return order.backward

    def warpgroup(self, value, exchange):
        """Every lane of the warpgroup gives a value and gets its own item of `exchange(values)`."""
        return self.block.warpgroups[self.number // 128].meet(self, value, exchange)

    def sleep(self, reason: str) -> None:
        """Let others run until one of them calls `wake`."""
        self.block.sleepers[self] = reason
        self.block.hub.switch()

    def wake(self) -> None:
        """The thread goes on when its turn comes."""
        del self.block.sleepers[self]
        self.block.ready.append(self)


class Meeting:
    """A place where a group of threads wait for each other and exchange values."""

    def __init__(self, block: Block, name: str, members: range):
        self.block, self.name, self.first = block, name, members.start
        self.expected = len(members)
        self.values = [None] * len(members)
        self.waiting: list[Thread] = []
        self.answers: list = []
        self.exchange = None

    def meet(self, thread: Thread, value, exchange):
        """Wait for the others; every thread gets its own item of `exchange(values)`."""
        if self.waiting and exchange.__code__ is not self.exchange.__code__:
            raise RuntimeError(f"{self.name}: threads meet here in different ways")
        place = thread.number - self.first
        self.values[place], self.exchange = value, exchange
        self.waiting.append(thread)
        if len(self.waiting) == self.expected:
            self.open(thread)
        else:
            self.block.hub.switch()
        return self.answers[place]

    def leave(self) -> None:
        """A thread has returned from the kernel: the others no longer wait for it."""
        self.expected -= 1
        if self.waiting and len(self.waiting) == self.expected:
            self.open(None)

    def open(self, last: Thread | None) -> None:
        self.answers = list(self.exchange(self.values))
        self.block.ready.extend(thread for thread in self.waiting if thread is not last)
        self.waiting = []


class Block:
    """Takes the place of the simulator's BlockManager: runs the threads of one block to the end."""

    def __init__(self, function, grid_dim, block_dim, debug):
        self.function, self.dimensions = function, block_dim
        self.count = int(np.prod(block_dim))
        self.ready: deque[Thread] = deque()
        self.barrier = Meeting(self, "barrier", range(self.count))
        self.warps, self.warpgroups = self.meetings("warp", 32), self.meetings("warpgroup", 128)
        self.barriers: dict = {}  # those in shared memory, by address
        self.sleepers: dict[Thread, str] = {}

    def meetings(self, name: str, size: int) -> list[Meeting]:
        """One for every `size` threads."""
        starts = range(0, self.count, size)
        return [Meeting(self, f"{name} {i}", range(s, min(s + size, self.count))) for i, s in enumerate(starts)]

    def body(self, thread: Thread) -> None:
        with np.errstate(all="ignore"):  # each greenlet has a state of its own, as in NumPy's contexts
            self.function(*self.arguments)
        self.barrier.leave()

    def run(self, grid_point, *arguments) -> None:
        self.arguments, self.hub = arguments, greenlet.getcurrent()
        x, y, _ = self.dimensions
        block_index = kernelapi.Dim3(*grid_point)
        threads = [
            Thread(self, n, kernelapi.Dim3(n % x, n // x % y, n // (x * y)), block_index) for n in range(self.count)
        ]
        self.ready.extend(reversed(threads) if order.backward else threads)
        while self.ready:
            thread = _running.thread = self.ready.popleft()
            try:
                thread.greenlet.switch(*() if thread.greenlet else (thread,))
            except Exception as error:
                where = f"thread {list(thread.threadIdx)} of block {list(block_index)}"
                raise type(error)(f"{where}: {error}").with_traceback(error.__traceback__) from None
        meetings = (self.barrier, *self.warps, *self.warpgroups)
        stuck = [*(meeting.name for meeting in meetings if meeting.waiting), *sorted(set(self.sleepers.values()))]
        if stuck:
            raise RuntimeError(f"threads wait for ever at {', '.join(stuck)} of block {list(block_index)}")


def _warp(value, exchange):
    thread = _running.thread
    return thread.block.warps[thread.number // 32].meet(thread, value, exchange)


class _Threading:
    """What the simulator sees as the module `threading`."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, name)

    @staticmethod
    def current_thread():
        return _running.thread


def _unset(shape, dtype) -> np.ndarray:
    """Memory that nobody has written: NaN as a float, -1 as a signed integer; aligned to 1024 bytes."""
    dtype = kernelapi.numpy_support.as_dtype(dtype) if isinstance(dtype, kernelapi.types.Type) else np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(size + 1024, 0xFF, np.uint8)
    start = -memory.ctypes.data % 1024
    return memory[start : start + size].view(dtype).reshape(shape)


def _local_array(self, shape, dtype, alignment=None):
    return _unset(shape, dtype)


def _shared_array(self, shape, dtype, alignment=None):
    """One array a line of source and block; size 0 is the dynamic part, under whatever dtype."""
    if shape == 0:
        if "dynamic" not in self._allocations:
            self._allocations["dynamic"] = _unset(self._dynshared_size, np.uint8)
        memory = self._allocations["dynamic"]
        dtype = kernelapi.numpy_support.as_dtype(dtype)
        return memory[: memory.size // dtype.itemsize * dtype.itemsize].view(dtype)
    caller = sys._getframe(1)
    key = caller.f_code, caller.f_lineno
    if key not in self._allocations:
        self._allocations[key] = _unset(shape, dtype)
    return self._allocations[key]


class _FreshShared(Block):
    """A block whose shared memory is its own."""

    def run(self, grid_point, *arguments) -> None:
        numba_kernel._get_kernel_context()._shared._allocations.clear()
        super().run(grid_point, *arguments)


def install() -> None:
    """Let the simulator run blocks in this way, and give the kernels' emulations their warps."""
    for place, name, replacement in (
        (numba_kernel, "BlockManager", _FreshShared),
        (kernelapi, "threading", _Threading(kernelapi.threading)),
        (kernelapi.FakeCUDALocal, "array", _local_array),
        (kernelapi.FakeCUDAShared, "array", _shared_array),
        (_emulation, "warp", _warp),
        (_emulation, "running", lambda: _running.thread),
    ):
        if not hasattr(place, name):
            raise RuntimeError(f"this numba-cuda has no {place.__name__}.{name}, which the tests' scheduler replaces")
        setattr(place, name, replacement)
    for place, name in ((numba_kernel, "_get_kernel_context"), (kernelapi, "numpy_support"), (kernelapi, "types")):
        if not hasattr(place, name):
            raise RuntimeError(f"this numba-cuda has no {place.__name__}.{name}, which the tests' scheduler uses")
