"""All other operations against PyTorch and this machine's limits: pooling, norms, activations, losses, optimisers.

    python bench/cpu_ops.py [--only TEXT ...] [--threads N ...] [--quick] [--out FILE]

They are bound by memory: `roof` is the share of copy bandwidth. Walks the registry, on the shapes of `kernels/cases/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import contest
import numpy as np
import targets
from harness import Budget, Row, interleave
from session import Session

from nnk.kernels import parity
from nnk.kernels.cases._suite import Case, Cost
from nnk.kernels.ops import OPS, Op

MINUTES = 3
MEASURED = {op.name: op for op in OPS if op.name != "conv2d"}  # which has a bench of its own
QUICK = ("max_pool2d", "batch_norm_relu", "relu", "cross_entropy", "sgd", "adam")

ACTIVATIONS = ("activation", "exponential", "gated", "softmax", "prelu", "maxout")  # files

# Operations of which forward and backward are judged together.
PAIRS = {
    "batch_norm_relu": ("batch_norm_relu_train", "batch_norm_relu_train_backward"),
    "cross_entropy": ("cross_entropy", "cross_entropy_backward"),
}
GROUPS = {
    "max_pool2d": targets.MAX_POOL,
    "max_pool2d_backward": targets.MAX_POOL_BACKWARD,
    "cross_entropy, both ways": targets.CROSS_ENTROPY,
    "sgd": targets.OPTIMISER,
    "adam": targets.OPTIMISER,
    "adamw": targets.OPTIMISER,
    "adagrad": targets.OPTIMISER,
    "adadelta": targets.OPTIMISER,
    "rmsprop": targets.OPTIMISER,
}


def group(op: Op, name: str, inputs: Mapping[str, Any]) -> str:
    """The class of `targets.py` that a row of this op belongs to."""
    if op.file in ACTIVATIONS:
        return targets.ACTIVATION
    if name == "batch_norm_relu, both ways":
        return targets.BATCH_NORM_RELU if inputs["residual"] is None else targets.BATCH_NORM_SUM_RELU
    return GROUPS.get(name, targets.OTHER)


def rows_per_case(op: Op) -> int:
    """How many rows `measure` gives per number of threads."""
    return len(op.functions) + (op.name in PAIRS)


def measure(op: Op, case: Case, session: Session, budget: Budget) -> Iterator[Row]:
    """Time every function of an op on one case, in turns with its peers."""
    inputs = parity.make_inputs(case, np.float32)
    costs = dict(op.suite.cost(**inputs))
    sides = {"ours": contest.ours(op, inputs), **contest.theirs(op, inputs, session.peers)}
    if op.name in PAIRS:
        pair, name = PAIRS[op.name], f"{op.name}, both ways"
        costs[name] = Cost(sum(costs[f].bytes for f in pair), sum(costs[f].flops for f in pair))
        for calls in sides.values():
            calls[name] = in_a_row([calls[function] for function in pair])
    for threads in session.threads:
        session.use(threads)
        for name, cost in costs.items():
            contestants = {side: calls[name] for side, calls in sides.items()}
            timings = interleave(contestants, seconds=budget.share())
            kind = group(op, name, inputs)
            yield Row(kind, name, case.name, threads, cost.bytes, cost.flops, timings.pop("ours"), timings)


def in_a_row(calls: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """One call for all of them."""
    return lambda: [call() for call in calls]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the ops; print every ratio, then each class beside its target."""
    with Session("cpu_ops", "Time operations against PyTorch.", MINUTES, MEASURED, QUICK, arguments) as session:
        jobs = [
            (op, case)
            for op in map(MEASURED.get, session.labels)
            for case in (op.suite.bench[:1] if session.quick else op.suite.bench)
        ]
        budget = session.budget(len(session.threads) * sum(rows_per_case(op) for op, _ in jobs))
        for op, case in jobs:
            for row in measure(op, case, session, budget):
                session.add(row)


if __name__ == "__main__":
    main()
