"""Where a training step spends its time: in kernels, in the Python that calls them, and around.

    python bench/step_profile.py NETWORK [--batch N] [--optimizer NAME] [--threads N] [--steps N] [--shapes]

An operation's time is split in two: `kernel` inside compiled code, `call` in the function around it, which finds memory
and packs arguments. What is in no operation is spent by nnk's modules and optimisers, and by NumPy.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import report
from workload import BATCHES, OPTIMIZERS, Workload

import nnk
from nnk.kernels import cpu, ops
from nnk.kernels.cpu import _driver

WARM_STEPS = 3


@dataclass
class Spent:
    """Calls of an operation, seconds in it, and those of them inside compiled code."""

    calls: int = 0
    seconds: float = 0.0
    kernel: float = 0.0


@contextmanager
def watched(spent: dict[str, Spent], shapes: bool) -> Iterator[None]:
    """Let the clock run around every operation and every entry into compiled code in the block."""
    inside: list[Spent] = []

    def operation(name: str, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            entry = spent[f"{name} {_shapes(args)}" if shapes else name]
            inside.append(entry)
            start = time.perf_counter()
            result = function(*args, **kwargs)
            entry.seconds += time.perf_counter() - start
            entry.calls += 1
            inside.pop()
            return result

        return call

    def compiled(driver: Callable) -> Callable:
        def run(*args: Any) -> None:
            start = time.perf_counter()
            driver(*args)
            if inside:
                inside[-1].kernel += time.perf_counter() - start

        return run

    functions = {name: getattr(cpu, name) for op in ops.OPS for name in op.functions}
    drivers = dict(_driver._drivers)
    try:
        for name, function in functions.items():
            setattr(cpu, name, operation(name, function))
        _driver._drivers.update({kind: compiled(driver) for kind, driver in drivers.items()})
        yield
    finally:
        _driver._drivers.update(drivers)
        for name, function in functions.items():
            setattr(cpu, name, function)


def _shapes(args: Sequence[Any]) -> str:
    return " ".join("×".join(map(str, arg.shape)) for arg in args[:2] if hasattr(arg, "shape"))


def profile(step: Callable[[], float], steps: int, shapes: bool) -> report.Table:
    """The table of what some steps spent on average, after a few that warm up."""
    for _ in range(WARM_STEPS):
        step()
    spent: dict[str, Spent] = defaultdict(Spent)
    with watched(spent, shapes):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        whole = time.perf_counter() - start
    table = [["operation", "calls", "ms", "kernel", "call", "share"]]
    for name, entry in sorted(spent.items(), key=lambda item: -item[1].seconds):
        table.append(_line(name, entry, steps, whole))
    total = Spent(*(sum(getattr(e, field) for e in spent.values()) for field in ("calls", "seconds", "kernel")))
    around = Spent(0, whole - total.seconds, 0.0)
    return [*table, _line("all operations", total, steps, whole), _line("around them", around, steps, whole)]


def _line(name: str, entry: Spent, steps: int, whole: float) -> list[str]:
    times = [f"{1e3 * s / steps:.3f}" for s in (entry.seconds, entry.kernel, entry.seconds - entry.kernel)]
    return [name, f"{entry.calls / steps:g}", *times, f"{entry.seconds / whole:.1%}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Profile one workload."""
    parser = argparse.ArgumentParser(prog="python bench/step_profile.py", description="Where a step's time goes.")
    parser.add_argument("network", choices=BATCHES)
    parser.add_argument("--batch", type=int, metavar="N", help="images (default: as in cpu_step.py)")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="SGD")
    parser.add_argument("--threads", type=int, metavar="N", help="default: all cores")
    parser.add_argument("--steps", type=int, default=20, metavar="N")
    parser.add_argument("--shapes", action="store_true", help="each operation by the shapes of its arrays")
    options = parser.parse_args(arguments)
    if options.threads:
        nnk.set_num_threads(options.threads)
    workload = Workload(options.network, options.batch or BATCHES[options.network][0], options.optimizer)
    print(f"{workload.name}, {nnk.get_num_threads()} threads")
    print(report.text(profile(workload.start("nnk"), options.steps, options.shapes)))


if __name__ == "__main__":
    main()
