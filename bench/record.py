"""What is kept of a run: everything that a later reader needs to judge its rows, as JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from harness import Row, Timing
from roofline import Roofline

from nnk.kernels.cpu import _driver, simd

PACKAGES = (
    "nnk", "numpy", "numba", "llvmlite", "torch", "jax", "triton", "numba-cuda", "cuda-bindings", "cuda-core",
    "cupy-cuda12x", "cupy-cuda13x", "nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13",
    "pytest",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"
FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bf16", "amx-bf16", "neon", "sve")


def record(command: str, rows: Sequence[Row], limits: Mapping[int, Roofline], **more: Any) -> dict[str, Any]:
    """The rows, and on which machine, with which versions and by which command they were measured."""
    return {
        **origin(command),
        "threading_layer": _driver.threading_layer(),
        "roofline": {
            threads: {"copy_gb_per_s": limit.bandwidth / 1e9, "fma_gflop_per_s": limit.peak / 1e9}
            for threads, limit in limits.items()
        },
        **more,
        "rows": [
            {**asdict(row), "ratio": row.ratio(), "roofline_share": row.share(limits[row.threads])} for row in rows
        ],
    }


def origin(command: str) -> dict[str, Any]:
    """Which command measured, when, on which machine, with which versions."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }


def rows_of(content: Mapping[str, Any]) -> list[Row]:
    """The rows of a record."""
    rows = []
    for entry in content["rows"]:
        fields = {name: value for name, value in entry.items() if name not in ("ratio", "roofline_share")}
        timings = {name: Timing(**timing) for name, timing in fields.pop("peers").items()}
        rows.append(Row(**{**fields, "ours": Timing(**fields["ours"])}, peers=timings))
    return rows


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, making the folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """The CPU's name, its cores, and what its vectors can do."""
    features = llvm.get_host_cpu_features()
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "features": [name for name in FEATURES if features.get(name)],
        "lanes": simd.L,
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for entry in info.read_text(encoding="utf-8").splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that take part, as far as installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
