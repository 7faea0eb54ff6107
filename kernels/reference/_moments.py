"""Mean and variance that survive a large mean with a small variance, and the normalised values they give."""

from __future__ import annotations

import numpy as np


def moments(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over the axes, which stay with length 1; 0 and 0 over nothing.

    A plain mean only moves the values near 0, where a second mean finds what the first one missed, and the
    variance is that of the deviations, never E[x²] - E[x]².
    """
    count = int(np.prod([x.shape[axis] for axis in axes]))
    rough = x.sum(axis=axes, keepdims=True) / max(count, 1)
    moved = x - rough
    rest = moved.sum(axis=axes, keepdims=True) / max(count, 1)
    var = ((moved - rest) ** 2).sum(axis=axes, keepdims=True) / max(count, 1)
    return rough + rest, var


def normalised_gradient(
    dnormalised: np.ndarray, normalised: np.ndarray, invstd: np.ndarray, axes: tuple[int, ...]
) -> np.ndarray:
    """∂L/∂x from g = ∂L/∂x̂, with μ and σ² over these axes: s (g - mean(g) - x̂ mean(g x̂)).

    `batch_norm_train_backward_chain` derives it through ∂L/∂σ² and ∂L/∂μ; only the axes differ.
    """
    count = max(int(np.prod([normalised.shape[axis] for axis in axes])), 1)
    level = dnormalised.sum(axis=axes, keepdims=True) / count
    slope = (dnormalised * normalised).sum(axis=axes, keepdims=True) / count
    return invstd * (dnormalised - level - normalised * slope)
