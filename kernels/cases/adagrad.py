"""Adagrad over parameters of odd sizes, some steps in a row."""

from __future__ import annotations

from ._optimizer import positive, suite

adagrad = suite(
    "adagrad",
    {"state_sums": positive},
    {"plain": {}, "lr_decay": {"lr_decay": 0.3, "first_step": 5}, "eps": {"eps": 0.1, "lr": 1.0}},
    {"11 M": {}},
    counts_steps=True,
    lr=0.05,
    eps=1e-10,
)
