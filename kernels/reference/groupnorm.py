"""Group normalisation: each sample by itself, over groups of channels and all axes behind them.

The C channels of x (N, C, *) are cut into groups of C / num_groups neighbours. Over the m values x_i of one
group of one sample:

    μ = (1/m) Σ x_i        σ² = (1/m) Σ (x_i - μ)²        x̂_i = (x_i - μ) s,   s = (σ² + ε)^(-1/2)
    y_i = γ_c x̂_i + β_c                                    γ weight, β bias: one number per channel c

One group is layer normalisation over (C, *) with weights per channel; C groups of one channel each are instance
normalisation, which is this same function.

**Backward.** As in batch normalisation, with the group in the place of the batch: with g_i = γ_c dy_i,

    ∂L/∂x_i = s (g_i - (1/m) Σ_j g_j - x̂_i (1/m) Σ_j g_j x̂_j)
    ∂L/∂γ_c = Σ dy x̂,   ∂L/∂β_c = Σ dy        over the samples and positions of channel c

Where weight is None γ is 1, where bias is None β is 0; their gradients are returned all the same. Groups without
a value have μ = 0 and σ² = 0.
Sources: Wu and He (2018), arXiv:1803.08494, equations 1 to 7; Ulyanov et al. (2016), arXiv:1607.08022, for
instance normalisation.
"""

from __future__ import annotations

import numpy as np

from ._moments import moments, normalised_gradient
from ._out import deliver

Three = tuple[np.ndarray, np.ndarray, np.ndarray]


def group_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    num_groups: int,
    eps: float,
    out: Three | None = None,
) -> Three:
    """Normalise → (y, μ, σ²), the statistics (N, num_groups) being what the backward needs."""
    y_out, mean_out, var_out = out or (None, None, None)
    groups = _groups(x, num_groups)
    mean, var = moments(groups, _axes(groups))
    y = _scaled(((groups - mean) / np.sqrt(var + eps)).reshape(x.shape), weight)
    if bias is not None:
        y = y + _column(bias, x)
    return (
        deliver(y, y_out, x.dtype),
        deliver(mean.reshape(mean.shape[:2]), mean_out, x.dtype),
        deliver(var.reshape(var.shape[:2]), var_out, x.dtype),
    )


def group_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    num_groups: int,
    eps: float,
    out: Three | None = None,
) -> Three:
    """The backward → (dx, dγ, dβ); `mean` and `var` come from `group_norm`."""
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    groups = _groups(x, num_groups)
    statistics = (*mean.shape, *(1,) * (groups.ndim - 2))
    invstd = (1 / np.sqrt(var + eps)).reshape(statistics)
    normalised = (groups - mean.reshape(statistics)) * invstd
    dnormalised = _groups(_scaled(dy, weight), num_groups)
    dx = normalised_gradient(dnormalised, normalised, invstd, _axes(groups))
    samples = (0, *range(2, x.ndim))
    return (
        deliver(dx.reshape(x.shape), dx_out, x.dtype),
        deliver((dy * normalised.reshape(x.shape)).sum(axis=samples), dweight_out, x.dtype),
        deliver(dy.sum(axis=samples), dbias_out, x.dtype),
    )


def _groups(x: np.ndarray, num_groups: int) -> np.ndarray:
    """x as (N, groups, channels of a group, *)."""
    return x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])


def _axes(groups: np.ndarray) -> tuple[int, ...]:
    """The axes of one group's values."""
    return tuple(range(2, groups.ndim))


def _column(vector: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A vector (C,) in the shape that broadcasts along x's channels."""
    return vector.reshape(-1, *(1,) * (x.ndim - 2))


def _scaled(x: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    return x if weight is None else x * _column(weight, x)
