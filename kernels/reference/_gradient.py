"""What every optimiser does to a gradient before its own formula.

    g ← clip(±grad_scale · g, ±clip_value) + weight_decay · θ + l1 · sign(θ)

The sign is - to maximise, and a clip_value of 0 clips nothing. The last two terms are the gradients of the penalties
weight_decay/2 · Σθ² and l1 · Σ|θ|. `grad_scale` is there for gradients of a loss that was scaled, and for those that
are clipped by their norm: to scale them here saves a pass over them.

Every optimiser also takes `skip`, a 0-d array: unless it is None or holds 0, the update is left out and nothing
changes, whatever the gradients are.
"""

from __future__ import annotations

import numpy as np


def gradient(
    param: np.ndarray,
    g: np.ndarray,
    maximize: bool,
    weight_decay: float,
    l1: float,
    grad_scale: float,
    clip_value: float,
) -> np.ndarray:
    """The gradient that the optimiser's formula starts from."""
    g = (-grad_scale if maximize else grad_scale) * g
    if clip_value:
        g = np.clip(g, -clip_value, clip_value)
    if weight_decay:
        g = g + weight_decay * param
    if l1:
        g = g + l1 * np.sign(param)
    return g
