"""Kernels as jobs, and the one parallel driver that runs them.

A kernel is a Python function `f(first, last, thread, a)` that does jobs first..last of a numbered list; `a` holds its
arguments by name. `@job(x=PTR, n=INT, slope=FLOAT)` declares them. Calling the kernel,

    relu_blocks(jobs, x=x, y=y, n=x.size)

splits the jobs evenly over the threads. Arrays are passed as addresses (None is 0) and must stay alive for the call.

Numba compiles each kernel once, to a C function of four integers; one parallel driver calls any of them by address.
So nothing is compiled twice, a call costs a few microseconds, and the split depends on the number of threads alone:
results repeat. A kernel compiles at its first call and is kept on disk (`_cache.py`).
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext

import numba
import numpy as np
from llvmlite import ir
from numba import cfunc, njit, prange, types
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_getattr_generic, models, register_model

from . import _cache
from .simd import F32, I64, at, i64

PTR, INT, FLOAT = "q", "q", "f4x"  # struct codes: every argument takes eight bytes
listeners: list[Callable[[str], None]] = []  # called with a kernel's name when it is compiled, not loaded from disk


# ---------------------------------------------------------------- arguments by name
class _Arguments(types.Type):
    """The Numba type of `a`: the address of an int64 block whose fields have names."""

    def __init__(self, fields: dict[str, str]):
        self.fields = tuple(fields.items())
        super().__init__(name="arguments(" + ",".join(f"{n}:{c}" for n, c in self.fields) + ")")


@register_model(_Arguments)
class _ArgumentsModel(models.PrimitiveModel):
    def __init__(self, manager, arguments):
        super().__init__(manager, arguments, I64)


@infer_getattr
class _ArgumentTyping(AttributeTemplate):
    key = _Arguments

    def generic_resolve(self, arguments, name):
        code = dict(arguments.fields).get(name)
        return {PTR: types.int64, FLOAT: types.float32, None: None}[code]


@lower_getattr_generic(_Arguments)
def _argument(context, builder, arguments, address, name):
    names = [n for n, _ in arguments.fields]
    kind = F32 if dict(arguments.fields)[name] == FLOAT else I64
    slot = at(builder, address, i64(names.index(name)), I64)
    value = builder.load(builder.bitcast(slot, kind.as_pointer()), align=8 if kind == I64 else 4, typ=kind)
    # The block never changes during a call: LLVM may keep the value in a register across stores.
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


# ---------------------------------------------------------------- the driver
@intrinsic
def _call(typing_context, function, first, last, thread, arguments):
    """Call the C function void(int64, int64, int64, int64) at an address."""
    def lower(context, builder, sig, values):
        kind = ir.FunctionType(ir.VoidType(), [I64] * 4)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()
    return types.void(*[types.int64] * 5), lower


def _parallel(function, threads, jobs, arguments):
    for t in prange(threads):
        _call(function, t * jobs // threads, (t + 1) * jobs // threads, t, arguments)


def _serial(function, threads, jobs, arguments):
    for t in range(threads):
        _call(function, t * jobs // threads, (t + 1) * jobs // threads, t, arguments)


def _nothing(first, last, thread, a):
    pass


_lock = threading.RLock()  # compiling, and every parallel call where the threading layer is not thread-safe
_drivers: dict[str, Callable] = {}
_forked = False


def _after_fork() -> None:
    # The child has none of the parent's worker threads, and OpenMP kills a child that asks for new ones.
    global _forked, _lock
    _lock, _forked = threading.RLock(), "parallel" in _drivers


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _driver(kind: str) -> Callable:
    with _lock:
        if kind not in _drivers:
            _drivers[kind] = _start(kind)
        return _drivers[kind]


def _start(kind: str) -> Callable:
    body = {"parallel": _parallel, "serial": _serial}[kind]
    with _cache.active():
        driver = njit("void(int64,int64,int64,int64)", parallel=kind == "parallel", nogil=True, cache=True)(body)
    if kind == "serial":
        return driver
    block = np.zeros(1, np.int64)
    driver(_idle.address, 1, 0, block.ctypes.data)  # the first call makes Numba choose its threading layer
    safe = numba.threading_layer() != "workqueue"  # it aborts the process when two Python threads enter it

    def run(function, threads, jobs, arguments):
        with nullcontext() if safe else _lock:
            before = numba.get_num_threads()
            if threads >= before:
                driver(function, threads, jobs, arguments)
                return
            numba.set_num_threads(threads)  # wake no more of the pool than have work
            try:
                driver(function, threads, jobs, arguments)
            finally:
                numba.set_num_threads(before)
    return run


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
HEADER = object.__basicsize__  # NumPy's C interface puts an array's data pointer right behind the object's header
_word = ctypes.c_size_t.from_address


def address(x: np.ndarray) -> int:
    """Where x's first element lies: ten times faster than asking the array's interface."""
    return _word(id(x) + HEADER).value


_probe = np.zeros(1)
if address(_probe) != _probe.ctypes.data:
    raise ImportError(f"NumPy {np.__version__} does not keep its arrays' data pointer where NumPy's C interface says")


class Job:
    """A kernel: compiled at its first use, called with the number of jobs and its arguments by name."""

    def __init__(self, function: Callable, fields: dict[str, str]):
        self.function, self.fields, self._names = function, tuple(fields), frozenset(fields)
        self.__doc__, self.__name__ = function.__doc__, function.__name__
        self._type = _Arguments(fields)
        self._pack = struct.Struct("=" + "".join(fields.values())).pack_into
        self._local = threading.local()
        self._compiled = self._address = None

    @property
    def address(self) -> int:
        """Address of the compiled C function."""
        if self._address is None:
            with _lock:
                if self._address is None:
                    self._compiled = self._compile()
                    self._address = self._compiled.address
        return self._address

    def _compile(self):
        name = f"{self.function.__module__.rpartition('.')[2]}.{self.__name__}"
        path = _cache.folder()
        if not any(path.rglob(f"{name}-*.nbi")):
            for listener in list(listeners):
                listener(self.__name__)
        kind = types.void(types.int64, types.int64, types.int64, self._type)
        with _cache.active():
            return cfunc(kind, cache=True)(self.function)

    def __call__(self, jobs: int, *, threads: int | None = None, **arguments) -> None:
        """Do jobs 0..jobs on `threads` threads (all, unless the work is too small to share)."""
        threads = min(threads or get_num_threads(), jobs)
        if threads < 1:
            return
        try:
            block, start = self._local.block
        except AttributeError:
            block = np.zeros(max(1, len(self.fields)), np.int64)
            start = address(block)
            self._local.block = block, start
        if arguments.keys() != self._names:
            raise TypeError(f"{self.__name__} takes {', '.join(self.fields)}; got {', '.join(arguments)}")
        self._pack(block, 0, *[
            _word(id(v) + HEADER).value if isinstance(v, np.ndarray) else 0 if v is None else v
            for v in map(arguments.__getitem__, self.fields)])
        kind = "serial" if threads == 1 or _forked else "parallel"
        driver = _drivers.get(kind) or _driver(kind)
        driver(self._address or self.address, threads, jobs, start)


def job(**fields: str) -> Callable[[Callable], Job]:
    """Decorator: declare a kernel's arguments, each `name=PTR`, `INT` or `FLOAT`."""
    return lambda function: Job(function, fields)


_idle = job()(_nothing)


def share(work: int, grain: int = 32768) -> int:
    """Threads worth waking for this many floats of work (waking one costs about as much as `grain` of them)."""
    return max(1, min(get_num_threads(), work // grain))
