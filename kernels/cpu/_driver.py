"""Kernels as jobs, and the one parallel driver that runs them.

A kernel is a Python function `f(first, last, thread, a)` that does jobs first..last of a numbered list; `a` holds its
arguments by name. `@job(x=PTR, n=INT, slope=FLOAT)` declares them. Calling the kernel,

    relu_blocks(jobs, x=x, y=y, n=x.size)

splits the jobs evenly over the threads. Arrays are passed as addresses (None is 0) and must stay alive for the call.

Each kernel is machine code of its own (`_compile.py`), which one parallel driver calls by address. So nothing is
compiled twice, a call costs a few microseconds, and the split depends on the number of threads alone: results repeat.
A kernel compiles at its first call and is kept on disk (`_cache.py`).
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numba
import numpy as np
from numba import prange, types
from numba.core.compiler_lock import global_compiler_lock

from . import _compile
from ._compile import FLOAT, INT, PTR, Arguments, Native, call, listeners
from ._thread import thread
from .simd import lload

__all__ = ["FLOAT", "HEADER", "INT", "PTR", "Job", "address", "get_num_threads", "job", "listeners", "set_num_threads",
           "share", "threading_layer"]

HEADER = object.__basicsize__  # NumPy's C interface puts an array's data pointer right behind the object's header
_word = ctypes.c_size_t.from_address
Array = np.ndarray  # a name of its own is found sooner


def address(x: np.ndarray) -> int:
    """Where x's first element lies: ten times faster than asking the array's interface."""
    return _word(id(x) + HEADER).value


_probe = np.zeros(1)
if address(_probe) != _probe.ctypes.data:
    raise ImportError(f"NumPy {np.__version__} does not keep its arrays' data pointer where NumPy's C interface says")


# ---------------------------------------------------------------- the driver
# What Numba's functions of these names call, as the code of a parallel loop declares them.
_pool_threads = types.ExternalFunction("get_num_threads", types.intp())
_set_pool_threads = types.ExternalFunction("set_num_threads", types.void(types.int32))


def _parallel(order):
    kernel, jobs, threads, arguments = lload(order, 0), lload(order, 1), lload(order, 2), order + 24
    before = _pool_threads()
    _set_pool_threads(np.int32(min(threads, before)))  # wake no more of the pool than have work
    for t in prange(threads):
        call(kernel, t * jobs // threads, (t + 1) * jobs // threads, t, arguments)
    _set_pool_threads(np.int32(before))


def _serial(order):
    kernel, jobs, threads, arguments = lload(order, 0), lload(order, 1), lload(order, 2), order + 24
    for t in range(threads):
        call(kernel, t * jobs // threads, (t + 1) * jobs // threads, t, arguments)


_natives = {"parallel": Native(_parallel, types.int64, parallel=True), "serial": Native(_serial, types.int64)}
_drivers: dict[str, Callable] = {}
_turn = threading.RLock()  # held in parallel calls where the threading layer is not thread-safe
_SPINS = 4000  # of some 25 ns: the time that Python takes between two kernels, and more
_outcome = np.zeros(2, np.int64)  # Numba's convention wants places for a result and an exception


@contextmanager
def _brief_waits() -> Iterator[None]:
    """Let GNU's OpenMP, if it is loaded in this block, give up waiting after a tenth of a millisecond and sleep.

    A thread that waits for the next kernel had better spin: to wake it takes longer than many kernels do. But the 8 ms
    that GNU's OpenMP spins for are stolen from whatever else wants the core, in the end from our own threads: beside
    another busy process a training step took up to 40 times as long as alone. Nothing is set where the user has chosen.
    """
    if any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = str(_SPINS)
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]  # other libraries' OpenMP and other processes are none of our business


def _driver(kind: str) -> Callable:
    with _compile.lock:
        if kind not in _drivers:
            _drivers[kind] = _start(kind)
        return _drivers[kind]


def _start(kind: str) -> Callable:
    if kind == "parallel":
        with _brief_waits():
            numba.get_num_threads()  # starts the threading layer, whose functions parallel code calls
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(_natives[kind].address)  # twice as quick as with c_int64
    driver = partial(function, address(_outcome), address(_outcome) + 8)
    if kind == "serial" or numba.threading_layer() != "workqueue":
        return driver

    def in_turn(order):
        with _turn:
            driver(order)
    # Workqueue aborts the process when two Python threads enter it.
    return in_turn


# ---------------------------------------------------------------- forks
# A lock that another thread holds at the fork would never open in the child, so the forking thread takes them all.
_LOCKS = (_compile.lock, global_compiler_lock, _turn)
_forked = False


def _before_fork() -> None:
    for lock in _LOCKS:
        lock.acquire()


def _after_fork() -> None:
    for lock in _LOCKS:
        lock.release()


def _after_fork_in_child() -> None:
    # The child has none of the parent's worker threads, and OpenMP kills a child that asks for new ones.
    global _forked
    _forked = "parallel" in _drivers
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def threading_layer() -> str:
    """The layer that runs parallel kernels: tbb, omp, or workqueue (one Python thread's kernels at a time)."""
    _driver("parallel")
    return numba.threading_layer()


# ---------------------------------------------------------------- number of threads
_threads: int | None = None


def set_num_threads(n: int) -> None:
    """Use n threads from now on, in the whole process; above the number of cores it is capped with a warning."""
    global _threads
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"the number of threads must be a positive integer, got {n!r}")
    most = numba.config.NUMBA_NUM_THREADS
    if n > most:
        warnings.warn(f"{n} threads asked for, {most} cores to run them: using {most}", stacklevel=2)
    _threads = min(int(n), most)


def get_num_threads() -> int:
    """How many threads kernels use: `set_num_threads`, else NNK_NUM_THREADS, else every core."""
    if _threads is None:
        asked = os.environ.get("NNK_NUM_THREADS")
        if asked is None:
            return numba.config.NUMBA_NUM_THREADS
        try:
            set_num_threads(int(asked))
        except ValueError:
            raise ValueError(f"NNK_NUM_THREADS must be a positive integer, got {asked!r}") from None
    return _threads


# ---------------------------------------------------------------- kernels
class Job:
    """A kernel: compiled at its first use, called with the number of jobs and its arguments by name."""

    def __init__(self, function: Callable, fields: dict[str, str]):
        self.native = Native(function, types.int64, types.int64, types.int64, Arguments(fields))
        self.fields = tuple(fields)
        self.__doc__, self.__name__ = function.__doc__, function.__name__
        self._pack = struct.Struct("=qqq" + "".join(fields.values())).pack_into
        self._local = threading.local()

    def __call__(self, jobs: int, *, threads: int | None = None, **arguments) -> None:
        """Do jobs 0..jobs on `threads` threads (all, unless the work is too small to share)."""
        threads = min(get_num_threads() if threads is None else threads, jobs)
        self._run([jobs, threads, *self._words(self.fields, arguments)])

    def plan(self, jobs: int, *, threads: int, **given) -> Callable[..., None]:
        """A call to be made many times: `plan(x=x, y=y)` adds the arguments that are not given yet, and starts it."""
        left = tuple(name for name in self.fields if name not in given)
        places = [2 + self.fields.index(name) for name in left]
        words = [jobs, min(threads, jobs), *self._words(self.fields, {**dict.fromkeys(left), **given})]

        def run(**arguments):
            filled = words.copy()
            for place, word in zip(places, self._words(left, arguments)):
                filled[place] = word
            self._run(filled)
        run.given = given  # what is given must outlive the plan
        return run

    def _words(self, names: tuple[str, ...], arguments: dict) -> list[float]:
        """The arguments of these names as numbers: arrays by address, None as 0."""
        if len(arguments) == len(names):
            try:
                return [_word(id(v) + HEADER).value if isinstance(v, Array) else v or 0
                        for v in map(arguments.__getitem__, names)]
            except KeyError:
                pass
        raise TypeError(f"{self.__name__} takes {', '.join(names)}; got {', '.join(arguments)}")

    def _run(self, words: list[float]) -> None:
        threads = words[1]
        if threads < 1:
            return
        try:
            block, order, alone = self._local.block
        except AttributeError:
            block = np.zeros(3 + len(self.fields), np.int64)
            order, alone = address(block), thread.alone
            self._local.block = block, order, alone
        self._pack(block, 0, self.native.loaded or self.native.address, *words)
        kind = "serial" if threads == 1 or alone or _forked else "parallel"
        driver = _drivers.get(kind) or _driver(kind)
        driver(order)


def job(**fields: str) -> Callable[[Callable], Job]:
    """Decorator: declare a kernel's arguments, each `name=PTR`, `INT` or `FLOAT`."""
    return lambda function: Job(function, fields)


def share(work: int, grain: int = 32768) -> int:
    """Threads worth waking for this many floats of work (waking one costs about as much as `grain` of them)."""
    return min(get_num_threads(), work // grain) if work >= 2 * grain else 1
