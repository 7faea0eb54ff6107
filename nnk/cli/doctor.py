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
CUDA_PACKAGES = (
    "cupy-cuda13x", "cupy-cuda12x", "cupy", "numba-cuda", "cuda-bindings", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12",
    "nvidia-nvjitlink", "nvidia-nvjitlink-cu12",
)  # fmt: skip
FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: none."""


def run(args: argparse.Namespace) -> int:
    """Print the findings; the exit code is 1 if an operation fails."""
    for title, value in _machine():
        print(f"{title:<14} {value}", flush=True)
    print("\noperations, each against the float64 reference (compiling what is not in the cache yet)")
    missing = backend.cuda_problem()
    if missing:
        print(f"not on a GPU: {missing}")
    ops = backend.kernels("ops").OPS
    width = max(len(op.name) for op in ops)
    print(f"{'operation':<{width}}  {'cpu':<6}  {'error / allowed':<20}  {'cuda':<6}  error / allowed")
    failed = 0
    for op in ops:
        right, detail = _check(op, "cpu")
        shown = f"{op.name:<{width}}  {'ok' if right else 'FAILED':<6}  {detail:<20}"
        if missing:
            shown += "  -"
        else:
            right_there, detail = _check(op, "cuda")
            shown += f"  {'ok' if right_there else 'FAILED':<6}  {detail}"
            right = right and right_there
        failed += not right
        print(shown, flush=True)
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
    yield "tuned", _tuned()


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
    found = ", ".join(f"{name} {_version(name)}" for name in CUDA_PACKAGES if _version(name)[0] != "(")
    problem = backend.cuda_problem()
    if problem:
        return f"{found or 'no CUDA packages'}; {problem}"
    device, runs = backend.gpu()
    return f"{device}; driver of CUDA {runs}; {found}"


def _tuned() -> str:
    if backend.cuda_problem():
        return "nothing without a GPU"
    chooser, tuning = backend.kernels("cuda._chooser"), backend.kernels("cuda._tuning")
    device = chooser.device()
    rows = len(chooser.stored(device))
    return f"{rows} shapes in {tuning.path(tuning.device_name(device))}" if rows else "no, nnk tune does that"


def _check(op, device: str) -> tuple[bool, str]:
    """Run the op's first case on a device: whether all results are right, and the worst of them."""

    def send(x):
        return backend.asarray_on(x, device)

    def fetch(x):
        return backend.asarray_on(x, "cpu")

    try:
        kernels, compare = backend.kernels(device), backend.kernels("parity").compare
        errors = compare(op.suite, op.suite.cases[0], kernels, send=send, fetch=fetch)
    except Exception as error:  # a self-test reports whatever breaks and goes on to the next
        return False, f"{type(error).__name__}: {error}"
    worst = max(errors, key=errors.get)
    return errors[worst] <= 1, f"{errors[worst]:.2g} ({worst})"
