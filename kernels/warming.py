"""Compiling kernels ahead, in several processes: within one, Numba compiles one function at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool


def warm(
    todo: Mapping[str, Callable[[], object]], prepare: Callable[[str], None], processes: int,
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Compile what `todo` names; `report` hears each name when it is done.

    `prepare(name)`, a function of a module, does so in another process; `todo[name]()` in this one. What cannot be
    compiled raises its error when all the rest is done.
    """
    left, processes = dict(todo), min(processes, len(todo))
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
    error = None
    try:
        started = {executor.submit(prepare, name): name for name in names}
        for future in as_completed(started):
            if isinstance(future.exception(), BrokenProcessPool):
                raise future.exception()
            error = error or future.exception()
            if not future.exception():
                yield started[future]
        if error:
            raise error
    finally:
        executor.shutdown(cancel_futures=True)
