"""From the start of a process to the end of the first training step, against PyTorch.

    python bench/startup.py [--threads N] [--quick] [--out FILE]

Whole programs are timed, in turns: `first_step_nnk.py` with all kernels on disk and with none, `first_step_torch.py`,
and what they cannot avoid, importing NumPy or PyTorch. They train the digits network on 32 random images.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import record
import report
from harness import Timing, interleave

HERE = Path(__file__).parent
SAMPLES = 7
QUICK_SAMPLES = 3
# Seconds on two cores that a run may take at most, by the names of `programs`.
TARGETS = {"nnk, kernels on disk": 1.5, "nnk, nothing on disk": 15.0}


def programs(threads: int, kernels: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name; compiled kernels are kept below the folder `kernels`."""

    def program(*command: str, **settings: str) -> Callable[[], object]:
        environment = {**os.environ, "NNK_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), **settings}
        run = {"env": environment, "stdout": subprocess.DEVNULL, "check": True}
        return lambda: subprocess.run([sys.executable, *command], **run)

    def without_kernels() -> None:
        with tempfile.TemporaryDirectory(dir=kernels) as empty:
            program(str(HERE / "first_step_nnk.py"), NUMBA_CACHE_DIR=empty)()

    found = {
        "import numpy": program("-c", "import numpy"),
        "nnk, kernels on disk": program(str(HERE / "first_step_nnk.py"), NUMBA_CACHE_DIR=str(kernels)),
        "nnk, nothing on disk": without_kernels,
    }
    if find_spec("torch"):
        found |= {
            "import torch": program("-c", "import torch"),
            "torch": program(str(HERE / "first_step_torch.py")),
        }
    return found


def table(timings: dict[str, Timing]) -> report.Table:
    """Seconds of every program, beside PyTorch's and the target."""
    lines = [["to the end of the first step", "s", "p20 - p80", "/ torch", "target, s", ""]]
    for name, timing in timings.items():
        target = TARGETS.get(name)
        lines.append([
            name,
            f"{timing.median:.2f}",
            f"{timing.p20:.2f} - {timing.p80:.2f}",
            f"{timing.median / timings['torch'].median:.2f}" if "torch" in timings else "",
            f"{target:g}" if target else "",
            ("pass" if timing.median <= target else "miss") if target else "",
        ])
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the programs, print the table; a complete run is kept in ``bench/results/startup.json``."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python bench/startup.py", description="Time the way to the first step.")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of both libraries (default: all cores)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES} samples instead of {SAMPLES}")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON (default of a complete run: bench/results/)")
    options = parser.parse_args(arguments)
    samples = QUICK_SAMPLES if options.quick else SAMPLES
    with tempfile.TemporaryDirectory() as kernels:
        timings = interleave(programs(options.threads or os.cpu_count(), Path(kernels)), seconds=0, least=samples)
    print(report.text(table(timings)))
    complete = not options.quick and options.threads is None
    out = options.out or (record.RESULTS / "startup.json" if complete else None)
    if out is not None:
        command = shlex.join(["python", "bench/startup.py", *arguments])
        seconds = {name: asdict(timing) for name, timing in timings.items()}
        record.write(out, record.record(command, [], {}, seconds=seconds))
        print(f"written to {out}")


if __name__ == "__main__":
    main()
