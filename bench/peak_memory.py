"""Memory that training takes, in a process of its own: a library, its threads and two steps, nothing else.

    python bench/peak_memory.py LIBRARY NETWORK BATCH OPTIMIZER      prints bytes
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from workload import Workload

STEPS = 2  # after the first there are an optimiser's states as well


def of(workload: Workload, library: str, threads: int) -> int:
    """The largest resident memory, in bytes, of a process that trains two steps."""
    command = [sys.executable, __file__, library, workload.network, str(workload.batch), workload.optimizer]
    settings = {**os.environ, "NNK_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    run = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{workload.name} in {library}: {run.stderr}")
    return int(run.stdout)


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.is_file():
        # Of this program alone. What getrusage says may be of the process that started it.
        return 1024 * next(int(entry.split()[1]) for entry in status.read_text().splitlines() if "VmHWM" in entry)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main(library: str, network: str, batch: str, optimizer: str) -> None:
    """Train, and print the peak."""
    step = Workload(network, int(batch), optimizer).start(library)
    for _ in range(STEPS):
        step()
    print(_peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
