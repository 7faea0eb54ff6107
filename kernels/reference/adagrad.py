"""Adagrad: each parameter's rate falls with the sum of its squared gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._gradient import gradient

Arrays = Sequence[np.ndarray]


def adagrad(
    params: Arrays,
    grads: Arrays,
    state_sums: Arrays,
    *,
    lr: float,
    lr_decay: float = 0.0,
    eps: float,
    step: int,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step (number `step`, from 1) for all parameters, in place: with gradient g (from `_gradient.py`)

        s ← s + g²
        θ ← θ - lr / (1 + (step - 1) · lr_decay) · g / (√s + ε)

    state_sums are the s. Source: Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12, figure 1 with diagonal matrices; torch.optim.Adagrad (conventions).
    """
    if skip:
        return
    for param, g, s in zip(params, grads, state_sums):
        g = gradient(param, g, maximize, weight_decay, l1, grad_scale, clip_value)
        s += g * g
        param -= lr / (1 + (step - 1) * lr_decay) * g / (np.sqrt(s) + eps)
