"""Which CUDA kernels there are to compile ahead, for a GPU that need not be there; see `kernels/warming.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from .. import warming
from ._link import arch
from ._resources import declared
from .launch import Kernel, current_device, device_capability, store

Build = tuple[Kernel, str, tuple]


def capability_here() -> tuple[int, int]:
    """The compute capability of the current device."""
    return device_capability(current_device())


def every(capability: tuple[int, int], dtypes: Sequence[str]) -> list[Build]:
    """The kernels that run on this compute capability, by storage dtype."""
    return [
        (kernel, dtype, (*capability, kernel.arch[-1]) if kernel.arch else capability)
        for kernel in declared()
        for dtype in kernel.dtypes
        if (dtype in dtypes or kernel.dtypes == ("float32",))
        and capability >= ((8, 0) if dtype == "bfloat16" else kernel.least)
        and (not kernel.arch or kernel.arch[:-1] == arch(capability))
    ]


def name_of(build: Build) -> str:
    """As progress shows it."""
    kernel, dtype, capability = build
    return f"{kernel.file}.{kernel.name} {dtype} {arch(capability)}"


def missing(capability: tuple[int, int], dtypes: Sequence[str]) -> list[Build]:
    """What is not on disk yet, the longest functions first."""
    absent = [build for build in every(capability, dtypes) if store.read(build[0].stored_as(*build[1:])) is None]
    return sorted(absent, key=lambda build: len(build[0].function.__code__.co_code), reverse=True)


def warm(report: Callable[[str], None], capability: tuple[int, int], dtypes: Sequence[str]) -> None:
    """Compile what is missing; `report` hears each name when it is done. Needs no GPU."""
    todo = {name_of((kernel, *rest)): lambda kernel=kernel, rest=rest: kernel.cubin(*rest)
            for kernel, *rest in missing(capability, dtypes)}  # fmt: skip
    warming.warm(todo, _prepare, os.cpu_count() or 1, report)


def _prepare(name: str) -> None:
    _, dtype, architecture = name.split()
    capability = int(architecture[3:].rstrip("a")[:-1]), int(architecture.rstrip("a")[-1])
    kernel, *rest = next(build for build in every(capability, (dtype,)) if name_of(build) == name)
    kernel.cubin(*rest)
