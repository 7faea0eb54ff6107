"""RMSprop over parameters of odd sizes, some steps in a row."""

from __future__ import annotations

import numpy as np

from ._optimizer import positive, suite
from ._suite import normal

BOTH = ("buffers", "grad_avgs")


def _small(rng, shape):
    """Mean gradients whose squares are below the mean squares, as they always are."""
    return np.asarray(rng.uniform(-0.3, 0.3, shape))


rmsprop = suite(
    "rmsprop",
    {"square_avgs": positive, "buffers": normal, "grad_avgs": _small},
    {
        "plain": {"without": BOTH},
        "momentum": {"without": BOTH[1:], "momentum": 0.9},
        "centered": {"without": BOTH[:1]},
        "everything": {"momentum": 0.5, "alpha": 0.9, "eps": 0.01, "weight_decay": 0.1, "maximize": True},
    },
    {"11 M": {"without": BOTH}, "11 M, centered, momentum": {"momentum": 0.9}},
    lr=0.01,
    alpha=0.99,
    eps=1e-8,
)
