"""Compiling all kernels ahead, in several processes: within one, Numba compiles one function at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module

from ..ops import OPS
from . import _cache
from ._compile import Native, natives
from ._driver import get_num_threads

_MOST_PROCESSES = 8  # each takes some 200 MB


def every() -> list[Native]:
    """All that is compiled for the operations of the registry: importing their files declares it."""
    for op in OPS:
        import_module(f".{op.file}", __package__)
    return [native for native in natives if native.is_kept]


def missing() -> list[Native]:
    """What is not on disk yet, the longest functions first."""
    absent = [native for native in every() if _cache.read(native.name) is None]
    return sorted(absent, key=lambda native: len(native.function.__code__.co_code), reverse=True)


def warm(report: Callable[[str], None]) -> None:
    """Compile what is missing; `report` hears each name when it is done."""
    todo = {native.name: native for native in missing()}
    processes = min(get_num_threads(), len(todo), _MOST_PROCESSES)
    if processes > 1:
        # Where processes cannot be started, or one is killed, what is left is compiled here.
        with contextlib.suppress(OSError, BrokenProcessPool):
            for name in _in_processes(list(todo), processes):
                del todo[name]
                report(name)
    for name, native in todo.items():
        native.prepare()
        report(name)


def _in_processes(names, processes):
    context = multiprocessing.get_context("spawn")
    ignore_ctrl_c = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    executor = ProcessPoolExecutor(processes, context, **ignore_ctrl_c)
    try:
        started = {executor.submit(_prepare, name): name for name in names}
        for future in as_completed(started):
            future.result()
            yield started[future]
    finally:
        executor.shutdown(cancel_futures=True)


def _prepare(name: str) -> None:
    next(native for native in every() if native.name == name).prepare()
