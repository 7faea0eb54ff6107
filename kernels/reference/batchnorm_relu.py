"""Batch normalisation, an optional residual sum and ReLU as one operation.

    y = max(0, (x - μ) a + b [+ residual])            a = γ s,  b = β,  s = (σ² + ε)^(-1/2)

It is `batch_norm_train`, `add` and `relu` in a row, and its backward is theirs in reverse: ReLU lets dy through
where y > 0, which is the gradient to the residual and the dy of batch norm. `affine` (2, C) holds a and b. With
them the backward finds y again by the forward's own operations, bit for bit, so without a residual y need not be
read; with one y is given. A backend whose μ is rounded may correct b for that.

Sources: Ioffe and Szegedy (2015), arXiv:1502.03167; He et al. (2016), arXiv:1512.03385, for the sum.
"""

from __future__ import annotations

import numpy as np

from ._out import deliver
from .activation import relu, relu_backward
from .batchnorm import batch_norm_eval, batch_norm_train, batch_norm_train_backward
from .elementwise import add

Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def batch_norm_relu_train(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    residual: np.ndarray | None = None,
    *,
    momentum: float,
    eps: float,
    out: Four | None = None,
) -> Four:
    """Normalise as `batch_norm_train` does, add the residual (of x's shape), rectify → (y, μ, s, affine)."""
    y_out, mean_out, invstd_out, affine_out = out or (None, None, None, None)
    _, mean, invstd = batch_norm_train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
    scale = invstd if weight is None else weight * invstd
    affine = np.stack([scale, np.zeros_like(scale) if bias is None else bias])
    y = _output(x, mean, affine, residual)
    return (
        deliver(y, y_out, x.dtype),
        deliver(mean, mean_out, x.dtype),
        deliver(invstd, invstd_out, x.dtype),
        deliver(affine, affine_out, x.dtype),
    )


def batch_norm_relu_train_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    affine: np.ndarray,
    y: np.ndarray | None = None,
    *,
    out: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The gradients (dx, dγ, dβ, dresidual).

    y is the forward's output where it had a residual, else None, and then dresidual is None as well.
    """
    dx_out, dweight_out, dbias_out, dresidual_out = out or (None, None, None, None)
    passed = relu_backward(dy, _output(x, mean, affine, None) if y is None else y)
    dx, dweight, dbias = batch_norm_train_backward(passed, x, weight, mean, invstd)
    return (
        deliver(dx, dx_out, dx.dtype),
        deliver(dweight, dweight_out, dx.dtype),
        deliver(dbias, dbias_out, dx.dtype),
        None if y is None else deliver(passed, dresidual_out, dx.dtype),
    )


def batch_norm_relu_eval(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    residual: np.ndarray | None = None,
    *,
    eps: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Normalise as `batch_norm_eval` does, add the residual, rectify.

    The backward is `relu_backward` and then `batch_norm_eval_backward`.
    """
    y = batch_norm_eval(x, weight, bias, running_mean, running_var, eps=eps)
    return relu(y if residual is None else add(y, residual), out=out)


def _output(x: np.ndarray, mean: np.ndarray, affine: np.ndarray, residual: np.ndarray | None) -> np.ndarray:
    mean, scale, shift = (v.reshape(-1, *(1,) * (x.ndim - 2)) for v in (mean, *affine))
    y = (x - mean) * scale + shift
    return relu(y if residual is None else add(y, residual))
