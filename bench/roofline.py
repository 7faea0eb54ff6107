"""The limits of this machine, now: how fast memory is copied, how many multiply-adds its registers do.

    python bench/roofline.py        with one thread up to all cores
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import types

from nnk.kernels.cpu._blocks import blocks, pointwise
from nnk.kernels.cpu._driver import INT, PTR, job
from nnk.kernels.cpu._ir import L, at, fma, i64, load, store
from nnk.kernels.cpu._memory import empty
from nnk.kernels.cpu._stream import streams
from nnk.kernels.cpu._tile import for_range
from nnk.kernels.cpu.simd import emits, vload_n

COPIED = 1 << 25  # floats: 128 MB, more than caches hold
CHAINS = 24 if L == 16 else 12  # independent sums that fit the registers and hide the latency of an FMA
STEPS = 200_000
_PITCH = 2 * CHAINS * L  # floats of a thread's operands and sums, cache lines of its own


@dataclass(frozen=True)
class Roofline:
    """Bytes per second of a copy (read and written bytes both count), FLOPs per second of FMAs on registers."""

    bandwidth: float
    peak: float

    def __str__(self) -> str:
        return f"copy {self.bandwidth / 1e9:.1f} GB/s, FMA peak {self.peak / 1e9:.0f} GFLOP/s"


@pointwise(x=PTR)
def _copy_blocks(a, i, n):
    return vload_n(a.x, i, n)


@emits(types.void, types.int64, types.int64)
def _chains(b, steps, p):
    """CHAINS sums of steps products each, from and to memory only at the ends."""
    x, y = load(b, at(b, p, i64(0))), load(b, at(b, p, i64(L)))
    places = [at(b, p, i64((i + 2) * L)) for i in range(CHAINS)]
    sums = for_range(b, steps, [load(b, place) for place in places], lambda _, held: [fma(b, x, y, s) for s in held])
    for place, s in zip(places, sums):
        store(b, s, place)


@job(p=PTR, pitch=INT, steps=INT)
def _fma_chains(first, last, thread, a):
    for j in range(first, last):
        _chains(a.steps, a.p + 4 * j * a.pitch)


def measure(threads: int, *, samples: int = 7, floats: int = COPIED, steps: int = STEPS) -> Roofline:
    """The best of some samples each: a limit is what the machine can do when left alone."""
    x, y, operands = np.ones(floats, np.float32), empty((floats,)), np.ones(threads * _PITCH, np.float32)
    arrays = {"x": x, "y": y, "n": floats, "past_caches": streams(y)}
    copy = _fastest(lambda: _copy_blocks(blocks(floats), threads=threads, **arrays), samples)
    fmas = _fastest(lambda: _fma_chains(threads, threads=threads, p=operands, pitch=_PITCH, steps=steps), samples)
    return Roofline(bandwidth=8 * floats / copy, peak=threads * steps * CHAINS * 2 * L / fmas)


def _fastest(function: Callable[[], None], samples: int) -> float:
    function()
    best = np.inf
    for _ in range(samples):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    for n in range(1, os.cpu_count() + 1):
        print(f"{n} threads: {measure(n)}")
