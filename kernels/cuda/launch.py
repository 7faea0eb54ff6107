"""From a Python function to a launch: Numba makes PTX, nvJitLink machine code, the driver starts it in about 2 µs.

    @kernel(x=STORAGE, y=STORAGE, n=LONG, slope=FLOAT, block=256)
    def _leaky_relu(x, y, n, slope): ...

    _leaky_relu(grid, x, y, x.size, 0.01)          # grid: blocks, an int or up to three

A kernel's arguments are pointers and scalars, declared by kind. `STORAGE` pointers are to float32, float16 or bfloat16,
one dtype for all of a call: the kernel is compiled once for each. Other pointers have a dtype of their own. Arrays must
be dense, None is a null pointer. Work is queued on CuPy's current stream of the current device.

Machine code is compiled at the first call for a dtype and an architecture, and kept on disk. Numba's own dispatcher,
which this replaces, needs 13 to 110 µs a launch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import inspect
import pathlib
import re
import struct
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from ..codestore import CodeStore
from ._numba import SIMULATED, cuda, types

STORAGE, F32, F64, I32, I64, U8, U32, U64, FLOAT, INT, UINT, LONG = (
    "storage", "f32", "f64", "i32", "i64", "u8", "u32", "u64", "FLOAT", "INT", "UINT", "LONG",
)  # fmt: skip
_POINTERS = {F32: types.float32, F64: types.float64, I32: types.int32, I64: types.int64, U8: types.uint8,
             U32: types.uint32, U64: types.uint64}
_SCALARS = {FLOAT: (types.float32, "f"), INT: (types.int32, "i"), UINT: (types.uint32, "I"), LONG: (types.int64, "q")}
_STORED = {"float32": types.float32, "float16": types.float16, "bfloat16": types.uint16}
STATIC_SHARED = 48 * 1024  # bytes that a block may have without asking

KERNELS: list[Kernel] = []
"""Every kernel, in the order of declaration, once the files of the ops are imported."""


def kernel(*, block: int, shared: int = 0, blocks_per_sm: int = 0, fastmath: bool = False, **fields: str) -> Callable:
    """Decorator: a function of these arguments, in order, run by blocks of `block` threads.

    `shared` are the bytes of dynamic shared memory, `cuda.shared.array(0, …)`. `blocks_per_sm`, where given, holds the
    registers down so that this many blocks fit on a multiprocessor.
    """
    return lambda function: Kernel(function, fields, block, shared, blocks_per_sm, fastmath)


class Kernel:
    """A function that the GPU runs; `__call__` queues it."""

    def __init__(self, function: Callable, fields: dict, block: int, shared: int, blocks_per_sm: int, fastmath: bool):
        if tuple(inspect.signature(function).parameters) != tuple(fields):
            raise TypeError(f"{function.__name__} takes {inspect.signature(function)}, declared are {tuple(fields)}")
        self.function, self.fields = function, fields
        self.block, self.shared, self.blocks_per_sm, self.fastmath = block, shared, blocks_per_sm, fastmath
        self.name = function.__name__.strip("_") + _constants(function)
        self.file = function.__module__.rpartition(".")[2]
        self.__doc__ = function.__doc__
        self._kinds = tuple(fields.values())
        self._storage = self._kinds.index(STORAGE) if STORAGE in self._kinds else None
        self._loaded: dict[tuple, _Loaded] = {}
        self._simulated = cuda.jit(function) if SIMULATED else None
        KERNELS.append(self)

    def __repr__(self) -> str:
        return f"<kernel {self.file}.{self.name}>"

    def __call__(self, grid: int | tuple[int, ...], *args: Any) -> None:
        """Queue `grid` blocks with these arguments; nothing is done for an empty grid."""
        x, y, z = (grid, 1, 1) if isinstance(grid, int) else (*grid, 1, 1)[:3]
        if not x or not y or not z:
            return
        if len(args) != len(self._kinds):
            raise TypeError(f"{self.name} takes {', '.join(self.fields)}; got {len(args)} arguments")
        if SIMULATED:
            self._simulate((x, y, z), args)
            return
        dtype = "float32" if self._storage is None else args[self._storage].dtype.name
        device = _cupy().cuda.runtime.getDevice()
        loaded = self._loaded.get((device, dtype)) or self._load(device, dtype)
        loaded.launch(x, y, z, args)

    # ------------------------------------------------------------ the simulator
    def _simulate(self, grid: tuple[int, int, int], args: tuple) -> None:
        from ._emulation import Pointer

        seen = []
        for (name, kind), value in zip(self.fields.items(), args):
            if kind in _SCALARS:
                seen.append(np.dtype(str(_SCALARS[kind][0])).type(value))
                continue
            array = np.empty(0, np.float32) if value is None else value
            known = _STORED if kind == STORAGE else (str(_POINTERS[kind]),)
            if array.dtype.name not in known:
                raise TypeError(f"{self.name}: {name} points to {array.dtype}, declared is {kind}")
            seen.append(Pointer(array))
        self._simulated[grid, self.block, 0, self.shared](*seen)

    # ------------------------------------------------------------ the machine
    @property
    def dtypes(self) -> tuple[str, ...]:
        """The storage dtypes that this kernel comes in."""
        return ("float32",) if self._storage is None else tuple(_STORED)

    def signature(self, dtype: str) -> tuple:
        """The types of the arguments for a storage dtype."""
        stored = types.CPointer(_STORED[dtype])
        return tuple(
            _SCALARS[kind][0] if kind in _SCALARS else stored if kind == STORAGE else types.CPointer(_POINTERS[kind])
            for kind in self._kinds
        )

    def ptx(self, dtype: str, capability: tuple) -> str:
        """The PTX for a compute capability such as (9, 0) or (9, 0, "a"); needs no driver. The entry is `self.name`."""
        bounds = (self.block, self.blocks_per_sm) if self.blocks_per_sm else self.block
        code, _ = cuda.compile(self.function, self.signature(dtype), device=False, abi="numba", cc=capability,
                               launch_bounds=bounds, fastmath=self.fastmath)
        # Numba's names count compilations; without them equal kernels give equal text.
        mangled = re.search(r"\.entry\s+_ZN?(\w+)", code).group(1)
        return re.sub(rf"_Z\w*{re.escape(mangled)}\b", lambda name: self.name + "_" * ("NumbaEnv" in name[0]), code)

    def cubin(self, dtype: str, capability: tuple) -> bytes:
        """The machine code, from disk or compiled now and kept there; needs no driver."""
        name = f"{self.file}-{self.name}-{dtype}-{arch(capability)}"
        code = store.read(name)
        if code is None:
            code, _ = link(self.ptx(dtype, capability), capability)
            store.write(name, code)
        return code

    def _load(self, device: int, dtype: str) -> _Loaded:
        if self._storage is not None and dtype not in _STORED:
            raise TypeError(f"{self.name}: CUDA kernels take {', '.join(_STORED)}, got {dtype}")
        with _lock:
            capability = device_capability(device)
            if dtype == "bfloat16" and capability < (8, 0):
                raise TypeError(f"bfloat16 needs compute capability 8.0; device {device} has {arch(capability)}")
            self._loaded[device, dtype] = _Loaded(self, self.cubin(dtype, capability))
            return self._loaded[device, dtype]


class _Loaded:
    """A kernel on a device: the driver's handle, and the room where its arguments are laid out."""

    def __init__(self, kernel: Kernel, code: bytes):
        driver = _driver()
        self.kernel, self.block, self.shared, self.start = kernel, kernel.block, kernel.shared, driver.cuLaunchKernel
        self.module = self._checked(driver.cuModuleLoadData(code))  # the handle lives as long as its module
        self.handle = self._checked(driver.cuModuleGetFunction(self.module, kernel.name.encode()))
        if self.shared > STATIC_SHARED:
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._checked(driver.cuFuncSetAttribute(self.handle, attribute, self.shared))
        self.is_scalar = tuple(kind in _SCALARS for kind in kernel.fields.values())
        codes = (_SCALARS[kind][1] if kind in _SCALARS else "Q" for kind in kernel.fields.values())
        self.layout = struct.Struct("".join(codes))
        self.local = threading.local()  # two Python threads may launch at once

    def launch(self, x: int, y: int, z: int, args: tuple) -> None:
        """Queue x times y times z blocks on CuPy's current stream."""
        try:
            room, table = self.local.room
        except AttributeError:
            room, table = self.local.room = self._room()
        values = [v if scalar else 0 if v is None else v.data.ptr for scalar, v in zip(self.is_scalar, args)]
        try:
            self.layout.pack_into(room, 0, *values)
        except struct.error as error:
            raise OverflowError(f"{self.kernel}: {error} among {values}") from None
        stream = _cupy().cuda.get_current_stream().ptr
        self._checked(self.start(self.handle, x, y, z, self.block, 1, 1, self.shared, stream, table, 0), (x, y, z))

    def _room(self) -> tuple[ctypes.Array, int]:
        """Memory for one call's arguments, and the address of the table of their addresses."""
        codes = self.layout.format
        room = (ctypes.c_uint64 * (self.layout.size // 8 + 1))()
        ends = [struct.calcsize(codes[: i + 1]) for i in range(len(codes))]
        starts = [ctypes.addressof(room) + end - struct.calcsize(code) for code, end in zip(codes, ends)]
        table = (ctypes.c_void_p * len(codes))(*starts)
        self.local.table = table
        return room, ctypes.addressof(table)

    def _checked(self, answer: tuple, grid: tuple[int, ...] = ()) -> Any:
        """What the driver answered, or an error that names the kernel."""
        if answer[0]:
            launch = f" for a grid of {grid} blocks of {self.block} threads and {self.shared} bytes" if grid else ""
            raise RuntimeError(f"{self.kernel}: the driver said {answer[0].name}{launch}{_hint(answer[0].name)}")
        return answer[1] if len(answer) > 1 else None


def _hint(error: str) -> str:
    if error not in ("CUDA_ERROR_NO_BINARY_FOR_GPU", "CUDA_ERROR_INVALID_IMAGE", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"):
        return ""
    runs = _cupy().cuda.runtime.driverGetVersion()
    return (
        f". The driver runs CUDA {runs // 1000}.{runs % 1000 // 10}, the code was made by nvJitLink "
        f"{'.'.join(map(str, _nvjitlink().version()))}: python -m pip install 'cuda-toolkit[nvvm,nvjitlink,nvrtc]=="
        f"{runs // 1000}.{runs % 1000 // 10}.*'"
    )


def arch(capability: tuple) -> str:
    """As compilers write it: (9, 0, "a") is sm_90a."""
    return "sm_" + "".join(map(str, capability))


@functools.cache
def device_capability(device: int) -> tuple[int, int]:
    """The compute capability of a device."""
    number = _cupy().cuda.Device(device).compute_capability
    return int(number[:-1]), int(number[-1])


def link(ptx: str, capability: tuple) -> tuple[bytes, str]:
    """Machine code of PTX, and what the assembler says of registers and spills; needs no driver."""
    linker, text = _nvjitlink(), ptx.encode()
    options = [f"-arch={arch(capability)}", "-verbose"]
    handle = linker.create(len(options), options)
    try:
        linker.add_data(handle, linker.InputType.PTX, text, len(text), "kernel")
        linker.complete(handle)
        code = bytearray(linker.get_linked_cubin_size(handle))
        linker.get_linked_cubin(handle, code)
        log = bytearray(linker.get_info_log_size(handle))
        linker.get_info_log(handle, log)
    except linker.nvJitLinkError as error:
        log = bytearray(linker.get_error_log_size(handle))
        linker.get_error_log(handle, log)
        wrote = re.search(r"\.version (\S+)", ptx).group(1)
        raise RuntimeError(
            f"nvJitLink {'.'.join(map(str, linker.version()))} could not assemble PTX {wrote} for {arch(capability)}: "
            f"{log.decode().strip()} ({error}). If it is the version, NVVM and nvJitLink do not belong together: "
            "python -m pip install 'cuda-toolkit[nvvm,nvjitlink,nvrtc]==13.0.*'"
        ) from error
    finally:
        linker.destroy(handle)
    return bytes(code), log.decode().rstrip("\0")


def _constants(function: Callable) -> str:
    """What a kernel made by a function was made for, as part of its name: `_3_3` for closed-over 3 and 3."""
    held = [value for value in inspect.getclosurevars(function).nonlocals.values() if not callable(value)]
    return "".join(f"_{value}".replace("-", "m").replace(".", "p") for value in held)


def _installed(*names: str) -> list[str]:
    def of(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"{name} not from pip"

    return [of(name) for name in names]


def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    made_by = _installed("numba", "numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvcc")
    digest.update(repr((made_by, sys.version_info[:3])).encode())
    return digest.hexdigest()[:16]


store = CodeStore("cuda", _stamp)
_lock = threading.RLock()


@functools.cache
def _cupy() -> Any:
    return import_module("cupy")


@functools.cache
def _driver() -> Any:
    return _binding("driver")


@functools.cache
def _nvjitlink() -> Any:
    return _binding("nvjitlink")


def _binding(name: str) -> Any:
    try:
        return import_module(f"cuda.bindings.{name}")
    except ImportError as error:
        raise ImportError(
            f"nnk's CUDA kernels need cuda.bindings.{name}, which cannot be imported ({error}); found are "
            f"{', '.join(_installed('cuda-bindings', 'numba-cuda'))}: python -m pip install 'nnk[cuda13]'"
        ) from error
