"""``nnk doctor``: what nnk finds on this machine, and every operation against the reference."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata

import nnk
from nnk import backend

from .errors import CommandError, num_threads

PACKAGES = ("numpy", "numba", "llvmlite", "safetensors", "tqdm", "scikit-learn", "matplotlib", "torch")
FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: none."""


def run(args: argparse.Namespace) -> int:
    """Print the findings; the exit code is 1 if an operation fails."""
    for title, value in _machine():
        print(f"{title:<14} {value}", flush=True)
    print("\noperations, each against the float64 reference (compiling what is not in the cache yet)")
    failed = 0
    ops = backend.kernels("ops").OPS
    width = max(len(op.name) for op in ops)
    print(f"{'operation':<{width}}  {'cpu':<6}  error / allowed")
    for op in ops:
        passed, detail = _check(op)
        failed += not passed
        print(f"{op.name:<{width}}  {'ok' if passed else 'FAILED':<6}  {detail}", flush=True)
    if failed:
        raise CommandError(f"{failed} of {len(ops)} operations failed", code=1)
    print(f"all {len(ops)} operations pass")
    return 0


def _machine() -> Iterator[tuple[str, str]]:
    driver = backend.kernels("cpu._driver")
    yield "nnk", nnk.__version__
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    yield "system", platform.platform()
    name, features = _cpu()
    yield "cpu", f"{name}, {os.cpu_count()} cores"
    yield "simd", f"{backend.kernels('cpu.simd').L} floats wide; {' '.join(f for f in FEATURES if f in features)}"
    layer = driver.threading_layer()
    note = ": kernels of several Python threads wait for each other" if layer == "workqueue" else ""
    yield "threads", f"{num_threads()}, threading layer {layer}{note}"
    folder = backend.kernels("cpu._cache").folder()
    yield "kernel cache", str(folder or "none: no folder can be written, see nnk warmup")
    yield "gpu", _gpu()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _cpu() -> tuple[str, set[str]]:
    from llvmlite import binding

    features = {name for name, present in binding.get_host_cpu_features().items() if present}
    return binding.get_host_cpu_name(), features


def _gpu() -> str:
    cupy = next((name for name in ("cupy-cuda13x", "cupy-cuda12x", "cupy") if _version(name)[0] != "("), None)
    problem = backend.cuda_problem()
    found = f"{cupy} {_version(cupy)}" if cupy else "CuPy is not installed"
    return f"{found}; {problem}" if problem else f"{found}; ready"


def _check(op) -> tuple[bool, str]:
    """Run the op's first case on the CPU: whether all results are right, and the worst of them."""
    try:
        errors = backend.kernels("parity").compare(op.suite, op.suite.cases[0], backend.kernels("cpu"))
    except Exception as error:  # a self-test reports whatever breaks and goes on to the next
        return False, f"{type(error).__name__}: {error}"
    worst = max(errors, key=errors.get)
    return errors[worst] <= 1, f"{errors[worst]:.2g} ({worst})"
