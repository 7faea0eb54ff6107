"""From PTX to machine code: nvJitLink, and what to say where the parts of CUDA do not fit together.

Nothing here needs a driver or a GPU.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# CUDA 13 ships NVVM in a package of its own, CUDA 12 with the compiler.
_NVVM, _LINKER = ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12"), ("nvidia-nvjitlink", "nvidia-nvjitlink-cu12")


def arch(capability: tuple) -> str:
    """As compilers write it: (9, 0, "a") is sm_90a."""
    return "sm_" + "".join(map(str, capability))


def link(modules: Sequence[str], capability: tuple) -> tuple[bytes, str]:
    """Machine code of PTX texts together, and what the assembler says of registers and spills."""
    linker = nvjitlink()
    options = [f"-arch={arch(capability)}", "-verbose"]
    handle = linker.create(len(options), options)
    try:
        for number, module in enumerate(modules):
            text = module.encode()
            linker.add_data(handle, linker.InputType.PTX, text, len(text), f"module {number}")
        linker.complete(handle)
        code = bytearray(linker.get_linked_cubin_size(handle))
        linker.get_linked_cubin(handle, code)
        log = bytearray(linker.get_info_log_size(handle))
        linker.get_info_log(handle, log)
    except linker.nvJitLinkError as error:
        log = bytearray(linker.get_error_log_size(handle))
        linker.get_error_log(handle, log)
        raise RuntimeError(
            f"nvJitLink {_dotted(linker.version())} could not assemble PTX {_ptx_version(modules[0])} for "
            f"{arch(capability)}: {_text(log).strip()} ({error}). The PTX was written by NVVM "
            f"({', '.join(installed(*_NVVM))}); if nvJitLink does not know that version: {mend(*linker.version())}"
        ) from error
    finally:
        linker.destroy(handle)
    return bytes(code), _text(log)


def mend(major: int, minor: int) -> str:
    """The command that installs what compiles for a driver or linker of this CUDA version."""
    nvvm, linker = ("nvvm", _LINKER[0]) if major >= 13 else ("nvcc", _LINKER[1])
    toolkit = f"'cuda-toolkit[{nvvm},nvrtc]=={major}.{minor}.*'"
    return f"python -m pip install 'nnk[cuda{major}]' {toolkit} '{linker}=={major}.{minor}.*'"


def too_new(driver: int) -> str:
    """What to say of machine code that a driver, by the number of its CUDA version, does not take."""
    major, minor = driver // 1000, driver % 1000 // 10
    return (
        f"; the driver runs CUDA {major}.{minor}, the code was made by nvJitLink {_dotted(nvjitlink().version())}. If "
        f"that is too new: {mend(major, minor)}"
    )


def made_by() -> list[str]:
    """The versions of everything between a Python function and its machine code."""
    toolkit = os.path.realpath(os.environ.get("CUDA_HOME") or "/usr/local/cuda")  # where NVVM may come from instead
    packages = installed("numba", "numba-cuda", "llvmlite", *_NVVM)
    return [*packages, f"nvJitLink {_dotted(nvjitlink().version())}", toolkit]


def installed(*names: str) -> list[str]:
    """The packages among these that pip knows, with their versions."""

    def of(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return ""

    return list(filter(None, map(of, names))) or [f"{names[0]} not from pip"]


@functools.cache
def nvjitlink() -> Any:
    """The linker's bindings."""
    linker = binding("nvjitlink")
    try:
        linker.version()
    except Exception as error:  # each version of the bindings has its own
        raise ImportError(
            f"nnk's CUDA kernels need nvJitLink, which cannot be loaded ({error}); found are "
            f"{', '.join(installed('cuda-bindings', *_LINKER))}: python -m pip install 'nnk[cuda13]'"
        ) from error
    return linker


def binding(name: str) -> Any:
    """A module of cuda.bindings."""
    try:
        return import_module(f"cuda.bindings.{name}")
    except ImportError as error:
        raise ImportError(
            f"nnk's CUDA kernels need cuda.bindings.{name}, which cannot be imported ({error}); found are "
            f"{', '.join(installed('cuda-bindings', 'numba-cuda'))}: python -m pip install 'nnk[cuda13]' (or "
            "'nnk[cuda12]' for a driver of CUDA 12)"
        ) from error


def _ptx_version(ptx: str) -> str:
    found = re.search(r"\.version (\S+)", ptx)
    return found.group(1) if found else "of no version"


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _text(log: bytearray) -> str:
    return log.decode().rstrip("\0")
