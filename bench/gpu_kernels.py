"""Compiles all CUDA kernels for this machine's GPU, on all cores, so that nobody waits for them afterwards.

    python bench/gpu_kernels.py [--capability 9.0]

They are kept on disk. With --capability no GPU is needed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from nnk.kernels.cuda import launch
from nnk.kernels.cuda._resources import declared

Build = tuple[str, str, str, tuple]


def builds(capability: tuple[int, int]) -> list[Build]:
    """File, name, dtype and architecture of everything that runs there."""
    found = []
    for kernel in declared():
        if kernel.arch in (None, f"{launch.arch(capability)}a"):
            target = (*capability, "a") if kernel.arch else capability
            dtypes = [dtype for dtype in kernel.dtypes if dtype != "bfloat16" or capability >= (8, 0)]
            found += [(kernel.file, kernel.name, dtype, target) for dtype in dtypes]
    return found


def compiled(build: Build) -> str:
    """Compile one; what went wrong, or an empty text."""
    file, name, dtype, target = build
    (kernel,) = (k for k in declared((file,)) if k.name == name)
    try:
        kernel.cubin(dtype, target)
    except Exception as error:
        return f"{file}.{name} {dtype} {launch.arch(target)}: {type(error).__name__}: {error}"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile them; 1 if one could not be."""
    parser = argparse.ArgumentParser(prog="python bench/gpu_kernels.py", description="Compile all CUDA kernels.")
    parser.add_argument("--capability", type=_capability, metavar="N.N", help="default: this machine's GPU's")
    options = parser.parse_args(arguments)
    todo, start = builds(options.capability or launch.device_capability(0)), time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        problems = [problem for problem in pool.map(compiled, todo, chunksize=2) if problem]
    done = f"{len(todo) - len(problems)} of {len(todo)} kernels compiled"
    print(f"{done} in {time.monotonic() - start:.0f} s", *problems, sep="\n")
    return int(bool(problems))


def _capability(text: str) -> tuple[int, int]:
    major, dot, minor = text.partition(".")
    if not (major.isdecimal() and dot and minor.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a compute capability such as 9.0, got {text!r}")
    return int(major), int(minor)


if __name__ == "__main__":
    sys.exit(main())
