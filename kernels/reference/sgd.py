"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._gradient import gradient


def sgd(
    params: Sequence[np.ndarray],
    grads: Sequence[np.ndarray],
    buffers: Sequence[np.ndarray] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step for all parameters, in place: with gradient g (from `_gradient.py`), buffer b and parameter θ

        b ← momentum · b + (1 - dampening) · g          b ← g at the `first` step
        g ← g + momentum · b if nesterov, else b
        θ ← θ - lr · g

    `buffers` is None when momentum is 0; then the first two lines fall away. grads[i] and buffers[i] have
    the shape of params[i]. Sources: Polyak (1964); Sutskever et al. (2013) for Nesterov's form;
    torch.optim.SGD (conventions).
    """
    if skip:
        return
    for i, (param, g) in enumerate(zip(params, grads)):
        g = gradient(param, g, maximize, weight_decay, l1, grad_scale, clip_value)
        if buffers is not None:
            buffers[i][...] = g if first else momentum * buffers[i] + (1 - dampening) * g
            g = g + momentum * buffers[i] if nesterov else buffers[i]
        param -= lr * g
