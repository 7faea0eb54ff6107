"""Adadelta over parameters of odd sizes, some steps in a row."""

from __future__ import annotations

from ._optimizer import positive, suite

adadelta = suite(
    "adadelta",
    {"square_avgs": positive, "acc_deltas": positive},
    {"plain": {}, "rho": {"rho": 0.5, "lr": 0.3}, "eps": {"eps": 0.1}},
    {"11 M": {}},
    lr=1.0,
    rho=0.9,
    eps=1e-6,
)
