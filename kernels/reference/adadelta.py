"""Adadelta: steps as large as the steps before them, so that no rate has to be chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._gradient import gradient

Arrays = Sequence[np.ndarray]


def adadelta(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    acc_deltas: Arrays,
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step for all parameters, in place: with gradient g (from `_gradient.py`)

        v ← ρ v + (1 - ρ) g²
        d = √(u + ε) / √(v + ε) · g
        u ← ρ u + (1 - ρ) d²
        θ ← θ - lr · d

    square_avgs are the v, acc_deltas the u. Source: Zeiler (2012), arXiv:1212.5701, algorithm 1.
    """
    if skip:
        return
    for param, g, v, u in zip(params, grads, square_avgs, acc_deltas):
        g = gradient(param, g, maximize, weight_decay, l1, grad_scale, clip_value)
        v *= rho
        v += (1 - rho) * g * g
        d = np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u *= rho
        u += (1 - rho) * d * d
        param -= lr * d
