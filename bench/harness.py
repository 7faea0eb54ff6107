"""How things are timed here, and how results are kept.

Machines are shared, clocks move, memory bandwidth belongs to all cores: **an absolute time is not a result.** What can
be trusted is a ratio between things measured side by side. So everything that is compared takes turns in one process,
sample by sample, and each row says which part of this machine's own limits it reached: copy bandwidth and FMA peak,
measured in the same run (`roofline.py`).

Thread pools of different libraries spin against each other for a while after their last call. Before its own sample
each function therefore gets some quiet and an untimed run to wake its threads.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from roofline import Roofline

from nnk.kernels.cpu import _driver, simd

QUIET = 3e-3  # seconds for the other library's threads to go to sleep
SHORTEST = 5e-4  # seconds of a sample: quicker functions are called several times in each
FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bf16", "amx-bf16", "neon", "sve")


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median of the samples and the range that holds the middle three fifths."""

    median: float
    p20: float
    p80: float
    samples: int


@dataclass(frozen=True)
class Row:
    """One function on one shape: our time, the peers', and what the call must spend at least."""

    name: str
    shape: str
    bytes: int
    flops: int
    ours: Timing
    peers: dict[str, Timing] = field(default_factory=dict)

    @property
    def best_peer(self) -> str | None:
        return min(self.peers, key=lambda name: self.peers[name].median, default=None)

    @property
    def ratio(self) -> float | None:
        """Our time over the best peer's: lower is better."""
        return self.ours.median / self.peers[self.best_peer].median if self.peers else None

    def share(self, roofline: Roofline) -> float:
        """The time that bandwidth and FMA peak allow over ours; above 1 where caches hold the data."""
        return max(self.bytes / roofline.bandwidth, self.flops / roofline.peak) / self.ours.median


def interleave(
    functions: Mapping[str, Callable[[], object]], *, seconds: float = 1.0, least: int = 9, most: int = 60
) -> dict[str, Timing]:
    """Time functions in turns: at least `least` samples of each, more for up to `seconds` in all, at most `most`."""
    calls = {name: _calls_per_sample(function) for name, function in functions.items()}
    samples: dict[str, list[float]] = {name: [] for name in functions}
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for taken in range(most):
            if taken >= least and time.perf_counter() - start > seconds:
                break
            for name, function in functions.items():
                if len(functions) > 1:
                    time.sleep(QUIET)
                _run(function, calls[name])
                samples[name].append(_run(function, calls[name]))
    finally:
        if collecting:
            gc.enable()
    return {name: _summary(values) for name, values in samples.items()}


def _run(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def _calls_per_sample(function: Callable[[], object]) -> int:
    function()  # the first call compiles
    return max(1, round(SHORTEST / max(_run(function, 1), 1e-7)))


def _summary(samples: Sequence[float]) -> Timing:
    p20, median, p80 = np.percentile(samples, (20, 50, 80))
    return Timing(float(median), float(p20), float(p80), len(samples))


# ---------------------------------------------------------------- the table
_COLUMNS = f"{'':30}{'':22}{'ms':>10}{'p20 - p80':>20}{'GB/s':>8}{'GFLOP/s':>9}{'roof':>7}{'peer ms':>10}{'ratio':>7}"


def header() -> str:
    """The names of `line`'s columns: `roof` is the share of the roofline, `ratio` our time over the peer's."""
    return _COLUMNS


def line(row: Row, roofline: Roofline) -> str:
    """A row of the table."""
    ours = row.ours
    spread = f"{1e3 * ours.p20:.3f} - {1e3 * ours.p80:.3f}"
    text = f"{row.name:30}{row.shape:22}{1e3 * ours.median:10.3f}{spread:>20}{row.bytes / ours.median / 1e9:8.1f}"
    text += f"{row.flops / ours.median / 1e9:9.1f}{row.share(roofline):7.0%}"
    if row.peers:
        text += f"{1e3 * row.peers[row.best_peer].median:10.3f}{row.ratio:7.2f}  {row.best_peer}"
    return text


# ---------------------------------------------------------------- the record
def record(rows: Sequence[Row], roofline: Roofline) -> dict[str, Any]:
    """Everything that a later reader needs to judge the rows, as JSON takes it."""
    return {
        "command": shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "threads": _driver.get_num_threads(),
        "threading_layer": _driver.threading_layer(),
        "roofline": {"copy_gb_per_s": roofline.bandwidth / 1e9, "fma_gflop_per_s": roofline.peak / 1e9},
        "rows": [
            {
                "function": row.name,
                "shape": row.shape,
                "bytes": row.bytes,
                "flops": row.flops,
                "ours": vars(row.ours),
                "peers": {name: vars(timing) for name, timing in row.peers.items()},
                "ratio": row.ratio,
                "roofline_share": row.share(roofline),
            }
            for row in rows
        ],
    }


def write(path: Path, content: dict[str, Any]) -> None:
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
    for package in ("nnk", "numpy", "numba", "llvmlite", "torch"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
