"""How things are timed here.

Machines are shared, clocks move, memory bandwidth belongs to all cores: **an absolute time is not a result.** What can
be trusted is a ratio between things measured side by side. So everything that is compared takes turns in one process,
sample by sample, and each row says which part of this machine's own limits it reached: copy bandwidth and FMA peak,
measured in the same run (`roofline.py`).

Thread pools of different libraries spin against each other for a while after their last call. Before its own sample
each function therefore gets some quiet and an untimed run to wake its threads, unless it is so long that waking is
nothing beside it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from roofline import Roofline

QUIET = 3e-3  # seconds for the other library's threads to go to sleep
SHORTEST = 5e-4  # seconds of a sample: quicker functions are called several times in each
LONG = 0.2  # seconds from which a function wakes its own threads


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median of the samples and the range that holds the middle three fifths."""

    median: float
    p20: float
    p80: float
    samples: int


class Comparison:
    """What has our time as `ours` and that of peers by name as `peers`."""

    ours: Timing
    peers: dict[str, Timing]

    def best(self, library: str | None = "torch") -> str | None:
        """The name of a library's fastest way; None is all libraries."""
        ways = [name for name in self.peers if library in (None, name.split()[0])]
        return min(ways, key=lambda name: self.peers[name].median, default=None)

    def ratio(self, library: str | None = "torch") -> float | None:
        """Our time over the library's best, None is all libraries: lower is better."""
        best = self.best(library)
        return None if best is None else self.ours.median / self.peers[best].median


@dataclass(frozen=True)
class Row(Comparison):
    """One function on one shape: our time, the peers', and what the call must spend at least.

    `group` is a class of `targets.py`. Peers are named library first, then how it was used: "torch channels_last".
    """

    group: str
    name: str
    shape: str
    threads: int
    bytes: int
    flops: int
    ours: Timing
    peers: dict[str, Timing] = field(default_factory=dict)

    def share(self, limits: Roofline) -> float:
        """The time that bandwidth and FMA peak allow over ours; above 1 where caches hold the data."""
        return max(self.bytes / limits.bandwidth, self.flops / limits.peak) / self.ours.median


class Budget:
    """Gives each of so many measurements an equal part of the time that is left."""

    def __init__(self, seconds: float, parts: int):
        self._end, self._parts = time.perf_counter() + seconds, parts

    def share(self) -> float:
        """Seconds for the next measurement."""
        left = max(0.0, self._end - time.perf_counter()) / max(1, self._parts)
        self._parts -= 1
        return left


def interleave(
    functions: Mapping[str, Callable[[], object]], *, seconds: float, least: int = 5, most: int = 60
) -> dict[str, Timing]:
    """Time functions in turns: at least `least` samples of each, more for up to `seconds` in all, at most `most`."""
    start = time.perf_counter()
    lengths: dict[str, float] = {}
    samples: dict[str, list[float]] = {}
    for name, function in functions.items():
        function()  # compiles, fills caches and pools
        lengths[name] = max(_run(function, 1), 1e-7)
        samples[name] = [lengths[name]] if lengths[name] >= LONG else []
    collecting = gc.isenabled()
    gc.disable()
    try:
        while (taken := min(map(len, samples.values()))) < most:
            if taken >= least and time.perf_counter() - start > seconds:
                break
            for name, function in functions.items():
                calls = max(1, round(SHORTEST / lengths[name]))
                if len(functions) > 1:
                    time.sleep(QUIET)
                if lengths[name] < LONG:
                    _run(function, calls)
                samples[name].append(_run(function, calls))
    finally:
        if collecting:
            gc.enable()
    return {name: summary(values) for name, values in samples.items()}


def _run(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def summary(samples: Sequence[float]) -> Timing:
    """The timing of some samples."""
    p20, median, p80 = np.percentile(samples, (20, 50, 80))
    return Timing(float(median), float(p20), float(p80), len(samples))
