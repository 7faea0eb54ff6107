"""Random numbers: one seed, a NumPy generator for the host, a call counter for kernels that draw.

Kernels that draw (dropout, …) use Philox-4x32-10 on (seed, call, index of the element): they need the seed and a number
for the call, which counts up here. Everything else, weight initialisation for one, draws from the generator.
"""

from __future__ import annotations

import os
import secrets
import threading
from typing import Any

import numpy as np

from nnk.dials import dial

__all__ = ["generator", "get_state", "manual_seed", "next_call", "seed", "set_state"]

_lock = threading.Lock()
_seed = secrets.randbits(64)
_calls = 0
_generator = np.random.default_rng(_seed)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)  # some thread of the parent may have held it


def manual_seed(seed: int) -> None:
    """Start all of nnk's random numbers anew from `seed`, in the whole process; without it they differ in every run.

    Raises TypeError unless `seed` is an int, ValueError unless 0 <= seed < 2**64.
    """
    global _seed, _calls, _generator
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed is {seed!r}, expected an int")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}, expected 0 <= seed < 2**64")
    with _lock:
        _seed, _calls, _generator = int(seed), 0, np.random.default_rng(int(seed))


def seed() -> int:
    """Return the seed of kernels that draw."""
    return _seed


def generator() -> np.random.Generator:
    """Return the generator that initialisation and shuffling draw from."""
    return _generator


def next_call() -> tuple[int, Any]:
    """Return (seed, call) for one kernel call that draws; no two calls after a `manual_seed` get the same.

    While a step is captured, `call` is a `dial`.
    """
    return _seed, dial(_count, "int64")


def _count() -> int:
    global _calls
    with _lock:
        call = _calls
        _calls += 1
        return call


def get_state() -> dict[str, Any]:
    """Return all that is needed to go on from here, as JSON-ready ints, strings and dicts."""
    with _lock:
        return {"seed": _seed, "calls": _calls, "generator": _generator.bit_generator.state}


def set_state(state: dict[str, Any]) -> None:
    """Go on from what `get_state` returned."""
    global _seed, _calls
    with _lock:
        _seed, _calls = int(state["seed"]), int(state["calls"])
        _generator.bit_generator.state = state["generator"]
