"""From a Python function to a launch: Numba makes PTX, nvJitLink machine code, the driver starts it in about 2 µs.

    @kernel(x=STORAGE, y=STORAGE, n=LONG, slope=FLOAT, block=256)
    def _leaky_relu(x, y, n, slope): ...

    _leaky_relu(grid, x, y, x.size, 0.01)          # grid: blocks, an int or up to three

A kernel's arguments are pointers and scalars, declared by kind. `STORAGE` pointers are to float32, float16 or bfloat16,
one dtype for all of a call: the kernel is compiled once for each. A `TABLE` (`_tensors.py`) holds such pointers,
`table[i]` is one. Other pointers have a dtype of their own. Arrays must be dense, None is a null pointer. A `MAP` is a
tensor map (`_tensor_map.py`), passed by value; the kernel sees its address. Work is queued on CuPy's current stream of
the current device.

Machine code is compiled at the first call for a dtype and an architecture, and kept on disk. Numba's own dispatcher,
which this replaces, needs 13 to 110 µs a launch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import inspect
import operator
import pathlib
import re
import struct
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from ..codestore import CodeStore
from ._link import arch, binding, link, made_by, too_new
from ._numba import SIMULATED, cuda, types

STORAGE, TABLE, F32, F64, I32, I64, U8, U32, U64, FLOAT, INT, UINT, LONG, MAP = (
    "storage", "table", "f32", "f64", "i32", "i64", "u8", "u32", "u64", "FLOAT", "INT", "UINT", "LONG", "MAP",
)  # fmt: skip
_POINTERS = {F32: types.float32, F64: types.float64, I32: types.int32, I64: types.int64, U8: types.uint8,
             U32: types.uint32, U64: types.uint64}
_SCALARS = {FLOAT: (types.float32, "f"), INT: (types.int32, "i"), UINT: (types.uint32, "I"), LONG: (types.int64, "q"),
            MAP: (types.uint64, "128s")}
_STORED = {"float32": types.float32, "float16": types.float16, "bfloat16": types.uint16}
_FLOAT32 = np.dtype(np.float32)
_NOT_FOR_THIS_DRIVER = (
    "CUDA_ERROR_NO_BINARY_FOR_GPU", "CUDA_ERROR_INVALID_IMAGE", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"
)  # fmt: skip
OLDEST = (7, 5)  # compute capability
STATIC_SHARED = 48 * 1024  # bytes that a block may have without asking

KERNELS: list[Kernel] = []
"""Every kernel, in the order of declaration, once the files of the ops are imported."""


def kernel(
    *, block: int, shared: int = 0, blocks_per_sm: int = 0, fastmath: bool = False, arch: str | None = None,
    least: tuple[int, int] = OLDEST, dtypes: tuple[str, ...] = tuple(_STORED), name: str = "", **fields: str,
) -> Callable:
    """Decorator: a function of these arguments, in order, run by blocks of `block` threads.

    `shared` are the bytes of dynamic shared memory, `cuda.shared.array(0, …)`. `blocks_per_sm`, where given, holds the
    registers down so that this many blocks fit on a multiprocessor. `arch="sm_90a"` is for a kernel whose instructions
    only that architecture has, `least` for one that needs this compute capability or a newer one; `dtypes` are the
    storage types that it comes in. `name` tells variants made by one function apart; without it the numbers that a
    function closes over do.
    """
    return lambda function: Kernel(
        function, fields, block, shared, blocks_per_sm, fastmath, arch, least, dtypes, name
    )


class Kernel:
    """A function that the GPU runs; `__call__` queues it."""

    def __init__(self, function: Callable, fields: dict, block: int, shared: int, blocks_per_sm: int, fastmath: bool,
                 arch: str | None, least: tuple[int, int], dtypes: tuple[str, ...], name: str):
        if tuple(inspect.signature(function).parameters) != tuple(fields):
            raise TypeError(f"{function.__name__} takes {inspect.signature(function)}, declared are {tuple(fields)}")
        self.function, self.fields, self.arch, self.least = function, fields, arch, least
        self.block, self.shared, self.blocks_per_sm, self.fastmath = block, shared, blocks_per_sm, fastmath
        self.name = name or function.__name__.strip("_") + _constants(function)
        self.file = function.__module__.rpartition(".")[2]
        self.entry = f"{self.file}_{self.name}"  # never the name of an instruction
        self.__doc__ = function.__doc__
        self._kinds = tuple(fields.values())
        self._storage = next((i for i, kind in enumerate(self._kinds) if kind in (STORAGE, TABLE)), None)
        self.dtypes = ("float32",) if self._storage is None else dtypes
        self._texts: dict[str, str] = {}
        self._loaded: dict[tuple, _Loaded] = {}
        self._simulated = cuda.jit(function) if SIMULATED else None
        KERNELS.append(self)

    def __repr__(self) -> str:
        return f"<kernel {self.file}.{self.name}>"

    def __call__(self, grid: int | tuple[int, ...], *args: Any, shared: int | None = None) -> None:
        """Queue `grid` blocks with these arguments; nothing is done for an empty grid.

        `shared` are the bytes of dynamic shared memory where fewer than the declared ones do: more blocks then fit.
        """
        x, y, z = (*grid, 1, 1)[:3] if type(grid) is tuple else (grid, 1, 1)
        if not x or not y or not z:
            return
        if len(args) != len(self._kinds):
            raise TypeError(f"{self} takes {', '.join(self.fields)}; got {len(args)} arguments")
        shared = self.shared if shared is None else shared
        if SIMULATED:
            self._simulate((x, y, z), args, shared)
            return
        device, dtype = current_device(), _FLOAT32
        if self._storage is not None:
            array = args[self._storage]
            dtype = array.dtype
            if array.data.device_id != device:
                raise ValueError(
                    f"{self}: {list(self.fields)[self._storage]} lives on device {array.data.device_id}, current is "
                    f"{device}: call under `with cupy.cuda.Device({array.data.device_id}):`"
                )
        loaded = self._loaded.get((device, dtype)) or self._load(device, dtype)
        loaded.launch(x, y, z, args, shared)

    # ------------------------------------------------------------ the simulator
    def _simulate(self, grid: tuple[int, int, int], args: tuple, shared: int) -> None:
        from ._emulation import Pointer

        if max(grid[1:]) > 65535 or self.block > 1024 or shared > self.shared:
            raise RuntimeError(f"{self}: no GPU takes a grid of {grid} blocks of {self.block} threads with {shared} of "
                               f"{self.shared} bytes")
        seen, stored, nothing = [], None, np.empty(0, np.float32)
        for (name, kind), value in zip(self.fields.items(), args):
            if kind == MAP:
                seen.append(value)
                continue
            if kind in _SCALARS:
                value = float(value) if kind == FLOAT else operator.index(value)
                seen.append(np.dtype(str(_SCALARS[kind][0])).type(value))
                continue
            arrays = value.arrays if kind == TABLE else [value]
            for array in arrays:
                if array is None:
                    continue
                stores = kind in (STORAGE, TABLE)
                known = (str(_POINTERS[kind]),) if not stores else (stored,) if stored else self.dtypes
                if array.dtype.name not in known:
                    raise TypeError(f"{self}: {name} points to {array.dtype}, expected {' or '.join(known)}")
                if stores:
                    stored, nothing = array.dtype.name, np.empty(0, array.dtype)
            pointers = [Pointer(nothing if array is None else array) for array in arrays]
            seen.append(pointers if kind == TABLE else pointers[0])
        self._simulated[grid, self.block, 0, shared](*seen)

    # ------------------------------------------------------------ the machine
    def signature(self, dtype: str) -> tuple:
        """The types of the arguments for a storage dtype."""
        stored = types.CPointer(_STORED[dtype])
        pointers = {STORAGE: stored, TABLE: types.CPointer(stored)}
        pointers |= {kind: types.CPointer(to) for kind, to in _POINTERS.items()}
        return tuple(_SCALARS[kind][0] if kind in _SCALARS else pointers[kind] for kind in self._kinds)

    def ptx(self, dtype: str, capability: tuple) -> str:
        """The PTX for a compute capability such as (9, 0) or (9, 0, "a"), with `self.entry`; needs no driver.

        What NVVM writes for these kernels is the same for every architecture but for the line that names it; so one
        text serves them all, also where the instructions of `ptx.py` are newer than what Numba knows.
        """
        if dtype not in self._texts:
            self._texts[dtype] = self._compile(dtype)
        return re.sub(r"(?m)^\.target \w+", f".target {arch(capability)}", self._texts[dtype])

    def _compile(self, dtype: str) -> str:
        bounds = (self.block, self.blocks_per_sm) if self.blocks_per_sm else self.block
        try:
            code, _ = cuda.compile(self.function, self.signature(dtype), device=False, abi="numba", cc=OLDEST,
                                   launch_bounds=bounds, fastmath=self.fastmath)
        except Exception as error:  # a missing or unsuitable libNVVM shows in many ways
            raise RuntimeError(
                f"{self} could not be compiled for {dtype} by {', '.join(made_by())}: {error}\n"
                "If that is for want of NVVM: python -m pip install 'nnk[cuda13]' (or 'nnk[cuda12]')"
            ) from error
        # Numba's names count compilations; with our own, equal kernels give equal text, and many can be linked at once.
        mangled = re.search(r"\.entry\s+_ZN?(\w+)", code).group(1)
        code = re.sub(rf"_Z\w*?{mangled}", lambda name: self.entry + "_env" * ("NumbaEnv" in name[0]), code)
        arrays: dict[str, str] = {}
        code = re.sub(r"_cudapy_\w+", lambda name: arrays.setdefault(name[0], f"{self.entry}_{len(arrays)}"), code)
        for number in (i for i, kind in enumerate(self._kinds) if kind == MAP):
            # Numba knows no arguments of 128 bytes: it passes a word, which is made the place where the bytes lie.
            name = f"{self.entry}_param_{number}"
            code = re.sub(rf"\.param \.[ub]64 {name}\b", f".param .align 64 .b8 {name}[128]", code)
            code = re.sub(rf"ld\.param\.[ub]64\s+(%\w+), \[{name}\];", rf"mov.b64 \1, {name}; cvta.param.u64 \1, \1;",
                          code)
        return code

    def cubin(self, dtype: str, capability: tuple) -> bytes:
        """The machine code, from disk or compiled now and kept there; needs no driver."""
        name = self.stored_as(dtype, capability)
        code = store.read(name)
        if code is None:
            code, _ = link([self.ptx(dtype, capability)], capability)
            store.write(name, code)
        return code

    def stored_as(self, dtype: str, capability: tuple) -> str:
        """The name of the machine code on disk."""
        return f"{self.file}-{self.name}-{dtype}-{arch(capability)}"

    def _load(self, device: int, dtype: np.dtype) -> _Loaded:
        if dtype.name not in self.dtypes:
            raise TypeError(f"{self}: takes {', '.join(self.dtypes)}, got {dtype}")
        with _lock:
            if (device, dtype) in self._loaded:  # by another thread, meanwhile
                return self._loaded[device, dtype]
            capability = device_capability(device)
            if capability < self.least:
                raise RuntimeError(f"{self} needs {arch(self.least)} or newer; device {device} is {arch(capability)}")
            if self.arch and self.arch[:-1] != arch(capability):
                raise RuntimeError(f"{self} is made for {self.arch} alone; device {device} is {arch(capability)}")
            if dtype.name == "bfloat16" and capability < (8, 0):
                raise TypeError(f"bfloat16 needs compute capability 8.0; device {device} has {arch(capability)}")
            code = self.cubin(dtype.name, (*capability, self.arch[-1]) if self.arch else capability)
            self._loaded[device, dtype] = _Loaded(self, device, code)
            return self._loaded[device, dtype]


class _Loaded:
    """A kernel on a device: the driver's handle, and the room where its arguments are laid out."""

    def __init__(self, kernel: Kernel, device: int, code: bytes):
        driver = _driver()
        self.kernel, self.device, self.block, self.shared = kernel, device, kernel.block, kernel.shared
        self.start, self.stream = driver.cuLaunchKernel, _cupy().cuda.get_current_stream
        self._make_current()
        self.module = self._checked(driver.cuModuleLoadData(code))  # the handle lives as long as its module
        self.handle = self._checked(driver.cuModuleGetFunction(self.module, kernel.entry.encode()))
        if self.shared > STATIC_SHARED:
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            answer = driver.cuFuncSetAttribute(self.handle, attribute, self.shared)
            self._checked(answer, f" to {self.shared} bytes of shared memory for a block")
        self.is_scalar = tuple(kind in _SCALARS for kind in kernel.fields.values())
        self.layout = struct.Struct("".join(map(_code, kernel.fields.values())))
        self.local = threading.local()  # two Python threads may launch at once

    def launch(self, x: int, y: int, z: int, args: tuple, shared: int) -> None:
        """Queue x times y times z blocks on CuPy's current stream."""
        try:
            room, table = self.local.room
        except AttributeError:
            room, table = self._room()
        try:
            values = [v if scalar else 0 if v is None else v.data.ptr for scalar, v in zip(self.is_scalar, args)]
            self.layout.pack_into(room, 0, *values)
            answer = self.start(self.handle, x, y, z, self.block, 1, 1, shared, self.stream().ptr, table, 0)
        except (struct.error, AttributeError, OverflowError, TypeError) as error:
            raise self._refused((x, y, z), args, error) from None
        if answer[0]:
            self._checked(answer, f" to {x, y, z} blocks of {self.block} threads with {shared} bytes")

    def _room(self) -> tuple[ctypes.Array, int]:
        """This thread's memory for the arguments of a call, and the address of the table of their addresses."""
        self._make_current()
        codes = list(map(_code, self.kernel.fields.values()))
        room = (ctypes.c_uint64 * (self.layout.size // 8 + 1))()
        ends = [struct.calcsize("".join(codes[: i + 1])) for i in range(len(codes))]
        starts = [ctypes.addressof(room) + end - struct.calcsize(code) for code, end in zip(codes, ends)]
        self.local.table = (ctypes.c_void_p * len(codes))(*starts)
        self.local.room = room, ctypes.addressof(self.local.table)
        return self.local.room

    def _make_current(self) -> None:
        """CuPy's context becomes that of this thread, if it has none: a thread that only launches may not."""
        driver = _driver()
        if not int(self._checked(driver.cuCtxGetCurrent())):
            number = self._checked(driver.cuDeviceGet(self.device))
            self._checked(driver.cuCtxSetCurrent(self._checked(driver.cuDevicePrimaryCtxRetain(number))))

    def _refused(self, grid: tuple[int, int, int], args: tuple, error: Exception) -> Exception:
        """The error that names the argument which could not be passed on."""
        for (name, kind), value in zip(self.kernel.fields.items(), args):
            try:
                struct.pack(_code(kind), value if kind in _SCALARS else 0 if value is None else value.data.ptr)
            except (struct.error, AttributeError, OverflowError, TypeError) as why:
                wrong = TypeError if kind not in _SCALARS or isinstance(value, str) else OverflowError
                return wrong(f"{self.kernel}: {name} is {value!r}, expected {kind} ({why})")
        return OverflowError(f"{self.kernel}: a grid of {grid} blocks ({error})")

    def _checked(self, answer: tuple, wish: str = "") -> Any:
        """What the driver answered, or an error that names the kernel."""
        if answer[0]:
            new = answer[0].name in _NOT_FOR_THIS_DRIVER
            hint = too_new(_cupy().cuda.runtime.driverGetVersion()) if new else ""
            raise RuntimeError(f"{self.kernel}: the driver answered {answer[0].name}{wish}{hint}")
        return answer[1] if len(answer) > 1 else None


def current_device() -> int:
    """The number of the device on which kernels run now."""
    return _cupy().cuda.runtime.getDevice()


@functools.cache
def multiprocessors(device: int) -> int:
    """How many multiprocessors a device has."""
    return _cupy().cuda.Device(device).attributes["MultiProcessorCount"]


@functools.cache
def device_capability(device: int) -> tuple[int, int]:
    """The compute capability of a device."""
    number = _cupy().cuda.Device(device).compute_capability
    return int(number[:-1]), int(number[-1])


def _code(kind: str) -> str:
    """How `struct` packs an argument of a kind; pointers are addresses."""
    return _SCALARS[kind][1] if kind in _SCALARS else "Q"


def _constants(function: Callable) -> str:
    """What a kernel made by a function was made for, as part of its name: `_3_3` for closed-over 3 and 3."""
    held = [value for value in inspect.getclosurevars(function).nonlocals.values() if not callable(value)]
    return "".join(f"_{value}".replace("-", "m").replace(".", "p") for value in held)


def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(repr((made_by(), sys.version_info[:3])).encode())
    return digest.hexdigest()[:16]


store = CodeStore("cuda", _stamp)
_lock = threading.RLock()


@functools.cache
def _cupy() -> Any:
    try:
        return import_module("cupy")
    except ImportError as error:
        raise ImportError(
            f"nnk's CUDA kernels need CuPy, which cannot be imported ({error}): python -m pip install 'nnk[cuda13]' "
            "(or 'nnk[cuda12]' for a driver of CUDA 12)"
        ) from error


@functools.cache
def _driver() -> Any:
    return binding("driver")
