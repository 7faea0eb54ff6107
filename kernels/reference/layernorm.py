"""Layer normalisation: over the last axes of x, those of `normalized_shape`, for each position in the axes before.

    μ = (1/m) Σ x_i        σ² = (1/m) Σ (x_i - μ)²        x̂_i = (x_i - μ) s,   s = (σ² + ε)^(-1/2)
    y_i = γ_i x̂_i + β_i                                    γ weight, β bias: one number per normalised position i

**Backward.** As in batch normalisation, with the last axes in the place of the batch: with g_i = γ_i dy_i,

    ∂L/∂x_i = s (g_i - (1/m) Σ_j g_j - x̂_i (1/m) Σ_j g_j x̂_j)
    ∂L/∂γ_i = Σ dy_i x̂_i,   ∂L/∂β_i = Σ dy_i        over all positions in the axes before

Where weight is None γ is 1, where bias is None β is 0; their gradients are returned all the same. No values have
μ = 0 and σ² = 0.
Source: Ba, Kiros and Hinton (2016), arXiv:1607.06450, equations 3 and 4; torch.nn.LayerNorm for ε and the axes.
"""

from __future__ import annotations

import numpy as np

from ._moments import moments, normalised_gradient
from ._out import deliver

Three = tuple[np.ndarray, np.ndarray, np.ndarray]


def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    out: Three | None = None,
) -> Three:
    """Normalise → (y, μ, σ²), the statistics being what the backward needs: their shape is that of the axes before."""
    y_out, mean_out, var_out = out or (None, None, None)
    leading = x.ndim - len(normalized_shape)
    mean, var = moments(x, tuple(range(leading, x.ndim)))
    y = (x - mean) / np.sqrt(var + eps)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return (
        deliver(y, y_out, x.dtype),
        deliver(mean.reshape(x.shape[:leading]), mean_out, x.dtype),
        deliver(var.reshape(x.shape[:leading]), var_out, x.dtype),
    )


def layer_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    out: Three | None = None,
) -> Three:
    """The backward → (dx, dγ, dβ); `mean` and `var` come from `layer_norm`."""
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    leading = mean.ndim
    statistics = (*mean.shape, *(1,) * len(normalized_shape))
    invstd = (1 / np.sqrt(var + eps)).reshape(statistics)
    normalised = (x - mean.reshape(statistics)) * invstd
    dnormalised = dy if weight is None else dy * weight
    dx = normalised_gradient(dnormalised, normalised, invstd, tuple(range(leading, x.ndim)))
    before = tuple(range(leading))
    return (
        deliver(dx, dx_out, x.dtype),
        deliver((dy * normalised).sum(axis=before), dweight_out, x.dtype),
        deliver(dy.sum(axis=before), dbias_out, x.dtype),
    )
