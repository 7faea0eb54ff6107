"""Compiling kernels ahead, in several processes: within one, Numba compiles one function at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

_MOST_PROCESSES = 8  # each takes some 200 MB


def warm(
    todo: Mapping[str, Callable[[], object]], prepare: Callable[[str], None], processes: int,
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Compile what `todo` names; `report` hears each name when it is done.

    `prepare(name)`, a function of a module, does so in another process; `todo[name]()` in this one.
    """
    left, processes = dict(todo), min(processes, len(todo), _MOST_PROCESSES)
    if processes > 1:
        # Where processes cannot be started, or one is killed, what is left is compiled here.
        with contextlib.suppress(OSError, BrokenProcessPool):
            for name in in_processes(prepare, list(left), processes):
                del left[name]
                report(name)
    for name, here in left.items():
        here()
        report(name)


def in_processes(prepare: Callable[[str], None], names: Iterable[str], processes: int) -> Iterator[str]:
    """Call `prepare` on all names in other processes; yield each name when it is done."""
    context = multiprocessing.get_context("spawn")
    ignore_ctrl_c = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    executor = ProcessPoolExecutor(processes, context, **ignore_ctrl_c)
    try:
        started = {executor.submit(prepare, name): name for name in names}
        for future in as_completed(started):
            future.result()
            yield started[future]
    finally:
        executor.shutdown(cancel_futures=True)
