"""A stand-in for CuPy where there is no GPU: arrays that NumPy cannot read, streams that can be captured.

It is as strict as CuPy: NumPy arrays and device arrays do not mix, nothing turns into a NumPy array by itself, and what
makes the host wait is counted (`syncs`). What it lacks raises. `install` makes the CPU kernels compute on these arrays
in place of the CUDA kernels.

A captured graph is a list of calls. As on a GPU, capturing runs nothing: all arrays are afterwards what they were, new
ones are full of NaN, and waiting for a number, or copying from the host, is an error. A launch makes the same calls
again, with the same arrays.
"""

import contextlib
import ctypes
import operator
import sys
import types
import weakref

import numpy as np

METHODS = (
    "astype", "copy", "reshape", "transpose", "view", "sum", "mean", "max", "min", "any", "all", "argmax", "ravel",
    "clip", "fill", "repeat", "squeeze", "var", "std",
)  # fmt: skip
FUNCTIONS = {
    "argpartition", "concatenate", "empty_like", "expand_dims", "full_like", "mean", "moveaxis", "ones_like", "split",
    "repeat", "sum", "take", "var", "where", "zeros_like",
}  # fmt: skip
SCALARS = {"lr", "grad_scale", "step", "call"}  # arguments of kernels that may be 0-d arrays


State = types.SimpleNamespace(
    tape=None,  # of the capture that runs
    syncs=0,
    uploads=0,
    live=weakref.WeakSet(),
    log=[],  # what streams and events are asked for
)


def host_of(value):
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, (tuple, list)):
        return type(value)(map(host_of, value))
    if isinstance(value, dict):
        return {name: host_of(item) for name, item in value.items()}
    return value


def arrays_in(value):
    if isinstance(value, ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))


def run(function, *args, **kwargs):
    """The result on these device arrays, as device arrays; in a capture the call goes onto the tape."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}: {getattr(function, '__name__', function)}")
    result = function(*host_of(args), **host_of(kwargs))
    if isinstance(result, np.generic):
        result = np.asarray(result)
    known = {id(array.host): array for array in arrays_in([args, kwargs])}
    if State.tape is not None:
        State.tape.append((function, args, kwargs, result))
    return device_of(result, known)


def device_of(result, known):
    if isinstance(result, (tuple, list)):
        return type(result)(device_of(item, known) for item in result)
    if isinstance(result, np.ndarray):
        return known[id(result)] if id(result) in known else ndarray(result)
    return result


def waits(value):
    if State.tape is not None:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
    State.syncs += 1
    return value


class Memory:
    def __init__(self, host):
        self.host, self.ptr = host, host.ctypes.data

    def copy_from_host_async(self, source, size, stream):
        State.log.append(f"copy on {stream.name}")
        assert size == self.host.nbytes
        assert self.host.flags.c_contiguous
        ctypes.memmove(self.ptr, source, size)


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    __hash__ = object.__hash__

    def __init__(self, host):
        self.host = host
        State.live.add(self)

    shape, dtype, ndim, size, strides, itemsize, nbytes, flags = (
        property(operator.attrgetter(f"host.{name}"))
        for name in ("shape", "dtype", "ndim", "size", "strides", "itemsize", "nbytes", "flags")
    )
    T = property(lambda self: self.transpose())
    data = property(lambda self: Memory(self.host))

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return run(getattr(ufunc, method), *inputs, **options)

    def __array_function__(self, function, _, args, options):
        if function in (np.shape, np.ndim):
            return getattr(self, function.__name__)
        if function.__name__ not in FUNCTIONS:
            raise TypeError(f"this CuPy has no {function.__name__}")
        return run(function, *args, **options)

    def __getitem__(self, key):
        return run(operator.getitem, self, key)

    def __setitem__(self, key, value):
        run(operator.setitem, self, key, value)

    def __len__(self):
        return len(self.host)

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return asarray, (self.get(),)

    def get(self):
        return waits(self.host.copy())

    def __float__(self):
        return waits(float(self.host))

    def __int__(self):
        return waits(int(self.host))

    __index__ = __int__

    def __bool__(self):
        return waits(bool(self.host))

    def __repr__(self):
        return repr(self.get())


for _name in METHODS:
    setattr(ndarray, _name, lambda self, *a, _name=_name, **k: run(getattr(np.ndarray, _name), self, *a, **k))


def asarray(x, dtype=None):
    if isinstance(x, ndarray):
        return x
    if State.tape is not None:
        raise RuntimeError("a capture would read this host memory again in every replay")
    State.uploads += 1
    return ndarray(np.array(x, dtype, order="C"))


def empty(shape, dtype=np.float32):
    State.log.append("empty")
    return ones(shape, dtype)


def ones(shape, dtype=np.float32):
    return run(np.ones, shape, dtype)


class Graph:
    def __init__(self, tape):
        self.tape, self.launches = tape, 0

    def launch(self):
        self.launches += 1
        for function, args, kwargs, result in self.tape:
            again = function(*host_of(args), **host_of(kwargs))
            again = np.asarray(again) if isinstance(again, np.generic) else again
            for old, new in zip(_flat(result), _flat(again)):
                np.copyto(old, new)


def _flat(result):
    if isinstance(result, (tuple, list)):
        return [array for item in result for array in _flat(item)]
    return [result] if isinstance(result, np.ndarray) else []


class Stream:
    def __init__(self, non_blocking=False):
        self.non_blocking = non_blocking

    def __enter__(self):
        self.before, cuda.current = cuda.current, self
        return self

    def __exit__(self, *_):
        cuda.current = self.before

    def begin_capture(self):
        if self is Stream.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.kept = [(array.host, array.host.copy()) for array in State.live]
        State.tape = []

    def end_capture(self):
        tape, State.tape = State.tape, None
        for *_, result in tape:
            for array in _flat(result):
                if array.flags.writeable and array.dtype.kind == "f":
                    array.fill(np.nan)
        for host, value in self.kept:
            if host.flags.writeable:
                np.copyto(host, value)
        return Graph(tape)

    def record(self):
        State.log.append(f"record on {self.name}")
        return Event()

    def wait_event(self, event):
        State.log.append(f"{self.name} waits")

    name = property(lambda self: "null" if self is Stream.null else "second")


Stream.null = Stream()


class Event:
    done = True

    def synchronize(self):
        State.log.append("host waits")


class MemoryPool:
    def malloc(self, size):
        raise NotImplementedError

    def free_all_blocks(self):
        State.log.append("free")


class Device(contextlib.nullcontext):
    def synchronize(self):
        State.log.append("synchronize")


no_context = contextlib.nullcontext
_pool = MemoryPool()


def get_default_memory_pool():
    return _pool


get_default_pinned_memory_pool = get_default_memory_pool

cuda = types.SimpleNamespace(
    Stream=Stream,
    Event=Event,
    MemoryPool=MemoryPool,
    current=Stream.null,
    get_current_stream=lambda: cuda.current,
    using_allocator=lambda malloc: no_context(),
    Device=lambda: Device(),
    runtime=types.SimpleNamespace(getDeviceCount=lambda: 1, memGetInfo=lambda: (2**30, 2**31)),
)


class Kernels:
    """The CPU kernels, or their helpers for layouts, on device arrays."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        function = getattr(self.module, name)

        def call(*args, **kwargs):
            changing = {}
            for key in SCALARS & kwargs.keys():
                # On a GPU these are float32; while a graph is captured nobody has written them yet.
                kind = int if key in ("step", "call") else np.float32
                changing[key] = 1 if State.tape is not None else kind(kwargs[key])
            return function(*args, **{**kwargs, **changing})

        call.__name__ = name
        return lambda *args, **kwargs: run(call, *args, **kwargs)


def write(slots, values):
    slots.host[: len(values)] = values


def adjust(norm, scale, counts, patience):
    factor = np.asarray(1 / scale)
    if not np.isfinite(norm):
        counts[...] = 0, counts[1] + 1
        scale[...] = max(scale / 2, 1)
        return factor, np.array(1, np.int32)
    counts[0] += 1
    if counts[0] == patience:
        counts[0] = 0
        scale *= 2
    return factor, np.array(0, np.int32)


def install(monkeypatch):
    """Let nnk find this in place of CuPy, with the CPU kernels as those of the GPU."""
    from nnk import backend

    this = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "cupy", this)
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=np.empty))
    monkeypatch.setattr(backend, "cuda_problem", lambda: None)
    monkeypatch.setitem(backend._loaded, "cuda", Kernels(backend.kernels("cpu")))
    monkeypatch.setitem(backend._loaded, "cuda._layout", Kernels(backend.kernels("cpu._layout")))
    original = backend.kernels
    helpers = {
        "cuda._slots": types.SimpleNamespace(write=write),
        "cuda._loss_scale": types.SimpleNamespace(adjust=lambda *args: run(adjust, *args)),
    }
    monkeypatch.setattr(backend, "kernels", lambda name: helpers.get(name) or original(name))
    State.tape, State.syncs, State.uploads, State.log = None, 0, 0, []
    return this
