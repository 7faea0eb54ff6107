"""RMSprop: the gradient divided by the root of its running mean square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._gradient import gradient

Arrays = Sequence[np.ndarray]


def rmsprop(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    buffers: Arrays | None = None,
    grad_avgs: Arrays | None = None,
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step for all parameters, in place: with gradient g (from `_gradient.py`)

        v ← α v + (1 - α) g²
        m ← m + (1 - α) (g - m)                        only with `grad_avgs` (centered)
        d = g / (√(v - m²) + ε)                        without them √v
        b ← momentum · b + d,   d = b                  only with `buffers`
        θ ← θ - lr · d

    square_avgs are the v, grad_avgs the m, buffers the b. v - m² is a variance: where rounding makes it negative it
    counts as 0. Sources: Tieleman and Hinton (2012), Neural networks for machine learning, lecture 6.5; Graves (2013),
    arXiv:1308.0850, eqs. 38 to 45, for the centered form; torch.optim.RMSprop (ε is outside the root).
    """
    if skip:
        return
    none = [None] * len(params)
    for param, g, v, b, m in zip(params, grads, square_avgs, buffers or none, grad_avgs or none):
        g = gradient(param, g, maximize, weight_decay, l1, grad_scale, clip_value)
        v *= alpha
        v += (1 - alpha) * g * g
        variance = v
        if m is not None:
            m += (1 - alpha) * (g - m)
            variance = np.maximum(v - m * m, 0)
        d = g / (np.sqrt(variance) + eps)
        if b is not None:
            b *= momentum
            b += d
            d = b
        param -= lr * d
