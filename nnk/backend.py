"""The door between nnk and its kernels: which backend computes, and what it accepts.

Three packages hold the same functions: ``reference`` (NumPy, any float dtype), ``cpu`` (Numba, float32) and
``cuda`` (float32, float16, bfloat16). The array decides: NumPy arrays go to ``cpu``, CuPy arrays to ``cuda``, unless
`use_backend` says otherwise. Only this file imports `nnk.kernels`; kernels do not validate, so dtype and device are
checked here.

Where NUMBA_ENABLE_CUDASIM=1 is set, CUDA kernels run in Numba's simulator, on NumPy arrays: ``use_backend("cuda")``
then sends NumPy arrays to ``cuda``, so that networks can be tested without a GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

try:
    from nnk.kernels import shapes
except ModuleNotFoundError as error:
    if error.name != "nnk.kernels":
        raise
    raise ModuleNotFoundError(
        f"nnk.kernels is missing: Python found {os.path.dirname(__file__)}, a checkout that is not installed. Run "
        "'python -m pip install -e .' in its root, or start Python from another folder to use an installed nnk",
        name="nnk.kernels",
    ) from error

__all__ = [
    "as_array",
    "as_dtype",
    "asarray_on",
    "channels_last",
    "check_device",
    "concatenate",
    "contiguous",
    "cuda_problem",
    "device_of",
    "empty_cache",
    "get_num_threads",
    "get_precision",
    "gpu",
    "is_float",
    "kernels",
    "memory_order",
    "named_dtype",
    "of",
    "on_gpu",
    "ones",
    "require_cuda",
    "set_num_threads",
    "set_precision",
    "shapes",
    "synchronize",
    "use_backend",
    "work_alone",
]

BACKENDS = ("reference", "cpu", "cuda")
PRECISIONS = ("highest", "high", "medium")
_FLOAT32 = np.dtype(np.float32)
_HALVES = ("float16", "bfloat16")


class _Thread(threading.local):
    forced: str | None = None


_thread = _Thread()
_loaded: dict[str, ModuleType] = {}
_precision = "high"


def of(x: Any, *others: Any) -> ModuleType:
    """Return the kernels that compute on `x`: a module with the functions of `nnk.kernels.ops`.

    `others` are arrays (or None) that go into the same call: they must share dtype and device with `x`, but for float32
    parameters beside 16-bit arrays on "cuda".
    Raises TypeError on a dtype that the backend does not take, on mixed dtypes and on mixed devices.
    """
    dtype = x.dtype
    on_host = type(x) is np.ndarray
    name = _thread.forced
    if name is None:
        name = "cpu" if on_host else "cuda"
    elif on_host is (name == "cuda") and not (on_host and _simulated()):
        raise TypeError(f"the input is on {device_of(x)!r}, but use_backend({name!r}) is in force")
    if dtype != _FLOAT32 and not _takes(name, dtype):
        raise TypeError(_refused(dtype, name))
    for other in others:
        if other is not None and (other.dtype != dtype or type(other) is not type(x)):
            if type(other) is type(x) and other.dtype == _FLOAT32 and dtype.name in _HALVES and name == "cuda":
                continue  # mixed precision
            raise TypeError(_mixed(x, other))
    return _loaded.get(name) or _load(name)


def _takes(name: str, dtype: np.dtype) -> bool:
    """Whether a backend takes a dtype other than float32."""
    return dtype.kind == "f" if name == "reference" else name == "cuda" and dtype.name in _HALVES


def _load(name: str) -> ModuleType:
    _loaded[name] = kernels(name)
    return _loaded[name]


def kernels(name: str) -> ModuleType:
    """Import a module of `nnk.kernels` by name, as in ``kernels("ops").OPS``."""
    return importlib.import_module(f"nnk.kernels.{name}")


def _mixed(x: Any, other: Any) -> str:
    here, there = device_of(x), device_of(other)
    if here != there:
        differ, remedy = f"on {here!r}, but {{}} is on {there!r}", f"model.to({here!r})"
    else:
        differ = f"{x.dtype}, but {{}} holds {other.dtype}"
        remedy = f"model.to({str(x.dtype)!r}) or x.astype({str(other.dtype)!r})"
    return f"the input is {differ.format('the module or an argument beside it')}: bring them together with {remedy}"


def _refused(dtype: np.dtype, name: str) -> str:
    if not is_float(dtype):
        return f"the input has dtype {dtype}, expected a float: convert it first, as in x.astype(np.float32)"
    expected = "float32, float16 or bfloat16" if name == "cuda" else "float32"
    return (
        f"the input has dtype {dtype}, expected {expected} on the {name!r} backend: convert it with "
        'x.astype(np.float32), or compute in NumPy with nnk.use_backend("reference")'
    )


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute with one backend, "reference", "cpu" or "cuda", inside the block and in this Python thread only.

    Raises ValueError on another name and RuntimeError on "cuda" where no GPU can be used.
    """
    if name not in BACKENDS:
        raise ValueError(f"name is {name!r}, expected one of {BACKENDS}")
    if name == "cuda" and not _simulated():
        require_cuda()
    before, _thread.forced = _thread.forced, name
    try:
        yield
    finally:
        _thread.forced = before


def as_array(x: Any) -> Any:
    """Return `x` as a plain array on its device, without a copy where possible.

    NumPy and CuPy arrays stay as they are. Anything with an array interface, on the CPU or the GPU, or DLPack (PyTorch,
    JAX, …) is seen through it. Python numbers and nested lists become arrays, floats among them float32.
    Raises TypeError when `x` cannot be read as an array of numbers.
    """
    if type(x) is np.ndarray:
        # Kernels count in whole elements; a field of a packed record is the one array that does not.
        return x if x.flags.aligned else x.copy()
    if _is_cupy(x):
        return x
    # PyTorch refuses to export a tensor that requires a gradient; nnk keeps its own.
    source = x.detach() if hasattr(x, "detach") else x
    try:
        if hasattr(source, "__cuda_array_interface__"):
            return importlib.import_module("cupy").asarray(source)
        if hasattr(source, "__dlpack__") and not hasattr(source, "__array__"):
            array = np.from_dlpack(source)
        else:
            array = np.asarray(source)
    except Exception as error:
        raise TypeError(f"cannot read a {_type_name(x)} as an array: {error}") from error
    if array.dtype.kind not in "biu" and not is_float(array.dtype):
        raise TypeError(f"cannot read a {_type_name(x)} as an array of numbers: its dtype would be {array.dtype}")
    if type(x) in (float, list, tuple) and array.dtype == np.float64:
        array = array.astype(_FLOAT32)
    return array if array.flags.aligned else array.copy()


def channels_last(x: Any) -> Any:
    """Return the images `x` (N, C, H, W) in the memory order that kernels use, `x` itself where they are.

    A module that reads its input again in backward calls this first, so that the conversion happens once.
    """
    layout = _layout(x)
    return x if layout is None else layout.channels_last(x)


def contiguous(x: Any) -> Any:
    """Return `x` in C order, itself if it is, else a copy."""
    if x.flags.c_contiguous:
        return x
    layout = _layout(x)
    return x.copy(order="C") if layout is None else layout.contiguous(x)


def concatenate(arrays: list[Any], axis: int) -> Any:
    """Return the arrays side by side along `axis`, images in the memory order that kernels use."""
    first, layout = arrays[0], _layout(arrays[0])
    if layout is None or first.ndim != 4:
        return np.concatenate(arrays, axis)
    shape = list(first.shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    return np.concatenate(arrays, axis, out=layout.empty_image(*shape, first.dtype))


def _layout(x: Any) -> ModuleType | None:
    """The helpers of the kernels that compute on `x`, which put copies where those have their memory, or None."""
    forced = _thread.forced
    if type(x) is not np.ndarray or forced == "cuda":
        return _loaded.get("cuda._layout") or _load("cuda._layout")
    if x.dtype == _FLOAT32 and forced != "reference":
        return _loaded.get("cpu._layout") or _load("cpu._layout")
    return None


def is_float(dtype: np.dtype) -> bool:
    """Return whether numbers of this dtype are floats; bfloat16, from ml_dtypes, is one to nobody else."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def as_dtype(dtype: Any, name: str = "dtype") -> np.dtype:
    """Return a float dtype, float32 for None. Raises TypeError on anything else, naming the argument `name`."""
    try:
        result = np.dtype(np.float32 if dtype is None else dtype)
    except TypeError as error:
        raise TypeError(f"{name} is {dtype!r}, expected a NumPy float dtype such as np.float32") from error
    if not is_float(result):
        raise TypeError(f"{name} is {result}, expected a float dtype such as np.float32")
    return result


def named_dtype(name: str) -> np.dtype:
    """Return the dtype called "float32", "float16" or "bfloat16"; ImportError where the last needs ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError as error:
        raise ImportError("bfloat16 is a dtype of ml_dtypes: python -m pip install ml_dtypes") from error


def device_of(x: Any) -> str:
    """Return "cuda" for a CuPy array, else "cpu"."""
    return "cuda" if _is_cupy(x) else "cpu"


def check_device(device: str | None) -> str:
    """Return "cpu" (also for None) or "cuda"; raise ValueError on another name, RuntimeError without a GPU."""
    if device is None or device == "cpu":
        return "cpu"
    if device == "cuda":
        require_cuda()
        return "cuda"
    raise ValueError(f"device is {device!r}, expected 'cpu' or 'cuda'")


def on_gpu(x: Any) -> bool:
    """Return whether to look at a number of `x` is to wait for a GPU: it is there, or the simulator computes."""
    return _is_cupy(x) or _thread.forced == "cuda"


def asarray_on(x: Any, device: str) -> Any:
    """Return the array `x` on `device`, itself if it is there already, else a copy in the same memory order."""
    if device_of(x) == device:
        return x
    move = importlib.import_module("cupy").asarray if device == "cuda" else _get
    order = memory_order(x)
    if order is None:
        return move(x)
    return move(x.transpose(order)).transpose(np.argsort(order).tolist())  # CuPy would make it C-contiguous


def memory_order(x: Any) -> tuple[int, ...] | None:
    """Return the order of axes, outermost first, in which `x` lies in memory without gaps, None if there are gaps."""
    return kernels("strides").memory_order(x.shape, x.strides, x.itemsize)


def _get(x: Any) -> np.ndarray:
    return x.get()


def ones(shape: tuple[int, ...], dtype: np.dtype, device: str) -> Any:
    """Return an array of ones on `device`."""
    return importlib.import_module("cupy" if device == "cuda" else "numpy").ones(shape, dtype)


def require_cuda() -> None:
    """Raise RuntimeError unless nnk can compute on a GPU, saying what is missing."""
    missing = cuda_problem()
    if missing:
        raise RuntimeError(f"CUDA cannot be used: {missing}")


def cuda_problem() -> str | None:
    """Return what keeps nnk from computing on a GPU and what to do about it, or None."""
    try:
        simulated = kernels("cuda._numba").SIMULATED
    except ImportError as error:  # numba-cuda, which says so itself
        return str(error)
    if simulated:
        return 'NUMBA_ENABLE_CUDASIM=1 is set: nnk.use_backend("cuda") runs kernels in the simulator, on NumPy arrays'
    for name in ("cuda.bindings.driver", "cuda.bindings.nvjitlink", "cupy"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            title = "CuPy" if name == "cupy" else name
            return (
                f"{title} cannot be imported ({error}): python -m pip install 'nnk[cuda13]' (or 'nnk[cuda12]' for a "
                "driver of CUDA 12)"
            )
    runtime = importlib.import_module("cupy").cuda.runtime
    try:
        return None if runtime.getDeviceCount() else "CuPy finds no GPU"
    except runtime.CUDARuntimeError as error:
        return f"CuPy finds no GPU ({error})"


def gpu() -> tuple[str, str]:
    """Return the name and compute capability of the current GPU, and the CUDA version that its driver runs."""
    cupy = importlib.import_module("cupy")
    number = cupy.cuda.Device().id
    name = cupy.cuda.runtime.getDeviceProperties(number)["name"].decode()
    capability, runs = cupy.cuda.Device(number).compute_capability, cupy.cuda.runtime.driverGetVersion()
    return f"{name}, compute capability {capability[:-1]}.{capability[-1]}", f"{runs // 1000}.{runs % 1000 // 10}"


def _simulated() -> bool:
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0") and kernels("cuda._numba").SIMULATED


def synchronize() -> None:
    """Wait until the GPU has done what it was asked for; without one there is nothing to wait for."""
    if "cupy" in sys.modules:
        sys.modules["cupy"].cuda.Device().synchronize()


def set_num_threads(n: int) -> None:
    """Let the CPU kernels run on `n` threads, in the whole process; the default is ``NNK_NUM_THREADS`` or all cores.

    More threads than cores are capped with a warning. Raises TypeError or ValueError unless `n` is an int of at
    least 1.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"n is {n!r}, expected an int of at least 1")
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1 thread")
    kernels("cpu._driver").set_num_threads(int(n))


def get_num_threads() -> int:
    """Return the number of threads that the CPU kernels run on."""
    return kernels("cpu._driver").get_num_threads()


def set_precision(precision: str) -> None:
    """Say how far kernels may trade exactness for speed, in the whole process; the default is "high".

    "highest" is strict float32. "high" computes 3x3 convolutions by Winograd's F(4x4) on the CPU, and on a GPU all
    convolutions (but depthwise ones) and linear layers in TF32: factors rounded to 11 bits, sums in float32. "medium"
    rounds them to bfloat16's 8 bits on a GPU and is the same as "high" on the CPU. GPUs before compute capability 8.0
    compute float32 arrays in float32.

    On the CPU the relative RMS error of a convolution and of its gradients, against float64, is at most 1e-5 in "high"
    and 2e-6 in "highest", whatever the shape: it grows with the number of channels, and from 32 to 512 of them was
    measured at 1e-6 to 5e-6 and 2e-7 to 8e-7. On a GPU a result is off by at most 1e-6 of the sum of its products'
    absolute values in "highest", by 2**-10 of that in "high" and 2**-7 in "medium", where the relative RMS error on
    random numbers is 3e-4 and 2.3e-3.
    Raises ValueError on another name.
    """
    global _precision
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, expected one of {PRECISIONS}")
    _precision = precision


def get_precision() -> str:
    """Return what `set_precision` has set."""
    return _precision


def work_alone() -> None:
    """Let CPU kernels called from this Python thread, which has called none yet, run on it alone.

    For threads that make something ready beside the one that trains: if both woke all cores, they would wait for each
    other.
    """
    kernels("cpu._thread").work_alone()


def empty_cache() -> None:
    """Give the memory that is kept for later outputs, by the CPU kernels and by CuPy, back to the system."""
    # Unless they were imported there is nothing to give back, and importing Numba for that takes a while.
    if "cpu" in _loaded:
        kernels("cpu._memory").empty_cache()
    if "cuda" in _loaded and "cupy" in sys.modules:
        cupy = sys.modules["cupy"]
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()


def _is_cupy(x: Any) -> bool:
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def _type_name(x: Any) -> str:
    kind = type(x)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
