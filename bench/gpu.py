"""The GPU under measurement, and how times are taken on it.

    flush │ mark  call of A  mark │ flush │ mark  call of B  mark │ … wait

Everything that is compared takes turns in one process, sample by sample, on one stream. Before each call a gigabyte is
written: the cache is then cold, and while the device is busy with that, the host queues the call and both events, so
that the time between them is the device's alone. The host's own time for a call is measured apart (`queue`). Calls get
a number and take turns among several sets of inputs.

This file imports CuPy and Numba's CUDA only when a `Gpu` is made.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from harness import Timing, summary

FLUSHED = 1 << 30  # bytes
COPIED = 1 << 29  # bytes, more than caches hold
PRODUCT = 8192  # rows and columns of the matrices whose product is the matmul rate
QUEUED = 20  # calls in a row that stand in the queue at once

PRECISIONS = {"highest": "float32", "tf32": "float32", "float16": "float16", "bfloat16": "bfloat16"}
"""The matmul rates that are measured, each with the dtype in memory."""

Numbered = Callable[[int], object]


@dataclass(frozen=True)
class Limits:
    """Bytes per second of a copy (read and written bytes both count), FLOPs per second of products by precision."""

    copy: float
    matmul: Mapping[str, float]

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate / 1e12:.1f}" for name, rate in self.matmul.items())
        return f"copy {self.copy / 1e9:.0f} GB/s; products, TFLOP/s: {rates or 'not measured'}"

    def least(self, size: int, flops: int, precision: str) -> float:
        """Seconds that so many bytes and FLOPs take at these limits; where a rate was not measured, the bytes alone."""
        return max(size / self.copy, flops / self.matmul.get(precision, np.inf))


class Clock:
    """Takes times on a device that has `mark`, `seconds`, `flush` and `wait`."""

    def interleave(self, calls: Mapping[str, Numbered], samples: int, cold: bool = True) -> dict[str, Timing]:
        """Seconds of each call on the device; with `cold` nothing is in its cache before."""
        marks: dict[str, list] = {name: [] for name in calls}
        for call in calls.values():
            call(0)  # compiles, fills pools
            call(1)
        self.wait()
        collecting = gc.isenabled()
        gc.disable()
        try:
            for number in range(samples):
                for name, call in calls.items():
                    if cold:
                        self.flush()
                    start = self.mark()
                    call(number)
                    marks[name].append((start, self.mark()))
                self.wait()
        finally:
            if collecting:
                gc.enable()
        return {name: summary([self.seconds(*pair) for pair in pairs]) for name, pairs in marks.items()}

    def queue(self, call: Numbered, repeats: int = 5) -> float:
        """Seconds of the host for a call, without waiting for the device: the median of some runs of many calls."""
        taken = []
        for _ in range(repeats):
            self.wait()
            start = time.perf_counter()
            for number in range(QUEUED):
                call(number)
            taken.append((time.perf_counter() - start) / QUEUED)
        self.wait()
        return float(np.median(taken))

    def best(self, call: Numbered, samples: int) -> float:
        """The shortest time of a call: a limit is what the machine can do when left alone."""
        call(0)
        taken = []
        for number in range(samples):
            self.flush()
            start = self.mark()
            call(number)
            taken.append((start, self.mark()))
        self.wait()
        return min(self.seconds(*pair) for pair in taken)


class Gpu(Clock):
    """The current CUDA device: CuPy's arrays and events, nnk's kernels. PyTorch queues on the same stream."""

    device = "cuda"  # PyTorch's name of it

    def __init__(self):
        self.xp: ModuleType = import_module("cupy")
        self.kernels: ModuleType = import_module("nnk.kernels.cuda")
        free, _ = self.xp.cuda.runtime.memGetInfo()
        self._flushed = self.xp.empty(min(FLUSHED, free // 16), np.uint8)

    # ------------------------------------------------------------ the clock
    def mark(self) -> Any:
        """A point in the queue."""
        event = self.xp.cuda.Event()
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        """Between two points that have passed."""
        return self.xp.cuda.get_elapsed_time(start, end) / 1e3

    def flush(self) -> None:
        """Fill the cache with something else."""
        self._flushed.data.memset_async(0, self._flushed.nbytes)

    def wait(self) -> None:
        """Until the queue is empty; raises what went wrong in it."""
        self.xp.cuda.get_current_stream().synchronize()

    def nothing(self) -> Numbered:
        """A launch of one block that does nothing."""
        launch = import_module("nnk.kernels.cuda.launch")
        x = self.xp.empty(1, np.float32)

        @launch.kernel(block=32, x=launch.F32, y=launch.F32, n=launch.INT, a=launch.FLOAT)
        def nothing(x, y, n, a):
            pass

        return lambda _: nothing(1, x, x, 1, 0.0)

    # ------------------------------------------------------------ memory
    def dtypes(self) -> list[str]:
        """The dtypes of arrays that can be made here: bfloat16 needs CuPy 14 and ml_dtypes."""
        newer = int(self.xp.__version__.split(".")[0]) >= 14 and find_spec("ml_dtypes") is not None
        return ["float32", "float16", *(["bfloat16"] if newer else [])]

    def array(self, values: np.ndarray) -> Any:
        """A copy on the device, images channels-last."""
        if values.ndim != 4:
            return self.xp.array(values, order="C")
        return self.xp.array(values.transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2)

    def normal(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Random normal values made on the device, C-contiguous."""
        x = self.xp.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        if dtype == "bfloat16":  # the upper halves of the bits
            return (x.view(np.uint32) >> 16).astype(np.uint16).view(numpy_dtype(dtype))
        return x.astype(dtype, copy=False)

    def free(self) -> None:
        """Give memory that nobody uses back to the device, so that one library does not starve the other."""
        gc.collect()
        self.xp.get_default_memory_pool().free_all_blocks()
        if find_spec("torch"):
            import_module("torch").cuda.empty_cache()

    def tensor_cores(self, dtype: str, precision: str) -> bool:
        """Whether the backend takes products of arrays of this dtype there, in nnk's `precision`."""
        arithmetic = import_module("nnk.kernels.cuda._arithmetic")
        return arithmetic.factors(numpy_dtype(dtype), precision, arithmetic.capability()) is not None

    def rungs(self, calls: Mapping[str, Numbered]) -> dict[str, dict[str, Numbered]]:
        """Calls of convolutions by each kernel of the ladder, whichever would be chosen; those that it can make."""
        chooser = import_module("nnk.kernels.cuda._chooser")
        return {name: able for name in chooser.PRODUCTS if (able := {
            function: held for function, call in calls.items() if (held := Rung(name, chooser).holding(call))
        })}

    def available(self) -> int:
        """Bytes that nobody holds, no library's pool either."""
        return self.xp.cuda.runtime.memGetInfo()[0]

    # ------------------------------------------------------------ what it is and what it can
    def facts(self) -> dict[str, Any]:
        """The device and its driver."""
        runtime = self.xp.cuda.runtime
        found = runtime.getDeviceProperties(runtime.getDevice())
        return {
            "gpu": found["name"].decode(),
            "capability": f"{found['major']}.{found['minor']}",
            "multiprocessors": found["multiProcessorCount"],
            "memory_gb": round(found["totalGlobalMem"] / 1e9, 1),
            "l2_mb": round(found["l2CacheSize"] / 1e6, 1),
            "driver_cuda": runtime.driverGetVersion(),
            "runtime_cuda": runtime.runtimeGetVersion(),
        }

    def limits(self) -> Limits:
        """What this device copies and multiplies now; products by PyTorch, none where it is missing."""
        source, target = self.xp.ones(COPIED, np.uint8), self.xp.empty(COPIED, np.uint8)
        copy = self.best(lambda _: target.data.copy_from_device_async(source.data, COPIED), 10)
        rates = {}
        if find_spec("torch"):
            torch = import_module("torch")
            for precision, dtype in PRECISIONS.items():
                torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
                a, b = (torch.randn(PRODUCT, PRODUCT, device="cuda").to(getattr(torch, dtype)) for _ in range(2))
                rates[precision] = 2 * PRODUCT**3 / self.best(lambda _, a=a, b=b: a @ b, 5)
            torch.set_float32_matmul_precision("highest")
        return Limits(2 * COPIED / copy, rates)


class Rung:
    """Stands in the place of a tuned table: of all candidates the first of one kernel."""

    def __init__(self, name: str, chooser: Any):
        self.name, self.chooser, self.missed = name, chooser, False

    def get(self, work: tuple) -> tuple | None:
        """The kernel and its tile for a work; None where it cannot do that."""
        candidates = self.chooser.candidates(self.chooser.Work(*work), self.chooser._arithmetic.capability())
        found = next((one for one in candidates if one[0] == self.name), None)
        self.missed |= found is None
        return found

    def holding(self, call: Numbered) -> Numbered | None:
        """The call with this kernel alone; None where it cannot make all of it."""

        def held(number: int) -> object:
            tables, device = self.chooser._tables, self.chooser.device()
            before = self.chooser.load(device)
            tables[device] = self
            try:
                return call(number)
            finally:
                tables[device] = before

        held(0)
        return None if self.missed else held


def in_turns(calls: Sequence[Callable[[], object]]) -> Numbered:
    """One call of them all, of which the number takes one."""
    return lambda number: calls[number % len(calls)]()


def numpy_dtype(dtype: str) -> np.dtype:
    """The dtype of this name, bfloat16 too."""
    if dtype == "bfloat16":
        return np.dtype(import_module("ml_dtypes").bfloat16)
    return np.dtype(dtype)


def precision_of(dtype: str) -> str:
    """The matmul rate that arithmetic on this dtype is held against, where nothing says TF32."""
    return "highest" if dtype == "float32" else dtype
