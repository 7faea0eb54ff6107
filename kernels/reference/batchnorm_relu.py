"""Batch normalisation, an optional residual sum and ReLU as one operation.

    y = max(0, (x - μ) a + b [+ residual])            a = γ s,  b = β,  s = (σ² + ε)^(-1/2)

It is `batch_norm_train`, `add` and `relu` in a row, and its backward is theirs in reverse: ReLU lets dy through
where y > 0, which is the gradient to the residual and the dy of batch norm. The `mask` that tells where, one bit an
element, is all that the backward needs of y. It is a uint8 array that only the same backend can read; here its bits
are in the order of np.packbits.

Sources: Ioffe and Szegedy (2015), arXiv:1502.03167; He et al. (2016), arXiv:1512.03385, for the sum.
"""

from __future__ import annotations

import numpy as np

from ._moments import Statistics
from ._out import deliver
from .activation import relu
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
    statistics: Statistics | None = None,
    out: Four | None = None,
) -> Four:
    """Normalise as `batch_norm_train` does, add the residual (of x's shape), rectify → (y, μ, s, mask)."""
    y_out, mean_out, invstd_out, mask_out = out or (None, None, None, None)
    y, mean, invstd = batch_norm_train(
        x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps, statistics=statistics
    )
    y = relu(y if residual is None else add(y, residual))
    mask = np.packbits(~(y <= 0))
    return (
        deliver(y, y_out, x.dtype),
        deliver(mean, mean_out, x.dtype),
        deliver(invstd, invstd_out, x.dtype),
        deliver(mask, mask_out, mask.dtype),
    )


def batch_norm_relu_train_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    mask: np.ndarray,
    *,
    residual: bool = False,
    out: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The gradients (dx, dγ, dβ, dresidual), the last one None unless the forward had a residual."""
    dx_out, dweight_out, dbias_out, dresidual_out = out or (None, None, None, None)
    passed = np.where(np.unpackbits(mask, count=dy.size).reshape(dy.shape), dy, 0)
    dx, dweight, dbias = batch_norm_train_backward(passed, x, weight, mean, invstd)
    return (
        deliver(dx, dx_out, dx.dtype),
        deliver(dweight, dweight_out, dx.dtype),
        deliver(dbias, dbias_out, dx.dtype),
        deliver(passed, dresidual_out, dx.dtype) if residual else None,
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
