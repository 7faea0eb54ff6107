"""Batch normalisation, forward and backward, with batch statistics or with running ones.

Over the m values x_i of one channel (all axes but 1 of (N, C) or (N, C, H, W)):

    μ = (1/m) Σ x_i        σ² = (1/m) Σ (x_i - μ)²        x̂_i = (x_i - μ) s,   s = (σ² + ε)^(-1/2)
    y_i = γ x̂_i + β                                                                γ weight, β bias

**Backward, the full chain.** μ and σ² depend on every x_i, so the gradient reaches x_i on three paths:

    ∂L/∂x̂_i = γ dy_i
    ∂L/∂σ²  = Σ_j ∂L/∂x̂_j · (x_j - μ) · (-1/2) s³
    ∂L/∂μ   = Σ_j ∂L/∂x̂_j · (-s)  +  ∂L/∂σ² · (1/m) Σ_j -2 (x_j - μ)
    ∂L/∂x_i = ∂L/∂x̂_i · s  +  ∂L/∂σ² · 2 (x_i - μ) / m  +  ∂L/∂μ / m
    ∂L/∂γ   = Σ_j dy_j x̂_j            ∂L/∂β = Σ_j dy_j

**Collapsed.** The last sum in ∂L/∂μ is zero, since the deviations from a mean add up to nothing. What is left
are the two sums that γ and β need anyway. With dγ = ∂L/∂γ, dβ = ∂L/∂β and x_j - μ = x̂_j / s,

    ∂L/∂σ² = -(1/2) γ s² dγ            ∂L/∂μ = -γ s dβ
    ∂L/∂x_i = γ s dy_i - γ s x̂_i dγ / m - γ s dβ / m  =  γ s (dy_i - dβ / m - x̂_i dγ / m)

so one pass for two sums and one pass for dx do. With running statistics, μ and σ² are constants and only the
first path remains: dx_i = γ s dy_i.

Where weight is None γ is 1, where bias is None β is 0; their gradients are returned all the same.
Source: Ioffe and Szegedy (2015), arXiv:1502.03167, section 3 and algorithm 1; torch.nn.BatchNorm2d for
the conventions (`momentum` weighs the new value, `running_var` is unbiased).
"""

from __future__ import annotations

import numpy as np

from ._moments import Statistics, statistics_of
from ._out import deliver

Three = tuple[np.ndarray, np.ndarray, np.ndarray]


def batch_norm_train(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    *,
    momentum: float,
    eps: float,
    statistics: Statistics | None = None,
    out: Three | None = None,
) -> Three:
    """Normalise with the batch's statistics → (y, μ, s), the vectors (C,) being what the backward needs.

    `statistics` are those that `conv2d` gave beside x; without them they are taken from x. The running statistics,
    where given, move in place: running += momentum · (new - running), with the variance's new value σ² · m / (m - 1).
    An empty batch leaves them alone; its μ and σ² count as 0.
    """
    y_out, mean_out, invstd_out = out or (None, None, None)
    count, mean, squares = statistics_of(x) if statistics is None else statistics
    var = squares / max(count, 1)
    invstd = 1 / np.sqrt(var + eps)
    if count:
        for running, new in (running_mean, mean), (running_var, var * (count / (count - 1))):
            if running is not None:
                running += momentum * (new - running)
    y = _affine(_normalised(x, mean, invstd), weight, bias)
    return (
        deliver(y, y_out, x.dtype),
        deliver(mean.copy(), mean_out, x.dtype),
        deliver(invstd, invstd_out, x.dtype),
    )


def batch_norm_train_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    *,
    out: Three | None = None,
) -> Three:
    """The collapsed backward → (dx, dγ, dβ); `mean` and `invstd` come from `batch_norm_train`."""
    normalised = _normalised(x, mean, invstd)
    dbias = dy.sum(axis=_axes(dy))
    dweight = (dy * normalised).sum(axis=_axes(dy))
    m = max(_count(x), 1)
    centred = dy - _column(dbias / m, x) - normalised * _column(dweight / m, x)
    return _deliver(_affine(centred * _column(invstd, x), weight, None), dweight, dbias, out)


def batch_norm_train_backward_chain(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    *,
    out: Three | None = None,
) -> Three:
    """The full chain through ∂L/∂x̂, ∂L/∂σ² and ∂L/∂μ, line by line as in the paper → (dx, dγ, dβ)."""
    axes, m = _axes(x), max(_count(x), 1)
    deviation = x - _column(mean, x)
    dnormalised = _affine(dy, weight, None)
    dvar = (dnormalised * deviation).sum(axis=axes) * (-0.5) * invstd**3
    dmean = dnormalised.sum(axis=axes) * -invstd + dvar * (-2 * deviation).sum(axis=axes) / m
    dx = dnormalised * _column(invstd, x) + _column(dvar, x) * 2 * deviation / m + _column(dmean, x) / m
    dweight = (dy * deviation * _column(invstd, x)).sum(axis=axes)
    return _deliver(dx, dweight, dy.sum(axis=axes), out)


def batch_norm_eval(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    *,
    eps: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Normalise with the running statistics: y = γ (x - running_mean) / √(running_var + ε) + β."""
    normalised = _normalised(x, running_mean, 1 / np.sqrt(running_var + eps))
    return deliver(_affine(normalised, weight, bias), out, x.dtype)


def batch_norm_eval_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    *,
    eps: float,
    out: Three | None = None,
) -> Three:
    """The backward of `batch_norm_eval`, whose statistics are constants → (dx, dγ, dβ)."""
    invstd = 1 / np.sqrt(running_var + eps)
    dx = _affine(dy * _column(invstd, x), weight, None)
    dweight = (dy * _normalised(x, running_mean, invstd)).sum(axis=_axes(x))
    return _deliver(dx, dweight, dy.sum(axis=_axes(x)), out)


def _axes(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _count(x: np.ndarray) -> int:
    """The values per channel, m."""
    return x.size // x.shape[1]


def _column(vector: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A vector (C,) in the shape that broadcasts along x's channels."""
    return vector.reshape(-1, *(1,) * (x.ndim - 2))


def _normalised(x: np.ndarray, mean: np.ndarray, invstd: np.ndarray) -> np.ndarray:
    return (x - _column(mean, x)) * _column(invstd, x)


def _affine(x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None) -> np.ndarray:
    if weight is not None:
        x = x * _column(weight, x)
    return x if bias is None else x + _column(bias, x)


def _deliver(dx: np.ndarray, dweight: np.ndarray, dbias: np.ndarray, out: Three | None) -> Three:
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    return (
        deliver(dx, dx_out, dx.dtype),
        deliver(dweight, dweight_out, dx.dtype),
        deliver(dbias, dbias_out, dx.dtype),
    )
