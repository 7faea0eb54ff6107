"""Whole training steps against PyTorch: forward, loss, backward, optimiser, through the public API of each library.

    python bench/cpu_step.py [--only TEXT ...] [--threads N ...] [--quick] [--out FILE]

PyTorch runs eagerly with its fused optimisers, in both memory formats. JAX joins where it is installed, with SGD and
all cores. Everyone starts from the same weights, and their losses must agree. Peak memory is that of a process each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import numpy as np
import peak_memory
import targets
from harness import Budget, Row, interleave
from session import Session
from workload import WORKLOADS, Workload

MINUTES = 10
TIMED = 0.7  # of the minutes; the other processes and JAX's compiler take the rest
QUICK = ("resnet20, 32 images, SGD", "digits_cnn, 64 images, Adam")
AGREEMENT = (1e-4, 1e-2, 3e-2)  # of the losses of the first steps: they drift apart, as rounding errors grow


def measure(workload: Workload, session: Session, budget: Budget) -> Iterator[Row]:
    """Time a workload's steps with every number of threads, in turns with its peers."""
    peers = [] if session.peers is None else [f"torch {layout}" for layout in session.peers.FORMATS]
    if find_spec("jax") and workload.optimizer == "SGD":
        peers.append("jax")
    session.use(max(session.threads))
    steps = {library: workload.start(library) for library in ["nnk", *peers]}
    losses = {library: [step() for _ in AGREEMENT] for library, step in steps.items()}
    for library in peers:
        if not np.all(np.abs(np.divide(losses["nnk"], losses[library]) - 1) < AGREEMENT):
            raise RuntimeError(f"{workload.name}: losses {losses['nnk']} in nnk, {losses[library]} in {library}")
    for threads in session.threads:
        session.use(threads)
        taking_part = {name: step for name, step in steps.items() if name != "jax" or threads == os.cpu_count()}
        timings = interleave(taking_part, seconds=budget.share(), least=3)
        yield Row(targets.STEP, workload.network, workload.name, threads, 0, 0, timings.pop("nnk"), timings)


def memory(workload: Workload, row: Row) -> dict[str, object]:
    """Peak memory of the step in this row: ours, and each peer's the way it was fastest."""
    libraries = ["nnk", *(row.best(library) for library in dict.fromkeys(name.split()[0] for name in row.peers))]
    peaks = {library.split()[0]: peak_memory.of(workload, library, row.threads) for library in libraries}
    return {"shape": workload.name, "threads": row.threads, "bytes": peaks}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the steps; print every ratio, then each network beside its target, then peak memory."""
    with Session("cpu_step", "Time training steps against PyTorch.", MINUTES, WORKLOADS, QUICK, arguments) as session:
        budget = session.budget(len(session.labels) * len(session.threads), TIMED)
        peaks = session.more["peak_memory"] = []
        for workload in map(WORKLOADS.get, session.labels):
            for row in measure(workload, session, budget):
                session.add(row)
            if workload.optimizer == "SGD":
                peaks.append(memory(workload, session.rows[-1]))


if __name__ == "__main__":
    main()
