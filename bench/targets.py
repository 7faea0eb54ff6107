"""What the CPU kernels are to reach: our time over PyTorch's at the better of its two memory formats.

Rows are judged per class, function and number of threads: by the geometric mean over the shapes, and by the worst
shape.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from harness import Row


@dataclass(frozen=True)
class Target:
    """The geometric mean to reach, and the ratio that no shape may exceed."""

    mean: float
    worst: float


CONV_3X3 = "3×3 convolution"  # of stride 1, on maps of 8×8 and more, with 32 channels and more
CONV_3X3_HIGHEST = "3×3 convolution, highest"
CONV_OTHER = "other convolution"
CONV_DEPTHWISE = "depthwise convolution"
BATCH_NORM_RELU = "batch norm + ReLU"
BATCH_NORM_SUM_RELU = "batch norm + sum + ReLU"
MAX_POOL = "max pool"
MAX_POOL_BACKWARD = "max pool, backward"
ACTIVATION = "activation"
CROSS_ENTROPY = "softmax cross-entropy"
OPTIMISER = "optimiser, 11 M floats"
OTHER = "other operation"
STEP = "training step"
INFERENCE = "inference"

# The order is that of the tables. INFERENCE and OTHER are measured, without a target.
TARGETS = {
    STEP: Target(0.60, 0.75),
    CONV_3X3: Target(0.55, 0.80),
    CONV_3X3_HIGHEST: Target(0.75, 0.95),
    CONV_OTHER: Target(0.95, 1.10),
    CONV_DEPTHWISE: Target(0.60, 0.90),
    BATCH_NORM_RELU: Target(0.60, 0.80),
    BATCH_NORM_SUM_RELU: Target(0.60, 0.80),
    MAX_POOL: Target(0.20, 1.0),
    MAX_POOL_BACKWARD: Target(0.80, 1.0),
    ACTIVATION: Target(1.0, 1.1),
    CROSS_ENTROPY: Target(0.7, 1.0),
    OPTIMISER: Target(0.95, 1.0),
}


@dataclass(frozen=True)
class Verdict:
    """One function of a class on so many threads, over all shapes that were measured beside a peer."""

    group: str
    name: str
    threads: int
    count: int
    mean: float
    worst: float
    worst_shape: str

    @property
    def target(self) -> Target | None:
        return TARGETS.get(self.group)

    @property
    def passed(self) -> bool | None:
        """Whether both targets are met; None where there is none."""
        return self.target and self.mean <= self.target.mean and self.worst <= self.target.worst


def judge(rows: Iterable[Row], library: str = "torch") -> list[Verdict]:
    """The verdicts on rows, in the order of `TARGETS`; rows without that peer say nothing."""
    order = {group: i for i, group in enumerate(TARGETS)}

    def place(row: Row) -> tuple:
        return order.get(row.group, len(order)), row.group, row.name, row.threads

    verdicts = []
    judged = sorted((row for row in rows if row.best(library)), key=place)
    for (_, group, name, threads), same in itertools.groupby(judged, key=place):
        ratios = {row.shape: row.ratio(library) for row in same}
        worst = max(ratios, key=ratios.get)
        mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
        verdicts.append(Verdict(group, name, threads, len(ratios), mean, ratios[worst], worst))
    return verdicts
