"""Mean and variance that survive a large mean with a small variance, and the normalised values they give."""

from __future__ import annotations

import numpy as np

Statistics = tuple[int, np.ndarray, np.ndarray]  # count, mean and sum of squared deviations of each channel


def statistics_of(x: np.ndarray) -> Statistics:
    """The statistics of the channels of x (N, C, ...)."""
    mean, var = moments(x, (0, *range(2, x.ndim)))
    count = x.size // x.shape[1]
    return count, mean.reshape(-1), count * var.reshape(-1)


def moments(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over the axes, which stay with length 1; 0 and 0 over nothing.

    A plain mean only moves the values near 0, where a second mean finds what the first one missed, and the
    variance is that of the deviations, never E[x²] - E[x]².
    """
    if not x.size:
        nothing = x.sum(axis=axes, keepdims=True)
        return nothing, nothing
    rough = x.mean(axis=axes, keepdims=True)
    moved = x - rough
    rest = moved.mean(axis=axes, keepdims=True)
    var = ((moved - rest) ** 2).mean(axis=axes, keepdims=True)
    return rough + rest, var


def normalised_gradient(
    dnormalised: np.ndarray, normalised: np.ndarray, invstd: np.ndarray, axes: tuple[int, ...]
) -> np.ndarray:
    """∂L/∂x from g = ∂L/∂x̂, with μ and σ² over these axes: s (g - mean(g) - x̂ mean(g x̂)).

    `batch_norm_train_backward_chain` derives it through ∂L/∂σ² and ∂L/∂μ; only the axes differ.
    """
    if not normalised.size:
        return dnormalised
    level = dnormalised.mean(axis=axes, keepdims=True)
    slope = (dnormalised * normalised).mean(axis=axes, keepdims=True)
    return invstd * (dnormalised - level - normalised * slope)
